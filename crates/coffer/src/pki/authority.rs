//! A certificate authority in two files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;
use zeroize::Zeroizing;

use super::PkiError;
use crate::files;

/// As kubeadm's authorities.
const VALIDITY: Duration = Duration::days(3650);
/// Clocks of clients may be slow by this much.
pub(super) const BACKDATE: Duration = Duration::minutes(5);

/// Something that signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    cert_path: PathBuf,
}

impl Authority {
    pub(super) fn load_or_make(
        directory: &Path,
        stem: &str,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        let cert_path = directory.join(format!("{stem}.crt"));
        let key_path = directory.join(format!("{stem}.key"));
        let Some(cert_pem) = read_if_there(&cert_path)? else {
            // The key is written first: a certificate in place means that its key is, too.
            let (key_pem, cert_pem) = make(name, now)?;
            write(&key_path, key_pem.as_bytes())?;
            write(&cert_path, cert_pem.as_bytes())?;
            return Self::from_pem(&cert_path, cert_pem, &key_pem);
        };
        match read_if_there(&key_path)? {
            Some(key_pem) => Self::from_pem(&cert_path, cert_pem, &Zeroizing::new(key_pem)),
            // A new authority would invalidate everything that the old one signed.
            None => Err(PkiError::Unusable {
                path: key_path,
                reason: format!("it is missing, but {} exists", cert_path.display()),
            }),
        }
    }

    fn from_pem(path: &Path, cert_pem: String, key_pem: &str) -> Result<Self, PkiError> {
        let unusable = |reason: String| PkiError::Unusable { path: path.to_owned(), reason };
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| unusable("its key file contains no private key".to_owned()))?;
        if !holds_key(&cert_pem, &key) {
            return Err(unusable("it does not match its key".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, key)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { issuer, cert_pem, cert_path: path.to_owned() })
    }

    pub(super) fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    pub(super) fn cert_path(&self) -> &Path {
        &self.cert_path
    }

    /// Signs what `params` say about the owner of `key`.
    pub(super) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<String, String> {
        params
            .signed_by(key, &self.issuer)
            .map(|certificate| certificate.pem())
            .map_err(|error| error.to_string())
    }

    /// Whether a certificate carries this authority's signature.
    pub(super) fn has_signed(&self, cert_pem: &str) -> bool {
        let check = || {
            let (_, own) = parse_x509_pem(self.cert_pem.as_bytes()).ok()?;
            let own = own.parse_x509().ok()?;
            let (_, other) = parse_x509_pem(cert_pem.as_bytes()).ok()?;
            let other = other.parse_x509().ok()?;
            other.verify_signature(Some(own.public_key())).ok()
        };
        check().is_some()
    }
}

/// Whether the certificate is about this key.
pub(super) fn holds_key(cert_pem: &str, key: &KeyPair) -> bool {
    use rcgen::PublicKeyData as _;
    let subject_key = || {
        let (_, pem) = parse_x509_pem(cert_pem.as_bytes()).ok()?;
        let certificate = pem.parse_x509().ok()?;
        Some(certificate.public_key().raw.to_vec())
    };
    subject_key().is_some_and(|raw| raw == key.subject_public_key_info())
}

fn make(name: &str, now: OffsetDateTime) -> Result<(Zeroizing<String>, String), PkiError> {
    let failed =
        |error: rcgen::Error| PkiError::Make { what: name.to_owned(), reason: error.to_string() };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = now - BACKDATE;
    params.not_after = now + VALIDITY;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((Zeroizing::new(key.serialize_pem()), certificate.pem()))
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { action: "read", path: path.to_owned(), source }),
    }
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    files::write_private(path, bytes).map_err(|source| PkiError::File {
        action: "write",
        path: path.to_owned(),
        source,
    })
}
