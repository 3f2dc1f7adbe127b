//! A registry that writes down what it is sent: a proxy before a real one, with the faults and the
//! temptations that a client has to stand.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::seen::{Log, Seen, SeenCredential};
use super::serve::{Served, serve};
use super::tls::PrivateCa;

/// How to start a [`Recorder`].
pub struct RecorderBuilder {
    upstream: Option<String>,
    ip: IpAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    redirect_blobs_to: Option<String>,
    demands_password: bool,
}

/// A running recorder; dropping it ends it.
pub struct Recorder {
    served: Served,
    scheme: &'static str,
    log: Log,
    is_down: Arc<AtomicBool>,
}

struct Behaviour {
    upstream: Option<String>,
    redirect_blobs_to: Option<String>,
    demands_password: bool,
    is_down: Arc<AtomicBool>,
    log: Log,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl RecorderBuilder {
    /// Listens on this loopback address; another than 127.0.0.1 makes it another host.
    #[must_use]
    pub fn at(mut self, ip: Ipv4Addr) -> Self {
        self.ip = ip.into();
        self
    }

    /// Serves HTTPS with a certificate of this authority.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn tls(mut self, authority: &PrivateCa) -> Result<Self> {
        self.tls = Some(authority.server(self.ip)?);
        Ok(self)
    }

    /// Redirects requests for blobs to this URL, as registries do that keep blobs in
    /// an object store. Each redirect is signed with [`Recorder::SIGNATURE`], which opens the blob to
    /// a caller that has it.
    #[must_use]
    pub fn redirecting_blobs_to(mut self, url: &str) -> Self {
        self.redirect_blobs_to = Some(url.to_owned());
        self
    }

    /// Asks for a name and a password whatever is asked of it, to see who gives them away.
    #[must_use]
    pub fn demanding_password(mut self) -> Self {
        self.demands_password = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(self) -> Result<Recorder> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let (log, is_down) = (Log::default(), Arc::new(AtomicBool::new(false)));
        let behaviour = Arc::new(Behaviour {
            upstream: self.upstream,
            redirect_blobs_to: self.redirect_blobs_to,
            demands_password: self.demands_password,
            is_down: is_down.clone(),
            log: log.clone(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        });
        let handler = move |request| {
            let behaviour = behaviour.clone();
            async move { behaviour.answer(request).await }
        };
        let served = serve(self.ip, self.tls, handler).await?;
        Ok(Recorder { served, scheme, log, is_down })
    }
}

impl Recorder {
    /// What redirects are signed with, in their query.
    pub const SIGNATURE: &str = "s1gn4tur3-5a2c-of-a-redirect";

    /// A recorder before a registry, by its URL.
    pub fn before(upstream: impl Into<String>) -> RecorderBuilder {
        RecorderBuilder { upstream: Some(upstream.into()), ..Self::before_nothing() }
    }

    /// A recorder with nothing behind it: a caller that is sent here finds nothing.
    pub fn before_nothing() -> RecorderBuilder {
        RecorderBuilder {
            upstream: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            tls: None,
            redirect_blobs_to: None,
            demands_password: false,
        }
    }

    /// `127.0.0.1:PORT`, as it stands in image references.
    pub fn host(&self) -> String {
        self.served.address().to_string()
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.host())
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.all()
    }

    /// All credentials that it was sent so far, each once.
    pub fn credentials(&self) -> Vec<SeenCredential> {
        self.log.credentials()
    }

    /// From now on returns 503 for everything, or serves again.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }
}

impl Behaviour {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let credential = SeenCredential::of(request.headers());
        self.log.add(request.method(), request.uri(), credential.clone());
        if self.is_down.load(Ordering::Relaxed) {
            return plain(StatusCode::SERVICE_UNAVAILABLE);
        }
        if self.demands_password && credential.is_none() {
            let mut response = plain(StatusCode::UNAUTHORIZED);
            let challenge = HeaderValue::from_static("Basic realm=\"give it to me\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
        let path = request.uri().to_string();
        if let Some(target) = &self.redirect_blobs_to
            && path.contains("/blobs/sha256:")
            // A client without access to the blob does not learn where it is.
            && credential.is_some()
            && let Ok(location) = HeaderValue::from_str(&signed(target, &path))
        {
            let mut response = plain(StatusCode::TEMPORARY_REDIRECT);
            response.headers_mut().insert(header::LOCATION, location);
            return response;
        }
        let Some(upstream) = &self.upstream else { return plain(StatusCode::NOT_FOUND) };
        self.forward(upstream, &path, request)
            .await
            .unwrap_or_else(|_| plain(StatusCode::BAD_GATEWAY))
    }

    async fn forward(
        &self,
        upstream: &str,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut forwarded =
            Request::builder().method(parts.method).uri(format!("{upstream}{path}"));
        for (name, value) in &parts.headers {
            // Host and connection are between each pair of neighbours.
            if name != header::HOST && name != header::CONNECTION {
                forwarded = forwarded.header(name, value);
            }
        }
        let response = self.client.request(forwarded.body(Full::new(body))?).await?;
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(header::CONNECTION);
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.version = http::Version::HTTP_11;
        Ok(Response::from_parts(parts, Full::new(body.collect().await?.to_bytes())))
    }
}

fn signed(target: &str, path: &str) -> String {
    format!("{target}{path}?X-Signature={}", Recorder::SIGNATURE)
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
