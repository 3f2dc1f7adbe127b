//! Where a pod may run: tolerations, affinity, topology spread, and label selectors in general.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec,
    Toleration, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::{invalid_each, validate_labels};
use crate::kinds::optional::{list, text};
use crate::names;
use crate::well_known::taint_effect;

const EFFECTS: &[&str] =
    &[taint_effect::NO_SCHEDULE, taint_effect::PREFER_NO_SCHEDULE, taint_effect::NO_EXECUTE];

pub(super) fn validate(spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(affinity) = &spec.affinity {
        errors.extend(validate_affinity(affinity, &path.child("affinity")));
    }
    let constraints = list(&spec.topology_spread_constraints);
    errors.extend(validate_spread(constraints, &path.child("topologySpreadConstraints")));
    errors
}

/// The effect of a taint; a toleration's may be empty, a taint's not.
pub(crate) fn validate_effect(effect: &str, path: &Path) -> Option<Error> {
    let known = EFFECTS.contains(&effect);
    (!known).then(|| Error::not_supported(path, effect, EFFECTS))
}

pub(crate) fn validate_tolerations(tolerations: &[Toleration], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, toleration) in tolerations.iter().enumerate() {
        let path = path.index(at);
        let (key, value) = (text(&toleration.key), text(&toleration.value));
        let (operator, effect) = (text(&toleration.operator), text(&toleration.effect));
        if !key.is_empty() {
            errors.extend(invalid_each(&path.child("key"), key, names::qualified_name(key)));
        }
        let operator_path = path.child("operator");
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&operator_path, operator, detail));
        }
        if toleration.toleration_seconds.is_some() && effect != taint_effect::NO_EXECUTE {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&path.child("effect"), effect, detail));
        }
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(Error::invalid(&operator_path, value, wrong.join(";")));
                }
            }
            "Exists" if value.is_empty() => {}
            "Exists" => {
                let detail = "value must be empty when `operator` is 'Exists'";
                errors.push(Error::invalid(&operator_path, value, detail));
            }
            other => {
                errors.push(Error::not_supported(&operator_path, other, &["Equal", "Exists"]));
            }
        }
        if !effect.is_empty() {
            errors.extend(validate_effect(effect, &path.child("effect")));
        }
    }
    errors
}

/// `matchLabels` and `matchExpressions`, wherever they stand.
pub(crate) fn validate_selector(selector: &LabelSelector, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(labels) = &selector.match_labels {
        errors.extend(validate_labels(labels, &path.child("matchLabels")));
    }
    for (at, expression) in list(&selector.match_expressions).iter().enumerate() {
        let path = path.child("matchExpressions").index(at);
        let values = list(&expression.values);
        errors.extend(validate_operator(&expression.operator, values.len(), false, &path));
        let wrong = names::qualified_name(&expression.key);
        errors.extend(invalid_each(&path.child("key"), &expression.key, wrong));
        errors.extend(validate_values(values, &path.child("values")));
    }
    errors
}

fn validate_values(values: &[String], path: &Path) -> ErrorList {
    let each = |(at, value): (usize, &String)| {
        invalid_each(&path.index(at), value, names::label_value(value))
    };
    values.iter().enumerate().flat_map(each).collect()
}

/// How many values an operator wants; node selectors compare numbers, too.
fn validate_operator(operator: &str, values: usize, numbers: bool, path: &Path) -> Option<Error> {
    let values_path = path.child("values");
    match (operator, values) {
        ("In" | "NotIn", 0) => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            Some(Error::required(&values_path, detail))
        }
        ("Exists" | "DoesNotExist", 1..) => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            Some(Error::forbidden(&values_path, detail))
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => None,
        ("Gt" | "Lt", 1) if numbers => None,
        ("Gt" | "Lt", _) if numbers => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            Some(Error::required(&values_path, detail))
        }
        _ => {
            let detail = "not a valid selector operator";
            Some(Error::invalid(&path.child("operator"), operator, detail))
        }
    }
}

fn validate_affinity(affinity: &Affinity, path: &Path) -> ErrorList {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let mut errors = ErrorList::new();
    if let Some(node) = &affinity.node_affinity {
        let path = path.child("nodeAffinity");
        if let Some(selector) = &node.required_during_scheduling_ignored_during_execution {
            errors.extend(validate_node_selector(selector, &path.child(REQUIRED)));
        }
        let preferred = list(&node.preferred_during_scheduling_ignored_during_execution);
        for (at, term) in preferred.iter().enumerate() {
            let path = path.child(PREFERRED).index(at);
            errors.extend(validate_weight(term.weight, &path));
            errors.extend(validate_term(&term.preference, false, &path.child("preference")));
        }
    }
    let mut pods =
        |name: &str, required: &[PodAffinityTerm], preferred: &[WeightedPodAffinityTerm]| {
            let path = path.child(name);
            for (at, term) in required.iter().enumerate() {
                errors.extend(validate_pod_term(term, &path.child(REQUIRED).index(at)));
            }
            for (at, weighted) in preferred.iter().enumerate() {
                let path = path.child(PREFERRED).index(at);
                errors.extend(validate_weight(weighted.weight, &path));
                let term = &weighted.pod_affinity_term;
                errors.extend(validate_pod_term(term, &path.child("podAffinityTerm")));
            }
        };
    if let Some(pod) = &affinity.pod_affinity {
        let required = list(&pod.required_during_scheduling_ignored_during_execution);
        let preferred = list(&pod.preferred_during_scheduling_ignored_during_execution);
        pods("podAffinity", required, preferred);
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let required = list(&pod.required_during_scheduling_ignored_during_execution);
        let preferred = list(&pod.preferred_during_scheduling_ignored_during_execution);
        pods("podAntiAffinity", required, preferred);
    }
    errors
}

