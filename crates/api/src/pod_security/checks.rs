//! The table of checks: what each level forbids, and since which version.
//!
//! To follow a newer Kubernetes, add a [`Revision`] to a row or a row, and raise [`NEWEST_MINOR`]; a test
//! says when the two do not agree. What 1.35 relaxes for pods with `hostUsers: false` is left out
//! on purpose: the kubelet here gives pods no user namespace of their own.

mod host;
mod privileges;
mod profiles;
mod sysctls;
mod users;
mod volumes;

use k8s_openapi::api::core::v1::{
    ContainerPort, Lifecycle, PodSecurityContext, PodSpec, Probe, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::policy::{Level, LevelVersion, Version};
use super::violation::Violation;

/// The newest minor version whose standards are known here: what `latest` means, and what every
/// later version is taken for.
pub const NEWEST_MINOR: u64 = 34;

/// Judges one pod by one check.
pub(super) type Judge = fn(&ObjectMeta, &PodSpec) -> Option<Violation>;

/// One check through the versions.
pub(super) struct Check {
    pub(super) id: &'static str,
    /// The lowest level that it belongs to.
    pub(super) level: Level,
    /// The oldest first.
    pub(super) revisions: &'static [Revision],
}

/// What a check is from a version on, until its next revision.
pub(super) struct Revision {
    pub(super) since_minor: u64,
    pub(super) judge: Judge,
    /// Checks of `baseline` that say less and are left out where this one is made.
    pub(super) overrides: &'static [&'static str],
}

const fn since(since_minor: u64, judge: Judge) -> Revision {
    Revision { since_minor, judge, overrides: &[] }
}

const fn overriding(
    since_minor: u64,
    judge: Judge,
    overrides: &'static [&'static str],
) -> Revision {
    Revision { since_minor, judge, overrides }
}

const fn baseline(id: &'static str, revisions: &'static [Revision]) -> Check {
    Check { id, level: Level::Baseline, revisions }
}

const fn restricted(id: &'static str, revisions: &'static [Revision]) -> Check {
    Check { id, level: Level::Restricted, revisions }
}

/// Every check, in the order in which violations are reported: by level, then by name.
pub(super) static CHECKS: &[Check] = &[
    baseline("appArmorProfile", &[since(0, profiles::app_armor)]),
    baseline("capabilities_baseline", &[since(0, privileges::capabilities_baseline)]),
    baseline("hostNamespaces", &[since(0, host::namespaces)]),
    baseline("hostPathVolumes", &[since(0, volumes::host_path)]),
    baseline("hostPorts", &[since(0, host::ports)]),
    baseline("hostProbesAndHostLifecycle", &[since(34, host::probes_and_lifecycle)]),
    baseline("privileged", &[since(0, privileges::privileged)]),
    baseline("procMount", &[since(0, profiles::proc_mount)]),
    baseline(
        "seLinuxOptions",
        &[since(0, profiles::se_linux_v0), since(31, profiles::se_linux_v31)],
    ),
    baseline(
        "seccompProfile_baseline",
        &[since(0, profiles::seccomp_annotations), since(19, profiles::seccomp_baseline)],
    ),
    baseline(
        "sysctls",
        &[
            since(0, sysctls::v0),
            since(27, sysctls::v27),
            since(29, sysctls::v29),
            since(32, sysctls::v32),
        ],
    ),
    baseline("windowsHostProcess", &[since(0, privileges::windows_host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[since(8, privileges::escalation_v8), since(25, privileges::escalation_v25)],
    ),
    restricted(
        "capabilities_restricted",
        &[
            overriding(22, privileges::capabilities_v22, &["capabilities_baseline"]),
            overriding(25, privileges::capabilities_v25, &["capabilities_baseline"]),
        ],
    ),
    restricted("restrictedVolumes", &[overriding(0, volumes::restricted, &["hostPathVolumes"])]),
    restricted("runAsNonRoot", &[since(0, users::non_root)]),
    restricted("runAsUser", &[since(23, users::user)]),
    restricted(
        "seccompProfile_restricted",
        &[
            overriding(19, profiles::seccomp_v19, &["seccompProfile_baseline"]),
            overriding(25, profiles::seccomp_v25, &["seccompProfile_baseline"]),
        ],
    ),
];

/// The checks of a level in a version.
pub(super) fn active(of: LevelVersion) -> Vec<Judge> {
    let minor = match of.version {
        Version::Minor(minor) => minor.min(NEWEST_MINOR),
        Version::Latest => NEWEST_MINOR,
    };
    let current: Vec<(&Check, &Revision)> = CHECKS
        .iter()
        .filter(|check| check.level <= of.level)
        .filter_map(|check| {
            let known = check.revisions.iter().rev();
            let mut known = known.filter(|revision| revision.since_minor <= minor);
            Some((check, known.next()?))
        })
        .collect();
    let overridden = |id: &str| current.iter().any(|(_, it)| it.overrides.contains(&id));
    let kept = current.iter().filter(|(check, _)| !overridden(check.id));
    kept.map(|(_, revision)| revision.judge).collect()
}

/// What the checks look at in a container of any sort.
struct Container<'a> {
    name: &'a str,
    security: Option<&'a SecurityContext>,
    ports: &'a [ContainerPort],
    probes: [Option<&'a Probe>; 3],
    lifecycle: Option<&'a Lifecycle>,
}

/// Every container of a pod: init containers, containers, ephemeral containers.
fn containers(spec: &PodSpec) -> impl Iterator<Item = Container<'_>> {
    macro_rules! shown {
        ($container:expr) => {
            Container {
                name: &$container.name,
                security: $container.security_context.as_ref(),
                ports: $container.ports.as_deref().unwrap_or_default(),
                probes: [
                    $container.liveness_probe.as_ref(),
                    $container.readiness_probe.as_ref(),
                    $container.startup_probe.as_ref(),
                ],
                lifecycle: $container.lifecycle.as_ref(),
            }
        };
    }
    let init = spec.init_containers.iter().flatten().map(|it| shown!(it));
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|it| shown!(it));
    init.chain(spec.containers.iter().map(|it| shown!(it))).chain(ephemeral)
}

