//! Field ownership and the OpenAPI documents: the machine's kubectl applies, patches
//! and explains against a real server.

mod support;

use serde_json::{Value, json};
use support::TestServer;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn ok(server: &TestServer, arguments: &[&str], input: &str) -> String {
    let output = server.kubectl(arguments, input).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn refused(server: &TestServer, arguments: &[&str], input: &str) -> String {
    let output = server.kubectl(arguments, input).await;
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

fn secret(password: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "mysecret", "namespace": "default"},
        "data": {"password": password, "username": "dmFsdWUtMQ0K"},
    })
    .to_string()
}

async fn owners(server: &TestServer, kind: &str, name: &str) -> Vec<(String, Value)> {
    let arguments = ["get", kind, name, "-o", "json", "--show-managed-fields"];
    let object: Value = serde_json::from_str(&ok(server, &arguments, "").await).unwrap();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries
        .into_iter()
        .map(|entry| {
            let word = |name: &str| entry[name].as_str().unwrap().to_owned();
            (format!("{} {}", word("manager"), word("operation")), entry["fieldsV1"].clone())
        })
        .collect()
}

/// The road people go: client-side apply for years, then `--server-side` once, then two tools.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_from_client_side_to_server_side_apply_and_is_fought_over() {
    let server = TestServer::start().await;
    ok(&server, &["apply", "-f", "-"], &secret("b25l")).await;
    let data = json!({".": {}, "f:password": {}, "f:username": {}});
    let first = owners(&server, "secret", "mysecret").await;
    assert_eq!(first[0].0, "kubectl-client-side-apply Update");
    assert_eq!(first[0].1["f:data"], data);

    ok(&server, &["apply", "--server-side", "-f", "-"], &secret("dHdv")).await;
    let applied = owners(&server, "secret", "mysecret").await;
    assert!(applied.iter().any(|(manager, fields)| {
        manager == "kubectl Apply" && fields["f:data"]["f:password"] == json!({})
    }));
    assert!(!applied.iter().any(|(manager, _)| manager.starts_with("kubectl-client-side")));

    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let error = refused(&server, &other, &secret("dGhyZWU=")).await;
    let conflict = "Apply failed with 1 conflict: conflict with \"kubectl\": .data.password";
    assert!(error.contains(conflict), "{error}");
    assert!(!error.contains("dHdv") && !error.contains("dGhyZWU"), "a value is quoted: {error}");
    let forced =
        ["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"];
    ok(&server, &forced, &secret("dGhyZWU=")).await;
    let path = ["get", "secret", "mysecret", "-o", "jsonpath={.data.password}"];
    assert_eq!(ok(&server, &path, "").await, "dGhyZWU=");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applier_that_drops_a_key_removes_it_and_a_dry_run_changes_nothing() {
    let server = TestServer::start().await;
    let apply = ["apply", "--server-side", "-f", "-"];
    ok(&server, &apply, &secret("b25l")).await;
    let mut without: Value = serde_json::from_str(&secret("b25l")).unwrap();
    without["data"].as_object_mut().unwrap().remove("username");
    let keys = ["get", "secret", "mysecret", "-o", "jsonpath={.data}"];

    let dry = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
    ok(&server, &dry, &without.to_string()).await;
    assert!(ok(&server, &keys, "").await.contains("username"));
    ok(&server, &apply, &without.to_string()).await;
    assert_eq!(ok(&server, &keys, "").await, "{\"password\":\"b25l\"}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_each_kind_do_what_kubectl_means_by_them() {
    let server = TestServer::start().await;
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: a, image: redis, env: [{name: A, value: '1'}]}
  - {name: b, image: redis}
";
    ok(&server, &["create", "-f", "-"], pod).await;
    let patch = |kind: &'static str, patch: &'static str| ["patch", "pod", "p", kind, "-p", patch];
    let image = r#"{"spec":{"containers":[{"name":"b","image":"redis:2"}]}}"#;
    ok(&server, &patch("--type=strategic", image), "").await;
    let images = ["get", "pod", "p", "-o", "jsonpath={.spec.containers[*].image}"];
    let mut shown: Vec<_> = ok(&server, &images, "").await.split(' ').map(str::to_owned).collect();
    shown.sort();
    assert_eq!(shown, ["redis", "redis:2"]);

    let label = r#"[{"op":"add","path":"/metadata/labels","value":{"x":"1"}}]"#;
    ok(&server, &patch("--type=json", label), "").await;
    ok(&server, &patch("--type=merge", r#"{"metadata":{"labels":{"y":"2"}}}"#), "").await;
    let labels = ["get", "pod", "p", "-o", "jsonpath={.metadata.labels}"];
    assert_eq!(ok(&server, &labels, "").await, r#"{"x":"1","y":"2"}"#);

    let test = r#"[{"op":"test","path":"/metadata/labels/x","value":"9"}]"#;
    let error = refused(&server, &patch("--type=json", test), "").await;
    let wanted = "the server rejected our request due to an error in our request";
    assert!(error.contains(wanted), "{error}");
    let no_key = r#"{"spec":{"containers":[{"image":"CANARY"}]}}"#;
    let error = refused(&server, &patch("--type=strategic", no_key), "").await;
    assert!(error.contains("does not contain declared merge key: name"), "{error}");
    assert!(!error.contains("CANARY"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_fields_and_refuses_unknown_ones() {
    let server = TestServer::start().await;
    let explained = ok(&server, &["explain", "secret.data"], "").await;
    assert!(explained.contains("KIND:") && explained.contains("Secret"), "{explained}");
    assert!(explained.contains("base64 encoded string"), "{explained}");
    let nested = ok(&server, &["explain", "pod.spec.volumes.secret", "--recursive"], "").await;
    assert!(nested.contains("defaultMode"), "{nested}");

    let typo = secret("b25l").replace("\"data\"", "\"daat\"");
    let error = refused(&server, &["create", "-f", "-"], &typo).await;
    assert!(error.contains("unknown field \"daat\""), "{error}");
    server.stop().await;
}

/// kubectl below 1.27 reads nothing but protobuf; `kubectl` of each version is too much to ask of a
/// machine, so that the document is fetched as those versions fetch it.
#[tokio::test(flavor = "multi_thread")]
async fn openapi_is_served_as_protobuf_under_a_type_that_go_can_parse() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let request = http::Request::get("/openapi/v2")
        .header("accept", accept)
        .body(kube::client::Body::empty())
        .unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(content_type, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    let etag = response.headers()["etag"].clone();
    let again = http::Request::get("/openapi/v2")
        .header("accept", accept)
        .header("if-none-match", etag)
        .body(kube::client::Body::empty())
        .unwrap();
    assert_eq!(client.send(again).await.unwrap().status(), 304);
    server.stop().await;
}
