//! Authentication. A connection's client certificate or a request's bearer token becomes an
//! [`Identity`]; without either the caller is `system:anonymous`.
//!
//! A certificate is checked once, at the handshake; a token with every request, against what the
//! cache has. A request with a token that names no user is refused, not taken for anonymous.

mod bearer;
mod bootstrap_token;
mod certificate;
mod impersonate;
mod oidc;
mod token_file;

use std::sync::Arc;

use coffer_api::status::Failure;
use http::HeaderMap;

pub(crate) use impersonate::impersonate;
pub use oidc::{OidcConfig, OidcError};
pub use token_file::{TokenFile, TokenFileError};

use self::oidc::Oidc;
use crate::identity::Identity;
use crate::registry::Registry;
use crate::tokens::{Authority, TOKEN_BYTES_MAX, TokenError, Verified};

/// Authenticates requests.
pub(crate) struct Authenticator {
    pub(crate) tokens: Arc<Authority>,
    token_file: TokenFile,
    oidc: Option<Oidc>,
    /// Whether requests without credentials are admitted as `system:anonymous`.
    anonymous: bool,
}

impl Authenticator {
    /// One that takes certificates, `tokens` of this cluster's own, those of a file and those of an
    /// OpenID Connect issuer. `anonymous`: whether a request without any is admitted.
    ///
    /// # Errors
    /// [`OidcError`] for an issuer that cannot be trusted as configured.
    pub(crate) fn new(
        tokens: Arc<Authority>,
        token_file: TokenFile,
        oidc: Option<OidcConfig>,
        anonymous: bool,
    ) -> Result<Self, OidcError> {
        let oidc = oidc.map(|config| Oidc::new(config, &tokens.issuer)).transpose()?;
        Ok(Self { tokens, token_file, oidc, anonymous })
    }

    /// The caller of this request: by the connection's certificate or by a token, or anonymous.
    ///
    /// # Errors
    /// 401 for a certificate or token that names no user.
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
            // On the heap: it is large, for it may ask a provider, and few requests bring a token.
            Some(token) => {
                match Box::pin(self.owner(registry, &token, &self.tokens.audiences)).await {
                    Ok(verified) => Ok(Arc::new(verified.identity.authenticated())),
                    Err(error) => {
                        tracing::debug!(%error, "bearer token rejected");
                        Err(Failure::unauthorized())
                    }
                }
            }
            None if self.anonymous => Ok(Arc::new(Identity::anonymous())),
            None => Err(Failure::unauthorized()),
        }
    }

    /// The owner of a token. A token that the cache does not confirm is checked again once the cache
    /// has everything that was written before: its account may just have been created.
    pub(crate) async fn owner(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Result<Verified, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let seen = registry.revision();
        let first = self.owner_by_cache(registry, token, audiences);
        match (&first, &self.oidc) {
            (Err(TokenError::OtherIssuer), Some(oidc)) => {
                let now_s = jiff::Timestamp::now().as_second();
                let identity = oidc.owner(token, now_s).await?;
                // An ID token's audience is the client that it was issued to, not this server.
                return Ok(Verified { identity, audiences: self.tokens.audiences.clone() });
            }
            // A bootstrap token is not a token of any other kind.
            (Err(TokenError::Deleted { .. } | TokenError::Malformed), _) => {}
            _ => return first,
        }
        match registry.fresh().await {
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
        // These two have no audiences: they are valid for this server.
        let named = match self.token_file.owner(token) {
            Some(identity) => Some(identity),
            None => bootstrap_token::owner(registry.resources(), token, now),
        };
        if let Some(identity) = named {
            return Ok(Verified { identity, audiences: self.tokens.audiences.clone() });
        }
        self.tokens.verify(registry.resources(), token, audiences, now)
    }
}
