//! Certificate requests: approves those of nodes, signs those that are approved.
//!
//! Two controllers that know nothing of each other, as upstream's: the approver decides by who asks
//! and for what, and by what the API server says they may; the signer signs what anybody approved,
//! if it is for one of its signers and fits that signer's rules.

pub mod approve;
mod asked;
pub mod sign;

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::{self, Error};
use crate::informer::Cache;
use crate::key::ObjectKey;
use crate::manager::Manager;
use crate::queue::Queue;
use sign::{Signer, SigningError};

const APPROVER: &str = "csrapproving";
const SIGNER: &str = "csrsigning";
const WORKERS: usize = 2;
const GROUP: &str = "certificates.k8s.io";

/// Adds the approver and, where there is an authority to sign with, the signer.
pub fn register(manager: &mut Manager, signer: Option<Signer>) {
    let approver = Arc::new(Approver(Parts::of(manager)));
    let parts = approver.0.clone();
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

fn is_issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
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

struct Approver(Parts);

impl Approver {
    async fn reconcile(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(request) = self.0.requests.get(key) else { return Ok(()) };
        let decided = ["Approved", "Denied", "Failed"].iter().any(|kind| has(&request, kind));
        if decided || is_issued(&request) {
            return Ok(());
        }
        // The first that the asker may have; a request that is nobody's to approve waits for people.
        for recognised in approve::recognise(&request) {
            if self.allowed(&request, recognised.subresource).await? {
                return self.approve(key, &request, recognised.message).await;
            }
        }
        Ok(())
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
        let api = Api::<SubjectAccessReview>::all(self.0.client.clone());
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(Error::api("review who asks for a certificate"))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn approve(
        &self,
        key: &ObjectKey,
        request: &CertificateSigningRequest,
        message: &str,
    ) -> Result<(), Error> {
        let mut approved = request.clone();
        add_condition(&mut approved, "Approved", "AutoApproved", message.to_owned());
        let done = self
            .0
            .api()
            .replace_subresource("approval", &key.name, &PostParams::default(), &approved)
            .await;
        match done {
            Err(error) if error::is_not_found(&error) => Ok(()),
            other => other.map(drop).map_err(Error::api("approve a certificate request")),
        }
    }
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
            && !is_issued(&request)
            && sign::SIGNERS.contains(&request.spec.signer_name.as_str());
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
