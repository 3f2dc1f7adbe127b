//! The Node object: what this machine is and how it does. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use coffer_api::condition::{self, ConditionStatus, ConditionType};
use coffer_api::well_known::label;
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;

use super::machine::{Machine, Pressure};

/// Which Kubernetes this kubelet behaves like, and whose it is.
pub const KUBELET_VERSION: &str = concat!("v1.33.0-coffer.", env!("CARGO_PKG_VERSION"));

/// Whether pods can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    NotReady(String),
}

/// Everything a Node's status is made from.
pub(crate) struct NodeView<'a> {
    pub(crate) name: &'a str,
    pub(crate) ip: IpAddr,
    pub(crate) server_port: u16,
    pub(crate) max_pods: u32,
    pub(crate) machine: &'a Machine,
    pub(crate) runtime_version: &'a str,
    pub(crate) pressure: Pressure,
    pub(crate) readiness: &'a Readiness,
}

/// A Node as it is registered.
pub(crate) fn node(view: &NodeView<'_>, labels: &[(String, String)], now: Timestamp) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(view.name.to_owned()),
            labels: Some(node_labels(view, labels)),
            ..Default::default()
        },
        spec: None,
        status: Some(status(view, &[], now)),
    }
}

/// The labels that upstream's kubelet sets, and those that were asked for.
pub(crate) fn node_labels(
    view: &NodeView<'_>,
    more: &[(String, String)],
) -> BTreeMap<String, String> {
    let usual = [
        (label::HOSTNAME, view.name),
        (label::OS, "linux"),
        (label::ARCH, view.machine.architecture),
        (label::OS_BETA, "linux"),
        (label::ARCH_BETA, view.machine.architecture),
    ];
    let usual = usual.map(|(key, value)| (key.to_owned(), value.to_owned()));
    usual.into_iter().chain(more.iter().cloned()).collect()
}

/// The status, with the times of `known` conditions that did not change.
pub(crate) fn status(view: &NodeView<'_>, known: &[NodeCondition], now: Timestamp) -> NodeStatus {
    let capacity = capacity(view);
    NodeStatus {
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: view.ip.to_string() },
            NodeAddress { type_: "Hostname".to_owned(), address: view.name.to_owned() },
        ]),
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        conditions: Some(conditions(view, known, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(view.server_port) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: view.machine.architecture.to_owned(),
            boot_id: view.machine.boot_id.clone(),
            container_runtime_version: view.runtime_version.to_owned(),
            kernel_version: view.machine.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.to_owned(),
            machine_id: view.machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: view.machine.os_image.clone(),
            swap: None,
            system_uuid: view.machine.system_uuid.clone(),
        }),
        ..Default::default()
    }
}

fn capacity(view: &NodeView<'_>) -> BTreeMap<String, Quantity> {
    let amounts = [
        ("cpu", view.machine.cpus.to_string()),
        ("memory", format!("{}Ki", view.machine.memory_bytes / 1024)),
        ("ephemeral-storage", format!("{}Ki", view.machine.disk_bytes / 1024)),
        ("pods", view.max_pods.to_string()),
    ];
    amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount))).into()
}

fn conditions(view: &NodeView<'_>, known: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let ready = match view.readiness {
        Readiness::Ready => (
            ConditionType::Ready,
            true,
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
        ),
        Readiness::NotReady(why) => (ConditionType::Ready, false, "KubeletNotReady", why.clone()),
    };
    let findings = [
        pressure(
            ConditionType::MemoryPressure,
            view.pressure.memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            ConditionType::DiskPressure,
            view.pressure.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            ConditionType::PidPressure,
            view.pressure.pids,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ];
    let timed = findings.map(|(type_, holds, reason, message)| {
        let status = ConditionStatus::from(holds);
        let before = condition::find(known, type_).filter(|known| known.status == status.as_str());
        let since = before.and_then(|before| before.last_transition_time.clone());
        NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: since.or(Some(Time(now))),
        }
    });
    timed.into()
}

fn pressure(
    type_: ConditionType,
    holds: bool,
    short: (&'static str, &str),
    enough: (&'static str, &str),
) -> (ConditionType, bool, &'static str, String) {
    let (reason, message) = if holds { short } else { enough };
    (type_, holds, reason, message.to_owned())
}
