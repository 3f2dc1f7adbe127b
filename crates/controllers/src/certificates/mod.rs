//! CertificateSigningRequests: approves those of nodes, signs those that are approved.
//!
//! Two independent controllers, as upstream's. The approver checks the requester, the requested subject, the
//! requester's rights (a SubjectAccessReview), and whether the node's name is in use already. The signer
//! signs each approved request for one of its signer names that fits the rules of that signer, whichever
//! client approved it.

pub(crate) mod approve;
mod certificate_request;
mod name_in_use;
pub(crate) mod sign;

use std::collections::HashMap;
use std::time::Duration;

use coffer_api::condition::{self, ConditionStatus, ConditionType};
use coffer_api::subresource::SubresourceName;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;

use crate::controller::{Controller, Next, Setup, Watches};
use crate::error::{self, Error};
use crate::events::{EventType, Recorder};
use crate::informer::{Cache, Index, IndexBy};
use crate::key::ObjectKey;
use crate::queue::Queue;
use certificate_request::CertificateRequest;
use name_in_use::NameUse;
use sign::{Signer, SigningError};

const GROUP: &str = coffer_api::well_known::api_group::CERTIFICATES;
/// The namespace of nodes' Leases.
const LEASES: &str = coffer_api::well_known::namespace::NODE_LEASE;
/// Interval of checks whether the pods or the Lease of a deleted node still exist.
const NAME_RECHECK: Duration = Duration::from_secs(30);
/// The reason of the event about a request for a node's name that is in use.
const NAME_IN_USE: &str = "NodeNameInUse";

/// Whether a request has a condition.
fn has(request: &CertificateSigningRequest, type_: ConditionType) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    condition::find(conditions.into_iter().flatten(), type_).is_some()
}

fn is_decided(request: &CertificateSigningRequest) -> bool {
    [ConditionType::Approved, ConditionType::Denied, ConditionType::Failed]
        .into_iter()
        .any(|type_| has(request, type_))
}

/// A request's certificate, once there is one.
fn issued(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.map(|certificate| certificate.0.as_slice()).filter(|pem| !pem.is_empty())
}

