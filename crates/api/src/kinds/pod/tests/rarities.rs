//! Rules that pods meet rarely: block devices, mount options, profiles, sysctls, claims, domains.

use serde_json::{Value, json};

use super::guide;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};
use crate::kinds::{Kind, Pod};
use crate::subresource::SubresourceName;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// One row of a table.
type Row<'a> = (&'a str, Value, &'a [&'a str]);

#[test]
fn device_paths_and_mount_paths_must_differ() {
    let with_claim = with(
        &guide(),
        "spec.volumes.1",
        json!({"name": "disk", "persistentVolumeClaim": {"claimName": "c"}}),
    );
    let devices = "spec.containers.0.volumeDevices";
    let rows: &[Row<'_>] = &[
        (devices, json!([{"name": "disk", "devicePath": "/dev/x"}]), &[]),
        (
            devices,
            json!([{"name": "disk", "devicePath": "/etc/foo"}]),
            &[
                "spec.containers[0].volumeMounts[0].mountPath: Invalid value: \"/etc/foo\": must not already exist as a path in volumeDevices",
                "spec.containers[0].volumeDevices[0].devicePath: Invalid value: \"/etc/foo\": must not already exist as a path in volumeMounts",
            ],
        ),
        (
            devices,
            json!([{"name": "disk", "devicePath": "/dev/../x"}]),
            &[
                "spec.containers[0].volumeDevices[0].devicePath: Invalid value: \"/dev/../x\": can not contain backsteps ('..')",
            ],
        ),
    ];
    check_create::<Pod>(&with_claim, rows);
}

#[test]
fn mounts_of_images_and_recursive_read_only_mounts_are_narrow() {
    let mount = "spec.containers.0.volumeMounts.0";
    let image =
        with(&guide(), "spec.volumes.0", json!({"name": "foo", "image": {"reference": "r"}}));
    check_create::<Pod>(
        &image,
        &[(
            "spec.containers.0.volumeMounts.0.subPathExpr",
            json!("a"),
            &[
                "spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: \"a\": not allowed in image volume sources",
            ],
        )],
    );
    check_create::<Pod>(
        &guide(),
        &[
            (
                mount,
                json!({"name": "foo", "mountPath": "/a", "readOnly": true, "recursiveReadOnly": "Enabled"}),
                &[],
            ),
            (
                mount,
                json!({"name": "foo", "mountPath": "/a", "recursiveReadOnly": "Enabled"}),
                &[
                    "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                ],
            ),
            (
                mount,
                json!({
                    "name": "foo", "mountPath": "/a", "readOnly": true,
                    "recursiveReadOnly": "IfPossible", "mountPropagation": "HostToContainer",
                }),
                &[
                    "spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
                ],
            ),
        ],
    );
}

#[test]
fn resize_policies_need_a_pod_that_restarts() {
    let never = with(&guide(), "spec.restartPolicy", json!("Never"));
    check_create::<Pod>(
        &never,
        &[(
            "spec.containers.0.resizePolicy",
            json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
            &[
                "spec.containers[0].resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'",
            ],
        )],
    );
}

#[test]
fn profiles_name_a_file_if_and_only_if_they_are_local() {
    let context = "spec.securityContext";
    check_create::<Pod>(
        &guide(),
        &[
            (
                context,
                json!({"seccompProfile": {"type": ""}}),
                &[
                    "spec.securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set",
                ],
            ),
            (
                context,
                json!({"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "f"}}),
                &[
                    "spec.securityContext.seccompProfile.localhostProfile: Invalid value: {\"Type\":\"RuntimeDefault\",\"LocalhostProfile\":\"f\"}: can only be set when seccomp type is Localhost",
                ],
            ),
            (
                context,
                json!({"appArmorProfile": {"type": ""}}),
                &[
                    "spec.securityContext.appArmorProfile.type: Required value: type is required when appArmorProfile is set",
                ],
            ),
            (
                context,
                json!({"appArmorProfile": {"type": "Unconfined", "localhostProfile": "f"}}),
                &[
                    "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \"f\": can only be set when AppArmor type is Localhost",
                ],
            ),
            (
                context,
                json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " f"}}),
                &[
                    "spec.securityContext.appArmorProfile.localhostProfile: Invalid value: \" f\": must not be padded with whitespace",
                ],
            ),
            (
                context,
                json!({"appArmorProfile": {"type": "Localhost"}}),
                &[
                    "spec.securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost",
                ],
            ),
        ],
    );
}

