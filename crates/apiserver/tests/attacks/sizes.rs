//! Objects that are larger than a store takes, by every way to write one.

use coffer_store::{Store as _, Value as Stored};
use coffer_testkit::Attacks;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::support::TestServer;

/// What etcd takes of a request, in bytes.
const OBJECT_BYTES_MAX: usize = 3 * 512 * 1024;
const PODS: &str = "/api/v1/namespaces/default/pods";

pub(crate) async fn send(
    client: &kube::Client,
    method: Method,
    path: &str,
    media: &str,
    body: String,
) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("content-type", media);
    let request = request.body(kube::client::Body::from(body.into_bytes())).unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

pub(crate) const JSON: &str = "application/json";

/// A pod whose arguments make it so long; of all its fields they cost the least to track.
fn pod(name: &str, bytes: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "i", "args": ["x".repeat(bytes)] }] },
    })
}

/// kube-apiserver's words for it: what etcd says, without a reason, and no one's fault but its own.
fn is_too_large((code, status): &(u16, Value)) -> bool {
    *code == 500
        && *status
            == json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "etcdserver: request is too large", "code": 500,
            })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_of_writing_stores_more_than_etcd_takes() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let mut attacks = Attacks::group("objects over 1.5 MiB");
    let small = send(&client, Method::POST, PODS, JSON, pod("p", 100).to_string()).await;
    assert_eq!(small.0, 201, "{}", small.1);
    let one = format!("{PODS}/p");
    let large = || "y".repeat(OBJECT_BYTES_MAX);

    let mut put = small.1.clone();
    put["metadata"]["annotations"] = json!({ "a": "y".repeat(200_000) });
    put["metadata"]["labels"] = json!({});
    put["spec"]["containers"][0]["image"] = large().into();
    let merged = json!({ "spec": { "containers": put["spec"]["containers"] } });
    let strategic = json!({ "spec": { "containers": [{ "name": "c", "image": large() }] } });
    let operation = json!([{ "op": "add", "path": "/spec/containers/0/image", "value": large() }]);
    let status = json!({ "status": { "message": large() } });
    let apply = format!("{one}?fieldManager=a&force=true");
    let apply_new = format!("{PODS}/new?fieldManager=a");
    let eviction = format!("{one}/status");
    let applied = {
        let mut applied = pod("p", 100);
        applied["spec"]["containers"][0]["image"] = large().into();
        applied
    };
    for (what, method, path, media, body) in [
        ("create", Method::POST, PODS, JSON, pod("q", OBJECT_BYTES_MAX)),
        ("create from YAML", Method::POST, PODS, "application/yaml", pod("q", OBJECT_BYTES_MAX)),
        (
            "create, dry",
            Method::POST,
            &*format!("{PODS}?dryRun=All"),
            JSON,
            pod("q", OBJECT_BYTES_MAX),
        ),
        ("update", Method::PUT, &one, JSON, put),
        (
            "strategic merge patch",
            Method::PATCH,
            &one,
            "application/strategic-merge-patch+json",
            strategic.clone(),
        ),
        ("merge patch", Method::PATCH, &one, "application/merge-patch+json", merged),
        ("JSON patch", Method::PATCH, &one, "application/json-patch+json", operation),
        ("apply", Method::PATCH, &apply, "application/apply-patch+yaml", applied),
        (
            "apply that creates",
            Method::PATCH,
            &apply_new,
            "application/apply-patch+yaml",
            pod("new", OBJECT_BYTES_MAX),
        ),
        ("status", Method::PATCH, &eviction, "application/merge-patch+json", status),
    ] {
        let seen = send(&client, method, path, media, body.to_string()).await;
        let message = seen.1["message"].clone();
        attacks.attempt(what, is_too_large(&seen), (seen.0, message));
    }

    // What of it is managedFields counts, too.
    let keys: serde_json::Map<_, _> =
        (0..70_000).map(|n| (format!("k{n:06}"), json!(""))).collect();
    let map = json!({ "metadata": { "name": "m" }, "data": keys }).to_string();
    assert!(map.len() < OBJECT_BYTES_MAX * 9 / 10);
    let maps = "/api/v1/namespaces/default/configmaps";
    let seen = send(&client, Method::POST, maps, JSON, map).await;
    attacks.attempt("managedFields", is_too_large(&seen), (seen.0, seen.1["message"].clone()));

    let (code, status) =
        send(&client, Method::POST, PODS, JSON, pod("q", 3 * 1024 * 1024).to_string()).await;
    let refused = (code, status["reason"].as_str(), status["message"].as_str());
    let wanted = "Request entity too large: limit is 3145728";
    let wanted = (413, Some("RequestEntityTooLarge"), Some(wanted));
    attacks.attempt("a body over 3 MiB", refused == wanted, (code, &status["message"]));
    let stored = server.store().list("/registry/pods/", Default::default()).await.unwrap();
    let longest = stored.items.iter().map(|item| item.value.as_bytes().len()).max();
    attacks.attempt("all together", longest.is_some_and(|it| it < OBJECT_BYTES_MAX), longest);
    attacks.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_just_the_size_is_stored() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let (code, made) = send(&client, Method::POST, PODS, JSON, pod("p", 1000).to_string()).await;
    assert_eq!(code, 201);
    let key = "/registry/pods/default/p";
    let stored = server.store().get(key).await.unwrap().unwrap().value.as_bytes().len();
    let room = OBJECT_BYTES_MAX - stored;
    let (code, _) =
        send(&client, Method::POST, PODS, JSON, pod("q", 1000 + room).to_string()).await;
    assert_eq!(code, 201, "{stored}");
    let (code, status) =
        send(&client, Method::POST, PODS, JSON, pod("r", 1001 + room).to_string()).await;
    assert!(is_too_large(&(code, status)), "{}", made["metadata"]);
}

