//! How a server ends: in order, and with nothing left.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/kubelet.rs"]
mod kubelet;
#[path = "support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coffer_apiserver::{BuildError, Server};
use coffer_store::embedded::{Embedded, Options};
use coffer_store::{Event, ListOptions, Page, Revision, Store, StoreError, Value, Versioned};
use futures::stream::BoxStream;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::kubelet::Kubelet;

/// For what must happen at all, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRETS: &str = "/api/v1/namespaces/a/secrets";

type Stream = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

/// The text up to the end of a response's head.
async fn head(stream: &mut Stream) -> String {
    let mut text = Vec::new();
    while !text.windows(4).any(|end| end == b"\r\n\r\n") {
        text.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(text).unwrap()
}

/// A request for a new secret, all but the end of its body.
async fn half_a_post(cluster: &Cluster, name: &str) -> (Stream, &'static str) {
    const END: &str = "  ";
    let body = serde_json::json!({ "metadata": { "name": name }, "stringData": { "a": "b" } });
    let body = body.to_string();
    let mut stream = cluster.server.tls("writer", &[b"http/1.1"]).await;
    let request = format!(
        "POST {SECRETS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         expect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len() + END.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    // The server reads the body: the request is under way.
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    (stream, END)
}

/// The reader of the store was stopped first: the second write must see what the first has written.
#[tokio::test]
async fn requests_under_way_at_shutdown_read_a_cache_that_still_follows() {
    let cluster = Cluster::start().await;
    let mut posts = Vec::new();
    for name in ["first", "second", "third"] {
        posts.push(half_a_post(&cluster, name).await);
    }
    cluster.server.begin_to_stop();
    for (mut stream, end) in posts {
        stream.write_all(end.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let response = head(&mut stream).await;
        assert!(response.starts_with("HTTP/1.1 201 "), "{response}");
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_server_that_has_stopped() {
    let mut cluster = Cluster::start().await;
    let kubelet = Kubelet::start(&cluster.server, &cluster.admin, "node-a").await;
    let mut exec = cluster.server.tls("user", &[b"http/1.1"]).await;
    let request = "POST /api/v1/namespaces/a/pods/pa/exec?command=x&stdin=true HTTP/1.1\r\n\
                   host: localhost\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\
                   content-length: 0\r\n\r\n";
    exec.write_all(request.as_bytes()).await.unwrap();
    exec.flush().await.unwrap();
    assert!(head(&mut exec).await.starts_with("HTTP/1.1 101 "));
    let mut log = cluster.server.tls("user", &[b"http/1.1"]).await;
    let request =
        "GET /api/v1/namespaces/a/pods/pa/log?follow=true HTTP/1.1\r\nhost: localhost\r\n\r\n";
    log.write_all(request.as_bytes()).await.unwrap();
    log.flush().await.unwrap();
    assert!(head(&mut log).await.starts_with("HTTP/1.1 200 "));
    let mut watch = cluster.admin.watch("/api/v1/namespaces?watch=true").await;
    assert_eq!(kubelet.connections(), 2);

    assert!(!cluster.server.has_left_something().await);
    while watch.next().await.is_some() {}
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, exec.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the tunnel has outlived the server");
    let read = timeout(PATIENCE, log.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the log has outlived the server");
    // A chunked body that ends in order ends so; its client would take it for whole.
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    let wait = async {
        while kubelet.connections() > 0 {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "connections to the kubelet are left");
}

/// A store that takes no new object.
struct Full(Embedded);

#[async_trait]
impl Store for Full {
    async fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        self.0.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, StoreError> {
        self.0.list(prefix, options).await
    }

    async fn create(&self, _: &str, _: Value) -> Result<Revision, StoreError> {
        Err(StoreError::NoSpace)
    }

    async fn update(
        &self,
        key: &str,
        value: Value,
        expected: Revision,
    ) -> Result<Revision, StoreError> {
        self.0.update(key, value, expected).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        self.0.delete(key, expected).await
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Event, StoreError>>, StoreError> {
        self.0.watch(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.0.revision().await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.0.compact(before).await
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_server_that_could_not_start() {
    let dir = TempDir::new().unwrap();
    let embedded = Embedded::open(&dir.path().join("store"), Options::default()).unwrap();
    let store: Arc<dyn Store> = Arc::new(Full(embedded));
    let (config, ..) = support::config(store.clone(), support::access());
    let server = Server::build(config).await.unwrap();
    let failed = server.run(CancellationToken::new()).await;
    assert!(matches!(failed, Err(BuildError::Namespace { .. })), "{failed:?}");
    assert_eq!(Arc::strong_count(&store), 1);
}
