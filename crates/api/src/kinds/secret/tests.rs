//! Rules of secrets, one line each. The canary is in every value, and in no message.

use serde_json::{Value, json};

use super::Secret;
use crate::kinds::Kind;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};
use crate::well_known::secret_type;

/// base64 of `canary`.
const CANARY: &str = "Y2FuYXJ5";

fn valid() -> Value {
    json!({"metadata": {"name": "s", "namespace": "n"}, "data": {"key": CANARY}})
}

fn of_type(kind: &str, data: Value) -> Value {
    with(&with(&valid(), "type", json!(kind)), "data", data)
}

const KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

#[test]
fn keys_are_file_names_and_values_have_a_limit() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let million = |bytes: usize| json!(STANDARD.encode(vec![0; bytes]));
    let long = format!("data.{}", "k".repeat(254));
    let long_error = format!(
        "data[{key}]: Invalid value: \"{key}\": must be no more than 253 characters",
        key = "k".repeat(254)
    );
    let bad_key = format!("data[a b]: Invalid value: \"a b\": {KEY}");
    check_create::<Secret>(
        &valid(),
        &[
            ("data.~hidden", json!(CANARY), &[]),
            ("data.a b", json!(CANARY), &[&bad_key]),
            ("data.~", json!(CANARY), &["data[.]: Invalid value: \".\": must not be '.'"]),
            ("data.~~", json!(CANARY), &["data[..]: Invalid value: \"..\": must not be '..'"]),
            (
                "data.~~x",
                json!(CANARY),
                &["data[..x]: Invalid value: \"..x\": must not start with '..'"],
            ),
            (&long, json!(CANARY), &[&long_error]),
            ("data.key", million(1_048_576), &[]),
            (
                "data.key",
                million(1_048_577),
                &["data: Too long: may not be more than 1048576 bytes"],
            ),
            ("data", Value::Null, &[]),
            ("type", json!("example.com/anything"), &[]),
        ],
    );
}

