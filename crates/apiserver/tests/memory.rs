//! What a request may take of memory, measured: a test of its own, because the allocator counts for
//! the whole program.

#[path = "support/mod.rs"]
mod support;

use bytes::Bytes;
use coffer_testkit::Attacks;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use peak_alloc::PeakAlloc;

use support::TestServer;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes of memory at the peak for each byte of a body, the client's own copies among them, beyond
/// [`FREE_BYTES`].
const PEAK_PER_BYTE: usize = 128;
/// What any request may take: connections, the writer's buffers, a body that is small.
const FREE_BYTES: usize = 8 << 20;
/// Memory that responses with a collection may take together while none of them is read, in bytes.
const UNREAD_PEAK_BYTES: usize = 24 << 20;
/// The same of responses for which items are made into another form: what the users may have in memory.
const COPIES_PEAK_BYTES: usize = 48 << 20;

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// What another test takes meanwhile would be counted, too.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Client {
    sender: SendRequest<Full<Bytes>>,
    server: TestServer,
}

impl Client {
    async fn connect() -> Self {
        let server = TestServer::start().await;
        let io = TokioIo::new(server.tls("admin", &[b"h2"]).await);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self { sender, server }
    }

    async fn send(
        &mut self,
        (method, path, media): (Method, &str, &str),
        body: &Bytes,
    ) -> (u16, usize) {
        self.sender.ready().await.unwrap();
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.server.address))
            .header("content-type", media)
            .body(Full::new(body.clone()))
            .unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        // Read as it comes and not kept.
        let (mut body, mut length) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().data_ref().map_or(0, Bytes::len);
        }
        (status, length)
    }
}

fn list(item: impl Fn(usize) -> String, count: usize) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

/// As many items as fill so many bytes.
fn filling(bytes: usize, item: impl Fn(usize) -> String) -> String {
    let count = bytes / (item(1_000_000).len() + 1);
    list(item, count)
}

fn pod(name: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"name":"c","image":"i"{spec}}}]}}}}"#
    )
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

const MIB: usize = 1 << 20;

