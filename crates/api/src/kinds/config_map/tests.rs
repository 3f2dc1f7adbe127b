//! Rules of config maps, one line each.

use serde_json::{Value, json};

use super::ConfigMap;
use crate::kinds::testing::{check_create, check_update, with};

fn valid() -> Value {
    json!({
        "metadata": {"name": "m", "namespace": "n"},
        "data": {"text": "value"},
        "binaryData": {"bytes": "AAEC"},
    })
}

#[test]
fn keys_are_file_names_and_are_not_given_twice() {
    check_create::<ConfigMap>(
        &valid(),
        &[
            ("data.~~", json!("x"), &["data[..]: Invalid value: \"..\": must not be '..'"]),
            ("binaryData.~", json!(""), &["binaryData[.]: Invalid value: \".\": must not be '.'"]),
            (
                "data.bytes",
                json!("x"),
                &["data[bytes]: Invalid value: \"bytes\": duplicate of key present in binaryData"],
            ),
            (
                "data.text",
                json!("x".repeat(1_048_576)),
                &["[]: Too long: may not be more than 1048576 bytes"],
            ),
        ],
    );
}

#[test]
fn an_immutable_map_keeps_its_data() {
    check_update::<ConfigMap>(
        &with(&valid(), "immutable", json!(true)),
        None,
        &[
            (
                "data.text",
                json!("new"),
                &["data: Forbidden: field is immutable when `immutable` is set"],
            ),
            (
                "binaryData",
                Value::Null,
                &["binaryData: Forbidden: field is immutable when `immutable` is set"],
            ),
            (
                "immutable",
                json!(false),
                &["immutable: Forbidden: field is immutable when `immutable` is set"],
            ),
        ],
    );
}
