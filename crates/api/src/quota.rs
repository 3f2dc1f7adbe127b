//! What the objects of a namespace use of a quota, and whether one more is within it.
//!
//! The controller tells the first in a quota's status, admission asks the second; both count the same
//! way, which is upstream's. Resources are named as `secrets.` and `deployments.apps`: plural, dot,
//! group.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Affinity, Container, Pod, PodSpec, PodStatus, ResourceQuotaSpec, ResourceRequirements,
    ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Deserialize;

use crate::demand::{Resources, limits, limits_of, requests, requests_of};
use crate::kinds::pod::{is_terminal, qos};
use crate::quantity::Quantity;

/// Amounts by what a quota calls them: `pods`, `requests.cpu`, `count/secrets`.
pub type Amounts = BTreeMap<String, Quantity>;

/// A quota that asks for amounts and gets a pod that does not say them, or one that is used up.
/// Upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// A container does not say how much it needs.
    #[error("failed quota: {quota}: must specify {missing}")]
    Unspecified {
        /// The quota's name.
        quota: String,
        /// `cpu for: one,two; memory for: one`.
        missing: String,
    },
    /// There is not that much left.
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded {
        /// The quota's name.
        quota: String,
        /// What the new object adds to the resources that are exceeded: `pods=1,secrets=2`.
        requested: String,
        /// What is used of them.
        used: String,
        /// What there may be of them.
        limited: String,
    },
}

/// A stored pod as far as quotas look at it: what it asks for, what its scopes are, whether it has
/// ended. What else it says, which may be a megabyte of it, is read over.
///
/// # Errors
/// For bytes that are not pod.
pub fn read_pod(bytes: &[u8]) -> Result<Pod, serde_json::Error> {
    #[derive(Deserialize)]
    struct Stored {
        spec: Option<Spec>,
        status: Option<Status>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        #[serde(default)]
        containers: Vec<Part>,
        init_containers: Option<Vec<Part>>,
        resources: Option<ResourceRequirements>,
        overhead: Option<BTreeMap<String, Text>>,
        active_deadline_seconds: Option<i64>,
        priority_class_name: Option<String>,
        affinity: Option<Affinity>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Part {
        resources: Option<ResourceRequirements>,
        restart_policy: Option<String>,
    }
    #[derive(Deserialize)]
    struct Status {
        phase: Option<String>,
    }

    let whole = |Part { resources, restart_policy }: Part| Container {
        resources,
        restart_policy,
        ..Default::default()
    };
    let stored: Stored = serde_json::from_slice(bytes)?;
    let spec = stored.spec.map(|spec| PodSpec {
        containers: spec.containers.into_iter().map(whole).collect(),
        init_containers: spec.init_containers.map(|all| all.into_iter().map(whole).collect()),
        resources: spec.resources,
        overhead: spec.overhead,
        active_deadline_seconds: spec.active_deadline_seconds,
        priority_class_name: spec.priority_class_name,
        affinity: spec.affinity,
        ..Default::default()
    });
    let status = stored.status.map(|it| PodStatus { phase: it.phase, ..Default::default() });
    Ok(Pod { spec, status, ..Default::default() })
}

/// How much is used of each of the quota's resources in `names`. `pods` are all of the namespace;
/// `count` returns how many objects of another resource there are, if that resource is served.
pub fn used<'a>(
    spec: &ResourceQuotaSpec,
    names: impl IntoIterator<Item = &'a String>,
    pods: &[&Pod],
    count: impl Fn(&str) -> Option<usize>,
) -> Amounts {
    let matching: Vec<&Pod> = pods.iter().copied().filter(|pod| in_scope(spec, pod)).collect();
    let live: Vec<&Pod> = matching.iter().copied().filter(|pod| !is_terminal(pod)).collect();
    let (requested, limited) = (total(&live, requests), total(&live, limits));
    let amounts = names.into_iter().filter_map(|name| {
        let amount = match of_pods(name) {
            Some(PodResource::Live) => number(live.len()),
            Some(PodResource::All) => number(matching.len()),
            Some(PodResource::Requests(resource)) => requested.get(resource),
            Some(PodResource::Limits(resource)) => limited.get(resource),
            None => number(count(&qualified(name))?),
        };
        Some((name.clone(), amount))
    });
    amounts.collect()
}

