//! What the objects of a namespace use of a quota, and whether one more is within it.
//!
//! The controller tells the first in a quota's status, admission asks the second; both count the same
//! way, which is upstream's. Resources are named as `secrets.` and `deployments.apps`: plural, dot,
//! group.

mod pod;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, Pod, ResourceQuota, ResourceQuotaSpec, ResourceRequirements,
};

pub use self::pod::{PodUsage, Totals};
use crate::demand::{self, Resources, limits_of, requests_of};
use crate::quantity::Quantity;

/// Amounts by what a quota calls them: `pods`, `requests.cpu`, `count/secrets`.
pub type Amounts = BTreeMap<String, Quantity>;

/// A quota that asks for amounts and gets a pod that does not say them, or one that is used up.
/// Upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaExceeded {
    /// A container does not say how much it needs.
    #[error("failed quota: {quota}: must specify {missing}")]
    Unspecified {
        /// The quota's name.
        quota: String,
        /// `cpu for: one,two; memory for: one`.
        missing: String,
    },
    /// The pod would need or take less than nothing, and so make room for others.
    #[error("quota usage is negative for resource(s): {resources}")]
    Negative {
        /// What of: `cpu,requests.cpu`.
        resources: String,
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

/// A quota that is read once and asked often.
#[derive(Clone, Debug)]
pub struct Quota {
    name: String,
    spec: ResourceQuotaSpec,
    hard: Resources,
}

impl Quota {
    /// A quota as it is stored.
    pub fn of(quota: ResourceQuota) -> Self {
        let spec = quota.spec.unwrap_or_default();
        let hard = Resources::exact(spec.hard.iter().flatten());
        Self { name: quota.metadata.name.unwrap_or_default(), spec, hard }
    }

    /// What it is about and how much there may be.
    pub fn spec(&self) -> &ResourceQuotaSpec {
        &self.spec
    }

    /// How much a new object of `resource` adds to each of the quota's resources that it counts for.
    pub fn added(&self, resource: &str, pod: Option<&PodUsage>) -> Amounts {
        added_by(&self.spec, resource, pod)
    }

    /// Whether every container of a pod says how much it needs of what the quota is about.
    ///
    /// # Errors
    /// Which do not.
    pub fn check_specified(&self, pod: &Pod) -> Result<(), QuotaExceeded> {
        check_specified(&self.name, &self.spec, pod)
    }

    /// Whether the quota counts anything of the pod: it is in the quota's scopes, and something that pods need
    /// is limited.
    pub fn is_about(&self, pod: &PodUsage) -> bool {
        let mut names = self.spec.hard.iter().flat_map(BTreeMap::keys);
        pod.is_in_scope(&self.spec) && names.any(|name| of_pods(name).is_some())
    }

    /// Whether the quota has room for what is added to what is used.
    ///
    /// # Errors
    /// What there is not enough of.
    pub fn check(&self, used: &Amounts, added: &Amounts) -> Result<(), QuotaExceeded> {
        check_hard(&self.name, &self.hard, used, added)
    }
}

/// Whether a pod needs and takes no less than nothing of everything.
///
/// # Errors
/// Of what it does not.
pub fn check_positive(pod: &Pod) -> Result<(), QuotaExceeded> {
    let negative = pod.spec.as_ref().map(demand::negative).unwrap_or_default();
    match negative.is_empty() {
        true => Ok(()),
        false => Err(QuotaExceeded::Negative { resources: negative.join(",") }),
    }
}

/// How much is used of each resource in `names`. `pods` are those that the quota is about; `count`
/// returns how many objects of another resource there are, if that resource is served.
pub fn used_of<'a>(
    names: impl IntoIterator<Item = &'a String>,
    pods: &Totals,
    count: impl Fn(&str) -> Option<usize>,
) -> Amounts {
    let amounts = names.into_iter().filter_map(|name| {
        let of_pods = pods.amount(name);
        let amount = of_pods.or_else(|| count(&qualified(name)).map(number))?;
        Some((name.clone(), amount))
    });
    amounts.collect()
}

/// How much is used of each of the quota's resources in `names`. `pods` are all of the namespace;
/// `count` returns how many objects of another resource there are, if that resource is served.
pub fn used<'a>(
    spec: &ResourceQuotaSpec,
    names: impl IntoIterator<Item = &'a String>,
    pods: &[&Pod],
    count: impl Fn(&str) -> Option<usize>,
) -> Amounts {
    let pods: Vec<PodUsage> = pods.iter().map(|pod| PodUsage::of(pod)).collect();
    let totals = Totals::of(pods.iter().filter(|pod| pod.is_in_scope(spec)));
    used_of(names, &totals, count)
}

/// How much a new object of `resource` adds to each of the quota's resources that it counts for.
pub fn added(spec: &ResourceQuotaSpec, resource: &str, pod: Option<&Pod>) -> Amounts {
    added_by(spec, resource, pod.map(PodUsage::of).as_ref())
}