#[test]
fn sysctls_belong_to_namespaces_of_the_pods_own() {
    const SHAPE: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let sysctls = "spec.securityContext.sysctls";
    check_create::<Pod>(
        &guide(),
        &[
            (
                sysctls,
                json!([{"name": "Net.x", "value": "1"}]),
                &[&format!(
                    "spec.securityContext.sysctls[0].name: Invalid value: \"Net.x\": {SHAPE}"
                )],
            ),
            (sysctls, json!([{"name": "net/ipv4/x", "value": "1"}]), &[]),
        ],
    );
    check_create::<Pod>(
        &with(&guide(), "spec.hostNetwork", json!(true)),
        &[(
            sysctls,
            json!([{"name": "net.ipv4.x", "value": "1"}]),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"net.ipv4.x\": may not be specified when 'hostNetwork' is true",
            ],
        )],
    );
    check_create::<Pod>(
        &with(&guide(), "spec.hostIPC", json!(true)),
        &[(
            sysctls,
            json!([{"name": "kernel.shmmax", "value": "1"}]),
            &[
                "spec.securityContext.sysctls[0].name: Invalid value: \"kernel.shmmax\": may not be specified when 'hostIPC' is true",
            ],
        )],
    );
}

#[test]
fn namespaces_of_the_host_and_of_the_pod_exclude_each_other() {
    check_create::<Pod>(
        &with(&guide(), "spec.hostPID", json!(true)),
        &[
            (
                "spec.shareProcessNamespace",
                json!(true),
                &[
                    "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled",
                ],
            ),
            (
                "spec.hostUsers",
                json!(false),
                &["spec.HostPID: Forbidden: when `pod.Spec.HostUsers` is false"],
            ),
        ],
    );
    check_create::<Pod>(
        &guide(),
        &[(
            "spec.containers.0.securityContext",
            json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
            &[
                "spec.containers[0].securityContext: Invalid value: {\"Capabilities\":{\"Add\":[\"CAP_SYS_ADMIN\"],\"Drop\":null},\"Privileged\":null,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ],
        )],
    );
    check_create::<Pod>(
        &with(&guide(), "spec.os", json!({"name": "linux"})),
        &[(
            "spec.containers.0.securityContext",
            json!({"windowsOptions": {}}),
            &[
                "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ],
        )],
    );
}

#[test]
fn claims_have_one_source_and_belong_to_containers() {
    check_create::<Pod>(
        &guide(),
        &[
            (
                "spec.resourceClaims",
                json!([{"name": "c", "resourceClaimName": "a", "resourceClaimTemplateName": "b"}]),
                &[
                    "spec.resourceClaims[0]: Invalid value: {\"Name\":\"c\",\"ResourceClaimName\":\"a\",\"ResourceClaimTemplateName\":\"b\"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
                ],
            ),
            (
                "spec.resources",
                json!({"claims": []}),
                &[
                    "spec.resources.claims: Forbidden: claims cannot be set for Resources at pod-level",
                ],
            ),
        ],
    );
}

/// Upstream's `validatePodResourceConsistency`.
#[test]
fn what_a_pod_asks_for_as_a_whole_is_no_less_than_what_its_containers_do() {
    let asks = |name: &str, requests: Value, limits: Value| json!({"name": name, "image": "i", "resources": {"requests": requests, "limits": limits}});
    let two = json!([
        asks("a", json!({"cpu": "64", "memory": "1Gi"}), json!({"cpu": "64", "memory": "100Gi"})),
        asks("b", json!({"cpu": "500m"}), json!({})),
    ]);
    let mut pod = guide();
    pod["spec"]["containers"] = two;
    pod["spec"]["volumes"] = Value::Null;
    check_create::<Pod>(
        &pod,
        &[
            (
                "spec.resources",
                json!({"requests": {"cpu": "65"}, "limits": {"memory": "100Gi"}}),
                &[],
            ),
            ("spec.resources", json!({"requests": {}}), &[]),
            ("spec.resources", json!({"requests": {"memory": "1Gi"}}), &[]),
            (
                "spec.resources",
                json!({"requests": {"cpu": "1m"}}),
                &[
                    "spec.resources.requests[cpu]: Invalid value: \"1m\": must be greater than or equal to aggregate container requests of 64500m",
                ],
            ),
            (
                "spec.resources",
                json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
                &[
                    "spec.resources.containers[0][memory].limits: Invalid value: \"100Gi\": must be less than or equal to pod limits of 1Gi",
                ],
            ),
            // Without a request of its own the pod has that of its containers.
            (
                "spec.resources",
                json!({"limits": {"cpu": "64"}}),
                &[
                    "spec.resources.requests: Invalid value: \"64500m\": must be less than or equal to cpu limit of 64",
                ],
            ),
        ],
    );
    let mut huge = guide();
    let pages = json!({"cpu": "1", "hugepages-2Mi": "4Mi"});
    huge["spec"]["containers"] =
        json!([asks("a", pages.clone(), pages.clone()), asks("b", pages.clone(), pages)]);
    huge["spec"]["volumes"] = Value::Null;
    let less = json!({"cpu": "2", "hugepages-2Mi": "6Mi"});
    check_create::<Pod>(
        &huge,
        &[(
            "spec.resources",
            json!({"requests": less, "limits": less}),
            &[
                "spec.resources.requests[hugepages-2Mi]: Invalid value: \"6Mi\": must be greater than or equal to aggregate container requests of 8Mi",
                "spec.resources.limits[hugepages-2Mi]: Invalid value: \"6Mi\": must be greater than or equal to aggregate container limits of 8Mi",
            ],
        )],
    );
}

#[test]
fn a_pod_requests_as_a_whole_what_its_containers_do_or_else_its_limits() {
    let requested = |whole: Value| {
        let container =
            json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": "0.25"}}});
        let spec = json!({"containers": [container], "resources": whole});
        let mut pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a pod");
        pod.set_defaults();
        let whole = pod.spec.expect("a spec").resources.expect("as a whole");
        json!(whole.requests)
    };
    let limits = json!({"cpu": "2", "memory": "1024Mi"});
    assert_eq!(requested(json!({"limits": limits})), json!({"cpu": "250m", "memory": "1Gi"}));
    let own = json!({"limits": limits, "requests": {"cpu": "1000m"}});
    assert_eq!(requested(own), json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(requested(json!({"requests": {"memory": "1"}})), json!({"memory": "1"}));
    assert_eq!(requested(json!({})), Value::Null);
}

#[test]
fn search_paths_are_few_and_short() {
    let many: Vec<String> = (0..33).map(|at| format!("s{at}")).collect();
    let long: Vec<String> = (0..20).map(|_| "a.".repeat(60) + "b").collect();
    let shown = |searches: &[String]| serde_json::to_string(searches).expect("it encodes");
    check_create::<Pod>(
        &guide(),
        &[
            (
                "spec.dnsConfig.searches",
                json!(many),
                &[&format!(
                    "spec.dnsConfig.searches: Invalid value: {}: must not have more than 32 search paths",
                    shown(&many)
                )],
            ),
            (
                "spec.dnsConfig.searches",
                json!(long),
                &[&format!(
                    "spec.dnsConfig.searches: Invalid value: {}: must not have more than 2048 characters (including spaces) in the search list",
                    shown(&long)
                )],
            ),
            (
                "spec.dnsConfig.searches",
                json!(["A_b"]),
                &[
                    "spec.dnsConfig.searches[0]: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
        ],
    );
}

#[test]
fn amounts_of_huge_pages_and_of_foreign_resources_are_whole() {
    check_create::<Pod>(
        &guide(),
        &[
            (
                "spec.containers.0.resources",
                json!({"limits": {"cpu": "1", "hugepages-2Mi": "3Mi"}}),
                &[
                    "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                    "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                ],
            ),
            (
                "spec.containers.0.resources",
                json!({"limits": {"requests.example.com/x": "1"}}),
                &[
                    "spec.containers[0].resources.limits[requests.example.com/x]: Invalid value: \"requests.example.com/x\": doesn't follow extended resource name standard",
                    "spec.containers[0].resources.requests[requests.example.com/x]: Invalid value: \"requests.example.com/x\": doesn't follow extended resource name standard",
                ],
            ),
        ],
    );
}

#[test]
fn selectors_of_nodes_and_of_other_pods_have_their_corners() {
    let fields = |requirement: Value| {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [requirement]}],
        }}})
    };
    let field = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0]";
    let others = |more: Value| {
        let mut term = json!({"topologyKey": "zone"});
        term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    };
    let other = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    let spread = |more: Value| {
        let mut constraint =
            json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
        constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([constraint])
    };
    let place = "spec.topologySpreadConstraints";
    check_create::<Pod>(
        &guide(),
        &[
            (
                "spec.affinity",
                fields(json!({"key": "metadata.name", "operator": "In", "values": ["a", "b"]})),
                &[&format!(
                    "{field}.values: Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
                )],
            ),
            (
                "spec.affinity",
                fields(json!({"key": "metadata.uid", "operator": "In", "values": ["a"]})),
                &[&format!(
                    "{field}.key: Invalid value: \"metadata.uid\": not a valid field selector key"
                )],
            ),
            (
                "spec.affinity",
                others(
                    json!({"labelSelector": {}, "matchLabelKeys": ["a"], "mismatchLabelKeys": ["a"]}),
                ),
                &[&format!(
                    "{other}.matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and mismatchLabelKeys"
                )],
            ),
            (
                "spec.affinity",
                others(json!({"matchLabelKeys": ["a"]})),
                &[&format!(
                    "{other}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"
                )],
            ),
            (
                place,
                spread(json!({"minDomains": 2})),
                &[
                    "spec.topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                ],
            ),
            (
                place,
                spread(json!({"matchLabelKeys": ["a"]})),
                &[
                    "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
                ],
            ),
            (
                place,
                spread(
                    json!({"matchLabelKeys": ["a"], "labelSelector": {"matchLabels": {"a": "b"}}}),
                ),
                &[
                    "spec.topologySpreadConstraints[0].matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector",
                ],
            ),
        ],
    );
}

