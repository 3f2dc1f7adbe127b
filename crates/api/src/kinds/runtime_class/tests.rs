//! Rules of runtime classes, one line each.

use serde_json::json;

use super::RuntimeClass;
use crate::kinds::testing::{check_create, check_update, created};

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

fn valid() -> serde_json::Value {
    json!({
        "metadata": {"name": "gvisor"},
        "handler": "runsc",
        "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
        "scheduling": {
            "nodeSelector": {"sandbox": "yes"},
            "tolerations": [{"key": "sandbox", "operator": "Exists"}],
        },
    })
}

#[test]
fn a_handler_is_a_label_and_the_rest_is_what_a_pod_may_have() {
    let handler = |value: &str| format!("handler: Invalid value: \"{value}\": {LABEL}");
    check_create::<RuntimeClass>(
        &valid(),
        &[
            ("handler", json!(null), &[&handler("")]),
            ("handler", json!(""), &[&handler("")]),
            ("handler", json!("Run/../sc"), &[&handler("Run/../sc")]),
            ("handler", json!("a.b"), &["handler: Invalid value: \"a.b\": must not contain dots"]),
            (
                "handler",
                json!("a".repeat(64)),
                &[&format!(
                    "handler: Invalid value: \"{}\": must be no more than 63 characters",
                    "a".repeat(64)
                )],
            ),
            ("metadata.name", json!("a.b"), &[]),
            ("overhead", json!({}), &[]),
            ("scheduling", json!({}), &[]),
            (
                "overhead.podFixed.cpu",
                json!("-1"),
                &[
                    "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                "scheduling.nodeSelector",
                json!({"a": "b c"}),
                &[
                    "scheduling.nodeSelector: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                ],
            ),
            (
                "scheduling.tolerations.0.effect",
                json!("Sometimes"),
                &[
                    "scheduling.tolerations[0].effect: Unsupported value: \"Sometimes\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                ],
            ),
        ],
    );
}

#[test]
fn the_handler_of_a_class_does_not_change() {
    check_update::<RuntimeClass>(
        &valid(),
        None,
        &[
            ("handler", json!("kata"), &["handler: Invalid value: \"kata\": field is immutable"]),
            ("overhead", json!(null), &[]),
            ("scheduling.nodeSelector", json!({"other": "yes"}), &[]),
        ],
    );
}

#[test]
fn amounts_are_stored_in_canonical_form() {
    let mut class = valid();
    class["overhead"]["podFixed"]["cpu"] = json!("0.25");
    let class: RuntimeClass = created(&class);
    assert_eq!(class.overhead.unwrap().pod_fixed.unwrap()["cpu"].0, "250m");
}