fn validate_weight(weight: i32, path: &Path) -> Option<Error> {
    let fits = (1..=100).contains(&weight);
    (!fits).then(|| Error::invalid(&path.child("weight"), weight, "must be in the range 1-100"))
}

fn validate_node_selector(selector: &NodeSelector, path: &Path) -> ErrorList {
    let path = path.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        return vec![Error::required(&path, "must have at least one node selector term")];
    }
    let each = |(at, term)| validate_term(term, true, &path.index(at));
    selector.node_selector_terms.iter().enumerate().flat_map(each).collect()
}

fn validate_term(term: &NodeSelectorTerm, strict: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (at, requirement) in list(&term.match_expressions).iter().enumerate() {
        let path = path.child("matchExpressions").index(at);
        let values = list(&requirement.values);
        errors.extend(validate_operator(&requirement.operator, values.len(), true, &path));
        let wrong = names::qualified_name(&requirement.key);
        errors.extend(invalid_each(&path.child("key"), &requirement.key, wrong));
        if strict {
            errors.extend(validate_values(values, &path.child("values")));
        }
    }
    for (at, requirement) in list(&term.match_fields).iter().enumerate() {
        errors.extend(validate_match_field(requirement, &path.child("matchFields").index(at)));
    }
    errors
}

fn validate_match_field(requirement: &NodeSelectorRequirement, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let values = list(&requirement.values);
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.len() == 1 => {}
        "In" | "NotIn" => {
            let detail =
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Error::required(&path.child("values"), detail));
        }
        other => {
            let detail = "not a valid selector operator";
            errors.push(Error::invalid(&path.child("operator"), other, detail));
        }
    }
    if requirement.key != "metadata.name" {
        let detail = "not a valid field selector key";
        errors.push(Error::invalid(&path.child("key"), &requirement.key, detail));
        return errors;
    }
    for (at, value) in values.iter().enumerate() {
        let path = path.child("values").index(at);
        errors.extend(invalid_each(&path, value, names::subdomain_name(value, false)));
    }
    errors
}

fn validate_pod_term(term: &PodAffinityTerm, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let selectors =
        [("labelSelector", &term.label_selector), ("namespaceSelector", &term.namespace_selector)];
    for (name, selector) in selectors {
        if let Some(selector) = selector {
            errors.extend(validate_selector(selector, &path.child(name)));
        }
    }
    for name in list(&term.namespaces) {
        let wrong = names::label_name(name, false);
        errors.extend(invalid_each(&path.child("namespace"), name, wrong));
    }
    for (name, keys) in [
        ("matchLabelKeys", list(&term.match_label_keys)),
        ("mismatchLabelKeys", list(&term.mismatch_label_keys)),
    ] {
        errors.extend(validate_label_keys(keys, term.label_selector.is_some(), &path.child(name)));
    }
    errors.extend(validate_keys_of_selector(term, path));
    let mismatched: BTreeSet<&String> = list(&term.mismatch_label_keys).iter().collect();
    for (at, key) in list(&term.match_label_keys).iter().enumerate() {
        if mismatched.contains(key) {
            let path = path.child("matchLabelKeys").index(at);
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(Error::invalid(&path, key, detail));
        }
    }
    let topology = path.child("topologyKey");
    if term.topology_key.is_empty() {
        errors.push(Error::required(&topology, "can not be empty"));
    }
    let wrong = names::qualified_name(&term.topology_key);
    errors.extend(invalid_each(&topology, &term.topology_key, wrong));
    errors
}

/// Keys of `matchLabelKeys` that the selector has besides the requirement that they add to it.
fn validate_keys_of_selector(term: &PodAffinityTerm, path: &Path) -> ErrorList {
    let Some(selector) = &term.label_selector else { return ErrorList::new() };
    let mut seen: BTreeSet<&String> =
        selector.match_labels.iter().flat_map(BTreeMap::keys).collect();
    let mut errors = ErrorList::new();
    for LabelSelectorRequirement { key, .. } in list(&selector.match_expressions) {
        let at = list(&term.match_label_keys).iter().rposition(|it| it == key);
        if let (Some(at), false) = (at, seen.insert(key)) {
            // Upstream's path, which does not name the field.
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&path.index(at), key, detail));
        }
    }
    errors
}

