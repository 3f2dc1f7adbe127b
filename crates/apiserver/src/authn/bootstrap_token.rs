//! Bootstrap tokens: `abcdef.0123456789abcdef`, a Secret each, for machines that are to join.

use coffer_api::kinds::Secret;
use subtle::ConstantTimeEq;

use crate::identity::{AUTHENTICATED, Identity};
use crate::object::Resources;

/// The type of a bootstrap token's Secret.
const TOKEN_TYPE: &str = coffer_api::well_known::secret_type::BOOTSTRAP_TOKEN;
const NAMESPACE: &str = coffer_api::well_known::namespace::KUBE_SYSTEM;
const NAME_PREFIX: &str = "bootstrap-token-";
const USER_PREFIX: &str = coffer_api::well_known::user::BOOTSTRAP_PREFIX;
const GROUP: &str = coffer_api::well_known::group::BOOTSTRAPPERS;
const ID_CHARACTERS: usize = 6;
const SECRET_CHARACTERS: usize = 16;

/// Whose token this is, if it has a bootstrap token's form and its Secret holds it.
pub(super) fn owner(resources: &Resources, token: &str, now: jiff::Timestamp) -> Option<Identity> {
    let (id, secret) = parts(token)?;
    let secrets = resources.of::<Secret>();
    let found = secrets.shard().get(&secrets.key(NAMESPACE, &format!("{NAME_PREFIX}{id}")))?;
    let held: Secret = serde_json::from_slice(&found.bytes).ok()?;
    check(&held, id, secret, now)
}

fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|it| it.is_ascii_digit() || it.is_ascii_lowercase());
    let sized = id.len() == ID_CHARACTERS && secret.len() == SECRET_CHARACTERS;
    (sized && plain(id) && plain(secret)).then_some((id, secret))
}

fn check(held: &Secret, id: &str, secret: &str, now: jiff::Timestamp) -> Option<Identity> {
    let value = |key: &str| held.data.get(key).map(|value| value.expose()).unwrap_or_default();
    let text = |key: &str| std::str::from_utf8(value(key)).unwrap_or_default();
    let same: bool = value("token-secret").ct_eq(secret.as_bytes()).into();
    let good = held.type_.as_deref() == Some(TOKEN_TYPE)
        && held.metadata.deletion_timestamp.is_none()
        && same
        && text("token-id") == id
        && !expired(text("expiration"), now)
        && text("usage-bootstrap-authentication") == "true";
    if !good {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in text("auth-extra-groups").split(',').filter(|group| !group.is_empty()) {
        // A group that bootstrap tokens may not have makes the whole token invalid.
        if !is_bootstrap_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.push(AUTHENTICATED.to_owned());
    Some(Identity { user: format!("{USER_PREFIX}{id}"), groups, ..Identity::default() })
}

/// A time that cannot be read has passed.
fn expired(text: &str, now: jiff::Timestamp) -> bool {
    !text.is_empty() && text.parse::<jiff::Timestamp>().map_or(true, |end| end <= now)
}

/// `system:bootstrappers:` and letters, digits, colons and dashes, not ending in the latter two.
fn is_bootstrap_group(group: &str) -> bool {
    let rest = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':'));
    let Some(rest) = rest else { return false };
    let plain = |it: u8| it.is_ascii_digit() || it.is_ascii_lowercase();
    rest.len() <= 256
        && rest.bytes().all(|it| plain(it) || matches!(it, b':' | b'-'))
        && rest.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(change: impl FnOnce(&mut serde_json::Value)) -> Secret {
        let mut value = json!({
            "metadata": { "name": "bootstrap-token-abcdef", "namespace": "kube-system" },
            "type": TOKEN_TYPE,
            "stringData": {
                "token-id": "abcdef",
                "token-secret": "0123456789abcdef",
                "usage-bootstrap-authentication": "true",
                "auth-extra-groups": "system:bootstrappers:edge",
                "expiration": "2030-01-01T00:00:00Z",
            },
        });
        change(&mut value);
        let mut secret: Secret = serde_json::from_value(value).unwrap();
        coffer_api::kinds::Kind::set_defaults(&mut secret);
        secret
    }

    fn owner_of(secret: &Secret, token: &str) -> Option<Identity> {
        let (id, rest) = parts(token)?;
        check(secret, id, rest, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_good_token_names_a_bootstrapper() {
        let owner = owner_of(&secret(|_| {}), "abcdef.0123456789abcdef").unwrap();
        assert_eq!(owner.user, "system:bootstrap:abcdef");
        assert_eq!(
            owner.groups,
            ["system:bootstrappers", "system:bootstrappers:edge", "system:authenticated"]
        );
    }

    #[test]
    fn a_token_with_any_defect_names_no_user() {
        let token = "abcdef.0123456789abcdef";
        assert_eq!(owner_of(&secret(|_| {}), "abcdef.0123456789abcdee"), None);
        for malformed in ["abcdef", "abcde.0123456789abcdef", "ABCDEF.0123456789abcdef", ""] {
            assert_eq!(parts(malformed), None, "{malformed}");
        }
        for (field, value) in [
            ("usage-bootstrap-authentication", "false"),
            ("expiration", "2020-01-01T00:00:00Z"),
            ("expiration", "tomorrow"),
            ("token-id", "fedcba"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:"),
        ] {
            let changed = secret(|it| it["stringData"][field] = value.into());
            assert_eq!(owner_of(&changed, token), None, "{field}={value}");
        }
        assert_eq!(owner_of(&secret(|it| it["type"] = "Opaque".into()), token), None);
        let going =
            secret(|it| it["metadata"]["deletionTimestamp"] = "2025-01-01T00:00:00Z".into());
        assert_eq!(owner_of(&going, token), None);
    }
}
