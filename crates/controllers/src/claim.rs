//! Which objects a controller object owns, adopts or releases: one rule for the pods of ReplicaSets and for
//! the ReplicaSets of Deployments, and the indices that find the candidates.

use coffer_api::selector::LabelSelector;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, Resource};

use crate::error::Error;
use crate::informer::{IndexBy, Watched};
use crate::key::ObjectKey;
use crate::owner::{controller_of, is_controlled_by};
use crate::selection::{Compiled, LabelKey, Selects, compile, label_keys, selector_keys};

/// A kind whose objects own others that fit their selector.
pub(crate) trait Claimer:
    Watched + Selects + Resource<Scope = NamespaceResourceScope>
{
    /// Which objects it claims; without a selector none.
    ///
    /// # Errors
    /// The selector is malformed.
    fn selector(&self) -> Result<LabelSelector, Error> {
        compile(self).map(Option::unwrap_or_default).map_err(Error::Object)
    }
}

impl Claimer for ReplicaSet {}
impl Claimer for Deployment {}
impl Claimer for ReplicationController {}

/// Objects that may be claimed: by the uid of their controller, or, without a controller, by namespace and
/// label. A controller object finds its own and those that it might adopt, and no others.
pub(crate) struct Claimable;

/// A key of [`Claimable`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClaimKey {
    /// Controlled by the object with this uid.
    ControlledBy(String),
    /// Without a controller.
    Orphan(LabelKey),
}

impl<K: Resource + 'static> IndexBy<K> for Claimable {
    type Key = ClaimKey;

    fn keys(object: &K, each: &mut dyn FnMut(ClaimKey)) {
        let meta = object.meta();
        match controller_of(meta) {
            Some(owner) => each(ClaimKey::ControlledBy(owner.uid.clone())),
            None => label_keys(meta).for_each(|key| each(ClaimKey::Orphan(key))),
        }
    }
}

impl ClaimKey {
    /// The keys of all that an object controls or might adopt. An orphan is looked for by the values that
    /// the selector asks for of one label; all orphans of the namespace are looked at only where it asks for
    /// no label's value.
    pub(crate) fn of<K: Claimer>(claimer: &K) -> Vec<Self> {
        let uid = claimer.meta().uid.clone().unwrap_or_default();
        let orphans = selector_keys(claimer).into_iter().map(Self::Orphan);
        std::iter::once(Self::ControlledBy(uid)).chain(orphans).collect()
    }
}

/// Controller objects by the values that their selectors ask for of one label: finds those that might adopt
/// an orphan.
pub(crate) struct BySelector;

impl<K: Claimer> IndexBy<K> for BySelector {
    type Key = LabelKey;

    fn keys(claimer: &K, each: &mut dyn FnMut(LabelKey)) {
        selector_keys(claimer).into_iter().for_each(each);
    }
}

/// Whether the object still exists and is not being deleted, read from the API: before it adopts
/// anything, because the cache may be behind.
pub(crate) async fn is_alive<K: Claimer>(client: &Client, object: &K) -> Result<bool, Error> {
    let key = ObjectKey::of(object);
    let api = Api::<K>::namespaced(client.clone(), &key.namespace);
    let fresh = api.get_metadata_opt(&key.name).await.map_err(Error::api("get the owner"))?;
    Ok(fresh.is_some_and(|fresh| {
        fresh.metadata.uid == object.meta().uid && fresh.metadata.deletion_timestamp.is_none()
    }))
}

/// What a controller object does with an object that it might own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It owns the object already.
    Keep,
    /// The object has no controller and is selected.
    Adopt,
    /// It owns the object, which is no longer selected.
    Release,
    /// The object has another controller, or has none and is not selected.
    Ignore,
}

