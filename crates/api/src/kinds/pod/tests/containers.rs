//! Containers: names, images, ports, environment, resources, probes, security.

use serde_json::{Value, json};

use super::guide;
use crate::kinds::Pod;
use crate::kinds::testing::{check_create, with};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

#[test]
fn a_pod_has_containers_with_names_and_images() {
    check_create::<Pod>(
        &guide(),
        &[
            ("spec.containers", json!([]), &["spec.containers: Required value"]),
            ("spec", Value::Null, &["spec.containers: Required value"]),
            ("spec.containers.0.name", json!(""), &["spec.containers[0].name: Required value"]),
            (
                "spec.containers.0.name",
                json!("a.b"),
                &["spec.containers[0].name: Invalid value: \"a.b\": must not contain dots"],
            ),
            ("spec.containers.0.image", json!(""), &["spec.containers[0].image: Required value"]),
            (
                "spec.containers.0.image",
                json!(" redis"),
                &[
                    "spec.containers[0].image: Invalid value: \" redis\": must not have leading or trailing whitespace",
                ],
            ),
            (
                "spec.containers.1",
                json!({"name": "mypod", "image": "x"}),
                &["spec.containers[1].name: Duplicate value: \"mypod\""],
            ),
            (
                "spec.initContainers",
                json!([{"name": "mypod", "image": "x"}]),
                &["spec.initContainers[0].name: Duplicate value: \"mypod\""],
            ),
            (
                "spec.containers.0.imagePullPolicy",
                json!("Sometimes"),
                &[
                    "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
                ],
            ),
            (
                "spec.containers.0.terminationMessagePolicy",
                json!("Log"),
                &[
                    "spec.containers[0].terminationMessagePolicy: Unsupported value: \"Log\": supported values: \"File\", \"FallbackToLogsOnError\"",
                ],
            ),
            (
                "spec.containers.0.restartPolicy",
                json!("Always"),
                &[
                    "spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers",
                ],
            ),
            (
                "spec.initContainers",
                json!([{"name": "i", "image": "x", "restartPolicy": "Never"}]),
                &[
                    "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                "spec.initContainers",
                json!([{"name": "i", "image": "x", "lifecycle": {}}]),
                &[
                    "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
                ],
            ),
            (
                "spec.initContainers",
                json!([{"name": "i", "image": "x", "restartPolicy": "Always", "lifecycle": {}}]),
                &[],
            ),
            (
                "spec.ephemeralContainers",
                json!([{"name": "e", "image": "x"}]),
                &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            ),
        ],
    );
}

#[test]
fn ports_are_numbers_with_unique_names() {
    let ports = "spec.containers.0.ports";
    check_create::<Pod>(
        &guide(),
        &[
            (ports, json!([{"containerPort": 80, "name": "web"}]), &[]),
            (ports, json!([{}]), &["spec.containers[0].ports[0].containerPort: Required value"]),
            (
                ports,
                json!([{"containerPort": 70000}]),
                &[
                    "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                ports,
                json!([{"containerPort": 1, "hostPort": -1}]),
                &[
                    "spec.containers[0].ports[0].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                ports,
                json!([{"containerPort": 1, "protocol": "ICMP"}]),
                &[
                    "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                ],
            ),
            (
                ports,
                json!([{"containerPort": 1, "name": "Web"}]),
                &[
                    "spec.containers[0].ports[0].name: Invalid value: \"Web\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                ],
            ),
            (
                ports,
                json!([{"containerPort": 1, "name": "w"}, {"containerPort": 2, "name": "w"}]),
                &["spec.containers[0].ports[1].name: Duplicate value: \"w\""],
            ),
            (
                ports,
                json!([{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]),
                &["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//9\""],
            ),
        ],
    );
    check_create::<Pod>(
        &with(&guide(), "spec.hostNetwork", json!(true)),
        &[(
            ports,
            json!([{"containerPort": 1, "hostPort": 2}]),
            &[
                "spec.containers[0].ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true",
            ],
        )],
    );
}

#[test]
fn variables_come_from_one_place() {
    let env = "spec.containers.0.env";
    let one = |variable: Value| json!([variable]);
    let from = |source: Value| json!([{"name": "A", "valueFrom": source}]);
    let bad_name = format!(
        "spec.containers[0].env[0].valueFrom.secretKeyRef.name: Invalid value: \"S\": {SUBDOMAIN}"
    );
    let bad_key = format!(
        "spec.containers[0].env[0].valueFrom.secretKeyRef.key: Invalid value: \"a b\": {KEY}"
    );
    check_create::<Pod>(
        &guide(),
        &[
            (env, one(json!({"name": "A", "value": "x"})), &[]),
            (
                env,
                one(json!({"value": "never shown"})),
                &["spec.containers[0].env[0].name: Required value"],
            ),
            (
                env,
                one(json!({"name": "A=B"})),
                &[
                    "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
            (env, from(json!({"secretKeyRef": {"name": "s", "key": "k", "optional": true}})), &[]),
            (env, from(json!({"secretKeyRef": {"name": "S", "key": "k"}})), &[&bad_name]),
            (
                env,
                from(json!({"secretKeyRef": {"name": "s"}})),
                &["spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value"],
            ),
            (env, from(json!({"secretKeyRef": {"name": "s", "key": "a b"}})), &[&bad_key]),
            (
                env,
                from(json!({"secretKeyRef": {"name": "s", "key": ".."}})),
                &[
                    "spec.containers[0].env[0].valueFrom.secretKeyRef.key: Invalid value: \"..\": must not be '..'",
                ],
            ),
            (
                env,
                from(json!({})),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
                ],
            ),
            (
                env,
                from(
                    json!({"secretKeyRef": {"name": "s", "key": "k"}, "configMapKeyRef": {"name": "m", "key": "k"}}),
                ),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time",
                ],
            ),
            (
                env,
                one(
                    json!({"name": "A", "value": "never shown", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
                ),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                ],
            ),
            (env, from(json!({"fieldRef": {"fieldPath": "status.podIP"}})), &[]),
            (
                env,
                from(json!({"fieldRef": {}})),
                &["spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Required value"],
            ),
            (
                env,
                from(json!({"fieldRef": {"fieldPath": "metadata.labels"}})),
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
                ],
            ),
        ],
    );
    let env_from = "spec.containers.0.envFrom";
    let bad_ref =
        format!("spec.containers[0].envFrom[0].secretRef.name: Invalid value: \"S\": {SUBDOMAIN}");
    check_create::<Pod>(
        &guide(),
        &[
            (env_from, json!([{"secretRef": {"name": "s"}, "prefix": "P_"}]), &[]),
            (
                env_from,
                json!([{"secretRef": {}}]),
                &["spec.containers[0].envFrom[0].secretRef.name: Required value"],
            ),
            (env_from, json!([{"secretRef": {"name": "S"}}]), &[&bad_ref]),
            (
                env_from,
                json!([{}]),
                &[
                    "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                ],
            ),
            (
                env_from,
                json!([{"secretRef": {"name": "s"}, "configMapRef": {"name": "m"}}]),
                &[
                    "spec.containers[0].envFrom: Invalid value: \"\": may not have more than one field specified at a time",
                ],
            ),
            (
                env_from,
                json!([{"secretRef": {"name": "s"}, "prefix": "a=b"}]),
                &[
                    "spec.containers[0].envFrom[0].prefix: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
        ],
    );
}

#[test]
fn requests_fit_their_limits() {
    let resources = "spec.containers.0.resources";
    check_create::<Pod>(
        &guide(),
        &[
            (resources, json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1000m"}}), &[]),
            (
                resources,
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
                &[
                    "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
                ],
            ),
            (
                resources,
                json!({"requests": {"cpu": "-1"}}),
                &[
                    "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                resources,
                json!({"requests": {"cpu": "one"}}),
                &[
                    "spec.containers[0].resources.requests[cpu]: Invalid value: \"one\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                ],
            ),
            (
                resources,
                json!({"requests": {"disk": "1"}}),
                &[
                    "spec.containers[0].resources.requests[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
                    "spec.containers[0].resources.requests[disk]: Invalid value: \"disk\": must be a standard resource for containers",
                ],
            ),
            (
                resources,
                json!({"requests": {"pods": "1"}}),
                &[
                    "spec.containers[0].resources.requests[pods]: Invalid value: \"pods\": must be a standard resource for containers",
                ],
            ),
            (resources, json!({"limits": {"example.com/gpu": "1"}}), &[]),
            (
                resources,
                json!({"limits": {"example.com/gpu": "1.5"}}),
                &[
                    "spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
                    "spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"1500m\": must be an integer",
                ],
            ),
            (
                resources,
                json!({"requests": {"example.com/gpu": "1"}}),
                &[
                    "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
                ],
            ),
            (
                resources,
                json!({"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}),
                &[
                    "spec.containers[0].resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
                ],
            ),
            (
                resources,
                json!({"limits": {"hugepages-2Mi": "2Mi"}}),
                &["spec.containers[0].resources: Forbidden: HugePages require cpu or memory"],
            ),
            (
                resources,
                json!({"claims": [{"name": "c"}]}),
                &[
                    "spec.containers[0].resources.claims[0]: Not found: \"c\": must be one of the names in pod.spec.resourceClaims which is empty",
                ],
            ),
        ],
    );
}

#[test]
fn probes_and_hooks_have_one_handler() {
    let probe = "spec.containers.0.livenessProbe";
    let hook = "spec.containers.0.lifecycle.preStop";
    check_create::<Pod>(
        &guide(),
        &[
            (probe, json!({"exec": {"command": ["true"]}}), &[]),
            (
                probe,
                json!({}),
                &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
            ),
            (
                probe,
                json!({"exec": {}}),
                &["spec.containers[0].livenessProbe.exec.command: Required value"],
            ),
            (
                probe,
                json!({"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}),
                &[
                    "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                ],
            ),
            (
                probe,
                json!({"tcpSocket": {"port": 0}}),
                &[
                    "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                probe,
                json!({"tcpSocket": {"port": "1"}}),
                &[
                    "spec.containers[0].livenessProbe.tcpSocket.port: Invalid value: \"1\": must contain at least one letter (a-z)",
                ],
            ),
            (
                probe,
                json!({"httpGet": {"port": 1, "scheme": "FTP"}}),
                &[
                    "spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\"",
                ],
            ),
            (
                probe,
                json!({"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": ""}]}}),
                &[
                    "spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
                ],
            ),
            (
                probe,
                json!({"tcpSocket": {"port": 1}, "periodSeconds": -1}),
                &[
                    "spec.containers[0].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                probe,
                json!({"tcpSocket": {"port": 1}, "successThreshold": 2}),
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                probe,
                json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 0}),
                &[
                    "spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
                ],
            ),
            (
                "spec.containers.0.readinessProbe",
                json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}),
                &[
                    "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes",
                ],
            ),
            (hook, json!({"sleep": {"seconds": 30}}), &[]),
            (
                hook,
                json!({"sleep": {"seconds": 31}}),
                &[
                    "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
                ],
            ),
            (
                hook,
                json!({}),
                &[
                    "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type",
                ],
            ),
        ],
    );
}

#[test]
fn security_contexts_are_consistent() {
    let context = "spec.containers.0.securityContext";
    let pod = "spec.securityContext";
    check_create::<Pod>(
        &guide(),
        &[
            (context, json!({"runAsUser": 1000, "privileged": true}), &[]),
            (
                context,
                json!({"runAsUser": -1}),
                &[
                    "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
            (
                context,
                json!({"allowPrivilegeEscalation": false, "privileged": true}),
                &[
                    "spec.containers[0].securityContext: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
                ],
            ),
            (
                context,
                json!({"procMount": "Some"}),
                &[
                    "spec.containers[0].securityContext.procMount: Unsupported value: \"Some\": supported values: \"Default\", \"Unmasked\"",
                ],
            ),
            (
                context,
                json!({"procMount": "Unmasked"}),
                &[
                    "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
                ],
            ),
            (
                context,
                json!({"seccompProfile": {"type": "Localhost"}}),
                &[
                    "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                ],
            ),
            (
                context,
                json!({"seccompProfile": {"type": "None"}}),
                &[
                    "spec.containers[0].securityContext.seccompProfile.type: Unsupported value: \"None\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
                ],
            ),
            (
                context,
                json!({"appArmorProfile": {"type": "Localhost"}}),
                &[
                    "spec.containers[0].securityContext.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost",
                ],
            ),
            (
                pod,
                json!({"fsGroup": -2}),
                &[
                    "spec.securityContext.fsGroup: Invalid value: -2: must be between 0 and 2147483647, inclusive",
                ],
            ),
            (
                pod,
                json!({"supplementalGroups": [1, -1]}),
                &[
                    "spec.securityContext.supplementalGroups[1]: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
            (
                pod,
                json!({"fsGroupChangePolicy": "Never"}),
                &[
                    "spec.securityContext.fsGroupChangePolicy: Unsupported value: \"Never\": supported values: \"Always\", \"OnRootMismatch\"",
                ],
            ),
            (
                pod,
                json!({"sysctls": [{"name": "kernel.x", "value": "1"}, {"name": "kernel.x", "value": "2"}]}),
                &["spec.securityContext.sysctls[1].name: Duplicate value: \"kernel.x\""],
            ),
            (
                pod,
                json!({"sysctls": [{"name": "", "value": "1"}]}),
                &["spec.securityContext.sysctls[0].name: Required value"],
            ),
        ],
    );
}
