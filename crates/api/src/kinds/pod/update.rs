//! What may change in a pod that exists, through each of its endpoints.
//!
//! Upstream ends its refusal with a diff of the two specs. Ours does not: environment variables
//! often hold secrets, and a diff would carry them into logs.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, NodeAffinity, NodeSelectorTerm, Pod, PodSpec, PodStatus, Toleration,
};

use super::{
    MIRROR_ANNOTATION, is_mirror, is_sidecar, placement, spec, spec_of, validate_metadata_and_spec,
};
use crate::condition::{Condition as _, ConditionType};
use crate::equality::equal;
use crate::field::{Error, ErrorList, Path};
use crate::kinds::optional::{list, text};
use crate::kinds::{meta, shown};
use crate::names;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

/// An update of the pod itself.
pub(super) fn validate(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = meta::validate_update(&new.metadata, &old.metadata);
    errors.extend(validate_metadata_and_spec(new));
    errors.extend(validate_annotations(new, old));
    let (new, old) = (spec_of(new), spec_of(old));
    let path = Path::new("spec");
    let init = (list(&new.init_containers), list(&old.init_containers));
    for (name, (new, old)) in
        [("containers", (&new.containers[..], &old.containers[..])), ("initContainers", init)]
    {
        if new.len() != old.len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(Error::forbidden(&path.child(name), detail));
            return errors;
        }
        errors.extend(validate_images(new, &path.child(name)));
    }
    match validate_deadline(new, old, &path.child("activeDeadlineSeconds")) {
        Deadline::Fine => {}
        Deadline::Wrong(error) => errors.push(error),
        Deadline::Hopeless(error) => {
            errors.push(error);
            return errors;
        }
    }
    let tolerations = (list(&new.tolerations), list(&old.tolerations));
    errors.extend(only_added(tolerations.0, tolerations.1, &path.child("tolerations")));
    errors.extend(only_deleted_gates(new, old, &path.child("schedulingGates")));
    let (masked, found) = mask_updatable(new, old, &path);
    errors.extend(found);
    if !equal(&masked, old) {
        errors.push(Error::forbidden(&path, UPDATABLE));
    }
    errors
}

fn validate_images(containers: &[Container], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, container) in containers.iter().enumerate() {
        let (path, image) = (path.index(at).child("image"), text(&container.image));
        if image.is_empty() {
            errors.push(Error::required(&path, ""));
        }
        if image.trim() != image {
            let detail = "must not have leading or trailing whitespace";
            errors.push(Error::invalid(&path, image, detail));
        }
    }
    errors
}

enum Deadline {
    Fine,
    Wrong(Error),
    /// Nothing else is looked at after it.
    Hopeless(Error),
}

/// A deadline may appear and may come nearer.
fn validate_deadline(new: &PodSpec, old: &PodSpec, path: &Path) -> Deadline {
    let limit = i64::from(i32::MAX);
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), _) if !(0..=limit).contains(&new) => {
            Deadline::Hopeless(Error::invalid(path, new, names::range_message(0, limit)))
        }
        (Some(new), Some(old)) if old < new => {
            let detail = "must be less than or equal to previous value";
            Deadline::Hopeless(Error::invalid(path, new, detail))
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            Deadline::Wrong(meta::invalid_json(path, &(), detail))
        }
        _ => Deadline::Fine,
    }
}

/// Tolerations may be added; of those that are there only the seconds may change.
fn only_added(new: &[Toleration], old: &[Toleration], path: &Path) -> ErrorList {
    let there: BTreeSet<_> = new.iter().map(without_seconds).collect();
    if !old.iter().all(|old| there.contains(&without_seconds(old))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        return vec![Error::forbidden(path, detail)];
    }
    placement::validate_tolerations(new, path)
}

type Without<'a> = [&'a Option<String>; 4];

fn without_seconds(toleration: &Toleration) -> Without<'_> {
    let Toleration { effect, key, operator, value, toleration_seconds: _ } = toleration;
    [effect, key, operator, value]
}

fn only_deleted_gates(new: &PodSpec, old: &PodSpec, path: &Path) -> ErrorList {
    let old: BTreeSet<&str> = list(&old.scheduling_gates).iter().map(|old| &*old.name).collect();
    list(&new.scheduling_gates)
        .iter()
        .enumerate()
        .filter(|(_, gate)| !old.contains(&*gate.name))
        .map(|(at, gate)| {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            Error::forbidden(&path.index(at).child("name"), detail)
        })
        .collect()
}

