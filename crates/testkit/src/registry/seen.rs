//! What a server was sent, above all which credentials.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, Uri, header};
use parking_lot::Mutex;

/// A request as a server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// GET, HEAD…
    pub method: Method,
    /// With its query.
    pub path: String,
    /// What the `Authorization` header held, if there was one.
    pub credential: Option<SeenCredential>,
}

/// The contents of an `Authorization` header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeenCredential {
    /// `user:password`
    Basic(String),
    /// The token.
    Bearer(String),
    /// Anything else, as it is.
    Other(String),
}

impl SeenCredential {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = String::from_utf8_lossy(headers.get(header::AUTHORIZATION)?.as_bytes());
        let basic = text.strip_prefix("Basic ").and_then(|packed| STANDARD.decode(packed).ok());
        Some(match (basic, text.strip_prefix("Bearer ")) {
            (Some(pair), _) => Self::Basic(String::from_utf8_lossy(&pair).into_owned()),
            (None, Some(token)) => Self::Bearer(token.to_owned()),
            (None, None) => Self::Other(text.into_owned()),
        })
    }
}

/// Everything that a server was sent. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(super) fn add(&self, method: &Method, uri: &Uri, credential: Option<SeenCredential>) {
        let seen = Seen { method: method.clone(), path: uri.to_string(), credential };
        self.0.lock().push(seen);
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.0.lock().clone()
    }

    pub(super) fn credentials(&self) -> Vec<SeenCredential> {
        let mut all: Vec<_> = self.all().into_iter().filter_map(|seen| seen.credential).collect();
        all.sort();
        all.dedup();
        all
    }
}
