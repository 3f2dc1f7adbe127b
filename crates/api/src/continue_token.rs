//! Continue tokens: where the next page of a list begins, and of which state. They have upstream's
//! shape, so that no one is tempted to read more into them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::status::Failure;

/// Ends the last key of a page, so that the next begins strictly after it.
const AFTER: char = '\0';
const VERSION: &str = "meta.k8s.io/v1";
const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// A place in a collection. `rv` below zero means the newest state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Token {
    /// Reads what a client brings back.
    ///
    /// # Errors
    /// 400 that says what is wrong with it.
    pub fn decode(text: &str) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::bad_request(format!("invalid continue token: {why}"));
        let generic = "continue key is not valid";
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad(generic))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| bad(generic))?;
        if token.v != VERSION {
            return Err(bad(&format!(
                "{generic}: server does not recognize this encoded version {}",
                token.v
            )));
        }
        if token.rv == 0 {
            return Err(bad(&format!(
                "{generic}: incorrect encoded start resourceVersion (version {VERSION})"
            )));
        }
        if token.start.is_empty() {
            return Err(bad(&format!("{generic}: encoded start key empty (version {VERSION})")));
        }
        // What climbs out of its collection was not made here.
        let clean = token.start.trim_start_matches('/').split('/');
        if clean.into_iter().any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(bad(&format!("{generic}: {}", token.start)));
        }
        Ok(token)
    }

    /// The token for what follows a key.
    pub fn after_key(prefix: &str, key: &str, revision: u64) -> String {
        let start = format!("{}{AFTER}", key.strip_prefix(prefix).unwrap_or(key));
        let rv = i64::try_from(revision).unwrap_or(-1);
        Self { v: VERSION.to_owned(), rv, start }.encode()
    }

    fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("strings and numbers encode");
        URL_SAFE_NO_PAD.encode(json)
    }

    /// The state to read, `None` for the newest.
    pub fn revision(&self) -> Option<u64> {
        u64::try_from(self.rv).ok()
    }

    /// The key after which the page begins.
    pub fn after(&self, prefix: &str) -> String {
        let start = self.start.trim_start_matches('/');
        format!("{prefix}{}", start.strip_suffix(AFTER).unwrap_or(start))
    }

    /// 410 for a state that is no longer kept, with a token that goes on in the newest one.
    pub fn expired(&self) -> Failure {
        let again = Self { v: VERSION.to_owned(), rv: -1, start: self.start.clone() };
        let mut failure = Failure::expired(EXPIRED);
        failure.continue_ = Some(again.encode());
        failure
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_comes_back_as_the_place_it_was_made_for() {
        let text = Token::after_key("/registry/secrets/", "/registry/secrets/n/a", 7);
        let token = Token::decode(&text).unwrap();
        assert_eq!(token.revision(), Some(7));
        assert_eq!(token.after("/registry/secrets/"), "/registry/secrets/n/a");
        let again = Token::decode(&token.expired().continue_.unwrap()).unwrap();
        assert_eq!(again.revision(), None);
        assert_eq!(again.after("/registry/secrets/"), "/registry/secrets/n/a");
    }

    #[test]
    fn a_foreign_token_gets_upstreams_error() {
        for (json, why) in [
            ("{}", "continue key is not valid"),
            (
                r#"{"v":"meta.k8s.io/v2","rv":1,"start":"a"}"#,
                "continue key is not valid: server does not recognize this encoded version meta.k8s.io/v2",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#,
                "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#,
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../pods/a"}"#,
                "continue key is not valid: ../pods/a",
            ),
        ] {
            let failure = Token::decode(&URL_SAFE_NO_PAD.encode(json)).err().unwrap();
            assert_eq!(failure.message, format!("invalid continue token: {why}"));
            assert_eq!(failure.code, 400);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_decoder_panic(text in ".*") {
            let _ = Token::decode(&text);
        }

        /// A caller that makes one up stays in the collection, and learns nothing but where.
        #[test]
        fn what_is_made_up_stays_in_its_collection(
            version in "(meta.k8s.io/v1)?", rv in any::<i64>(), start in "[a-z./\u{0}]{0,12}",
        ) {
            let json = serde_json::json!({ "v": version, "rv": rv, "start": start });
            if let Ok(token) = Token::decode(&URL_SAFE_NO_PAD.encode(json.to_string())) {
                let after = token.after("/registry/secrets/n/");
                prop_assert!(after.starts_with("/registry/secrets/n/"));
                prop_assert!(!after.split('/').any(|step| step == ".."));
                prop_assert_eq!(token.revision().is_some(), rv > 0);
            }
        }
    }
}
