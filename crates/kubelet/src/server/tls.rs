//! Who may talk to the kubelet's server: a client with a certificate of the client CA that names
//! the API server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig as TlsConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::ServerConfig;

/// The common name of the API server's client certificate.
const API_SERVER_NAME: &str = "kube-apiserver-kubelet-client";

/// Why the server cannot be made. Names files, never their content.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file that cannot be read, or has not what it should.
    #[error("{what} {path}: {cause}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The certificate and the key do not go together, say.
    #[error("serving certificate: {0}")]
    Config(#[from] rustls::Error),
    /// The client CA file has no usable certificate.
    #[error("client CA: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The serving certificate and its key, read again when their files have been replaced.
pub(super) struct Certificate {
    config: ServerConfig,
    stamps: Stamps,
    current: Arc<TlsConfig>,
}

/// When the certificate and the key were written.
type Stamps = [Option<SystemTime>; 2];

impl Certificate {
    pub(super) fn read(config: &ServerConfig) -> Result<Self, TlsError> {
        let stamps = stamps(config);
        Ok(Self { config: config.clone(), stamps, current: tls_config(config)? })
    }

    /// For the next connection.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        let stamps = stamps(&self.config);
        if stamps != self.stamps {
            match tls_config(&self.config) {
                Ok(renewed) => {
                    (self.current, self.stamps) = (renewed, stamps);
                    tracing::info!("serving certificate renewed");
                }
                // Between the key's replacement and the certificate's they do not go together.
                Err(error) => {
                    tracing::warn!(%error, "cannot load the renewed serving certificate, keeping the current one")
                }
            }
        }
        self.current.clone().into()
    }
}

fn stamps(config: &ServerConfig) -> Stamps {
    [&config.tls_cert_file, &config.tls_private_key_file]
        .map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok())
}

/// The TLS side of the server: a client without a certificate of the CA does not get in.
fn tls_config(config: &ServerConfig) -> Result<Arc<TlsConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&config.client_ca_file, "client CA file")? {
        roots.add(certificate)?;
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let chain = certificates(&config.tls_cert_file, "TLS certificate file")?;
    let key = PrivateKeyDer::from_pem_file(&config.tls_private_key_file)
        .map_err(|error| file("TLS key file", &config.tls_private_key_file, &error.to_string()))?;
    let mut tls = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // An upgrade takes HTTP/1.1.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file(what, path, &error.to_string()))?;
    if read.is_empty() {
        return Err(file(what, path, "has no certificate"));
    }
    Ok(read)
}

fn file(what: &'static str, path: &Path, cause: &str) -> TlsError {
    TlsError::File { what, path: path.to_owned(), cause: cause.to_owned() }
}

/// Whether a verified certificate is the API server's.
pub(super) fn is_api_server(certificate: Option<&CertificateDer<'_>>) -> io::Result<()> {
    let denied = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned());
    let certificate = certificate.ok_or_else(|| denied("no client certificate"))?;
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| denied("unreadable certificate"))?;
    let names = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    if names.into_iter().eq([API_SERVER_NAME]) {
        Ok(())
    } else {
        Err(denied("the client certificate is not the API server's"))
    }
}
