//! Rows with exact expectations, from objects written as their manifests.

use serde_json::{Value, json};

use crate::kinds::{ALL, Kind};
use crate::table::Column;

const NOW: &str = "2026-01-01T01:00:00Z";

/// The row of an object made five minutes before [`NOW`] and named `x`.
fn row<T: Kind>(mut object: Value) -> Vec<Value> {
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    object["metadata"]["name"] = "x".into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:55:00Z".into();
    let object: T = serde_json::from_value(object).expect("a manifest of the kind");
    let cells = object.cells(NOW.parse().expect("a time"));
    assert_eq!(cells.len(), T::INFO.columns.len(), "one cell per column");
    cells
}

fn columns(plural: &str, group: &str) -> &'static [Column] {
    let found = ALL.iter().find(|info| (info.plural, info.group) == (plural, group));
    found.expect("a served resource").columns
}

fn headers(columns: &[Column], priority: i32) -> Vec<&'static str> {
    columns.iter().filter(|column| column.priority == priority).map(|column| column.name).collect()
}

type Pod = k8s_openapi::api::core::v1::Pod;

/// READY, STATUS and RESTARTS of a pod with these containers.
fn pod(containers: &[&str], object: Value) -> [String; 3] {
    let mut object = object;
    let containers: Vec<Value> = containers.iter().map(|name| json!({ "name": name })).collect();
    object["spec"]["containers"] = containers.into();
    let row = row::<Pod>(object);
    [1, 2, 3].map(|at| row[at].as_str().expect("a string").to_owned())
}

#[test]
fn the_usual_columns_of_a_pod() {
    let columns = columns("pods", "");
    assert_eq!(headers(columns, 0), ["Name", "Ready", "Status", "Restarts", "Age"]);
    assert_eq!(headers(columns, 1), ["IP", "Node", "Nominated Node", "Readiness Gates"]);
    assert_eq!(
        serde_json::to_value(columns[1]).expect("a column"),
        json!({
            "name": "Ready", "type": "string", "format": "", "priority": 0,
            "description": "The aggregate readiness state of this pod for accepting traffic.",
        }),
    );
    assert_eq!(columns[0].format, "name");
}

#[test]
fn a_running_pod_shows_its_place() {
    let row = row::<Pod>(json!({
        "spec": { "nodeName": "node1", "containers": [{ "name": "a" }] },
        "status": {
            "phase": "Running",
            "podIPs": [{ "ip": "10.1.0.7" }],
            "containerStatuses": [{
                "name": "a", "ready": true, "restartCount": 1, "image": "", "imageID": "",
                "state": { "running": {} },
                "lastState": { "terminated": { "exitCode": 1, "finishedAt": "2026-01-01T00:59:55Z" } },
            }],
        },
    }));
    let expected =
        ["x", "1/1", "Running", "1 (5s ago)", "5m", "10.1.0.7", "node1", "<none>", "<none>"];
    assert_eq!(row, expected);
}

