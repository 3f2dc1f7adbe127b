//! A certificate authority that no system trusts.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;

/// A private certificate authority, its certificate in a file.
pub struct PrivateCa {
    issuer: Issuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl PrivateCa {
    /// Makes one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?;
        let file = tempfile::Builder::new().prefix("coffer-ca-").suffix(".pem").tempfile()?;
        std::fs::write(file.path(), certificate.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), file })
    }

    /// The PEM file with its certificate, for the caller that is to trust it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// How a server at this address speaks TLS.
    pub(crate) fn server(&self, ip: IpAddr) -> Result<Arc<rustls::ServerConfig>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(ip)];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| anyhow::anyhow!("the key that was just made: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        Ok(Arc::new(config))
    }
}
