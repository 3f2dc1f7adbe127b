//! Priority: a new pod has the priority of the PriorityClass that it names, of the cluster's default class,
//! or zero. A pod cannot state another one: the administrator decides which pods are scheduled first.
//!
//! Validation keeps a pod's priority; a PUT that leaves it out keeps the stored one.

use std::sync::Arc;

use coffer_api::kinds::priority_class::{PREEMPT_LOWER_PRIORITY, SYSTEM_CLASSES};
use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::parsed::{Named, Parsed};
use crate::object::{Object, Resource, Resources};

/// What pods get of a class.
pub(super) struct Class {
    value: i32,
    preemption_policy: Option<String>,
    is_default: bool,
}

impl Class {
    fn of(class: PriorityClass) -> Option<Self> {
        Some(Self {
            value: class.value,
            preemption_policy: class.preemption_policy,
            is_default: class.global_default == Some(true),
        })
    }
}

/// All priority classes.
pub(super) struct PriorityClasses(Arc<Parsed<Class>>);

impl PriorityClasses {
    pub(super) fn new(resources: &Resources) -> Self {
        Self(Parsed::of_kind(resources, Class::of))
    }

    /// Gives a new pod its priority.
    ///
    /// # Errors
    /// Why the pod is refused, for a 403.
    pub(super) fn create(&self, pod: &mut Pod) -> Result<(), String> {
        pod.spec.as_mut().map_or(Ok(()), |spec| resolve(&self.0.of(""), spec))
    }

    /// Checks a class that is written: the cluster has one default.
    ///
    /// # Errors
    /// 403 for a second one.
    pub(super) fn check(
        &self,
        resource: &Resource,
        object: &dyn Object,
        is_new: bool,
    ) -> Result<(), Failure> {
        let class = object.of_kind::<PriorityClass>();
        let Some(class) = class.filter(|class| class.global_default == Some(true)) else {
            return Ok(());
        };
        let name = class.metadata.name.as_deref().unwrap_or_default();
        let forbidden = |why: &str| Failure::forbidden(resource.group_resource(), name, why);
        let classes = self.0.of("");
        match default(&classes).map_err(|why| forbidden(&why))? {
            Some((other, _)) if is_new || other != name => Err(forbidden(&format!(
                "PriorityClass {other} is already marked as default. Only one default can exist"
            ))),
            _ => Ok(()),
        }
    }
}

/// An updated pod, to which what it leaves out of its priority is put back.
pub(super) fn update(pod: &mut Pod, old: &Pod) {
    let (Some(spec), Some(old)) = (&mut pod.spec, &old.spec) else { return };
    spec.priority = spec.priority.or(old.priority);
    if spec.preemption_policy.is_none() {
        spec.preemption_policy.clone_from(&old.preemption_policy);
    }
}

/// A deletion.
///
/// # Errors
/// 403 for a class that every cluster has.
pub(super) fn delete(resource: &Resource, name: &str) -> Result<(), Failure> {
    if resource.is::<PriorityClass>() && SYSTEM_CLASSES.iter().any(|class| class.name == name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Failure::forbidden(resource.group_resource(), name, why));
    }
    Ok(())
}

fn resolve(classes: &Named<Class>, spec: &mut PodSpec) -> Result<(), String> {
    let named = spec.priority_class_name.as_deref().filter(|name| !name.is_empty());
    let class = match named {
        Some(name) => Some((name, find(classes, name)?)),
        None => default(classes)?,
    };
    let (value, policy) = match class {
        Some((_, class)) => (class.value, class.preemption_policy.as_deref()),
        None => (0, Some(PREEMPT_LOWER_PRIORITY)),
    };
    let computed = "must not be provided in pod spec; priority admission controller computed";
    let from = "from the given PriorityClass name";
    if let Some(stated) = spec.priority.filter(|stated| *stated != value) {
        return Err(format!("the integer value of priority ({stated}) {computed} {value} {from}"));
    }
    if let Some(policy) = policy {
        let stated = spec.preemption_policy.as_deref();
        if let Some(stated) = stated.filter(|stated| *stated != policy) {
            let what = "the string value of PreemptionPolicy";
            return Err(format!("{what} ({stated}) {computed} {policy} {from}"));
        }
    }
    let name = class.map(|(name, _)| name.to_owned());
    spec.priority_class_name = name.or(spec.priority_class_name.take());
    spec.priority = Some(value);
    if let Some(policy) = policy {
        spec.preemption_policy = Some(policy.to_owned());
    }
    Ok(())
}

