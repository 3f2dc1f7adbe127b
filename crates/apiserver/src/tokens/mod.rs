//! Service account tokens: keys, issuing, and what makes a token valid.
//!
//! A token is a JWT signed by one of this cluster's keys. A signature is not enough: the account,
//! and the pod, secret or node a token is bound to, must still be there and be the same ones; they
//! are looked up in the cache with every request. No token and no key is ever printed.

mod claims;
pub(crate) mod jwt;
mod keyring;
mod liveness;
pub(crate) mod request;
mod well_known;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::well_known::{group, user};
use parking_lot::RwLock;
use zeroize::Zeroizing;

pub use keyring::{KeyError, ServiceAccountKeys, generate_signing_key};

pub(crate) use claims::Legacy;
pub(crate) use liveness::{ACCOUNT_UID, TOKEN_KEY};
pub(crate) use well_known::document;

use self::claims::{Claims, Issue, LEGACY_ISSUER};
use self::keyring::Keyring;
use crate::identity::{AUTHENTICATED, Identity};
use crate::object::Resources;

/// The issuer of tokens, where nothing else is configured; upstream's usual value.
pub(crate) const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Longest token that is parsed, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why a token is not accepted. Logged at debug level only; the client gets `Unauthorized`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("not a token of this issuer")]
    OtherIssuer,
    #[error("malformed token")]
    Malformed,
    #[error("no key verifies the token")]
    Signature,
    #[error("token has expired or is not valid yet")]
    Time,
    #[error("token is for another audience")]
    Audience,
    #[error("claim {0} is missing or not what it should be")]
    Claim(String),
    #[error("cannot fetch the issuer's signing keys")]
    Issuer,
    #[error("{what} {name} no longer exists or was recreated (UID mismatch)")]
    Deleted { what: &'static str, name: String },
}

/// A token's owner, and for which of the requested audiences it is valid.
pub(crate) struct Verified {
    pub(crate) identity: Identity,
    pub(crate) audiences: Vec<String>,
}

/// Rotates the keys of a running server.
#[derive(Clone)]
pub struct TokenKeys(Arc<RwLock<Arc<Keyring>>>);

impl TokenKeys {
    /// Signs with the first key from here on, and accepts tokens of all of them.
    ///
    /// # Errors
    /// [`KeyError`]; the keys in use stay then.
    pub fn replace(&self, keys: &ServiceAccountKeys) -> Result<(), KeyError> {
        let ring = Arc::new(Keyring::new(keys)?);
        *self.0.write() = ring;
        Ok(())
    }

    fn current(&self) -> Arc<Keyring> {
        self.0.read().clone()
    }
}

impl std::fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKeys(..)")
    }
}

/// Issues and verifies tokens.
pub(crate) struct Authority {
    keys: TokenKeys,
    pub(crate) issuer: String,
    /// The audiences of tokens for this server; the first is the default of new tokens.
    pub(crate) audiences: Vec<String>,
    /// Where `openid-configuration` says the keys are; derived from the issuer where empty.
    pub(crate) jwks_uri: Option<String>,
}

impl Authority {
    pub(crate) fn new(
        keys: Option<&ServiceAccountKeys>,
        issuer: Option<String>,
        audiences: Vec<String>,
        jwks_uri: Option<String>,
    ) -> Result<Self, KeyError> {
        let ring = keys.map_or_else(|| Ok(Keyring::default()), Keyring::new)?;
        let issuer = issuer.unwrap_or_else(|| DEFAULT_ISSUER.to_owned());
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        let keys = TokenKeys(Arc::new(RwLock::new(Arc::new(ring))));
        Ok(Self { keys, issuer, audiences, jwks_uri })
    }

    /// The handle to rotate keys with.
    pub(crate) fn keys(&self) -> TokenKeys {
        self.keys.clone()
    }

    /// Whether there is a key to sign with.
    pub(crate) fn issues(&self) -> bool {
        self.keys.current().signs()
    }

    /// Signs a bound token.
    ///
    /// # Errors
    /// [`KeyError::NoKey`] where this server has none to sign with.
    pub(crate) fn issue(&self, issue: &Issue<'_>) -> Result<Zeroizing<String>, KeyError> {
        self.keys.current().sign(&Claims::of(issue, &self.issuer))
    }

    /// Signs a token without expiration, valid while its Secret holds it.
    ///
    /// # Errors
    /// [`KeyError::NoKey`] where this server has none to sign with.
    pub(crate) fn issue_legacy(&self, legacy: &Legacy) -> Result<Zeroizing<String>, KeyError> {
        self.keys.current().sign(legacy)
    }

    /// The owner of a token that is valid for one of `audiences`, by what the cache has now.
    pub(crate) fn verify(
        &self,
        resources: &Resources,
        token: &str,
        audiences: &[String],
        now: jiff::Timestamp,
    ) -> Result<Verified, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let parts = jwt::Parts::of(token)?;
        // Before the signature is verified the claims are used only to find the issuer.
        let issuer = parts.issuer()?;
        if issuer == LEGACY_ISSUER {
            self.keys.current().verify(&parts)?;
            let legacy: Legacy = parts.claims()?;
            liveness::check_legacy(resources, &legacy, token, now)?;
            let shared = shared_audiences(&self.audiences, audiences)?;
            return Ok(Verified { identity: legacy.identity(), audiences: shared });
        }
        if issuer != self.issuer {
            return Err(TokenError::OtherIssuer);
        }
        self.keys.current().verify(&parts)?;
        let claims: Claims = parts.claims()?;
        claims.check_time(now)?;
        let shared = shared_audiences(claims.audiences(), audiences)?;
        liveness::check_bound(resources, &claims, now)?;
        Ok(Verified { identity: claims.identity(), audiences: shared })
    }
}

fn shared_audiences(own: &[String], wanted: &[String]) -> Result<Vec<String>, TokenError> {
    let shared: Vec<String> = wanted.iter().filter(|one| own.contains(one)).cloned().collect();
    if shared.is_empty() { Err(TokenError::Audience) } else { Ok(shared) }
}

/// User, groups and uid of a service account.
fn account_identity(
    namespace: &str,
    name: &str,
    uid: &str,
    extra: BTreeMap<String, Vec<String>>,
) -> Identity {
    Identity {
        user: user::of_service_account(namespace, name),
        uid: uid.to_owned(),
        groups: vec![
            group::SERVICE_ACCOUNTS.to_owned(),
            group::of_service_accounts(namespace),
            AUTHENTICATED.to_owned(),
        ],
        extra,
    }
}

#[cfg(test)]
mod tests;
