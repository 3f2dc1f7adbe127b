//! What processes may do: privileged containers, capabilities, escalation, Windows' host processes.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PodSpec, WindowsSecurityContextOptions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    Violation, containers, containers_with, is_windows, named, pod_security, quoted, setters,
    violation,
};

/// What container runtimes give by default, without NET_RAW.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) fn privileged(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let bad = containers_with(spec, |context| context.privileged == Some(true));
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.privileged=true", named(&bad));
    violation("privileged", detail)
}

pub(super) fn capabilities_baseline(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (bad, added) = adding_others_than(&DEFAULT_CAPABILITIES, spec);
    if bad.is_empty() {
        return None;
    }
    violation("non-default capabilities", not_included(&bad, &added))
}

/// The containers that add capabilities which are not on the list, and those capabilities.
fn adding_others_than<'a>(
    allowed: &[&str],
    spec: &'a PodSpec,
) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let mut others = BTreeSet::new();
    let bad = containers_with(spec, |context| {
        let added = context.capabilities.iter().flat_map(|it| it.add.iter().flatten());
        let forbidden: Vec<_> =
            added.map(String::as_str).filter(|name| !allowed.contains(name)).collect();
        others.extend(&forbidden);
        !forbidden.is_empty()
    });
    (bad, others)
}

fn not_included(containers: &[&str], capabilities: &BTreeSet<&str>) -> String {
    format!(
        "{} must not include {} in securityContext.capabilities.add",
        named(containers),
        quoted(capabilities)
    )
}

pub(super) fn capabilities_v22(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let keeping: Vec<_> = containers(spec)
        .filter(|container| {
            let capabilities = container.security.and_then(|it| it.capabilities.as_ref());
            let mut dropped = capabilities.into_iter().flat_map(|it| it.drop.iter().flatten());
            !dropped.any(|name| name == "ALL")
        })
        .map(|container| container.name)
        .collect();
    let (adding, added) = adding_others_than(&["NET_BIND_SERVICE"], spec);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let must = "must set securityContext.capabilities.drop=[\"ALL\"]";
        details.push(format!("{} {must}", named(&keeping)));
    }
    if !adding.is_empty() {
        details.push(not_included(&adding, &added));
    }
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

pub(super) fn capabilities_v25(meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(spec) { None } else { capabilities_v22(meta, spec) }
}

pub(super) fn escalation_v8(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let allowing = containers(spec).filter(|container| {
        container.security.and_then(|it| it.allow_privilege_escalation) != Some(false)
    });
    let bad: Vec<_> = allowing.map(|container| container.name).collect();
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn escalation_v25(meta: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    if is_windows(spec) { None } else { escalation_v8(meta, spec) }
}

pub(super) fn windows_host_process(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let on = |options: &Option<WindowsSecurityContextOptions>| {
        options.as_ref().and_then(|options| options.host_process) == Some(true)
    };
    let pod = pod_security(spec).is_some_and(|context| on(&context.windows_options));
    let bad = containers_with(spec, |context| on(&context.windows_options));
    let setters = setters(pod, &bad)?;
    let detail = format!("{setters} must not set securityContext.windowsOptions.hostProcess=true");
    violation("hostProcess", detail)
}
