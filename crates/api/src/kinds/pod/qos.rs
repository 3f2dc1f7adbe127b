//! The quality-of-service class, which follows from requests and limits and never changes: the API server
//! sets it when the pod is created, the kubelet derives the OOM score of containers from it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};

use super::level;
use super::resources::Amounts;
use crate::kinds::optional::list;
use crate::quantity::Quantity;

type Sums<'a> = BTreeMap<&'a str, Quantity>;

text_enum! {
    /// `status.qosClass` of a pod.
    pub enum QosClass {
        /// Its limits are its requests.
        Guaranteed = "Guaranteed",
        /// It has requests or limits.
        Burstable = "Burstable",
        /// It has neither.
        BestEffort = "BestEffort",
    }
}

impl QosClass {
    /// A pod's class: the one that it got when it was created; of its spec if it has none, as upstream's
    /// `GetPodQOS`.
    pub fn of(pod: &Pod) -> Self {
        let known = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
        known.and_then(Self::parse).unwrap_or_else(|| match &pod.spec {
            Some(spec) => Self::of_spec(spec),
            None => Self::BestEffort,
        })
    }

    /// The class of a pod with this spec.
    pub fn of_spec(spec: &PodSpec) -> Self {
        let (mut requests, mut limits) = (Sums::new(), Sums::new());
        let mut guaranteed = true;
        for requirements in stated(spec) {
            add_up(&mut requests, requirements.and_then(|it| it.requests.as_ref()));
            // Both processors and memory must be limited, everywhere.
            guaranteed &= add_up(&mut limits, requirements.and_then(|it| it.limits.as_ref())) == 2;
        }
        match (requests.is_empty() && limits.is_empty(), guaranteed && requests == limits) {
            (true, _) => Self::BestEffort,
            (false, true) => Self::Guaranteed,
            (false, false) => Self::Burstable,
        }
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
    use serde_json::json;

    use super::*;

    fn class_of(spec: serde_json::Value) -> QosClass {
        QosClass::of_spec(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn the_class_follows_from_the_containers_requests_and_limits() {
        let class_of = |containers| class_of(json!({ "containers": containers }));
        assert_eq!(class_of(json!([{"name": "c", "resources": {}}])), QosClass::BestEffort);
        let same = json!({"cpu": "1", "memory": "1Gi"});
        let both = json!({"limits": same, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        assert_eq!(class_of(json!([{"name": "c", "resources": both}])), QosClass::Guaranteed);
        let one_without = json!([{"name": "c", "resources": both}, {"name": "d"}]);
        assert_eq!(class_of(one_without), QosClass::Burstable);
        let some = json!({"requests": {"cpu": "1m"}});
        assert_eq!(class_of(json!([{"name": "c", "resources": some}])), QosClass::Burstable);
        let less = json!({"limits": same, "requests": {"cpu": "500m", "memory": "1Gi"}});
        assert_eq!(class_of(json!([{"name": "c", "resources": less}])), QosClass::Burstable);
    }

    #[test]
    fn the_requests_and_limits_of_the_pod_count_instead_of_its_containers() {
        let same = json!({"cpu": "1", "memory": "1Gi"});
        let pod = |resources| {
            let own = json!({"requests": {"cpu": "1m"}});
            let containers = json!([{"name": "c"}, {"name": "d", "resources": own}]);
            class_of(json!({ "containers": containers, "resources": resources }))
        };
        assert_eq!(pod(json!({"limits": same, "requests": same})), QosClass::Guaranteed);
        assert_eq!(pod(json!({"requests": same})), QosClass::Burstable);
        assert_eq!(
            pod(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})),
            QosClass::Burstable
        );
    }

    #[test]
    fn a_pod_keeps_the_class_that_it_was_created_with() {
        let pod = |status| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": []}, "status": status})).unwrap()
        };
        assert_eq!(QosClass::of(&pod(json!({"qosClass": "Guaranteed"}))), QosClass::Guaranteed);
        assert_eq!(QosClass::of(&pod(json!({}))), QosClass::BestEffort);
        assert_eq!(QosClass::of(&pod(json!({"qosClass": "best"}))), QosClass::BestEffort);
    }

    /// Upstream's `IsPodLevelResourcesSet`.
    #[test]
    fn what_the_pod_states_as_a_whole_decides_only_where_it_states_something() {
        let class_of = |whole: serde_json::Value| {
            let amounts = serde_json::json!({"cpu": "1", "memory": "1Gi"});
            let containers = serde_json::json!([{"name": "c",
                "resources": {"limits": amounts, "requests": amounts}}]);
            let spec = serde_json::json!({"containers": containers, "resources": whole});
            QosClass::of_spec(&serde_json::from_value(spec).unwrap()).as_str()
        };
        for silent in ["{}", r#"{"requests": {}}"#, r#"{"limits": {}, "requests": {}}"#] {
            assert_eq!(class_of(serde_json::from_str(silent).unwrap()), "Guaranteed", "{silent}");
        }
        assert_eq!(class_of(serde_json::json!({"requests": {"cpu": "2"}})), "Burstable");
    }
}
