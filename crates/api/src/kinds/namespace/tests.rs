//! Rules of namespaces, one line each.

use serde_json::{Value, json};

use super::Namespace;
use crate::kinds::Kind;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};
use crate::subresource::SubresourceName;
use crate::well_known::label;

fn valid() -> Value {
    json!({"metadata": {"name": "myns"}})
}

#[test]
fn names_are_dns_labels_and_finalizers_are_known_or_qualified() {
    check_create::<Namespace>(
        &valid(),
        &[
            (
                "metadata.name",
                json!("a.b"),
                &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
            ),
            ("spec.finalizers", json!(["example.com/f"]), &[]),
            (
                "spec.finalizers",
                json!(["f"]),
                &[
                    "spec.finalizers: Invalid value: \"f\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
        ],
    );
}

#[test]
fn a_new_namespace_is_active_labelled_and_finalized_by_kubernetes() {
    let sent = with(&valid(), "status.phase", json!("Terminating"));
    let namespace: Namespace = created(&sent);
    assert_eq!(namespace.metadata.labels.as_ref().unwrap()[label::NAMESPACE_NAME], "myns");
    assert_eq!(namespace.spec.as_ref().unwrap().finalizers.as_ref().unwrap(), &["kubernetes"]);
    assert_eq!(namespace.fields(), [("status.phase", "Active".to_owned())]);
}

#[test]
fn the_phase_goes_with_the_deletion_timestamp() {
    check_update::<Namespace>(
        &valid(),
        Some(SubresourceName::Status),
        &[(
            "status.phase",
            json!("Terminating"),
            &[
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
            ],
        )],
    );
    let going = with(
        &with(&valid(), "metadata.deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        "status.phase",
        json!("Terminating"),
    );
    check_update::<Namespace>(
        &going,
        Some(SubresourceName::Status),
        &[(
            "status.phase",
            json!("Active"),
            &[
                "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty",
            ],
        )],
    );
    check_update::<Namespace>(
        &valid(),
        Some(SubresourceName::Finalize),
        &[(
            "spec.finalizers",
            json!(["kubernetes", "f"]),
            &[
                "spec.finalizers[1]: Invalid value: \"f\": name is neither a standard finalizer name nor is it fully qualified",
            ],
        )],
    );
}

#[test]
fn each_subresource_writes_its_own_part() {
    let old: Namespace = stored(&valid());
    let sent = json!({"metadata": {"name": "myns"}, "spec": {"finalizers": []}, "status": {"phase": "Terminating"}});
    let plain = updated(&old, &sent, None);
    assert_eq!((plain.spec, plain.status), (old.spec.clone(), old.status.clone()));
    let finalized = updated(&old, &sent, Some(SubresourceName::Finalize));
    assert_eq!(finalized.spec.unwrap().finalizers, Some(Vec::new()));
    assert_eq!(finalized.status, old.status);
    let status = updated(&old, &sent, Some(SubresourceName::Status));
    assert_eq!(status.spec, old.spec);
    assert_eq!(status.status.unwrap().phase.as_deref(), Some("Terminating"));
}