#[test]
fn the_status_of_a_pod_comes_from_its_containers() {
    let container = |state: Value, ready: bool, restarts: i32| {
        json!({ "name": "a", "ready": ready, "restartCount": restarts, "image": "", "imageID": "",
                "state": state })
    };
    let waiting = |reason: &str| container(json!({ "waiting": { "reason": reason } }), false, 0);
    let ended = |terminated: Value| container(json!({ "terminated": terminated }), false, 0);
    let running = container(json!({ "running": {} }), true, 0);

    let stories: Vec<(&str, &[&str], Value, [&str; 3])> = vec![
        (
            "not scheduled yet",
            &["a"],
            json!({ "status": { "phase": "Pending" } }),
            ["0/1", "Pending", "0"],
        ),
        (
            "held back by a gate",
            &["a"],
            json!({ "status": { "phase": "Pending", "conditions": [
                { "type": "PodScheduled", "status": "False", "reason": "SchedulingGated" } ] } }),
            ["0/1", "SchedulingGated", "0"],
        ),
        (
            "evicted",
            &["a"],
            json!({ "status": { "phase": "Failed", "reason": "Evicted" } }),
            ["0/1", "Evicted", "0"],
        ),
        (
            "waits for a secret",
            &["a"],
            json!({ "status": { "phase": "Pending",
                "containerStatuses": [waiting("ContainerCreating")] } }),
            ["0/1", "ContainerCreating", "0"],
        ),
        (
            "crashes again and again; when it last did is not known",
            &["a"],
            json!({ "status": { "phase": "Running", "containerStatuses": [
                container(json!({ "waiting": { "reason": "CrashLoopBackOff" } }), false, 7)] } }),
            ["0/1", "CrashLoopBackOff", "7"],
        ),
        (
            "done",
            &["a"],
            json!({ "status": { "phase": "Succeeded",
                "containerStatuses": [ended(json!({ "exitCode": 0, "reason": "Completed" }))] } }),
            ["0/1", "Completed", "0"],
        ),
        (
            "failed without a reason",
            &["a"],
            json!({ "status": { "phase": "Failed",
                "containerStatuses": [ended(json!({ "exitCode": 3 }))] } }),
            ["0/1", "ExitCode:3", "0"],
        ),
        (
            "killed by a signal",
            &["a"],
            json!({ "status": { "phase": "Failed",
                "containerStatuses": [ended(json!({ "exitCode": 137, "signal": 9 }))] } }),
            ["0/1", "Signal:9", "0"],
        ),
        (
            "one of two is done, the pod is ready",
            &["a", "b"],
            json!({ "status": { "phase": "Running",
                "conditions": [{ "type": "Ready", "status": "True" }],
                "containerStatuses": [
                    ended(json!({ "exitCode": 0, "reason": "Completed" })), running] } }),
            ["1/2", "Running", "0"],
        ),
        (
            "one of two is done, the pod is not ready",
            &["a", "b"],
            json!({ "status": { "phase": "Running", "containerStatuses": [
                    ended(json!({ "exitCode": 0, "reason": "Completed" })), running] } }),
            ["1/2", "NotReady", "0"],
        ),
        (
            "being deleted",
            &["a"],
            json!({ "metadata": { "deletionTimestamp": NOW }, "status": { "phase": "Running",
                "containerStatuses": [running] } }),
            ["1/1", "Terminating", "0"],
        ),
        (
            "deleted after it was done",
            &["a"],
            json!({ "metadata": { "deletionTimestamp": NOW }, "status": { "phase": "Succeeded",
                "containerStatuses": [ended(json!({ "exitCode": 0, "reason": "Completed" }))] } }),
            ["0/1", "Completed", "0"],
        ),
        (
            "deleted, its node is lost",
            &["a"],
            json!({ "metadata": { "deletionTimestamp": NOW },
                "status": { "phase": "Running", "reason": "NodeLost" } }),
            ["0/1", "Unknown", "0"],
        ),
    ];
    for (story, containers, object, expected) in stories {
        assert_eq!(pod(containers, object), expected, "{story}");
    }
}

#[test]
fn init_containers_are_counted_until_they_are_through() {
    let init = |states: &[Value]| {
        let statuses: Vec<Value> = states
            .iter()
            .enumerate()
            .map(|(at, state)| {
                json!({ "name": format!("i{at}"), "ready": false, "restartCount": 1, "image": "",
                        "imageID": "", "state": state })
            })
            .collect();
        json!({
            "spec": { "initContainers": [{ "name": "i0" }, { "name": "i1" }] },
            "status": { "phase": "Pending", "initContainerStatuses": statuses },
        })
    };
    let done = json!({ "terminated": { "exitCode": 0, "reason": "Completed" } });
    let initializing = json!({ "waiting": { "reason": "PodInitializing" } });
    let crash = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    for (states, expected) in [
        (vec![json!({ "running": {} }), initializing.clone()], ["0/1", "Init:0/2", "1"]),
        (vec![done.clone(), initializing], ["0/1", "Init:1/2", "2"]),
        (vec![crash], ["0/1", "Init:CrashLoopBackOff", "1"]),
        (
            vec![json!({ "terminated": { "exitCode": 1, "reason": "Error" } })],
            ["0/1", "Init:Error", "1"],
        ),
        (vec![json!({ "terminated": { "exitCode": 2 } })], ["0/1", "Init:ExitCode:2", "1"]),
        (
            vec![json!({ "terminated": { "exitCode": 2, "signal": 15 } })],
            ["0/1", "Init:Signal:15", "1"],
        ),
        // Once they are through, their restarts no longer count.
        (vec![done.clone(), done], ["0/1", "Pending", "0"]),
    ] {
        assert_eq!(pod(&["a"], init(&states)), expected);
    }
}

