//! Manifests as people write them: YAML, of which JSON (with or without trailing commas) is a part.
//!
//! Numbers and booleans are read as kubectl reads them (YAML 1.1: `0400` is octal, `yes` is true).
//! Errors name a place, never the text at it: manifests hold secrets.

use serde_json::Value;

use crate::document::{Document, NESTING_MAX};
use crate::schema::Schema;
use crate::schema::read::{self, Budget, Unknown};
use crate::schema::strict::Findings;

/// A manifest that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The bytes are not text.
    #[error("yaml: not UTF-8")]
    NotText,
    /// The text is not YAML.
    #[error("yaml: line {line}: {problem}")]
    Syntax {
        /// The line, from 1.
        line: u64,
        /// What is wrong there, without the text.
        problem: &'static str,
    },
    /// The text is not YAML, and the reader could not say where.
    #[error("yaml: the document cannot be read")]
    Unreadable,
}

/// One document.
///
/// # Errors
/// [`YamlError`].
pub fn parse(bytes: &[u8]) -> Result<Document, YamlError> {
    let text = text(bytes)?;
    serde_saphyr::from_str_with_options::<Value>(text, options(text.len()))
        .map(Document::new)
        .map_err(|error| located(&error))
}

/// One document as Go's reader takes it: of a key that stands twice in a map, the last counts. Of a
/// schema, and within a budget.
///
/// # Errors
/// [`YamlError`]; of no interest where the budget is exceeded.
pub fn read_last_wins(
    bytes: &[u8],
    schema: Option<Schema>,
    unknown: Unknown,
    budget: &mut Budget,
) -> Result<Document, YamlError> {
    read_by(bytes, |deserializer| read::read(deserializer, schema, unknown, budget))
}

/// As [`read_last_wins`], and reports what a strict reader finds: see [`read::read_strict`].
///
/// # Errors
/// As [`read_last_wins`].
pub fn read_last_wins_strict(
    bytes: &[u8],
    schema: Option<Schema>,
    unknown: Unknown,
    budget: &mut Budget,
    findings: &mut Findings,
) -> Result<Document, YamlError> {
    read_by(bytes, |deserializer| {
        read::read_strict(deserializer, schema, unknown, budget, findings)
    })
}

fn read_by(
    bytes: &[u8],
    reading: impl FnOnce(serde_saphyr::Deserializer<'_, '_>) -> Result<Value, serde_saphyr::Error>,
) -> Result<Document, YamlError> {
    serde_saphyr::with_deserializer_from_str_with_options(
        text(bytes)?,
        passing_on(bytes.len()),
        reading,
    )
    .map(Document::new)
    .map_err(|error| located(&error))
}

/// All documents of a stream, empty ones left out.
///
/// # Errors
/// [`YamlError`] of the first that cannot be read.
pub fn parse_all(bytes: &[u8]) -> Result<Vec<Document>, YamlError> {
    let text = text(bytes)?;
    let all = serde_saphyr::from_multiple_with_options::<Value>(text, options(text.len()))
        .map_err(|error| located(&error))?;
    Ok(all.into_iter().filter(|value| !value.is_null()).map(Document::new).collect())
}

fn text(bytes: &[u8]) -> Result<&str, YamlError> {
    std::str::from_utf8(bytes).map_err(|_| YamlError::NotText)
}

/// What aliases may repeat of any text, in events of the parser.
const REPEATED_EVENTS_MIN: usize = 16 * 1024;

/// For a text of so many bytes: what aliases repeat of it is in proportion, because aliases of aliases
/// make megabytes of a few hundred bytes. It is read as deep as an object may be nested.
fn options(bytes: usize) -> serde_saphyr::Options {
    let mut options = serde_saphyr::options! { legacy_octal_numbers: true };
    if let Some(budget) = &mut options.budget {
        budget.max_depth = NESTING_MAX;
    }
    options.alias_limits.max_total_replayed_events = REPEATED_EVENTS_MIN.saturating_add(bytes);
    options
}

/// As [`options`], but what stands twice is handed on twice.
fn passing_on(bytes: usize) -> serde_saphyr::Options {
    let mut options = options(bytes);
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::PassThrough;
    options
}

