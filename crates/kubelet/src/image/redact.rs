//! The runtime's words about a pull, without what must not be in an event. Pure.
//!
//! They quote URLs: of the registry, of a token server, of wherever a redirect led. Such a URL may
//! have a user and password in it, and its query may be as good as a password (a signed download,
//! a token). Taken out are users in URLs, query values but for `scope` and `service` (the token
//! protocol's harmless ones, which tell what was asked), whatever follows `Bearer` or `Basic`, and
//! the credentials of this very pull wherever they stand.

use super::credential::Credential;
use crate::redact::{Foreign, REDACTED, Redactor};

const HARMLESS_PARAMETERS: [&str; 2] = ["scope", "service"];
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// The text without credentials.
pub(super) fn redact(text: &Foreign, credentials: &[&Credential]) -> String {
    let mut redactor = Redactor::default();
    for credential in credentials {
        // Also where it is the end of what is sent, `user:password` in base64.
        redactor.add(credential.password().expose().as_bytes());
    }
    shape(&redactor.redact(text))
}

/// The text without what by its form is a credential.
fn shape(clean: &str) -> String {
    let mut out = String::with_capacity(clean.len());
    let mut after_scheme = false;
    for piece in clean.split_inclusive([' ', '\n', '\t', '"', '\'', '<', '>', ',']) {
        let end = piece.trim_end_matches([' ', '\n', '\t', '"', '\'', '<', '>', ',']).len();
        let (word, separator) = piece.split_at(end);
        // `Bearer realm="…"` is a challenge; `Bearer eyJ…` is an answer to one.
        if after_scheme && word.len() >= 8 && !word.contains('=') {
            out.push_str(REDACTED);
        } else {
            push_word(&mut out, word);
        }
        out.push_str(separator);
        let bare = word.trim_end_matches(':').to_ascii_lowercase();
        after_scheme = SCHEMES.contains(&bare.as_str());
    }
    out
}

fn push_word(out: &mut String, word: &str) {
    let Some((scheme, rest)) = word.split_once("://") else {
        out.push_str(word);
        return;
    };
    out.push_str(scheme);
    out.push_str("://");
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(authority_end);
    match authority.rsplit_once('@') {
        Some((_, host)) => {
            out.push_str(REDACTED);
            out.push('@');
            out.push_str(host);
        }
        None => out.push_str(authority),
    }
    let Some((path, query)) = rest.split_once('?') else {
        out.push_str(rest);
        return;
    };
    out.push_str(path);
    for (at, parameter) in query.split('&').enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        push_parameter(out, parameter);
    }
}

fn push_parameter(out: &mut String, parameter: &str) {
    match parameter.split_once('=') {
        Some((name, _)) if !HARMLESS_PARAMETERS.contains(&name) => {
            out.push_str(name);
            out.push('=');
            out.push_str(REDACTED);
            // What follows the URL in the sentence is glued to it: `…&sig=xyz: 403 Forbidden`.
            if parameter.ends_with(':') {
                out.push(':');
            }
        }
        Some(_) => out.push_str(parameter),
        // A query without a name is a value.
        None if parameter.is_empty() => {}
        None => out.push_str(REDACTED),
    }
}

#[cfg(test)]
mod tests {
    use super::super::credential::{Hidden, Source};
    use super::*;

    #[test]
    fn text_without_secrets_is_unchanged() {
        for text in [
            "failed to pull and unpack image \"r.io/a:1\": failed to resolve reference \
             \"r.io/a:1\": unexpected status code [manifests 1]: 401 Unauthorized",
            "failed to do request: Head \"https://r.io/v2/a/manifests/1\": dial tcp: refused",
            "unexpected status: https://auth.r.io/token?scope=repository%3Aa%3Apull&service=r: 401",
            "basic auth is needed; bearer of it: none",
        ] {
            assert_eq!(redact(&text.into(), &[]), text);
        }
    }

    #[test]
    fn users_tokens_and_signatures_are_taken_out() {
        for (text, expected) in [
            (
                "Get \"https://user:canary@r.io/v2/\": EOF",
                "Get \"https://<redacted>@r.io/v2/\": EOF",
            ),
            (
                "Get \"https://cdn.io/b?X-Sig=canary&scope=a&t=canary\": 403",
                "Get \"https://cdn.io/b?X-Sig=<redacted>&scope=a&t=<redacted>\": 403",
            ),
            ("GET https://cdn.io/b?sig=canary: 403", "GET https://cdn.io/b?sig=<redacted>: 403"),
            ("https://cdn.io/b?canary", "https://cdn.io/b?<redacted>"),
            ("Authorization: Bearer canary.canary.x", "Authorization: Bearer <redacted>"),
            ("Authorization: Basic Y2FuYXJ5Y2FuYXJ5", "Authorization: Basic <redacted>"),
        ] {
            let clean = redact(&text.into(), &[]);
            assert_eq!(clean, expected);
            assert!(!clean.contains("canary"));
        }
    }

    #[test]
    fn the_credentials_of_the_pull_are_taken_out_wherever_they_stand() {
        let hidden = |text: &str| Hidden::new(text.to_owned());
        let credential = Credential::new("r.io", hidden("u"), hidden("canary"), Source::Node);
        let clean = redact(&"refused canary, and dTpjYW5hcnk= too".into(), &[&credential]);
        assert_eq!(clean, "refused <redacted>, and <redacted> too");
    }

    proptest::proptest! {
        /// Runtimes quote what registries say, and a registry may say anything.
        #[test]
        fn no_text_makes_a_panic_and_none_brings_a_password_through(
            before in "\\PC{0,30}",
            after in "\\PC{0,30}",
            url in "(https?|[a-z]{1,3})://[a-z:@/?&=#]{0,20}",
        ) {
            let hidden = |text: &str| Hidden::new(text.to_owned());
            let credential = Credential::new("r.io", hidden("u"), hidden("canary#1"), Source::Node);
            for text in [format!("{before}canary#1{after}"), format!("{before}{url}{after}")] {
                let clean = redact(&text.into(), &[&credential]);
                proptest::prop_assert!(!clean.contains("canary#1"));
            }
        }
    }
}