#[test]
fn a_started_sidecar_counts_as_a_container() {
    let object = json!({
        "spec": { "initContainers": [{ "name": "s", "restartPolicy": "Always" }] },
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{
                "name": "s", "ready": true, "started": true, "restartCount": 2, "image": "",
                "imageID": "", "state": { "running": {} },
            }],
            "containerStatuses": [{
                "name": "a", "ready": true, "restartCount": 1, "image": "", "imageID": "",
                "state": { "running": {} },
            }],
        },
    });
    assert_eq!(pod(&["a"], object), ["2/2", "Running", "3"]);
}

#[test]
fn readiness_gates_show_how_many_are_open() {
    let row = row::<Pod>(json!({
        "spec": { "containers": [], "readinessGates": [
            { "conditionType": "a" }, { "conditionType": "b" } ] },
        "status": { "conditions": [{ "type": "a", "status": "True" },
                                   { "type": "b", "status": "False" }] },
    }));
    assert_eq!(row[8], "1/2");
}

#[test]
fn a_finished_pod_marks_its_row_completed() {
    let condition = |phase: &str| {
        let pod: Pod = serde_json::from_value(json!({ "status": { "phase": phase } })).unwrap();
        pod.row_condition().map(|condition| serde_json::to_value(condition).unwrap())
    };
    assert_eq!(condition("Running"), None);
    assert_eq!(
        condition("Succeeded"),
        Some(json!({ "type": "Completed", "status": "True", "reason": "Succeeded",
                     "message": "The pod has completed successfully." })),
    );
    assert_eq!(condition("Failed").unwrap()["message"], "The pod failed.");
}

#[test]
fn a_secret_shows_how_many_keys_it_has_and_no_more() {
    let row = row::<crate::secret::Secret>(json!({
        "type": "Opaque", "data": { "username": "dmFsdWUtMQ==", "password": "dmFsdWUtMg==" },
    }));
    assert_eq!(row, [json!("x"), json!("Opaque"), json!(2), json!("5m")]);
    assert_eq!(headers(columns("secrets", ""), 0), ["Name", "Type", "Data", "Age"]);
}

#[test]
fn small_kinds() {
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
    let namespace = json!({ "status": { "phase": "Terminating" } });
    assert_eq!(row::<Namespace>(namespace), ["x", "Terminating", "5m"]);
    let map = json!({ "data": { "a": "" }, "binaryData": { "b": "" } });
    assert_eq!(row::<ConfigMap>(map), [json!("x"), json!(2), json!("5m")]);
    let account = json!({ "secrets": [{ "name": "a" }] });
    assert_eq!(row::<ServiceAccount>(account), [json!("x"), json!(1), json!("5m")]);
    let lease = json!({ "spec": { "holderIdentity": "node1" } });
    assert_eq!(row::<Lease>(lease), ["x", "node1", "5m"]);
    let class = json!({ "handler": "runsc" });
    assert_eq!(row::<k8s_openapi::api::node::v1::RuntimeClass>(class), ["x", "runsc", "5m"]);
    assert_eq!(headers(columns("runtimeclasses", "node.k8s.io"), 0), ["Name", "Handler", "Age"]);
}