#[test]
fn volumes_and_fields_of_the_pod_have_their_corners() {
    check_create::<Pod>(
        &with(&guide(), "spec.serviceAccountName", json!("a")),
        &[
            ("spec.volumes.0", json!({"name": "foo"}), &[]),
            (
                "spec.volumes.0",
                json!({"name": "foo", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "t", "expirationSeconds": 4_294_967_297_i64}},
                ]}}),
                &[
                    "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
                    "spec.containers[0].volumeMounts[0].name: Not found: \"foo\"",
                ],
            ),
            (
                "spec.volumes.0",
                json!({"name": "foo", "downwardAPI": {"items": [{
                    "path": "p", "fieldRef": {"fieldPath": "metadata.name"},
                    "resourceFieldRef": {"containerName": "mypod", "resource": "limits.cpu"},
                }]}}),
                &[
                    "spec.volumes[0].downwardAPI: Invalid value: \"resource\": fieldRef and resourceFieldRef can not be specified simultaneously",
                    "spec.containers[0].volumeMounts[0].name: Not found: \"foo\"",
                ],
            ),
            (
                "spec.containers.0.env",
                json!([{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v9", "fieldPath": "metadata.name"}}}]),
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v9",
                ],
            ),
            (
                "spec.containers.0.env",
                json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "3"}}}]),
                &[
                    "spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.ephemeral-storage\": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage resource",
                ],
            ),
            (
                "spec.containers.0.resources",
                json!({"limits": {"cpu": "x"}}),
                &[
                    "spec.containers[0].resources.limits[cpu]: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                    "spec.containers[0].resources.requests[cpu]: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                ],
            ),
            (
                "spec.containers.0.resources",
                json!({"limits": {"cpu": "1x"}}),
                &[
                    "spec.containers[0].resources.limits[cpu]: Invalid value: \"1x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                    "spec.containers[0].resources.requests[cpu]: Invalid value: \"1x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                ],
            ),
        ],
    );
}

