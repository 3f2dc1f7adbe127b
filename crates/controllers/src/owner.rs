//! Owner references.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use kube::api::Patch;
use serde_json::{Value, json};

/// The owner that is the object's controller.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object with this uid is the controller of the other.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// A reference to `owner` as the controller. Foreground deletion of the owner waits for the dependent.
pub(crate) fn controller_ref<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A strategic merge patch that adds `owner` to the object with `uid`. It fails if the object was recreated.
pub(crate) fn adoption(owner: &OwnerReference, uid: Option<&str>) -> Patch<Value> {
    Patch::Strategic(json!({ "metadata": { "ownerReferences": [owner], "uid": uid } }))
}

/// A strategic merge patch that removes the owner with `owner_uid` from the object with `uid`.
pub(crate) fn release(owner_uid: &str, uid: Option<&str>) -> Patch<Value> {
    let removed = json!({ "$patch": "delete", "uid": owner_uid });
    Patch::Strategic(json!({ "metadata": { "ownerReferences": [removed], "uid": uid } }))
}
