//! Label selectors: `a=b,c!=d,e in (f,g),!h`.
//!
//! The grammar and its oddities are upstream's: values may be empty, `in` and `notin` are words
//! only where an operator can stand, and a key alone means that it exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Structured;

use super::SelectorError;
use crate::field::{Error, Path};
use crate::names;

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equals,
    /// `==`
    DoubleEquals,
    /// `!=`
    NotEquals,
    /// `in (…)`
    In,
    /// `notin (…)`
    NotIn,
    /// The key alone.
    Exists,
    /// `!key`
    DoesNotExist,
    /// `>`
    GreaterThan,
    /// `<`
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

/// Conditions that must all hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl Requirement {
    /// A checked requirement.
    ///
    /// # Errors
    /// A malformed key or value, or a number of values that does not fit the operator.
    pub fn new(
        key: &str,
        operator: Operator,
        values: impl IntoIterator<Item = String>,
    ) -> Result<Self, SelectorError> {
        let values: BTreeSet<String> = values.into_iter().collect();
        let mut errors: Vec<Error> = check_key(key, &Path::new("key")).into_iter().collect();
        let path = Path::new("values");
        let shown = || serde_json::to_string(&values).unwrap_or_default();
        let count =
            |detail: &str| Error { value: Some(shown()), ..Error::invalid(&path, "", detail) };
        use Operator::*;
        match operator {
            In | NotIn if values.is_empty() => {
                errors.push(count("for 'in', 'notin' operators, values set can't be empty"));
            }
            Equals | DoubleEquals | NotEquals if values.len() != 1 => {
                errors.push(count("exact-match compatibility requires one single value"));
            }
            Exists | DoesNotExist if !values.is_empty() => {
                errors.push(count("values set must be empty for exists and does not exist"));
            }
            GreaterThan | LessThan => {
                if values.len() != 1 {
                    errors.push(count("for 'Gt', 'Lt' operators, exactly one value is required"));
                }
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                for (at, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        errors.push(Error::invalid(&path.index(at), value, detail));
                    }
                }
            }
            _ => {}
        }
        for (at, value) in values.iter().enumerate() {
            let found = names::label_value(value);
            if !found.is_empty() {
                let path = path.index(at).key(key);
                errors.push(Error::invalid(&path, value, found.join("; ")));
            }
        }
        if errors.is_empty() {
            Ok(Self { key: key.to_owned(), operator, values })
        } else {
            Err(SelectorError(aggregate(&errors)))
        }
    }

    /// Whether an object with these labels fulfils it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                value.is_some_and(|value| self.values.contains(value))
            }
            Operator::NotEquals | Operator::NotIn => {
                value.is_none_or(|value| !self.values.contains(value))
            }
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compare(value, |label, bound| label > bound),
            Operator::LessThan => self.compare(value, |label, bound| label < bound),
        }
    }

    fn compare(&self, value: Option<&String>, holds: fn(i64, i64) -> bool) -> bool {
        let label = value.and_then(|value| value.parse().ok());
        let bound = self.values.first().and_then(|value| value.parse().ok());
        label.zip(bound).is_some_and(|(label, bound)| holds(label, bound))
    }
}

/// One error by itself, several in brackets.
fn aggregate(errors: &[Error]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    match lines.as_slice() {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}

pub(super) fn check_key(key: &str, path: &Path) -> Option<Error> {
    let found = names::qualified_name(key);
    (!found.is_empty()).then(|| Error::invalid(path, key, found.join("; ")))
}

impl LabelSelector {
    /// Of all these requirements, kept in the order of their keys.
    pub(super) fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self(requirements)
    }

    /// Exactly these labels: an old-style selector of a ReplicationController.
    ///
    /// # Errors
    /// A malformed key or value.
    pub fn of_map(labels: &BTreeMap<String, String>) -> Result<Self, SelectorError> {
        let each = |(key, value): (&String, &String)| {
            Requirement::new(key, Operator::Equals, [value.clone()])
        };
        labels.iter().map(each).collect::<Result<_, _>>().map(Self)
    }

    /// Reads `matchLabels` and `matchExpressions`.
    ///
    /// # Errors
    /// A malformed key or value, or an unknown operator.
    pub fn of_structured(selector: &Structured) -> Result<Self, SelectorError> {
        let mut requirements = match &selector.match_labels {
            Some(labels) => Self::of_map(labels)?.0,
            None => Vec::new(),
        };
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    let text = format!("{other:?} is not a valid label selector operator");
                    return Err(SelectorError(text));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Self::of(requirements))
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let key = &self.key;
        match self.operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_form_selects_what_it_says() {
        let object = labels(&[("app", "web"), ("tier", ""), ("weight", "5"), ("in", "notin")]);
        for (selector, selected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , tier =", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (web,db)", true),
            ("app notin (web,db)", false),
            ("other notin (web)", true),
            ("tier in ()", true),
            ("tier in (,a)", true),
            ("tier in (a,)", true),
            ("tier in (a,,b)", true),
            ("tier in (a,b)", false),
            ("weight>4", true),
            ("weight<5", false),
            ("app>1", false),
            ("in in (in,notin)", true),
            ("in=notin", true),
            ("app=web,weight>9", false),
        ] {
            let parsed = LabelSelector::parse(selector).unwrap();
            assert_eq!(parsed.matches(&object), selected, "{selector}");
            assert_eq!(LabelSelector::parse(&parsed.to_string()).unwrap(), parsed, "{selector}");
        }
    }

    #[test]
    fn malformed_selectors_get_upstreams_message() {
        for (selector, message) in [
            ("a=b=c", "found '=', expected: ',' or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            (
                "a in (=)",
                "unable to parse requirement: found '=', expected: ',', ')' or identifier",
            ),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a==!b", "unable to parse requirement: found '!', expected: identifier"),
            (
                "a>b",
                "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
            (
                "a=%",
                "unable to parse requirement: values[0][a]: Invalid value: \"%\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
            (
                "%=a",
                "unable to parse requirement: <nil>: Invalid value: \"%\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
        ] {
            assert_eq!(
                LabelSelector::parse(selector).unwrap_err().to_string(),
                message,
                "{selector}"
            );
        }
    }

    #[test]
    fn structured_selectors_mean_the_same() {
        let structured: Structured = serde_json::from_value(serde_json::json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["db", "cache"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }))
        .unwrap();
        let selector = LabelSelector::of_structured(&structured).unwrap();
        assert_eq!(selector.to_string(), "app=web,!old,tier notin (cache,db)");
    }
}
