//! A certificate with its key, for one part of the cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use zeroize::Zeroizing;

use super::authority::{BACKDATE, holds_key, read_if_there, write};
use super::{Authority, PkiError};

/// As kubeadm's certificates.
pub(crate) const VALIDITY: Duration = Duration::days(365);
/// Renewed when less than this part of its lifetime is left.
const RENEW_AT: i32 = 5;

/// A certificate and its key, as PEM, and the files they are in. `Debug` shows none.
pub(crate) struct Credential {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: Zeroizing<String>,
    pub(crate) cert_path: PathBuf,
    pub(crate) key_path: PathBuf,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// The purpose of a certificate.
pub(crate) enum Usage {
    /// To be a client.
    Client,
    /// To be a server under these names and addresses.
    Server(Vec<String>),
}

/// What a certificate should contain.
pub(crate) struct Profile {
    /// The names of its files, without `.crt` and `.key`.
    pub(super) stem: &'static str,
    /// The user, in Kubernetes' reading.
    pub(super) common_name: String,
    /// The user's group, in Kubernetes' reading.
    pub(super) organization: Option<&'static str>,
    pub(super) usage: Usage,
    /// Its lifetime.
    pub(super) validity: Duration,
}

impl Profile {
    /// The credential in the directory if it still matches, otherwise a new one.
    pub(super) fn load_or_make(
        &self,
        directory: &Path,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<Credential, PkiError> {
        let cert_path = directory.join(format!("{}.crt", self.stem));
        let key_path = directory.join(format!("{}.key", self.stem));
        let key_pem = read_if_there(&key_path)?.map(Zeroizing::new);
        if let (Some(cert_pem), Some(key_pem)) = (read_if_there(&cert_path)?, key_pem) {
            let fits = KeyPair::from_pem(&key_pem).is_ok_and(|key| holds_key(&cert_pem, &key));
            if fits && authority.has_signed(&cert_pem) && self.is_met_by(&cert_pem, now) {
                return Ok(Credential { cert_pem, key_pem, cert_path, key_path });
            }
        }
        let (cert_pem, key_pem) = self.make(authority, now)?;
        write(&key_path, key_pem.as_bytes())?;
        write(&cert_path, cert_pem.as_bytes())?;
        Ok(Credential { cert_pem, key_pem, cert_path, key_path })
    }

    fn is_met_by(&self, cert_pem: &str, now: OffsetDateTime) -> bool {
        let check = || {
            let (_, pem) = parse_x509_pem(cert_pem.as_bytes()).ok()?;
            let found = pem.parse_x509().ok()?;
            let expected: BTreeSet<String> = self.names().iter().cloned().collect();
            let met = found.validity().not_after.to_datetime() - now > self.validity / RENEW_AT
                && subject(&found) == (Some(self.common_name.as_str()), self.organization)
                && names(&found)? == expected;
            Some(met)
        };
        check().unwrap_or(false)
    }

    fn names(&self) -> &[String] {
        match &self.usage {
            Usage::Client => &[],
            Usage::Server(names) => names,
        }
    }

    fn make(
        &self,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<(String, Zeroizing<String>), PkiError> {
        let failed = |reason: String| PkiError::Make {
            what: format!("the certificate of {}", self.common_name),
            reason,
        };
        let mut params =
            CertificateParams::new(Vec::new()).map_err(|error| failed(error.to_string()))?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = self.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for name in self.names() {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => {
                    let name = name.as_str().try_into();
                    SanType::DnsName(name.map_err(|error: rcgen::Error| failed(error.to_string()))?)
                }
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match self.usage {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server(_) => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - BACKDATE;
        params.not_after = now + self.validity;
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let cert_pem = authority.sign(&params, &key).map_err(failed)?;
        Ok((cert_pem, Zeroizing::new(key.serialize_pem())))
    }
}

fn subject<'a>(certificate: &'a X509Certificate<'_>) -> (Option<&'a str>, Option<&'a str>) {
    let subject = certificate.subject();
    let common_name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let organization = subject.iter_organization().next().and_then(|name| name.as_str().ok());
    (common_name, organization)
}

fn names(certificate: &X509Certificate<'_>) -> Option<BTreeSet<String>> {
    let Some(extension) = certificate.subject_alternative_name().ok()? else {
        return Some(BTreeSet::new());
    };
    extension.value.general_names.iter().map(text).collect()
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}
