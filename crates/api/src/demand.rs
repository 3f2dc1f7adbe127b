//! How much of each resource a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::quantity::Quantity;

/// Amounts by resource name.
#[derive(Clone, Debug, Default)]
pub struct Resources(BTreeMap<String, Quantity>);

impl Resources {
    /// Reads amounts as objects carry them, each as sums count it ([`Quantity::bounded`]). The API server has
    /// validated them, or is about to; one that does not parse counts as nothing.
    pub fn of<'a>(amounts: impl IntoIterator<Item = (&'a String, &'a Text)>) -> Self {
        let exact = Self::exact(amounts).0.into_iter();
        Self(exact.map(|(name, amount)| (name, amount.bounded())).collect())
    }

    /// Reads amounts as they are written, to compare them. Sums of them may saturate.
    pub fn exact<'a>(amounts: impl IntoIterator<Item = (&'a String, &'a Text)>) -> Self {
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
            let here = self.0.entry(name.clone()).or_insert_with(|| amount.clone());
            if amount > here {
                *here = amount.clone();
            }
        }
    }

    /// Takes over each of the other amounts that is zero or absent here.
    fn fill(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let here = self.0.entry(name.clone()).or_insert(Quantity::ZERO);
            if here.is_zero() {
                *here = amount.clone();
            }
        }
    }
}

type Amounts = BTreeMap<String, Text>;

/// What a pod needs at its fullest: all its containers together, or an init container with the
/// sidecars started before it, whichever is more; what it asks for as a whole, where that is more yet; and
/// what its sandbox costs.
pub fn requests(spec: &PodSpec) -> Resources {
    let mut asked = of_containers(spec, requests_of);
    asked.raise(&of_pods(requests_of(spec.resources.as_ref())));
    with_overhead(spec, asked)
}

/// The most that a pod may take, counted the same way. A container without a limit of its own may take as much
/// as the pod as a whole: that is what its node gives it.
pub fn limits(spec: &PodSpec) -> Resources {
    let whole = of_pods(limits_of(spec.resources.as_ref()));
    let mut limits = of_containers(spec, |said| {
        let mut own = limits_of(said);
        own.fill(&whole);
        own
    });
    limits.raise(&whole);
    with_overhead(spec, limits)
}

/// What a pod would need and take less than nothing of, as quotas name it (`cpu`, `limits.memory`), in order.
/// Validation refuses such a pod; until then it must not make room for others.
pub fn negative(spec: &PodSpec) -> Vec<String> {
    let is_measured = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage");
    let below = |of: fn(Option<&ResourceRequirements>) -> Resources| {
        let mut all = of_containers(spec, of).0;
        // Upstream's count, where the pod as a whole goes before its containers.
        all.extend(of_pods(of(spec.resources.as_ref())).0);
        all.into_iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name)
    };
    let mut names: Vec<String> = below(|said| exact(said, stated_limits))
        .filter(|name| is_measured(name))
        .map(|name| format!("limits.{name}"))
        .collect();
    for name in below(exact_requests) {
        names.push(format!("requests.{name}"));
        if is_measured(&name) || name.starts_with(HUGE_PAGES) {
            names.push(name);
        }
    }
    names.sort();
    names
}

/// What the containers of a pod state together that they request, exactly as they write it.
pub(crate) fn stated_by_containers(spec: &PodSpec) -> Resources {
    of_containers(spec, |said| exact(said, |said| said.requests.as_ref()))
}

/// The same of limits.
pub(crate) fn limited_by_containers(spec: &PodSpec) -> Resources {
    of_containers(spec, |said| exact(said, stated_limits))
}

/// Whether an init container keeps running with the pod's containers, as `restartPolicy: Always` says.
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// Whether a pod may say of a resource what it needs as a whole.
pub(crate) fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with(HUGE_PAGES)
}

const HUGE_PAGES: &str = "hugepages-";

fn of_pods(mut whole: Resources) -> Resources {
    whole.0.retain(|name, _| is_of_pods(name));
    whole
}

fn with_overhead(spec: &PodSpec, mut asked: Resources) -> Resources {
    asked.add(&Resources::of(spec.overhead.iter().flatten()));
    asked
}

fn of_containers(
    spec: &PodSpec,
    of: impl Fn(Option<&ResourceRequirements>) -> Resources,
) -> Resources {
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
    Resources::of(said.and_then(stated_limits).into_iter().flatten())
}

fn exact_requests(said: Option<&ResourceRequirements>) -> Resources {
    let mut asked = exact(said, stated_limits);
    asked.0.extend(exact(said, |said| said.requests.as_ref()).0);
    asked
}

