use serde_json::{Value, json};

use super::LimitRange;
use crate::kinds::testing::{check_create, check_update, created};

fn range(item: Value) -> Value {
    json!({ "metadata": { "name": "l", "namespace": "n" }, "spec": { "limits": [item] } })
}

fn valid() -> Value {
    range(json!({ "type": "Container", "max": { "cpu": "2" }, "min": { "cpu": "100m" } }))
}

#[test]
fn a_container_gets_the_maximum_as_limit_and_the_limit_as_request() {
    let item = |item: Value| {
        let range: LimitRange = created(&range(item));
        serde_json::to_value(&range.spec.unwrap().limits[0]).unwrap()
    };
    assert_eq!(
        item(
            json!({ "type": "Container", "max": { "cpu": "2000m" }, "min": { "cpu": "1", "memory": "1Mi" },
            "default": { "memory": "2Mi" }, "defaultRequest": { "x.y/z": "1" } })
        ),
        json!({ "type": "Container", "max": { "cpu": "2" }, "min": { "cpu": "1", "memory": "1Mi" },
            "default": { "cpu": "2", "memory": "2Mi" },
            "defaultRequest": { "cpu": "2", "memory": "2Mi", "x.y/z": "1" } })
    );
    assert_eq!(
        item(json!({ "type": "Container", "min": { "cpu": "1" } })),
        json!({ "type": "Container", "min": { "cpu": "1" }, "defaultRequest": { "cpu": "1" } })
    );
    for item_of in ["Pod", "PersistentVolumeClaim"] {
        let same = json!({ "type": item_of, "max": { "cpu": "1" } });
        assert_eq!(item(same.clone()), same);
    }
}

#[test]
fn types_are_known_and_each_is_there_once() {
    let rows = [
        ("spec.limits.0.type", json!("Pod"), &[][..]),
        ("spec.limits.0.type", json!("example.com/thing"), &[][..]),
        (
            "spec.limits.0.type",
            json!("Node"),
            &[
                "spec.limits[0].type: Invalid value: \"Node\": must be a standard limit type or fully qualified",
            ],
        ),
        (
            "spec.limits.1",
            json!({ "type": "Container" }),
            &["spec.limits[1].type: Duplicate value: \"Container\""],
        ),
        ("spec.limits", json!([]), &[]),
        (
            "spec.limits.0.type",
            json!("PersistentVolumeClaim"),
            &[
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        ),
    ];
    check_create::<LimitRange>(&valid(), &rows);
    check_update::<LimitRange>(&valid(), None, &rows);
    let claim = range(json!({ "type": "PersistentVolumeClaim", "min": { "storage": "1Gi" } }));
    check_create::<LimitRange>(&claim, &[]);
}

#[test]
fn resources_are_those_of_containers_and_amounts_can_be_read() {
    check_create::<LimitRange>(
        &valid(),
        &[
            (
                "spec.limits.0.max",
                json!({ "storage": "1" }),
                &[
                    "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                    "spec.limits[0].default[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                    "spec.limits[0].defaultRequest[storage]: Invalid value: \"storage\": must be a standard resource for containers",
                ],
            ),
            (
                "spec.limits.0.maxLimitRequestRatio",
                json!({ "cpu": "x" }),
                &[
                    "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                ],
            ),
        ],
    );
    let pod = range(json!({ "type": "Pod", "max": { "cpu": "1" } }));
    check_create::<LimitRange>(
        &pod,
        &[
            (
                "spec.limits.0.default",
                json!({ "cpu": "1" }),
                &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
            ),
            (
                "spec.limits.0.defaultRequest",
                json!({ "cpu": "1" }),
                &[
                    "spec.limits[0].defaultRequest: Forbidden: may not be specified when `type` is 'Pod'",
                ],
            ),
        ],
    );
}

#[test]
fn amounts_do_not_contradict_each_other() {
    let item = |field: &str| format!("spec.limits.0.{field}");
    let cpu = |amount: &str| json!({ "cpu": amount });
    let invalid = |field: &str, shown: &str, detail: &str| {
        format!("spec.limits[0].{field}[cpu]: Invalid value: \"{shown}\": {detail}")
    };
    let whole = range(json!({ "type": "Container", "max": cpu("2"), "min": cpu("1"),
        "default": cpu("2"), "defaultRequest": cpu("1") }));
    check_create::<LimitRange>(
        &whole,
        &[
            (&item("default"), cpu("1"), &[]),
            (
                &item("default"),
                cpu("3"),
                &[&invalid("default", "2", "default value 3 is greater than max value 2")],
            ),
            (
                &item("default"),
                cpu("500m"),
                &[
                    &invalid(
                        "defaultRequest",
                        "1",
                        "default request value 1 is greater than default limit value 500m",
                    ),
                    &invalid("default", "1", "min value 1 is greater than default value 500m"),
                ],
            ),
            (
                &item("defaultRequest"),
                cpu("500m"),
                &[&invalid(
                    "defaultRequest",
                    "500m",
                    "min value 1 is greater than default request value 500m",
                )],
            ),
            (
                &item("defaultRequest"),
                cpu("2500m"),
                &[
                    &invalid(
                        "defaultRequest",
                        "2500m",
                        "default request value 2500m is greater than max value 2",
                    ),
                    &invalid(
                        "defaultRequest",
                        "2500m",
                        "default request value 2500m is greater than default limit value 2",
                    ),
                ],
            ),
            (
                &item("maxLimitRequestRatio"),
                cpu("500m"),
                &[&invalid("maxLimitRequestRatio", "500m", "ratio 500m is less than 1")],
            ),
            (
                &item("maxLimitRequestRatio"),
                cpu("3"),
                &[&invalid(
                    "maxLimitRequestRatio",
                    "3",
                    "ratio 3 is greater than max/min = 2.000000",
                )],
            ),
            (&item("maxLimitRequestRatio"), cpu("2"), &[]),
        ],
    );
    check_create::<LimitRange>(
        &range(json!({ "type": "Pod", "max": cpu("1") })),
        &[(
            &item("min"),
            cpu("1500m"),
            &[&invalid("min", "1500m", "min value 1500m is greater than max value 1")],
        )],
    );
    let device = json!({ "type": "Container", "default": { "x.y/gpu": "2" }, "defaultRequest": { "x.y/gpu": "1" } });
    check_create::<LimitRange>(
        &valid(),
        &[(
            "spec.limits.0",
            device,
            &[
                "spec.limits[0].defaultRequest[x.y/gpu]: Invalid value: \"1\": default value 2 must equal to defaultRequest value 1 in x.y/gpu",
            ],
        )],
    );
}
