//! What may change in a pod that exists.

use serde_json::{Value, json};

use super::guide;
use crate::kinds::testing::{check_update, stored, updated, with};
use crate::kinds::{Kind, Pod};
use crate::subresource::SubresourceName;

const REFUSED: &str = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

#[test]
fn only_a_few_fields_of_the_spec_change() {
    let container = json!({"name": "more", "image": "x"});
    check_update::<Pod>(
        &guide(),
        None,
        &[
            ("metadata.labels", json!({"a": "b"}), &[]),
            ("spec.containers.0.image", json!("redis:7"), &[REFUSED]),
            (
                "spec.containers.0",
                json!({"name": "mypod", "image": "redis:7", "imagePullPolicy": "Always", "volumeMounts": guide()["spec"]["containers"][0]["volumeMounts"]}),
                &[],
            ),
            ("spec.activeDeadlineSeconds", json!(10), &[]),
            ("spec.tolerations", json!([{"operator": "Exists"}]), &[]),
            (
                "spec.containers.1",
                container,
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
            (
                "spec.containers.0.env",
                json!([{"name": "PASSWORD", "value": "never shown"}]),
                &[REFUSED],
            ),
            ("spec.volumes.0.secret.secretName", json!("other"), &[REFUSED]),
            ("spec.nodeName", json!("n2"), &[REFUSED]),
            ("spec.serviceAccountName", json!("other"), &[REFUSED]),
            ("spec.restartPolicy", json!("Never"), &[REFUSED]),
            ("spec.terminationGracePeriodSeconds", json!(1), &[REFUSED]),
            (
                "spec.schedulingGates",
                json!([{"name": "a/b"}]),
                &[
                    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'a/b'",
                ],
            ),
            (
                "metadata.annotations.kubernetes~io/config~mirror",
                json!("x"),
                &[
                    "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
                    "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
                    "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
                ],
            ),
        ],
    );
}

#[test]
fn what_changes_in_one_direction_only() {
    let mut object = with(&guide(), "spec.activeDeadlineSeconds", json!(10));
    object = with(
        &object,
        "spec.tolerations",
        json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]),
    );
    object = with(&object, "spec.terminationGracePeriodSeconds", json!(-5));
    check_update::<Pod>(
        &object,
        None,
        &[
            ("spec.activeDeadlineSeconds", json!(5), &[]),
            (
                "spec.activeDeadlineSeconds",
                json!(11),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value",
                ],
            ),
            (
                "spec.activeDeadlineSeconds",
                Value::Null,
                &[
                    "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
                ],
            ),
            ("spec.tolerations.0.tolerationSeconds", json!(9), &[]),
            (
                "spec.tolerations",
                Value::Null,
                &[
                    "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
                ],
            ),
            (
                "spec.tolerations.0.key",
                json!("b"),
                &[
                    "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
                ],
            ),
            ("spec.terminationGracePeriodSeconds", json!(1), &[]),
            ("spec.terminationGracePeriodSeconds", json!(2), &[REFUSED]),
        ],
    );
    let gated = with(&guide(), "spec.schedulingGates", json!([{"name": "a/b"}]));
    let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |terms: Value| json!({ "nodeSelectorTerms": terms });
    let zone = json!({"key": "zone", "operator": "In", "values": ["a"]});
    let disk = json!({"key": "disk", "operator": "Exists"});
    check_update::<Pod>(
        &with(&gated, required, terms(json!([{"matchExpressions": [zone]}]))),
        None,
        &[
            (required, terms(json!([{"matchExpressions": [zone, disk]}])), &[]),
            (
                required,
                terms(json!([{"matchExpressions": [disk]}])),
                &[
                    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {\"MatchExpressions\":[{\"Key\":\"disk\",\"Operator\":\"Exists\",\"Values\":null}],\"MatchFields\":null}: only additions are allowed (no mutations or deletions)",
                ],
            ),
            (
                "spec.affinity",
                Value::Null,
                &[
                    "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: []: no additions/deletions to non-empty NodeSelectorTerms list are allowed",
                ],
            ),
        ],
    );
    check_update::<Pod>(
        &gated,
        None,
        &[(required, terms(json!([{"matchExpressions": [zone]}])), &[])],
    );
    check_update::<Pod>(
        &with(&gated, "spec.nodeSelector", json!({"zone": "a"})),
        None,
        &[
            ("spec.schedulingGates", json!([]), &[]),
            ("spec.nodeSelector.disk", json!("ssd"), &[]),
            (
                "spec.nodeSelector",
                json!({"zone": "b"}),
                &[
                    "spec.nodeSelector: Invalid value: {\"zone\":\"b\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
                ],
            ),
        ],
    );
}

