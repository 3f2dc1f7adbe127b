//! Manifests from a URL, asked for every now and then.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_wire::http1;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Intake;
use crate::backoff::{PERIOD_JITTER, jitter};

/// Upstream's `httpCheckFrequency`.
const CHECK_PERIOD: Duration = Duration::from_secs(20);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The machine's certificate authorities.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why a manifest URL cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ManifestUrlError {
    /// It is not an `http://` or `https://` URL with a host.
    #[error("manifest URL is not an http or https URL")]
    NotHttp,
    /// TLS cannot be set up.
    #[error("manifest URL: {0}")]
    Tls(#[from] rustls::Error),
}

/// Where to ask.
pub(super) struct Source {
    url: Uri,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Source {
    pub(super) fn open(url: &str) -> Result<Self, ManifestUrlError> {
        let url: Uri = url.parse().map_err(|_| ManifestUrlError::NotHttp)?;
        let host = url.host().ok_or(ManifestUrlError::NotHttp)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match url.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(tls()?), 443),
            _ => return Err(ManifestUrlError::NotHttp),
        };
        let port = url.port_u16().unwrap_or(port);
        Ok(Self { url, host, port, tls })
    }

    /// The URL without its query, which may hold a token.
    fn place(&self) -> String {
        format!("{}:{}{}", self.host, self.port, self.url.path())
    }

    async fn fetch(&self) -> Result<Bytes, String> {
        let failed = |error: std::io::Error| error.to_string();
        match &self.tls {
            None => {
                let stream = http1::connect(&self.host, self.port).await.map_err(failed)?;
                self.fetch_from(stream).await
            }
            Some(tls) => {
                let stream = http1::connect_tls(&self.host, self.port, tls.clone()).await;
                self.fetch_from(stream.map_err(failed)?).await
            }
        }
    }

    async fn fetch_from<S>(&self, stream: S) -> Result<Bytes, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let host = self.url.authority().map(|host| host.as_str()).unwrap_or_default();
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let read = async |answer: Response<Incoming>| {
            if !answer.status().is_success() {
                return Err(format!("the server returned {}", answer.status()));
            }
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            Ok(body.map_err(|error| error.to_string())?.to_bytes())
        };
        http1::send(stream, request, read).await.map_err(|error| error.to_string())?
    }
}

fn tls() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if let Ok(certificates) = CertificateDer::pem_file_iter(SYSTEM_ROOTS) {
        roots.add_parsable_certificates(certificates.flatten());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Lists what is at the URL until dropped. While it cannot be read, what ran from there goes on.
pub(super) async fn run(source: Source, intake: Intake) {
    let mut known = None;
    loop {
        match tokio::time::timeout(FETCH_TIMEOUT, source.fetch()).await {
            Ok(Ok(manifest)) if known.as_ref() != Some(&manifest) => {
                intake.list(intake.pods(&manifest, &source.place())).await;
                known = Some(manifest);
            }
            Ok(Ok(_)) => {}
            Ok(Err(cause)) => {
                tracing::warn!(url = source.place(), cause, "manifests not fetched");
            }
            Err(_) => {
                tracing::warn!(url = source.place(), "manifests not fetched: no response in time")
            }
        }
        tokio::time::sleep(jitter(CHECK_PERIOD, PERIOD_JITTER)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        assert!(Source::open("http://127.0.0.1:8080/pod.yaml?token=x").is_ok());
        assert!(Source::open("https://[::1]/pod.yaml").is_ok());
        for wrong in ["", "/pod.yaml", "ftp://x/y", "http://"] {
            assert!(Source::open(wrong).is_err(), "{wrong:?}");
        }
        let source = Source::open("http://h/p?token=x").expect("a URL");
        assert_eq!(source.place(), "h:80/p", "a query may hold a secret");
    }
}
