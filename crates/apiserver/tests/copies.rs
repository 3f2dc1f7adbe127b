//! How often a secret's payload is written into memory on its way through the server, and what is left
//! of it there: a test of its own, because it counts for the whole program.
//!
//! Each copy is time, and a place where the payload lies until it is erased. What is counted is what
//! the process allocates, less what the same bytes take that are read and refused, or only sent.

#[path = "support/mod.rs"]
mod support;

use std::alloc::System;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use support::TestServer;

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What another test does meanwhile would be counted, too.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Bytes of the payload whose copies are counted: so many that nothing else matters.
const PAYLOAD_BYTES: usize = 600 << 10;

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";

struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    async fn admin(server: &TestServer) -> Self {
        Self::over(server.tls("admin", &[b"http/1.1"]).await).await
    }

    async fn over(stream: tokio_rustls::client::TlsStream<tokio::net::TcpStream>) -> Self {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// The status of the response, whose body is read as it comes and not kept.
    async fn send(&mut self, method: Method, path: &str, media: &str, body: Bytes) -> u16 {
        self.sender.ready().await.unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", media)
            .body(Full::new(body))
            .unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while body.frame().await.is_some() {}
        status
    }

    /// Bytes that the process allocates for a request, in lengths of the payload in base64.
    async fn taken(&mut self, method: Method, path: &str, media: &str, body: &Value) -> f64 {
        let wanted = if media == "text/plain" { 415 } else { 200 };
        let body = Bytes::from(if body.is_null() { String::new() } else { body.to_string() });
        let region = Region::new(MEMORY);
        let status = self.send(method.clone(), path, media, body).await;
        let bytes = region.change().bytes_allocated;
        assert!(status == wanted || status == 201, "{method} {media}: {status}");
        bytes as f64 / (PAYLOAD_BYTES * 4 / 3) as f64
    }
}

/// A payload that fits nowhere else.
fn payload(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'a' + (state % 26) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn secret(name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": name }, "data": data
    })
}

/// Copies that a write makes between its body, as it was read, and its response, before that is sent.
/// Each is one base64 text, or three quarters of one where it is decoded. What connections take differs
/// from one request to the next by about one copy, for which there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_copied_a_known_number_of_times_on_its_way_to_the_store() {
    let _alone = ALONE.lock().await;
    let server = TestServer::start_sealed().await;
    let mut client = Client::admin(&server).await;
    let data = |seed| json!({ "k": STANDARD.encode(payload(seed, PAYLOAD_BYTES)) });
    // Twice: buffers that are kept are made by the first.
    for round in 0..2 {
        let name = format!("s{round}");
        let path = format!("{SECRETS}/{name}");
        let read =
            client.taken(Method::POST, SECRETS, "text/plain", &secret(&name, &data(1))).await;
        let post = client.taken(Method::POST, SECRETS, JSON, &secret(&name, &data(1))).await;
        let get = client.taken(Method::GET, &path, JSON, &Value::Null).await;
        let put = client.taken(Method::PUT, &path, JSON, &secret(&name, &data(2))).await;
        let same = client.taken(Method::PUT, &path, JSON, &secret(&name, &data(2))).await;
        let merge = client.taken(Method::PATCH, &path, MERGE, &json!({ "data": data(3) })).await;
        let operations = json!([{ "op": "replace", "path": "/data", "value": data(4) }]);
        let json_patch = client.taken(Method::PATCH, &path, JSON_PATCH, &operations).await;
        let strategic =
            client.taken(Method::PATCH, &path, STRATEGIC, &json!({ "data": data(5) })).await;
        let intent = secret(&name, &data(6));
        let apply_path = format!("{path}?fieldManager=m&force=true");
        let apply = client.taken(Method::PATCH, &apply_path, APPLY, &intent).await;
        let yaml_path = format!("{path}?dryRun=All");
        let yaml = client.taken(Method::PUT, &yaml_path, YAML, &secret(&name, &data(7))).await;
        let copies = [
            ("create", post, 7.5),
            ("update", put, 9.5),
            ("update that changes nothing", same, 7.0),
            ("merge patch", merge, 10.0),
            ("JSON patch", json_patch, 10.5),
            ("strategic merge patch", strategic, 10.5),
            ("apply", apply, 10.5),
            ("update in YAML, dry", yaml, 9.0),
        ];
        eprintln!("read and refused {read:.2}, get {get:.2}");
        let mut beyond = Vec::new();
        for (what, taken, most) in copies {
            let copies = taken - read - get;
            eprintln!("{what:30} {copies:.2} of {most}");
            if copies > most {
                beyond.push(what);
            }
        }
        assert!(round == 0 || beyond.is_empty(), "{beyond:?}");
    }
}

