//! No kind with a pod in it, no annotation and no field that decides what a pod gets is left out.

use std::path::Path;

use coffer_api::schema::{self, Schema, Shape};
use serde_json::{Value, json};

use super::*;
use crate::object::Resources;

/// Fields of a PodSpec, and of nothing else.
const POD_SPEC: [&str; 3] = ["containers", "nodeSelector", "terminationGracePeriodSeconds"];
/// Schemas refer to themselves nowhere that a pod could be.
const DEPTH_MAX: usize = 12;

/// The paths at which a PodSpec stands.
fn pod_specs(schema: Schema, at: &str, found: &mut Vec<String>, depth: usize) {
    if POD_SPEC.iter().all(|field| schema.field(field).is_some())
        && matches!(schema.shape(), Shape::Struct)
    {
        found.push(at.to_owned());
        return;
    }
    if depth == DEPTH_MAX {
        return;
    }
    match schema.shape() {
        Shape::Struct => {
            for (name, field) in schema.fields() {
                pod_specs(field, &format!("{at}/{name}"), found, depth + 1);
            }
        }
        Shape::Map(item) | Shape::List(item, _) => {
            pod_specs(item, &format!("{at}/0"), found, depth + 1)
        }
        Shape::Scalar | Shape::Any => {}
    }
}

/// A later kind with a pod in it that is not handled here would bypass the check.
#[test]
fn every_served_kind_with_a_pod_in_it_is_checked() {
    let mut with_pods = Vec::new();
    for resource in Resources::all().iter() {
        let info = resource.info;
        let schema = schema::of(&info.api_version(), info.kind).expect("served kinds have schemas");
        let mut found = Vec::new();
        pod_specs(schema, "", &mut found, 0);
        let Some(path) = found.pop() else { continue };
        assert!(found.is_empty(), "{}: several pods in one object", info.kind);
        with_pods.push(info.kind);
        let mut object =
            json!({ "apiVersion": info.api_version(), "kind": info.kind, "metadata": {} });
        let mut place = &mut object;
        for part in path.split('/').skip(1) {
            place = &mut place[part];
        }
        *place = json!({
            "containers": [{ "name": "c" }],
            "volumes": [{ "name": "v", "secret": { "secretName": "db" } }],
        });
        if info.kind != "Pod" {
            object["spec"]["selector"] = json!({});
        }
        if info.kind == "ReplicationController" {
            object["spec"]["selector"] = Value::Null;
        }
        let object = resource.parse(object.to_string().as_bytes()).expect("an object of its kind");
        let workload =
            super::of(&*object).unwrap_or_else(|| panic!("{} is not checked", info.kind));
        assert_eq!(secrets_of(&workload.pod), ["db".to_owned()].into(), "{}", info.kind);
        assert_eq!(workload.is_template, info.kind != "Pod");
    }
    assert_eq!(
        with_pods,
        ["Pod", "PodTemplate", "ReplicationController", "Deployment", "ReplicaSet"]
    );
}