/// Bodies that are much more in memory than in bytes.
fn hostile() -> Vec<(&'static str, Method, String, &'static str, String)> {
    let env = |n| format!(r#"{{"name":"A{n:05}"}}"#);
    let empty = |_| "{}".to_owned();
    let small = |_| r#"{"":0}"#.to_owned();
    let post = Method::POST;
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let create = |what, body| (what, post.clone(), PODS.to_owned(), JSON, body);
    let patch = |what, media, body| {
        (what, Method::PATCH, format!("{PODS}/stored?fieldManager=a&force=true"), media, body)
    };
    let patch = |what, media: &'static str, body| match media {
        APPLY => patch(what, media, body),
        _ => (what, Method::PATCH, format!("{PODS}/stored"), media, body),
    };
    let spec = |inner: String| format!(r#"{{"metadata":{{"name":"x"}},"spec":{{{inner}}}}}"#);
    let operations = |n: usize| {
        format!(r#"{{"op":"add","path":"/spec/containers/0/env/0","value":{{"name":"B{n}"}}}}"#)
    };
    vec![
        create("90,000 env", pod("a", &format!(r#","env":[{}]"#, list(env, 90_000)))),
        create("75,000 env", pod("a", &format!(r#","env":[{}]"#, list(env, 75_000)))),
        create("20,000 env", pod("a", &format!(r#","env":[{}]"#, list(env, 20_000)))),
        create("empty containers", spec(format!(r#""containers":[{}]"#, filling(2 * MIB, empty)))),
        create("empty volumes", spec(format!(r#""volumes":[{}]"#, filling(2 * MIB, empty)))),
        create(
            "empty tolerations",
            spec(format!(r#""tolerations":[{}]"#, filling(2 * MIB, empty))),
        ),
        create(
            "volumes with a name",
            spec(format!(
                r#""volumes":[{}]"#,
                filling(2 * MIB, |n| format!(r#"{{"name":"v{n}","emptyDir":{{}}}}"#))
            )),
        ),
        create("unknown fields", spec(format!(r#""x":[{}]"#, filling(2 * MIB, small)))),
        create(
            "a list for a name",
            format!(r#"{{"metadata":{{"name":[{}]}}}}"#, filling(2 * MIB, small)),
        ),
        create(
            "fields of managers",
            format!(
                r#"{{"metadata":{{"managedFields":[{{"fieldsV1":{{"f:x":[{}]}}}}]}}}}"#,
                filling(2 * MIB, small)
            ),
        ),
        create(
            "owners",
            format!(
                r#"{{"metadata":{{"name":"o","ownerReferences":[{}]}}}}"#,
                filling(2 * MIB, |n| format!(r#"{{"uid":"{n}"}}"#))
            ),
        ),
        create(
            "labels",
            format!(
                r#"{{"metadata":{{"name":"l","labels":{{{}}}}}}}"#,
                filling(2 * MIB, |n| format!(r#""{n}":"""#))
            ),
        ),
        create(
            "finalizers",
            format!(
                r#"{{"metadata":{{"name":"f","finalizers":[{}]}}}}"#,
                filling(2 * MIB, |n| format!(r#""{n}""#))
            ),
        ),
        (
            "keys of a config map",
            post.clone(),
            MAPS.to_owned(),
            JSON,
            format!(
                r#"{{"metadata":{{"name":"m"}},"data":{{{}}}}}"#,
                filling(MIB, |n| format!(r#""k{n}":"""#))
            ),
        ),
        (
            "review, unknown",
            post.clone(),
            review.to_owned(),
            JSON,
            format!(r#"{{"x":[{}]}}"#, filling(2 * MIB, small)),
        ),
        (
            "review, extra",
            post.clone(),
            review.to_owned(),
            JSON,
            format!(r#"{{"metadata":{{"ownerReferences":[{}]}}}}"#, filling(2 * MIB, empty)),
        ),
        (
            "yaml",
            post.clone(),
            PODS.to_owned(),
            YAML,
            format!("spec: {{volumes: [{}]}}", filling(2 * MIB, |_| "{a}".to_owned())),
        ),
        (
            "yaml, unknown",
            post.clone(),
            PODS.to_owned(),
            YAML,
            format!("x: [{}]", filling(2 * MIB, |_| "{a}".to_owned())),
        ),
        patch("merge patch", MERGE, format!(r#"{{"x":[{}]}}"#, filling(2 * MIB, small))),
        patch(
            "merge patch of env",
            MERGE,
            format!(
                r#"{{"spec":{{"containers":[{{"name":"c","env":[{}]}}]}}}}"#,
                list(env, 75_000)
            ),
        ),
        patch(
            "strategic merge patch of env",
            STRATEGIC,
            format!(
                r#"{{"spec":{{"containers":[{{"name":"c","env":[{}]}}]}}}}"#,
                list(env, 75_000)
            ),
        ),
        patch("json patch", JSON_PATCH, format!("[{}]", list(operations, 9_990))),
        patch(
            "json patch, value",
            JSON_PATCH,
            format!(r#"[{{"op":"add","path":"/x","value":[{}]}}]"#, filling(2 * MIB, small)),
        ),
        patch("apply", APPLY, pod("stored", &format!(r#","env":[{}]"#, list(env, 75_000)))),
        patch(
            "apply, unknown",
            APPLY,
            format!(r#"{{"apiVersion":"v1","kind":"Pod","x":[{}]}}"#, filling(2 * MIB, small)),
        ),
        (
            "delete options",
            Method::DELETE,
            format!("{PODS}/none"),
            JSON,
            format!(r#"{{"x":[{}]}}"#, filling(2 * MIB, small)),
        ),
    ]
}

/// One request after the other, each from the same rest: what it takes is its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_takes_a_bounded_multiple_of_its_length_in_memory() {
    let _alone = ALONE.lock().await;
    let mut client = Client::connect().await;
    let stored = pod(
        "stored",
        &format!(r#","env":[{}]"#, list(|n| format!(r#"{{"name":"A{n:05}"}}"#), 15_000)),
    );
    let made = client.send((Method::POST, PODS, JSON), &stored.into()).await;
    assert_eq!(made.0, 201);
    let mut attacks = Attacks::group("memory out of proportion");
    for (what, method, path, media, body) in hostile() {
        let body = Bytes::from(body);
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let (status, length) = client.send((method, &path, media), &body).await;
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        let most = FREE_BYTES + PEAK_PER_BYTE * body.len();
        eprintln!(
            "{what}: {} bytes, response {status} of {length} bytes, peak {} MiB, {} per byte",
            body.len(),
            peak >> 20,
            peak / body.len()
        );
        attacks.attempt(what, peak <= most, (status, length, body.len(), peak));
    }
    attacks.finish();
}

/// Users, and the streams that each opens on one connection.
const USERS: [&str; 3] = ["one", "two", "three"];
const STREAMS: usize = 20;

/// Streams that have their response and are not read.
struct Unread {
    responses: Vec<Response<Incoming>>,
    refused: usize,
    connections: Vec<tokio::task::JoinHandle<hyper::Result<()>>>,
}

impl Unread {
    /// Of each stream's window one byte is open.
    async fn open(server: &TestServer, accept: &str, path: &str) -> Self {
        Self::send(server, accept, path, None).await
    }

    /// The same with a merge patch.
    async fn send(server: &TestServer, accept: &str, path: &str, patch: Option<&str>) -> Self {
        let mut all = Self { responses: Vec::new(), refused: 0, connections: Vec::new() };
        let mut asked = tokio::task::JoinSet::new();
        for user in USERS {
            let io = TokioIo::new(server.tls(user, &[b"h2"]).await);
            let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(1);
            let (sender, connection) = builder.handshake::<_, Full<Bytes>>(io).await.unwrap();
            all.connections.push(tokio::spawn(connection));
            for _ in 0..STREAMS {
                let mut sender = sender.clone();
                let method = if patch.is_some() { Method::PATCH } else { Method::GET };
                let request = Request::builder()
                    .method(method)
                    .uri(format!("https://{}{path}", server.address))
                    .header("accept", accept)
                    .header("content-type", MERGE)
                    .body(Full::from(patch.unwrap_or_default().to_owned()))
                    .unwrap();
                asked.spawn(async move { sender.send_request(request).await.unwrap() });
            }
        }
        for response in asked.join_all().await {
            match response.status().as_u16() {
                200 => all.responses.push(response),
                status => {
                    assert_eq!(status, 429);
                    all.refused += 1;
                }
            }
        }
        all
    }
}

async fn with_large_maps(count: usize) -> Client {
    let mut client = Client::connect().await;
    for n in 0..count {
        let data = "x".repeat(1_000_000);
        let body = format!(r#"{{"metadata":{{"name":"m{n}"}},"data":{{"a":"{data}"}}}}"#);
        assert_eq!(client.send((Method::POST, MAPS, JSON), &body.into()).await.0, 201);
    }
    client
}

const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Sixty streams that take one byte each held the collection sixty times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_not_read_do_not_hold_the_collection() {
    let _alone = ALONE.lock().await;
    let client = with_large_maps(30).await;
    let mut attacks = Attacks::group("watches that hold a collection");
    for (what, accept, query) in [
        ("objects", JSON, "watch=1"),
        (
            "objects, streamed list",
            JSON,
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
        ),
        ("metadata", METADATA, "watch=1"),
        ("tables", TABLE, "watch=1"),
        ("tables with objects", TABLE, "watch=1&includeObject=Object"),
        ("past events", JSON, "watch=1&resourceVersion=1"),
    ] {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut unread = Unread::open(&client.server, accept, &format!("{MAPS}?{query}")).await;
        // Every stream has something to send once its first byte is here.
        let mut first = 0;
        for response in &mut unread.responses {
            first += usize::from(response.body_mut().frame().await.is_some());
        }
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        eprintln!("{what}: peak {} KiB of {first} streams", peak >> 10);
        let most =
            if query.contains("includeObject") { COPIES_PEAK_BYTES } else { UNREAD_PEAK_BYTES };
        attacks.attempt(what, first == 60 && peak <= most, peak);
        unread.connections.iter().for_each(tokio::task::JoinHandle::abort);
    }
    attacks.finish();
}

/// A list held two of its largest items in a copy of its own for as long as it was not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_are_not_read_do_not_hold_copies() {
    let _alone = ALONE.lock().await;
    let client = with_large_maps(30).await;
    let calm = client.server.client("calm", &["system:masters"]).await;
    let maps = Api::<ConfigMap>::namespaced(calm, "default");
    let mut attacks = Attacks::group("lists that hold copies");
    for (what, accept, query) in [
        ("objects", JSON, ""),
        ("pages", JSON, "?limit=5"),
        ("metadata", METADATA_LIST, ""),
        ("tables", TABLE, ""),
        ("tables with objects", TABLE, "?includeObject=Object"),
        ("YAML", YAML, ""),
    ] {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let unread = Unread::open(&client.server, accept, &format!("{MAPS}{query}")).await;
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        let counts = (unread.responses.len(), unread.refused);
        eprintln!("{what}: peak {} KiB of {counts:?} streams", peak >> 10);
        attacks.attempt(what, peak <= COPIES_PEAK_BYTES, (peak, counts));
        // However these wait, another user's list does not.
        let listed = maps.list(&ListParams::default()).await.unwrap().items.len();
        attacks.attempt(&format!("{what}, another user"), listed == 30, listed);
        unread.connections.iter().for_each(tokio::task::JoinHandle::abort);
    }
    attacks.finish();
}

/// A map whose managedFields are nested so deep that indentation is most of its text.
fn nested_map() -> String {
    let (depth, count) = (90, 50_000);
    let fields = list(|n| format!(r#""f:{n}":{{}}"#), count);
    let nested = format!("{}{{{fields}}}{}", r#"{"f:a":"#.repeat(depth), "}".repeat(depth));
    format!(
        r#"{{"metadata":{{"name":"nested","managedFields":[{{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{nested}}}]}}}}"#
    )
}

/// A response that was made for its client alone was held for as long as that did not read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_are_not_read_hold_no_copies() {
    let _alone = ALONE.lock().await;
    let mut client = with_large_maps(3).await;
    let made = client.send((Method::POST, MAPS, JSON), &nested_map().into()).await;
    assert_eq!(made.0, 201);
    let mut attacks = Attacks::group("responses that hold copies");
    for (what, accept, path, patch) in [
        ("YAML", YAML, "/m0", None),
        ("a table with its object", TABLE, "/m0?includeObject=Object", None),
        ("a patch that is tried", JSON, "/m0?dryRun=All", Some(r#"{"data":{"b":"c"}}"#)),
        ("a patch that is tried, in YAML", YAML, "/m0?dryRun=All", Some(r#"{"data":{"b":"c"}}"#)),
        ("deep YAML", YAML, "/nested", None),
        ("a list of deep YAML", YAML, "?fieldSelector=metadata.name%3Dnested", None),
        ("deep metadata", METADATA, "/nested", None),
        ("a list of deep metadata", METADATA_LIST, "", None),
        ("deep and pretty", JSON, "/nested?pretty=1", None),
        ("a list, deep and pretty", JSON, "?pretty=1", None),
    ] {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut unread =
            Unread::send(&client.server, accept, &format!("{MAPS}{path}"), patch).await;
        for response in &mut unread.responses {
            response.body_mut().frame().await.unwrap().unwrap();
        }
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        let counts = (unread.responses.len(), unread.refused);
        eprintln!("{what}: peak {} KiB of {counts:?} streams", peak >> 10);
        let is_good = counts.0 > 0 && peak <= COPIES_PEAK_BYTES;
        attacks.attempt(what, is_good, (peak, counts));
        unread.connections.iter().for_each(tokio::task::JoinHandle::abort);
    }
    attacks.finish();
}

/// Each list of a state that only the store still has reads it for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_the_past_are_few_at_a_time() {
    let _alone = ALONE.lock().await;
    let mut client = with_large_maps(5).await;
    let admin = client.server.client("calm", &["system:masters"]).await;
    let maps = Api::<ConfigMap>::namespaced(admin, "default");
    let revision =
        maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    // More than the cache remembers.
    for n in 0..80 {
        let patch = format!(r#"{{"metadata":{{"labels":{{"n":"{n}"}}}}}}"#);
        let done = client.send((Method::PATCH, &format!("{MAPS}/m0"), MERGE), &patch.into()).await;
        assert_eq!(done.0, 200);
    }
    for n in 0..5 {
        let path = format!("{MAPS}/m{n}");
        assert_eq!(client.send((Method::DELETE, &path, JSON), &Bytes::new()).await.0, 200);
    }
    let mut attacks = Attacks::group("lists of the past");
    for (what, more) in [("whole", ""), ("a page", "&limit=4")] {
        let path = format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact{more}");
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let unread = Unread::open(&client.server, JSON, &path).await;
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        let counts = (unread.responses.len(), unread.refused);
        eprintln!("{what}: peak {} KiB of {counts:?} streams", peak >> 10);
        attacks.attempt(what, counts.0 > 0 && peak <= COPIES_PEAK_BYTES, (peak, counts));
        unread.connections.iter().for_each(tokio::task::JoinHandle::abort);
    }
    attacks.finish();
}
