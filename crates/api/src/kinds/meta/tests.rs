//! Rules of metadata, shown on a ConfigMap, which has few of its own.

use serde_json::{Value, json};

use crate::kinds::testing::{check_create, check_update, stored, updated, with};
use crate::kinds::{ConfigMap, Kind, Namespace};

fn valid() -> Value {
    json!({"metadata": {"name": "m", "namespace": "n", "labels": {"a": "b"}}})
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

#[test]
fn metadata_of_new_objects() {
    let bad_name = format!("metadata.name: Invalid value: \"A\": {SUBDOMAIN}");
    let bad_prefix = format!("metadata.generateName: Invalid value: \"A\": {SUBDOMAIN}");
    let bad_label = format!("metadata.labels: Invalid value: \"a b\": {QUALIFIED}");
    let bad_annotation = format!("metadata.annotations: Invalid value: \"a b\": {QUALIFIED}");
    let owner = |change: &str, value: Value| {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
        json!([with(&owner, change, value)])
    };
    check_create::<ConfigMap>(
        &valid(),
        &[
            ("metadata.name", json!("A"), &[&bad_name]),
            (
                "metadata.name",
                Value::Null,
                &["metadata.name: Required value: name or generateName is required"],
            ),
            ("metadata.generateName", json!("A"), &[&bad_prefix]),
            ("metadata.generateName", json!("a-"), &[]),
            ("metadata.namespace", Value::Null, &["metadata.namespace: Required value"]),
            (
                "metadata.namespace",
                json!("a.b"),
                &["metadata.namespace: Invalid value: \"a.b\": must not contain dots"],
            ),
            (
                "metadata.generation",
                json!(-1),
                &["metadata.generation: Invalid value: -1: must be greater than or equal to 0"],
            ),
            ("metadata.labels.a b", json!("x"), &[&bad_label]),
            (
                "metadata.labels.a",
                json!("x".repeat(64)),
                &[&format!(
                    "metadata.labels: Invalid value: \"{}\": must be no more than 63 characters",
                    "x".repeat(64)
                )],
            ),
            ("metadata.annotations.a b", json!("never shown"), &[&bad_annotation]),
            (
                "metadata.annotations.UPPER~example~com/x",
                json!("fine: keys are compared in lower case"),
                &[],
            ),
            (
                "metadata.annotations.x",
                json!("y".repeat(262_144)),
                &["metadata.annotations: Too long: may not be more than 262144 bytes"],
            ),
            ("metadata.ownerReferences", owner("", Value::Null), &[]),
            (
                "metadata.ownerReferences",
                owner("apiVersion", json!("")),
                &[
                    "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty",
                ],
            ),
            (
                "metadata.ownerReferences",
                owner("apiVersion", json!("a/b/v1")),
                &[
                    "metadata.ownerReferences.apiVersion: Invalid value: \"a/b/v1\": version must not be empty",
                ],
            ),
            (
                "metadata.ownerReferences",
                owner("kind", json!("")),
                &["metadata.ownerReferences.kind: Invalid value: \"\": must not be empty"],
            ),
            (
                "metadata.ownerReferences",
                owner("name", json!("")),
                &["metadata.ownerReferences.name: Invalid value: \"\": must not be empty"],
            ),
            (
                "metadata.ownerReferences",
                owner("uid", json!("")),
                &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
            ),
            (
                "metadata.ownerReferences",
                owner("kind", json!("Event")),
                &[
                    "metadata.ownerReferences: Invalid value: {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"p\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed from being an owner",
                ],
            ),
            ("metadata.finalizers", json!(["example.com/f", "orphan"]), &[]),
            (
                "metadata.finalizers",
                json!(["f"]),
                &[
                    "metadata.finalizers[0]: Invalid value: \"f\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
            (
                "metadata.finalizers",
                json!(["orphan", "foregroundDeletion"]),
                &[
                    "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and foregroundDeletion cannot be both set",
                ],
            ),
            (
                "metadata.managedFields",
                json!([{"operation": "Merge"}]),
                &[
                    "metadata.managedFields[0].operation: Invalid value: \"Merge\": must be `Apply` or `Update`",
                ],
            ),
            (
                "metadata.managedFields",
                json!([{"operation": "Apply", "fieldsType": "V2"}]),
                &[
                    "metadata.managedFields[0].fieldsType: Invalid value: \"V2\": must be `FieldsV1`",
                ],
            ),
            (
                "metadata.managedFields",
                json!([{"operation": "Apply", "manager": "m".repeat(129)}]),
                &["metadata.managedFields[0].manager: Too long: may not be more than 128 bytes"],
            ),
            (
                "metadata.managedFields",
                json!([{"operation": "Apply", "manager": "a\u{1}"}]),
                &[
                    "metadata.managedFields[0].manager: Invalid value: \"a\\x01\": invalid character U+0001 (at position 1)",
                ],
            ),
            (
                "metadata.managedFields",
                json!([{"operation": "Apply", "subresource": "s".repeat(257)}]),
                &[
                    "metadata.managedFields[0].subresource: Too long: may not be more than 256 bytes",
                ],
            ),
        ],
    );
}

#[test]
fn only_one_owner_is_the_controller() {
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
    let object = with(&valid(), "metadata.ownerReferences", json!([owner("a"), owner("b")]));
    let errors = crate::kinds::testing::created::<ConfigMap>(&object).validate();
    assert!(errors[0].detail.starts_with(
        "Only one reference can have Controller set to true. Found \"true\" in references for Pod/a and Pod/b"
    ));
}

#[test]
fn cluster_scoped_objects_have_no_namespace() {
    let object = json!({"metadata": {"name": "n"}});
    let row = json!("x");
    check_create::<Namespace>(
        &object,
        &[(
            "metadata.namespace",
            row,
            &["metadata.namespace: Forbidden: not allowed on this type"],
        )],
    );
}

#[test]
fn identity_does_not_change() {
    check_update::<ConfigMap>(
        &valid(),
        None,
        &[
            (
                "metadata.name",
                json!("other"),
                &["metadata.name: Invalid value: \"other\": field is immutable"],
            ),
            (
                "metadata.namespace",
                json!("other"),
                &["metadata.namespace: Invalid value: \"other\": field is immutable"],
            ),
            (
                "metadata.uid",
                json!("other"),
                &["metadata.uid: Invalid value: \"other\": field is immutable"],
            ),
            (
                "metadata.creationTimestamp",
                json!("2020-01-01T00:00:00Z"),
                &[
                    "metadata.creationTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is immutable",
                ],
            ),
            (
                "metadata.deletionTimestamp",
                json!("2020-01-01T00:00:00Z"),
                &[
                    "metadata.deletionTimestamp: Invalid value: \"2020-01-01T00:00:00Z\": field is immutable",
                ],
            ),
            (
                "metadata.deletionGracePeriodSeconds",
                json!(1),
                &["metadata.deletionGracePeriodSeconds: Invalid value: 1: field is immutable"],
            ),
            ("metadata.labels.c", json!("d"), &[]),
        ],
    );
}

#[test]
fn no_finalizer_comes_after_the_deletion() {
    let mut old: ConfigMap = stored(&valid());
    let when: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time =
        serde_json::from_value(json!("2020-01-01T00:00:00Z")).unwrap();
    old.metadata.deletion_timestamp = Some(when.clone());
    let object = with(&valid(), "metadata.finalizers", json!(["example.com/f"]));
    let mut new = updated(&old, &object, None);
    new.metadata.deletion_timestamp = Some(when);
    let errors = new.validate_update(&old, None);
    assert_eq!(
        errors[0].to_string(),
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"example.com/f\"}"
    );
}

#[test]
fn an_update_names_its_resource_version_and_does_not_turn_back() {
    let old: ConfigMap = stored(&with(&valid(), "metadata.generation", json!(3)));
    let mut new = updated(&old, &valid(), None);
    new.metadata.resource_version = None;
    new.metadata.generation = Some(2);
    let texts: Vec<_> = new.validate_update(&old, None).iter().map(|it| it.to_string()).collect();
    assert_eq!(
        texts,
        [
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.generation: Invalid value: 2: must not be decremented",
        ]
    );
}
