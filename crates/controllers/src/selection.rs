//! What selectors select: where it is found without looking at all of a namespace, and whether an object is of
//! it, with each selector compiled once.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use coffer_api::selector::LabelSelector;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as Structured, ObjectMeta};
use kube::Resource;
use parking_lot::Mutex;

use crate::key::ObjectKey;

/// A namespace, and a label with its value there; without one all of the namespace.
pub(crate) type LabelKey = (String, Option<(String, String)>);

/// Values of one expression that objects are looked for by; of more, all of the namespace is looked at.
const VALUES_MAX: usize = 100;

/// An object that selects others of its namespace by their labels.
pub(crate) trait Selects: Resource {
    /// Its selector; without one it selects nothing.
    fn structured(&self) -> Option<Cow<'_, Structured>>;
}

macro_rules! selects {
    ($($kind:ty),+) => {$(
        impl Selects for $kind {
            fn structured(&self) -> Option<Cow<'_, Structured>> {
                self.spec.as_ref().map(|spec| Cow::Borrowed(&spec.selector))
            }
        }
    )+};
}

selects!(Deployment, ReplicaSet);

impl Selects for PodDisruptionBudget {
    fn structured(&self) -> Option<Cow<'_, Structured>> {
        self.spec.as_ref()?.selector.as_ref().map(Cow::Borrowed)
    }
}

impl Selects for ReplicationController {
    fn structured(&self) -> Option<Cow<'_, Structured>> {
        let match_labels = Some(self.spec.as_ref()?.selector.clone()?);
        Some(Cow::Owned(Structured { match_labels, match_expressions: None }))
    }
}

/// Where an object is found: by each of its labels, and without.
pub(crate) fn label_keys(meta: &ObjectMeta) -> impl Iterator<Item = LabelKey> {
    let namespace = meta.namespace.clone().unwrap_or_default();
    let labels = meta.labels.iter().flatten();
    let labels = labels.map(|(label, value)| Some((label.clone(), value.clone())));
    labels.chain([None]).map(move |label| (namespace.clone(), label))
}

/// Where all that an object selects is found, each selected object under one of the keys: by one label that must
/// have one value, or one of a few; else in all of the namespace. Of several such labels the last, for
/// `pod-template-hash`, where there is one, tells more than `app`.
pub(crate) fn selector_keys<K: Selects>(selecting: &K) -> Vec<LabelKey> {
    let Some(selector) = selecting.structured() else { return Vec::new() };
    let namespace = selecting.meta().namespace.clone().unwrap_or_default();
    let label = selector.match_labels.as_ref().and_then(|labels| labels.last_key_value());
    if let Some((label, value)) = label {
        return vec![(namespace, Some((label.clone(), value.clone())))];
    }
    let expressions = selector.match_expressions.iter().flatten();
    let listed = expressions.filter(|it| it.operator == "In").map(|it| {
        let values: BTreeSet<&String> = it.values.iter().flatten().collect();
        (&it.key, values)
    });
    // One without values is malformed: what it is meant to select is not known.
    let few = listed.filter(|(_, values)| (1..=VALUES_MAX).contains(&values.len()));
    match few.min_by_key(|(_, values)| values.len()) {
        Some((label, values)) => {
            let place = |value: &String| (namespace.clone(), Some((label.clone(), value.clone())));
            values.into_iter().map(place).collect()
        }
        None => vec![(namespace, None)],
    }
}

/// An object's selector, compiled; `None` where it selects nothing, and why where it cannot be read.
pub(crate) type Compiled = Result<Option<LabelSelector>, String>;

/// Compiles the selector of an object.
pub(crate) fn compile<K: Selects>(selecting: &K) -> Compiled {
    let selector = selecting.structured();
    let selector = selector.map(|selector| LabelSelector::of_structured(&selector)).transpose();
    selector.map_err(|error| error.to_string())
}

/// A state of an object, and its selector.
type Known<K> = (Weak<K>, Arc<Compiled>);

/// The selectors of a kind's objects, each compiled once for each state of its object.
pub(crate) struct Selectors<K> {
    known: Mutex<HashMap<ObjectKey, Known<K>>>,
    #[cfg(test)]
    compiled: std::sync::atomic::AtomicUsize,
}