fn added_by(spec: &ResourceQuotaSpec, resource: &str, pod: Option<&PodUsage>) -> Amounts {
    let names = spec.hard.iter().flat_map(BTreeMap::keys);
    match pod {
        Some(pod) => {
            if !pod.is_in_scope(spec) {
                return Amounts::new();
            }
            let mut amounts = used_of(names, &Totals::of([pod]), |_| None);
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
) -> Result<(), QuotaExceeded> {
    check_hard(quota, &Resources::exact(spec.hard.iter().flatten()), used, added)
}

fn check_hard(
    quota: &str,
    hard: &Resources,
    used: &Amounts,
    added: &Amounts,
) -> Result<(), QuotaExceeded> {
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
    Err(QuotaExceeded::Exceeded {
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
pub fn check_specified(
    quota: &str,
    spec: &ResourceQuotaSpec,
    pod: &Pod,
) -> Result<(), QuotaExceeded> {
    const ASKED: &[&str] =
        &["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
    let Some(pod_spec) = pod.spec.as_ref().filter(|_| PodUsage::of(pod).is_in_scope(spec)) else {
        return Ok(());
    };
    let init = pod_spec.init_containers.iter().flatten();
    let containers: Vec<&Container> = pod_spec.containers.iter().chain(init).collect();
    let mut missing = Vec::new();
    let names = spec.hard.iter().flat_map(BTreeMap::keys);
    for name in names.filter(|name| ASKED.contains(&name.as_str())) {
        let says = |said: Option<&ResourceRequirements>| match of_pods(name) {
            Some(PodResource::Requests(resource)) => requests_of(said).has(resource),
            Some(PodResource::Limits(resource)) => limits_of(said).has(resource),
            _ => true,
        };
        // What a pod says as a whole it need not say of each container.
        if says(pod_spec.resources.as_ref()) {
            continue;
        }
        let silent = containers.iter().filter(|container| !says(container.resources.as_ref()));
        let silent: BTreeSet<&str> = silent.map(|container| container.name.as_str()).collect();
        if !silent.is_empty() {
            let silent: Vec<&str> = silent.into_iter().collect();
            missing.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    match missing.is_empty() {
        true => Ok(()),
        false => {
            Err(QuotaExceeded::Unspecified { quota: quota.to_owned(), missing: missing.join("; ") })
        }
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
                "metadata": { "name": "p", "labels": { "a": "b" },
                    "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30 },
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
            let whole = PodUsage::of(&whole);
            let read = PodUsage::read(pod.to_string().as_bytes()).expect("a pod");
            assert_eq!(read, whole);
            for quota in scoped.iter().chain([&json!({ "hard": hard }), &by_class]) {
                let quota = spec(quota.clone());
                let names = quota.hard.iter().flat_map(BTreeMap::keys);
                let of = |pod: &PodUsage| {
                    let totals =
                        Totals::of([pod].into_iter().filter(|pod| pod.is_in_scope(&quota)));
                    used_of(names.clone(), &totals, |_| None)
                };
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

    /// What a pod says as a whole excuses its containers from saying that, and nothing else.
    #[test]
    fn a_pod_that_says_something_else_as_a_whole_is_asked_of_each_container() {
        let quota = spec(json!({ "hard": { "limits.memory": "1Gi", "requests.cpu": "1" } }));
        let missing = |whole: Value| {
            let mut pod = pod(json!([{ "name": "c" }]));
            pod.spec.as_mut().unwrap().resources = serde_json::from_value(whole).unwrap();
            match check_specified("q", &quota, &pod) {
                Err(QuotaExceeded::Unspecified { missing, .. }) => missing,
                other => format!("{other:?}"),
            }
        };
        let both = "limits.memory for: c; requests.cpu for: c";
        for silent in [
            json!({}),
            json!({ "requests": {} }),
            json!({ "limits": {} }),
            json!({ "claims": [{ "name": "c" }] }),
            json!({ "requests": { "memory": "1Gi" } }),
            json!({ "limits": { "hugepages-2Mi": "2Mi" } }),
        ] {
            assert_eq!(missing(silent.clone()), both, "{silent}");
        }
        assert_eq!(missing(json!({ "requests": { "cpu": "1m" } })), "limits.memory for: c");
        assert_eq!(missing(json!({ "limits": { "cpu": "1" } })), "limits.memory for: c");
        assert_eq!(missing(json!({ "limits": { "memory": "1" } })), "requests.cpu for: c");
    }

    #[test]
    fn pods_of_absurd_amounts_leave_the_totals_as_they_were() {
        let pods: Vec<PodUsage> = ["170e36", "170e36", "1", "-1000", "1e32000", "250m"]
            .map(|cpu| {
                let amounts = json!({ "cpu": cpu, "memory": cpu });
                let resources = json!({ "requests": amounts, "limits": amounts });
                PodUsage::of(&pod(json!([{ "name": "c", "resources": resources }])))
            })
            .into();
        let mut totals = Totals::of(&pods);
        for pod in &pods {
            totals.sub(pod);
        }
        assert_eq!(totals, Totals::default());
        let one = Totals::of(&pods[2..4]);
        assert_eq!(one.amount("requests.cpu"), Some(Quantity::whole(1)));
    }

    #[test]
    fn a_pod_that_needs_less_than_nothing_is_refused_with_upstreams_message() {
        let below = pod(json!([{ "name": "c", "resources": { "requests": { "cpu": "-1000" } } }]));
        let error = check_positive(&below).expect_err("negative").to_string();
        assert_eq!(error, "quota usage is negative for resource(s): cpu,requests.cpu");
        let above = pod(json!([{ "name": "c", "resources": { "requests": { "cpu": "0" } } }]));
        assert_eq!(check_positive(&above), Ok(()));
        let about = |spec: Value| {
            let quota = json!({ "metadata": { "name": "q" }, "spec": spec });
            let quota = Quota::of(serde_json::from_value(quota).expect("a quota"));
            quota.is_about(&PodUsage::of(&below))
        };
        assert!(about(json!({ "hard": { "count/pods": "1" } })));
        assert!(!about(json!({ "hard": { "secrets": "1" } })));
        assert!(!about(json!({ "hard": { "pods": "1" }, "scopes": ["Terminating"] })));
    }
}
