//! A small HTTP or HTTPS server on a loopback address, for what stands around a registry.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// A running server; dropping it ends it.
pub(crate) struct Served {
    address: SocketAddr,
    task: AbortHandle,
}

impl Served {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes a free port and responses on it until dropped.
pub(crate) async fn serve<H, F>(
    ip: IpAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    handler: H,
) -> Result<Served>
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind((ip, 0)).await.context("no free port")?;
    let address = listener.local_addr()?;
    let acceptor = tls.map(TlsAcceptor::from);
    let accept = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (handler, acceptor) = (handler.clone(), acceptor.clone());
            tokio::spawn(connection(stream, acceptor, handler));
        }
    };
    Ok(Served { address, task: tokio::spawn(accept).abort_handle() })
}

async fn connection<H, F>(stream: TcpStream, acceptor: Option<TlsAcceptor>, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    // Clients that go away in the middle are theirs to explain.
    let _ = match acceptor {
        None => server.serve_connection(TokioIo::new(stream), service).await,
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
            Err(_) => Ok(()),
        },
    };
}