/// The new spec with every field that may change set back to the old one, and what was wrong with
/// those that may change only in one direction.
fn mask_updatable(new: &PodSpec, old: &PodSpec, path: &Path) -> (PodSpec, ErrorList) {
    let mut errors = ErrorList::new();
    let mut masked = new.clone();
    for (container, old) in masked.containers.iter_mut().zip(&old.containers) {
        container.image = old.image.clone();
    }
    let init = masked.init_containers.iter_mut().flatten();
    for (container, old) in init.zip(list(&old.init_containers)) {
        container.image = old.image.clone();
    }
    masked.active_deadline_seconds = old.active_deadline_seconds;
    masked.scheduling_gates = old.scheduling_gates.clone();
    masked.tolerations = old.tolerations.clone();
    let grace_s = (old.termination_grace_period_seconds, new.termination_grace_period_seconds);
    if matches!(grace_s, (Some(..0), Some(1))) {
        masked.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    // While gates hold the pod back, where it may run may still be narrowed.
    if !list(&old.scheduling_gates).is_empty() {
        errors.extend(mask_node_selector(&mut masked, old, &path.child("nodeSelector")));
        errors.extend(mask_node_affinity(&mut masked, old, &path.child("affinity")));
    }
    (masked, errors)
}

fn mask_node_selector(masked: &mut PodSpec, old: &PodSpec, path: &Path) -> Option<Error> {
    if equal(&masked.node_selector, &old.node_selector) {
        return None;
    }
    let new = std::mem::replace(&mut masked.node_selector, old.node_selector.clone());
    let kept = old
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| new.as_ref().is_some_and(|labels| labels.get(key) == Some(value)));
    let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
    (!kept).then(|| meta::invalid_json(path, &new, detail))
}

/// Terms of a required node affinity may get further requirements, and lose none.
fn mask_node_affinity(masked: &mut PodSpec, old: &PodSpec, path: &Path) -> ErrorList {
    let of = |spec: &PodSpec| spec.affinity.as_ref().and_then(|it| it.node_affinity.clone());
    let (new_affinity, old_affinity) = (of(masked), of(old));
    if equal(&new_affinity, &old_affinity) {
        return ErrorList::new();
    }
    match (&mut masked.affinity, &old.affinity) {
        (Some(affinity), None)
            if affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none() =>
        {
            masked.affinity = None;
        }
        (affinity, _) => affinity.get_or_insert_default().node_affinity = old_affinity.clone(),
    }
    let terms = |affinity: Option<NodeAffinity>| {
        let required =
            affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution);
        required.map(|selector| selector.node_selector_terms).unwrap_or_default()
    };
    let (new, old) = (terms(new_affinity), terms(old_affinity));
    let path = path
        .child("nodeAffinity")
        .child("requiredDuringSchedulingIgnoredDuringExecution")
        .child("nodeSelectorTerms");
    if !old.is_empty() && new.len() != old.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let shown: Vec<_> = new.iter().map(shown::term).collect();
        return vec![meta::invalid_json(&path, &shown, detail)];
    }
    let detail = "only additions are allowed (no mutations or deletions)";
    let pairs = new.iter().zip(&old).enumerate();
    pairs
        .filter(|(_, (new, old))| !only_adds(new, old))
        .map(|(at, (new, _))| meta::invalid_json(&path.index(at), &shown::term(new), detail))
        .collect()
}

fn only_adds(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    let (new_labels, old_labels) = (list(&new.match_expressions), list(&old.match_expressions));
    let (new_fields, old_fields) = (list(&new.match_fields), list(&old.match_fields));
    // An empty term matches nothing; a requirement would make it match something.
    if old_labels.is_empty() && old_fields.is_empty() {
        return new_labels.is_empty() && new_fields.is_empty();
    }
    new_labels.starts_with(old_labels) && new_fields.starts_with(old_fields)
}

fn validate_annotations(new: &Pod, old: &Pod) -> ErrorList {
    let path = Path::new("metadata").child("annotations");
    let empty = Default::default();
    let new_map = new.metadata.annotations.as_ref().unwrap_or(&empty);
    let old_map = old.metadata.annotations.as_ref().unwrap_or(&empty);
    let mut errors = ErrorList::new();
    let detail = match (new_map.get(MIRROR_ANNOTATION), old_map.get(MIRROR_ANNOTATION)) {
        (Some(_), None) => Some("may not add mirror pod annotation"),
        (new, old) if new != old => Some("may not remove or update mirror pod annotation"),
        _ => None,
    };
    errors.extend(detail.map(|detail| Error::forbidden(&path.key(MIRROR_ANNOTATION), detail)));
    errors.extend(spec::validate_annotations(new_map, spec_of(new), &path));
    errors
}

/// An update through `ephemeralcontainers`: some may come, none may go or change.
pub(super) fn validate_ephemeral(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = meta::validate_update(&new.metadata, &old.metadata);
    errors.extend(validate_metadata_and_spec(new));
    errors.extend(validate_annotations(new, old));
    if is_mirror(old) {
        let detail = "static pods do not support ephemeral containers";
        return vec![Error::forbidden(&meta::whole_object(), detail)];
    }
    let path = Path::new("spec").child("ephemeralContainers");
    let containers = list(&spec_of(new).ephemeral_containers);
    for old in list(&spec_of(old).ephemeral_containers) {
        let detail = match containers.iter().find(|new| new.name == old.name) {
            None => "removed",
            Some(new) if !equal(new, old) => "changed",
            Some(_) => continue,
        };
        let detail = format!("existing ephemeral containers {:?} may not be {detail}\n", old.name);
        errors.push(Error::forbidden(&path, detail));
    }
    errors
}

