//! Whether an object is deleted, given the state of its owners. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PropagationPolicy;

use super::graph::{FOREGROUND, ORPHAN};

/// The state of an owner, in upstream's words where it has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// It exists.
    Solid,
    /// It does not exist.
    Absent,
    /// It is in foreground deletion and waits for its dependents.
    Waiting,
}

/// What to do with an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Keep it unchanged.
    Keep,
    /// Keep it and remove the references to these owners.
    Disown(Vec<String>),
    /// Delete it with this propagation policy.
    Delete(PropagationPolicy),
}

/// Decides. `owners` are the states of the object's owners in the order of its references; `has_dependents`
/// says whether other objects refer to it.
pub(crate) fn plan(meta: &ObjectMeta, owners: &[Owner], has_dependents: bool) -> Action {
    if owners.is_empty() {
        return Action::Keep;
    }
    if owners.contains(&Owner::Solid) {
        let references = meta.owner_references.iter().flatten().zip(owners);
        let lost: Vec<String> = references
            .filter(|(_, owner)| **owner != Owner::Solid)
            .map(|(reference, _)| reference.uid.clone())
            .collect();
        return if lost.is_empty() { Action::Keep } else { Action::Disown(lost) };
    }
    // The owner waits for this object, so this object has to wait for its own dependents.
    if owners.contains(&Owner::Waiting) && has_dependents {
        return Action::Delete(PropagationPolicy::Foreground);
    }
    let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|one| one == finalizer);
    Action::Delete(if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Owner::{Absent, Solid, Waiting};
    use super::*;

    fn meta(owners: usize, finalizers: &[&str]) -> ObjectMeta {
        let owners: Vec<Value> = (0..owners)
            .map(|at| {
                json!({ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": at.to_string() })
            })
            .collect();
        serde_json::from_value(json!({ "ownerReferences": owners, "finalizers": finalizers }))
            .expect("metadata")
    }

    #[test]
    fn an_object_is_deleted_with_the_last_of_its_owners() {
        let policy = |policy| Action::Delete(policy);
        use PropagationPolicy::{Background, Foreground, Orphan};
        for (owners, finalizers, has_dependents, expected) in [
            (&[][..], &[][..], false, Action::Keep),
            (&[Solid], &[], false, Action::Keep),
            (&[Solid, Solid], &[], true, Action::Keep),
            (&[Solid, Absent], &[], false, Action::Disown(vec!["1".into()])),
            (&[Waiting, Solid, Absent], &[], false, Action::Disown(vec!["0".into(), "2".into()])),
            (&[Absent], &[], false, policy(Background)),
            (&[Absent, Absent], &[], true, policy(Background)),
            (&[Absent], &[ORPHAN], false, policy(Orphan)),
            (&[Absent], &[FOREGROUND], false, policy(Foreground)),
            (&[Waiting], &[], false, policy(Background)),
            (&[Waiting, Absent], &[], true, policy(Foreground)),
        ] {
            let action = plan(&meta(owners.len(), finalizers), owners, has_dependents);
            assert_eq!(action, expected, "{owners:?} {finalizers:?}");
        }
    }
}
