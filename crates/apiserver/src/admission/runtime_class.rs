//! RuntimeClass: a pod names a class that exists, or is refused; what the class says of overhead and
//! of nodes goes into the pod.
//!
//! Only new pods are checked, as upstream: a template may name a class that comes later, and its
//! pods are refused until then.

use coffer_api::kinds;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};
use k8s_openapi::api::node::v1::{RuntimeClass, Scheduling};

use super::parsed::Parsed;

/// A new pod, changed to what its class says.
///
/// # Errors
/// Why the pod is refused, for a 403.
pub(super) fn admit(classes: &Parsed<RuntimeClass>, pod: &mut Pod) -> Result<(), String> {
    let Some(spec) = &mut pod.spec else { return Ok(()) };
    let class = match spec.runtime_class_name.as_deref() {
        None => None,
        Some(name) => {
            let found = classes.of("").get(name).cloned().flatten();
            Some(found.ok_or_else(|| format!("pod rejected: RuntimeClass {name:?} not found"))?)
        }
    };
    set_overhead(spec, class.as_deref())?;
    match class.and_then(|class| class.scheduling.clone()) {
        Some(scheduling) => set_scheduling(spec, scheduling),
        None => Ok(()),
    }
}

/// A pod's overhead is its class's: a pod that states another one, or states one without a class that
/// has any, is refused.
fn set_overhead(spec: &mut PodSpec, class: Option<&RuntimeClass>) -> Result<(), String> {
    let Some(overhead) = class.and_then(|class| class.overhead.as_ref()) else {
        if spec.overhead.is_some() {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(why.to_owned());
        }
        return Ok(());
    };
    let amounts = |of: &Option<_>| PodSpec { overhead: Option::clone(of), ..PodSpec::default() };
    if spec.overhead.is_some()
        && !kinds::equal(&amounts(&overhead.pod_fixed), &amounts(&spec.overhead))
    {
        let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        return Err(why.to_owned());
    }
    spec.overhead.clone_from(&overhead.pod_fixed);
    Ok(())
}

