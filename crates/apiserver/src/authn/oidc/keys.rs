//! The keys of an issuer: fetched when they are first needed, kept, and fetched again when a token
//! names one that is not among them.
//!
//! Any client can name keys that do not exist. So requests that wait for keys wait for the same ones,
//! and the issuer is asked at most once in [`PAUSE`], whatever comes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::fetch::{FetchError, Fetcher};
use super::jwk::{Algorithm, JwkSet, Key};
use crate::tokens::TokenError;
use crate::tokens::jwt::Parts;

/// The least time between two requests to the issuer.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct IssuerKeys {
    issuer: String,
    fetcher: Fetcher,
    state: Mutex<State>,
    /// What the last response held; read without waiting for one that is under way.
    known: RwLock<Arc<Vec<Key>>>,
}

#[derive(Default)]
struct State {
    jwks_uri: Option<String>,
    /// When the issuer was last asked, and whether it responded.
    asked: Option<(Instant, bool)>,
}

/// The part of the discovery document that is needed here.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl IssuerKeys {
    pub(super) fn new(issuer: &str, fetcher: Fetcher) -> Self {
        let (issuer, known) = (issuer.to_owned(), Default::default());
        Self { issuer, fetcher, state: Mutex::default(), known }
    }

    /// Whether the issuer signed the token.
    pub(super) async fn verify(
        &self,
        parts: &Parts<'_>,
        algorithm: Algorithm,
    ) -> Result<(), TokenError> {
        let arrived = Instant::now();
        match self.verify_by_known(parts, algorithm) {
            Some(true) => Ok(()),
            Some(false) => Err(TokenError::Signature),
            None => {
                self.refresh(arrived).await?;
                let good = self.verify_by_known(parts, algorithm) == Some(true);
                if good { Ok(()) } else { Err(TokenError::Signature) }
            }
        }
    }

    /// By the keys that are known; `None` if none of them is the one that the token names.
    fn verify_by_known(&self, parts: &Parts<'_>, algorithm: Algorithm) -> Option<bool> {
        let known = self.known.read().clone();
        let id = parts.header.kid.as_deref().filter(|id| !id.is_empty());
        let named: Vec<&Key> = known.iter().filter(|key| key.is_named(id)).collect();
        if named.iter().any(|key| key.verifies(parts, algorithm)) {
            return Some(true);
        }
        // A token that names no key may be one of a key that is new.
        (id.is_some() && !named.is_empty()).then_some(false)
    }

    /// Returns once the issuer has been asked after `arrived`.
    async fn refresh(&self, arrived: Instant) -> Result<(), TokenError> {
        let mut state = self.state.lock().await;
        if let Some((at, responded)) = state.asked {
            if at >= arrived {
                return if responded { Ok(()) } else { Err(TokenError::Issuer) };
            }
            sleep_until(at + PAUSE).await;
        }
        let at = Instant::now();
        let fetched = self.fetch(&mut state).await;
        state.asked = Some((at, fetched.is_ok()));
        match fetched {
            Ok(keys) => {
                *self.known.write() = Arc::new(keys);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer, %error, "cannot fetch the OIDC issuer's signing keys");
                Err(TokenError::Issuer)
            }
        }
    }

    async fn fetch(&self, state: &mut State) -> Result<Vec<Key>, FetchError> {
        let uri = match &state.jwks_uri {
            Some(uri) => uri.clone(),
            None => {
                let base = self.issuer.trim_end_matches('/');
                let url = format!("{base}/.well-known/openid-configuration");
                let found: Discovery = self.fetcher.get(&url).await?;
                // Else the token's issuer could be another tenant of the same host.
                if found.issuer != self.issuer {
                    return Err(FetchError::Issuer(found.issuer));
                }
                found.jwks_uri
            }
        };
        let keys = self.fetcher.get::<JwkSet>(&uri).await?.into_keys();
        state.jwks_uri = Some(uri);
        Ok(keys)
    }
}