/// The names of the containers whose security context is so; without one it is never.
fn containers_with<'a>(
    spec: &'a PodSpec,
    mut bad: impl FnMut(&'a SecurityContext) -> bool,
) -> Vec<&'a str> {
    containers(spec)
        .filter(|container| container.security.is_some_and(&mut bad))
        .map(|container| container.name)
        .collect()
}

fn pod_security(spec: &PodSpec) -> Option<&PodSecurityContext> {
    spec.security_context.as_ref()
}

/// A pod that says it is for Windows has no use for what only Linux knows. The kubelet here refuses
/// to run it.
fn is_windows(spec: &PodSpec) -> bool {
    spec.os.as_ref().is_some_and(|os| os.name == "windows")
}

fn violation(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

/// `"a", "b"`, of which nothing is escaped.
fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<_> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    quoted.join(", ")
}

fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn named(containers: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", containers.len()), quoted(containers))
}

/// `pod and container "a"`: who sets something to a wrong value; nothing where no one does.
fn setters(pod: bool, containers: &[&str]) -> Option<String> {
    let containers = (!containers.is_empty()).then(|| named(containers));
    match (pod, containers) {
        (false, containers) => containers,
        (true, None) => Some("pod".to_owned()),
        (true, Some(containers)) => Some(format!("pod and {containers}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_its_newest_revision_is_the_newest_version() {
        let order: Vec<_> = CHECKS.iter().map(|check| (check.level, check.id)).collect();
        assert!(order.is_sorted(), "{order:?}");
        let ids: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(ids.len(), CHECKS.len());
        let mut newest = 0;
        for check in CHECKS {
            let minors: Vec<_> = check.revisions.iter().map(|it| it.since_minor).collect();
            assert!(!minors.is_empty() && minors.is_sorted_by(|a, b| a < b), "{}", check.id);
            newest = newest.max(*minors.last().unwrap());
            for id in check.revisions.iter().flat_map(|it| it.overrides) {
                assert_eq!(check.level, Level::Restricted, "{}", check.id);
                let other = CHECKS.iter().find(|other| other.id == *id).expect("overrides exist");
                assert_eq!(other.level, Level::Baseline, "{}", check.id);
            }
        }
        assert_eq!(newest, NEWEST_MINOR);
    }
}
