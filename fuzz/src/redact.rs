//! A secret in a document that does not decode, at every place in turn: no message may hold it.

use coffer_api::kinds::{self, Kind, KindInfo, Visitor};
use coffer_api::redact;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Ends in what no name has: a key that looks like a name is shown.
const SECRET: &str = "7HUNTER2!";
/// Places of a document that are tried.
const PLACES_MAX: usize = 64;

/// The first byte chooses the kind, the second how the secret is written; the rest is a document, and a
/// decoder's message as well.
pub fn planted(data: &[u8]) {
    let [first, form, rest @ ..] = data else { return };
    let text = String::from_utf8_lossy(rest);
    in_a_message(&text);
    let Ok(document) = serde_json::from_slice::<Value>(rest) else { return };
    let secret = written(*form, &text);
    for place in 0..PLACES_MAX {
        let mut left = place;
        let tried = replaced(&document, &mut left, &secret);
        decoded(*first, &tried);
        if left > 0 && left <= place {
            break;
        }
    }
}

/// The secret at each place of a text that may be a decoder's message.
fn in_a_message(text: &str) {
    for (at, _) in text.char_indices().take(PLACES_MAX) {
        let (before, after) = text.split_at(at);
        hidden(&redact::message(&format!("{before}{SECRET}{after}")));
    }
}

fn written(form: u8, around: &str) -> Value {
    match form % 6 {
        0 => SECRET.into(),
        1 => format!("{around}{SECRET}").into(),
        2 => format!("\", expected {SECRET}").into(),
        3 => vec![Value::from(SECRET)].into(),
        4 => Map::from_iter([(SECRET.to_owned(), Value::from(1))]).into(),
        _ => format!("`{SECRET}`, expected a string").into(),
    }
}

fn replaced(value: &Value, left: &mut usize, with: &Value) -> Value {
    if *left == 0 {
        *left = usize::MAX;
        return with.clone();
    }
    *left -= 1;
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| (key.clone(), replaced(member, left, with)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| replaced(item, left, with)).collect(),
        other => other.clone(),
    }
}

/// Decodes a document, and its text, as the kind that a byte chooses.
fn decoded(first: u8, document: &Value) {
    let info = kinds::ALL[usize::from(first) % kinds::ALL.len()];
    let text = document.to_string();
    kinds::for_each(&mut Decode { info, document, text: &text });
}

/// Decodes as one kind.
struct Decode<'a> {
    info: &'a KindInfo,
    document: &'a Value,
    text: &'a str,
}

impl Visitor for Decode<'_> {
    fn visit<K: Kind>(&mut self) {
        let (own, info) = (K::INFO, self.info);
        if (own.group, own.version, own.kind) == (info.group, info.version, info.kind) {
            errors::<K>(self.document, self.text);
        }
    }
}

fn errors<T: DeserializeOwned>(document: &Value, text: &str) {
    if let Err(error) = serde_path_to_error::deserialize::<_, T>(document) {
        hidden(&redact::json_at(&error));
    }
    if let Err(error) = serde_json::from_str::<T>(text) {
        hidden(&redact::json(&error));
    }
}

fn hidden(message: &str) {
    assert!(!message.contains(SECRET), "{message}");
}
