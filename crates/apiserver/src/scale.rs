//! The Scale view of the kinds that have one: what the `scale` subresource reads and writes.

use coffer_api::field::{Error, Path};
use coffer_api::status::Failure;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::object::{Object, Resource};

/// The scale of a workload object.
///
/// # Errors
/// 404 for a kind that has none.
pub(crate) fn of(object: &dyn Object) -> Result<Scale, Failure> {
    let scale = object.scale().ok_or_else(Failure::no_such_path)?;
    let meta = object.meta();
    Ok(Scale {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp.clone(),
            ..Default::default()
        },
        spec: Some(ScaleSpec { replicas: scale.desired }),
        status: Some(ScaleStatus { replicas: scale.current, selector: scale.selector }),
    })
}

/// The revision a client's Scale names.
///
/// # Errors
/// 422 for what is not a number.
pub(crate) fn expected(scale: &Scale) -> Result<Option<u64>, Failure> {
    let text = scale.metadata.resource_version.as_deref().unwrap_or_default();
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let path = Path::new("metadata").child("resourceVersion");
        let error = Error::invalid(&path, text, "must be a number");
        let name = scale.metadata.name.as_deref().unwrap_or_default();
        Failure::invalid("autoscaling", "Scale", name, &vec![error])
    })
}

/// Sets the replica count.
///
/// # Errors
/// 422 for a negative count, 400 for another object's Scale.
pub(crate) fn set(
    object: &mut dyn Object,
    scale: &Scale,
    resource: &Resource,
) -> Result<(), Failure> {
    let name = object.meta().name.clone().unwrap_or_default();
    if scale.metadata.name.as_ref().is_some_and(|named| !named.is_empty() && *named != name) {
        let named = scale.metadata.name.as_deref().unwrap_or_default();
        return Err(Failure::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
    if replicas < 0 {
        let path = Path::new("spec").child("replicas");
        let error = Error::invalid(&path, replicas, "must be greater than or equal to 0");
        return Err(Failure::invalid("autoscaling", "Scale", &name, &vec![error]));
    }
    let found = object.replicas_mut();
    *found.ok_or_else(|| Failure::not_found(resource.group_resource(), &name))? = Some(replicas);
    Ok(())
}
