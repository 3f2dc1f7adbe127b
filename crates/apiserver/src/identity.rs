//! The identity of a caller: the value that authentication yields and authorization takes.
//!
//! Here are the words only; how a certificate or a token becomes an [`Identity`] is `authn`'s.

use std::collections::BTreeMap;

/// An authenticated (or anonymous) caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// User name: a certificate's common name, or `system:serviceaccount:NS:NAME`.
    pub(crate) user: String,
    /// Unique id behind the name, where the authenticator knows one.
    pub(crate) uid: String,
    /// Groups, `system:authenticated` included.
    pub(crate) groups: Vec<String>,
    /// What else the authenticator knows: the pod a token is bound to, the credential's id.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// Every authenticated caller is in this group.
pub(crate) const AUTHENTICATED: &str = coffer_api::well_known::group::AUTHENTICATED;
/// Callers without a credential are in this one.
pub(crate) const UNAUTHENTICATED: &str = coffer_api::well_known::group::UNAUTHENTICATED;
/// The name of a caller without a credential.
pub(crate) const ANONYMOUS: &str = coffer_api::well_known::user::ANONYMOUS;
/// Its members may do everything; no other rule is evaluated.
pub(crate) const MASTERS: &str = coffer_api::well_known::group::MASTERS;
/// In `extra`: which credential was used, for audit; the hash of the certificate.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The group of all nodes.
const NODES: &str = coffer_api::well_known::group::NODES;
const NODE_PREFIX: &str = coffer_api::well_known::user::NODE_PREFIX;
/// What the user name of every service account begins with.
pub(crate) const ACCOUNT_PREFIX: &str = coffer_api::well_known::user::SERVICE_ACCOUNT_PREFIX;

impl Identity {
    /// A caller without a credential.
    pub(crate) fn anonymous() -> Self {
        Self {
            user: ANONYMOUS.to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }

    /// Whether the caller is in a group.
    pub(crate) fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// Namespace and name of the service account that the caller is.
    pub(crate) fn service_account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
        let valid = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        valid.then_some((namespace, name))
    }

    /// The caller as a member of [`AUTHENTICATED`].
    pub(crate) fn authenticated(mut self) -> Self {
        if !self.in_group(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// The node that the caller is; an empty name where it is a node that does not say which.
    pub(crate) fn node(&self) -> Option<&str> {
        let name = self.user.strip_prefix(NODE_PREFIX)?;
        self.in_group(NODES).then_some(name)
    }
}
