//! One HTTP/1.1 request on a connection of its own: no pool, no redirect, no proxy.
//!
//! The connection lives and ends with the future that asks; nothing is left running behind it. One
//! that may be upgraded is driven by a task of its caller's. Deadlines are the caller's.

use std::error::Error;
use std::io;
use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A TCP connection that sends what it has immediately.
///
/// # Errors
/// When the host has no address or none accepts.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A TLS connection to a server that proves to be `host`.
///
/// # Errors
/// As [`connect`], and when the host is not a name that a certificate can have, or the server does not
/// prove to be it.
pub async fn connect_tls(
    host: &str,
    port: u16,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = server_name(host)?;
    TlsConnector::from(config).connect(name, connect(host, port).await?).await
}

/// TLS on a connection that is there, to a server that proves to be `host`.
///
/// # Errors
/// As [`connect_tls`].
pub async fn start_tls(
    stream: TcpStream,
    host: &str,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(server_name(host)?, stream).await
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// For a request whose connection may become something else: what sends it, and what drives the
/// connection, which ends with the response, or hands the connection over when it is upgraded.
///
/// # Errors
/// When the connection cannot be used.
pub async fn upgradable<S, B>(
    stream: S,
) -> Result<(SendRequest<B>, impl Future<Output = Result<(), hyper::Error>> + Send), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    Ok((sender, connection.with_upgrades()))
}

/// Sends a request and hands the response to `read`, whose result is returned.
///
/// A server may close behind its response: what was read by then is the response.
///
/// # Errors
/// When no response comes, or the connection breaks before `read` is done.
pub async fn send<S, B, T>(
    stream: S,
    request: Request<B>,
    read: impl AsyncFnOnce(Response<Incoming>) -> T,
) -> Result<T, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let ask = async {
        let response = sender.send_request(request).await?;
        Ok(read(response).await)
    };
    tokio::pin!(ask, connection);
    tokio::select! {
        asked = &mut ask => asked,
        ended = &mut connection => {
            ended?;
            ask.await
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use http_body_util::{BodyExt as _, Empty};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    /// A server that reads a request's head and then writes `answer` and closes.
    async fn serve(mut stream: DuplexStream, answer: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    async fn ask(answer: &str) -> Result<Result<(StatusCode, Bytes), hyper::Error>, hyper::Error> {
        let (client, server) = duplex(1024);
        let request = Request::get("/").header("host", "h").body(Empty::<Bytes>::new()).unwrap();
        let asked = send(client, request, async |response| {
            let status = response.status();
            response.into_body().collect().await.map(|body| (status, body.to_bytes()))
        });
        tokio::join!(asked, serve(server, answer)).0
    }

    #[tokio::test]
    async fn a_body_that_the_end_of_the_connection_ends_is_read_whole() {
        let asked = ask("HTTP/1.1 200 OK\r\n\r\nbody").await.unwrap().unwrap();
        assert_eq!(asked, (StatusCode::OK, Bytes::from("body")));
        let asked = ask("HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx").await;
        assert_eq!(asked.unwrap().unwrap().0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_an_error() {
        assert!(ask("").await.is_err(), "no response");
        assert!(ask("HTTP/9 nonsense\r\n\r\n").await.is_err());
        let cut = ask("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbody").await;
        assert!(!matches!(cut, Ok(Ok(_))), "a short body");
    }
}