#[test]
fn a_gated_pod_has_no_node_and_says_why() {
    let gated = with(&guide(), "spec.schedulingGates", json!([{"name": "a/b"}]));
    check_create::<Pod>(
        &gated,
        &[(
            "spec.nodeName",
            json!("n"),
            &[
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ],
        )],
    );
    let conditions = created::<Pod>(&gated).status.and_then(|status| status.conditions);
    let condition = serde_json::to_value(&conditions).expect("it encodes")[0].take();
    assert_eq!(
        condition,
        json!({
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        })
    );
}

#[test]
fn an_image_of_a_static_pod_stays_what_the_kubelet_made_it() {
    let mirror = with(
        &with(&guide(), "spec.nodeName", json!("n")),
        "metadata.annotations",
        json!({MIRROR: "hash"}),
    );
    check_update::<Pod>(
        &mirror,
        None,
        &[(
            "metadata.annotations",
            json!({MIRROR: "other"}),
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation",
            ],
        )],
    );
    check_update::<Pod>(
        &guide(),
        None,
        &[(
            "metadata.annotations",
            json!({MIRROR: "hash"}),
            // Upstream looks twice.
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"hash\": must set spec.nodeName if mirror pod annotation is set",
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
                "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"hash\": must set spec.nodeName if mirror pod annotation is set",
            ],
        )],
    );
}

