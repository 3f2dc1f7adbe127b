//! Watches in numbers, and watches that do not read.

use bytes::Bytes;
use coffer_testkit::Attacks;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

use crate::cluster::{Cluster, RBAC};

const MAPS: &str = "/api/v1/namespaces/a/configmaps";
/// Watches that one user may have.
const WATCHES_MAX: usize = 1000;
/// Streams on one connection.
const STREAMS: usize = 240;

/// Opens watches as a bearer of a token, on as many connections as it takes.
async fn open(cluster: &Cluster, token: &str, count: usize) -> Vec<http::Response<Incoming>> {
    let mut open = Vec::new();
    let mut sender = None;
    for at in 0..count {
        if at % STREAMS == 0 {
            let io = TokioIo::new(cluster.server.tls_with(None, &[b"h2"]).await);
            let (new, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender = Some(new);
        }
        let sender: &mut hyper::client::conn::http2::SendRequest<Empty<Bytes>> =
            sender.as_mut().unwrap();
        sender.ready().await.unwrap();
        let request = Request::get(format!("https://{}{MAPS}?watch=1", cluster.server.address))
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::new())
            .unwrap();
        open.push(sender.send_request(request).await.unwrap());
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_has_a_thousand_watches_and_another_has_its_own() {
    let cluster = Cluster::start().await;
    let token = cluster.token("a", "app", json!({})).await;
    let mut attacks = Attacks::group("watches without end");
    let mut held = open(&cluster, &token, WATCHES_MAX + 20).await;
    let codes = |all: &[http::Response<Incoming>]| -> Vec<u16> {
        all.iter().map(|response| response.status().as_u16()).collect()
    };
    let seen = codes(&held);
    let served = seen.iter().filter(|code| **code == 200).count();
    attacks.attempt("more than a thousand", served == WATCHES_MAX, served);
    attacks.attempt("the first ones", seen[..WATCHES_MAX].iter().all(|code| *code == 200), &seen);
    let refused = held.pop().unwrap();
    let retry = refused.headers().get("retry-after").cloned();
    attacks.attempt(
        "the last one",
        refused.status().as_u16() == 429 && retry.is_some(),
        (refused.status(), retry),
    );
    // The limit is each user's own.
    let bindings = format!("/apis/{RBAC}/v1/namespaces/a/rolebindings");
    let subject = json!({ "kind": "ServiceAccount", "name": "default", "namespace": "a" });
    let binding = json!({
        "metadata": { "name": "other" }, "subjects": [subject],
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": "view" },
    });
    cluster.admin.make(&bindings, binding).await;
    let other = cluster.token("a", "default", json!({})).await;
    let others = codes(&open(&cluster, &other, 1).await);
    attacks.attempt("another user meanwhile", others == [200], others);
    let node = cluster.node("node-a").await;
    let own = "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dnode-a";
    let code = node.request("GET", own, None).await.code;
    attacks.attempt("a node meanwhile", code == 200, code);
    attacks.finish();
    // A place is given back with its watch.
    drop(held);
    let again = async {
        while codes(&open(&cluster, &token, 1).await) != [200] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), again).await.unwrap();
}

/// A state that is longer than a frame comes whole, in order, with the mark of its end after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_initial_state_comes_whole_and_in_order_in_every_form() {
    let cluster = Cluster::start().await;
    const COUNT: usize = 300;
    for n in 0..COUNT {
        // Some are longer than a frame.
        let bytes = if n % 50 == 0 { 200_000 } else { 700 };
        let map = json!({ "metadata": { "name": format!("m{n:04}") }, "data": { "a": "x".repeat(bytes) } });
        cluster.admin.make(MAPS, map).await;
    }
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let client = cluster.server.admin().await;
    for accept in [
        "application/json",
        "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    ] {
        let request = Request::get(format!("{MAPS}?{query}"))
            .header("accept", accept)
            .body(kube::client::Body::empty())
            .unwrap();
        let mut body = client.send(request).await.unwrap().into_body();
        let (mut read, mut names) = (Vec::new(), Vec::new());
        'events: loop {
            let frame = body.frame().await.unwrap().unwrap();
            read.extend_from_slice(frame.data_ref().unwrap());
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = read.drain(..=end).collect();
                let event: serde_json::Value = serde_json::from_slice(&line).unwrap();
                if event["type"] == "BOOKMARK" {
                    break 'events;
                }
                assert_eq!(event["type"], "ADDED");
                let object = &event["object"];
                let metadata = match &object["rows"][0]["object"] {
                    serde_json::Value::Null => &object["metadata"],
                    row => &row["metadata"],
                };
                names.push(metadata["name"].as_str().unwrap().to_owned());
            }
        }
        assert!(names.is_sorted());
        assert_eq!(names.iter().filter(|name| name.starts_with('m')).count(), COUNT, "{accept}");
    }
}
