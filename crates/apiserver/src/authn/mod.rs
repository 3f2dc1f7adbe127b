//! Who is asking. A connection's client certificate or a request's bearer token becomes an
//! [`Identity`]; without either the caller is `system:anonymous`.

use coffer_api::status::Failure;
use x509_parser::prelude::{FromDer, X509Certificate};

/// An authenticated (or anonymous) caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User name: a certificate's common name, or `system:serviceaccount:NS:NAME`.
    pub user: String,
    /// Unique id behind the name, where the authenticator knows one.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
}

/// Everyone who proved a name is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Who may do everything, before any other rule is looked at.
pub const MASTERS: &str = "system:masters";

impl Identity {
    /// The caller who proved nothing.
    pub fn anonymous() -> Self {
        Self {
            user: "system:anonymous".to_owned(),
            uid: String::new(),
            groups: vec!["system:unauthenticated".to_owned()],
        }
    }

    /// Whether the caller is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The caller a verified client certificate names: CN is the user, every O a group.
    ///
    /// # Errors
    /// 401 where the certificate has no common name: it proves a key but names nobody.
    pub fn from_certificate(der: &[u8]) -> Result<Self, Failure> {
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
        groups.push(AUTHENTICATED.to_owned());
        Ok(Self { user, uid: String::new(), groups })
    }
}
