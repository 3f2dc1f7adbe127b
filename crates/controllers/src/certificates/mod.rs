//! Certificate requests: approves those of nodes, signs those that are approved.
//!
//! Two controllers that know nothing of each other, as upstream's: the approver decides by who asks
//! and for what, by what the API server says they may, and by whose a node's name is already; the
//! signer signs what anybody approved, if it is for one of its signers and fits that signer's rules.

pub mod approve;
mod asked;
mod holder;
pub mod sign;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

use crate::error::{self, Error};
use crate::events::{EventType, Recorder};
use crate::informer::Cache;
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::Queue;
use holder::Trace;
use sign::{Signer, SigningError};

const APPROVER: &str = "csrapproving";
const SIGNER: &str = "csrsigning";
const WORKERS: usize = 2;
const GROUP: &str = "certificates.k8s.io";
/// Where nodes keep their leases.
const LEASES: &str = "kube-node-lease";
/// When a request is looked at again that waits for the pods or the lease of a deleted node to go.
const TRACE_RECHECK: Duration = Duration::from_secs(30);
/// The reason of the event about a request for a node's name that is in use.
const NAME_IN_USE: &str = "NodeNameInUse";

/// Adds the approver and, where there is an authority to sign with, the signer.
pub fn register(manager: &mut Manager, signer: Option<Signer>) {
    let approver = Arc::new(Approver {
        parts: Parts::of(manager),
        recorder: manager.recorder("certificate-controller"),
        held: Mutex::default(),
        given: tokio::sync::Mutex::default(),
    });
    let look_again = approver.clone();
    manager.informer::<Node>().on_change(move |change| {
        if change.is_delete() {
            look_again.look_again();
        }
    });
    let look_again = approver.clone();
    manager.informer::<CertificateSigningRequest>().on_change(move |change| {
        if change.is_delete() {
            look_again.look_again();
        }
    });
    let parts = approver.parts.clone();
    parts.work(manager, APPROVER, move |key| {
        let approver = approver.clone();
        async move { approver.reconcile(&key).await }
    });
    let Some(signer) = signer else { return };
    let signing = Arc::new(Signing { parts: Parts::of(manager), signer });
    let parts = signing.parts.clone();
    parts.work(manager, SIGNER, move |key| {
        let signing = signing.clone();
        async move { signing.reconcile(&key).await }
    });
}

/// What both controllers have.
#[derive(Clone)]
struct Parts {
    client: Client,
    requests: Cache<CertificateSigningRequest>,
    queue: Queue<ObjectKey>,
}

impl Parts {
    fn of(manager: &mut Manager) -> Self {
        let queue = Queue::default();
        let adds = queue.clone();
        let informer = manager.informer::<CertificateSigningRequest>();
        informer.on_change(move |change| adds.add(ObjectKey::of(&**change.latest())));
        let requests = informer.cache();
        Self { client: manager.client(), requests, queue }
    }

    fn work<F, R>(self, manager: &mut Manager, name: &'static str, reconcile: F)
    where
        F: Fn(ObjectKey) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let requests = self.requests.clone();
        let ready = async move { requests.synced().await };
        manager.add_controller(name, WORKERS, self.queue, ready, reconcile);
    }

    fn api(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.client.clone())
    }
}

/// Whether a request has a condition.
fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == kind)
}

fn is_decided(request: &CertificateSigningRequest) -> bool {
    ["Approved", "Denied", "Failed"].iter().any(|kind| has(request, kind))
}

/// A request's certificate, once there is one.
fn issued(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.map(|certificate| certificate.0.as_slice()).filter(|pem| !pem.is_empty())
}

fn add_condition(
    request: &mut CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: String,
) {
    let now = Time(jiff::Timestamp::now());
    let condition = CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    let status = request.status.get_or_insert_default();
    status.conditions.get_or_insert_default().push(condition);
}

struct Approver {
    parts: Parts,
    recorder: Recorder,
    /// Requests that wait for a person, because their node's name is somebody's, and whether an event
    /// says so.
    held: Mutex<HashMap<ObjectKey, bool>>,
    /// Approvals, by the node's name that they give away, which the cache does not show yet. Held from
    /// looking whose a name is to the approval: of two requests for one name, the second sees what
    /// became of the first.
    given: tokio::sync::Mutex<HashMap<String, CertificateSigningRequest>>,
}