fn located(error: &serde_saphyr::Error) -> YamlError {
    let problem = match innermost(error) {
        serde_saphyr::Error::DuplicateMappingKey { .. } => "key already set in map",
        _ => "did not find expected content",
    };
    match error.location() {
        Some(at) => YamlError::Syntax { line: at.line(), problem },
        None => YamlError::Unreadable,
    }
}

/// The error itself, where the reader wrapped it to say where an alias was used or to quote the text.
fn innermost(mut error: &serde_saphyr::Error) -> &serde_saphyr::Error {
    use serde_saphyr::Error::{AliasError, WithSnippet};
    while let AliasError { error: inner, .. } | WithSnippet { error: inner, .. } = error {
        error = inner;
    }
    error
}

/// The closing brackets that a JSON-like text lacks at its very end, if that is all that is wrong
/// with it: `}` for `{"spec": {…}`. `None` for a text that ends inside a string or a value, or
/// whose brackets do not match.
pub fn missing_closers(text: &str) -> Option<String> {
    let mut open = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    let mut last = ' ';
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' if open.pop() != Some(c) => return None,
            _ => {}
        }
        if !c.is_whitespace() {
            last = c;
        }
    }
    let whole = !in_string && matches!(last, '}' | ']') && !open.is_empty();
    whole.then(|| open.into_iter().rev().collect())
}

#[cfg(test)]
mod tests {
    use crate::schema;

    use super::*;

    #[test]
    fn a_trailing_comma_and_an_octal_mode_are_read_as_kubectl_reads_them() {
        let document = parse(b"{\"a\": [{\"image\": \"x\",}]}").unwrap();
        assert_eq!(document.value()["a"][0]["image"], "x");
        assert_eq!(parse(b"mode: 0400").unwrap().value()["mode"], 256);
        assert_eq!(parse(b"on: yes").unwrap().value().to_string(), r#"{"on":true}"#);
        assert_eq!(parse(b"a: \"0400\"").unwrap().value()["a"], "0400");
    }

    #[test]
    fn a_stream_gives_its_documents_and_skips_empty_ones() {
        let all = parse_all(b"---\na: 1\n---\n---\nb: 2\n").unwrap();
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn an_error_has_the_line_and_not_the_secret() {
        let error = parse(b"data:\n  password: \"hunter2\n bad").unwrap_err().to_string();
        assert!(error.starts_with("yaml: line") && !error.contains("hunter2"), "{error}");
        let error = parse(b"password: hunter2\npassword: hunter3\n").unwrap_err().to_string();
        assert_eq!(error, "yaml: line 2: key already set in map");
    }

    #[test]
    fn only_brackets_that_are_missing_at_the_very_end_are_supplied() {
        assert_eq!(missing_closers("{\"a\": {\"b\": [1]}\n").as_deref(), Some("}"));
        assert_eq!(missing_closers("{\"a\": [{}").as_deref(), Some("]}"));
        for whole_or_broken in ["{}", "{\"a\": \"}", "{\"a\": 1", "{\"a\": ]", "a: b", ""] {
            assert_eq!(missing_closers(whole_or_broken), None, "{whole_or_broken}");
        }
    }

    #[test]
    fn the_last_of_duplicate_keys_counts_and_duplicates_are_reported() {
        let text = b"kind: Secret\ndata: {a: eA==, a: eQ==}\ntypo: 1\ntype: a\ntype: b\n";
        assert!(parse(text).is_err());
        let mut budget = Budget::of_body(text.len());
        let document = read_last_wins(text, None, Unknown::Keep, &mut budget).expect("it is YAML");
        assert_eq!(
            (&document.value()["data"]["a"], &document.value()["type"]),
            (&"eQ==".into(), &"b".into())
        );
        let found = |unknown| {
            let (mut budget, mut findings) = (Budget::of_body(text.len()), Findings::default());
            let schema = schema::of("v1", "Secret");
            read_last_wins_strict(text, schema, unknown, &mut budget, &mut findings)
                .expect("it is YAML");
            findings.into_errors()
        };
        assert_eq!(
            found(Unknown::Drop),
            ["duplicate field \"data.a\"", "unknown field \"typo\"", "duplicate field \"type\""]
        );
        assert_eq!(
            found(Unknown::Keep),
            ["duplicate field \"data.a\"", "duplicate field \"type\""]
        );
    }
}
