//! Volumes and what containers mount of them.

use serde_json::{Value, json};

use super::guide;
use crate::kinds::Pod;
use crate::kinds::testing::check_create;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

#[test]
fn a_secret_volume_names_its_secret_and_its_files() {
    let unmounted = "spec.containers[0].volumeMounts[0].name: Not found: \"foo\"";
    let items = |item: Value| json!([item]);
    check_create::<Pod>(
        &guide(),
        &[
            ("spec.volumes.0.secret.optional", json!(true), &[]),
            (
                "spec.volumes.0.secret.secretName",
                json!(""),
                &["spec.volumes[0].secret.secretName: Required value", unmounted],
            ),
            (
                "spec.volumes.0.secret.secretName",
                Value::Null,
                &["spec.volumes[0].secret.secretName: Required value", unmounted],
            ),
            // The name of the secret is looked at by no one before the kubelet.
            ("spec.volumes.0.secret.secretName", json!("No Such Name"), &[]),
            ("spec.volumes.0.secret.defaultMode", json!(0o777), &[]),
            (
                "spec.volumes.0.secret.defaultMode",
                json!(512),
                &[
                    &format!("spec.volumes[0].secret.defaultMode: Invalid value: 512: {MODE}"),
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.secret.defaultMode",
                json!(-1),
                &[
                    &format!("spec.volumes[0].secret.defaultMode: Invalid value: -1: {MODE}"),
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"key": "k", "path": "a/b", "mode": 256})),
                &[],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"path": "p"})),
                &["spec.volumes[0].secret.items[0].key: Required value", unmounted],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"key": "k"})),
                &["spec.volumes[0].secret.items[0].path: Required value", unmounted],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"key": "k", "path": "/p"})),
                &[
                    "spec.volumes[0].secret.items[0].path: Invalid value: \"/p\": must be a relative path",
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"key": "k", "path": "a/../p"})),
                &[
                    "spec.volumes[0].secret.items[0].path: Invalid value: \"a/../p\": must not contain '..'",
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"key": "k", "path": "../p"})),
                &[
                    "spec.volumes[0].secret.items[0].path: Invalid value: \"../p\": must not contain '..'",
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"key": "k", "path": "..data"})),
                &[
                    "spec.volumes[0].secret.items[0].path: Invalid value: \"..data\": must not start with '..'",
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.secret.items",
                items(json!({"key": "k", "path": "p", "mode": 1000})),
                &[
                    &format!("spec.volumes[0].secret.items[0].mode: Invalid value: 1000: {MODE}"),
                    unmounted,
                ],
            ),
        ],
    );
}

