//! Work that takes the processor for long: its user waits behind their own requests only.

use std::time::Duration;

use bytes::Bytes;
use coffer_testkit::Attacks;
use http::{Method, Request};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cluster::{Caller, Cluster};

type Body = BoxBody<Bytes, std::io::Error>;

/// How long a response is waited for that must not wait for others: a bound of the test, far from what
/// is measured.
const PATIENCE: Duration = Duration::from_secs(30);

async fn connect(cluster: &Cluster, user: &str) -> SendRequest<Body> {
    let io = TokioIo::new(cluster.server.tls(user, &[b"h2"]).await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(
    cluster: &Cluster,
    method: Method,
    path: &str,
    media: &str,
    body: Body,
) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("https://{}{path}", cluster.server.address))
        .header("content-type", media)
        .body(body)
        .unwrap()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that begins and does not go on.
fn unfinished(bytes: usize) -> Body {
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from(vec![b' '; bytes])))]);
    let stream = futures::StreamExt::chain(first, futures::stream::pending());
    StreamBody::new(stream).boxed()
}

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const PODS: &str = "/api/v1/namespaces/a/pods";
const SECRETS: &str = "/api/v1/namespaces/b/secrets";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// More requests of one user than there are workers, places for bodies and places in the queue.
const FLOOD: usize = 40;

fn lease() -> Value {
    json!({
        "metadata": { "name": "node-a", "namespace": "kube-node-lease" },
        "spec": { "holderIdentity": "node-a", "leaseDurationSeconds": 40 },
    })
}

/// A node with a lease.
async fn leased(cluster: &Cluster) -> Caller {
    let node = cluster.node("node-a").await;
    let made = node.request("POST", LEASES, Some(&lease())).await;
    assert_eq!(made.code, 201, "{}", made.message());
    node
}

/// What the cluster lives by, and another user's request: their codes, zeros where they had to wait.
async fn others(cluster: &Cluster, node: &Caller) -> [u16; 5] {
    let calm = async {
        let renewal = json!({ "spec": { "leaseDurationSeconds": 41 } });
        let renewed = node.request("PATCH", &format!("{LEASES}/node-a"), Some(&renewal)).await.code;
        let status = json!({ "status": { "nodeInfo": {} } });
        let path = "/api/v1/nodes/node-a/status";
        let status = node.request("PATCH", path, Some(&status)).await.code;
        let health = cluster.admin.request("GET", "/healthz", None).await.code;
        let ready = cluster.admin.request("GET", "/readyz", None).await.code;
        let list = cluster.admin.request("GET", SECRETS, None).await.code;
        [renewed, status, health, ready, list]
    };
    tokio::time::timeout(PATIENCE, calm).await.unwrap_or_default()
}

/// Sends a flood of one user, and asks what others get meanwhile: their codes, and those of the flood's
/// responses, none where they did not all come.
async fn flood(
    cluster: &Cluster,
    node: &Caller,
    requests: impl Fn() -> Request<Body>,
) -> ([u16; 5], Vec<u16>) {
    let mut sender = connect(cluster, "flood").await;
    let mut flood = JoinSet::new();
    for _ in 0..FLOOD {
        sender.ready().await.unwrap();
        let sent = sender.send_request(requests());
        flood.spawn(async move { sent.await.map(|response| response.status().as_u16()) });
    }
    let calm = others(cluster, node).await;
    let responses = tokio::time::timeout(PATIENCE * 4, flood.join_all()).await.unwrap_or_default();
    (calm, responses.into_iter().flatten().collect())
}

