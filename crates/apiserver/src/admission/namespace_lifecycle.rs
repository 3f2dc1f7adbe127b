//! NamespaceLifecycle: no object is created in a namespace that does not exist or is terminating, and some
//! namespaces cannot be deleted.

use coffer_api::kinds::Namespace;
use coffer_api::phase::NamespacePhase;
use coffer_api::reason::CAUSE_NAMESPACE_TERMINATING;
use coffer_api::status::Failure;
use coffer_api::well_known::namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;

use crate::object::{Object, Resource, Resources, undecoded};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = [namespace::DEFAULT, namespace::KUBE_SYSTEM, namespace::KUBE_PUBLIC];

/// A deletion.
pub(super) fn delete(resource: &Resource, name: &str) -> Result<(), Failure> {
    if resource.is::<Namespace>() && IMMORTAL.contains(&name) {
        let why = "this namespace may not be deleted";
        return Err(Failure::forbidden(resource.group_resource(), name, why));
    }
    Ok(())
}

/// A new object.
pub(super) fn create(
    resources: &Resources,
    resource: &Resource,
    object: &dyn Object,
) -> Result<(), Failure> {
    if !resource.info.namespaced {
        return Ok(());
    }
    let name = object.meta().namespace.as_deref().unwrap_or_default();
    let namespaces = resources.of::<Namespace>();
    let found = namespaces.shard().get(&namespaces.key("", name));
    let found = found.ok_or_else(|| Failure::not_found(namespaces.group_resource(), name))?;
    // Its labels say how its pods are judged.
    if !found.is_decoded {
        return Err(undecoded::failure(&found));
    }
    // The phase says it as well as the deletion timestamp does (validation sees to that), and is
    // indexed: every create asks.
    if found.field("status.phase").is_none_or(|phase| phase != NamespacePhase::Terminating.as_str())
    {
        return Ok(());
    }
    let mut failure = Failure::forbidden(
        resource.group_resource(),
        object.meta().name.as_deref().unwrap_or_default(),
        &format!("unable to create new content in namespace {name} because it is being terminated"),
    );
    let details = failure.details.get_or_insert_default();
    details.causes = Some(vec![StatusCause {
        reason: Some(CAUSE_NAMESPACE_TERMINATING.to_owned()),
        message: Some(format!("namespace {name} is being terminated")),
        field: Some("metadata.namespace".to_owned()),
    }]);
    Err(failure)
}
