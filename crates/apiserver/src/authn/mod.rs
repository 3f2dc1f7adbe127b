//! Who is asking. A connection's client certificate or a request's bearer token becomes an
//! [`Identity`]; without either the caller is `system:anonymous`.

mod certificate;

use std::collections::BTreeMap;

/// An authenticated (or anonymous) caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User name: a certificate's common name, or `system:serviceaccount:NS:NAME`.
    pub user: String,
    /// Unique id behind the name, where the authenticator knows one.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// What else the authenticator knows: the pod a token is bound to, the credential's id.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Everyone who proved a name is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who proved none is in this one.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of whoever proved none.
pub const ANONYMOUS: &str = "system:anonymous";
/// Who may do everything, before any other rule is looked at.
pub const MASTERS: &str = "system:masters";

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

impl Identity {
    /// The caller who proved nothing.
    pub fn anonymous() -> Self {
        Self {
            user: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether the caller is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Namespace and name of the service account that the caller is.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
        let valid = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        valid.then_some((namespace, name))
    }
}
