//! What is wrong with a document, without anything of the document.
//!
//! Decoders quote what they could not read: `invalid type: string "hunter2", expected i32`. That may be
//! a password in the wrong place, and so no decoder's message reaches a Status, an event or a log but
//! through here. What comes out is built of words that are known here ([`PROBLEMS`], [`FOUND`],
//! [`EXPECTED`], [`SYNTAX`]) and of numbers that a parser gives as numbers; a message that is not made
//! of them becomes [`UNKNOWN`]. A decoder that words its errors in a new way is thus shown less, not
//! more.
//!
//! [`path`] shows where: field names and keys, which Kubernetes shows as well, and never values.

use serde_path_to_error::{Path, Segment};

use crate::go::corrupt::CorruptBase64;

/// For a message of unknown words.
const UNKNOWN: &str = "invalid value";
/// For a key that is not made of the characters of names.
const UNKNOWN_KEY: &str = "*";
/// Bytes of a key that is shown: as long as the longest name.
const KEY_BYTES_MAX: usize = crate::names::SUBDOMAIN_BYTES_MAX;

/// How messages about values begin, and what they say.
const PROBLEMS: [(&str, &str, Shows); 7] = [
    ("invalid type: ", "invalid type", Shows::Both),
    ("invalid value: ", "invalid value", Shows::Both),
    ("invalid length ", "invalid length", Shows::Expected),
    ("unknown variant ", "unknown variant", Shows::Neither),
    ("unknown field ", "unknown field", Shows::Neither),
    ("missing field ", "missing field", Shows::Field),
    ("duplicate field ", "duplicate field", Shows::Field),
];

/// What else of a message is shown, where its words are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// The type of what was found and of what was expected.
    Both,
    /// The latter.
    Expected,
    /// The name of a field of ours.
    Field,
    Neither,
}

/// What serde calls the values that it finds; the value itself follows for some.
const FOUND: [&str; 18] = [
    "boolean",
    "integer",
    "floating point",
    "character",
    "string",
    "byte array",
    "unit value",
    "null",
    "Option value",
    "newtype struct",
    "sequence",
    "map",
    "enum",
    "unit variant",
    "newtype variant",
    "tuple variant",
    "struct variant",
    "number",
];

/// What may follow the type of what was found.
const AFTER_FOUND: [&str; 3] = [" `", " \"", ", expected "];

/// The words in which decoders say what they expected.
const EXPECTED: [&str; 44] = [
    "a",
    "an",
    "any",
    "array",
    "base64",
    "base64-encoded",
    "boolean",
    "borrowed",
    "byte",
    "bytes",
    "character",
    "date",
    "empty",
    "enum",
    "f32",
    "f64",
    "field",
    "floating",
    "i128",
    "i16",
    "i32",
    "i64",
    "i8",
    "identifier",
    "integer",
    "JSON",
    "map",
    "null",
    "number",
    "object",
    "of",
    "option",
    "or",
    "point",
    "sequence",
    "string",
    "struct",
    "time",
    "u128",
    "u16",
    "u32",
    "u64",
    "u8",
    "value",
];

/// Fields that may be named as missing: those that every object has.
const FIELDS: [&str; 12] = [
    "apiVersion",
    "data",
    "items",
    "kind",
    "metadata",
    "name",
    "namespace",
    "object",
    "spec",
    "status",
    "type",
    "value",
];

/// What the JSON parser says of bytes that are not JSON. These name no byte of them.
const SYNTAX: [&str; 23] = [
    "EOF while parsing a list",
    "EOF while parsing an object",
    "EOF while parsing a string",
    "EOF while parsing a value",
    "expected `:`",
    "expected `,` or `]`",
    "expected `,` or `}`",
    "expected ident",
    "expected value",
    "expected `\"`",
    "invalid escape",
    "invalid number",
    "number out of range",
    "invalid unicode code point",
    "control character (\\u0000-\\u001F) found while parsing a string",
    "key must be a string",
    "invalid value: expected key to be a number in quotes",
    "float key must be finite (got NaN or +/-inf)",
    "lone leading surrogate in hex escape",
    "trailing comma",
    "trailing characters",
    "unexpected end of hex escape",
    "recursion limit exceeded",
];

