//! Pods that are small to write and large to run.

use std::sync::Arc;

use coffer_testkit::Attacks;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value as Json, json};

use super::{NODE, objects, started_with};
use crate::pod::{Layout, PodId};
use crate::volume::Volumes;

const TOTAL: &str = "are larger than the 6291456 bytes that the kernel allows in all";
const STRING: &str = "is longer than the 131072 bytes that the kernel allows for it";

/// The message with which a container is refused, or none.
fn refusal(container: Json, secret: &[(&str, &[u8])], map: &[(&str, &str)]) -> String {
    started_with(container, secret, map).err().unwrap_or_default()
}

async fn refused_volumes(volumes: Json) -> String {
    let objects = objects(|path| {
        let data = json!({ "big": "A".repeat(1_398_100), "k": "YQ==" });
        let meta = json!({ "name": "s", "uid": "u", "resourceVersion": "1" });
        match path {
            "/api/v1/namespaces/ns/secrets/s" => Some(json!({ "metadata": meta, "data": data })),
            path if path.starts_with("/api/v1/namespaces/ns/configmaps/m") => {
                let data = json!({ "big": "x".repeat(1_000_000), "k": "a" });
                Some(json!({ "metadata": meta, "data": data }))
            }
            _ => None,
        }
    });
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u",
            "annotations": { "large": "a".repeat(200_000) } },
        "spec": { "containers": [], "volumes": volumes },
    }))
    .expect("a pod");
    let id = PodId::of(&pod).expect("an identity");
    let root = tempfile::tempdir().expect("a directory");
    let protected = Arc::new(crate::volume::Protected::new([]));
    let volumes = Volumes::new(Layout::new(root.path()), objects, NODE, protected);
    let refused = volumes.set_up(&id, &Arc::new(pod)).await.err().unwrap_or_default();
    refused.iter().map(|failed| failed.error.to_string()).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn a_pod_that_expands_beyond_what_a_program_can_get_is_refused_before_it_is_made() {
    let mut attacks = Attacks::group("pods that are small to write and large to run");
    let large = "x".repeat(100_000);
    let twice = "$(A)$(A)";

    // The pod of the finding: 64 GB from 1.25 MB.
    let env = json!([{ "name": "A", "value": "x".repeat(120_000) },
        { "name": "B", "value": "$(A)".repeat(64_000) }]);
    let seen = refusal(json!({ "name": "c", "env": env }), &[], &[]);
    let expected = format!("environment variable \"B\" {STRING}");
    attacks.attempt("env of references", seen == expected, seen);

    let mut env = vec![json!({ "name": "V0", "value": "xx" })];
    env.extend((1..60).map(|n| {
        let before = format!("$(V{})", n - 1);
        json!({ "name": format!("V{n}"), "value": before.repeat(2) })
    }));
    let seen = refusal(json!({ "name": "c", "env": env }), &[], &[]);
    attacks.attempt("env that doubles", seen.ends_with(STRING), seen);

    let mut env = vec![json!({ "name": "A", "value": large })];
    env.extend((0..90_000).map(|_| json!({ "name": "B", "value": "$(A)" })));
    let seen = refusal(json!({ "name": "c", "env": env }), &[], &[]);
    attacks.attempt("one variable made again and again", seen.contains(TOTAL), seen);

    let mut env = vec![json!({ "name": "A", "value": large })];
    env.extend((0..90_000).map(|n| json!({ "name": format!("B{n}"), "value": "$(A)" })));
    let seen = refusal(json!({ "name": "c", "env": env }), &[], &[]);
    attacks.attempt("many variables", seen.contains(TOTAL), seen);

    for field in ["command", "args"] {
        let env = json!([{ "name": "A", "value": large }]);
        let container = json!({ "name": "c", "env": env, field: ["x", twice] });
        let seen = refusal(container, &[], &[]);
        attacks.attempt(field, seen == format!("{field}[1] {STRING}"), seen);
        let words = vec!["$(A)"; 90_000];
        let container = json!({ "name": "c", "env": env, field: words });
        let seen = refusal(container, &[], &[]);
        attacks.attempt("many words", seen.contains(TOTAL) && seen.contains(field), seen);
    }
    let words = vec![""; 900_000];
    let seen = refusal(json!({ "name": "c", "args": words }), &[], &[]);
    attacks.attempt("many empty words", seen.contains(TOTAL), seen);

    let field = json!({ "fieldRef": { "fieldPath": "metadata.annotations['large']" } });
    let env = json!([{ "name": "A", "valueFrom": field }]);
    let seen = refusal(json!({ "name": "c", "env": env }), &[], &[]);
    attacks.attempt("an annotation", seen.ends_with(STRING), seen);

    // 128 KiB with its name, the `=` and the NUL: one byte more is too much.
    let value = "x".repeat(128 * 1024 - 2 - 3);
    let secret = format!("{value}y");
    for (value, fits) in [(&value, true), (&secret, false)] {
        let env = json!([{ "name": "KEY", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }]);
        let seen = refusal(json!({ "name": "c", "env": env }), &[("k", value.as_bytes())], &[]);
        attacks.attempt("the longest value", seen.is_empty() == fits && !seen.contains("xx"), seen);
    }
    let from = json!([{ "secretRef": { "name": "s" } }, { "prefix": "P_", "configMapRef": { "name": "m" } }]);
    let keys: Vec<(String, Vec<u8>)> =
        (0..100).map(|n| (format!("k{n}"), vec![b'x'; 100_000])).collect();
    let keys: Vec<(&str, &[u8])> = keys.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
    let seen = refusal(json!({ "name": "c", "envFrom": from }), &keys, &[]);
    attacks.attempt("a large Secret", seen.contains(TOTAL), seen);
    let seen = refusal(json!({ "name": "c", "envFrom": from }), &[], &[("k", &large.repeat(2))]);
    attacks.attempt("a large ConfigMap", seen.ends_with(STRING), seen);

    let path = format!("{}/x", "a".repeat(4_000));
    let env = json!([{ "name": "A", "value": path }]);
    let (environment, _) =
        started_with(json!({ "name": "c", "env": env }), &[], &[]).expect("fits");
    let seen = environment.expand_path(twice, 3).err().map(|error| error.to_string());
    let expected =
        "volumeMounts[3].subPathExpr is longer than the 4096 bytes that the kernel allows for it";
    attacks.attempt("subPathExpr", seen.as_deref() == Some(expected), seen);

    let items = |count: usize| -> Vec<Json> {
        (0..count).map(|n| json!({ "key": "big", "path": format!("f{n}") })).collect()
    };
    let large = "take more than 67108864 bytes of memory";
    for (what, volume) in [
        (
            "one key at many paths",
            json!({ "secret": { "secretName": "s", "items": items(20_000) } }),
        ),
        ("one key of a ConfigMap", json!({ "configMap": { "name": "m", "items": items(20_000) } })),
        (
            "projections",
            json!({ "projected": { "sources": (0..200).map(|n| {
            let items = json!([{ "key": "big", "path": format!("f{n}") }]);
            json!({ "secret": { "name": "s", "items": items } })
        }).collect::<Vec<_>>() } }),
        ),
        (
            "objects of which little is used",
            json!({ "projected": { "sources": (0..200).map(|n| {
                let items = json!([{ "key": "k", "path": format!("f{n}") }]);
                json!({ "configMap": { "name": format!("m{n}"), "items": items } })
            }).collect::<Vec<_>>() } }),
        ),
        (
            "annotations",
            json!({ "downwardAPI": { "items": (0..20_000).map(|n| json!({
            "path": format!("f{n}"), "fieldRef": { "fieldPath": "metadata.annotations" }
        })).collect::<Vec<_>>() } }),
        ),
    ] {
        let mut volume = volume;
        volume["name"] = json!("v");
        let seen = refused_volumes(json!([volume])).await;
        attacks.attempt(what, seen.contains(large), seen);
    }
    let many = |n: usize| {
        json!({ "name": format!("v{n}"),
        "secret": { "secretName": "s", "items": [{ "key": "big", "path": "f" }] } })
    };
    let seen = refused_volumes(json!((0..900).map(many).collect::<Vec<_>>())).await;
    attacks.attempt("large volumes", seen.contains(large), seen);
    let seen = refused_volumes(json!((0..20_000).map(many).collect::<Vec<_>>())).await;
    let expected = "the pod has 20000 volumes; no more than 1000 are mounted";
    attacks.attempt("many volumes", seen == expected, seen);
    let deep = "a/".repeat(700_000) + "f";
    let volume = json!({ "name": "v",
        "secret": { "secretName": "s", "items": [{ "key": "k", "path": deep }] } });
    let seen = refused_volumes(json!([volume])).await;
    attacks.attempt("a deep path", seen.contains("is longer than 4096 bytes"), seen);
    attacks.finish();
}

/// What Kubernetes runs goes on running: 90,000 small variables are 1.4 MB.
#[test]
fn many_small_variables_are_allowed() {
    let env: Vec<Json> = (0..90_000).map(|n| json!({ "name": format!("A{n:05}") })).collect();
    let (environment, _) =
        started_with(json!({ "name": "c", "env": env }), &[], &[]).expect("fits");
    assert_eq!(environment.iter().count(), 90_000);
}
