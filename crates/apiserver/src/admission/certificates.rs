//! Certificate requests: the requester, who may approve and sign, and which certificates are never issued.
//!
//! The requester is the caller, whatever the body says. Approving and signing require permission on the
//! signer (`approve`, `sign` on `signers`), in addition to permission to write the subresource.

use std::borrow::Cow;

use coffer_api::condition::{Condition as _, ConditionType};
use coffer_api::field::{Error, Path};
use coffer_api::status::Failure;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestStatus,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::Admission;
use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::authz::{Decision, Permit};
use crate::identity::MASTERS;
use crate::object::{Object, Resource};

const GROUP: &str = coffer_api::well_known::api_group::CERTIFICATES;
/// Certificates of this signer authenticate clients of the API.
const CLIENT_SIGNER: &str = coffer_api::well_known::signer::KUBE_APISERVER_CLIENT;

/// A new request.
///
/// # Errors
/// 422 for what is not a certificate request; 403 for one that would make an administrator.
pub(super) fn create(
    permit: &Permit,
    resource: &Resource,
    object: &mut dyn Object,
) -> Result<(), Failure> {
    let Some(csr) = object.of_kind_mut::<CertificateSigningRequest>() else {
        return Ok(());
    };
    let identity = permit.identity();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    csr.spec.username = some(&identity.user);
    csr.spec.uid = some(&identity.uid);
    csr.spec.groups = Some(identity.groups.clone());
    csr.spec.extra = (!identity.extra.is_empty()).then(|| identity.extra.clone());
    let name = csr.metadata.name.as_deref().unwrap_or_default();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&csr.spec.request.0)
        .map_err(|_| invalid(name, "PEM block type must be CERTIFICATE REQUEST"))?;
    let (_, request) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|_| invalid(name, "asn1: structure error"))?;
    let subject = &request.certification_request_info.subject;
    let masters =
        subject.iter_organization().any(|group| group.as_str().is_ok_and(|it| it == MASTERS));
    if masters && csr.spec.signer_name == CLIENT_SIGNER {
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        return Err(Failure::forbidden(resource.group_resource(), name, &why));
    }
    Ok(())
}

fn invalid(name: &str, why: &str) -> Failure {
    let path = Path::new("spec").child("request");
    let error = Error::invalid_redacted(&path, why);
    Failure::invalid(GROUP, "CertificateSigningRequest", name, &vec![error])
}

/// An approval, a denial, a certificate or a signer's refusal.
///
/// # Errors
/// 403 for a caller without permission on the signer.
pub(super) fn update(
    admission: &Admission,
    permit: &Permit,
    resource: &Resource,
    object: &dyn Object,
    old: &dyn Object,
) -> Result<(), Failure> {
    let csr = |object: &dyn Object| object.of_kind().cloned();
    let (Some(new), Some(old)): (Option<CertificateSigningRequest>, _) = (csr(object), csr(old))
    else {
        return Ok(());
    };
    let old: CertificateSigningRequest = old;
    let (new_status, old_status) =
        (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let of = |status: &CertificateSigningRequestStatus, types: &[ConditionType]| {
        let conditions = status.conditions.iter().flatten();
        conditions.filter(|it| types.iter().any(|type_| it.is(*type_))).cloned().collect::<Vec<_>>()
    };
    let changed = |types: &[ConditionType]| of(&new_status, types) != of(&old_status, types);
    // The kind decides by which subresource a change may be written. The rights are checked by what
    // changed, so that no subresource is a way around one.
    let wanted = [
        ("approve", changed(&[ConditionType::Approved, ConditionType::Denied])),
        (
            "sign",
            new_status.certificate != old_status.certificate || changed(&[ConditionType::Failed]),
        ),
    ];
    let signer = &old.spec.signer_name;
    for (verb, asked) in wanted {
        if asked && !may(admission, permit, verb, signer) {
            let name = old.metadata.name.as_deref().unwrap_or_default();
            let why = format!("user not permitted to {verb} requests with signerName {signer:?}");
            return Err(Failure::forbidden(resource.group_resource(), name, &why));
        }
    }
    Ok(())
}

/// A right on the signer itself, or on all signers of its domain.
fn may(admission: &Admission, permit: &Permit, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    std::iter::once(signer.to_owned()).chain(domain).any(|name| {
        let asked = Attributes::resource(
            verb,
            ResourceTarget {
                group: Cow::Borrowed(GROUP),
                resource: Cow::Borrowed("signers"),
                name: Cow::Owned(name),
                ..Default::default()
            },
        );
        admission.authorizer.decide(permit.identity(), &asked) == Decision::Allow
    })
}