/// What a JSON error says and, where its text has lines, at which line and column.
pub fn json(error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    if line == 0 {
        return message(&text);
    }
    let position = format!(" at line {line} column {column}");
    message(text.strip_suffix(&position).unwrap_or_default()) + &position
}

/// [`json`], and the field that it happened at: ``missing field `name` (at spec.containers[0])``.
pub fn json_at(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    match path(error.path()) {
        path if path.is_empty() => json(error.inner()),
        path => format!("{} (at {path})", json(error.inner())),
    }
}

/// What a decoder's message says, as far as its words are known.
pub fn message(text: &str) -> String {
    if let Some(known) = SYNTAX.iter().find(|known| **known == text) {
        return (*known).to_owned();
    }
    if let Some(corrupt) = corrupt_base64(text) {
        return corrupt.to_string();
    }
    let Some((rest, problem, shows)) = PROBLEMS
        .iter()
        .find_map(|(start, problem, shows)| Some((text.strip_prefix(start)?, *problem, *shows)))
    else {
        return UNKNOWN.to_owned();
    };
    let mut shown = problem.to_owned();
    if shows == Shows::Field
        && let Some(field) = FIELDS.iter().find(|field| rest == format!("`{field}`"))
    {
        shown.push_str(&format!(" `{field}`"));
    }
    if shows == Shows::Both
        && let Some(found) = found(rest)
    {
        shown.push_str(&format!(": {found}"));
    }
    if matches!(shows, Shows::Both | Shows::Expected)
        && let Some(expected) = expected(rest)
    {
        shown.push_str(&format!(", expected {expected}"));
    }
    shown
}

/// What our own decoder of base64 says, which knows no more of the text than a place in it.
fn corrupt_base64(text: &str) -> Option<CorruptBase64> {
    let (_, at) = text.rsplit_once(' ')?;
    let corrupt = CorruptBase64 { at: at.parse().ok()? };
    (corrupt.to_string() == text).then_some(corrupt)
}

fn found(rest: &str) -> Option<&'static str> {
    FOUND.into_iter().find(|found| {
        rest.strip_prefix(found).is_some_and(|after| {
            after.is_empty() || AFTER_FOUND.iter().any(|next| after.starts_with(next))
        })
    })
}

fn expected(rest: &str) -> Option<String> {
    let (_, expected) = rest.rsplit_once(", expected ")?;
    let known = |word: &str| EXPECTED.iter().find(|known| **known == word).copied();
    let words: Option<Vec<&str>> = expected.split(' ').map(known).collect();
    if let Some(words) = words {
        return Some(words.join(" "));
    }
    // A type of ours, by its name.
    expected.starts_with("struct ").then(|| "an object".to_owned())
}

/// Where in a document: `spec.containers[0].name`. A key that does not look like a name is `*`.
pub fn path(path: &Path) -> String {
    let mut shown = String::new();
    for segment in path.iter() {
        let key = match segment {
            Segment::Seq { index } => {
                shown.push_str(&format!("[{index}]"));
                continue;
            }
            Segment::Map { key } => self::key(key),
            Segment::Enum { .. } | Segment::Unknown => UNKNOWN_KEY,
        };
        if !shown.is_empty() {
            shown.push('.');
        }
        shown.push_str(key);
    }
    shown
}