#[test]
fn a_status_keeps_its_class_and_its_dead_containers() {
    let state = |state: &str| json!([{"name": "mypod", "image": "redis", "imageID": "", "ready": false, "restartCount": 0, "state": {state: {"exitCode": 1}}}]);
    let running = json!([{"name": "mypod", "image": "redis", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}}]);
    check_update::<Pod>(
        &guide(),
        Some(SubresourceName::Status),
        &[
            (
                "status",
                json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]}),
                &[],
            ),
            (
                "status",
                json!({"qosClass": "Guaranteed"}),
                &["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"],
            ),
            (
                "status",
                json!({"podIPs": [{"ip": "ten"}]}),
                &[
                    "status.podIPs[0]: Invalid value: \"ten\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
            (
                "status",
                json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
                &[
                    "status.podIPs: Invalid value: [{\"IP\":\"10.0.0.1\"},{\"IP\":\"10.0.0.2\"}]: may specify no more than one IP for each IP family",
                ],
            ),
            (
                "status",
                json!({"hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}),
                &["status.hostIPs[0].ip: Invalid value: \"10.0.0.2\": must be equal to `hostIP`"],
            ),
            (
                "status",
                json!({"conditions": [{"type": "coffer.dev/SecretsCurrent", "status": "True"}]}),
                &[],
            ),
            (
                "status",
                json!({"nominatedNodeName": "a b"}),
                &[
                    "status.nominatedNodeName: Invalid value: \"a b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
        ],
    );
    for (policy, refused) in [("Always", false), ("OnFailure", false), ("Never", true)] {
        let object = with(&guide(), "spec.restartPolicy", json!(policy));
        let mut old: Pod = stored(&object);
        let dead = state("terminated");
        old.status.as_mut().unwrap().container_statuses = serde_json::from_value(dead).unwrap();
        let sent = with(&object, "status.containerStatuses", running.clone());
        let errors = updated(&old, &sent, Some(SubresourceName::Status))
            .validate_update(&old, Some(SubresourceName::Status));
        assert_eq!(!errors.is_empty(), refused, "{policy}: {errors:?}");
        if let Some(error) = errors.first() {
            assert_eq!(
                error.to_string(),
                "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
            );
        }
    }
}

#[test]
fn ephemeral_containers_come_and_do_not_go() {
    let one = json!([{"name": "debug", "image": "busybox:1", "targetContainerName": "mypod"}]);
    let place = "spec.ephemeralContainers";
    check_update::<Pod>(
        &guide(),
        Some(SubresourceName::EphemeralContainers),
        &[
            (place, one.clone(), &[]),
            ("spec.restartPolicy", json!("Never"), &[]),
            (
                place,
                with(&one, "0.targetContainerName", json!("none")),
                &["spec.ephemeralContainers[0].targetContainerName: Not found: \"none\""],
            ),
            (
                place,
                with(&one, "0.name", json!("mypod")),
                &["spec.ephemeralContainers[0].name: Duplicate value: \"mypod\""],
            ),
            (
                place,
                with(&one, "0.ports", json!([{"containerPort": 1}])),
                &[
                    "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                ],
            ),
        ],
    );
    let old: Pod = stored(&guide());
    let old = updated(
        &old,
        &with(&guide(), place, one.clone()),
        Some(SubresourceName::EphemeralContainers),
    );
    let gone = updated(&old, &guide(), Some(SubresourceName::EphemeralContainers));
    assert_eq!(
        gone.validate_update(&old, Some(SubresourceName::EphemeralContainers))[0].to_string(),
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"
    );
}

#[test]
fn the_addresses_of_a_pod_follow_from_its_address() {
    let addresses = |status: Value| {
        let mut pod = guide();
        pod["status"] = status;
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        pod.set_defaults();
        let status = pod.status.unwrap();
        let all = status.pod_ips.into_iter().flatten().map(|it| it.ip).collect::<Vec<_>>();
        (status.pod_ip, all)
    };
    let ip = |ip: &str| json!([{ "ip": ip }, { "ip": "::1" }]);
    let (one, both) = (vec!["10.0.0.1".to_owned()], vec!["10.0.0.1".to_owned(), "::1".to_owned()]);
    let first = Some("10.0.0.1".to_owned());
    assert_eq!(addresses(json!({ "podIP": "10.0.0.1" })), (first.clone(), one.clone()));
    assert_eq!(
        addresses(json!({ "podIP": "10.0.0.1", "podIPs": ip("10.0.0.2") })),
        (first.clone(), one)
    );
    let same = json!({ "podIP": "10.0.0.1", "podIPs": ip("10.0.0.1") });
    assert_eq!(addresses(same), (first.clone(), both.clone()));
    assert_eq!(addresses(json!({ "podIPs": ip("10.0.0.1") })), (first, both));
    assert_eq!(addresses(json!({})), (None, vec![]));
}
