//! LimitRanger: containers of a new pod get the defaults of the namespace's LimitRanges, and the requests and
//! limits of containers and of the pod must be within those of the LimitRanges.
//!
//! Only new pods are checked, as upstream: a pod's requests do not change afterwards. Ranges are taken
//! by name, all defaults before any limit, so that the limits apply to the defaults, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_api::demand;
use coffer_api::kinds::limit_range::{CONTAINER, POD};
use coffer_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, LimitRange, LimitRangeItem, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::parsed::{Named, Parsed};
use crate::object::Resources;

/// Says what was given to a pod's containers.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

type Amounts = BTreeMap<String, Text>;

/// What a LimitRange says, read.
pub(super) struct Limits {
    /// What containers get.
    limits: Amounts,
    requests: Amounts,
    bounds: Vec<Bounds>,
}

/// What one item allows.
struct Bounds {
    of: Of,
    min: Vec<(String, Quantity)>,
    max: Vec<(String, Quantity)>,
    ratio: Vec<(String, Quantity)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Container,
    Pod,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Container => CONTAINER,
            Self::Pod => POD,
        }
    }
}

impl Limits {
    /// `None` where an amount cannot be read. What is not about pods is left out.
    fn of(range: LimitRange) -> Option<Self> {
        let mut all = Self { limits: Amounts::new(), requests: Amounts::new(), bounds: Vec::new() };
        for item in range.spec.into_iter().flat_map(|spec| spec.limits) {
            let of = match item.type_.as_str() {
                CONTAINER => Of::Container,
                POD => Of::Pod,
                _ => continue,
            };
            let LimitRangeItem {
                default,
                default_request,
                max,
                min,
                max_limit_request_ratio,
                type_: _,
            } = item;
            if of == Of::Container {
                all.limits.extend(default.unwrap_or_default());
                all.requests.extend(default_request.unwrap_or_default());
            }
            let (min, max) = (read(min)?, read(max)?);
            all.bounds.push(Bounds { of, min, max, ratio: read(max_limit_request_ratio)? });
        }
        all.limits
            .values()
            .chain(all.requests.values())
            .all(|it| Quantity::of(it).is_ok())
            .then_some(all)
    }
}

fn read(amounts: Option<Amounts>) -> Option<Vec<(String, Quantity)>> {
    let read = |(name, text): (String, Text)| Some((name, Quantity::of(&text).ok()?));
    amounts.into_iter().flatten().map(read).collect()
}

/// The limits of all namespaces.
pub(super) struct LimitRanges(Arc<Parsed<Limits>>);

impl LimitRanges {
    pub(super) fn new(resources: &Resources) -> Self {
        Self(Parsed::of_kind(resources, Limits::of))
    }

    /// A new pod, changed to what its namespace's ranges give.
    ///
    /// # Errors
    /// Why the pod is refused, for a 403.
    pub(super) fn admit(&self, pod: &mut Pod) -> Result<(), String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let ranges = self.0.of(namespace);
        if ranges.is_empty() { Ok(()) } else { apply(&ranges, pod) }
    }
}

fn apply(ranges: &Named<Limits>, pod: &mut Pod) -> Result<(), String> {
    let ranges: Option<Vec<&Limits>> = ranges.values().map(Option::as_deref).collect();
    let Some(ranges) = ranges else {
        let why = "unable to CREATE /v1, Resource=pods at this time because there was an error enforcing limit ranges";
        return Err(why.to_owned());
    };
    for range in &ranges {
        set_defaults(range, pod);
    }
    let Some(spec) = &pod.spec else { return Ok(()) };
    for range in ranges {
        let violations = violations(range, spec);
        if !violations.is_empty() {
            return Err(aggregated(&violations));
        }
    }
    Ok(())
}

fn set_defaults(range: &Limits, pod: &mut Pod) {
    let Some(spec) = &mut pod.spec else { return };
    let mut notes = Vec::new();
    for container in &mut spec.containers {
        set_container(range, container, "container", &mut notes);
    }
    for container in spec.init_containers.iter_mut().flatten() {
        set_container(range, container, "init container", &mut notes);
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.metadata.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), text);
    }
}

fn set_container(range: &Limits, container: &mut Container, what: &str, notes: &mut Vec<String>) {
    let resources = container.resources.get_or_insert_default();
    let requests = fill_in(&mut resources.requests, &range.requests);
    let limits = fill_in(&mut resources.limits, &range.limits);
    for (set, which) in [(requests, "request"), (limits, "limit")] {
        if !set.is_empty() {
            notes.push(format!("{} {which} for {what} {}", set.join(", "), container.name));
        }
    }
}