#[test]
fn a_volume_has_one_name_and_one_source() {
    let unmounted = "spec.containers[0].volumeMounts[0].name: Not found: \"foo\"";
    check_create::<Pod>(
        &guide(),
        &[
            (
                "spec.volumes.0.name",
                json!(""),
                &["spec.volumes[0].name: Required value", unmounted],
            ),
            (
                "spec.volumes.0.name",
                json!("F"),
                &[&format!("spec.volumes[0].name: Invalid value: \"F\": {LABEL}"), unmounted],
            ),
            (
                "spec.volumes.0.name",
                json!("a.b"),
                &["spec.volumes[0].name: Invalid value: \"a.b\": must not contain dots", unmounted],
            ),
            (
                "spec.volumes.1",
                json!({"name": "foo"}),
                &["spec.volumes[1].name: Duplicate value: \"foo\""],
            ),
            (
                "spec.volumes.0.emptyDir",
                json!({}),
                &[
                    "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.configMap",
                json!({"name": "m"}),
                &[
                    "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
                    unmounted,
                ],
            ),
            (
                "spec.volumes.0.downwardAPI",
                json!({}),
                &[
                    "spec.volumes[0].downwarAPI: Forbidden: may not specify more than 1 volume type",
                    unmounted,
                ],
            ),
            (
                "spec.volumes.1",
                json!({"name": "e", "emptyDir": {"sizeLimit": "-1"}}),
                &[
                    "spec.volumes[1].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
                ],
            ),
            (
                "spec.volumes.1",
                json!({"name": "m", "configMap": {}}),
                &["spec.volumes[1].configMap.name: Required value"],
            ),
            (
                "spec.volumes.1",
                json!({"name": "h", "hostPath": {"path": ""}}),
                &["spec.volumes[1].hostPath.path: Required value"],
            ),
            (
                "spec.volumes.1",
                json!({"name": "h", "hostPath": {"path": "/a/../b"}}),
                &[
                    "spec.volumes[1].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                ],
            ),
            (
                "spec.volumes.1",
                json!({"name": "h", "hostPath": {"path": "/a", "type": "Pipe"}}),
                &[
                    "spec.volumes[1].hostPath.type: Unsupported value: \"Pipe\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
                ],
            ),
            (
                "spec.volumes.1",
                json!({"name": "n", "nfs": {"server": "s", "path": "p"}}),
                &["spec.volumes[1].nfs.path: Invalid value: \"p\": must be an absolute path"],
            ),
            (
                "spec.volumes.1",
                json!({"name": "c", "persistentVolumeClaim": {}}),
                &["spec.volumes[1].persistentVolumeClaim.claimName: Required value"],
            ),
            (
                "spec.volumes.1",
                json!({"name": "c", "csi": {}}),
                &["spec.volumes[1].csi.driver: Required value"],
            ),
            (
                "spec.volumes.1",
                json!({"name": "c", "csi": {"driver": "d", "nodePublishSecretRef": {}}}),
                &["spec.volumes[1].csi.nodePublishSecretRef.name: Required value"],
            ),
            (
                "spec.volumes.1",
                json!({"name": "e", "ephemeral": {}}),
                &["spec.volumes[1].ephemeral.volumeClaimTemplate: Required value"],
            ),
        ],
    );
}

#[test]
fn projected_sources_are_one_each_and_do_not_collide() {
    let sources = |sources: Value| json!({"name": "p", "projected": {"sources": sources}});
    let secret =
        |path: &str| json!({"secret": {"name": "s", "items": [{"key": "k", "path": path}]}});
    check_create::<Pod>(
        &guide(),
        &[
            ("spec.volumes.1", sources(json!([secret("a"), secret("b")])), &[]),
            ("spec.volumes.1", sources(json!([{}])), &[]),
            (
                "spec.volumes.1",
                sources(json!([secret("a"), secret("a")])),
                &["spec.volumes[1].projected: Invalid value: \"s\": conflicting duplicate paths"],
            ),
            (
                "spec.volumes.1",
                sources(json!([{"secret": {}}])),
                &["spec.volumes[1].projected.sources[0].secret.name: Required value"],
            ),
            (
                "spec.volumes.1",
                sources(json!([{"secret": {"name": "s"}, "configMap": {"name": "m"}}])),
                &[
                    "spec.volumes[1].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
                ],
            ),
            (
                "spec.volumes.1",
                sources(json!([secret("../x")])),
                &[
                    "spec.volumes[1].projected.sources[0].secret.items[0].path: Invalid value: \"../x\": must not contain '..'",
                ],
            ),
            (
                "spec.volumes.1",
                sources(json!([{"serviceAccountToken": {"path": "t"}}])),
                &[
                    "spec.volumes[1].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
                ],
            ),
            (
                "spec.volumes.1",
                sources(json!([{"serviceAccountToken": {"path": "", "expirationSeconds": 599}}])),
                &[
                    "spec.volumes[1].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
                    "spec.volumes[1].projected.path: Required value",
                    "spec.volumes[1].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set",
                ],
            ),
            (
                "spec.volumes.1",
                sources(json!([{"downwardAPI": {"items": [{"path": "p"}]}}])),
                &[
                    "spec.volumes[1].projected.sources[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
                ],
            ),
            (
                "spec.volumes.1",
                json!({"name": "p", "projected": {"defaultMode": 512}}),
                &[&format!("spec.volumes[1].projected.defaultMode: Invalid value: 512: {MODE}")],
            ),
        ],
    );
}

#[test]
fn the_downward_api_shows_what_it_knows() {
    let file = |file: Value| json!({"name": "d", "downwardAPI": {"items": [file]}});
    let field = |path: &str| file(json!({"path": "p", "fieldRef": {"fieldPath": path}}));
    check_create::<Pod>(
        &guide(),
        &[
            ("spec.volumes.1", field("metadata.labels"), &[]),
            ("spec.volumes.1", field("metadata.annotations['a/b']"), &[]),
            (
                "spec.volumes.1",
                field("spec.nodeName"),
                &[
                    "spec.volumes[1].downwardAPI.fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
                ],
            ),
            (
                "spec.volumes.1",
                field("spec.x"),
                &[
                    "spec.volumes[1].downwardAPI.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
                ],
            ),
            (
                "spec.volumes.1",
                field("metadata.name['x']"),
                &[
                    "spec.volumes[1].downwardAPI.fieldRef.fieldPath: Invalid value: \"metadata.name['x']\": error converting fieldPath: field label does not support subscript: metadata.name['x']",
                ],
            ),
            (
                "spec.volumes.1",
                file(json!({"path": "p", "resourceFieldRef": {"resource": "limits.cpu"}})),
                &["spec.volumes[1].downwardAPI.resourceFieldRef.containerName: Required value"],
            ),
            (
                "spec.volumes.1",
                file(
                    json!({"path": "p", "resourceFieldRef": {"containerName": "c", "resource": "limits.disk"}}),
                ),
                &[
                    "spec.volumes[1].downwardAPI.resourceFieldRef.resource: Unsupported value: \"limits.disk\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
                ],
            ),
            (
                "spec.volumes.1",
                file(
                    json!({"path": "p", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "2"}}),
                ),
                &[
                    "spec.volumes[1].downwardAPI.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
                ],
            ),
        ],
    );
}

#[test]
fn mounts_refer_to_volumes_and_do_not_overlap() {
    let second = |mount: Value| mount;
    check_create::<Pod>(
        &guide(),
        &[
            (
                "spec.containers.0.volumeMounts.0.name",
                json!("bar"),
                &["spec.containers[0].volumeMounts[0].name: Not found: \"bar\""],
            ),
            (
                "spec.containers.0.volumeMounts.0.name",
                json!(""),
                &[
                    "spec.containers[0].volumeMounts[0].name: Required value",
                    "spec.containers[0].volumeMounts[0].name: Not found: \"\"",
                ],
            ),
            (
                "spec.containers.0.volumeMounts.0.mountPath",
                json!(""),
                &["spec.containers[0].volumeMounts[0].mountPath: Required value"],
            ),
            (
                "spec.containers.0.volumeMounts.1",
                second(json!({"name": "foo", "mountPath": "/etc/foo"})),
                &[
                    "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/etc/foo\": must be unique",
                ],
            ),
            (
                "spec.containers.0.volumeMounts.1",
                second(json!({"name": "foo", "mountPath": "/b"})),
                &[],
            ),
            ("spec.containers.0.volumeMounts.0.subPath", json!("a/b"), &[]),
            (
                "spec.containers.0.volumeMounts.0.subPath",
                json!("/a"),
                &[
                    "spec.containers[0].volumeMounts.subPath: Invalid value: \"/a\": must be a relative path",
                ],
            ),
            (
                "spec.containers.0.volumeMounts.0.subPath",
                json!("a/.."),
                &[
                    "spec.containers[0].volumeMounts.subPath: Invalid value: \"a/..\": must not contain '..'",
                ],
            ),
            (
                "spec.containers.0.volumeMounts.0.subPathExpr",
                json!("../a"),
                &[
                    "spec.containers[0].volumeMounts.subPathExpr: Invalid value: \"../a\": must not contain '..'",
                ],
            ),
            (
                "spec.containers.0.volumeMounts.0",
                json!({"name": "foo", "mountPath": "/f", "subPath": "a", "subPathExpr": "b"}),
                &[
                    "spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive",
                ],
            ),
            (
                "spec.containers.0.volumeMounts.0.mountPropagation",
                json!("Bidirectional"),
                &[
                    "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
                ],
            ),
            (
                "spec.containers.0.volumeMounts.0.mountPropagation",
                json!("Both"),
                &[
                    "spec.containers[0].volumeMounts.mountPropagation: Unsupported value: \"Both\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\"",
                ],
            ),
            ("spec.containers.0.volumeMounts.0.recursiveReadOnly", json!("Enabled"), &[]),
            (
                "spec.containers.0.volumeMounts.0.recursiveReadOnly",
                json!("Yes"),
                &[
                    "spec.containers[0].volumeMounts.recursiveReadOnly: Unsupported value: \"Yes\": supported values: \"Disabled\", \"Enabled\", \"IfPossible\"",
                ],
            ),
            (
                "spec.containers.0.volumeDevices",
                json!([{"name": "foo", "devicePath": "/dev/x"}]),
                &[
                    "spec.containers[0].volumeMounts[0].name: Invalid value: \"foo\": must not already exist in volumeDevices",
                    "spec.containers[0].volumeDevices[0].name: Invalid value: \"foo\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                    "spec.containers[0].volumeDevices[0].name: Invalid value: \"foo\": must not already exist in volumeMounts",
                ],
            ),
        ],
    );
}
