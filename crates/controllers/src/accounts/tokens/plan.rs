//! Which token Secrets a service account should have. Pure.

use coffer_api::well_known::annotation;
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The annotation that names a token Secret's account.
pub(crate) const ACCOUNT_NAME: &str = annotation::SERVICE_ACCOUNT_NAME;
/// The annotation with the account's uid: a later account of the same name has another one.
pub(crate) const ACCOUNT_UID: &str = annotation::SERVICE_ACCOUNT_UID;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// The Secret belongs to an account that no longer exists: name, uid.
    Delete(String, String),
    /// The Secret has no token yet, or is not known to have one.
    Complete(String),
    /// The account has no token Secret: create one of this name.
    Create(String),
    /// The account's list of Secrets is wrong: write this one.
    Reference(Vec<ObjectReference>),
}

/// Decides for one account name. `secrets` are the metadata of the token Secrets that name it;
/// `is_complete` says which of them have their token.
pub(crate) fn plan(
    account: Option<&ServiceAccount>,
    account_name: &str,
    secrets: &[&ObjectMeta],
    is_complete: impl Fn(&ObjectMeta) -> bool,
) -> Vec<Action> {
    let uid = account.and_then(|account| account.metadata.uid.as_deref());
    let is_ours = |secret: &ObjectMeta| {
        let named = secret.annotations.as_ref().and_then(|all| all.get(ACCOUNT_UID));
        uid.is_some_and(|uid| named.is_none_or(|named| named.is_empty() || named == uid))
    };
    let alive = secrets.iter().filter(|secret| secret.deletion_timestamp.is_none());
    let (ours, lost): (Vec<&ObjectMeta>, Vec<&ObjectMeta>) =
        alive.copied().partition(|secret| is_ours(secret));
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let mut actions: Vec<Action> =
        lost.iter().map(|secret| Action::Delete(text(&secret.name), text(&secret.uid))).collect();
    let Some(account) = account.filter(|one| one.metadata.deletion_timestamp.is_none()) else {
        return actions;
    };
    let empty = ours.iter().filter(|secret| !is_complete(secret));
    actions.extend(empty.map(|secret| Action::Complete(text(&secret.name))));

    let generated = generated_name(account_name, uid.unwrap_or_default());
    let exists = |name: &str| ours.iter().any(|secret| secret.name.as_deref() == Some(name));
    let references = account.secrets.as_deref().unwrap_or_default();
    let name = |reference: &ObjectReference| reference.name.clone().unwrap_or_default();
    // Users list other Secrets there too, which may not exist yet. Only a name that this controller generated
    // is stale when there is no Secret of that name.
    let prefix = format!("{account_name}-token-");
    let stale = |reference: &&ObjectReference| {
        let name = name(reference);
        name.starts_with(&prefix) && !exists(&name)
    };
    let mut next: Vec<ObjectReference> =
        references.iter().filter(|reference| !stale(reference)).cloned().collect();
    if !next.iter().any(|reference| exists(&name(reference))) {
        if !exists(&generated) {
            actions.push(Action::Create(generated.clone()));
        }
        next.push(ObjectReference { name: Some(generated), ..ObjectReference::default() });
    }
    if next != references {
        actions.push(Action::Reference(next));
    }
    actions
}

/// The name of the Secret of an account: `default-token-x5k2q`. It is derived from the account's uid, so that
/// a retry after a crash finds the Secret that was created before.
fn generated_name(account: &str, uid: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    const SUFFIX: usize = 5;
    // Names have at most 253 characters.
    const PREFIX_MAX: usize = 253 - "-token-".len() - SUFFIX;
    let mut hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut name: String = account.chars().take(PREFIX_MAX).collect();
    name.push_str("-token-");
    for _ in 0..SUFFIX {
        let letter = usize::try_from(hash % 27).expect("less than 27");
        name.push(char::from(ALPHABET[letter]));
        hash /= 27;
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn account(secrets: &[&str]) -> ServiceAccount {
        let secrets: Vec<Value> = secrets.iter().map(|name| json!({ "name": name })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": "robot", "namespace": "ns", "uid": "1" }, "secrets": secrets }))
        .expect("an account")
    }

    fn secret(name: &str, uid: &str) -> ObjectMeta {
        serde_json::from_value(json!({ "name": name, "uid": name,
            "annotations": { ACCOUNT_NAME: "robot", ACCOUNT_UID: uid } }))
        .expect("metadata")
    }

    fn references(names: &[&str]) -> Action {
        Action::Reference(account(names).secrets.expect("references"))
    }

    fn planned(account: Option<&ServiceAccount>, secrets: &[ObjectMeta]) -> Vec<Action> {
        let secrets: Vec<&ObjectMeta> = secrets.iter().collect();
        plan(account, "robot", &secrets, |secret| secret.name.as_deref() != Some("empty"))
    }

    #[test]
    fn a_new_account_gets_a_token_secret_and_lists_it() {
        let made = generated_name("robot", "1");
        assert!(made.starts_with("robot-token-") && made.len() == "robot-token-".len() + 5);
        assert_eq!(
            planned(Some(&account(&[])), &[]),
            [Action::Create(made.clone()), references(&[&made])],
        );
        // The Secret was created, then the controller was killed.
        let half = [secret(&made, "1")];
        assert_eq!(planned(Some(&account(&[])), &half), [references(&[&made])]);
        assert_eq!(planned(Some(&account(&[&made])), &half), []);
    }

    #[test]
    fn a_deleted_token_secret_is_recreated() {
        let made = generated_name("robot", "1");
        assert_eq!(planned(Some(&account(&[&made])), &[]), [Action::Create(made.clone())]);
        // A stale generated name is removed from the list; a name that a user wrote stays.
        assert_eq!(
            planned(Some(&account(&["robot-token-other", "manual"])), &[]),
            [Action::Create(made.clone()), references(&["manual", &made])],
        );
    }

    #[test]
    fn a_listed_token_secret_of_any_name_is_enough() {
        assert_eq!(planned(Some(&account(&["mine"])), &[secret("mine", "1")]), []);
        assert_eq!(
            planned(Some(&account(&["empty"])), &[secret("empty", "")]),
            [Action::Complete("empty".into())],
        );
    }

    #[test]
    fn token_secrets_of_a_deleted_account_are_deleted() {
        let secrets = [secret("a", "1"), secret("b", "")];
        let deleted = |name: &str| Action::Delete(name.into(), name.into());
        assert_eq!(planned(None, &secrets), [deleted("a"), deleted("b")]);
        // A recreated account does not own the Secrets of the deleted one.
        let made = generated_name("robot", "1");
        assert_eq!(
            planned(Some(&account(&[])), &[secret("a", "0")]),
            [deleted("a"), Action::Create(made.clone()), references(&[&made])],
        );
    }

    #[test]
    fn an_account_that_is_being_deleted_gets_no_token_secret() {
        let mut deleted = account(&[]);
        deleted.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
        assert_eq!(planned(Some(&deleted), &[]), []);
    }
}