impl<K> Default for Selectors<K> {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            #[cfg(test)]
            compiled: Default::default(),
        }
    }
}

impl<K: Selects> Selectors<K> {
    /// The selector of an object of the cache.
    pub(crate) fn of(&self, selecting: &Arc<K>) -> Arc<Compiled> {
        let key = ObjectKey::of(&**selecting);
        if let Some((of, compiled)) = self.known.lock().get(&key)
            && of.as_ptr() == Arc::as_ptr(selecting)
        {
            return compiled.clone();
        }
        #[cfg(test)]
        self.compiled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let compiled = Arc::new(compile(&**selecting));
        self.known.lock().insert(key, (Arc::downgrade(selecting), compiled.clone()));
        compiled
    }

    /// Forgets the selector of a deleted object.
    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.known.lock().remove(key);
    }

    /// How many selectors were compiled.
    #[cfg(test)]
    pub(crate) fn compiled(&self) -> usize {
        self.compiled.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Whether an object's labels are selected.
///
/// # Errors
/// Why the selector cannot be read.
pub(crate) fn selects(selector: &Compiled, object: &ObjectMeta) -> Result<bool, String> {
    let none = Default::default();
    let labels = object.labels.as_ref().unwrap_or(&none);
    match selector {
        Ok(selector) => Ok(selector.as_ref().is_some_and(|selector| selector.matches(labels))),
        Err(why) => Err(why.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn budget(selector: Value) -> PodDisruptionBudget {
        serde_json::from_value(json!({ "metadata": { "namespace": "ns", "name": "b" },
            "spec": { "selector": selector } }))
        .expect("a budget")
    }

    #[test]
    fn what_is_selected_is_found_by_a_label_or_the_values_of_an_expression() {
        let found = |selector: Value| -> Vec<String> {
            let place = |(namespace, label): LabelKey| match label {
                Some((label, value)) => format!("{namespace} {label}={value}"),
                None => namespace,
            };
            selector_keys(&budget(selector)).into_iter().map(place).collect()
        };
        let expression = |operator: &str, values: Value| json!({ "key": "app", "operator": operator, "values": values });
        let of = |expressions: Value| found(json!({ "matchExpressions": expressions }));
        let few = expression("In", json!(["a", "b", "a"]));
        assert_eq!(of(json!([few])), ["ns app=a", "ns app=b"]);
        let one = json!({ "key": "tier", "operator": "In", "values": ["x"] });
        assert_eq!(of(json!([few, one])), ["ns tier=x"]);
        let labels = json!({ "matchLabels": { "a": "b", "c": "d" }, "matchExpressions": [one] });
        assert_eq!(found(labels), ["ns c=d"]);
        for unknown in [
            expression("In", json!([])),
            expression("NotIn", json!(["a"])),
            expression("Exists", json!([])),
            expression("In", json!((0..=VALUES_MAX).map(|at| at.to_string()).collect::<Vec<_>>())),
        ] {
            assert_eq!(of(json!([unknown])), ["ns"], "{unknown:.60}");
        }
        assert_eq!(found(json!({})), ["ns"]);
        assert!(found(Value::Null).is_empty());
    }

    #[test]
    fn a_selector_is_compiled_once_for_each_state_of_its_object() {
        let selectors = Selectors::default();
        let first = Arc::new(budget(json!({ "matchLabels": { "app": "web" } })));
        let pod = |app: &str| -> ObjectMeta {
            serde_json::from_value(json!({ "labels": { "app": app } })).expect("metadata")
        };
        for _ in 0..3 {
            assert_eq!(selects(&selectors.of(&first), &pod("web")), Ok(true));
        }
        assert_eq!(selectors.compiled(), 1);
        let next = Arc::new(budget(json!({ "matchLabels": { "app": "db" } })));
        assert_eq!(selects(&selectors.of(&next), &pod("web")), Ok(false));
        assert_eq!(selectors.compiled(), 2);
        let odd = json!({ "matchExpressions": [{ "key": "app", "operator": "Odd" }] });
        assert!(selects(&selectors.of(&Arc::new(budget(odd))), &pod("web")).is_err());
        assert_eq!(selects(&compile(&budget(Value::Null)), &pod("web")), Ok(false));
        selectors.forget(&ObjectKey::new("ns", "b"));
        assert!(selectors.known.lock().is_empty());
    }
}