#[test]
fn nodes() {
    use k8s_openapi::api::core::v1::Node;
    let info = json!({ "kubeletVersion": "v1.34.0", "osImage": "Debian GNU/Linux 12 (bookworm)",
        "kernelVersion": "6.1.0", "containerRuntimeVersion": "containerd://1.6.20",
        "architecture": "", "bootID": "", "kubeProxyVersion": "", "machineID": "",
        "operatingSystem": "", "systemUUID": "" });
    let node = json!({
        "metadata": { "labels": { "node-role.kubernetes.io/worker": "",
            "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge" } },
        "spec": { "unschedulable": true },
        "status": { "conditions": [{ "type": "MemoryPressure", "status": "False" },
                                   { "type": "Ready", "status": "True" }],
            "addresses": [{ "type": "Hostname", "address": "n" },
                          { "type": "InternalIP", "address": "10.0.0.1" }],
            "nodeInfo": info },
    });
    assert_eq!(
        row::<Node>(node),
        [
            "x",
            "Ready,SchedulingDisabled",
            "control-plane,edge,worker",
            "5m",
            "v1.34.0",
            "10.0.0.1",
            "<none>",
            "Debian GNU/Linux 12 (bookworm)",
            "6.1.0",
            "containerd://1.6.20"
        ],
    );
    let bare = row::<Node>(json!({}));
    assert_eq!(bare[1..3], ["Unknown", "<none>"]);
    assert_eq!(bare[7..], ["<unknown>", "<unknown>", "<unknown>"]);
    let silent = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }] } });
    assert_eq!(row::<Node>(silent)[1], "NotReady");
}

#[test]
fn events_of_both_groups_print_alike() {
    let classic = row::<k8s_openapi::api::core::v1::Event>(json!({
        "involvedObject": { "kind": "Pod", "name": "mypod", "fieldPath": "spec.containers{redis}" },
        "type": "Normal", "reason": "Started", "message": "Started container redis\n", "count": 3,
        "source": { "component": "kubelet", "host": "node1" },
        "firstTimestamp": "2026-01-01T00:56:40Z", "lastTimestamp": "2026-01-01T00:59:50Z",
    }));
    let expected = [
        json!("10s"),
        json!("Normal"),
        json!("Started"),
        json!("pod/mypod"),
        json!("spec.containers{redis}"),
        json!("kubelet, node1"),
        json!("Started container redis"),
        json!("3m20s"),
        json!(3),
        json!("x"),
    ];
    assert_eq!(classic, expected);

    let series = row::<k8s_openapi::api::events::v1::Event>(json!({
        "regarding": { "kind": "Pod", "name": "mypod", "fieldPath": "spec.containers{redis}" },
        "type": "Normal", "reason": "Started", "note": "Started container redis",
        "reportingController": "kubelet", "reportingInstance": "node1",
        "eventTime": "2026-01-01T00:56:40.000000Z",
        "series": { "count": 3, "lastObservedTime": "2026-01-01T00:59:50.000000Z" },
    }));
    assert_eq!(series, expected);
}

#[test]
fn an_event_that_happened_once_counts_once() {
    let row = row::<k8s_openapi::api::core::v1::Event>(json!({
        "involvedObject": { "kind": "Node" }, "eventTime": "2026-01-01T00:59:00.000000Z",
        "reportingComponent": "coffer",
    }));
    let expected = [
        json!("60s"),
        json!(""),
        json!(""),
        json!("node"),
        json!(""),
        json!("coffer"),
        json!(""),
        json!("60s"),
        json!(1),
        json!("x"),
    ];
    assert_eq!(row, expected);
    let columns = columns("events", "events.k8s.io");
    assert_eq!(headers(columns, 0), ["Last Seen", "Type", "Reason", "Object", "Message"]);
    assert_eq!(headers(columns, 1), ["Subobject", "Source", "First Seen", "Count", "Name"]);
}