/// While a flood of heavy requests is on its way, nothing that the cluster lives by waits for it; and
/// each request of the flood gets a response, if only 429.
#[tokio::test(flavor = "multi_thread")]
async fn health_leases_and_other_users_are_served_while_a_flood_waits() {
    let cluster = Cluster::start().await;
    let node = leased(&cluster).await;
    let mut attacks = Attacks::group("heavy requests that others wait for");
    let items = vec![r#"{"name":"A00000"}"#; 8_000].join(",");
    let pod = format!(
        r#"{{"metadata":{{"name":"x"}},"spec":{{"containers":[{{"name":"c","image":"i","env":[{items}]}}]}}}}"#
    );
    let unknown = format!(r#"{{"spec":{{}},"x":[{}]}}"#, vec![r#"{"":0}"#; 50_000].join(","));
    let yaml = format!("spec: {{containers: [{{name: c, env: [{items}]}}]}}");
    let patch = format!(r#"{{"spec":{{"containers":[{{"name":"c","env":[{items}]}}]}}}}"#);
    let strategic = "application/strategic-merge-patch+json";
    let post = Method::POST;
    for (what, method, path, media, body) in [
        ("creates", post.clone(), format!("{PODS}?dryRun=All"), "application/json", pod),
        ("reviews", post.clone(), REVIEWS.to_owned(), "application/json", unknown.clone()),
        ("YAML", post, format!("{PODS}?dryRun=All"), "application/yaml", yaml),
        ("patches", Method::PATCH, format!("{PODS}/pa?dryRun=All"), strategic, patch),
        ("leases", Method::PUT, format!("{LEASES}/node-a"), "application/json", unknown),
    ] {
        let body = Bytes::from(body);
        let requests = || request(&cluster, method.clone(), &path, media, full(body.clone()));
        let (calm, codes) = flood(&cluster, &node, requests).await;
        attacks.attempt(&format!("{what}: others"), calm.iter().all(|code| *code == 200), calm);
        attacks.attempt(&format!("{what}: the flood"), codes.len() == FLOOD, codes);
    }
    attacks.finish();
}

/// A request of a few hundred bytes may be about the largest objects that its writer could store: a pod's
/// account with the secrets that it lists, its owner, the budgets of a pod that is evicted, a pod whose log is
/// read. None of that is done where others are served.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_served_while_small_requests_are_about_large_objects() {
    let cluster = Cluster::start().await;
    let (admin, node) = (&cluster.admin, leased(&cluster).await);
    let mut attacks = Attacks::group("small requests about large objects");
    let large =
        json!({ "metadata": { "name": "large" }, "stringData": { "key": "x".repeat(900_000) } });
    admin.make("/api/v1/namespaces/a/secrets", large).await;
    let listed = vec![json!({ "name": "large" }); 10_000];
    let account = json!({ "metadata": { "name": "big" }, "secrets": listed });
    admin.make("/api/v1/namespaces/a/serviceaccounts", account).await;
    let env: Vec<_> = (0..6_000).map(|at| json!({ "name": format!("A{at}") })).collect();
    let containers = json!([{ "name": "c", "image": "i", "env": env }]);
    let pod = json!({ "metadata": { "name": "large" }, "spec": { "containers": containers } });
    admin.make(PODS, pod).await;
    let labels = json!({ "app": "large" });
    let set = json!({ "metadata": { "name": "large" }, "spec": {
        "replicas": 0, "selector": { "matchLabels": labels },
        "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } } } });
    let set = admin.make("/apis/apps/v1/namespaces/a/replicasets", set).await;
    for number in 0..4 {
        let expressions: Vec<_> = (0..10_000)
            .map(|at| json!({ "key": format!("k{at}"), "operator": "DoesNotExist" }))
            .collect();
        let budget = json!({ "metadata": { "name": format!("b{number}") }, "spec": {
            "maxUnavailable": 1, "selector": { "matchExpressions": expressions } } });
        admin.make("/apis/policy/v1/namespaces/a/poddisruptionbudgets", budget).await;
    }
    let status = json!({ "status": { "phase": "Running" } });
    assert_eq!(admin.request("PATCH", &format!("{PODS}/pa/status"), Some(&status)).await.code, 200);

    let container = json!([{ "name": "c", "image": "i" }]);
    let of_account = json!({ "metadata": { "name": "x" }, "spec": {
        "serviceAccountName": "big", "containers": container } });
    let owner = json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "large",
        "uid": set["metadata"]["uid"], "controller": true }]);
    let owned = json!({ "metadata": { "name": "x", "ownerReferences": owner },
        "spec": { "containers": container } });
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": { "name": "pa", "namespace": "a" } });
    let dry = |path: &str| format!("{path}?dryRun=All");
    let post = Method::POST;
    for (what, method, path, body, wanted) in [
        ("pods of an account", post.clone(), dry(PODS), of_account.to_string(), 201),
        ("pods of an owner", post.clone(), dry(PODS), owned.to_string(), 201),
        ("evictions", post, dry(&format!("{PODS}/pa/eviction")), eviction.to_string(), 500),
        ("logs", Method::GET, format!("{PODS}/large/log"), String::new(), 400),
    ] {
        let body = Bytes::from(body);
        let media = "application/json";
        let requests = || request(&cluster, method.clone(), &path, media, full(body.clone()));
        let (calm, codes) = flood(&cluster, &node, requests).await;
        attacks.attempt(&format!("{what}: others"), calm.iter().all(|code| *code == 200), calm);
        let expected = codes.iter().filter(|code| [wanted, 429].contains(*code)).count();
        attacks.attempt(&format!("{what}: the flood"), expected == FLOOD, codes);
    }
    attacks.finish();
}

/// Bodies that are announced and not sent hold what their own user may have, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_hold_no_place_of_another_user() {
    let cluster = Cluster::start().await;
    let mut attacks = Attacks::group("bodies that do not come");
    let mut flood = JoinSet::new();
    for user in ["slow-1", "slow-2", "slow-3", "slow-4"] {
        let mut sender = connect(&cluster, user).await;
        for _ in 0..200 {
            sender.ready().await.unwrap();
            let body = unfinished(100 * 1024);
            let sent = sender.send_request(request(
                &cluster,
                Method::POST,
                PODS,
                "application/json",
                body,
            ));
            flood.spawn(async move { sent.await.map(|response| response.status().as_u16()).ok() });
        }
    }
    let node = cluster.node("node-a").await;
    let made = tokio::time::timeout(PATIENCE, node.request("POST", LEASES, Some(&lease()))).await;
    let code = made.map(|reply| reply.code).unwrap_or_default();
    attacks.attempt("a lease meanwhile", code == 201, code);
    let health = cluster.admin.request("GET", "/livez", None);
    let health = tokio::time::timeout(PATIENCE, health).await.map(|it| it.code).unwrap_or_default();
    attacks.attempt("health meanwhile", health == 200, health);
    // Those who have a place lose it, as they send too slowly.
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    let ends = async {
        while let Some(Ok(code)) = flood.join_next().await {
            *codes.entry(code.unwrap_or_default()).or_default() += 1;
        }
    };
    let ended = tokio::time::timeout(PATIENCE * 4, ends).await.is_ok();
    let refused = codes.keys().all(|code| matches!(code, 0 | 408 | 429 | 504));
    attacks.attempt("all are ended", ended && refused, codes);
    attacks.finish();
}

/// Each object is held against each term, on the threads that serve others.
#[tokio::test(flavor = "multi_thread")]
async fn selectors_with_too_many_terms_are_refused() {
    let cluster = Cluster::start().await;
    let mut attacks = Attacks::group("selectors without end");
    let terms = |term: &str, count: usize| vec![term; count].join(",");
    let values: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    let values = format!("a%20in%20({})", values.join(","));
    for (what, query, wanted) in [
        ("labels", format!("labelSelector={}", terms("!abc", 1001)), "at most 1000 terms"),
        (
            "fields",
            format!("fieldSelector={}", terms("metadata.name!=a", 1001)),
            "at most 1000 terms",
        ),
        ("values", format!("labelSelector={values}"), "at most 10000 values"),
    ] {
        for (verb, watch) in [("list", ""), ("watch", "&watch=true")] {
            let path = format!("/api/v1/secrets?{query}{watch}");
            let reply = cluster.admin.request("GET", &path, None).await;
            let refused = reply.code == 400 && reply.message().contains(wanted);
            attacks.attempt(&format!("{verb} by {what}"), refused, (reply.code, reply.message()));
        }
    }
    attacks.finish();
    let query = format!("labelSelector={}", terms("!abc", 1000));
    let reply = cluster.admin.request("GET", &format!("/api/v1/secrets?{query}"), None).await;
    assert_eq!(reply.code, 200, "a thousand are served");
}
