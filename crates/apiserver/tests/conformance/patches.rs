//! Patches with duplicate fields, patches that do not fit the object, and results that are too large.

use http::Method;
use serde_json::json;

use crate::client::ApiClient;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

async fn with_secret() -> ApiClient {
    let api = ApiClient::start().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "a" }, "stringData": { "k": "v" },
    });
    api.post(SECRETS, &secret).await.ok();
    api
}

/// Members of the patch that it has twice or that mean nothing in it, and fields that its result
/// has and the kind has not, in that order.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_duplicate_fields_of_a_patch_are_refused_warned_of_or_dropped() {
    let api = with_secret().await;
    for (media, patch, findings) in [
        (
            JSON_PATCH,
            r#"[{"op":"add","path":"/typo","value":1,"vlaue":2,"op":"add"}]"#,
            vec![
                r#"json patch unknown field "[0].vlaue""#,
                r#"json patch duplicate field "[0].op""#,
                r#"unknown field "typo""#,
            ],
        ),
        (
            MERGE,
            r#"{"data":{"k":"dg==","k":"dg=="},"typo":1}"#,
            vec![r#"duplicate field "data.k""#, r#"unknown field "typo""#],
        ),
        (
            STRATEGIC,
            r#"{"metadata":{"labels":{"a":"b","a":"b"}},"typo":1}"#,
            vec![r#"duplicate field "metadata.labels.a""#, r#"unknown field "typo""#],
        ),
    ] {
        for validation in ["", "Warn", "Ignore", "Strict"] {
            let path = format!("{SECRETS}/a?dryRun=All&fieldValidation={validation}");
            let response = api.send(Method::PATCH, &path, &[("content-type", media)], patch).await;
            if validation == "Strict" {
                let wanted = format!(
                    " \"\" is invalid: patch: Invalid value: \"<patched object>\": strict decoding error: {}",
                    findings.join(", ")
                );
                assert_eq!(response.refusal(), (422, "Invalid".into(), wanted), "{media}");
                continue;
            }
            let found: Vec<_> =
                response.headers.get_all("warning").iter().map(|it| it.to_str().unwrap()).collect();
            let warned = findings.iter().map(|it| format!("299 - \"{}\"", it.replace('"', "\\\"")));
            let wanted =
                if validation == "Ignore" { Vec::new() } else { warned.collect::<Vec<_>>() };
            assert_eq!(found, wanted, "{media} {validation}");
            response.ok();
        }
    }
    api.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_does_not_make_one_kind_of_another() {
    let api = with_secret().await;
    let unfit = " \"\" is invalid: patch: Invalid value: \"<patched object>\": ";
    for (patch, why) in [
        (
            json!({ "kind": "ConfigMap" }),
            "converting (v1.ConfigMap) to (core.Secret): unknown conversion",
        ),
        (json!({ "apiVersion": "v2" }), "no kind \"Secret\" is registered for version \"v2\""),
        (json!({ "data": { "k": "d" } }), "illegal base64 data at input byte 0 (at data.k)"),
        (
            json!({ "data": { "k": 5 } }),
            "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
        ),
    ] {
        let refused = api.merge(&format!("{SECRETS}/a"), &patch).await;
        assert_eq!(refused.refusal(), (422, "Invalid".into(), format!("{unfit}{why}")));
    }
    // What is merged strategically is merged into something that has its type already.
    let media = ("content-type", STRATEGIC);
    let patch = json!({ "kind": "ConfigMap" }).to_string();
    let same = api.send(Method::PATCH, &format!("{SECRETS}/a"), &[media], patch).await.ok();
    assert_eq!(same["kind"], "Secret");
    api.close().await;
}

/// Each request is small enough; what they add up to is not.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_grows_beyond_the_stores_limit_is_refused() {
    let api = ApiClient::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let container = |name: &str| json!({ "name": name, "image": "redis", "env": [{ "name": "A", "value": "x".repeat(700_000) }] });
    let deployment = json!({
        "metadata": { "name": "d" },
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [container("c0")] },
        } },
    });
    api.post(deployments, &deployment).await.ok();
    let mut refused = None;
    for at in 1..4 {
        let containers = "/spec/template/spec/containers";
        let patch = json!([
            { "op": "copy", "from": format!("{containers}/0"), "path": format!("{containers}/-") },
            { "op": "replace", "path": format!("{containers}/{at}/name"), "value": format!("c{at}") },
        ]);
        let headers = [("content-type", JSON_PATCH)];
        let path = format!("{deployments}/d");
        let response = api.send(Method::PATCH, &path, &headers, patch.to_string()).await;
        if !response.status.is_success() {
            refused = Some((response.status.as_u16(), response.text()));
            break;
        }
    }
    let (code, status) = refused.unwrap();
    // As kube-apiserver hands on what etcd says: without a reason.
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!((code, &status["reason"]), (500, &serde_json::Value::Null));
    assert_eq!(status["message"], "etcdserver: request is too large");
    assert_eq!(api.get("/readyz").await.text(), "ok");
    api.close().await;
}