/// How often a text of which only the complement is given lies in memory that this process may write.
fn found(complement: &[u8]) -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut piece = vec![0_u8; 1 << 20];
    let own = piece.as_ptr() as usize..piece.as_ptr() as usize + piece.len();
    let mut found = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw-p") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (number(start), number(end));
        while at < end {
            let length = piece.len().min(end - at);
            // What is unmapped meanwhile is not read.
            let read = memory.read_at(&mut piece[..length], at as u64).unwrap_or(0);
            let bytes = &piece[..read];
            let mut from = 0;
            while let Some(next) = bytes[from..].iter().position(|byte| *byte == !complement[0]) {
                let here = from + next;
                let rest = bytes.get(here..here + complement.len());
                let same =
                    rest.is_some_and(|rest| rest.iter().zip(complement).all(|(a, b)| *a == !b));
                found += usize::from(same && !own.contains(&(at + here)));
                from = here + 1;
            }
            at += if length == piece.len() { length - complement.len() } else { length };
        }
    }
    found
}

/// Parts of a text: a buffer that is freed, or grew, leaves some of it.
fn parts(text: &[u8]) -> Vec<Vec<u8>> {
    let part = |at: usize| text[at..at + 24].iter().map(|byte| !byte).collect();
    [80, text.len() / 2, text.len() - 60].map(part).into()
}

/// Waits until no part is there more often than `most`: a request that has completed may still be dropped.
async fn lies_in_memory_at_most(most: usize, text: Vec<u8>, what: &str) {
    let parts = parts(&text);
    drop(zeroize::Zeroizing::new(text));
    let due = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let found: Vec<usize> = parts.iter().map(|part| found(part)).collect();
        if found.iter().all(|found| *found <= most) {
            return;
        }
        let due = tokio::time::Instant::now() > due;
        assert!(!due, "{what}: parts of the payload lie in memory {found:?} times, not {most}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// The base64 of what is sent as text is made by the server alone: after the response, which shows it to no
/// client, one of it is left, which is the cache's.
#[tokio::test(flavor = "multi_thread")]
async fn one_encoding_of_a_payload_is_left_in_memory_after_a_write() {
    let _alone = ALONE.lock().await;
    let server = TestServer::start_sealed().await;
    let mut admin = Client::admin(&server).await;
    let role = json!({
        "metadata": { "name": "writer" },
        "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "update", "patch"] }]
    });
    let binding = json!({
        "metadata": { "name": "writer" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer" },
        "subjects": [{ "kind": "User", "name": "wanda", "apiGroup": "rbac.authorization.k8s.io" }]
    });
    for (plural, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{plural}");
        let status = admin.send(Method::POST, &path, JSON, object.to_string().into()).await;
        assert_eq!(status, 201);
    }
    let pair = server.certificate("wanda", &[]);
    let mut wanda = Client::over(server.tls_with(Some(&pair), &[b"http/1.1"]).await).await;
    let path = format!("{SECRETS}/w?fieldManager=m&force=true");
    let whole = |data: &Value| {
        let mut object = secret("w", &Value::Null);
        object["stringData"] = data.clone();
        object
    };
    for (seed, what, method, media) in [
        (10, "create", Method::POST, JSON),
        (11, "update", Method::PUT, JSON),
        (12, "merge patch", Method::PATCH, MERGE),
        (13, "strategic merge patch", Method::PATCH, STRATEGIC),
        (14, "JSON patch", Method::PATCH, JSON_PATCH),
        (15, "apply", Method::PATCH, APPLY),
    ] {
        let text = String::from_utf8(payload(seed, 3000)).unwrap();
        let data = json!({ "k": text });
        let body = match media {
            JSON | APPLY => whole(&data),
            JSON_PATCH => json!([{ "op": "add", "path": "/stringData", "value": data }]),
            _ => json!({ "stringData": data }),
        };
        let at = if method == Method::POST { SECRETS } else { &path };
        let at = if media == APPLY { at } else { at.split('?').next().unwrap() };
        let status = wanda.send(method, at, media, body.to_string().into()).await;
        assert!(matches!(status, 200 | 201), "{what}: {status}");
        lies_in_memory_at_most(1, STANDARD.encode(text).into_bytes(), what).await;
    }
}

/// What is sent as base64 is decoded by the server alone, and nothing of that is left after the response.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_decoded_is_left_in_memory_after_a_write() {
    let _alone = ALONE.lock().await;
    let server = TestServer::start_sealed().await;
    let mut admin = Client::admin(&server).await;
    let path = format!("{SECRETS}/d");
    for (seed, what, method, media) in [
        (20, "create", Method::POST, JSON),
        (21, "update", Method::PUT, JSON),
        (22, "merge patch", Method::PATCH, MERGE),
        (23, "update in YAML", Method::PUT, YAML),
    ] {
        let plain = payload(seed, 3000);
        let body = secret("d", &json!({ "k": STANDARD.encode(&plain) }));
        let at = if method == Method::POST { SECRETS } else { &path };
        let status = admin.send(method, at, media, body.to_string().into()).await;
        assert!(matches!(status, 200 | 201), "{what}: {status}");
        lies_in_memory_at_most(0, plain, what).await;
    }
}