#[test]
fn each_type_has_its_required_keys() {
    let token = "kubernetes.io/service-account-token";
    let annotated = with(
        &of_type(token, json!({})),
        "metadata.annotations.kubernetes~io/service-account~name",
        json!("default"),
    );
    let docker = of_type("kubernetes.io/dockercfg", json!({".dockercfg": "e30="}));
    let config = of_type("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "e30="}));
    let basic = of_type("kubernetes.io/basic-auth", json!({"username": CANARY, "password": ""}));
    let ssh = of_type("kubernetes.io/ssh-auth", json!({"ssh-privatekey": CANARY}));
    let tls = of_type("kubernetes.io/tls", json!({"tls.crt": CANARY, "tls.key": CANARY}));
    check_create::<Secret>(
        &annotated,
        &[(
            "metadata.annotations",
            Value::Null,
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        )],
    );
    check_create::<Secret>(
        &docker,
        &[
            ("data", Value::Null, &["data[.dockercfg]: Required value"]),
            (
                "data.~dockercfg",
                json!(CANARY),
                &[
                    "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": invalid character at line 1 column 1",
                ],
            ),
            (
                "data.~dockercfg",
                json!(""),
                &[
                    "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input",
                ],
            ),
            (
                "data.~dockercfg",
                json!("W10="),
                &[
                    "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal into Go value of type map[string]interface {}",
                ],
            ),
        ],
    );
    check_create::<Secret>(
        &config,
        &[("data", Value::Null, &["data[.dockerconfigjson]: Required value"])],
    );
    check_create::<Secret>(
        &basic,
        &[
            ("data.password", Value::Null, &[]),
            (
                "data",
                Value::Null,
                &["data[username]: Required value", "data[password]: Required value"],
            ),
        ],
    );
    check_create::<Secret>(
        &ssh,
        &[("data.ssh-privatekey", json!(""), &["data[ssh-privatekey]: Required value"])],
    );
    check_create::<Secret>(
        &tls,
        &[
            ("data.tls~key", Value::Null, &["data[tls.key]: Required value"]),
            (
                "data",
                Value::Null,
                &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
            ),
        ],
    );
}

#[test]
fn the_type_does_not_change() {
    check_update::<Secret>(
        &valid(),
        None,
        &[
            ("data.key", json!("bmV3"), &[]),
            (
                "type",
                json!("kubernetes.io/ssh-auth"),
                &[
                    "type: Invalid value: \"kubernetes.io/ssh-auth\": field is immutable",
                    "data[ssh-privatekey]: Required value",
                ],
            ),
        ],
    );
}

#[test]
fn an_immutable_secret_keeps_its_data_and_its_immutability() {
    let frozen = with(&valid(), "immutable", json!(true));
    let message = "data: Forbidden: field is immutable when `immutable` is set";
    check_update::<Secret>(
        &frozen,
        None,
        &[
            ("metadata.labels.a", json!("b"), &[]),
            ("data.key", json!("bmV3"), &[message]),
            ("data.more", json!(""), &[message]),
            ("stringData.key", json!("new"), &[message]),
            ("stringData.key", json!("canary"), &[]),
            (
                "immutable",
                json!(false),
                &["immutable: Forbidden: field is immutable when `immutable` is set"],
            ),
            (
                "immutable",
                Value::Null,
                &["immutable: Forbidden: field is immutable when `immutable` is set"],
            ),
        ],
    );
}

#[test]
fn string_data_becomes_data_and_is_removed() {
    let object = with(&valid(), "stringData", json!({"key": "wins", "more": "text"}));
    let secret: Secret = created(&object);
    assert_eq!(secret.data["key"].expose(), b"wins");
    assert_eq!(secret.data["more"].expose(), b"text");
    assert!(secret.string_data.is_empty());
    assert_eq!(secret.type_.as_deref(), Some(secret_type::OPAQUE));
    assert_eq!(secret.fields(), [("type", "Opaque".to_owned())]);
}

#[test]
fn no_message_shows_a_value() {
    let broken = with(
        &of_type("kubernetes.io/dockercfg", json!({})),
        "data",
        json!({
            ".dockercfg": CANARY, "a b": CANARY,
        }),
    );
    let old: Secret = stored(&with(&valid(), "immutable", json!(true)));
    let new = updated(&old, &broken, None);
    let all = [created::<Secret>(&broken).validate(), new.validate_update(&old, None)].concat();
    assert!(all.len() > 4);
    for error in all {
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary") && !text.contains(CANARY), "{text}");
    }
}

#[test]
fn an_invalid_tls_pair_returns_a_warning() {
    let pem = |label: &str| format!("-----BEGIN {label}-----\nY2FuYXJ5\n-----END {label}-----\n");
    let warnings = |certificate: String, key: String| {
        let object = with(
            &of_type("kubernetes.io/tls", Value::Null),
            "stringData",
            json!({
                "tls.crt": certificate, "tls.key": key,
            }),
        );
        created::<Secret>(&object).warnings()
    };
    let (certificate, key) = (pem("CERTIFICATE"), pem("RSA PRIVATE KEY"));
    let other = pem("DH PARAMETERS");
    assert_eq!(warnings(certificate.clone(), key.clone()), [""; 0]);
    for (pair, message) in [
        (("", key.as_str()), "tls: failed to find any PEM data in certificate input"),
        (
            (key.as_str(), certificate.as_str()),
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched",
        ),
        ((certificate.as_str(), "x"), "tls: failed to find any PEM data in key input"),
        (
            (other.as_str(), key.as_str()),
            "tls: failed to find \"CERTIFICATE\" PEM block in certificate input",
        ),
        (
            (certificate.as_str(), other.as_str()),
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input",
        ),
        (
            (certificate.as_str(), certificate.as_str()),
            "tls: found a certificate rather than a key in the PEM for the private key",
        ),
    ] {
        assert_eq!(warnings(pair.0.to_owned(), pair.1.to_owned()), [message]);
    }
}
