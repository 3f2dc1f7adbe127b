//! Rules of events in both forms, one line each.

use serde_json::{Value, json};

use super::{Event, SeriesEvent, from_core, to_core};
use crate::kinds::Kind;
use crate::kinds::testing::{check_create, check_update, created, with};

fn old_style() -> Value {
    json!({
        "metadata": {"name": "e.1", "namespace": "n"},
        "involvedObject": {"kind": "Pod", "namespace": "n", "name": "p"},
        "reason": "FailedMount",
        "message": "secret \"s\" not found",
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2020-01-01T00:00:00Z",
        "lastTimestamp": "2020-01-01T00:00:00Z",
        "count": 3,
        "type": "Warning",
    })
}

fn new_style() -> Value {
    json!({
        "metadata": {"name": "e.1", "namespace": "n"},
        "regarding": {"kind": "Pod", "namespace": "n", "name": "p"},
        "eventTime": "2020-01-01T00:00:00.000000Z",
        "reportingController": "coffer.dev/kubelet",
        "reportingInstance": "n1",
        "action": "Mounting",
        "reason": "FailedMount",
        "note": "secret \"s\" not found",
        "type": "Warning",
    })
}

#[test]
fn core_events_are_of_their_objects_namespace() {
    let mismatch = |shown: &str| {
        format!(
            "involvedObject.namespace: Invalid value: \"{shown}\": does not match event.namespace"
        )
    };
    check_create::<Event>(
        &old_style(),
        &[
            ("metadata.name", json!("Any_Name:1"), &[]),
            (
                "metadata.name",
                json!("a/b"),
                &["metadata.name: Invalid value: \"a/b\": may not contain '/'"],
            ),
            ("type", json!("Anything"), &[]),
            ("involvedObject.namespace", json!("other"), &[&mismatch("other")]),
            ("involvedObject.namespace", Value::Null, &[&mismatch("")]),
            (
                "eventTime",
                json!("2020-01-01T00:00:00.000000Z"),
                &[
                    "reportingController: Required value",
                    "reportingController: Invalid value: \"\": name part must be non-empty",
                    "reportingController: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                    "reportingInstance: Required value",
                    "action: Required value",
                ],
            ),
        ],
    );
    check_update::<Event>(
        &old_style(),
        None,
        &[("count", json!(4), &[]), ("message", json!("new"), &[])],
    );
}

#[test]
fn series_events_are_strict() {
    let long = "x".repeat(129);
    check_create::<SeriesEvent>(
        &new_style(),
        &[
            ("eventTime", Value::Null, &["eventTime: Required value"]),
            ("type", json!("Other"), &["type: Invalid value: \"\": has invalid value: Other"]),
            ("action", json!(""), &["action: Required value"]),
            (
                "action",
                json!(long),
                &["action: Invalid value: \"\": can have at most 128 characters"],
            ),
            (
                "reportingInstance",
                json!(long),
                &["reportingInstance: Invalid value: \"\": can have at most 128 characters"],
            ),
            (
                "note",
                json!("x".repeat(1025)),
                &["message: Invalid value: \"\": can have at most 1024 characters"],
            ),
            ("deprecatedCount", json!(1), &["count: Invalid value: \"\": needs to be unset"]),
            (
                "deprecatedSource",
                json!({"component": "c"}),
                &["source: Invalid value: \"\": needs to be unset"],
            ),
            (
                "deprecatedFirstTimestamp",
                json!("2020-01-01T00:00:00Z"),
                &["firstTimestamp: Invalid value: \"\": needs to be unset"],
            ),
            (
                "series",
                json!({"count": 1, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}),
                &["series.count: Invalid value: \"\": should be at least 2"],
            ),
        ],
    );
    check_update::<SeriesEvent>(
        &new_style(),
        None,
        &[
            ("series", json!({"count": 2, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}), &[]),
            ("note", json!("other"), &["message: Invalid value: \"other\": field is immutable"]),
            ("action", json!("Other"), &["action: Invalid value: \"Other\": field is immutable"]),
            (
                "reportingInstance",
                json!("n2"),
                &["reportingInstance: Invalid value: \"n2\": field is immutable"],
            ),
        ],
    );
}

#[test]
fn an_event_is_the_same_in_both_forms() {
    let core: Event = created(&old_style());
    assert_eq!(to_core(from_core(core.clone())), core);
    let series: SeriesEvent = created(&with(
        &new_style(),
        "series",
        json!({"count": 2, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}),
    ));
    assert_eq!(from_core(to_core(series.clone())), series);
    assert_eq!(to_core(series).message.as_deref(), Some("secret \"s\" not found"));
}

#[test]
fn events_are_selected_by_what_they_are_about() {
    let fields = created::<Event>(&old_style()).fields();
    for expected in [
        ("involvedObject.kind", "Pod"),
        ("involvedObject.name", "p"),
        ("involvedObject.namespace", "n"),
        ("reason", "FailedMount"),
        ("source", "kubelet"),
        ("type", "Warning"),
    ] {
        assert!(fields.contains(&(expected.0, expected.1.to_owned())), "{expected:?}");
    }
    let fields = created::<SeriesEvent>(&new_style()).fields();
    assert!(fields.contains(&("regarding.name", "p".to_owned())));
    assert!(fields.contains(&("reportingController", "coffer.dev/kubelet".to_owned())));
}