/// Annotations and labels that the server or the kubelet name, and that decide nothing about what
/// a pod gets or what sees it.
const NAMED_OTHERWISE: [(&str, &str); 56] = [
    ("coffer.dev/node", "the kubelet's label on containers"),
    ("coffer.dev/secret-placeholders", "the kubelet's label on sandboxes"),
    ("coffer.dev/secret-stand-ins", "its earlier name"),
    (
        "coffer.dev/mount-path",
        "read from accounts and secrets; of an account it is checked with its list",
    ),
    ("coffer.dev/granted-secrets", "the server's own"),
    ("coffer.dev/granted-host-paths", "the server's own"),
    ("coffer.dev/secret-resource-versions", "written by the kubelet"),
    ("coffer.dev/SecretsCurrent", "a condition"),
    ("kubernetes.io/enforce-mountable-secrets", "read from accounts; only takes away"),
    ("kubernetes.io/config.hash", "written by the kubelet on pods of its own"),
    ("kubernetes.io/config.source", "written by the kubelet on pods of its own"),
    ("kubernetes.io/dockercfg", "a type of secrets"),
    ("kubernetes.io/dockerconfigjson", "a type of secrets"),
    ("kubernetes.io/service-account-token", "a type of secrets"),
    ("kubernetes.io/kube-apiserver-client", "a signer"),
    ("kubernetes.io/kube-apiserver-client-kubelet", "a signer"),
    ("kubernetes.io/kubelet-serving", "a signer"),
    ("kubernetes.io/legacy-unknown", "a signer"),
    ("kubectl.kubernetes.io/last-applied-configuration", "kept from the runtime"),
    ("kubernetes.io/limit-ranger", "written by admission, read by no part"),
    ("kubernetes.io/hostname", "a node's label"),
    ("kubernetes.io/os", "a node's label"),
    ("kubernetes.io/arch", "a node's label"),
    ("beta.kubernetes.io/os", "a node's label"),
    ("beta.kubernetes.io/arch", "a node's label"),
    ("beta.kubernetes.io/instance-type", "a node's label"),
    ("node.kubernetes.io/instance-type", "a node's label"),
    ("topology.kubernetes.io/zone", "a node's label"),
    ("topology.kubernetes.io/region", "a node's label"),
    ("failure-domain.beta.kubernetes.io/zone", "a node's label"),
    ("failure-domain.beta.kubernetes.io/region", "a node's label"),
    ("node.kubernetes.io/not-ready", "a taint"),
    ("node.kubernetes.io/unreachable", "a taint"),
    ("node.kubernetes.io/unschedulable", "a taint"),
    ("node.kubernetes.io/memory-pressure", "a taint"),
    ("node.kubernetes.io/disk-pressure", "a taint"),
    ("node.kubernetes.io/pid-pressure", "a taint"),
    ("node.kubernetes.io/network-unavailable", "a taint"),
    ("node-role.kubernetes.io/", "a node's label"),
    ("kubernetes.io/basic-auth", "a type of secrets"),
    ("kubernetes.io/ssh-auth", "a type of secrets"),
    ("kubernetes.io/tls", "a type of secrets"),
    ("bootstrap.kubernetes.io/token", "a type of secrets"),
    ("kubernetes.io/metadata.name", "a namespace's label"),
    ("kubernetes.io/bootstrapping", "the label of default roles"),
    ("rbac.authorization.kubernetes.io/autoupdate", "of default roles"),
    ("kubernetes.io/service-account.name", "read from secrets; checked with their type"),
    ("kubernetes.io/service-account.uid", "read from secrets; checked with their type"),
    ("kubernetes.io/description", "read by no part"),
    ("k8s.io/initial-events-end", "of bookmarks in a watch"),
    ("kubectl.kubernetes.io/default-container", "read by kubectl"),
    ("controller.kubernetes.io/pod-deletion-cost", "ranks which pods go first"),
    ("deployment.kubernetes.io/revision", "written by the deployment controller"),
    ("deployment.kubernetes.io/revision-history", "written by the deployment controller"),
    ("deployment.kubernetes.io/desired-replicas", "written by the deployment controller"),
    ("deployment.kubernetes.io/max-replicas", "written by the deployment controller"),
];
/// Beginnings of names that come from no user: containers' labels, volume plugins.
const NOT_NAMES: [&str; 4] =
    ["kubernetes.io~", "io.kubernetes.container.", "io.kubernetes.pod.", "io.kubernetes.sandbox"];

/// A new annotation of a pod that a part of Coffer reads must be classified here: checked or not.
#[test]
fn every_annotation_that_is_read_from_a_pod_is_checked_or_listed_with_a_reason() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    for part in [
        "apiserver/src/admission",
        "apiserver/src/authz/node",
        "kubelet/src",
        "api/src/host_paths.rs",
        "api/src/well_known.rs",
    ] {
        names_in(&crates.join(part), &mut names);
    }
    assert!(names.contains(ATTACH) && names.contains(SECRET_UPDATE) && names.contains(MIRROR));
    let is_listed = |name: &str| {
        NAMED_OTHERWISE.iter().any(|(listed, _)| *listed == name)
            || NOT_NAMES.iter().any(|prefix| name.starts_with(prefix))
    };
    names.retain(|name| !reads_annotation(name) && !is_listed(name));
    assert!(
        names.is_empty(),
        "named in the sources: {names:?}; what is read from pods belongs into ANNOTATIONS_READ, the rest into NAMED_OTHERWISE"
    );
    let is_used = |(_, reason): &(&str, &str)| !reason.is_empty();
    assert!(NAMED_OTHERWISE.iter().all(is_used));
}