/// An earlier release took more: such objects must not stay forever.
#[tokio::test(flavor = "multi_thread")]
async fn larger_objects_from_before_are_read_shrunk_and_deleted() {
    let server = TestServer::start().await;
    let client = server.admin().await;
    let mut old = pod("p", 2 * OBJECT_BYTES_MAX);
    let made = send(&client, Method::POST, PODS, JSON, pod("small", 10).to_string()).await.1;
    old["spec"] = made["spec"].clone();
    old["spec"]["containers"][0]["args"] = json!(["x".repeat(2 * OBJECT_BYTES_MAX)]);
    old["metadata"] = json!({
        "name": "p", "namespace": "default", "uid": "u", "creationTimestamp": "2024-01-01T00:00:00Z",
        "finalizers": ["example.com/held"], "labels": { "a": "b" },
    });
    old["status"] = json!({});
    let stored = Stored::new(old.to_string().into_bytes());
    server.store().create("/registry/pods/default/p", stored).await.unwrap();
    let (code, list) = send(&client, Method::GET, PODS, JSON, String::new()).await;
    assert_eq!((code, list["items"].as_array().unwrap().len()), (200, 2));
    let one = format!("{PODS}/p");
    let merge = "application/merge-patch+json";
    let grow = json!({ "metadata": { "labels": { "c": "d".repeat(60) } } }).to_string();
    assert!(is_too_large(&send(&client, Method::PATCH, &one, merge, grow).await));
    let shrink = json!({ "metadata": { "labels": null } }).to_string();
    let (code, status) = send(&client, Method::PATCH, &one, merge, shrink).await;
    assert_eq!(code, 200, "{}", status["message"]);
    // Marked, then let go by its finalizer: the mark makes it longer.
    let (code, marked) = send(&client, Method::DELETE, &one, JSON, String::new()).await;
    assert_eq!(code, 200, "{}", marked["message"]);
    let free = json!({ "metadata": { "finalizers": null } }).to_string();
    let (code, freed) = send(&client, Method::PATCH, &one, merge, free).await;
    assert_eq!(code, 200, "{}", freed["message"]);
    assert_eq!(send(&client, Method::GET, &one, JSON, String::new()).await.0, 404);
}
