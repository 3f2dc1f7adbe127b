//! Rules of service accounts, one line each.

use serde_json::{Value, json};

use super::ServiceAccount;
use crate::kinds::testing::{check_create, check_update, created, with};

fn valid() -> Value {
    json!({"metadata": {"name": "builder", "namespace": "n"}, "imagePullSecrets": [{"name": "registry"}]})
}

#[test]
fn names_are_subdomains() {
    check_create::<ServiceAccount>(
        &valid(),
        &[("metadata.namespace", Value::Null, &["metadata.namespace: Required value"])],
    );
    check_update::<ServiceAccount>(&valid(), None, &[("secrets", json!([{"name": "extra"}]), &[])]);
}

#[test]
fn of_a_reference_to_a_secret_only_the_name_is_kept() {
    let sent = with(&valid(), "secrets", json!([{"name": "s", "uid": "u", "kind": "Secret"}]));
    let account: ServiceAccount = created(&sent);
    let kept = serde_json::to_value(&account.secrets).unwrap();
    assert_eq!(kept, json!([{"name": "s"}]));
}