/// An update through `status`.
pub(super) fn validate_status(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = meta::validate_update(&new.metadata, &old.metadata);
    errors.extend(validate_annotations(new, old));
    let (new_status, old_status) = (status_of(new), status_of(old));
    // The path is upstream's, though the conditions are the status's.
    let path = Path::new("metadata").child("conditions");
    for (at, condition) in list(&new_status.conditions).iter().enumerate() {
        let known = [ConditionType::PodScheduled, ConditionType::Ready, ConditionType::Initialized];
        if known.iter().any(|known| condition.is(*known)) {
            continue;
        }
        let wrong = names::qualified_name(&condition.type_);
        let path = path.index(at).child("Type");
        errors.extend(meta::invalid_each(&path, &condition.type_, wrong));
    }
    let path = Path::new("status");
    if spec_of(new).node_name != spec_of(old).node_name {
        errors.push(Error::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    let nominated = text(&new_status.nominated_node_name);
    if nominated != text(&old_status.nominated_node_name) && !nominated.is_empty() {
        let wrong = names::subdomain_name(nominated, false);
        errors.extend(meta::invalid_each(&path.child("nominatedNodeName"), nominated, wrong));
    }
    let class = text(&new_status.qos_class);
    if class != text(&old_status.qos_class) {
        errors.push(Error::invalid(&path.child("qosClass"), class, meta::IMMUTABLE));
    }
    errors.extend(validate_transitions(&new_status, &old_status, spec_of(old), &path));
    errors.extend(validate_addresses(&new_status, &path));
    errors
}

fn status_of(pod: &Pod) -> PodStatus {
    pod.status.clone().unwrap_or_default()
}

/// A container that is not to be restarted does not leave the terminated state.
fn validate_transitions(
    new: &PodStatus,
    old: &PodStatus,
    spec: &PodSpec,
    path: &Path,
) -> ErrorList {
    let policy = text(&spec.restart_policy);
    let restarts = |name: &str| {
        list(&spec.init_containers)
            .iter()
            .any(|container| container.name == name && is_sidecar(container))
    };
    let init = |status: &ContainerStatus| restarts(&status.name) || may_restart(status, policy);
    let mut errors = revived(
        list(&new.container_statuses),
        list(&old.container_statuses),
        |status| may_restart(status, policy),
        &path.child("containerStatuses"),
    );
    errors.extend(revived(
        list(&new.init_container_statuses),
        list(&old.init_container_statuses),
        init,
        &path.child("initContainerStatuses"),
    ));
    errors.extend(revived(
        list(&new.ephemeral_container_statuses),
        list(&old.ephemeral_container_statuses),
        |status| may_restart(status, "Never"),
        &path.child("ephemeralContainerStatuses"),
    ));
    errors
}

fn revived(
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    may_leave: impl Fn(&ContainerStatus) -> bool,
    path: &Path,
) -> ErrorList {
    let lives = |name: &str| {
        let mut same = new.iter().filter(|new| new.name == name);
        same.any(|new| !is_terminated(new))
    };
    let detail = "may not be transitioned to non-terminated state";
    let dead = old.iter().enumerate().filter(|(_, old)| is_terminated(old) && !may_leave(old));
    dead.filter(|(_, old)| lives(&old.name))
        .map(|(at, _)| Error::forbidden(&path.index(at).child("state"), detail))
        .collect()
}

fn is_terminated(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.terminated.is_some())
}

fn may_restart(status: &ContainerStatus, policy: &str) -> bool {
    let exit = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    match policy {
        "Always" => true,
        "OnFailure" => exit.is_some_and(|exit| exit.exit_code != 0),
        _ => false,
    }
}

fn validate_addresses(status: &PodStatus, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let pod_ips: Vec<&str> = list(&status.pod_ips).iter().map(|ip| ip.ip.as_str()).collect();
    errors.extend(validate_families(&pod_ips, &path.child("podIPs")));
    let host_ips: Vec<&str> = list(&status.host_ips).iter().map(|ip| ip.ip.as_str()).collect();
    let path = path.child("hostIPs");
    if let Some(first) = host_ips.first().filter(|first| **first != text(&status.host_ip)) {
        let path = path.index(0).child("ip");
        errors.push(Error::invalid(&path, *first, "must be equal to `hostIP`"));
    }
    errors.extend(validate_families(&host_ips, &path));
    errors
}

/// One address of each family at most.
fn validate_families(ips: &[&str], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, ip) in ips.iter().enumerate() {
        errors.extend(spec::validate_ip(ip, &path.index(at)));
    }
    let sixes = ips.iter().filter(|ip| ip.contains(':')).count();
    let dual = sixes == 1 && ips.len() == 2;
    if ips.len() > 1 && !dual {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(meta::invalid_json(path, &shown::ips(ips), detail));
    }
    errors
}