fn add_condition(
    request: &mut CertificateSigningRequest,
    type_: ConditionType,
    reason: &str,
    message: String,
) {
    let now = Time(jiff::Timestamp::now());
    let condition = CertificateSigningRequestCondition {
        type_: type_.into(),
        status: ConditionStatus::True.into(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    let status = request.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(condition);
}

/// Requests by the requested common name.
struct ByCommonName;

impl IndexBy<CertificateSigningRequest> for ByCommonName {
    type Key = String;

    fn keys(request: &CertificateSigningRequest, each: &mut dyn FnMut(String)) {
        CertificateRequest::of(request).map(|parsed| parsed.common_name).into_iter().for_each(each);
    }
}

/// Approves the requests of nodes.
pub(crate) struct Approver {
    client: Client,
    requests: Cache<CertificateSigningRequest>,
    by_common_name: Index<CertificateSigningRequest, ByCommonName>,
    queue: Queue<ObjectKey>,
    recorder: Recorder,
    /// Requests that wait for an administrator, because their node's name is in use, and whether an
    /// event says so.
    waiting: Mutex<HashMap<ObjectKey, bool>>,
    /// Approvals that the cache does not show yet, by the node's name. Locked from the check of a name to its
    /// approval, so that of two requests for one name the second is checked against the first.
    approving: tokio::sync::Mutex<HashMap<String, CertificateSigningRequest>>,
}

impl Controller for Approver {
    const NAME: &'static str = "csrapproving";
    const WORKERS: usize = 2;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<CertificateSigningRequest>();
        watches.on::<CertificateSigningRequest>(|approver, change| {
            if change.is_delete() {
                approver.requeue_waiting();
            }
        });
        watches.on::<Node>(|approver, change| {
            if change.is_delete() {
                approver.requeue_waiting();
            }
        });
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let found = self.requests.get(key);
        let undecided = found.filter(|request| !is_decided(request) && issued(request).is_none());
        let Some(request) = undecided else {
            self.waiting().remove(key);
            return Ok(Next::Change);
        };
        // A request of no kind that the requester may create waits for an administrator.
        for recognized in approve::recognize(&request) {
            if !self.allowed(&request, recognized.subresource).await? {
                continue;
            }
            let approved = approved(&request, recognized.message);
            let Some(node) = name_in_use::claimed_node(&request) else {
                self.approve(key, &approved).await?;
                return Ok(Next::Change);
            };
            let mut approving = self.approving.lock().await;
            approving.retain(|_, earlier| self.is_undecided_in_cache(earlier));
            // Before the check, so that a change during the check makes the key ready again.
            self.waiting().entry(key.clone()).or_default();
            if let Some((why, next)) = self.name_conflict(&request, &node, &approving).await? {
                if self.waiting().insert(key.clone(), true) != Some(true) {
                    self.recorder.record(&*request, EventType::Warning, NAME_IN_USE, why);
                }
                return Ok(next);
            }
            approving.insert(node, approved.clone());
            self.approve(key, &approved).await?;
            return Ok(Next::Change);
        }
        Ok(Next::Change)
    }
}

impl Approver {
    pub(crate) fn new(setup: &mut Setup<'_, Self>) -> Self {
        Self {
            client: setup.client(),
            requests: setup.cache(),
            by_common_name: setup.index(),
            queue: setup.queue(),
            recorder: setup.recorder("certificate-controller"),
            waiting: Mutex::default(),
            approving: tokio::sync::Mutex::default(),
        }
    }

    /// Whether the cache has a request and does not show its approval yet.
    fn is_undecided_in_cache(&self, approved: &CertificateSigningRequest) -> bool {
        let cached = self.requests.get(&ObjectKey::of(approved));
        cached.is_some_and(|cached| {
            cached.metadata.uid == approved.metadata.uid && !is_decided(&cached)
        })
    }

    fn waiting(&self) -> parking_lot::MutexGuard<'_, HashMap<ObjectKey, bool>> {
        self.waiting.lock()
    }

    /// Checks requests again whose node's name may no longer be in use.
    fn requeue_waiting(&self) {
        for key in self.waiting().keys() {
            self.queue.add(key.clone());
        }
    }

    /// Why a node's name is in use, and when to check again. Nodes, pods and Leases are read from the API
    /// server, because the caches may be behind. Requests need not be: only this process approves them
    /// automatically, so that the cache and `approving` have them all.
    async fn name_conflict(
        &self,
        request: &CertificateSigningRequest,
        node: &str,
        approving: &HashMap<String, CertificateSigningRequest>,
    ) -> Result<Option<(String, Next)>, Error> {
        let used_by = self.name_use(node).await?;
        let next = match used_by {
            // They are deleted soon, but this controller does not watch them.
            Some(NameUse::Pods | NameUse::Lease) => Next::After(NAME_RECHECK),
            Some(NameUse::Node) | None => Next::Change,
        };
        let same_name =
            CertificateRequest::of(request).map(|parsed| parsed.common_name).unwrap_or_default();
        let cached = self.by_common_name.get(&same_name);
        let others = cached.iter().map(|cached| &**cached).chain(approving.values());
        let why = name_in_use::conflict(request, node, used_by, others, jiff::Timestamp::now());
        Ok(why.map(|why| (why, next)))
    }

    /// Which object on the API server refers to a node's name.
    async fn name_use(&self, node: &str) -> Result<Option<NameUse>, Error> {
        let client = &self.client;
        let nodes = Api::<Node>::all(client.clone());
        let found = nodes.get_metadata_opt(node).await;
        if found.map_err(Error::api("find the node of a certificate request"))?.is_some() {
            return Ok(Some(NameUse::Node));
        }
        let bound = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(1);
        let pods = Api::<Pod>::all(client.clone()).list_metadata(&bound).await;
        let pods = pods.map_err(Error::api("find pods of a certificate request's node"))?;
        if !pods.items.is_empty() {
            return Ok(Some(NameUse::Pods));
        }
        let leases = Api::<Lease>::namespaced(client.clone(), LEASES);
        let found = leases.get_metadata_opt(node).await;
        let lease = found.map_err(Error::api("find the lease of a certificate request's node"))?;
        Ok(lease.map(|_| NameUse::Lease))
    }

    /// Whether the requester may have the certificate: a SubjectAccessReview.
    async fn allowed(
        &self,
        request: &CertificateSigningRequest,
        subresource: &str,
    ) -> Result<bool, Error> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: request.spec.username.clone(),
                uid: request.spec.uid.clone(),
                groups: request.spec.groups.clone(),
                extra: request.spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    verb: Some("create".to_owned()),
                    version: Some("*".to_owned()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let api = Api::<SubjectAccessReview>::all(self.client.clone());
        let review = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(Error::api("review the requester of a certificate"))?;
        Ok(review.status.is_some_and(|status| status.allowed))
    }

    async fn approve(
        &self,
        key: &ObjectKey,
        approved: &CertificateSigningRequest,
    ) -> Result<(), Error> {
        let api = Api::<CertificateSigningRequest>::all(self.client.clone());
        let params = PostParams::default();
        let done = api
            .replace_subresource(SubresourceName::Approval.as_str(), &key.name, &params, approved)
            .await;
        error::ignore_not_found(done).map_err(Error::api("approve a certificate request"))
    }
}

/// A request with its approval.
fn approved(request: &CertificateSigningRequest, message: &str) -> CertificateSigningRequest {
    let mut approved = request.clone();
    add_condition(&mut approved, ConditionType::Approved, "AutoApproved", message.to_owned());
    approved
}

/// Signs the requests that were approved.
pub(crate) struct Signing {
    client: Client,
    requests: Cache<CertificateSigningRequest>,
    signer: Signer,
}

impl Controller for Signing {
    const NAME: &'static str = "csrsigning";
    const WORKERS: usize = 2;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<CertificateSigningRequest>();
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let Some(request) = self.requests.get(key).filter(|it| self.is_to_be_signed(it)) else {
            return Ok(Next::Change);
        };
        let mut signed = (*request).clone();
        match self.signer.sign(&request, jiff::Timestamp::now()) {
            Ok(pem) => {
                let status = signed.status.get_or_insert_default();
                status.certificate = Some(ByteString(pem.into_bytes()));
            }
            Err(SigningError::Refused(why)) => {
                add_condition(&mut signed, ConditionType::Failed, "SignerValidationFailure", why);
            }
            Err(SigningError::Failed(why)) => return Err(Error::Object(why)),
        }
        let api = Api::<CertificateSigningRequest>::all(self.client.clone());
        let done = api
            .replace_subresource(
                SubresourceName::Status.as_str(),
                &key.name,
                &PostParams::default(),
                &signed,
            )
            .await;
        error::ignore_not_found(done).map_err(Error::api("sign a certificate request"))?;
        Ok(Next::Change)
    }
}

impl Signing {
    pub(crate) fn new(setup: &mut Setup<'_, Self>, signer: Signer) -> Self {
        Self { client: setup.client(), requests: setup.cache(), signer }
    }

    fn is_to_be_signed(&self, request: &CertificateSigningRequest) -> bool {
        has(request, ConditionType::Approved)
            && !has(request, ConditionType::Denied)
            && !has(request, ConditionType::Failed)
            && issued(request).is_none()
            && self.signer.signs(&request.spec.signer_name)
    }
}