/// The names below kubernetes.io and coffer.dev in string literals outside tests.
fn names_in(path: &Path, names: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory of sources") {
            names_in(&entry.expect("an entry").path(), names);
        }
        return;
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.ends_with(".rs") || name.contains("tests") {
        return;
    }
    let text = std::fs::read_to_string(path).expect("a source file");
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    for literal in code.flat_map(|line| line.split('"').skip(1).step_by(2)) {
        let is_name =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '~');
        let (domain, rest) = literal.split_once('/').unwrap_or((literal, ""));
        let ours = ["kubernetes.io", "k8s.io", "coffer.dev"].iter().any(|it| domain.ends_with(it))
            && !rest.is_empty()
            && !matches!(rest, "v1" | "v1beta1" | "v1alpha1");
        let runtimes = domain.starts_with("io.kubernetes.") || domain.starts_with("io.containerd");
        if (ours || runtimes) && literal.chars().all(is_name) {
            names.insert(literal.to_owned());
        }
    }
}

fn pod(metadata: Value, spec: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("a pod")
}

fn same(is_template: bool, old: &Pod, new: &Pod) -> bool {
    let workload = |pod| Workload { pod: Cow::Borrowed(pod), is_template };
    workload(new).runs_as(&workload(old))
}

/// A spec in which every field is set that a PodSpec has. A new field of a new version fails here.
#[test]
fn every_field_of_a_spec_counts_but_for_how_long_it_runs() {
    let schema =
        schema::of("v1", "Pod").and_then(|pod| pod.field("spec")).expect("pods have specs");
    let old = pod(json!({}), json!({ "containers": [{ "name": "c" }] }));
    let free = ["activeDeadlineSeconds", "terminationGracePeriodSeconds"];
    for (field, schema) in schema.fields() {
        let value = some(schema, 0);
        let mut spec = json!({ "containers": [{ "name": "c" }] });
        spec[field] = value.clone();
        let Ok(new) = serde_json::from_value::<Pod>(json!({ "metadata": {}, "spec": spec })) else {
            panic!("{field} cannot be {value}");
        };
        assert_eq!(same(true, &old, &new), free.contains(&field), "{field}: {value}");
    }
}

/// Some value that is not nothing.
fn some(schema: Schema, depth: usize) -> Value {
    if depth > DEPTH_MAX {
        return Value::Null;
    }
    match schema.shape() {
        Shape::Struct => {
            let fields =
                schema.fields().map(|(name, field)| (name.to_owned(), some(field, depth + 1)));
            Value::Object(fields.filter(|(_, value)| !value.is_null()).collect())
        }
        Shape::Map(item) => json!({ "key": some(item, depth + 1) }),
        Shape::List(item, _) => json!([some(item, depth + 1)]),
        Shape::Scalar => match schema.scalar() {
            Some(schema::fit::Scalar::Bool) => true.into(),
            Some(schema::fit::Scalar::Int(_) | schema::fit::Scalar::Float) => 7.into(),
            Some(schema::fit::Scalar::Bytes) => "eHg=".into(),
            Some(schema::fit::Scalar::Time) => "2026-01-01T00:00:00Z".into(),
            Some(_) | None => "1".into(),
        },
        Shape::Any => Value::Null,
    }
}

#[test]
fn labels_and_annotations_count_where_a_container_reads_them() {
    let env = |path: &str| {
        let source = json!({ "fieldRef": { "fieldPath": path } });
        json!({ "containers": [{ "name": "c", "env": [{ "name": "A", "valueFrom": source }] }] })
    };
    let file = |path: &str| {
        let items = json!([{ "path": "f", "fieldRef": { "fieldPath": path } }]);
        json!({ "containers": [{ "name": "c" }], "volumes": [
            { "name": "p", "projected": { "sources": [{ "downwardAPI": { "items": items } }] } },
        ] })
    };
    let with =
        |map: &str, value: &str, spec: &Value| pod(json!({ map: { "cmd": value } }), spec.clone());
    let nothing = json!({ "containers": [{ "name": "c" }] });
    for (map, spec, counts) in [
        ("annotations", nothing.clone(), false),
        ("labels", nothing, false),
        ("annotations", env("metadata.annotations['cmd']"), true),
        ("annotations", env("metadata.annotations['other']"), false),
        ("annotations", env("metadata.labels['cmd']"), false),
        ("labels", env("metadata.labels['cmd']"), true),
        ("annotations", file("metadata.annotations"), true),
        ("labels", file("metadata.labels"), true),
        ("labels", file("metadata.annotations"), false),
    ] {
        let (old, new) = (with(map, "true", &spec), with(map, "cat /s/*", &spec));
        assert_eq!(!same(true, &old, &new), counts, "{map} {spec}");
        assert_eq!(!same(false, &old, &new), counts, "{map} {spec}");
    }
}
