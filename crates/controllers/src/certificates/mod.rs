//! Certificate requests: approves those of nodes, signs those that are approved.
//!
//! Two controllers that know nothing of each other, as upstream's: the approver decides by who asks
//! and for what, by what the API server says they may, and by whose a node's name is already; the
//! signer signs what anybody approved, if it is for one of its signers and fits that signer's rules.

pub(crate) mod approve;
mod asked;
mod holder;
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
use asked::Asked;
use holder::Trace;
use sign::{Signer, SigningError};

const GROUP: &str = coffer_api::well_known::api_group::CERTIFICATES;
/// Where nodes keep their leases.
const LEASES: &str = coffer_api::well_known::namespace::NODE_LEASE;
/// When a request is looked at again that waits for the pods or the lease of a deleted node to go.
const TRACE_RECHECK: Duration = Duration::from_secs(30);
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

/// Requests by the common name that they ask for.
struct ByCommonName;

impl IndexBy<CertificateSigningRequest> for ByCommonName {
    type Key = String;

    fn keys(request: &CertificateSigningRequest, each: &mut dyn FnMut(String)) {
        Asked::of(request).map(|asked| asked.common_name).into_iter().for_each(each);
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
    held: Mutex<HashMap<ObjectKey, bool>>,
    /// Approvals, by the node's name that they give away, which the cache does not show yet. Held from
    /// looking whether a name is in use to the approval: of two requests for one name, the second sees
    /// what became of the first.
    given: tokio::sync::Mutex<HashMap<String, CertificateSigningRequest>>,
}

impl Controller for Approver {
    const NAME: &'static str = "csrapproving";
    const WORKERS: usize = 2;
    type Queue = Queue<ObjectKey>;

    fn watches(watches: &mut Watches<'_, Self>) {
        watches.own::<CertificateSigningRequest>();
        watches.on::<CertificateSigningRequest>(|approver, change| {
            if change.is_delete() {
                approver.look_again();
            }
        });
        watches.on::<Node>(|approver, change| {
            if change.is_delete() {
                approver.look_again();
            }
        });
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next, Error> {
        let found = self.requests.get(key);
        let undecided = found.filter(|request| !is_decided(request) && issued(request).is_none());
        let Some(request) = undecided else {
            self.held().remove(key);
            return Ok(Next::Change);
        };
        // The first that the requester may have; any other request waits for an administrator.
        for recognised in approve::recognise(&request) {
            if !self.allowed(&request, recognised.subresource).await? {
                continue;
            }
            let approved = approved(&request, recognised.message);
            let Some(node) = holder::becoming(&request) else {
                self.approve(key, &approved).await?;
                return Ok(Next::Change);
            };
            let mut given = self.given.lock().await;
            given.retain(|_, earlier| self.is_awaited(earlier));
            // Before it looks: what changes meanwhile has it look again.
            self.held().entry(key.clone()).or_default();
            if let Some((why, next)) = self.held_name(&request, &node, &given).await? {
                if self.held().insert(key.clone(), true) != Some(true) {
                    self.recorder.record(&*request, EventType::Warning, NAME_IN_USE, why);
                }
                return Ok(next);
            }
            given.insert(node, approved.clone());
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
            held: Mutex::default(),
            given: tokio::sync::Mutex::default(),
        }
    }

    /// Whether the cache has a request and does not know yet what became of it.
    fn is_awaited(&self, approved: &CertificateSigningRequest) -> bool {
        let cached = self.requests.get(&ObjectKey::of(approved));
        cached.is_some_and(|cached| {
            cached.metadata.uid == approved.metadata.uid && !is_decided(&cached)
        })
    }

    fn held(&self) -> parking_lot::MutexGuard<'_, HashMap<ObjectKey, bool>> {
        self.held.lock()
    }

    /// Judges requests again whose node's name may no longer be in use.
    fn look_again(&self) {
        for key in self.held().keys() {
            self.queue.add(key.clone());
        }
    }

    /// Why a node's name is not to be given away, and when to look again. The API server is asked for
    /// what there is of the node, which may be newer than the caches; requests are this process's to
    /// approve, so that those it is approving and those in the cache are all.
    async fn held_name(
        &self,
        request: &CertificateSigningRequest,
        node: &str,
        given: &HashMap<String, CertificateSigningRequest>,
    ) -> Result<Option<(String, Next)>, Error> {
        let trace = self.trace(node).await?;
        let next = match trace {
            // They are collected soon, and no watch says when.
            Some(Trace::Pods | Trace::Lease) => Next::After(TRACE_RECHECK),
            Some(Trace::Node) | None => Next::Change,
        };
        let same_name = Asked::of(request).map(|asked| asked.common_name).unwrap_or_default();
        let cached = self.by_common_name.get(&same_name);
        let others = cached.iter().map(|cached| &**cached).chain(given.values());
        let why = holder::held(request, node, trace, others, jiff::Timestamp::now());
        Ok(why.map(|why| (why, next)))
    }

    /// What the API server has under a node's name.
    async fn trace(&self, node: &str) -> Result<Option<Trace>, Error> {
        let client = &self.client;
        let nodes = Api::<Node>::all(client.clone());
        let found = nodes.get_metadata_opt(node).await;
        if found.map_err(Error::api("look for the node of a certificate request"))?.is_some() {
            return Ok(Some(Trace::Node));
        }
        let bound = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(1);
        let pods = Api::<Pod>::all(client.clone()).list_metadata(&bound).await;
        let pods = pods.map_err(Error::api("look for pods of a certificate request's node"))?;
        if !pods.items.is_empty() {
            return Ok(Some(Trace::Pods));
        }
        let leases = Api::<Lease>::namespaced(client.clone(), LEASES);
        let found = leases.get_metadata_opt(node).await;
        let lease =
            found.map_err(Error::api("look for the lease of a certificate request's node"))?;
        Ok(lease.map(|_| Trace::Lease))
    }

    /// Whether the requester may have such a certificate: a SubjectAccessReview.
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
        let done = api.replace_subresource(SubresourceName::Approval.as_str(), &key.name, &params, approved).await;
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
        let done =
            api.replace_subresource(SubresourceName::Status.as_str(), &key.name, &PostParams::default(), &signed).await;
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
