//! What confines processes: AppArmor, SELinux, seccomp, and the masks over /proc.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, SELinuxOptions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    Violation, containers, containers_with, is_windows, named, plural, pod_security, quoted,
    setters, violation,
};
use crate::go;
use crate::well_known::annotation;

const SE_LINUX_V0: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t"];
const SE_LINUX_V31: &[&str] =
    &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

fn is_confined(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

pub(super) fn app_armor(meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let mut bad = |kind: Option<&str>| {
        let found = kind.filter(|kind| !is_confined(kind));
        values.extend(found.map(str::to_owned));
        found.is_some()
    };
    let pod = pod_security(spec).and_then(|context| context.app_armor_profile.as_ref());
    let pod = bad(pod.map(|profile| profile.type_.as_str()));
    let containers = containers_with(spec, |context| {
        bad(context.app_armor_profile.as_ref().map(|profile| profile.type_.as_str()))
    });
    let mut annotations: Vec<_> = meta
        .annotations
        .iter()
        .flatten()
        .filter(|(key, value)| {
            let confined =
                value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(annotation::APP_ARMOR_PREFIX) && !confined
        })
        .map(|(key, value)| format!("{key}={}", go::quoted(value)))
        .collect();
    annotations.sort();
    let mut all: Vec<_> = setters(pod, &containers).into_iter().collect();
    if !annotations.is_empty() {
        all.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if all.is_empty() {
        return None;
    }
    let values: Vec<_> = values.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let detail =
        format!("{} must not set AppArmor profile type to {}", all.join(" and "), quoted(&values));
    violation(reason, detail)
}

pub(super) fn se_linux_v0(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    se_linux(spec, SE_LINUX_V0)
}

pub(super) fn se_linux_v31(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    se_linux(spec, SE_LINUX_V31)
}

fn se_linux(spec: &PodSpec, allowed: &[&str]) -> Option<Violation> {
    fn text(text: &Option<String>) -> &str {
        text.as_deref().unwrap_or_default()
    }
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut bad = |options: Option<&SELinuxOptions>| {
        let Some(options) = options else { return false };
        let kind = text(&options.type_);
        let other = !allowed.contains(&kind);
        if other {
            types.insert(kind.to_owned());
        }
        let (sets_user, sets_role) =
            (!text(&options.user).is_empty(), !text(&options.role).is_empty());
        user |= sets_user;
        role |= sets_role;
        other || sets_user || sets_role
    };
    let pod = bad(pod_security(spec).and_then(|context| context.se_linux_options.as_ref()));
    let containers = containers_with(spec, |context| bad(context.se_linux_options.as_ref()));
    let setters = setters(pod, &containers)?;
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    if user {
        data.push("user may not be set".to_owned());
    }
    if role {
        data.push("role may not be set".to_owned());
    }
    let data = data.join("; ");
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {data}");
    violation("seLinuxOptions", detail)
}

pub(super) fn proc_mount(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let bad = containers_with(spec, |context| {
        let found = context.proc_mount.as_deref().filter(|kind| *kind != "Default");
        kinds.extend(found);
        found.is_some()
    });
    if bad.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not set securityContext.procMount to {}", named(&bad), quoted(&kinds));
    violation("procMount", detail)
}

/// Before there was a field for it.
pub(super) fn seccomp_annotations(meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let keys = containers(spec)
        .map(|container| [annotation::SECCOMP_CONTAINER_PREFIX, container.name].concat());
    let keys = std::iter::once(annotation::SECCOMP_POD.to_owned()).chain(keys);
    let annotations = meta.annotations.as_ref();
    let forbidden: BTreeSet<_> = keys
        .filter_map(|key| {
            let value = annotations?.get(&key)?;
            let confined = matches!(value.as_str(), "runtime/default" | "docker/default")
                || value.starts_with("localhost/");
            (!confined).then(|| format!("{key}={}", go::quoted(value)))
        })
        .collect();
    if forbidden.is_empty() {
        return None;
    }
    let noun = plural("annotation", "annotations", forbidden.len());
    let all = forbidden.into_iter().collect::<Vec<_>>().join(", ");
    violation("seccompProfile", format!("forbidden {noun} {all}"))
}

/// Wrong profiles: who sets which; and whether the pod sets a good one.
fn seccomp_set(spec: &PodSpec) -> (Option<Violation>, bool) {
    let mut values = BTreeSet::new();
    let mut bad = |kind: Option<&str>| {
        let found = kind.filter(|kind| !is_confined(kind));
        values.extend(found.map(str::to_owned));
        found.is_some()
    };
    let pod = pod_security(spec).and_then(|context| context.seccomp_profile.as_ref());
    let pod_bad = bad(pod.map(|profile| profile.type_.as_str()));
    let containers = containers_with(spec, |context| {
        bad(context.seccomp_profile.as_ref().map(|profile| profile.type_.as_str()))
    });
    let found = setters(pod_bad, &containers).and_then(|setters| {
        let values = quoted(&values);
        let detail =
            format!("{setters} must not set securityContext.seccompProfile.type to {values}");
        violation("seccompProfile", detail)
    });
    (found, pod.is_some() && !pod_bad)
}

pub(super) fn seccomp_baseline(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    seccomp_set(spec).0
}

pub(super) fn seccomp_v19(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (found, pod_sets) = seccomp_set(spec);
    if found.is_some() || pod_sets {
        return found;
    }
    let unset: Vec<_> = containers(spec)
        .filter(|container| container.security.and_then(|it| it.seccomp_profile.as_ref()).is_none())
        .map(|container| container.name)
        .collect();
    if unset.is_empty() {
        return None;
    }
    let must =
        "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation("seccompProfile", format!("pod or {} {must}", named(&unset)))
}

pub(super) fn seccomp_v25(meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(spec) { None } else { seccomp_v19(meta, spec) }
}
