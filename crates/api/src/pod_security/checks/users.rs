//! Who processes run as: not root.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, containers_with, named, pod_security, setters, violation};

const NON_ROOT: &str = "runAsNonRoot != true";

pub(super) fn non_root(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let pod = pod_security(spec).and_then(|context| context.run_as_non_root);
    let bad = containers_with(spec, |context| context.run_as_non_root == Some(false));
    if let Some(setters) = setters(pod == Some(false), &bad) {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return violation(NON_ROOT, detail);
    }
    if pod == Some(true) {
        return None;
    }
    let unset: Vec<_> = containers(spec)
        .filter(|container| container.security.and_then(|it| it.run_as_non_root).is_none())
        .map(|container| container.name)
        .collect();
    if unset.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", named(&unset));
    violation(NON_ROOT, detail)
}

pub(super) fn user(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let pod = pod_security(spec).is_some_and(|context| context.run_as_user == Some(0));
    let bad = containers_with(spec, |context| context.run_as_user == Some(0));
    let setters = setters(pod, &bad)?;
    violation("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}
