//! Client certificates: CN is the user, every O a group.

use std::collections::BTreeMap;

use coffer_api::status::Failure;
use data_encoding::HEXLOWER;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{AUTHENTICATED, CREDENTIAL_ID, Identity};

impl Identity {
    /// The caller a verified client certificate names.
    ///
    /// # Errors
    /// 401 where the certificate has no common name: it proves a key but names no user.
    pub(crate) fn from_certificate(der: &[u8]) -> Result<Self, Failure> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| Failure::unauthorized())?;
        let subject = certificate.subject();
        let user = subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .filter(|name| !name.is_empty())
            .ok_or_else(Failure::unauthorized)?
            .to_owned();
        let mut groups: Vec<String> = subject
            .iter_organization()
            .filter_map(|name| name.as_str().ok())
            .map(str::to_owned)
            .collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![fingerprint(der)])]);
        Ok(Self { user, uid: String::new(), groups, extra })
    }
}

fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    ["X509SHA256=", &HEXLOWER.encode(digest.as_ref())].concat()
}
