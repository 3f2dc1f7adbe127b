//! Field selectors: `spec.nodeName=n1,metadata.name!=x`, over the few fields a kind names.

use super::SelectorError;
use crate::kinds::KindInfo;

/// Conditions on fields that must all hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl FieldSelector {
    /// Reads the query parameter's syntax. `\`, `,` and `=` in values are escaped by `\`.
    ///
    /// # Errors
    /// With upstream's text.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, equal, value)) = split_term(part) else {
                let message = format!("invalid selector: '{text}'; can't understand '{part}'");
                return Err(SelectorError(message));
            };
            super::check_terms(terms.len() + 1)?;
            terms.push(Term { field: field.to_owned(), equal, value: unescape(value)? });
        }
        Ok(Self(terms))
    }

    /// Checks that the kind's objects can be selected by these fields.
    ///
    /// # Errors
    /// Names the first field that they cannot be selected by.
    pub fn check(&self, info: &KindInfo) -> Result<(), SelectorError> {
        for Term { field, .. } in &self.0 {
            let known = matches!(field.as_str(), "metadata.name" | "metadata.namespace")
                || info.field_labels.contains(&field.as_str());
            if known {
                continue;
            }
            return Err(SelectorError(if info.field_labels.is_empty() {
                format!(
                    "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            } else {
                format!("field label not supported: {field}")
            }));
        }
        Ok(())
    }

    /// Whether an object is selected, given the values of its fields.
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> &'a str) -> bool {
        self.0.iter().all(|term| (value_of(&term.field) == term.value) == term.equal)
    }

    /// The one value this field must have, if the selector says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let mut wanted = self.0.iter().filter(|term| term.equal && term.field == field);
        wanted.next().map(|term| term.value.as_str())
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, found) in text.char_indices() {
        match found {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| term[*at..].starts_with('=') || term[*at..].starts_with("!="))?;
    let (field, rest) = term.split_at(at);
    match rest.strip_prefix("!=") {
        Some(value) => Some((field, false, value)),
        None => {
            let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
            Some((field, true, value))
        }
    }
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let invalid = |sequence: &str| {
        SelectorError(format!("invalid field selector: invalid escape sequence: {sequence}"))
    };
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(found) = characters.next() {
        match found {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return Err(invalid(&format!("\\{other}"))),
                None => return Err(invalid("\\")),
            },
            ',' | '=' => {
                let text = "invalid field selector: unescaped character in value: ";
                return Err(SelectorError(format!("{text}{}", u32::from(found))));
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{ConfigMap, Kind, Secret};

    #[test]
    fn fields_are_compared_as_text_and_escapes_are_undone() {
        let value_of = |field: &str| match field {
            "metadata.name" => "a,b=c",
            _ => "",
        };
        for (selector, selected) in [
            ("", true),
            ("metadata.name=a\\,b\\=c", true),
            ("metadata.name==a\\,b\\=c", true),
            ("metadata.name!=x,spec.nodeName=", true),
            ("spec.nodeName!=", false),
        ] {
            let parsed = FieldSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(value_of), selected, "{selector}");
        }
        assert_eq!(FieldSelector::parse("a=b").unwrap().exact("a"), Some("b"));
    }

    #[test]
    fn malformed_selectors_get_upstreams_message() {
        for (selector, message) in [
            ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
            ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
            ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ] {
            assert_eq!(FieldSelector::parse(selector).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn unknown_fields_are_refused_with_the_kinds_message() {
        let selector = FieldSelector::parse("spec.x=1").unwrap();
        assert_eq!(
            selector.check(Secret::INFO).unwrap_err().to_string(),
            "field label not supported: spec.x"
        );
        assert_eq!(
            selector.check(ConfigMap::INFO).unwrap_err().to_string(),
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
        assert!(FieldSelector::parse("type!=Opaque").unwrap().check(Secret::INFO).is_ok());
    }
}
