//! Node: a machine that runs pods.

use std::collections::HashSet;

use jiff::Timestamp;
pub use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus, PodTemplateSpec};
use serde_json::Value;

use super::info::{KindInfo, Subresource};
use super::kind::Kind;
use super::merge::{CONDITIONS, MERGED_SET, Rules};
use super::optional::{list, text};
use super::pod::resources::{self, Amounts};
use super::{meta, shown};
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::protobuf::tables::core;
use crate::subresource::SubresourceName;

mod printer;

static INFO: KindInfo = KindInfo {
    short_names: &["no"],
    namespaced: false,
    field_labels: &["spec.unschedulable"],
    subresources: &[Subresource::status("", "Node")],
    rules: &Rules {
        lists: &[
            ("core.v1.NodeSpec", "podCIDRs", MERGED_SET),
            ("core.v1.NodeStatus", "addresses", CONDITIONS),
            ("core.v1.NodeStatus", "conditions", CONDITIONS),
        ],
        omits_zero: &[
            ("core.v1.NodeSpec", &["podCIDR", "providerID", "unschedulable"]),
            ("core.v1.Taint", &["value"]),
        ],
        held: &[
            ("core.v1.NodeDaemonEndpoints", &["kubeletEndpoint"]),
            ("core.v1.NodeStatus", &["daemonEndpoints", "nodeInfo"]),
        ],
        ..Rules::NONE
    },
    columns: printer::COLUMNS,
    ..KindInfo::of::<Node>("node", &core::NODE)
};

impl Kind for Node {
    const INFO: &'static KindInfo = &INFO;

    fn set_defaults(&mut self) {
        if let Some(spec) = &mut self.spec {
            agree_on_cidrs(spec);
        }
        let Some(status) = &mut self.status else { return };
        let both = [&mut status.capacity, &mut status.allocatable];
        both.into_iter().flatten().for_each(resources::canonicalize);
        // All that a node has can be given away, until its kubelet says less.
        if status.allocatable.is_none() {
            status.allocatable = status.capacity.clone();
        }
    }

    fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
        let (spec, status) = ((&mut self.spec, &old.spec), (&mut self.status, &old.status));
        meta::separate_status(sub, spec, status);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_taints(self));
        errors.extend(validate_amounts(self));
        errors.extend(validate_cidrs(self));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(validate_amounts(self));
        errors.extend(validate_addresses(self));
        errors.extend(validate_first_values(self, old));
        errors.extend(validate_taints(self));
        errors
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let spec = self.spec.as_ref();
        let unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
        vec![("spec.unschedulable", unschedulable.to_string())]
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        printer::cells(self, now)
    }
}

fn validate_taints(node: &Node) -> ErrorList {
    let path = Path::new("metadata").child("taints");
    let mut errors = ErrorList::new();
    let mut seen = HashSet::new();
    for (at, taint) in node.spec.iter().flat_map(|spec| list(&spec.taints)).enumerate() {
        let path = path.index(at);
        let wrong = names::qualified_name(&taint.key);
        errors.extend(meta::invalid_each(&path.child("key"), &taint.key, wrong));
        let wrong = names::label_value(text(&taint.value));
        if !wrong.is_empty() {
            let path = path.child("value");
            errors.push(Error::invalid(&path, text(&taint.value), wrong.join(";")));
        }
        let effect = path.child("effect");
        if taint.effect.is_empty() {
            errors.push(Error::required(&effect, ""));
        } else {
            errors.extend(super::pod::validate_effect(&taint.effect, &effect));
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            let mut error = meta::invalid_json(&path, &shown::taint(taint), "");
            error.kind = crate::field::ErrorKind::Duplicate;
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
    errors
}

fn validate_amounts(node: &Node) -> ErrorList {
    let path = Path::new("status");
    let amounts = |get: fn(&NodeStatus) -> &Option<Amounts>| {
        node.status.as_ref().and_then(|status| get(status).as_ref())
    };
    let both = [
        ("capacity", amounts(|status| &status.capacity)),
        ("allocatable", amounts(|status| &status.allocatable)),
    ];
    let mut errors = ErrorList::new();
    for (name, amounts) in both {
        for (resource, amount) in amounts.into_iter().flatten() {
            let path = path.child(name).child(resource);
            errors.extend(resources::validate_quantity(resource, amount, &path));
        }
    }
    errors
}

/// The older `podCIDR` is the first of `podCIDRs`; where they differ, it is the one that counts.
fn agree_on_cidrs(spec: &mut NodeSpec) {
    let first = spec.pod_cidrs.as_ref().and_then(|cidrs| cidrs.first());
    match spec.pod_cidr.as_ref().filter(|cidr| !cidr.is_empty()) {
        Some(cidr) if first != Some(cidr) => spec.pod_cidrs = Some(vec![cidr.clone()]),
        Some(_) => {}
        None => spec.pod_cidr = first.cloned(),
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let bits = if address.contains(':') { 128 } else { 32 };
    super::pod::is_ip(address) && length.parse::<u8>().is_ok_and(|length| length <= bits)
}

fn validate_cidrs(node: &Node) -> ErrorList {
    let path = Path::new("spec").child("podCIDRs");
    let cidrs = node.spec.as_ref().map(|spec| list(&spec.pod_cidrs)).unwrap_or_default();
    let mut errors = ErrorList::new();
    for (at, cidr) in cidrs.iter().enumerate() {
        if !is_cidr(cidr) {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.push(Error::invalid(&path.index(at), cidr, detail));
        }
    }
    let sixes = cidrs.iter().filter(|cidr| cidr.contains(':')).count();
    if cidrs.len() > 1 && !(cidrs.len() == 2 && sixes == 1) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(meta::invalid_json(&path, &cidrs, detail));
    }
    for (at, cidr) in cidrs.iter().enumerate() {
        if cidrs[..at].contains(cidr) {
            errors.push(Error::duplicate(&path.index(at), cidr));
        }
    }
    errors
}

fn validate_addresses(node: &Node) -> ErrorList {
    let path = Path::new("status").child("addresses");
    let addresses = node.status.as_ref().map(|status| list(&status.addresses)).unwrap_or_default();
    let mut errors = ErrorList::new();
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].contains(address) {
            let mut error = meta::invalid_json(&path.index(at), &shown::address(address), "");
            error.kind = crate::field::ErrorKind::Duplicate;
            errors.push(error);
        }
    }
    errors
}

/// What is given once and for all: the pods' network and the provider's name for the machine.
fn validate_first_values(new: &Node, old: &Node) -> ErrorList {
    let empty = NodeSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    let (new_cidrs, old_cidrs) = (list(&new.pod_cidrs), list(&old.pod_cidrs));
    if !old_cidrs.is_empty() && new_cidrs != old_cidrs {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("podCIDRs"), detail));
    }
    let provider = text(&old.provider_id);
    if !provider.is_empty() && text(&new.provider_id) != provider {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("providerID"), detail));
    }
    if text(&new.external_id) != text(&old.external_id) {
        errors.push(Error::forbidden(&path.child("externalID"), "may not be updated"));
    }
    errors
}

#[cfg(test)]
mod tests;
