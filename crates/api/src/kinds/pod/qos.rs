//! The quality-of-service class, which follows from requests and limits and never changes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

use super::level;
use super::resources::Amounts;
use crate::kinds::optional::list;
use crate::quantity::Quantity;

type Sums<'a> = BTreeMap<&'a str, Quantity>;

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(spec: &PodSpec) -> &'static str {
    let (mut requests, mut limits) = (Sums::new(), Sums::new());
    let mut guaranteed = true;
    for requirements in stated(spec) {
        add_up(&mut requests, requirements.and_then(|it| it.requests.as_ref()));
        // Both processors and memory must be limited, everywhere.
        guaranteed &= add_up(&mut limits, requirements.and_then(|it| it.limits.as_ref())) == 2;
    }
    match (requests.is_empty() && limits.is_empty(), guaranteed && requests == limits) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

/// What the pod states for itself, else what each container states.
fn stated(spec: &PodSpec) -> Vec<Option<&ResourceRequirements>> {
    let whole = spec.resources.as_ref();
    match whole.filter(|whole| level::states_any(whole)) {
        Some(whole) => vec![Some(whole)],
        None => {
            let init = list(&spec.init_containers);
            spec.containers.iter().chain(init).map(|it| it.resources.as_ref()).collect()
        }
    }
}

/// Adds processors and memory to the sums; returns how many of the two are there.
fn add_up<'a>(sums: &mut Sums<'a>, amounts: Option<&'a Amounts>) -> usize {
    let mut found = 0;
    for (name, text) in amounts.into_iter().flatten() {
        let counts = matches!(name.as_str(), "cpu" | "memory");
        let Some(quantity) = Quantity::of(text).ok().filter(|quantity| *quantity > Quantity::ZERO)
        else {
            continue;
        };
        if counts {
            found += 1;
            sums.entry(name).or_insert(Quantity::ZERO).add(&quantity);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(containers: serde_json::Value) -> &'static str {
        class(&serde_json::from_value(serde_json::json!({ "containers": containers })).unwrap())
    }

    #[test]
    fn the_class_follows_from_requests_and_limits() {
        let one = serde_json::json!([{"name": "c", "resources": {}}]);
        assert_eq!(class_of(one), "BestEffort");
        let same = serde_json::json!({"cpu": "1", "memory": "1Gi"});
        let both = serde_json::json!({"limits": same, "requests": same});
        assert_eq!(class_of(serde_json::json!([{"name": "c", "resources": both}])), "Guaranteed");
        assert_eq!(
            class_of(serde_json::json!([{"name": "c", "resources": both}, {"name": "d"}])),
            "Burstable"
        );
        let some = serde_json::json!({"requests": {"cpu": "1m"}});
        assert_eq!(class_of(serde_json::json!([{"name": "c", "resources": some}])), "Burstable");
    }

    /// Upstream's `IsPodLevelResourcesSet`.
    #[test]
    fn what_the_pod_states_as_a_whole_decides_only_where_it_states_something() {
        let class_of = |whole: serde_json::Value| {
            let amounts = serde_json::json!({"cpu": "1", "memory": "1Gi"});
            let containers = serde_json::json!([{"name": "c",
                "resources": {"limits": amounts, "requests": amounts}}]);
            let spec = serde_json::json!({"containers": containers, "resources": whole});
            class(&serde_json::from_value(spec).unwrap())
        };
        for silent in ["{}", r#"{"requests": {}}"#, r#"{"limits": {}, "requests": {}}"#] {
            assert_eq!(class_of(serde_json::from_str(silent).unwrap()), "Guaranteed", "{silent}");
        }
        assert_eq!(class_of(serde_json::json!({"requests": {"cpu": "2"}})), "Burstable");
    }
}
