//! The Scale view of the workload kinds.

use coffer_api::field::{Error, Path};
use coffer_api::status::Failure;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::object::{Object, Resource};

/// The scale of a workload object.
///
/// # Errors
/// 404 for a kind that has none.
pub(crate) fn of(object: &dyn Object) -> Result<Scale, Failure> {
    let any = object.as_any();
    let (wanted, have, selector) = if let Some(it) = any.downcast_ref::<Deployment>() {
        let spec = it.spec.as_ref();
        let have = it.status.as_ref().and_then(|status| status.replicas);
        (spec.and_then(|s| s.replicas), have, spec.map(|s| selector_text(&s.selector)))
    } else if let Some(it) = any.downcast_ref::<ReplicaSet>() {
        let spec = it.spec.as_ref();
        let have = it.status.as_ref().map(|status| status.replicas);
        (spec.and_then(|s| s.replicas), have, spec.map(|s| selector_text(&s.selector)))
    } else if let Some(it) = any.downcast_ref::<ReplicationController>() {
        let spec = it.spec.as_ref();
        let have = it.status.as_ref().map(|status| status.replicas);
        let labels = spec.and_then(|s| s.selector.clone());
        let selector = labels.map(|match_labels| {
            selector_text(&LabelSelector { match_labels: Some(match_labels), ..Default::default() })
        });
        (spec.and_then(|s| s.replicas), have, selector)
    } else {
        return Err(Failure::no_such_path());
    };
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
        spec: Some(ScaleSpec { replicas: wanted }),
        status: Some(ScaleStatus { replicas: have.unwrap_or_default(), selector }),
    })
}

/// A selector in the string form that list requests take.
fn selector_text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let mut terms: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.clone().unwrap_or_default().join(",");
        terms.push(match expression.operator.as_str() {
            "In" => format!("{} in ({values})", expression.key),
            "NotIn" => format!("{} notin ({values})", expression.key),
            "Exists" => expression.key.clone(),
            _ => format!("!{}", expression.key),
        });
    }
    terms.join(",")
}

/// The revision a client's Scale names.
///
/// # Errors
/// 422 for what is no number.
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
    let any = object.as_any_mut();
    if let Some(it) = any.downcast_mut::<Deployment>() {
        it.spec.get_or_insert_default().replicas = Some(replicas);
    } else if let Some(it) = any.downcast_mut::<ReplicaSet>() {
        it.spec.get_or_insert_default().replicas = Some(replicas);
    } else if let Some(it) = any.downcast_mut::<ReplicationController>() {
        it.spec.get_or_insert_default().replicas = Some(replicas);
    } else {
        return Err(Failure::not_found(resource.group_resource(), &name));
    }
    Ok(())
}
