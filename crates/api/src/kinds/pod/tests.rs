//! Rules of pods, one line each: what was done to a valid pod, and what is said about it.

use serde_json::{Value, json};

use crate::kinds::testing::{created, stored, updated, with};
use crate::kinds::{Kind, Pod};
use crate::subresource::SubresourceName;

mod containers;
mod fuzz;
mod placement;
mod rarities;
mod updates;
mod volumes;

/// The guide's pod, byte for byte what it says.
pub(super) fn guide() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mypod", "namespace": "myns"},
        "spec": {
            "containers": [{
                "name": "mypod",
                "image": "redis",
                "volumeMounts": [{"name": "foo", "mountPath": "/etc/foo", "readOnly": true}],
            }],
            "volumes": [{"name": "foo", "secret": {"secretName": "mysecret"}}],
        },
    })
}

#[test]
fn the_guides_pod_gets_the_defaults_of_v1() {
    let pod: Pod = created(&guide());
    assert_eq!(
        serde_json::to_value(&pod).unwrap(),
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "mypod", "namespace": "myns", "generation": 1},
            "spec": {
                "containers": [{
                    "name": "mypod",
                    "image": "redis",
                    "imagePullPolicy": "Always",
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "volumeMounts": [{"name": "foo", "mountPath": "/etc/foo", "readOnly": true}],
                }],
                "dnsPolicy": "ClusterFirst",
                "enableServiceLinks": true,
                "restartPolicy": "Always",
                "schedulerName": "default-scheduler",
                "securityContext": {},
                "terminationGracePeriodSeconds": 30,
                "volumes": [{
                    "name": "foo",
                    "secret": {"secretName": "mysecret", "defaultMode": 420},
                }],
            },
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        })
    );
}

#[test]
fn defaults_are_idempotent_and_complete() {
    let mut object = guide();
    for (place, value) in [
        ("spec.serviceAccount", json!("builder")),
        ("spec.hostNetwork", json!(true)),
        ("spec.containers.0.ports", json!([{"containerPort": 80}])),
        ("spec.containers.0.resources.limits", json!({"cpu": "0.5", "memory": "1024Mi"})),
        ("spec.containers.0.livenessProbe.httpGet.port", json!(80)),
        ("spec.containers.0.readinessProbe.grpc.port", json!(80)),
        ("spec.containers.0.lifecycle.preStop.httpGet.port", json!("web")),
        (
            "spec.containers.0.env",
            json!([
                {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            ]),
        ),
        ("spec.initContainers", json!([{"name": "init", "image": "busybox:1"}])),
        ("spec.volumes.1", json!({"name": "nothing"})),
        ("spec.volumes.2", json!({"name": "host", "hostPath": {"path": "/x"}})),
        ("spec.volumes.3", json!({"name": "map", "configMap": {"name": "m", "defaultMode": 0}})),
        (
            "spec.volumes.4",
            json!({"name": "all", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            ]}}),
        ),
    ] {
        object = with(&object, place, value);
    }
    let mut pod: Pod = created(&object);
    let once = serde_json::to_value(&pod).unwrap();
    let spec = &once["spec"];
    for (place, expected) in [
        ("/serviceAccountName", json!("builder")),
        ("/serviceAccount", json!("builder")),
        ("/containers/0/ports/0", json!({"containerPort": 80, "hostPort": 80, "protocol": "TCP"})),
        (
            "/containers/0/resources",
            json!({
                "limits": {"cpu": "500m", "memory": "1Gi"},
                "requests": {"cpu": "500m", "memory": "1Gi"},
            }),
        ),
        (
            "/containers/0/livenessProbe",
            json!({
                "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                "failureThreshold": 3, "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1,
            }),
        ),
        ("/containers/0/readinessProbe/grpc", json!({"port": 80, "service": ""})),
        (
            "/containers/0/lifecycle/preStop/httpGet",
            json!({"path": "/", "port": "web", "scheme": "HTTP"}),
        ),
        (
            "/containers/0/env/0/valueFrom/fieldRef",
            json!({"apiVersion": "v1", "fieldPath": "metadata.name"}),
        ),
        (
            "/containers/0/env/1/valueFrom/resourceFieldRef",
            json!({"resource": "limits.cpu", "divisor": "0"}),
        ),
        ("/initContainers/0/imagePullPolicy", json!("IfNotPresent")),
        ("/volumes/1", json!({"name": "nothing", "emptyDir": {}})),
        ("/volumes/2/hostPath", json!({"path": "/x", "type": ""})),
        ("/volumes/3/configMap/defaultMode", json!(0)),
        ("/volumes/4/projected/defaultMode", json!(420)),
        (
            "/volumes/4/projected/sources/0/serviceAccountToken",
            json!({"path": "token", "expirationSeconds": 3600}),
        ),
        ("/volumes/4/projected/sources/1/downwardAPI/items/0/fieldRef/apiVersion", json!("v1")),
    ] {
        assert_eq!(spec.pointer(place), Some(&expected), "{place}");
    }
    assert_eq!(once["status"]["qosClass"], json!("Burstable"));
    pod.set_defaults();
    assert_eq!(serde_json::to_value(&pod).unwrap(), once);
    assert_eq!(pod.validate(), []);
}

