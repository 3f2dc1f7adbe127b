//! Node rows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::Value;

use crate::condition::{self, Condition as _, ConditionType};
use crate::table::{Column, age, name, or_none};
use crate::well_known::label;

/// A node's role, where no label of its has [`label::NODE_ROLE_PREFIX`].
const ROLE_LABEL: &str = "kubernetes.io/role";

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Status", "The status of the node"),
    Column::string("Roles", "The roles of the node"),
    Column::AGE,
    Column::string("Version", VERSION),
    Column::string("Internal-IP", ADDRESSES).wide(),
    Column::string("External-IP", ADDRESSES).wide(),
    Column::string("OS-Image", OS_IMAGE).wide(),
    Column::string("Kernel-Version", KERNEL).wide(),
    Column::string("Container-Runtime", RUNTIME).wide(),
];

pub(super) fn cells(node: &Node, now: Timestamp) -> Vec<Value> {
    let none = NodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&none);
    let info = status.node_info.clone().unwrap_or_default();
    vec![
        name(node),
        readiness(node, status).into(),
        or_none(&roles(node)).into(),
        age(node, now),
        info.kubelet_version.into(),
        address(status, "InternalIP").into(),
        address(status, "ExternalIP").into(),
        or_unknown(info.os_image).into(),
        or_unknown(info.kernel_version).into(),
        or_unknown(info.container_runtime_version).into(),
    ]
}

fn readiness(node: &Node, status: &NodeStatus) -> String {
    let ready = condition::find(status.conditions.iter().flatten(), ConditionType::Ready);
    let mut words = vec![match ready {
        Some(condition) if condition.holds() => ConditionType::Ready.as_str(),
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(label::NODE_ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(status: &NodeStatus, type_: &str) -> String {
    let mut addresses = status.addresses.iter().flatten();
    let found = addresses.find(|address| address.type_ == type_);
    found.map_or_else(|| "<none>".to_owned(), |address| address.address.clone())
}

fn or_unknown(text: String) -> String {
    if text.is_empty() { "<unknown>".to_owned() } else { text }
}

const VERSION: &str = "Kubelet Version reported by the node.";
const ADDRESSES: &str = "List of addresses reachable to the node. Queried from cloud provider, if available. More info: https://kubernetes.io/docs/reference/node/node-status/#addresses Note: This field is declared as mergeable, but the merge key is not sufficiently unique, which can cause data corruption when it is merged. Callers should instead use a full-replacement patch. See https://pr.k8s.io/79391 for an example. Consumers should assume that addresses can change during the lifetime of a Node. However, there are some exceptions where this may not be possible, such as Pods that inherit a Node's address in its own status or consumers of the downward API (status.hostIP).";
const OS_IMAGE: &str =
    "OS Image reported by the node from /etc/os-release (e.g. Debian GNU/Linux 7 (wheezy)).";
const KERNEL: &str =
    "Kernel Version reported by the node from 'uname -r' (e.g. 3.16.0-0.bpo.4-amd64).";
const RUNTIME: &str = "ContainerRuntime Version reported by the node through runtime remote API (e.g. containerd://1.4.2).";
