//! The documents by which others verify this cluster's tokens: OpenID discovery and the keys.

use bytes::Bytes;
use serde_json::json;

use super::Authority;

/// The document of a path: its media type and bytes.
pub(crate) fn document(authority: &Authority, path: &str) -> Option<(&'static str, Bytes)> {
    let ring = authority.keys.current();
    let (media, value) = match path {
        "/openid/v1/jwks" => ("application/jwk-set+json", ring.jwks()),
        "/.well-known/openid-configuration" => {
            let issuer = &authority.issuer;
            let keys = authority.jwks_uri.clone();
            let keys =
                keys.unwrap_or_else(|| format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')));
            let value = json!({
                "issuer": issuer,
                "jwks_uri": keys,
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ring.algorithms(),
            });
            ("application/json", value)
        }
        _ => return None,
    };
    Some((media, value.to_string().into()))
}
