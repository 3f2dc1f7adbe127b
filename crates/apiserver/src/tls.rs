//! The server's TLS: TLS 1.3 preferred, 1.2 accepted, client certificates asked for, not required.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// PEM text that cannot be used, and which of the files it was.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or PEM without what was looked for.
    #[error("{what}: {reason}")]
    Pem {
        /// Which input.
        what: &'static str,
        /// Why it cannot be used; never the content.
        reason: String,
    },
    /// The pieces do not fit together.
    #[error("TLS configuration: {0}")]
    Config(String),
}

/// A certificate chain with its key, as PEM.
#[derive(Clone)]
pub struct KeyPair {
    /// Certificates, leaf first.
    pub cert_pem: Vec<u8>,
    /// Private key, erased on drop.
    pub key_pem: zeroize::Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPair(..)")
    }
}

impl KeyPair {
    fn parse(
        &self,
        what: &'static str,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain = certificates(what, &self.cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem)
            .map_err(|_| TlsError::Pem { what, reason: "holds no private key".to_owned() })?;
        Ok((chain, key))
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    if all.is_empty() {
        return Err(TlsError::Pem { what, reason: "holds no certificate".to_owned() });
    }
    Ok(all)
}

fn roots(what: &'static str, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(what, pem)? {
        store
            .add(certificate)
            .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    }
    Ok(store)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The server side. A client that offers a certificate must have one from `client_ca_pem`.
pub(crate) fn server_config(
    serving: &KeyPair,
    client_ca_pem: &[u8],
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let (chain, key) = serving.parse("serving certificate")?;
    let verifier = WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots("client CA", client_ca_pem)?),
        provider(),
    )
    .allow_unauthenticated()
    .build()
    .map_err(|error| TlsError::Config(error.to_string()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Config(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::Config(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The client side, to kubelets: our client certificate, their serving CA.
pub(crate) fn kubelet_client_config(
    client: &KeyPair,
    kubelet_ca_pem: &[u8],
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let (chain, key) = client.parse("kubelet client certificate")?;
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Config(error.to_string()))?
        .with_root_certificates(roots("kubelet CA", kubelet_ca_pem)?)
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsError::Config(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The client side, to other servers: their CA, or the authorities that the system trusts.
pub(crate) fn web_client_config(
    ca_pem: Option<&[u8]>,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let trusted = match ca_pem {
        Some(pem) => roots("CA", pem)?,
        None => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            store
        }
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Config(error.to_string()))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