fn exact(
    said: Option<&ResourceRequirements>,
    amounts: fn(&ResourceRequirements) -> Option<&Amounts>,
) -> Resources {
    Resources::exact(said.and_then(amounts).into_iter().flatten())
}

fn stated_limits(said: &ResourceRequirements) -> Option<&Amounts> {
    said.limits.as_ref()
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
    fn what_a_pod_says_as_a_whole_counts_where_it_is_more_than_its_containers_sum() {
        let whole = |resources: serde_json::Value| {
            let spec = json!({ "containers": [asks("1m"), asks("1")], "overhead": { "cpu": "1m" },
                "resources": resources });
            let asked = requests(pod(spec).spec.as_ref().unwrap());
            (asked.get("cpu").milli(), asked.get("memory").units())
        };
        let more =
            json!({ "requests": { "cpu": "64" }, "limits": { "cpu": "65", "memory": "1Gi" } });
        assert_eq!(whole(more), (64_001, 1 << 30));
        for less in [json!({ "requests": { "cpu": "1m" } }), json!({ "requests": {} }), json!({})] {
            assert_eq!(whole(less.clone()), (1002, 0), "{less}");
        }
        let foreign = json!({ "requests": { "example.com/x": "9" } });
        let spec = json!({ "containers": [asks("1")], "resources": foreign });
        assert!(requests(pod(spec).spec.as_ref().unwrap()).get("example.com/x").is_zero());
    }

    /// A node gives a container without a limit the pod's as a whole, and each such container all of it.
    #[test]
    fn a_container_without_a_limit_counts_with_the_whole_pods() {
        let limited = |memory: &str| {
            json!({ "name": "c", "resources": {
            "limits": { "memory": memory } } })
        };
        let silent = json!({ "name": "s" });
        let memory = |containers: serde_json::Value, init: serde_json::Value| {
            let spec = json!({ "containers": containers, "initContainers": init,
                "resources": { "limits": { "memory": "4Gi" } } });
            limits(pod(spec).spec.as_ref().unwrap()).get("memory").units() >> 30
        };
        let none = json!([]);
        assert_eq!(memory(json!([silent]), none.clone()), 4);
        assert_eq!(memory(json!([silent, silent]), none.clone()), 8);
        assert_eq!(memory(json!([limited("1Gi"), limited("1Gi")]), none.clone()), 4);
        assert_eq!(memory(json!([limited("3Gi"), limited("0")]), none.clone()), 7);
        assert_eq!(memory(json!([limited("1Gi")]), json!([silent])), 4);
        let sidecar = json!({ "name": "i", "restartPolicy": "Always" });
        assert_eq!(memory(json!([limited("1Gi")]), json!([sidecar])), 5);
    }

    #[test]
    fn less_than_nothing_counts_as_nothing_and_is_named_as_quotas_name_it() {
        let of = |cpu: &str, limit: &str| {
            pod(json!({ "containers": [
                { "name": "c", "resources": { "requests": { "cpu": cpu, "example.com/x": cpu } } },
                { "name": "d", "resources": { "limits": { "memory": limit } } },
            ] }))
            .spec
            .unwrap()
        };
        let below = of("-1000", "-1");
        assert!(requests(&below).iter().all(|(_, amount)| amount.is_zero()));
        assert!(limits(&below).iter().all(|(_, amount)| amount.is_zero()));
        let named = ["cpu", "limits.memory", "memory", "requests.cpu", "requests.example.com/x"];
        assert_eq!(negative(&below), [&named[..], &["requests.memory"]].concat());
        assert!(negative(&of("1", "1")).is_empty());
        let whole = json!({ "containers": [], "resources": { "requests": { "cpu": "-1" } } });
        assert_eq!(negative(pod(whole).spec.as_ref().unwrap()), ["cpu", "requests.cpu"]);
    }

    #[test]
    fn what_was_added_is_taken_away_again_however_much_it_was() {
        let huge = requests(pod(json!({ "containers": [asks("170e36")] })).spec.as_ref().unwrap());
        let small = requests(pod(json!({ "containers": [asks("1m")] })).spec.as_ref().unwrap());
        let mut sum = small.clone();
        for _ in 0..1000 {
            sum.add(&huge);
        }
        assert!(sum.get("cpu") > huge.get("cpu"));
        for _ in 0..1000 {
            sum.sub(&huge);
        }
        assert_eq!(sum.get("cpu"), small.get("cpu"));
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
