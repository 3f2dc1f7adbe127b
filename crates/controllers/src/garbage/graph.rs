//! The ownership graph, as the watches show it. Pure: a change returns the uids to check.
//!
//! An owner that is referred to but has not been seen is in the graph by its uid only, with its dependents,
//! so that they are found if it does not exist.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::inventory::Kind;
use crate::key::ObjectKey;

/// The finalizer of an object that is deleted after its dependents.
pub(crate) const FOREGROUND: &str = coffer_api::well_known::finalizer::FOREGROUND;
/// The finalizer of an object whose dependents are orphaned.
pub(crate) const ORPHAN: &str = coffer_api::well_known::finalizer::ORPHAN;

/// How an object is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// It is not being deleted.
    None,
    /// It is deleted without the garbage collector.
    Plain,
    /// It waits for the deletion of its dependents.
    Foreground,
    /// It waits for its dependents to be orphaned.
    Orphan,
}

impl Deletion {
    /// Reads it from an object's metadata.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|one| one == finalizer);
        match meta.deletion_timestamp {
            None => Self::None,
            Some(_) if has(FOREGROUND) => Self::Foreground,
            Some(_) if has(ORPHAN) => Self::Orphan,
            Some(_) => Self::Plain,
        }
    }
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Its kind.
    pub(crate) kind: Arc<Kind>,
    /// Its name.
    pub(crate) key: ObjectKey,
    /// Its owner references.
    pub(crate) owners: Vec<OwnerReference>,
    /// How it is being deleted.
    pub(crate) deletion: Deletion,
}

impl Node {
    fn blocks(&self, owner: &str) -> bool {
        let mut owners = self.owners.iter();
        owners.any(|one| one.uid == owner && one.block_owner_deletion == Some(true))
    }
}

/// All objects by uid, and their dependents.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Sets the present state of an object. Returns the uids to check.
    pub(crate) fn set(&mut self, kind: &Arc<Kind>, meta: &ObjectMeta) -> Vec<String> {
        let uid = meta.uid.clone().unwrap_or_default();
        let owners = meta.owner_references.as_deref().unwrap_or_default();
        // The usual case: the status has changed.
        let known = self.nodes.get(&uid);
        if known.is_some_and(|it| it.owners == owners && it.deletion == Deletion::of(meta)) {
            return Vec::new();
        }
        let node = Node {
            kind: kind.clone(),
            key: ObjectKey::new(
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            ),
            owners: owners.to_vec(),
            deletion: Deletion::of(meta),
        };
        let mut to_check = Vec::new();
        let old = self.nodes.insert(uid.clone(), node.clone());
        let old_owners = old.as_ref().map_or(&[][..], |old| &old.owners);
        for former in old_owners {
            if !node.owners.iter().any(|owner| owner.uid == former.uid) {
                self.unlink(&former.uid, &uid);
            }
            if !node.blocks(&former.uid) && self.waits(&former.uid) {
                to_check.push(former.uid.clone());
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        let started = old.as_ref().is_none_or(|old| old.deletion != node.deletion);
        match node.deletion {
            Deletion::Foreground if started => {
                to_check.push(uid.clone());
                to_check.extend(self.dependents(&uid));
            }
            Deletion::Orphan if started => to_check.push(uid),
            Deletion::None if node.owners != old_owners => to_check.push(uid),
            _ => {}
        }
        to_check
    }

    /// Removes an object that was deleted. Returns the uids to check.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        let mut to_check = self.dependents(uid);
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self.waits(&owner.uid) {
                to_check.push(owner.uid.clone());
            }
        }
        to_check
    }

    /// One object.
    pub(crate) fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that refer to an object as their owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<String> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The dependents that an object in foreground deletion must wait for.
    pub(crate) fn blocking(&self, uid: &str) -> Vec<String> {
        let blocks =
            |dependent: &String| self.nodes.get(dependent).is_some_and(|node| node.blocks(uid));
        self.dependents(uid).into_iter().filter(blocks).collect()
    }

    fn waits(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| node.deletion == Deletion::Foreground)
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ApiResource;
    use serde_json::{Value, json};

    use super::*;

    fn kind() -> Arc<Kind> {
        let resource = ApiResource {
            group: String::new(),
            version: "v1".into(),
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            plural: "configmaps".into(),
        };
        Arc::new(Kind { resource, namespaced: true })
    }

    fn meta(uid: &str, owners: &[(&str, bool)], deletion: &[&str]) -> ObjectMeta {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(uid, blocks)| {
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": uid,
                                         "uid": uid, "blockOwnerDeletion": blocks })
            })
            .collect();
        let deleted = (!deletion.is_empty()).then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({ "uid": uid, "name": uid, "ownerReferences": owners,
            "deletionTimestamp": deleted, "finalizers": deletion }))
        .expect("metadata")
    }

    #[test]
    fn the_dependents_of_a_deleted_owner_are_checked() {
        let mut graph = Graph::default();
        assert!(graph.set(&kind(), &meta("owner", &[], &[])).is_empty());
        // A new object's owner may not exist.
        assert_eq!(graph.set(&kind(), &meta("a", &[("owner", false)], &[])), ["a"]);
        assert_eq!(graph.set(&kind(), &meta("b", &[("owner", false)], &[])), ["b"]);
        assert!(graph.set(&kind(), &meta("b", &[("owner", false)], &[])).is_empty(), "unchanged");
        assert_eq!(graph.remove("owner"), ["a", "b"]);
        assert!(graph.remove("a").is_empty());
        assert_eq!(graph.dependents("owner"), ["b"]);
    }

    #[test]
    fn an_owner_in_foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        graph.set(&kind(), &meta("owner", &[], &[]));
        graph.set(&kind(), &meta("a", &[("owner", true)], &[]));
        graph.set(&kind(), &meta("b", &[("owner", false)], &[]));
        let started = graph.set(&kind(), &meta("owner", &[], &[FOREGROUND]));
        assert_eq!(started, ["owner", "a", "b"]);
        assert_eq!(graph.blocking("owner"), ["a"]);
        assert_eq!(graph.remove("a"), ["owner"]);
        assert!(graph.blocking("owner").is_empty());
    }

    #[test]
    fn a_dependent_that_drops_its_owner_reference_no_longer_blocks_the_owner() {
        let mut graph = Graph::default();
        graph.set(&kind(), &meta("owner", &[], &[FOREGROUND]));
        graph.set(&kind(), &meta("a", &[("owner", true)], &[]));
        assert_eq!(graph.set(&kind(), &meta("a", &[("owner", false)], &[])), ["owner", "a"]);
        assert_eq!(graph.set(&kind(), &meta("a", &[], &[])), ["owner", "a"]);
        assert!(graph.dependents("owner").is_empty());
    }

    #[test]
    fn an_owner_that_orphans_its_dependents_is_checked_once() {
        let mut graph = Graph::default();
        assert_eq!(graph.set(&kind(), &meta("owner", &[], &[ORPHAN])), ["owner"]);
        assert!(graph.set(&kind(), &meta("owner", &[], &[ORPHAN])).is_empty());
        assert!(graph.set(&kind(), &meta("owner", &[], &["other"])).is_empty());
    }
}
