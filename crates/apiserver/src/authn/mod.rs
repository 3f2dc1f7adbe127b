//! Who is asking. A connection's client certificate or a request's bearer token becomes an
//! [`Identity`]; without either the caller is `system:anonymous`.
//!
//! A certificate is looked at once, at the handshake; a token with every request, against what the
//! cache has. Whoever shows a token that names nobody is refused, not taken for anonymous.

mod bearer;
mod bootstrap_token;
mod certificate;
mod impersonate;
mod oidc;
mod token_file;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::status::Failure;
use http::HeaderMap;

pub(crate) use certificate::CREDENTIAL_ID;
pub(crate) use impersonate::impersonate;
pub use oidc::{OidcConfig, OidcError};
pub use token_file::{TokenFile, TokenFileError};

use self::oidc::Oidc;
use crate::access::AccessConfig;
use crate::registry::Registry;
use crate::tokens::{Authority, KeyError, TOKEN_BYTES_MAX, TokenError, Verified};

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

/// Everyone who proved a name is in this group.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who proved none is in this one.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of whoever proved none.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
/// Who may do everything, before any other rule is looked at.
pub(crate) const MASTERS: &str = "system:masters";

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

impl Identity {
    /// The caller who proved nothing.
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

    fn authenticated(mut self) -> Self {
        if !self.in_group(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// Finds out who makes a request.
pub(crate) struct Authenticator {
    pub(crate) tokens: Authority,
    pub(crate) token_file: TokenFile,
    oidc: Option<Oidc>,
    /// Whether whoever proves nothing is let in as `system:anonymous`.
    pub(crate) anonymous: bool,
}

/// Why an authenticator cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthenticatorError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Oidc(#[from] OidcError),
}

impl Authenticator {
    /// As configured.
    pub(crate) fn new(access: &mut AccessConfig) -> Result<Self, AuthenticatorError> {
        let tokens = Authority::new(
            access.service_account_keys.as_ref(),
            access.service_account_issuer.clone(),
            access.api_audiences.clone(),
            access.service_account_jwks_uri.clone(),
        )?;
        let token_file = std::mem::take(&mut access.token_file);
        let oidc =
            access.oidc.take().map(|config| Oidc::new(config, &tokens.issuer)).transpose()?;
        Ok(Self { tokens, token_file, oidc, anonymous: !access.refuse_anonymous })
    }

    /// Who makes this request: the connection's certificate, a token's owner, or nobody by name.
    ///
    /// # Errors
    /// 401 for a certificate or token that names nobody.
    pub(crate) async fn authenticate(
        &self,
        registry: &Registry,
        certificate: Option<Result<Arc<Identity>, Failure>>,
        headers: &HeaderMap,
    ) -> Result<Arc<Identity>, Failure> {
        if let Some(caller) = certificate {
            return caller;
        }
        match bearer::token(headers)? {
            Some(token) => match self.owner(registry, &token, &self.tokens.audiences).await {
                Ok(verified) => Ok(Arc::new(verified.identity.authenticated())),
                Err(error) => {
                    tracing::debug!(%error, "bearer token refused");
                    Err(Failure::unauthorized())
                }
            },
            None if self.anonymous => Ok(Arc::new(Identity::anonymous())),
            None => Err(Failure::unauthorized()),
        }
    }

    /// Whose token this is. One that the cache does not confirm is looked at again once the cache
    /// has everything that was written before: its account may have been made a moment ago.
    pub(crate) async fn owner(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let seen = registry.cache.revision();
        let first = self.owner_by_cache(registry, token, audiences);
        match (&first, &self.oidc) {
            (Err(TokenError::Foreign), Some(oidc)) => {
                let now_s = jiff::Timestamp::now().as_second();
                let identity = oidc.owner(token, now_s).await?;
                // An ID token's audience is the client that it was issued to, not this server.
                return Ok(Verified { identity, audiences: self.tokens.audiences.clone() });
            }
            // A bootstrap token is no token of any other kind.
            (Err(TokenError::Gone { .. } | TokenError::Malformed), _) => {}
            _ => return first,
        }
        match registry.cache.fresh().await {
            Ok(revision) if revision > seen => self.owner_by_cache(registry, token, audiences),
            _ => first,
        }
    }

    fn owner_by_cache(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, TokenError> {
        let now = jiff::Timestamp::now();
        // These two know no audiences: what they name is good for this server.
        let named = match self.token_file.owner(token) {
            Some(identity) => Some(identity),
            None => bootstrap_token::owner(&registry.resources, token, now),
        };
        if let Some(identity) = named {
            return Ok(Verified { identity, audiences: self.tokens.audiences.clone() });
        }
        self.tokens.verify(&registry.resources, token, audiences, now)
    }
}
