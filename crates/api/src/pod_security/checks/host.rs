//! What is the host's: its namespaces, its ports, and whom its kubelet connects to for a pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{HTTPGetAction, PodSpec, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, containers, plural, quoted, violation};

pub(super) fn namespaces(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let all = [
        (spec.host_network, "hostNetwork=true"),
        (spec.host_pid, "hostPID=true"),
        (spec.host_ipc, "hostIPC=true"),
    ];
    let shared: Vec<_> = all.iter().filter(|(on, _)| *on == Some(true)).map(|it| it.1).collect();
    if shared.is_empty() {
        return None;
    }
    violation("host namespaces", shared.join(", "))
}

pub(super) fn ports(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (mut bad, mut found) = (Vec::new(), BTreeSet::new());
    for container in containers(spec) {
        let ports = container.ports.iter().filter_map(|port| port.host_port);
        let ports: Vec<_> = ports.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        if !ports.is_empty() {
            bad.push(container.name);
            found.extend(ports);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("container", "containers", bad.len()),
        quoted(&bad),
        plural("uses", "use", bad.len()),
        plural("hostPort", "hostPorts", found.len()),
        found.into_iter().collect::<Vec<_>>().join(", ")
    );
    violation("hostPort", detail)
}

pub(super) fn probes_and_lifecycle(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let (mut bad, mut found) = (BTreeSet::new(), BTreeSet::new());
    for container in containers(spec) {
        let probes = container.probes.into_iter().flatten();
        let probes = probes.map(|probe| (probe.http_get.as_ref(), probe.tcp_socket.as_ref()));
        let hooks = container.lifecycle.into_iter();
        let hooks = hooks.flat_map(|it| [it.post_start.as_ref(), it.pre_stop.as_ref()]).flatten();
        let hooks = hooks.map(|hook| (hook.http_get.as_ref(), hook.tcp_socket.as_ref()));
        for host in probes.chain(hooks).flat_map(|(http, tcp)| hosts(http, tcp)) {
            bad.insert(container.name);
            found.insert(host);
        }
    }
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("container", "containers", bad.len()),
        quoted(&bad),
        plural("uses", "use", bad.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", found.len()),
        quoted(&found)
    );
    violation("probe or lifecycle host", detail)
}

fn hosts<'a>(
    http: Option<&'a HTTPGetAction>,
    tcp: Option<&'a TCPSocketAction>,
) -> impl Iterator<Item = &'a str> {
    let http = http.and_then(|action| action.host.as_deref());
    let tcp = tcp.and_then(|action| action.host.as_deref());
    http.into_iter().chain(tcp).filter(|host| !host.is_empty())
}
