use serde_json::{Value, json};

use super::*;
use crate::document::Document;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};
use crate::patch::{PatchKind, apply};
use crate::schema;
use crate::subresource::SubresourceName;

fn budget() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "n"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    })
}

const NO_PERCENTAGE: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

#[test]
fn a_spec_is_validated_when_it_is_created_and_when_it_is_updated() {
    let malformed = |field: &str, text: &str| {
        format!("spec.{field}: Invalid value: \"{text}\": {NO_PERCENTAGE}")
    };
    let [half, number] = [malformed("minAvailable", "half"), malformed("minAvailable", "5")];
    let rows = [
        ("", Value::Null, &[][..]),
        ("spec.minAvailable", json!(0), &[][..]),
        ("spec.minAvailable", json!("0%"), &[][..]),
        ("spec.minAvailable", json!("100%"), &[][..]),
        (
            "spec.minAvailable",
            json!("101%"),
            &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"][..],
        ),
        (
            "spec.minAvailable",
            json!(-1),
            &["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"][..],
        ),
        ("spec.minAvailable", json!("half"), &[half.as_str()][..]),
        ("spec.minAvailable", json!("5"), &[number.as_str()][..]),
        (
            "spec.maxUnavailable",
            json!("25%"),
            &[
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":{\"matchLabels\":{\"app\":\"web\"}},\"MaxUnavailable\":\"25%\",\"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
            ][..],
        ),
        ("spec", json!({"maxUnavailable": 3}), &[][..]),
        ("spec", json!({}), &[][..]),
        (
            "spec",
            json!({"maxUnavailable": -3}),
            &["spec.maxUnavailable: Invalid value: -3: must be greater than or equal to 0"][..],
        ),
        ("spec.unhealthyPodEvictionPolicy", json!("AlwaysAllow"), &[][..]),
        ("spec.unhealthyPodEvictionPolicy", json!("IfHealthyBudget"), &[][..]),
        (
            "spec.unhealthyPodEvictionPolicy",
            json!("Never"),
            &[
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
            ][..],
        ),
        ("spec.selector", json!({}), &[][..]),
        (
            "spec.selector",
            json!({"matchExpressions": [{"key": "app", "operator": "In"}]}),
            &[
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            ][..],
        ),
    ];
    check_create::<PodDisruptionBudget>(&budget(), &rows);
    check_update::<PodDisruptionBudget>(&budget(), None, &rows);
}