impl Approver {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let found = self.parts.requests.get(key);
        let undecided = found.filter(|request| !is_decided(request) && issued(request).is_none());
        let Some(request) = undecided else {
            self.held().remove(key);
            return Ok(());
        };
        // The first that the asker may have; a request that is nobody's to approve waits for people.
        for recognised in approve::recognise(&request) {
            if !self.allowed(&request, recognised.subresource).await? {
                continue;
            }
            let approved = approved(&request, recognised.message);
            let Some(node) = holder::becoming(&request) else {
                return self.approve(key, &approved).await;
            };
            let mut given = self.given.lock().await;
            given.retain(|_, earlier| self.is_awaited(earlier));
            // Before it looks: what changes meanwhile has it look again.
            self.held().entry(key.clone()).or_default();
            if let Some(why) = self.held_name(&request, &node, &given).await? {
                if self.held().insert(key.clone(), true) != Some(true) {
                    self.recorder.record(&*request, EventType::Warning, NAME_IN_USE, why);
                }
                return Ok(());
            }
            given.insert(node, approved.clone());
            return self.approve(key, &approved).await;
        }
        Ok(())
    }

    /// Whether the cache has a request and does not know yet what became of it.
    fn is_awaited(&self, approved: &CertificateSigningRequest) -> bool {
        let cached = self.parts.requests.get(&ObjectKey::of(approved));
        cached.is_some_and(|cached| {
            cached.metadata.uid == approved.metadata.uid && !is_decided(&cached)
        })
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, bool>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges requests again whose node's name may be nobody's any more.
    fn look_again(&self) {
        for key in self.held().keys() {
            self.parts.queue.add(key.clone());
        }
    }

    /// Why a node's name is not to be given away. The API server is asked for what there is of the node,
    /// which may be newer than the caches; requests are this process's to approve, so that what it has
    /// in hand and what the cache shows are all.
    async fn held_name(
        &self,
        request: &CertificateSigningRequest,
        node: &str,
        given: &HashMap<String, CertificateSigningRequest>,
    ) -> Result<Option<String>, Error> {
        let trace = self.trace(node).await?;
        if matches!(trace, Some(Trace::Pods | Trace::Lease)) {
            // They are collected soon, and nobody tells when.
            self.parts.queue.add_after(ObjectKey::of(request), TRACE_RECHECK);
        }
        let cached = self.parts.requests.all();
        let others = cached.iter().map(|cached| &**cached).chain(given.values());
        Ok(holder::held(request, node, trace, others, jiff::Timestamp::now()))
    }

    /// What the API server has under a node's name.
    async fn trace(&self, node: &str) -> Result<Option<Trace>, Error> {
        let client = &self.parts.client;
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

    /// Whether the asker may have such a certificate, in the API server's judgement.
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
        let api = Api::<SubjectAccessReview>::all(self.parts.client.clone());
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(Error::api("review who asks for a certificate"))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn approve(
        &self,
        key: &ObjectKey,
        approved: &CertificateSigningRequest,
    ) -> Result<(), Error> {
        let done = self
            .parts
            .api()
            .replace_subresource("approval", &key.name, &PostParams::default(), approved)
            .await;
        match done {
            Err(error) if error::is_not_found(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("approve a certificate request")),
        }
    }
}

/// A request with its approval.
fn approved(request: &CertificateSigningRequest, message: &str) -> CertificateSigningRequest {
    let mut approved = request.clone();
    add_condition(&mut approved, "Approved", "AutoApproved", message.to_owned());
    approved
}

struct Signing {
    parts: Parts,
    signer: Signer,
}

impl Signing {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(request) = self.parts.requests.get(key) else { return Ok(()) };
        let wanted = has(&request, "Approved")
            && !has(&request, "Denied")
            && !has(&request, "Failed")
            && issued(&request).is_none()
            && self.signer.signs(&request.spec.signer_name);
        if !wanted {
            return Ok(());
        }
        let mut answered = (*request).clone();
        match self.signer.sign(&request, jiff::Timestamp::now()) {
            Ok(pem) => {
                let status = answered.status.get_or_insert_default();
                status.certificate = Some(ByteString(pem.into_bytes()));
            }
            Err(SigningError::Refused(why)) => {
                add_condition(&mut answered, "Failed", "SignerValidationFailure", why);
            }
            Err(SigningError::Failed(why)) => return Err(Error::Object(why)),
        }
        let done = self
            .parts
            .api()
            .replace_subresource("status", &key.name, &PostParams::default(), &answered)
            .await;
        match done {
            Err(error) if error::is_not_found(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("sign a certificate request")),
        }
    }
}
