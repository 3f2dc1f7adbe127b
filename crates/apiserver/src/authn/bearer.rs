//! Where a request carries its token: the Authorization header, or a WebSocket subprotocol, which
//! is the only place a browser can put one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_api::status::Failure;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use zeroize::Zeroizing;

const PROTOCOL_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token of a request. Another scheme than Bearer is not a credential here, as upstream.
///
/// # Errors
/// 401 for a token that is not ASCII text.
pub(super) fn token(headers: &HeaderMap) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().map_err(|_| Failure::unauthorized())?;
        let mut parts = text.trim().split(' ');
        let scheme = parts.next().unwrap_or_default();
        let token = parts.next().unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            return Ok(Some(Zeroizing::new(token.to_owned())));
        }
    }
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let Ok(text) = value.to_str() else { continue };
        let encoded = text.split(',').find_map(|one| one.trim().strip_prefix(PROTOCOL_PREFIX));
        if let Some(encoded) = encoded {
            let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| Failure::unauthorized())?;
            let token = String::from_utf8(bytes).map_err(|_| Failure::unauthorized())?;
            return Ok(Some(Zeroizing::new(token)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn found(name: http::HeaderName, value: &'static str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        token(&headers).unwrap().map(|token| token.as_str().to_owned())
    }

    #[test]
    fn a_token_is_found_where_clients_put_it() {
        assert_eq!(found(AUTHORIZATION, "Bearer abc"), Some("abc".to_owned()));
        assert_eq!(found(AUTHORIZATION, "bearer abc"), Some("abc".to_owned()));
        assert_eq!(found(AUTHORIZATION, "Bearer"), None);
        assert_eq!(found(AUTHORIZATION, "Basic YTpi"), None);
        let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
        assert_eq!(found(SEC_WEBSOCKET_PROTOCOL, protocols), Some("abc".to_owned()));
    }
}