/// How much a new object of `resource` adds to each of the quota's resources that it counts for.
pub fn added(spec: &ResourceQuotaSpec, resource: &str, pod: Option<&Pod>) -> Amounts {
    let names = spec.hard.iter().flat_map(BTreeMap::keys);
    match pod {
        Some(pod) => {
            let names: Vec<&String> = names.filter(|name| of_pods(name).is_some()).collect();
            if !in_scope(spec, pod) {
                return Amounts::new();
            }
            let mut amounts = used(spec, names, &[pod], |_| None);
            // What the pod says nothing of is not asked of the quota.
            amounts.retain(|_, amount| !amount.is_zero());
            amounts
        }
        // The scopes are about pods: nothing else is in one.
        None if is_scoped(spec) => Amounts::new(),
        None => names
            .filter(|name| of_pods(name).is_none() && qualified(name) == resource)
            .map(|name| (name.clone(), number(1)))
            .collect(),
    }
}

/// Whether the quota has room for what is added to what is used.
///
/// # Errors
/// What there is not enough of.
pub fn check(
    quota: &str,
    spec: &ResourceQuotaSpec,
    used: &Amounts,
    added: &Amounts,
) -> Result<(), Excess> {
    let hard = Resources::of(spec.hard.iter().flatten());
    let exceeded = |name: &&String| {
        let mut sum = used.get(*name).cloned().unwrap_or(Quantity::ZERO);
        sum.add(&added[*name]);
        sum > hard.get(name)
    };
    let names: Vec<&String> = added.keys().filter(exceeded).collect();
    if names.is_empty() {
        return Ok(());
    }
    let list = |of: &dyn Fn(&str) -> Quantity| {
        let parts: Vec<_> =
            names.iter().map(|name| format!("{name}={}", of(name).to_text().0)).collect();
        parts.join(",")
    };
    Err(Excess::Exceeded {
        quota: quota.to_owned(),
        requested: list(&|name| added[name].clone()),
        used: list(&|name| used.get(name).cloned().unwrap_or(Quantity::ZERO)),
        limited: list(&|name| hard.get(name)),
    })
}

/// Whether every container of a pod says how much it needs of what the quota is about.
///
/// # Errors
/// Which do not.
pub fn check_specified(quota: &str, spec: &ResourceQuotaSpec, pod: &Pod) -> Result<(), Excess> {
    const ASKED: &[&str] =
        &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    let Some(pod_spec) = pod.spec.as_ref().filter(|_| in_scope(spec, pod)) else { return Ok(()) };
    // A pod that says it as a whole need not say it of each container.
    let own = pod_spec.resources.as_ref();
    if own.is_some_and(|own| own.requests.is_some() || own.limits.is_some()) {
        return Ok(());
    }
    let init = pod_spec.init_containers.iter().flatten();
    let containers: Vec<&Container> = pod_spec.containers.iter().chain(init).collect();
    let mut missing = Vec::new();
    let names = spec.hard.iter().flat_map(BTreeMap::keys);
    for name in names.filter(|name| ASKED.contains(&name.as_str())) {
        let says = |container: &Container| {
            let said = container.resources.as_ref();
            match of_pods(name) {
                Some(PodResource::Requests(resource)) => requests_of(said).has(resource),
                Some(PodResource::Limits(resource)) => limits_of(said).has(resource),
                _ => true,
            }
        };
        let silent = containers.iter().filter(|container| !says(container));
        let silent: BTreeSet<&str> = silent.map(|container| container.name.as_str()).collect();
        if !silent.is_empty() {
            let silent: Vec<&str> = silent.into_iter().collect();
            missing.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Excess::Unspecified { quota: quota.to_owned(), missing: missing.join("; ") }),
    }
}

