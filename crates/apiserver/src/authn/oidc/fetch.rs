//! Requests to the issuer: one GET over TLS, bounded in time and size. No redirect is followed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_wire::http1;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use rustls::ClientConfig;
use serde::de::DeserializeOwned;

use super::OidcError;
use crate::tls;

/// How long one response may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one response.
const BYTES_MAX: usize = 1 << 20;

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0:?} is not an https URL")]
    Url(String),
    #[error("{url}: {cause}")]
    Exchange { url: String, cause: String },
    #[error("oidc: issuer did not match the issuer returned by provider, {0:?}")]
    Issuer(String),
}

/// Fetches documents of an issuer.
pub(super) struct Fetcher(Arc<ClientConfig>);

impl Fetcher {
    pub(super) fn new(issuer: &str, ca_pem: Option<&[u8]>) -> Result<Self, OidcError> {
        if target(issuer).is_none_or(|uri| uri.host().is_none()) {
            return Err(OidcError::Scheme(issuer.to_owned()));
        }
        let config = tls::web_client_config(ca_pem)
            .map_err(|error| OidcError::Authorities(error.to_string()))?;
        Ok(Self(config))
    }

    /// The document at a URL.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, FetchError> {
        let uri = target(url).ok_or_else(|| FetchError::Url(url.to_owned()))?;
        let failed = |cause: String| FetchError::Exchange { url: url.to_owned(), cause };
        let received = tokio::time::timeout(TIMEOUT, self.request(&uri)).await;
        let bytes = received
            .map_err(|_| failed("no response in time".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| failed(coffer_api::redact::json(&error)))
    }

    async fn request(&self, uri: &Uri) -> Result<Bytes, Fault> {
        let authority = uri.authority().ok_or("no host")?;
        let port = authority.port_u16().unwrap_or(443);
        let stream = http1::connect_tls(authority.host(), port, self.0.clone()).await?;
        let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority.as_str())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "coffer")
            .body(Empty::<Bytes>::new())?;
        let read = async |response: Response<Incoming>| {
            let status = response.status();
            if status != StatusCode::OK {
                return Err::<_, Fault>(status.to_string().into());
            }
            Ok(Limited::new(response.into_body(), BYTES_MAX).collect().await?.to_bytes())
        };
        http1::send(stream, request, read).await?
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn target(url: &str) -> Option<Uri> {
    url.parse::<Uri>().ok().filter(|uri| uri.scheme() == Some(&Scheme::HTTPS))
}