#[test]
fn a_client_cannot_set_the_status_of_a_new_pod() {
    let pod: Pod = created(&with(&guide(), "status.phase", json!("Running")));
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
    let gated: Pod = created(&with(&guide(), "spec.schedulingGates", json!([{"name": "g.io/x"}])));
    let condition = &gated.status.unwrap().conditions.unwrap()[0];
    assert_eq!(condition.reason.as_deref(), Some("SchedulingGated"));
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let old: Pod = stored(&guide());
    assert_eq!(updated(&old, &guide(), None).metadata.generation, Some(1));
    let changed = with(&guide(), "spec.containers.0.image", json!("redis:7"));
    assert_eq!(updated(&old, &changed, None).metadata.generation, Some(2));
    assert_eq!(updated(&old, &changed, Some(SubresourceName::Status)).metadata.generation, Some(1));
}

#[test]
fn each_subresource_writes_its_own_part() {
    let mut old: Pod = stored(&guide());
    old.status.as_mut().unwrap().phase = Some("Running".to_owned());
    let sent = with(&guide(), "status", json!({"phase": "Failed"}));
    let sent = with(&sent, "spec.containers.0.image", json!("other"));
    let plain = updated(&old, &sent, None);
    assert_eq!(plain.status, old.status);
    assert_eq!(plain.spec.unwrap().containers[0].image.as_deref(), Some("other"));
    let status = updated(&old, &sent, Some(SubresourceName::Status));
    assert_eq!(status.spec, old.spec);
    assert_eq!(status.status.as_ref().unwrap().phase.as_deref(), Some("Failed"));
    assert_eq!(status.status.unwrap().qos_class.as_deref(), Some("BestEffort"));
}

#[test]
fn pods_are_selected_by_where_and_how_they_run() {
    let sent = with(&guide(), "spec.nodeName", json!("n1"));
    let fields = created::<Pod>(&sent).fields();
    for expected in [
        ("spec.nodeName", "n1"),
        ("spec.restartPolicy", "Always"),
        ("spec.schedulerName", "default-scheduler"),
        ("spec.hostNetwork", "false"),
        ("status.phase", "Pending"),
        ("status.podIP", ""),
    ] {
        assert!(fields.contains(&(expected.0, expected.1.to_owned())), "{expected:?}");
    }
    let mut labels: Vec<_> = fields.iter().map(|(label, _)| *label).collect();
    labels.sort_unstable();
    let mut known = Pod::INFO.field_labels.to_vec();
    known.sort_unstable();
    assert_eq!(labels, known);
}

#[test]
fn what_is_most_likely_not_meant_is_warned_of() {
    let mut object = guide();
    for (place, value) in [
        ("spec.imagePullSecrets", json!([{"name": ""}, {"name": "a"}, {"name": "a"}])),
        (
            "spec.containers.0.env",
            json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "A", "value": "$(A)3"}]),
        ),
        ("spec.containers.0.resources.requests", json!({"memory": "100m"})),
        ("spec.terminationGracePeriodSeconds", json!(-1)),
        ("spec.volumes.1", json!({"name": "g", "gitRepo": {"repository": "r"}})),
    ] {
        object = with(&object, place, value);
    }
    assert_eq!(
        created::<Pod>(&object).warnings(),
        [
            "spec.volumes[1].gitRepo: deprecated in v1.11",
            "spec.imagePullSecrets[2].name: duplicate name \"a\"",
            "spec.imagePullSecrets[0].name: invalid empty name \"\"",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ]
    );
    assert_eq!(created::<Pod>(&guide()).warnings(), [""; 0]);
}
