//! Node rows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::Value;

use super::{Column, Printed, age, doc, name, or_none};

/// Nodes say their roles in label keys with this prefix.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
/// Or in the value of this label.
const ROLE_LABEL: &str = "kubernetes.io/role";

impl Printed for Node {
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::string("Status", "The status of the node"),
        Column::string("Roles", "The roles of the node"),
        Column::AGE,
        Column::string("Version", doc::NODE_VERSION),
        Column::string("Internal-IP", doc::NODE_ADDRESSES).wide(),
        Column::string("External-IP", doc::NODE_ADDRESSES).wide(),
        Column::string("OS-Image", doc::NODE_OS_IMAGE).wide(),
        Column::string("Kernel-Version", doc::NODE_KERNEL).wide(),
        Column::string("Container-Runtime", doc::NODE_RUNTIME).wide(),
    ];

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let none = NodeStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let info = status.node_info.clone().unwrap_or_default();
        vec![
            name(self),
            readiness(self, status).into(),
            or_none(&roles(self)).into(),
            age(self, now),
            info.kubelet_version.into(),
            address(status, "InternalIP").into(),
            address(status, "ExternalIP").into(),
            or_unknown(info.os_image).into(),
            or_unknown(info.kernel_version).into(),
            or_unknown(info.container_runtime_version).into(),
        ]
    }
}

fn readiness(node: &Node, status: &NodeStatus) -> String {
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let mut words = vec![match ready {
        Some(condition) if condition.status == "True" => "Ready",
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
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
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
