//! A kubelet as far as tunnels go: it echoes what comes through an upgrade, sends a first line of a log
//! and then nothing, and never responds to `command=silent`.

#![allow(dead_code)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::cluster::Caller;
use crate::support::TestServer;

type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) struct Kubelet {
    open: Arc<AtomicUsize>,
    silent: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Kubelet {
    /// Starts one, as that of a node that exists.
    pub(crate) async fn start(server: &TestServer, admin: &Caller, node: &str) -> Self {
        let pair = server.serving_certificate();
        let chain = rustls_pki_types::CertificateDer::from_pem_slice(&pair.cert_pem).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(&pair.key_pem).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(AtomicUsize::new(0));
        let silent = Arc::new(AtomicUsize::new(0));
        let (counted, asked) = (open.clone(), silent.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, asked) = (acceptor.clone(), asked.clone());
                let open = Open::new(counted.clone());
                connections.spawn(async move {
                    let open = Arc::new(open);
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service =
                        service_fn(move |request| respond(request, open.clone(), asked.clone()));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    let _ = connection.with_upgrades().await;
                });
            }
        });
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        } });
        let path = format!("/api/v1/nodes/{node}/status");
        let reply = admin.request("PATCH", &path, Some(&status)).await;
        assert_eq!(reply.code, 200, "{}", reply.message());
        Self { open, silent, _task: AbortOnDropHandle::new(task) }
    }

    /// How many requests it has that it does not respond to.
    pub(crate) fn unanswered(&self) -> usize {
        self.silent.load(Ordering::SeqCst)
    }

    /// How many connections of the API server it has.
    pub(crate) fn connections(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn respond(
    mut request: Request<hyper::body::Incoming>,
    open: Arc<Open>,
    silent: Arc<AtomicUsize>,
) -> Result<Response<Body>, Infallible> {
    let uri = request.uri().to_string();
    if uri.contains("command=silent") {
        silent.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
    if uri.starts_with("/containerLogs/") {
        let first = futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"line\n")))]);
        let body = StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync();
        return Ok(Response::new(body));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _open = open;
        let Ok(stream) = upgraded.await else { return };
        let (mut reading, mut writing) = tokio::io::split(TokioIo::new(stream));
        let _ = tokio::io::copy(&mut reading, &mut writing).await;
    });
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
    headers.insert(http::header::UPGRADE, http::HeaderValue::from_static("SPDY/3.1"));
    Ok(response)
}
