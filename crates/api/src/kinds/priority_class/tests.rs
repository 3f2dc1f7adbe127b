use serde_json::{Value, json};

use super::PriorityClass;
use crate::kinds::Kind;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};

fn valid() -> Value {
    json!({ "metadata": { "name": "high" }, "value": 1000 })
}

const RESERVED: &str = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";

#[test]
fn values_above_a_billion_and_system_names_are_the_clusters_own() {
    let too_large =
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000";
    check_create::<PriorityClass>(
        &valid(),
        &[
            ("value", json!(1_000_000_000), &[]),
            ("value", json!(1_000_000_001), &[too_large]),
            ("value", json!(-2_147_483_648), &[]),
            ("globalDefault", json!(true), &[]),
            (
                "metadata.name",
                json!("system-x"),
                &[&format!("{RESERVED}system-x is not a known system priority class")],
            ),
            ("metadata.name", json!("system"), &[]),
            (
                "metadata.name",
                json!("system-node-critical"),
                &[&format!(
                    "{RESERVED}value of system-node-critical PriorityClass must be 2000001000"
                )],
            ),
        ],
    );
    let system =
        json!({ "metadata": { "name": "system-cluster-critical" }, "value": 2_000_000_000 });
    let default =
        format!("{RESERVED}globalDefault of system-cluster-critical PriorityClass must be false");
    check_create::<PriorityClass>(
        &system,
        &[
            ("globalDefault", json!(true), &[&default]),
            ("metadata.name", json!("critical"), &[too_large]),
        ],
    );
}

#[test]
fn a_preemption_policy_is_one_of_two() {
    check_create::<PriorityClass>(
        &valid(),
        &[
            ("preemptionPolicy", json!("Never"), &[]),
            ("preemptionPolicy", json!(""), &["preemptionPolicy: Required value"]),
            (
                "preemptionPolicy",
                json!("Now"),
                &[
                    "preemptionPolicy: Unsupported value: \"Now\": supported values: \"PreemptLowerPriority\", \"Never\"",
                ],
            ),
        ],
    );
    let class: PriorityClass = created(&valid());
    assert_eq!(class.preemption_policy.as_deref(), Some("PreemptLowerPriority"));
}

#[test]
fn value_and_policy_do_not_change() {
    check_update::<PriorityClass>(
        &valid(),
        None,
        &[
            ("value", json!(1), &["value: Forbidden: may not be changed in an update."]),
            (
                "preemptionPolicy",
                json!("Never"),
                &["preemptionPolicy: Invalid value: \"Never\": field is immutable"],
            ),
            ("description", json!("d"), &[]),
            ("globalDefault", json!(true), &[]),
        ],
    );
}

#[test]
fn the_generation_stays_one() {
    let old: PriorityClass = stored(&valid());
    let new = updated(&old, &with(&valid(), "description", json!("d")), None);
    assert_eq!((old.metadata.generation, new.metadata.generation), (Some(1), Some(1)));
}

#[test]
fn a_row_shows_value_default_and_policy() {
    let row = |object: &Value| created::<PriorityClass>(object).cells(jiff::Timestamp::UNIX_EPOCH);
    let expected = [json!("high"), json!(1000), json!(false), json!("<unknown>")];
    assert_eq!(row(&valid())[..4], expected);
    assert_eq!(row(&valid())[4], "PreemptLowerPriority");
    assert_eq!(row(&with(&valid(), "globalDefault", json!(true)))[2], true);
}
