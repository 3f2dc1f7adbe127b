//! Kernel parameters: those that are the pod's own and harm no one else.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, pod_security, violation};

/// Each parameter with the minor version since which it may be set.
const ALLOWED: [(u64, &str); 12] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

pub(super) fn v0(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    judge(spec, 0)
}

pub(super) fn v27(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    judge(spec, 27)
}

pub(super) fn v29(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    judge(spec, 29)
}

pub(super) fn v32(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    judge(spec, 32)
}

fn judge(spec: &PodSpec, minor: u64) -> Option<Violation> {
    let is_allowed = |name: &str| ALLOWED.iter().any(|(since, it)| *since <= minor && *it == name);
    let set = pod_security(spec)?.sysctls.iter().flatten();
    let forbidden: Vec<_> =
        set.map(|it| it.name.as_str()).filter(|name| !is_allowed(name)).collect();
    if forbidden.is_empty() {
        return None;
    }
    violation("forbidden sysctls", forbidden.join(", "))
}