fn find<'a>(classes: &'a Named<Class>, name: &str) -> Result<&'a Class, String> {
    match classes.get(name) {
        None => Err(format!("no PriorityClass with name {name} was found")),
        Some(None) => {
            Err(format!("failed to get PriorityClass with name {name}: it cannot be read"))
        }
        Some(Some(class)) => Ok(class),
    }
}

/// The class of pods that name none. Two concurrent writers may make two default classes: then the lowest.
///
/// # Errors
/// A class that cannot be read: it may be the one.
fn default(classes: &Named<Class>) -> Result<Option<(&str, &Class)>, String> {
    let mut lowest: Option<(&str, &Class)> = None;
    for (name, class) in classes {
        let Some(class) = class else {
            return Err(format!(
                "failed to get default priority class: PriorityClass {name} cannot be read"
            ));
        };
        if class.is_default && lowest.is_none_or(|(_, lowest)| lowest.value > class.value) {
            lowest = Some((name, class));
        }
    }
    Ok(lowest)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn classes(all: &[(&str, i32, &str, bool)]) -> Named<Class> {
        let class = |(name, value, policy, is_default): &(&str, i32, &str, bool)| {
            let preemption_policy = Some((*policy).to_owned()).filter(|policy| !policy.is_empty());
            let (value, is_default) = (*value, *is_default);
            ((*name).to_owned(), Some(Arc::new(Class { value, preemption_policy, is_default })))
        };
        all.iter().map(class).collect()
    }

    fn resolved(classes: &Named<Class>, spec: Value) -> Result<Value, String> {
        let mut spec: PodSpec = serde_json::from_value(spec).unwrap();
        resolve(classes, &mut spec)?;
        let mut value = serde_json::to_value(&spec).unwrap();
        value.as_object_mut().unwrap().remove("containers");
        Ok(value)
    }

    const LOWER: &str = "PreemptLowerPriority";

    #[test]
    fn a_pod_gets_its_classs_priority_or_the_defaults_or_zero() {
        let plain = classes(&[("high", 1000, "Never", false), ("odd", 5, "", false)]);
        let none = json!({ "priority": 0, "preemptionPolicy": LOWER });
        let high =
            json!({ "priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never" });
        assert_eq!(resolved(&plain, json!({})), Ok(none.clone()));
        assert_eq!(resolved(&plain, none.clone()), Ok(none));
        assert_eq!(resolved(&plain, json!({ "priorityClassName": "high" })), Ok(high.clone()));
        assert_eq!(resolved(&plain, high.clone()), Ok(high));
        let odd = json!({ "priorityClassName": "odd", "preemptionPolicy": "Never" });
        let mut expected = odd.clone();
        expected["priority"] = json!(5);
        assert_eq!(resolved(&plain, odd), Ok(expected));
        let defaults =
            classes(&[("a", 7, LOWER, true), ("b", -3, LOWER, true), ("c", -9, "", false)]);
        assert_eq!(
            resolved(&defaults, json!({})),
            Ok(json!({ "priorityClassName": "b", "priority": -3, "preemptionPolicy": LOWER }))
        );
    }

    #[test]
    fn a_pod_that_states_another_priority_or_an_unknown_class_is_refused() {
        let classes = classes(&[("high", 1000, "Never", false)]);
        let computed = "must not be provided in pod spec; priority admission controller computed";
        let from = "from the given PriorityClass name";
        for (spec, why) in [
            (
                json!({ "priority": 1 }),
                format!("the integer value of priority (1) {computed} 0 {from}"),
            ),
            (
                json!({ "priority": 0, "priorityClassName": "high" }),
                format!("the integer value of priority (0) {computed} 1000 {from}"),
            ),
            (
                json!({ "preemptionPolicy": "Never" }),
                format!("the string value of PreemptionPolicy (Never) {computed} {LOWER} {from}"),
            ),
            (
                json!({ "priorityClassName": "High" }),
                "no PriorityClass with name High was found".to_owned(),
            ),
        ] {
            assert_eq!(resolved(&classes, spec.clone()), Err(why), "{spec}");
        }
    }

    #[test]
    fn pods_that_need_a_class_that_cannot_be_decoded_are_refused() {
        let mut classes = classes(&[("high", 1000, LOWER, false)]);
        classes.insert("broken".to_owned(), None);
        assert_eq!(
            resolved(&classes, json!({ "priorityClassName": "broken" })).unwrap_err(),
            "failed to get PriorityClass with name broken: it cannot be read"
        );
        assert_eq!(
            resolved(&classes, json!({})).unwrap_err(),
            "failed to get default priority class: PriorityClass broken cannot be read"
        );
        assert!(resolved(&classes, json!({ "priorityClassName": "high" })).is_ok());
    }
}