/// Returns the names of what was set, sorted.
fn fill_in<'a>(amounts: &mut Option<Amounts>, from: &'a Amounts) -> Vec<&'a str> {
    let mut set = Vec::new();
    for (name, amount) in from {
        let there = amounts.as_ref().is_some_and(|amounts| amounts.contains_key(name));
        if !there {
            amounts.get_or_insert_default().insert(name.clone(), amount.clone());
            set.push(name.as_str());
        }
    }
    set
}

/// What something asks for, by resource.
struct Requested {
    requests: BTreeMap<String, Quantity>,
    limits: BTreeMap<String, Quantity>,
}

impl Requested {
    fn of(requests: &demand::Resources, limits: &demand::Resources) -> Self {
        let owned = |all: &demand::Resources| {
            all.iter().map(|(name, amount)| (name.to_owned(), amount.clone())).collect()
        };
        Self { requests: owned(requests), limits: owned(limits) }
    }

    fn by_container(container: &Container) -> Self {
        let resources = container.resources.as_ref();
        let read =
            |amounts: Option<&Amounts>| demand::Resources::exact(amounts.into_iter().flatten());
        Self::of(
            &read(resources.and_then(|it| it.requests.as_ref())),
            &read(resources.and_then(|it| it.limits.as_ref())),
        )
    }

    /// All containers together, or the pod as a whole; what a sandbox costs is not the pod's to choose.
    fn by_pod(spec: &PodSpec) -> Self {
        let own = PodSpec { overhead: None, ..spec.clone() };
        Self::of(&demand::requests(&own), &demand::limits(&own))
    }

    fn violations(&self, bounds: &Bounds) -> Vec<String> {
        let of = bounds.of.name();
        let min = bounds.min.iter().filter_map(|(name, min)| self.below(of, name, min));
        let max = bounds.max.iter().filter_map(|(name, max)| self.above(of, name, max));
        let ratio = bounds.ratio.iter().filter_map(|(name, it)| self.beyond(of, name, it));
        min.chain(max).chain(ratio).collect()
    }

    fn below(&self, of: &str, name: &str, min: &Quantity) -> Option<String> {
        let rule = format!("minimum {name} usage per {of} is {min}");
        match (self.requests.get(name), self.limits.get(name)) {
            (None, _) => Some(format!("{rule}.  No request is specified")),
            (Some(request), _) if request < min => {
                Some(format!("{rule}, but request is {request}"))
            }
            (_, Some(limit)) if limit < min => Some(format!("{rule}, but limit is {limit}")),
            _ => None,
        }
    }

    fn above(&self, of: &str, name: &str, max: &Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {of} is {max}");
        match (self.requests.get(name), self.limits.get(name)) {
            (_, None) => Some(format!("{rule}.  No limit is specified")),
            (_, Some(limit)) if limit > max => Some(format!("{rule}, but limit is {limit}")),
            (Some(request), _) if request > max => {
                Some(format!("{rule}, but request is {request}"))
            }
            _ => None,
        }
    }

    fn beyond(&self, of: &str, name: &str, ratio: &Quantity) -> Option<String> {
        let rule = format!("{name} max limit to request ratio per {of} is {ratio}");
        let amount = |of: &BTreeMap<String, Quantity>| {
            of.get(name).filter(|it| **it > Quantity::ZERO).cloned()
        };
        let Some(request) = amount(&self.requests) else {
            return Some(format!("{rule}, but no request is specified or request is 0"));
        };
        let Some(limit) = amount(&self.limits) else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        // The ratio has thousandths at the finest.
        if !limit.exceeds(ratio.milli(), &request) {
            return None;
        }
        Some(format!("{rule}, but provided ratio is {:.6}", quotient(&limit, &request)))
    }
}

/// For people.
fn quotient(limit: &Quantity, request: &Quantity) -> f64 {
    let fine = [limit, request].iter().all(|it| it.units() < i64::MAX / 1000);
    let value = |it: &Quantity| if fine { it.milli() } else { it.units() } as f64;
    value(limit) / value(request)
}

fn violations(range: &Limits, spec: &PodSpec) -> Vec<String> {
    let mut found = Vec::new();
    for bounds in &range.bounds {
        match bounds.of {
            Of::Container => {
                let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
                found.extend(all.flat_map(|it| Requested::by_container(it).violations(bounds)));
            }
            Of::Pod => found.extend(Requested::by_pod(spec).violations(bounds)),
        }
    }
    found
}

/// Several errors in one message, each once.
fn aggregated(errors: &[String]) -> String {
    let mut seen = BTreeSet::new();
    let each: Vec<&str> = errors.iter().map(String::as_str).filter(|it| seen.insert(*it)).collect();
    match each.as_slice() {
        [one] => (*one).to_owned(),
        all => format!("[{}]", all.join(", ")),
    }
}

#[cfg(test)]
mod tests;