/// Adds to the selectors of affinity terms what `matchLabelKeys` and `mismatchLabelKeys` mean for a pod with
/// these labels, as upstream does when a pod is created. Keys that the pod does not have are skipped.
pub(super) fn apply_label_keys(spec: &mut PodSpec, labels: Option<&BTreeMap<String, String>>) {
    let (Some(affinity), Some(labels)) = (&mut spec.affinity, labels) else { return };
    let mut terms: Vec<&mut PodAffinityTerm> = Vec::new();
    if let Some(near) = &mut affinity.pod_affinity {
        terms.extend(near.required_during_scheduling_ignored_during_execution.iter_mut().flatten());
        let preferred = near.preferred_during_scheduling_ignored_during_execution.iter_mut();
        terms.extend(preferred.flatten().map(|it| &mut it.pod_affinity_term));
    }
    if let Some(away) = &mut affinity.pod_anti_affinity {
        terms.extend(away.required_during_scheduling_ignored_during_execution.iter_mut().flatten());
        let preferred = away.preferred_during_scheduling_ignored_during_execution.iter_mut();
        terms.extend(preferred.flatten().map(|it| &mut it.pod_affinity_term));
    }
    for term in terms {
        let Some(selector) = &mut term.label_selector else { continue };
        let requirements = [("In", &term.match_label_keys), ("NotIn", &term.mismatch_label_keys)];
        for (operator, keys) in requirements {
            for key in list(keys) {
                let Some(value) = labels.get(key) else { continue };
                selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.to_owned(),
                    values: Some(vec![value.clone()]),
                });
            }
        }
    }
}

fn validate_label_keys(keys: &[String], has_selector: bool, path: &Path) -> ErrorList {
    if !keys.is_empty() && !has_selector {
        let detail = "must not be specified when labelSelector is not set";
        return vec![Error::forbidden(path, detail)];
    }
    let each = |(at, key): (usize, &String)| {
        invalid_each(&path.index(at), key, names::qualified_name(key))
    };
    keys.iter().enumerate().flat_map(each).collect()
}

fn spread_key(constraint: &TopologySpreadConstraint) -> (&str, &str) {
    (&constraint.topology_key, &constraint.when_unsatisfiable)
}

fn validate_spread(constraints: &[TopologySpreadConstraint], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let last: HashMap<(&str, &str), usize> =
        constraints.iter().enumerate().map(|(at, it)| (spread_key(it), at)).collect();
    for (at, constraint) in constraints.iter().enumerate() {
        let repeated = last.get(&spread_key(constraint)).is_some_and(|last| *last > at);
        let path = path.index(at);
        if constraint.max_skew <= 0 {
            let path = path.child("maxSkew");
            let detail = "must be greater than zero";
            errors.push(Error::invalid(&path, constraint.max_skew, detail));
        }
        if constraint.topology_key.is_empty() {
            errors.push(Error::required(&path.child("topologyKey"), "can not be empty"));
        }
        let action = constraint.when_unsatisfiable.as_str();
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            let path = path.child("whenUnsatisfiable");
            errors.push(Error::not_supported(&path, action, &actions));
        }
        if repeated {
            let pair = format!("{{{}, {action}}}", constraint.topology_key);
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&path, &pair));
        }
        if let Some(minimum) = constraint.min_domains {
            let path = path.child("minDomains");
            if minimum <= 0 {
                errors.push(Error::invalid(&path, minimum, "must be greater than zero"));
            }
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.push(Error::invalid(&path, minimum, detail));
            }
        }
        for (name, policy) in [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ] {
            let unknown = policy.as_deref().filter(|it| !matches!(*it, "Honor" | "Ignore"));
            if let Some(policy) = unknown {
                let path = path.child(name);
                errors.push(Error::not_supported(&path, policy, &["Honor", "Ignore"]));
            }
        }
        errors.extend(validate_spread_keys(constraint, &path.child("matchLabelKeys")));
        if let Some(selector) = &constraint.label_selector {
            errors.extend(validate_selector(selector, &path.child("labelSelector")));
        }
    }
    errors
}

fn validate_spread_keys(constraint: &TopologySpreadConstraint, path: &Path) -> ErrorList {
    let keys = list(&constraint.match_label_keys);
    let mut errors = ErrorList::new();
    let mut selected = BTreeSet::new();
    match &constraint.label_selector {
        None if !keys.is_empty() => {
            let detail = "must not be specified when labelSelector is not set";
            errors.push(Error::forbidden(path, detail));
        }
        None => {}
        Some(selector) => {
            selected.extend(selector.match_labels.iter().flat_map(|labels| labels.keys()));
            selected.extend(list(&selector.match_expressions).iter().map(|it| &it.key));
        }
    }
    for (at, key) in keys.iter().enumerate() {
        let path = path.index(at);
        errors.extend(invalid_each(&path, key, names::qualified_name(key)));
        if selected.contains(key) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&path, key, detail));
        }
    }
    errors
}