#[test]
fn what_is_most_likely_not_meant_is_warned_of() {
    let volume = |source: Value| with(&guide(), "spec.volumes.0", source);
    for (object, warning) in [
        (
            with(&guide(), "metadata.name", json!("a.b")),
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
        ),
        (
            with(&guide(), "spec.hostAliases", json!([{"ip": "1.1.1.1"}, {"ip": "1.1.1.1"}])),
            "spec.hostAliases[1].ip: duplicate ip \"1.1.1.1\"",
        ),
        (
            with(
                &guide(),
                "spec.containers.0.ports",
                json!([{"containerPort": 80}, {"containerPort": 80}]),
            ),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            volume(json!({"name": "foo", "photonPersistentDisk": {"pdID": "p"}})),
            "spec.volumes[0].photonPersistentDisk: deprecated in v1.11, non-functional in v1.16+",
        ),
        (
            volume(
                json!({"name": "foo", "scaleIO": {"gateway": "g", "system": "s", "secretRef": {}}}),
            ),
            "spec.volumes[0].scaleIO: deprecated in v1.16, non-functional in v1.22+",
        ),
        (
            volume(json!({"name": "foo", "flocker": {}})),
            "spec.volumes[0].flocker: deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume(json!({"name": "foo", "storageos": {}})),
            "spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume(json!({"name": "foo", "quobyte": {"registry": "r", "volume": "v"}})),
            "spec.volumes[0].quobyte: deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            volume(json!({"name": "foo", "glusterfs": {"endpoints": "e", "path": "p"}})),
            "spec.volumes[0].glusterfs: deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            volume(json!({"name": "foo", "cephfs": {"monitors": ["m"]}})),
            "spec.volumes[0].cephfs: deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            volume(json!({"name": "foo", "rbd": {"monitors": ["m"], "image": "i"}})),
            "spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
        ),
    ] {
        assert_eq!(created::<Pod>(&object).warnings(), [warning]);
    }
}

#[test]
fn no_container_is_put_into_a_static_pod() {
    let mirror = with(
        &with(&guide(), "spec.nodeName", json!("n")),
        "metadata.annotations",
        json!({MIRROR: "hash"}),
    );
    let sub = Some(SubresourceName::EphemeralContainers);
    let old: Pod = stored(&mirror);
    let errors = updated(&old, &mirror, sub).validate_update(&old, sub);
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["[]: Forbidden: static pods do not support ephemeral containers"]);
}