#[test]
fn a_status_is_validated_and_its_spec_is_left_alone() {
    let condition = |place: &str, value: Value| {
        let valid = json!({"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        json!([with(&valid, place, value)])
    };
    let twice = json!([condition("", Value::Null)[0], condition("", Value::Null)[0]]);
    let rows = [
        ("status.disruptionsAllowed", json!(1), &[][..]),
        ("spec.minAvailable", json!(-1), &[][..]),
        (
            "status.disruptionsAllowed",
            json!(-1),
            &["status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0"][..],
        ),
        (
            "status.expectedPods",
            json!(-1),
            &["status.expectedPods: Invalid value: -1: must be greater than or equal to 0"][..],
        ),
        ("status.conditions", condition("", Value::Null), &[][..]),
        (
            "status.conditions",
            twice,
            &["status.conditions[1].type: Duplicate value: \"DisruptionAllowed\""][..],
        ),
        (
            "status.conditions",
            condition("status", json!("Maybe")),
            &[
                "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            ][..],
        ),
        (
            "status.conditions",
            condition("reason", json!("")),
            &["status.conditions[0].reason: Required value: must be set"][..],
        ),
        (
            "status.conditions",
            condition("reason", json!("1st")),
            &[
                "status.conditions[0].reason: Invalid value: \"1st\": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
            ][..],
        ),
        (
            "status.conditions",
            condition("message", json!("m".repeat(MESSAGE_BYTES_MAX + 1))),
            &["status.conditions[0].message: Too long: may not be more than 32768 bytes"][..],
        ),
    ];
    check_update::<PodDisruptionBudget>(&budget(), Some(SubresourceName::Status), &rows);
}

#[test]
fn a_new_budget_allows_no_disruption_whatever_its_client_says() {
    let eager =
        with(&budget(), "status", json!({"disruptionsAllowed": 9, "observedGeneration": 1}));
    let status = serde_json::to_value(created::<PodDisruptionBudget>(&eager).status).unwrap();
    let zeros = json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0,
        "expectedPods": 0});
    assert_eq!(status, zeros);
    let old: PodDisruptionBudget = stored(&budget());
    assert_eq!(updated(&old, &eager, None).status, old.status);
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let old: PodDisruptionBudget = stored(&budget());
    assert_eq!(old.metadata.generation, Some(1));
    for (place, value, sub, generation) in [
        ("metadata.labels", json!({"a": "b"}), None, 1),
        ("spec.minAvailable", json!(2), None, 2),
        ("status.disruptionsAllowed", json!(2), Some(SubresourceName::Status), 1),
        ("spec.minAvailable", json!(2), Some(SubresourceName::Status), 1),
    ] {
        let new = updated(&old, &with(&budget(), place, value), sub);
        assert_eq!(new.metadata.generation, Some(generation), "{place}");
    }
}

#[test]
fn a_row_shows_what_is_left_out_as_not_available() {
    let row = |spec: Value| {
        let budget: PodDisruptionBudget = created(&with(&budget(), "spec", spec));
        budget.cells(jiff::Timestamp::UNIX_EPOCH)
    };
    assert_eq!(
        row(json!({"minAvailable": "50%"}))[..4],
        [json!("web"), json!("50%"), json!("N/A"), json!(0)]
    );
    assert_eq!(row(json!({"maxUnavailable": 2}))[1..3], ["N/A", "2"]);
}

/// Upstream's patch strategy for the selector is to replace it.
#[test]
fn a_strategic_merge_patch_replaces_the_selector_and_merges_conditions_by_type() {
    let of = schema::of("policy/v1", "PodDisruptionBudget").expect("it is served");
    let patched = |target: &Value, patch: Value| {
        let (target, patch) = (Document::new(target.clone()), patch.to_string());
        apply(PatchKind::Strategic, target, patch.as_bytes(), of).unwrap().value().clone()
    };
    let other = json!({"spec": {"selector": {"matchLabels": {"tier": "front"}}}});
    let found = patched(&budget(), other);
    assert_eq!(found["spec"]["selector"], json!({"matchLabels": {"tier": "front"}}));
    assert_eq!(found["spec"]["minAvailable"], 1);
    let conditions = json!([{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]);
    let before = with(&budget(), "status.conditions", conditions);
    let found =
        patched(&before, json!({"status": {"conditions": [{"type": "B", "status": "False"}]}}));
    let states = found["status"]["conditions"].as_array().unwrap().iter();
    let states: Vec<_> = states.map(|one| (&one["type"], &one["status"])).collect();
    assert_eq!(states, [(&json!("A"), &json!("True")), (&json!("B"), &json!("False"))]);
}

#[test]
fn the_condition_follows_the_number_and_keeps_its_time_while_its_status_stays() {
    let at = |second: i64| Time(Timestamp::from_second(second).unwrap());
    let mut status = PodDisruptionBudgetStatus { disruptions_allowed: 1, ..Default::default() };
    let condition = |status: &PodDisruptionBudgetStatus| {
        let all = list(&status.conditions);
        let one = &all[0];
        assert_eq!((all.len(), one.type_.as_str()), (1, ConditionType::DisruptionAllowed.as_str()));
        let since = one.last_transition_time.0.as_second();
        (one.status.clone(), one.reason.clone(), one.message.clone(), since)
    };
    let text = str::to_owned;
    set_disruption_allowed(&mut status, at(1));
    assert_eq!(condition(&status), (text("True"), text(SUFFICIENT_PODS), text(""), 1));
    status.disruptions_allowed = 0;
    set_disruption_allowed(&mut status, at(2));
    assert_eq!(condition(&status), (text("False"), text(INSUFFICIENT_PODS), text(""), 2));
    set_sync_failed(&mut status, "why", at(3));
    assert_eq!(condition(&status), (text("False"), text(SYNC_FAILED), text("why"), 2));
}
