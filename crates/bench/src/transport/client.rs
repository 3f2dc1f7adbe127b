//! The client: requests over connections of its own, without pools, retries or middle layers.
//!
//! A [`Client`] has one request under way at a time. Over HTTP/1.1 it has a connection for itself;
//! over HTTP/2 several share one ([`connect`]). A connection that the server has closed is opened
//! again at the next request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::options::Protocol;
use crate::transport::target::Target;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("coffer-bench/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Bytes of a stream that the server may send before we have read them, as client-go allows.
const STREAM_WINDOW: u32 = 4 << 20;
/// Bytes of all streams of a connection together.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// The content types of bodies.
pub(crate) const APPLICATION_JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

/// A request that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection, or it broke.
    #[error("{url}: {reason}")]
    Connection {
        /// Where to.
        url: String,
        /// What broke.
        reason: String,
    },
    /// The server said no.
    #[error("{method} {path}: {code}: {message}")]
    Refused {
        /// What was asked.
        method: Method,
        /// Of what.
        path: String,
        /// The status.
        code: StatusCode,
        /// The message of the Status object.
        message: String,
        /// Seconds after which to ask again.
        retry_after: Option<u64>,
    },
    /// An answer that is not what the API promises.
    #[error("{path}: invalid response: {reason}")]
    Answer {
        /// Of what.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// The kind of failure, to count by.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Connection { .. } => "connection lost".to_owned(),
            Self::Refused { code, .. } => code.to_string(),
            Self::Answer { .. } => "unexpected answer".to_owned(),
        }
    }

    /// Whether the server returned this status.
    pub(crate) fn is(&self, status: StatusCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == status)
    }

    /// How long to wait before asking again, where the server asks for that.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { code: StatusCode::TOO_MANY_REQUESTS, retry_after, .. } => {
                Some(Duration::from_secs(retry_after.unwrap_or(1)))
            }
            _ => None,
        }
    }
}

/// The task that moves a connection's bytes; ends with the last client that uses it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A client with one request under way at a time.
pub(crate) struct Client {
    target: Arc<Target>,
    sender: Sender,
    driver: Arc<Driver>,
}

impl Client {
    /// A client with a connection of its own.
    pub(crate) async fn connect(
        target: &Arc<Target>,
        protocol: Protocol,
    ) -> Result<Self, CallError> {
        Self::connect_windowed(target, protocol, STREAM_WINDOW).await
    }

    /// A client that, over HTTP/2, lets the server send so many bytes of a stream before they are
    /// read.
    pub(crate) async fn connect_windowed(
        target: &Arc<Target>,
        protocol: Protocol,
        stream_window: u32,
    ) -> Result<Self, CallError> {
        let broken = |reason: &dyn std::fmt::Display| CallError::Connection {
            url: target.url.clone(),
            reason: reason.to_string(),
        };
        let stream = target.connect(protocol).await.map_err(|error| broken(&error))?;
        let stream = TokioIo::new(stream);
        let (sender, driver) = match protocol {
            Protocol::Http1 => {
                let (sender, connection) =
                    http1::handshake(stream).await.map_err(|error| broken(&error))?;
                // The request that it cut off reports how a connection ended.
                let driver = tokio::spawn(async move { drop(connection.await) });
                (Sender::Http1(sender), driver)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(stream_window)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .handshake(stream)
                    .await
                    .map_err(|error| broken(&error))?;
                let driver = tokio::spawn(async move { drop(connection.await) });
                (Sender::Http2(sender), driver)
            }
        };
        Ok(Self { target: target.clone(), sender, driver: Arc::new(Driver(driver)) })
    }

