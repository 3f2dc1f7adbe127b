//! How much of each resource a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::kinds::pod::is_sidecar;
use crate::quantity::Quantity;

/// Amounts by resource name.
#[derive(Clone, Debug, Default)]
pub struct Resources(BTreeMap<String, Quantity>);

impl Resources {
    /// Reads amounts as objects carry them. The API server has validated them; one that does not
    /// parse counts as nothing.
    pub fn of<'a>(amounts: impl IntoIterator<Item = (&'a String, &'a Text)>) -> Self {
        let parsed = amounts.into_iter().filter_map(|(name, text)| {
            let amount = Quantity::of(text).ok()?;
            Some((name.clone(), amount))
        });
        Self(parsed.collect())
    }

    /// The amount of one resource, zero if there is none.
    pub fn get(&self, name: &str) -> Quantity {
        self.0.get(name).cloned().unwrap_or(Quantity::ZERO)
    }

    /// Whether anything is said of a resource.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Resources that are asked for, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), amount))
    }

    /// Adds other amounts to these.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.0.entry(name.clone()).or_insert(Quantity::ZERO).add(amount);
        }
    }

    /// Takes other amounts, which were added before, away again.
    pub fn sub(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.0.entry(name.clone()).or_insert(Quantity::ZERO).sub(amount);
        }
    }

    /// Raises each amount to the other one where that is larger.
    fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let here = self.0.entry(name.clone()).or_insert(Quantity::ZERO);
            if amount > here {
                *here = amount.clone();
            }
        }
    }
}

/// What a pod needs at its fullest: all its containers together, or an init container with the
/// sidecars started before it, whichever is more; and what its sandbox costs.
pub fn requests(spec: &PodSpec) -> Resources {
    at_fullest(spec, requests_of)
}

/// The most that a pod may take, counted the same way.
pub fn limits(spec: &PodSpec) -> Resources {
    at_fullest(spec, limits_of)
}

/// Whether a pod may say of a resource what it needs as a whole.
fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// What the pod says as a whole counts instead of its containers' sum.
fn at_fullest(spec: &PodSpec, of: fn(Option<&ResourceRequirements>) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container.resources.as_ref()));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut asked = of(container.resources.as_ref());
        if is_sidecar(container) {
            running.add(&asked);
            sidecars.add(&asked);
            starting.raise(&sidecars);
        } else {
            asked.add(&sidecars);
            starting.raise(&asked);
        }
    }
    running.raise(&starting);
    let own = of(spec.resources.as_ref()).0;
    running.0.extend(own.into_iter().filter(|(name, _)| is_of_pods(name)));
    running.add(&Resources::of(spec.overhead.iter().flatten()));
    running
}

/// A limit without a request is a request.
pub(crate) fn requests_of(said: Option<&ResourceRequirements>) -> Resources {
    let mut asked = limits_of(said);
    let requests = said.and_then(|said| said.requests.as_ref());
    asked.0.extend(Resources::of(requests.into_iter().flatten()).0);
    asked
}

pub(crate) fn limits_of(said: Option<&ResourceRequirements>) -> Resources {
    Resources::of(said.and_then(|said| said.limits.as_ref()).into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).expect("a pod")
    }

    fn asks(cpu: &str) -> serde_json::Value {
        json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } })
    }

    #[test]
    fn init_containers_count_only_if_they_need_more_than_the_rest() {
        let cpu = |spec| requests(pod(spec).spec.as_ref().unwrap()).get("cpu").milli();
        assert_eq!(cpu(json!({ "containers": [asks("100m"), asks("1")] })), 1100);
        let small = json!({ "containers": [asks("1")], "initContainers": [asks("500m")] });
        assert_eq!(cpu(small), 1000);
        let large = json!({ "containers": [asks("1")], "initContainers": [asks("2")] });
        assert_eq!(cpu(large), 2000);
        let mut sidecar = asks("1");
        sidecar["restartPolicy"] = "Always".into();
        let with_sidecar =
            json!({ "containers": [asks("1")], "initContainers": [sidecar, asks("1500m")] });
        assert_eq!(cpu(with_sidecar), 2500);
        let overhead = json!({ "containers": [asks("1")], "overhead": { "cpu": "250m" } });
        assert_eq!(cpu(overhead), 1250);
    }

    #[test]
    fn what_a_pod_says_as_a_whole_counts_instead_of_its_containers_sum() {
        let spec = json!({ "containers": [asks("1m"), asks("1")], "overhead": { "cpu": "1m" },
            "resources": { "requests": { "cpu": "64" }, "limits": { "cpu": "65", "memory": "1Gi" } } });
        let asked = requests(pod(spec.clone()).spec.as_ref().unwrap());
        assert_eq!((asked.get("cpu").milli(), asked.get("memory").units()), (64_001, 1 << 30));
        let limited = limits(pod(spec).spec.as_ref().unwrap());
        assert_eq!(limited.get("cpu").milli(), 65_001);
    }

    #[test]
    fn a_limit_without_a_request_is_a_request() {
        let spec = json!({ "containers": [{ "name": "c", "resources": {
            "limits": { "cpu": "2", "memory": "1Gi" }, "requests": { "cpu": "1" } } }] });
        let asked = requests(pod(spec).spec.as_ref().unwrap());
        assert_eq!(asked.get("cpu").milli(), 1000);
        assert_eq!(asked.get("memory").units(), 1 << 30);
    }
}
