//! Image references, as far as the API has to understand them: which tag is meant, because the
//! default pull policy depends on it.

use super::values::one_of;
use crate::field::{Error, Path};

/// `Always` for the tag `latest`, written or meant; `IfNotPresent` for every other tag, for a
/// digest, and for a text that is not a reference at all (as upstream's parser error has it).
pub(super) fn default_pull_policy(image: &str) -> &'static str {
    if parse_tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// What a pull policy may be.
pub(super) fn validate_pull_policy(policy: &str, path: &Path) -> Option<Error> {
    one_of(policy, &["Always", "IfNotPresent", "Never"], path)
}

/// The tag, `latest` if neither tag nor digest is given; `None` for a malformed reference and for
/// a digest alone.
fn parse_tag(image: &str) -> Option<&str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return None;
    }
    // A colon before the last slash belongs to the registry's port.
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (repository, tag) = match name[slash..].find(':') {
        Some(at) => (&name[..slash + at], Some(&name[slash + at + 1..])),
        None => (name, None),
    };
    if !is_repository(repository) || tag.is_some_and(|tag| !is_tag(tag)) {
        return None;
    }
    match (tag, digest) {
        (Some(tag), _) => Some(tag),
        (None, Some(_)) => None,
        (None, None) => Some("latest"),
    }
}

fn is_repository(text: &str) -> bool {
    let (domain, path) = match text.split_once('/') {
        Some((first, rest)) if is_domain_like(first) => (Some(first), rest),
        _ => (None, text),
    };
    domain.is_none_or(is_domain)
        && path.split('/').all(is_component)
        && text.len() <= 255
        && !(domain.is_none() && is_identifier(path))
}

/// A reference that could be an image's 64-digit identifier is not taken for a name.
fn is_identifier(path: &str) -> bool {
    path.len() == 64 && path.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_domain_like(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':'));
    (bracketed || host.split('.').all(label))
        && port
            .is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Lower case letters and digits, between them one dot, one or two underscores, or dashes.
fn is_component(text: &str) -> bool {
    let alnum = |found: char| found.is_ascii_lowercase() || found.is_ascii_digit();
    let mut separators = text.split(alnum).filter(|separator| !separator.is_empty());
    text.starts_with(alnum)
        && text.ends_with(alnum)
        && separators.all(|separator| {
            matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte))
            && hex.len() >= 32
            && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::default_pull_policy;

    #[test]
    fn only_the_latest_tag_is_pulled_always() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, policy) in [
            ("redis", "Always"),
            ("redis:latest", "Always"),
            ("localhost:5000/a/b", "Always"),
            ("registry.example.com/redis", "Always"),
            ("redis:7", "IfNotPresent"),
            ("localhost:5000/a/b:1", "IfNotPresent"),
            (&format!("redis@{digest}"), "IfNotPresent"),
            (&format!("redis:latest@{digest}"), "Always"),
            // No reference: upper case is not allowed in a repository's name.
            ("mySshImage", "IfNotPresent"),
            ("a..b", "IfNotPresent"),
            ("a__b--c", "Always"),
            ("", "IfNotPresent"),
            (" ", "IfNotPresent"),
            ("redis@sha256:12", "IfNotPresent"),
        ] {
            assert_eq!(default_pull_policy(image), policy, "{image}");
        }
    }
}