    /// Another client on the same connection, where the protocol allows that.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let sender = Sender::Http2(sender.clone());
        Some(Self { target: self.target.clone(), sender, driver: self.driver.clone() })
    }

    fn protocol(&self) -> Protocol {
        match self.sender {
            Sender::Http1(_) => Protocol::Http1,
            Sender::Http2(_) => Protocol::Http2,
        }
    }

    /// Sends a request; returns when the head of the answer is there, whatever its status.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Response<Incoming>, CallError> {
        if self.is_closed() {
            *self = Self::connect(&self.target, self.protocol()).await?;
        }
        let request = self.request(method, path, body)?;
        let sent = match &mut self.sender {
            Sender::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        sent.map_err(|error| self.broken(&error))
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    fn broken(&self, error: &hyper::Error) -> CallError {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        CallError::Connection { url: self.target.url.clone(), reason }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let Target { authority, prefix, .. } = &*self.target;
        // HTTP/2 has the authority in the URI, HTTP/1.1 in a header.
        let (uri, host) = match self.protocol() {
            Protocol::Http1 => (format!("{prefix}{path}"), Some(authority.as_str())),
            Protocol::Http2 => (format!("https://{authority}{prefix}{path}"), None),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, JSON);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        if let Some(authorization) = &self.target.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let bytes = match body {
            Some((media, bytes)) => {
                request = request.header(CONTENT_TYPE, HeaderValue::from_static(media));
                bytes
            }
            None => Bytes::new(),
        };
        let unusable = |error: http::Error| CallError::Connection {
            url: self.target.url.clone(),
            reason: format!("{path} is not a path: {error}"),
        };
        request.body(Full::new(bytes)).map_err(unusable)
    }

    /// Sends a request that must succeed; returns the body.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Bytes, CallError> {
        let answer = self.send(method.clone(), path, body).await?;
        let answer = succeeded(answer, method, path).await?;
        let body = answer.into_body().collect().await.map_err(|error| self.broken(&error))?;
        Ok(body.to_bytes())
    }

    /// The body of a GET, as a value.
    pub(crate) async fn get<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &str,
    ) -> Result<T, CallError> {
        let bytes = self.call(Method::GET, path, None).await?;
        parse(path, &bytes)
    }

    /// Sends a request and throws the body away as it comes; returns its length.
    pub(crate) async fn drain(&mut self, path: &str) -> Result<u64, CallError> {
        let answer = self.send(Method::GET, path, None).await?;
        let mut body = succeeded(answer, Method::GET, path).await?.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }

    /// Sends a GET whose body does not end by itself.
    pub(crate) async fn open(&mut self, path: &str) -> Result<Incoming, CallError> {
        let answer = self.send(Method::GET, path, None).await?;
        Ok(succeeded(answer, Method::GET, path).await?.into_body())
    }
}

/// Reads a value from an answer.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(
    path: &str,
    bytes: &[u8],
) -> Result<T, CallError> {
    // The message of a parser may quote what it read.
    serde_json::from_slice(bytes).map_err(|error| CallError::Answer {
        path: path.to_owned(),
        reason: format!("not the expected JSON at line {} column {}", error.line(), error.column()),
    })
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

async fn succeeded(
    answer: Response<Incoming>,
    method: Method,
    path: &str,
) -> Result<Response<Incoming>, CallError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let code = answer.status();
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|seconds| seconds.parse().ok());
    let body = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status = serde_json::from_slice::<Status>(&body);
    let message = status.map(|status| status.message).unwrap_or_default();
    Err(CallError::Refused { method, path: path.to_owned(), code, message, retry_after })
}

/// That many clients: each on a connection of its own, or `streams` to a connection.
pub(crate) async fn connect(
    target: &Arc<Target>,
    protocol: Protocol,
    clients: usize,
    streams: usize,
) -> Result<Vec<Client>, CallError> {
    let mut all: Vec<Client> = Vec::with_capacity(clients);
    while all.len() < clients {
        let shared =
            (!all.len().is_multiple_of(streams)).then(|| all.last().and_then(Client::share));
        all.push(match shared.flatten() {
            Some(client) => client,
            None => Client::connect(target, protocol).await?,
        });
    }
    Ok(all)
}
