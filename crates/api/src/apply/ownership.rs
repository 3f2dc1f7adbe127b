//! Fields that have no owner: what the server sets itself, and what an endpoint does not write.

use std::sync::LazyLock;

use super::set::FieldSet;
use crate::subresource::SubresourceName;

fn set_of(paths: &[&[&str]]) -> FieldSet {
    let mut set = FieldSet::default();
    for path in paths {
        set.unite(FieldSet::of_fields(path));
    }
    set
}

/// The set without what identifies an object or is set by the server.
pub(super) fn without_metadata(mut set: FieldSet) -> FieldSet {
    static STRIPPED: LazyLock<FieldSet> = LazyLock::new(|| {
        set_of(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "clusterName"],
            &["metadata", "creationTimestamp"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "resourceVersion"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
        ])
    });
    set.subtract(&STRIPPED);
    set
}

/// The set without what the endpoint puts back (upstream's `GetResetFields`): no one comes to own the
/// status by writing it through the object itself, nor the spec through `status`.
pub(super) fn without_reset(mut set: FieldSet, subresource: Option<SubresourceName>) -> FieldSet {
    static BY_OBJECT: LazyLock<FieldSet> = LazyLock::new(|| set_of(&[&["status"]]));
    static BY_STATUS: LazyLock<FieldSet> = LazyLock::new(|| {
        set_of(&[&["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"], &["spec"]])
    });
    static BY_OTHER: LazyLock<FieldSet> = LazyLock::new(|| set_of(&[&["metadata"], &["status"]]));
    set.subtract_subtrees(match subresource {
        None => &BY_OBJECT,
        Some(SubresourceName::Status) => &BY_STATUS,
        // `scale`, `resize`, `ephemeralcontainers`: a part of the spec.
        Some(_) => &BY_OTHER,
    });
    set
}
