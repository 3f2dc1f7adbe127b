//! The object that controls another one, as it is stored: what a Deployment grants its ReplicaSets
//! and those their pods.
//!
//! An owner reference is a claim of its writer. It counts only if the object that it names exists with
//! this uid, and its template is what the dependent is made from.

use coffer_api::equality::equal;
use coffer_api::kinds::pod::same_template;
use coffer_api::status::Failure;
use coffer_api::well_known::{namespace, user};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::grant::{Grant, SERVER_OWNED, Secrets};
use super::workload::{self, secrets_of};
use crate::authz::Permit;
use crate::identity::Identity;
use crate::object::{Object, Resource, Resources};

/// The user name of Coffer's controllers.
const MANAGER: &str = user::KUBE_CONTROLLER_MANAGER;
/// The accounts of upstream's controllers with templates in `kube-system`, where each has its own.
const ACCOUNTS: [&str; 3] =
    ["deployment-controller", "replicaset-controller", "replication-controller"];

/// Whether a caller is one of the controllers that make objects from templates. The rights of
/// such a caller do not tell what the template's writer was allowed.
pub(super) fn is_controller(identity: &Identity) -> bool {
    identity.user == MANAGER
        || user::service_account_of(&identity.user).is_some_and(|(namespace, name)| {
            namespace == namespace::KUBE_SYSTEM && ACCOUNTS.contains(&name)
        })
}

/// The stored owner of a dependent.
pub(super) struct Owner {
    /// `ReplicaSet "web-1"`.
    pub(super) shown: String,
    /// What its template's writer was allowed. Where that was not recorded, what the template names.
    pub(super) secrets: Secrets,
    /// The same for host paths.
    pub(super) host_paths: bool,
    /// The grant as it is recorded.
    pub(super) grant: Grant,
    /// Whether the dependent is what the owner's present template makes.
    pub(super) is_made_from: bool,
}

/// The owner that controls an object, if it has a template and exists.
///
/// # Errors
/// 500 for a stored owner that cannot be read.
pub(super) fn of(resources: &Resources, object: &dyn Object) -> Result<Option<Owner>, Failure> {
    let references = object.meta().owner_references.iter().flatten();
    let controllers: Vec<_> = references.filter(|it| it.controller == Some(true)).collect();
    // Validation refuses two; which of them would count must not matter before that.
    let [reference] = controllers.as_slice() else { return Ok(None) };
    let Some(stored) = find(resources, object, reference)? else { return Ok(None) };
    let Some(template) = stored.pod_template() else { return Ok(None) };
    let is_made_from = match object.pod() {
        Some(pod) => {
            let mut wanted = workload::pod_of(template);
            wanted.metadata.namespace.clone_from(&pod.metadata.namespace);
            Object::set_defaults(&mut wanted);
            let labels = |pod: &Pod| pod.metadata.labels.clone().unwrap_or_default();
            let annotations = |pod: &Pod| {
                let mut all = pod.metadata.annotations.clone().unwrap_or_default();
                all.retain(|key, _| !SERVER_OWNED.contains(&key.as_str()));
                all
            };
            labels(pod) == labels(&wanted)
                && annotations(pod) == annotations(&wanted)
                && equal(&pod.spec, &wanted.spec)
        }
        None => object.pod_template().is_some_and(|own| same_template(own, template)),
    };
    let grant = Grant::of(stored.meta());
    let named = || Secrets::Named(secrets_of(&workload::pod_of(template)));
    Ok(Some(Owner {
        shown: format!("{} {:?}", reference.kind, reference.name),
        secrets: grant.secrets.clone().unwrap_or_else(named),
        host_paths: grant.host_paths,
        grant,
        is_made_from,
    }))
}

/// Whether a controller may make this pod now.
///
/// # Errors
/// 409 for one that its owner's present template does not make: the controller saw an earlier one,
/// and what was granted since is not meant for it.
pub(super) fn check(
    permit: &Permit,
    resource: &Resource,
    name: &str,
    owner: Option<&Owner>,
) -> Result<(), Failure> {
    match owner.filter(|owner| !owner.is_made_from && is_controller(permit.identity())) {
        None => Ok(()),
        Some(owner) => {
            let why = format!("the template of {} has changed; please try again", owner.shown);
            Err(Failure::conflict(resource.group_resource(), name, &why))
        }
    }
}

/// The object that a reference means.
fn find(
    resources: &Resources,
    object: &dyn Object,
    reference: &OwnerReference,
) -> Result<Option<Box<dyn Object>>, Failure> {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let is_kind = |info: &coffer_api::kinds::KindInfo| {
        info.kind == reference.kind && info.api_version() == reference.api_version
    };
    // An object of another kind has no template, and may be large.
    let mut owners = resources.iter().filter(|resource| resource.has_template);
    let Some(resource) = owners.find(|resource| is_kind(resource.info)) else { return Ok(None) };
    let Some(found) = resource.shard().get(&resource.key(namespace, &reference.name)) else {
        return Ok(None);
    };
    let stored = resource.parse(&found.bytes)?;
    Ok((stored.meta().uid.as_deref() == Some(&reference.uid)).then_some(stored))
}
