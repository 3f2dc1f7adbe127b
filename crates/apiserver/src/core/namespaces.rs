//! The namespaces every cluster has, made at every start.

use coffer_api::pod_security::{self, Level};
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::Namespace;

use super::Core;
use crate::object::{Object, Resource};

/// Namespaces every cluster has.
const NAMESPACES: [&str; 4] = coffer_api::well_known::namespace::ALL;

/// Makes the namespaces every cluster has. What runs in kube-system is the cluster's own and may ask
/// anything of nodes; a label says so, which an operator may set to something else.
///
/// # Errors
/// The namespace that cannot be made, and why.
pub(crate) async fn create(core: &Core) -> Result<(), (&'static str, Failure)> {
    let resource = core.resources().of::<Namespace>();
    for name in NAMESPACES {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        let mut object: Box<dyn Object> = Box::new(namespace);
        object.set_defaults();
        set_level(&mut *object);
        let created = match core.create_own(resource, object).await {
            Err(failure) if failure.reason == Reason::AlreadyExists => {
                label_existing(core, resource, name).await
            }
            created => created,
        };
        created.map_err(|failure| (name, failure))?;
    }
    Ok(())
}

/// Gives kube-system its level where it has none. Returns whether it had none.
fn set_level(namespace: &mut dyn Object) -> bool {
    let meta = namespace.meta_mut();
    let labels = meta.labels.get_or_insert_default();
    if meta.name.as_deref() != Some(coffer_api::well_known::namespace::KUBE_SYSTEM)
        || labels.contains_key(pod_security::ENFORCE)
    {
        return false;
    }
    labels.insert(pod_security::ENFORCE.to_owned(), Level::Privileged.name().to_owned());
    true
}

/// For data directories written before there was such a label.
async fn label_existing(core: &Core, resource: &Resource, name: &str) -> Result<(), Failure> {
    let found = core.registry.get(resource, "", name).await?;
    // One that cannot be decoded takes no new objects until it is deleted, but keeps no server from its start.
    let Ok(mut found) = resource.parse(&found.bytes) else { return Ok(()) };
    if !set_level(&mut *found) {
        return Ok(());
    }
    core.update_own(resource, ("", name), |namespace| {
        set_level(namespace);
    })
    .await
}
