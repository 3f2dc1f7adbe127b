//! RuntimeClass: a pod names a class that exists, or is refused; what the class says of overhead and
//! of nodes goes into the pod.
//!
//! Only new pods are checked, as upstream: a template may name a class that comes later, and its
//! pods are refused until then.

use std::collections::{HashMap, HashSet};

use coffer_api::equality::equal;
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
    if spec.overhead.is_some() && !equal(&amounts(&overhead.pod_fixed), &amounts(&spec.overhead)) {
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

/// The tolerations without those that another one covers; of equal ones the first stays, and of those that
/// cover each other otherwise the last. Costs a few look-ups for each: a pod may have very many.
fn merged(all: &[Toleration]) -> Vec<Toleration> {
    let mut seen = HashSet::new();
    let all: Vec<_> = all.iter().filter(|one| seen.insert(identity(one))).collect();
    let mut later = Covered::default();
    let mut covered: Vec<bool> = all
        .iter()
        .rev()
        .map(|one| {
            let covered = later.has(one);
            later.insert(one);
            covered
        })
        .collect();
    covered.reverse();
    let (mut earlier, mut kept) = (Covered::default(), Vec::new());
    for (one, covered) in all.into_iter().zip(covered) {
        if !covered && !earlier.has(one) {
            earlier.insert(one);
            kept.push(one.clone());
        }
    }
    kept
}

fn text(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// What two tolerations have in common that are the same.
fn identity(one: &Toleration) -> (&str, &str, &str, &str, Option<i64>) {
    let Toleration { key, operator, value, effect, toleration_seconds } = one;
    (text(key), text(operator), text(value), text(effect), *toleration_seconds)
}

/// What is tolerated by some tolerations.
#[derive(Default)]
struct Covered<'a>(HashMap<Taints<'a>, Lasting>);

/// The taints that a toleration is about.
#[derive(PartialEq, Eq, Hash)]
struct Taints<'a> {
    /// All keys, if it is empty and so is the value.
    key: &'a str,
    /// All values if absent.
    value: Option<&'a str>,
    /// All effects if empty.
    effect: &'a str,
}

/// For how long.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lasting {
    Seconds(i64),
    Forever,
}

impl<'a> Covered<'a> {
    fn insert(&mut self, wide: &'a Toleration) {
        let value = match text(&wide.operator) {
            "" | "Equal" => Some(text(&wide.value)),
            "Exists" => None,
            // Validation refuses it.
            _ => return,
        };
        let effect = text(&wide.effect);
        let lasting = match wide.toleration_seconds {
            Some(seconds) if effect == coffer_api::well_known::taint_effect::NO_EXECUTE => {
                Lasting::Seconds(seconds)
            }
            _ => Lasting::Forever,
        };
        let known = self.0.entry(Taints { key: text(&wide.key), value, effect }).or_insert(lasting);
        *known = lasting.max(*known);
    }

    /// Whether one of them tolerates all that `narrow` does.
    fn has(&self, narrow: &Toleration) -> bool {
        let key = text(&narrow.key);
        let equal = (text(&narrow.operator) == "Equal").then(|| (key, Some(text(&narrow.value))));
        let wider = [(key, None), ("", None)].into_iter().chain(equal);
        let effects = ["", text(&narrow.effect)];
        let long = narrow.toleration_seconds.map_or(Lasting::Forever, Lasting::Seconds);
        wider
            .flat_map(|(key, value)| effects.map(|effect| Taints { key, value, effect }))
            .any(|taints| self.0.get(&taints).is_some_and(|lasting| *lasting >= long))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// What upstream says of two tolerations.
    fn covers(wide: &Toleration, narrow: &Toleration) -> bool {
        let exists = wide.operator.as_deref() == Some("Exists");
        let effect = text(&wide.effect);
        let short = narrow
            .toleration_seconds
            .is_none_or(|narrow| wide.toleration_seconds.is_some_and(|seconds| narrow > seconds));
        let lasts = effect != "NoExecute" || wide.toleration_seconds.is_none() || !short;
        let equal = text(&narrow.operator) == "Equal" && text(&wide.value) == text(&narrow.value);
        (wide.key == narrow.key || (text(&wide.key).is_empty() && exists))
            && (effect.is_empty() || effect == text(&narrow.effect))
            && lasts
            && (exists || equal)
    }

    fn toleration() -> impl Strategy<Value = Toleration> {
        let optional = |all: &'static [&'static str]| {
            let text = prop::sample::select(all).prop_map(str::to_owned);
            prop::option::of(text)
        };
        (
            optional(&["a", "b"]),
            optional(&["Exists", "Equal", "Exists"]),
            optional(&["v", "w"]),
            optional(&["NoExecute", "NoSchedule", "NoExecute"]),
            prop::option::of(1..3_i64),
        )
            .prop_map(|(key, operator, value, effect, toleration_seconds)| Toleration {
                key,
                operator,
                value,
                effect,
                toleration_seconds,
            })
    }

    proptest! {
        #[test]
        fn tolerations_are_merged_as_upstream_does_it_one_by_one(
            all in prop::collection::vec(toleration(), 0..8),
        ) {
            let mut distinct: Vec<Toleration> = Vec::new();
            for one in all.iter() {
                if !distinct.contains(one) {
                    distinct.push(one.clone());
                }
            }
            let mut kept: Vec<Toleration> = Vec::new();
            for (at, one) in distinct.iter().enumerate() {
                let later = &distinct[at + 1..];
                if !kept.iter().chain(later).any(|other| covers(other, one)) {
                    kept.push(one.clone());
                }
            }
            prop_assert_eq!(merged(&all), kept);
        }
    }

    /// Compared one by one, these take minutes.
    #[test]
    fn very_many_tolerations_are_merged() {
        let one = |number: usize| Toleration {
            key: Some(format!("k{number}")),
            operator: Some("Exists".to_owned()),
            ..Toleration::default()
        };
        let all: Vec<_> = (0..100_000).map(one).collect();
        assert_eq!(merged(&all).len(), all.len());
    }

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
