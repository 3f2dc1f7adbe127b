//! The two forms of a docker client's credentials file. Pure.
//!
//! `.dockercfg` is a map from registry to entry; `.dockerconfigjson` (and a docker client's
//! `config.json`) has the same map below `auths`. An entry has `username` and `password`, or both
//! as base64 of `username:password` in `auth`, which wins. As upstream does, one malformed entry
//! makes the whole file unusable, and identity tokens are not read. Errors never quote the file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::credential::Hidden;

/// Not a credentials file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is not JSON of the expected form")]
    Json,
    #[error("unable to parse auth field, must be formatted as base64(username:password)")]
    Auth,
}

/// A registry, as the file spells it, with the user name and the password for it.
pub(super) type Entry = (String, Hidden, Hidden);

#[derive(Deserialize)]
struct DockerConfigJson {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<RawEntry>>>,
}

#[derive(Default, Deserialize)]
struct RawEntry {
    #[serde(default)]
    username: Hidden,
    #[serde(default)]
    password: Hidden,
    #[serde(default)]
    auth: Hidden,
}

/// The entries of a `.dockerconfigjson`. `None` where it has no `auths`.
pub(super) fn parse_config_json(bytes: &[u8]) -> Result<Option<Vec<Entry>>, Malformed> {
    let file: Option<DockerConfigJson> =
        serde_json::from_slice(bytes).map_err(|_| Malformed::Json)?;
    file.and_then(|file| file.auths).map(entries).transpose()
}

/// The entries of a `.dockercfg`.
pub(super) fn parse_cfg(bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let file: Option<BTreeMap<String, Option<RawEntry>>> =
        serde_json::from_slice(bytes).map_err(|_| Malformed::Json)?;
    entries(file.unwrap_or_default())
}

fn entries(raw: BTreeMap<String, Option<RawEntry>>) -> Result<Vec<Entry>, Malformed> {
    let entry = |(registry, raw): (String, Option<RawEntry>)| {
        let RawEntry { username, password, auth } = raw.unwrap_or_default();
        if auth.is_empty() {
            return Ok((registry, username, password));
        }
        let (username, password) = decode_auth(auth.expose()).ok_or(Malformed::Auth)?;
        Ok((registry, username, password))
    };
    raw.into_iter().map(entry).collect()
}

/// base64, with or without padding, of `username:password`. The password may have colons.
fn decode_auth(auth: &str) -> Option<(Hidden, Hidden)> {
    let padded = auth.trim_end().ends_with('=');
    let engine: &GeneralPurpose = if padded { &STANDARD } else { &STANDARD_NO_PAD };
    // Go's decoder passes over line breaks.
    let packed = Zeroizing::new(auth.chars().filter(|c| !"\r\n".contains(*c)).collect::<String>());
    let bytes = Zeroizing::new(engine.decode(packed.as_bytes()).ok()?);
    let (username, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((Hidden::new(username.to_owned()), Hidden::new(password.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entries: &[Entry]) -> Vec<(&str, &str, &str)> {
        entries
            .iter()
            .map(|(registry, username, password)| {
                (registry.as_str(), username.expose(), password.expose())
            })
            .collect()
    }

    #[test]
    fn what_kubectl_create_secret_docker_registry_writes_is_read() {
        let file = br#"{"auths":{"https://r.io":{"username":"u","password":"p:w",
            "email":"e@x","auth":"dTpwOnc="}}}"#;
        let entries = parse_config_json(file).expect("well-formed").expect("has auths");
        assert_eq!(shown(&entries), [("https://r.io", "u", "p:w")]);
    }

    #[test]
    fn both_forms_take_auth_padded_or_not_and_plain_names() {
        let file = br#"{"a":{"auth":"dTpw"},"b":{"auth":"dXNlcjpw"},"c":{"username":"u",
            "password":"p"},"d":{"auth":"dTpw","username":"loses"},"e":{},"f":null}"#;
        let entries = parse_cfg(file).expect("well-formed");
        let expected = [
            ("a", "u", "p"),
            ("b", "user", "p"),
            ("c", "u", "p"),
            ("d", "u", "p"),
            ("e", "", ""),
            ("f", "", ""),
        ];
        assert_eq!(shown(&entries), expected);
        let unpadded = parse_cfg(br#"{"a":{"auth":"dXNlcjpwYXNzd29yZA"}}"#).expect("unpadded");
        assert_eq!(shown(&unpadded), [("a", "user", "password")]);
    }

    #[test]
    fn a_malformed_file_is_refused_without_being_quoted() {
        let no_colon = br#"{"a":{"auth":"Y2FuYXJ5"}}"#;
        assert_eq!(parse_cfg(no_colon).err(), Some(Malformed::Auth));
        assert_eq!(parse_cfg(br#"{"a":{"auth":"canary!"}}"#).err(), Some(Malformed::Auth));
        assert_eq!(parse_cfg(br#"{"a":"canary"}"#).err(), Some(Malformed::Json));
        assert_eq!(parse_config_json(b"canary").err(), Some(Malformed::Json));
        assert!(!Malformed::Auth.to_string().contains("canary"));
    }

    #[test]
    fn a_file_without_auths_differs_from_one_with_no_entries() {
        assert!(matches!(parse_config_json(b"{}"), Ok(None)));
        assert!(matches!(parse_config_json(b"null"), Ok(None)));
        assert!(parse_config_json(br#"{"auths":{}}"#).is_ok_and(|found| found.is_some()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
            auth in "\\PC{0,20}",
        ) {
            let _ = (parse_cfg(&bytes), parse_config_json(&bytes));
            let _ = decode_auth(&auth);
        }
    }
}