/// What a quota's resource says of pods.
enum PodResource<'a> {
    /// How many there are that have not ended.
    Live,
    /// How many there are.
    All,
    Requests(&'a str),
    Limits(&'a str),
}

fn of_pods(name: &str) -> Option<PodResource<'_>> {
    Some(match name {
        "pods" => PodResource::Live,
        "count/pods" => PodResource::All,
        "cpu" | "memory" | "ephemeral-storage" => PodResource::Requests(name),
        _ => match name.split_once('.') {
            // Of volumes, which are not served.
            Some(("requests", "storage")) => return None,
            Some(("requests", resource)) => PodResource::Requests(resource),
            Some(("limits", resource)) => PodResource::Limits(resource),
            _ if name.starts_with("hugepages-") => PodResource::Requests(name),
            _ => return None,
        },
    })
}

fn is_scoped(spec: &ResourceQuotaSpec) -> bool {
    let selector = spec.scope_selector.as_ref();
    let selected = selector.and_then(|selector| selector.match_expressions.as_ref());
    spec.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty())
        || selected.is_some_and(|selected| !selected.is_empty())
}

/// `secrets` and `count/deployments.apps` as the inventory names resources.
fn qualified(resource: &str) -> String {
    let resource = resource.strip_prefix("count/").unwrap_or(resource);
    if resource.contains('.') { resource.to_owned() } else { format!("{resource}.") }
}

fn number(count: usize) -> Quantity {
    Quantity::whole(i64::try_from(count).unwrap_or(i64::MAX))
}

fn total(pods: &[&Pod], of: fn(&PodSpec) -> Resources) -> Resources {
    let mut total = Resources::default();
    for spec in pods.iter().filter_map(|pod| pod.spec.as_ref()) {
        total.add(&of(spec));
    }
    total
}

/// Whether a pod is one of those that the quota is about.
fn in_scope(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let plain = spec.scopes.iter().flatten();
    let selected = spec.scope_selector.iter();
    let selected = selected.flat_map(|selector| selector.match_expressions.iter().flatten());
    plain.into_iter().all(|scope| has_scope(scope, pod))
        && selected.into_iter().all(|requirement| matches(requirement, pod))
}

fn has_scope(scope: &str, pod: &Pod) -> bool {
    let deadline = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
    let best_effort = || pod.spec.as_ref().is_some_and(|spec| qos::class(spec) == "BestEffort");
    match scope {
        "Terminating" => deadline.is_some_and(|seconds| seconds >= 0),
        "NotTerminating" => deadline.is_none(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => priority_class(pod).is_some(),
        "CrossNamespacePodAffinity" => pod.spec.as_ref().is_some_and(looks_into_other_namespaces),
        _ => false,
    }
}

/// Whether the pod wants to be near, or far from, pods of other namespaces.
fn looks_into_other_namespaces(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = [
        near.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref()),
        far.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = [
        near.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()),
        far.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref()),
    ];
    let preferred = preferred.into_iter().flatten().flatten().map(|it| &it.pod_affinity_term);
    let mut terms = required.into_iter().flatten().flatten().chain(preferred);
    terms.any(|term| {
        term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
            || term.namespace_selector.is_some()
    })
}

fn matches(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed =
        || priority_class(pod).is_some_and(|class| values.iter().any(|value| value == class));
    match (requirement.scope_name.as_str(), requirement.operator.as_str()) {
        ("PriorityClass", "In") => listed(),
        ("PriorityClass", "NotIn") => !listed(),
        (scope, "Exists") => has_scope(scope, pod),
        (scope, "DoesNotExist") => !has_scope(scope, pod),
        _ => false,
    }
}