/// Decides ownership. `owner` is the controller object's metadata. One that is being deleted neither adopts
/// nor releases objects, so that the garbage collector finds them unchanged.
pub(crate) fn claim(owner: &ObjectMeta, selector: &LabelSelector, object: &ObjectMeta) -> Claim {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let deleted = owner.deletion_timestamp.is_some();
    let selected = selects(selector, object);
    match controller_of(object) {
        Some(_) if !is_controlled_by(object, uid) => Claim::Ignore,
        Some(_) if selected => Claim::Keep,
        Some(_) if deleted => Claim::Ignore,
        Some(_) => Claim::Release,
        None if deleted || !selected || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// Whether a selector selects an object. An empty selector selects no object here: no kind that owns objects
/// allows it, and after adopting every object of a namespace the former owners could not be restored.
pub(crate) fn selects(selector: &LabelSelector, object: &ObjectMeta) -> bool {
    let none = Default::default();
    !selector.is_empty() && selector.matches(object.labels.as_ref().unwrap_or(&none))
}

/// Whether an object with this selector might claim another one; one whose selector cannot be read claims none.
pub(crate) fn may_claim(selector: &Compiled, object: &ObjectMeta) -> bool {
    matches!(selector, Ok(Some(selector)) if selects(selector, object))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::informer::Cache;
    use crate::pod::Pod;

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    #[test]
    fn an_object_is_kept_adopted_released_or_ignored_by_owner_and_selector() {
        let selector = LabelSelector::parse("app=web").expect("a selector");
        let object = |labels: Value, owner: Option<&str>, is_deleted: bool| -> ObjectMeta {
            let owners: Vec<Value> = owner
                .iter()
                .map(|uid| {
                    json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x",
                                   "uid": uid, "controller": true })
                })
                .collect();
            let deleted = is_deleted.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({ "labels": labels, "ownerReferences": owners,
                                           "deletionTimestamp": deleted }))
            .expect("metadata")
        };
        let (fits, strays) = (json!({ "app": "web", "x": "y" }), json!({ "app": "db" }));
        let ours = ObjectMeta { uid: Some("me".into()), ..ObjectMeta::default() };
        let mut deleted = ours.clone();
        deleted.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        for (owner, labels, owned_by, is_deleted, expected) in [
            (&ours, &fits, Some("me"), false, Claim::Keep),
            (&ours, &fits, Some("other"), false, Claim::Ignore),
            (&ours, &fits, None, false, Claim::Adopt),
            (&ours, &fits, None, true, Claim::Ignore),
            (&ours, &strays, Some("me"), false, Claim::Release),
            (&ours, &strays, None, false, Claim::Ignore),
            (&deleted, &fits, None, false, Claim::Ignore),
            (&deleted, &strays, Some("me"), false, Claim::Ignore),
            (&deleted, &fits, Some("me"), false, Claim::Keep),
        ] {
            let object = object(labels.clone(), owned_by, is_deleted);
            assert_eq!(
                claim(owner, &selector, &object),
                expected,
                "{labels} owned by {owned_by:?}"
            );
        }
        let everything = LabelSelector::parse("").expect("a selector");
        let orphan = object(fits, None, false);
        assert_eq!(
            claim(&ours, &everything, &orphan),
            Claim::Ignore,
            "an empty selector selects nothing"
        );
    }

    /// A namespace with ten thousand pods of others: a reconcile of one set reads its own pods and the
    /// orphans with its label.
    #[test]
    fn a_claimer_visits_only_its_own_objects_and_the_orphans_that_it_might_adopt() {
        let pods = Cache::<Pod>::default();
        let index = pods.index::<Claimable>();
        let pod = |name: &str, label: &str, owner: Option<&str>| -> Pod {
            let owners: Vec<Value> = owner
                .iter()
                .map(|uid| {
                    json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid,
                            "controller": true })
                })
                .collect();
            serde_json::from_value(json!({ "metadata": { "namespace": "ns", "name": name,
                "uid": name, "labels": { "app": label }, "ownerReferences": owners } }))
            .expect("a pod")
        };
        for at in 0..5_000 {
            pods.insert(pod(&format!("owned-{at}"), "web", Some("other")));
            pods.insert(pod(&format!("orphan-{at}"), "db", None));
        }
        pods.insert(pod("mine", "web", Some("me")));
        pods.insert(pod("stray", "web", None));
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": "rs", "uid": "me" },
            "spec": { "selector": { "matchLabels": { "app": "web" } } } }))
        .expect("a set");
        let before = pods.visited();
        let found = index.get_all(&ClaimKey::of(&set));
        let names: Vec<_> = found.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        assert_eq!(names, ["mine", "stray"]);
        assert_eq!(pods.visited() - before, 2);
        let listed: ReplicaSet = serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": "rs", "uid": "me" },
            "spec": { "selector": { "matchExpressions": [
                { "key": "app", "operator": "In", "values": ["web", "none"] }] } } }))
        .expect("a set");
        let before = pods.visited();
        assert_eq!(index.get_all(&ClaimKey::of(&listed)).len(), 2);
        assert_eq!(pods.visited() - before, 2);
    }

    #[test]
    fn an_orphan_is_offered_to_the_owners_whose_selectors_may_select_it() {
        let sets = Cache::<ReplicaSet>::default();
        let index = sets.index::<BySelector>();
        let set = |name: &str, selector: Value| -> ReplicaSet {
            serde_json::from_value(json!({
                "metadata": { "namespace": "ns", "name": name, "uid": name },
                "spec": { "selector": selector } }))
            .expect("a set")
        };
        sets.insert(set("web", json!({ "matchLabels": { "app": "web" } })));
        sets.insert(set("db", json!({ "matchLabels": { "app": "db" } })));
        sets.insert(set(
            "any",
            json!({ "matchExpressions": [
            { "key": "app", "operator": "Exists" }] }),
        ));
        let listed = |values: Value| json!({ "matchExpressions": [{ "key": "app", "operator": "In", "values": values }] });
        sets.insert(set("in", listed(json!(["db", "web"]))));
        sets.insert(set("out", listed(json!(["db", "cache"]))));
        let orphan: ObjectMeta = serde_json::from_value(json!({
            "namespace": "ns", "labels": { "app": "web", "x": "y" } }))
        .expect("metadata");
        let keys: Vec<_> = label_keys(&orphan).collect();
        let names: Vec<_> =
            index.get_all(&keys).iter().filter_map(|set| set.metadata.name.clone()).collect();
        assert_eq!(names, ["in", "web", "any"]);
    }
}
