//! A bare server, to measure the client by: hyper on rustls, and nothing behind it.
//!
//! It runs in a process of its own (`coffer-bench echo-server`), so that its processor time is
//! counted apart. A GET returns the number of bytes its path names, a POST returns what was sent.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Bytes of an answer at most.
const ANSWER_MAX: usize = 16 << 20;

/// The bare server. It prints its port and its certificate, and ends with its standard input.
#[derive(Clone, Debug, Args)]
pub(crate) struct EchoServer {}

/// Serves until standard input ends: with the process that started it.
pub(crate) async fn serve(_: &EchoServer) -> Result<()> {
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = identity.cert.pem();
    let key = PrivateKeyDer::from_pem_slice(identity.signing_key.serialize_pem().as_bytes())?;
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no port on loopback")?;
    let port = listener.local_addr()?.port();
    let mut out = std::io::stdout();
    out.write_all(format!("{port}\n{certificate}").as_bytes())?;
    out.flush()?;
    tokio::select! {
        accepted = accept(listener, acceptor) => accepted,
        _ = parent_ended() => Ok(()),
    }
}

async fn parent_ended() {
    let mut nothing = [0; 64];
    while tokio::io::stdin().read(&mut nothing).await.is_ok_and(|bytes| bytes > 0) {}
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let builder = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is how every run ends.
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = if request.method() == Method::GET {
        let asked = request.uri().path().rsplit('/').next().and_then(|last| last.parse().ok());
        Some(filled(asked.unwrap_or_default()))
    } else {
        request.into_body().collect().await.ok().map(|body| body.to_bytes())
    };
    let mut response = Response::new(Full::new(body.clone().unwrap_or_default()));
    if body.is_none() {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Bytes that are made once: an answer copies none.
fn filled(bytes: usize) -> Bytes {
    static ALL: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(|| vec![b'x'; ANSWER_MAX].into());
    all.slice(..bytes.min(ANSWER_MAX))
}