/// A key as it may be shown: `*` for one that does not look like a name.
pub(crate) fn key(key: &str) -> &str {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    let shown = !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.bytes().all(fits);
    if shown { key } else { UNKNOWN_KEY }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
    use proptest::prelude::*;
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::secret::Secret;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[allow(dead_code, reason = "only decoded")]
    struct Own {
        name: String,
        count: u8,
        choice: Choice,
        pair: (i64, bool),
        letters: Vec<char>,
        at: jiff::Timestamp,
        any: Option<BTreeMap<u16, f32>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code, reason = "only decoded")]
    enum Choice {
        One,
        Two(u8),
    }

    fn own() -> Value {
        json!({ "name": "n", "count": 1, "choice": { "two": 2 }, "pair": [1, true],
            "letters": ["a"], "at": "2026-01-01T00:00:00Z", "any": { "1": 1.5 } })
    }

    #[test]
    fn type_errors_say_what_was_found_and_expected_and_no_value() {
        for (text, shown) in [
            (
                r#"invalid type: string "hunter2", expected i32"#,
                "invalid type: string, expected i32",
            ),
            (
                "invalid type: integer `4711`, expected a string",
                "invalid type: integer, expected a string",
            ),
            ("invalid value: integer `4711`, expected u8", "invalid value: integer, expected u8"),
            ("invalid type: null, expected struct Pod", "invalid type: null, expected an object"),
            ("invalid type: sequence, expected Hunter2", "invalid type: sequence"),
            ("missing field `kind`", "missing field `kind`"),
            ("missing field `hunter2`", "missing field"),
            ("unknown field `hunter2`, expected `a` or `b`", "unknown field"),
            ("unknown variant `hunter2`, expected `a`", "unknown variant"),
            ("invalid length 4711, expected a string", "invalid length, expected a string"),
            ("recursion limit exceeded", "recursion limit exceeded"),
            ("illegal base64 data at input byte 12", "illegal base64 data at input byte 12"),
            ("illegal base64 data at input byte hunter2", "invalid value"),
            ("illegal base64 data at input byte 012", "invalid value"),
            ("hunter2 illegal base64 data at input byte 12", "invalid value"),
            ("hunter2", "invalid value"),
            ("", "invalid value"),
        ] {
            assert_eq!(message(text), shown, "{text}");
        }
    }

    #[test]
    fn a_quoted_value_that_imitates_an_error_is_not_shown() {
        for text in [
            r#"invalid type: string "x, expected hunter2", expected u16"#,
            r#"invalid type: string "x\", expected hunter2"#,
            "unknown field `x, expected hunter2`, there are no fields",
            "invalid type: string, expected hunter2, expected a string",
            "invalid type: stringhunter2, expected a string",
            "expected `:` hunter2",
            "missing field `kind` hunter2",
            "duplicate field `a`, expected hunter2",
        ] {
            let shown = message(text);
            assert!(!shown.contains("hunter2") && !shown.is_empty(), "{text}: {shown}");
        }
    }

    #[test]
    fn syntax_errors_name_their_place_and_no_byte() {
        let wrong = |text: &str| json(&serde_json::from_str::<Value>(text).unwrap_err());
        assert_eq!(wrong(r#"{"a": hunter2}"#), "expected value at line 1 column 7");
        assert_eq!(wrong(r#"["hunter2"#), "EOF while parsing a string at line 1 column 9");
        assert_eq!(wrong("{} hunter2"), "trailing characters at line 1 column 4");
    }

    #[test]
    fn the_place_is_shown_by_fields_and_names() {
        let at = |text: &str| {
            let decoder = &mut serde_json::Deserializer::from_str(text);
            json_at(&serde_path_to_error::deserialize::<_, Pod>(decoder).unwrap_err())
        };
        assert_eq!(
            at(r#"{"spec":{"containers":[{"name":4711}]}}"#),
            "invalid type: integer, expected a string at line 1 column 35 (at spec.containers[0].name)"
        );
        let labels = at(r#"{"metadata":{"labels":{"example.com/a":1}}}"#);
        assert!(labels.ends_with("(at metadata.labels.example.com/a)"), "{labels}");
        let odd = at(r#"{"metadata":{"labels":{"hunter2!":1}}}"#);
        assert!(odd.ends_with("(at metadata.labels.*)"), "{odd}");
    }

    /// Times are read by a parser that quotes its input in words of its own.
    #[test]
    fn an_invalid_time_is_not_quoted() {
        let pod = json!({ "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z hunter2" } });
        let error = serde_json::from_value::<Pod>(pod).unwrap_err();
        assert!(error.to_string().contains("hunter2"), "the decoder quotes: {error}");
        assert_eq!(json(&error), "invalid value");
    }

    /// A document with its `at`th value replaced.
    fn replaced(value: &Value, at: &mut usize, with: &Value) -> Value {
        if *at == 0 {
            *at = usize::MAX;
            return with.clone();
        }
        *at -= 1;
        match value {
            Value::Object(members) => members
                .iter()
                .map(|(key, member)| (key.clone(), replaced(member, at, with)))
                .collect(),
            Value::Array(items) => items.iter().map(|item| replaced(item, at, with)).collect(),
            other => other.clone(),
        }
    }

    fn hides<T: DeserializeOwned>(document: &Value, secret: &str) -> Result<(), TestCaseError> {
        let told = |shown: String| {
            prop_assert!(!shown.contains(secret), "{}", shown);
            Ok(())
        };
        if let Err(error) = serde_path_to_error::deserialize::<_, T>(document) {
            told(json_at(&error))?;
        }
        // Shorter than it says: all errors of syntax as well.
        let text = document.to_string();
        for end in 0..=text.len() {
            if let Some(Err(error)) = text.get(..end).map(serde_json::from_str::<T>) {
                told(json(&error))?;
            }
        }
        Ok(())
    }

    /// Secrets do not look like names here: a key that does is shown.
    fn secret() -> impl Strategy<Value = String> {
        ("[ -~é\n]{0,8}", "[A-Z]{2}7[A-Z]{3}[!=+\"\\\\`, é]").prop_map(|(some, core)| some + &core)
    }

    fn planted(secret: &str) -> Vec<Value> {
        vec![
            json!(secret),
            json!([secret]),
            json!({ secret: secret }),
            json!({ secret: 1 }),
            json!({ "name": secret }),
            json!(format!("x, expected {secret}")),
            json!(format!("\"{secret}\"")),
            json!(format!("`{secret}`, expected a string")),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_decoders_message_holds_a_planted_secret(secret in secret(), at in 0_usize..40) {
            let pod = json!({ "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": "p", "labels": { "a": "b" }, "generation": 1,
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "n", "uid": "u" }] },
                "spec": { "containers": [{ "name": "c", "env": [{ "name": "A", "value": "v" }],
                    "ports": [{ "containerPort": 80 }],
                    "resources": { "limits": { "cpu": "1" } },
                    "livenessProbe": { "httpGet": { "port": "http" } } }] } });
            let kept = json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
                "metadata": { "name": "s", "annotations": { "a": "b" } }, "immutable": true,
                "data": { "k": "dg==" }, "stringData": { "l": "w" } });
            for value in planted(&secret) {
                let at = |document: &Value| replaced(document, &mut at.clone(), &value);
                hides::<Pod>(&at(&pod), &secret)?;
                hides::<Node>(&at(&pod), &secret)?;
                hides::<Secret>(&at(&kept), &secret)?;
                hides::<ConfigMap>(&at(&kept), &secret)?;
                hides::<Own>(&at(&own()), &secret)?;
                hides::<Choice>(&value, &secret)?;
            }
        }

        #[test]
        fn no_text_gets_through_but_in_known_words(
            before in "(invalid type: |invalid value: |unknown field |missing field |expected )?\
                       (string \"|integer `|map, expected |`)?",
            secret in secret(),
            after in "(\", expected (a string|u8|struct X)|`| at line 1 column 2)?",
        ) {
            let shown = message(&format!("{before}{secret}{after}"));
            prop_assert!(!shown.contains(secret.trim()), "{}", shown);
        }

        #[test]
        fn any_text_becomes_words_of_the_list(text in ".{0,60}") {
            let shown = message(&text);
            let known = SYNTAX.contains(&&*shown)
                || shown == UNKNOWN
                || PROBLEMS.iter().any(|(_, problem, _)| shown.starts_with(problem));
            prop_assert!(known, "{}", shown);
        }
    }
}