fn priority_class(pod: &Pod) -> Option<&str> {
    let class = pod.spec.as_ref()?.priority_class_name.as_deref();
    class.filter(|class| !class.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(spec: Value) -> ResourceQuotaSpec {
        serde_json::from_value(spec).expect("a quota's spec")
    }

    fn pod(containers: Value) -> Pod {
        serde_json::from_value(json!({ "spec": { "containers": containers } })).expect("a pod")
    }

    fn texts(amounts: &Amounts) -> Value {
        amounts.iter().map(|(name, amount)| (name.clone(), json!(amount.to_text().0))).collect()
    }

    /// Each scope and each amount, of a pod that says all that there is to look at.
    #[test]
    fn a_pod_that_is_read_for_quotas_counts_as_the_whole_one() {
        let resources = json!({ "requests": { "cpu": "1", "memory": "2Gi", "x.y/z": "3" },
            "limits": { "cpu": "2", "memory": "3Gi", "x.y/z": "3" } });
        let pods = [
            json!({ "spec": { "containers": [{ "name": "a", "env": [{ "name": "A" }] }] } }),
            json!({
                "metadata": { "name": "p", "labels": { "a": "b" } },
                "spec": {
                    "containers": [{ "name": "a", "image": "i", "resources": resources }],
                    "initContainers": [
                        { "name": "b", "restartPolicy": "Always", "resources": resources },
                        { "name": "c", "resources": { "requests": { "cpu": "9" } } },
                    ],
                    "resources": { "limits": { "memory": "7Gi" } },
                    "overhead": { "cpu": "250m" },
                    "activeDeadlineSeconds": 5,
                    "priorityClassName": "high",
                    "affinity": { "podAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": [{
                            "topologyKey": "k", "namespaces": ["other"] }] } },
                },
                "status": { "phase": "Running", "podIP": "10.0.0.1" },
            }),
            json!({ "spec": { "containers": [{ "name": "a", "resources": resources }] },
                "status": { "phase": "Succeeded" } }),
        ];
        let hard = json!({ "pods": "1", "count/pods": "1", "requests.cpu": "1", "limits.cpu": "1",
            "requests.memory": "1", "limits.memory": "1", "requests.x.y/z": "1" });
        let scopes = [
            "Terminating",
            "NotTerminating",
            "BestEffort",
            "NotBestEffort",
            "PriorityClass",
            "CrossNamespacePodAffinity",
        ];
        let scoped = scopes.map(|scope| json!({ "hard": hard, "scopes": [scope] }));
        let by_class = json!({ "hard": hard, "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": "In", "values": ["high"] }] } });
        for pod in pods {
            let whole: Pod = serde_json::from_value(pod.clone()).expect("a pod");
            let read = read_pod(pod.to_string().as_bytes()).expect("a pod");
            for quota in scoped.iter().chain([&json!({ "hard": hard }), &by_class]) {
                let quota = spec(quota.clone());
                let names = quota.hard.iter().flat_map(BTreeMap::keys);
                let of = |pod: &Pod| used(&quota, names.clone(), &[pod], |_| None);
                assert_eq!(of(&read), of(&whole), "{quota:?} of {pod}");
            }
        }
    }

    #[test]
    fn an_object_counts_for_what_is_about_it() {
        let quota = spec(json!({ "hard": {
            "secrets": "1", "count/secrets": "1", "count/deployments.apps": "1", "pods": "1",
            "requests.cpu": "1", "limits.memory": "1Gi", "memory": "1Gi", "count/pods": "1",
        } }));
        let of = |resource, pod: Option<&Pod>| texts(&added(&quota, resource, pod));
        assert_eq!(of("secrets.", None), json!({ "secrets": "1", "count/secrets": "1" }));
        assert_eq!(of("deployments.apps", None), json!({ "count/deployments.apps": "1" }));
        assert_eq!(of("configmaps.", None), json!({}));
        let pod = pod(json!([{ "name": "c", "resources": {
            "requests": { "cpu": "250m" }, "limits": { "memory": "64Mi" } } }]));
        let expected = json!({ "pods": "1", "count/pods": "1", "requests.cpu": "250m",
            "limits.memory": "64Mi", "memory": "64Mi" });
        assert_eq!(of("pods.", Some(&pod)), expected);
        let scoped =
            spec(json!({ "scopes": ["Terminating"], "hard": { "pods": "1", "secrets": "1" } }));
        assert!(added(&scoped, "pods.", Some(&pod)).is_empty());
        assert!(added(&scoped, "secrets.", None).is_empty());
    }

    #[test]
    fn a_quota_may_be_about_pods_that_look_into_other_namespaces() {
        let quota = spec(json!({ "hard": { "pods": "0" }, "scopeSelector": { "matchExpressions": [
            { "scopeName": "CrossNamespacePodAffinity", "operator": "Exists" }] } }));
        let with = |term: Value| -> Pod {
            let affinity = json!({ "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    { "weight": 1, "podAffinityTerm": term }] } });
            serde_json::from_value(json!({ "spec": { "containers": [], "affinity": affinity } }))
                .expect("a pod")
        };
        let own = with(json!({ "topologyKey": "k" }));
        assert!(added(&quota, "pods.", Some(&own)).is_empty());
        let other = with(json!({ "topologyKey": "k", "namespaces": ["n"] }));
        assert_eq!(texts(&added(&quota, "pods.", Some(&other))), json!({ "pods": "1" }));
        let all = with(json!({ "topologyKey": "k", "namespaceSelector": {} }));
        assert_eq!(added(&quota, "pods.", Some(&all)).len(), 1);
    }

    #[test]
    fn only_exceeded_resources_are_reported() {
        let quota =
            spec(json!({ "hard": { "pods": "3", "requests.cpu": "1", "limits.cpu": "9" } }));
        let amounts = |pairs: [(&str, &str); 3]| -> Amounts {
            let parse = |text| Quantity::parse(text).expect("an amount");
            pairs.into_iter().map(|(name, text)| (name.to_owned(), parse(text))).collect()
        };
        let used = amounts([("pods", "3"), ("requests.cpu", "750m"), ("limits.cpu", "2")]);
        let wanted = amounts([("pods", "1"), ("requests.cpu", "500m"), ("limits.cpu", "1")]);
        let error = check("q", &quota, &used, &wanted).expect_err("too much").to_string();
        assert_eq!(
            error,
            "exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=3,requests.cpu=750m, limited: pods=3,requests.cpu=1"
        );
        let fits = amounts([("pods", "0"), ("requests.cpu", "250m"), ("limits.cpu", "7")]);
        assert_eq!(check("q", &quota, &used, &fits), Ok(()));
    }

    #[test]
    fn a_quota_of_amounts_wants_every_container_to_say_them() {
        let quota = spec(json!({ "hard": { "limits.memory": "1Gi", "cpu": "1", "pods": "1" } }));
        let silent = pod(json!([
            { "name": "two", "resources": { "limits": { "cpu": "1" } } }, { "name": "one" },
        ]));
        let error = check_specified("q", &quota, &silent).expect_err("silent").to_string();
        assert_eq!(error, "failed quota: q: must specify cpu for: one; limits.memory for: one,two");
        let loud = pod(json!([{ "name": "c", "resources": {
            "limits": { "cpu": "1", "memory": "1Gi" } } }]));
        assert_eq!(check_specified("q", &quota, &loud), Ok(()));
        let mut whole = silent.clone();
        let amounts = json!({ "limits": { "cpu": "1", "memory": "1Gi" } });
        whole.spec.as_mut().unwrap().resources = serde_json::from_value(amounts).unwrap();
        assert_eq!(check_specified("q", &quota, &whole), Ok(()));
    }
}