/// The pod's and the class's constraints on nodes.
fn set_scheduling(spec: &mut PodSpec, scheduling: Scheduling) -> Result<(), String> {
    if let Some(wanted) = scheduling.node_selector {
        let selector = spec.node_selector.get_or_insert_default();
        for (key, value) in wanted {
            if let Some(own) = selector.get(&key).filter(|own| **own != value) {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            selector.insert(key, value);
        }
    }
    let mut all = spec.tolerations.take().unwrap_or_default();
    all.extend(scheduling.tolerations.into_iter().flatten());
    let merged = merged(&all);
    spec.tolerations = (!merged.is_empty()).then_some(merged);
    Ok(())
}

/// The tolerations without those that another one covers; of equal ones the first stays.
fn merged(all: &[Toleration]) -> Vec<Toleration> {
    let mut kept: Vec<Toleration> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let later = &all[at + 1..];
        let covered = kept.iter().any(|other| covers(other, one))
            || later.iter().any(|other| other != one && covers(other, one));
        if !covered {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether `wide` tolerates all that `narrow` does.
fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if wide == narrow {
        return true;
    }
    let (operator, exists) = (text(&wide.operator), "Exists");
    let all_keys = text(&wide.key).is_empty() && operator == exists;
    if text(&wide.key) != text(&narrow.key) && !all_keys {
        return false;
    }
    let effect = text(&wide.effect);
    if !effect.is_empty() && effect != text(&narrow.effect) {
        return false;
    }
    if effect == "NoExecute"
        && let Some(seconds) = wide.toleration_seconds
        && narrow.toleration_seconds.is_none_or(|narrow| narrow > seconds)
    {
        return false;
    }
    match operator.as_str() {
        "" | "Equal" => {
            text(&narrow.operator) == "Equal" && text(&wide.value) == text(&narrow.value)
        }
        other => other == exists,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn applied(pod: Value, class: Value) -> Result<Value, String> {
        let mut spec: PodSpec = serde_json::from_value(pod).unwrap();
        let class: RuntimeClass = serde_json::from_value(class).unwrap();
        set_overhead(&mut spec, Some(&class))?;
        if let Some(scheduling) = class.scheduling {
            set_scheduling(&mut spec, scheduling)?;
        }
        let mut value = serde_json::to_value(&spec).unwrap();
        value.as_object_mut().unwrap().remove("containers");
        Ok(value)
    }

    #[test]
    fn the_overhead_is_the_classs_and_no_other() {
        let class = json!({ "handler": "h", "overhead": { "podFixed": { "cpu": "250m" } } });
        let overhead = json!({ "overhead": { "cpu": "250m" } });
        assert_eq!(applied(json!({}), class.clone()), Ok(overhead.clone()));
        assert_eq!(applied(overhead.clone(), class.clone()), Ok(overhead.clone()));
        assert_eq!(applied(json!({ "overhead": { "cpu": "0.25" } }), class.clone()), Ok(overhead));
        for other in [json!({}), json!({ "cpu": "1m" }), json!({ "cpu": "250m", "memory": "1" })] {
            assert_eq!(
                applied(json!({ "overhead": other }), class.clone()).unwrap_err(),
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            );
        }
        for overhead in [json!({}), json!({ "cpu": "1m" })] {
            assert_eq!(
                applied(json!({ "overhead": overhead }), json!({ "handler": "h" })).unwrap_err(),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            );
        }
    }

    #[test]
    fn node_selectors_are_joined_unless_they_contradict() {
        let class = json!({ "handler": "h", "scheduling": { "nodeSelector": { "a": "1" } } });
        let selector = |value: Value| json!({ "nodeSelector": value });
        assert_eq!(applied(json!({}), class.clone()), Ok(selector(json!({ "a": "1" }))));
        assert_eq!(
            applied(selector(json!({ "b": "2", "a": "1" })), class.clone()),
            Ok(selector(json!({ "a": "1", "b": "2" })))
        );
        assert_eq!(
            applied(selector(json!({ "a": "2" })), class).unwrap_err(),
            "conflict: runtimeClass.scheduling.nodeSelector[a] = 1; pod.spec.nodeSelector[a] = 2"
        );
    }

    #[test]
    fn tolerations_are_joined_without_those_that_another_covers() {
        let tolerations = |pod: Value, class: Value| {
            let class = json!({ "handler": "h", "scheduling": { "tolerations": class } });
            let spec = applied(json!({ "tolerations": pod }), class).unwrap();
            spec.get("tolerations").cloned().unwrap_or_else(|| json!([]))
        };
        let exists = json!({ "key": "a", "operator": "Exists" });
        let equal = json!({ "key": "a", "operator": "Equal", "value": "v" });
        let all = json!({ "operator": "Exists" });
        let brief = |seconds: i64| {
            json!({ "key": "a", "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": seconds })
        };
        for (pod, class, expected) in [
            (json!([]), json!([]), json!([])),
            (json!([exists]), json!([exists]), json!([exists])),
            (json!([equal]), json!([exists]), json!([exists])),
            (json!([exists]), json!([equal]), json!([exists])),
            (json!([exists, equal]), json!([all]), json!([all])),
            (json!([brief(5)]), json!([brief(9)]), json!([brief(9)])),
            (json!([brief(9)]), json!([brief(5)]), json!([brief(9)])),
            (json!([brief(9)]), json!([exists]), json!([exists])),
            (
                json!([equal]),
                json!([{ "key": "b", "operator": "Equal", "value": "v" }]),
                json!([equal, { "key": "b", "operator": "Equal", "value": "v" }]),
            ),
        ] {
            assert_eq!(tolerations(pod.clone(), class.clone()), expected, "{pod} {class}");
        }
    }
}