#[test]
fn workloads() {
    use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
    use k8s_openapi::api::core::v1::ReplicationController;
    let template = json!({ "spec": { "containers": [
        { "name": "a", "image": "redis" }, { "name": "b", "image": "busybox:1" } ] } });
    let selector = json!({ "matchLabels": { "b": "2", "a": "1" }, "matchExpressions": [
        { "key": "aa", "operator": "In", "values": ["z", "y"] },
        { "key": "c", "operator": "DoesNotExist" } ] });
    let shown = "a=1,aa in (y,z),b=2,!c";

    let rc = json!({ "spec": { "replicas": 3, "selector": { "b": "2", "a": "1" },
        "template": template }, "status": { "replicas": 2, "readyReplicas": 1 } });
    assert_eq!(
        row::<ReplicationController>(rc),
        [
            json!("x"),
            json!(3),
            json!(2),
            json!(1),
            json!("5m"),
            json!("a,b"),
            json!("redis,busybox:1"),
            json!("a=1,b=2")
        ],
    );
    let rs = json!({ "spec": { "replicas": 3, "selector": selector, "template": template },
        "status": { "replicas": 2, "readyReplicas": 1 } });
    assert_eq!(
        row::<ReplicaSet>(rs),
        [
            json!("x"),
            json!(3),
            json!(2),
            json!(1),
            json!("5m"),
            json!("a,b"),
            json!("redis,busybox:1"),
            json!(shown)
        ],
    );
    let deployment = json!({ "spec": { "replicas": 3, "selector": selector, "template": template },
        "status": { "replicas": 4, "readyReplicas": 2, "updatedReplicas": 1,
                    "availableReplicas": 2 } });
    assert_eq!(
        row::<Deployment>(deployment),
        [
            json!("x"),
            json!("2/3"),
            json!(1),
            json!(2),
            json!("5m"),
            json!("a,b"),
            json!("redis,busybox:1"),
            json!(shown)
        ],
    );
    let columns = columns("deployments", "apps");
    assert_eq!(headers(columns, 0), ["Name", "Ready", "Up-to-date", "Available", "Age"]);
}

#[test]
fn quotas_split_requests_from_limits() {
    let quota = row::<k8s_openapi::api::core::v1::ResourceQuota>(json!({
        "status": { "hard": { "pods": "4", "limits.cpu": "2", "requests.cpu": "1" },
                    "used": { "pods": "3", "limits.cpu": "500m" } },
    }));
    assert_eq!(quota, ["x", "pods: 3/4, requests.cpu: 0/1", "limits.cpu: 500m/2", "5m"]);
}

#[test]
fn rbac() {
    use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
    assert_eq!(row::<ClusterRole>(json!({})), ["x", "2026-01-01T00:55:00Z"]);
    let binding = json!({
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "User", "name": "jane" }, { "kind": "User", "name": "joe" },
                     { "kind": "Group", "name": "ops" },
                     { "kind": "ServiceAccount", "name": "default", "namespace": "myns" }],
    });
    assert_eq!(
        row::<RoleBinding>(binding),
        ["x", "Role/reader", "5m", "jane, joe", "ops", "myns/default"],
    );
    let roles = columns("roles", "rbac.authorization.k8s.io");
    assert_eq!(headers(roles, 0), ["Name", "Created At"]);
}

#[test]
fn signing_requests() {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
    let csr = |status: Value| {
        row::<CertificateSigningRequest>(json!({
            "spec": { "request": "", "signerName": "kubernetes.io/kubelet-serving",
                      "username": "system:node:n1", "expirationSeconds": 3600 },
            "status": status,
        }))
    };
    let approved = json!({ "type": "Approved", "status": "True" });
    let denied = json!({ "type": "Denied", "status": "True" });
    let failed = json!({ "type": "Failed", "status": "True" });
    assert_eq!(
        csr(json!({})),
        ["x", "5m", "kubernetes.io/kubelet-serving", "system:node:n1", "60m", "Pending"],
    );
    let issued = json!({ "conditions": [approved], "certificate": "YQ==" });
    assert_eq!(csr(issued)[5], "Approved,Issued");
    assert_eq!(csr(json!({ "conditions": [approved, denied] }))[5], "Denied");
    assert_eq!(csr(json!({ "conditions": [approved, failed] }))[5], "Approved,Failed");
}
