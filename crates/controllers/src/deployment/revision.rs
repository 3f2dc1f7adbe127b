//! Revisions: the ReplicaSet of each template, its name, and its annotations.
//!
//! `kubectl rollout history` and `undo` read these annotations, and the template of a revision in its
//! ReplicaSet.

use std::collections::BTreeMap;

use coffer_api::kinds::pod::template_identity;
use coffer_api::schema::{self, fit::normalize};
use coffer_api::well_known::{annotation, label};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::limits::{desired, surge_max};
use super::sizes::age_key;

/// The label that distinguishes the pods of different templates.
pub(crate) const TEMPLATE_HASH: &str = label::POD_TEMPLATE_HASH;
/// The revision of a ReplicaSet, and the current one of a Deployment.
pub(crate) const REVISION: &str = annotation::REVISION;
/// The earlier revisions of a ReplicaSet that became the current one again.
const REVISION_HISTORY: &str = annotation::REVISION_HISTORY;
/// The Deployment's replicas when the ReplicaSet was last scaled.
pub(crate) const DESIRED_REPLICAS: &str = annotation::DESIRED_REPLICAS;
/// The same plus the surge.
pub(crate) const MAX_REPLICAS: &str = annotation::MAX_REPLICAS;
/// Annotations that are not copied from a Deployment to its ReplicaSets.
const NOT_COPIED: [&str; 6] = [
    annotation::LAST_APPLIED,
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// Bytes of the history. A longer one loses its oldest revisions.
const HISTORY_MAX: usize = 2000;

/// The revision in an object's annotations, 0 if it has none.
pub(crate) fn revision(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    number(annotations, REVISION).unwrap_or(0)
}

/// A number in an object's annotations.
pub(crate) fn number(annotations: Option<&BTreeMap<String, String>>, key: &str) -> Option<i64> {
    annotations?.get(key)?.parse().ok()
}

/// The ReplicaSet of the Deployment's current template; of several, the oldest.
pub(crate) fn find_new<'a>(
    deployment: &Deployment,
    sets: &'a [ReplicaSet],
) -> Option<&'a ReplicaSet> {
    let template = deployment.spec.as_ref().map(|spec| &spec.template)?;
    let wanted = template_identity(template);
    sets.iter()
        .filter(|set| {
            let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            template.is_some_and(|template| template_identity(template) == wanted)
        })
        .min_by_key(|set| age_key(set))
}

/// What a template's hash is made of: JSON without the hash label and without what is empty. It must not
/// change with what counts as the same template ([`template_identity`]), or names would.
fn hashed(template: &PodTemplateSpec) -> Value {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(TEMPLATE_HASH);
    }
    let mut value = serde_json::to_value(template).expect("API types encode");
    if let Some(schema) = schema::of_type::<PodTemplateSpec>() {
        normalize(&mut value, schema);
    }
    pruned(value).unwrap_or(Value::Null)
}

fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Array(items) if items.is_empty() => None,
        // An empty element of a list is significant.
        Value::Array(items) => {
            Some(items.into_iter().map(|item| pruned(item).unwrap_or(Value::Null)).collect())
        }
        Value::Object(fields) => {
            let fields: serde_json::Map<_, _> =
                fields.into_iter().filter_map(|(key, value)| Some((key, pruned(value)?))).collect();
            (!fields.is_empty()).then_some(Value::Object(fields))
        }
        other => Some(other),
    }
}

/// The hash of a template: short, valid in names, and different after each collision.
pub(crate) fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut hash = Fnv1a::default();
    hash.add(hashed(template).to_string().as_bytes());
    if collisions != 0 {
        hash.add(&collisions.to_le_bytes());
    }
    // Upstream's alphabet, without vowels, so that no words appear.
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let digits = hash.0.to_string();
    digits.bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

/// FNV-1a with 32 bits, as upstream hashes templates.
struct Fnv1a(u32);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv1a {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

/// Writes the annotations of its Deployment's current revision to a ReplicaSet. `created` is false for one
/// that exists already.
pub(crate) fn annotate_new(
    deployment: &Deployment,
    set: &mut ReplicaSet,
    new_revision: i64,
    created: bool,
) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = old.as_deref().and_then(|old| old.parse().ok()).unwrap_or(0);
    if old_number < new_revision {
        annotations.insert(REVISION.to_owned(), new_revision.to_string());
        if let Some(old) = old.filter(|_| old_number > 0) {
            append_history(annotations, &old);
        }
    }
    if created {
        annotate_replicas(deployment, set);
    }
}

fn append_history(annotations: &mut BTreeMap<String, String>, old: &str) {
    let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
    if !history.is_empty() {
        history.push(',');
    }
    history.push_str(old);
    while history.len() > HISTORY_MAX {
        match history.split_once(',') {
            Some((_, rest)) => *history = rest.to_owned(),
            None => return,
        }
    }
}

/// Writes the Deployment's size to a ReplicaSet's annotations, so that the next scaling is distinguished from
/// a rollout and distributed in proportion.
pub(crate) fn annotate_replicas(deployment: &Deployment, set: &mut ReplicaSet) {
    let desired = desired(deployment);
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED_REPLICAS.to_owned(), desired.to_string());
    annotations
        .insert(MAX_REPLICAS.to_owned(), desired.saturating_add(surge_max(deployment)).to_string());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: Value) -> PodTemplateSpec {
        serde_json::from_value(value).expect("a template")
    }

    #[test]
    fn the_hash_label_and_empty_fields_do_not_change_the_hash() {
        let plain = template(json!({ "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": "a" }] } }));
        let same = template(json!({
            "metadata": { "labels": { "app": "web", "pod-template-hash": "x" } },
            "spec": { "containers": [{ "name": "c", "image": "a", "resources": {}, "env": [] }] } }));
        let other = template(json!({ "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "image": "b" }] } }));
        assert_eq!(template_hash(&plain, 0), template_hash(&same, 0));
        assert_ne!(template_hash(&plain, 0), template_hash(&other, 0));
        assert_ne!(template_hash(&plain, 0), template_hash(&plain, 1));
    }

    #[test]
    fn a_set_that_becomes_current_again_keeps_its_earlier_revisions() {
        let deployment: Deployment = serde_json::from_value(json!({
            "metadata": { "annotations": { "team": "a", REVISION: "3",
                "kubectl.kubernetes.io/last-applied-configuration": "{}" } },
            "spec": { "replicas": 4, "selector": {}, "template": {} } }))
        .expect("a deployment");
        let mut set: ReplicaSet = serde_json::from_value(json!({
            "metadata": { "annotations": { REVISION: "1" } } }))
        .expect("a set");
        annotate_new(&deployment, &mut set, 4, false);
        let annotations = set.metadata.annotations.clone().expect("annotations");
        let expected = [("team", "a"), (REVISION, "4"), (REVISION_HISTORY, "1")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(annotations, expected.into());

        annotate_new(&deployment, &mut set, 6, true);
        let annotations = set.metadata.annotations.expect("annotations");
        assert_eq!(annotations[REVISION_HISTORY], "1,4");
        assert_eq!(
            (annotations[DESIRED_REPLICAS].as_str(), annotations[MAX_REPLICAS].as_str()),
            ("4", "5")
        );
    }
}
