//! Rules of the workload kinds, one line each.

use serde_json::{Value, json};

use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};
use crate::kinds::{Deployment, Kind, ReplicaSet, ReplicationController};
use crate::subresource::SubresourceName;

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "nginx:1"}]},
    })
}

fn controller() -> Value {
    json!({"metadata": {"name": "rc", "namespace": "n"}, "spec": {"template": template()}})
}

fn selected() -> Value {
    json!({
        "metadata": {"name": "w", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template()},
    })
}

#[test]
fn a_replication_controller_takes_its_selector_and_labels_from_the_template() {
    let kind: ReplicationController = created(&controller());
    let value = serde_json::to_value(&kind).unwrap();
    assert_eq!(value["spec"]["selector"], json!({"app": "web"}));
    assert_eq!(value["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(value["spec"]["replicas"], json!(1));
    assert_eq!(value["metadata"]["generation"], json!(1));
    assert_eq!(value["spec"]["template"]["spec"]["restartPolicy"], json!("Always"));
    // Requests, service links and host ports are for the pods themselves to get.
    assert_eq!(value["spec"]["template"]["spec"].get("enableServiceLinks"), None);
}

#[test]
fn replication_controllers() {
    check_create::<ReplicationController>(
        &controller(),
        &[
            (
                "spec.replicas",
                json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "spec.minReadySeconds",
                json!(-1),
                &["spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "spec.template",
                Value::Null,
                &["spec.selector: Required value", "spec.template: Required value"],
            ),
            (
                "spec.selector",
                json!({"app": "db"}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "spec.template.spec.restartPolicy",
                json!("Never"),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                "spec.template.spec.activeDeadlineSeconds",
                json!(1),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported",
                ],
            ),
            (
                "spec.template.spec.containers.0.image",
                json!(""),
                &["spec.template.spec.containers[0].image: Required value"],
            ),
            ("spec.template.spec.containers.0.image", json!(" padded in a template"), &[]),
            (
                "spec.template.spec.ephemeralContainers",
                json!([{"name": "e", "image": "x"}]),
                &[
                    "spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
                ],
            ),
            (
                "spec.template.spec.volumes",
                json!([{"name": "v", "secret": {}}]),
                &["spec.template.spec.volumes[0].secret.secretName: Required value"],
            ),
        ],
    );
    let number = |name: &str, number: i32| json!({"replicas": 1, name: number});
    check_update::<ReplicationController>(
        &controller(),
        Some(SubresourceName::Status),
        &[
            (
                "status",
                json!({"replicas": -1}),
                &["status.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "status",
                number("fullyLabeledReplicas", 2),
                &[
                    "status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
                ],
            ),
            (
                "status",
                number("readyReplicas", 2),
                &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
            ),
            (
                "status",
                number("availableReplicas", 1),
                &[
                    "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas",
                ],
            ),
        ],
    );
}

#[test]
fn replica_sets_and_deployments_select_by_a_selector_that_stays() {
    let mismatch = "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`";
    let rows: &[_] = &[
        ("spec.selector", Value::Null, &["spec.selector: Required value", mismatch] as &[&str]),
        (
            "spec.selector",
            json!({"matchLabels": {}}),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        ("spec.selector.matchLabels.app", json!("db"), &[mismatch]),
        (
            "spec.selector.matchExpressions",
            json!([{"key": "app", "operator": "In"}]),
            &[
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\"},\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"In\"}]}: invalid label selector",
            ],
        ),
        (
            "spec.replicas",
            json!(-1),
            &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            "spec.template.spec.containers",
            json!([]),
            &["spec.template.spec.containers: Required value"],
        ),
        (
            "spec.template.spec.restartPolicy",
            json!("Never"),
            &[
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        ),
        (
            "spec.template.spec.activeDeadlineSeconds",
            json!(1),
            &[
                "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
            ],
        ),
    ];
    check_create::<ReplicaSet>(&selected(), rows);
    check_create::<Deployment>(&selected(), rows);
    let other = with(&selected(), "spec.template.metadata.labels.tier", json!("front"));
    let frozen: &[_] = &[(
        "spec.selector.matchLabels.tier",
        json!("front"),
        &[
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"tier\":\"front\"}}: field is immutable",
        ] as &[&str],
    )];
    check_update::<ReplicaSet>(&other, None, frozen);
    check_update::<Deployment>(&other, None, frozen);
}

#[test]
fn deployments_roll_in_steps_that_leave_something_to_do() {
    let rolling = "spec.strategy";
    let steps = |unavailable: Value, surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
    check_create::<Deployment>(
        &selected(),
        &[
            (rolling, steps(json!(1), json!("50%")), &[]),
            (rolling, json!({"type": "Recreate"}), &[]),
            (
                rolling,
                json!({"type": "Recreate", "rollingUpdate": {}}),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            (
                rolling,
                json!({"type": "Big"}),
                &[
                    "spec.strategy: Unsupported value: {\"Type\":\"Big\",\"RollingUpdate\":null}: supported values: \"Recreate\", \"RollingUpdate\"",
                ],
            ),
            (
                rolling,
                steps(json!(0), json!("0%")),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                rolling,
                steps(json!(-1), json!(1)),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                rolling,
                steps(json!("101%"), json!(1)),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                ],
            ),
            (
                rolling,
                steps(json!(1), json!("half")),
                &[
                    "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"half\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ],
            ),
            (
                "spec.revisionHistoryLimit",
                json!(-1),
                &[
                    "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                "spec.progressDeadlineSeconds",
                json!(0),
                &[
                    "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
                ],
            ),
        ],
    );
    check_update::<Deployment>(
        &selected(),
        Some(SubresourceName::Status),
        &[
            (
                "status",
                json!({"replicas": 1, "updatedReplicas": 2}),
                &[
                    "status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas",
                ],
            ),
            (
                "status",
                json!({"collisionCount": -1}),
                &["status.collisionCount: Invalid value: -1: must be greater than or equal to 0"],
            ),
        ],
    );
}

#[test]
fn a_deployments_collisions_only_add_up() {
    let mut old: Deployment = stored(&selected());
    old.status.get_or_insert_default().collision_count = Some(2);
    let count = |count: i32| {
        let object = with(&selected(), "status.collisionCount", json!(count));
        let errors = updated(&old, &object, Some(SubresourceName::Status))
            .validate_update(&old, Some(SubresourceName::Status));
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(count(2), [""; 0]);
    assert_eq!(count(1), ["status.collisionCount: Invalid value: 1: cannot be decremented"]);
}

#[test]
fn the_defaults_of_a_deployment() {
    let deployment: Deployment = created(&selected());
    let spec = serde_json::to_value(&deployment.spec).unwrap();
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(spec["revisionHistoryLimit"], json!(10));
    assert_eq!(spec["progressDeadlineSeconds"], json!(600));
    assert_eq!(spec["replicas"], json!(1));
}

#[test]
fn generations_count_what_controllers_must_act_upon() {
    let old: Deployment = stored(&selected());
    let generation = |place: &str, value: Value, sub: Option<SubresourceName>| {
        updated(&old, &with(&selected(), place, value), sub).metadata.generation
    };
    assert_eq!(generation("metadata.labels", json!({"a": "b"}), None), Some(1));
    assert_eq!(generation("metadata.annotations", json!({"a": "b"}), None), Some(2));
    assert_eq!(generation("spec.replicas", json!(3), None), Some(2));
    assert_eq!(generation("spec.replicas", json!(3), Some(SubresourceName::Status)), Some(1));
    let old: ReplicaSet = stored(&selected());
    let scaled = with(&selected(), "spec.replicas", json!(3));
    assert_eq!(updated(&old, &scaled, None).metadata.generation, Some(2));
    assert_eq!(updated(&old, &scaled, None).fields(), [("status.replicas", "0".to_owned())]);
}

#[test]
fn an_update_that_leaves_the_spec_as_it_is_repeats_no_warning() {
    let place = "spec.template.spec.imagePullSecrets";
    let odd = with(&selected(), place, json!([{"name": ""}]));
    let old: Deployment = stored(&odd);
    let labelled = updated(&old, &with(&odd, "metadata.labels", json!({"a": "b"})), None);
    assert_eq!(labelled.update_warnings(&old), [""; 0]);
    let scaled = updated(&old, &with(&odd, "spec.replicas", json!(3)), None);
    assert_eq!(scaled.update_warnings(&old), scaled.warnings());
    assert_eq!(scaled.warnings().len(), 1);
}

#[test]
fn warnings_of_a_template_say_where() {
    let place = "spec.template.spec.imagePullSecrets";
    let deployment: Deployment = created(&with(&selected(), place, json!([{"name": ""}])));
    assert_eq!(
        deployment.warnings(),
        ["spec.template.spec.imagePullSecrets[0].name: invalid empty name \"\""]
    );
}
