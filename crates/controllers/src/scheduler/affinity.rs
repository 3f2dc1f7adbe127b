//! Which nodes a pod requires or prefers by their labels: `nodeSelector` and node affinity.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Whether the node has all labels of `nodeSelector` and matches one term of the required affinity.
pub(crate) fn matches(spec: &PodSpec, node: &Node) -> bool {
    let labels = labels(node);
    let mut wanted = spec.node_selector.iter().flatten();
    if !wanted.all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| term_matches(term, node))
    })
}

/// The sum of the weights of the preferred terms that the node matches.
pub(crate) fn preference(spec: &PodSpec, node: &Node) -> i64 {
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    affinity
        .iter()
        .flat_map(|affinity| {
            affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten()
        })
        .filter(|preferred| term_matches(&preferred.preference, node))
        .map(|preferred| i64::from(preferred.weight))
        .sum()
}

fn labels(node: &Node) -> Option<&BTreeMap<String, String>> {
    node.metadata.labels.as_ref()
}

/// Whether all requirements of a term hold. A term without requirements selects no node.
fn term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| labels(node).and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| match key {
        "metadata.name" => node.metadata.name.as_deref(),
        _ => None,
    };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|requirement| holds(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| holds(requirement, field(&requirement.key)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let wanted = requirement.values.as_deref().unwrap_or_default();
    let listed = || value.is_some_and(|value| wanted.iter().any(|wanted| wanted == value));
    let compared = || {
        let value: i64 = value?.parse().ok()?;
        let bound: i64 = wanted.first()?.parse().ok()?;
        Some(value.cmp(&bound))
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compared().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": "node1", "labels": { "disk": "ssd", "cores": "8" } },
        }))
        .expect("a node")
    }

    fn spec(spec: Value) -> PodSpec {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(spec).expect("a pod spec")
    }

    fn required(terms: Value) -> bool {
        let affinity = json!({ "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } });
        matches(&spec(json!({ "affinity": affinity })), &node())
    }

    fn expression(key: &str, operator: &str, values: Value) -> bool {
        let requirement = json!({ "key": key, "operator": operator, "values": values });
        required(json!([{ "matchExpressions": [requirement] }]))
    }

    #[test]
    fn a_node_selector_requires_every_label() {
        let selects =
            |selector: Value| matches(&spec(json!({ "nodeSelector": selector })), &node());
        assert!(selects(json!({})));
        assert!(selects(json!({ "disk": "ssd" })));
        assert!(!selects(json!({ "disk": "hdd" })));
        assert!(!selects(json!({ "disk": "ssd", "gpu": "yes" })));
    }

    #[test]
    fn every_operator_of_an_expression_is_evaluated() {
        for (key, operator, values, expected) in [
            ("disk", "In", json!(["hdd", "ssd"]), true),
            ("gpu", "In", json!(["yes"]), false),
            ("disk", "NotIn", json!(["hdd"]), true),
            ("disk", "NotIn", json!(["ssd"]), false),
            ("gpu", "NotIn", json!(["yes"]), true),
            ("disk", "Exists", json!([]), true),
            ("gpu", "Exists", json!([]), false),
            ("gpu", "DoesNotExist", json!([]), true),
            ("cores", "Gt", json!(["4"]), true),
            ("cores", "Gt", json!(["8"]), false),
            ("cores", "Lt", json!(["16"]), true),
            ("disk", "Lt", json!(["16"]), false),
            ("disk", "Near", json!(["ssd"]), false),
        ] {
            assert_eq!(
                expression(key, operator, values.clone()),
                expected,
                "{key} {operator} {values}"
            );
        }
    }

    #[test]
    fn one_matching_term_is_enough_and_an_empty_term_selects_no_node() {
        let ssd = json!({ "matchExpressions": [{ "key": "disk", "operator": "Exists" }] });
        let gpu = json!({ "matchExpressions": [{ "key": "gpu", "operator": "Exists" }] });
        assert!(required(json!([gpu, ssd])));
        assert!(!required(json!([gpu])));
        assert!(!required(json!([{}])));
        assert!(!required(json!([])));
    }

    #[test]
    fn a_term_can_select_the_nodes_name() {
        let named = |name: &str| {
            required(json!([{ "matchFields": [
                { "key": "metadata.name", "operator": "In", "values": [name] }] }]))
        };
        assert!(named("node1"));
        assert!(!named("node2"));
    }
}
