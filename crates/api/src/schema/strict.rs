//! Strict decoding: fields that no schema knows, and fields given twice.
//!
//! Decoding into the typed objects ignores both; `fieldValidation=Strict` and `Warn` ask for them.
//! The wording is that of `sigs.k8s.io/json`, which upstream decodes with. Only field names are
//! quoted, never values; a key of `data` can be among them.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Schema, Shape};

/// Upstream stops to collect here; so that a hostile body cannot make a large answer.
const ERRORS_MAX: usize = 100;

/// `unknown field "spec.foo"` for each field of the document that its schema does not know.
pub fn unknown_fields(document: &Value, schema: Schema) -> Vec<String> {
    let mut found = Found::default();
    walk(document, Position { within: Within::Schema(schema), path: None }, &mut found);
    found.errors
}

/// What a strict reader finds in a text while it makes a tree of it.
#[derive(Default)]
pub struct Findings(Found);

impl Findings {
    /// `unknown field "spec.foo"` and `duplicate field "metadata.name"`, in the order of the text.
    pub fn into_errors(self) -> Vec<String> {
        self.0.errors
    }

    /// The beginning of a text of this schema; `None`: of any members, each once.
    pub(super) fn root(&mut self, schema: Option<Schema>) -> Checker<'_, '_> {
        let within = schema.map_or(Within::Anything, Within::Schema);
        Checker { position: Position { within, path: None }, found: &mut self.0 }
    }
}

/// What Go's strict decoder says of the text of a patch, before it is applied: members given twice
/// anywhere in it, and in a JSON patch members that operations do not have.
///
/// # Errors
/// Text that is not JSON.
pub fn check_patch(text: &[u8], json_patch: bool) -> Result<Vec<String>, serde_json::Error> {
    let within = if json_patch { Within::Operations } else { Within::Anything };
    let mut found = Found::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    Checker { position: Position { within, path: None }, found: &mut found }
        .deserialize(&mut deserializer)?;
    deserializer.end()?;
    if json_patch {
        found.errors.iter_mut().for_each(|error| error.insert_str(0, "json patch "));
    }
    Ok(found.errors)
}

/// The one message of a request that is refused for strict errors.
pub fn message(errors: &[String]) -> String {
    format!("strict decoding error: {}", errors.join(", "))
}

#[derive(Default)]
struct Found {
    errors: Vec<String>,
    seen: HashSet<String>,
}

impl Found {
    fn report(&mut self, what: &str, position: Position<'_>, field: &str) {
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        let error = format!("{what} field \"{}\"", Step::new(position.path, At::Field(field)));
        if self.seen.insert(error.clone()) {
            self.errors.push(error);
        }
    }
}

/// Where the walk is. The path is a chain of borrowed steps: nothing is built unless reported.
#[derive(Clone, Copy)]
struct Position<'a> {
    within: Within,
    path: Option<&'a Step<'a>>,
}

/// What is known of a value.
#[derive(Clone, Copy)]
enum Within {
    Schema(Schema),
    /// Nothing, so that nothing in it is wrong.
    Nothing,
    /// Any members, each once.
    Anything,
    /// The list that a JSON patch is.
    Operations,
    /// One of it.
    Operation,
}

struct Step<'a> {
    parent: Option<&'a Step<'a>>,
    at: At<'a>,
}

enum At<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> Step<'a> {
    fn new(parent: Option<&'a Step<'a>>, at: At<'a>) -> Self {
        Self { parent, at }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match (&self.at, self.parent) {
            (At::Field(name), None) => f.write_str(name),
            (At::Field(name), Some(_)) => write!(f, ".{name}"),
            (At::Index(index), _) => write!(f, "[{index}]"),
        }
    }
}

/// What a member's name leads to.
enum Member {
    Known(Within),
    Unknown,
    /// Nothing is known here, so nothing is wrong.
    Free,
}

impl Position<'_> {
    fn member(&self, name: &str) -> Member {
        let schema = match self.within {
            Within::Schema(schema) => schema,
            Within::Anything => return Member::Known(Within::Anything),
            Within::Operation => {
                let known = matches!(name, "op" | "path" | "from" | "value");
                return if known { Member::Known(Within::Anything) } else { Member::Unknown };
            }
            Within::Nothing | Within::Operations => return Member::Free,
        };
        match schema.shape() {
            Shape::Struct => schema
                .field(name)
                .map_or(Member::Unknown, |schema| Member::Known(Within::Schema(schema))),
            Shape::Map(value) => Member::Known(Within::Schema(value)),
            _ => Member::Free,
        }
    }

    fn item(&self) -> Within {
        match self.within {
            Within::Schema(schema) => match schema.shape() {
                Shape::List(item, _) => Within::Schema(item),
                _ => Within::Nothing,
            },
            Within::Anything => Within::Anything,
            Within::Operations => Within::Operation,
            Within::Nothing | Within::Operation => Within::Nothing,
        }
    }
}

fn walk(value: &Value, position: Position<'_>, found: &mut Found) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match position.member(name) {
                    Member::Known(within) => {
                        let step = Step::new(position.path, At::Field(name));
                        walk(value, Position { within, path: Some(&step) }, found);
                    }
                    Member::Unknown => found.report("unknown", position, name),
                    Member::Free => {}
                }
            }
        }
        Value::Array(items) => {
            let within = position.item();
            for (index, item) in items.iter().enumerate() {
                let step = Step::new(position.path, At::Index(index));
                walk(item, Position { within, path: Some(&step) }, found);
            }
        }
        _ => {}
    }
}

/// Looks at one value. [`super::read`] takes it along; alone it reads a text and keeps nothing.
pub(super) struct Checker<'a, 'f> {
    position: Position<'a>,
    found: &'f mut Found,
}

/// The step into a value: kept where it is read, so that the path needs no memory.
pub(super) struct Ahead<'a> {
    step: Step<'a>,
    within: Within,
}

impl<'a> Checker<'a, '_> {
    /// Looks at a member's name; whether the object has it already is known to the reader. `None`:
    /// nothing in the member is looked at.
    pub(super) fn member<'s>(&mut self, name: &'s str, again: bool) -> Option<Ahead<'s>>
    where
        'a: 's,
    {
        let member = self.position.member(name);
        if again && !matches!(member, Member::Unknown) {
            self.found.report("duplicate", self.position, name);
        }
        match member {
            Member::Known(within) => {
                Some(Ahead { step: Step::new(self.position.path, At::Field(name)), within })
            }
            Member::Unknown => {
                self.found.report("unknown", self.position, name);
                None
            }
            Member::Free => None,
        }
    }

    /// The step to a list's item.
    pub(super) fn item(&self, index: usize) -> Ahead<'a> {
        Ahead {
            step: Step::new(self.position.path, At::Index(index)),
            within: self.position.item(),
        }
    }

    /// The look at what a step leads to.
    pub(super) fn at<'s>(&'s mut self, ahead: &'s Ahead<'s>) -> Checker<'s, 's> {
        let position = Position { within: ahead.within, path: Some(&ahead.step) };
        Checker { position, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for Checker<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checker<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.member(&name, names.contains(&name)) {
                Some(ahead) => map.next_value_seed(self.at(&ahead))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            names.insert(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let ahead = self.item(index);
            if items.next_element_seed(self.at(&ahead))?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    /// What a walk over the text finds that keeps nothing: what reading it must find.
    fn check_json(text: &[u8], schema: Schema) -> Result<Vec<String>, serde_json::Error> {
        walked(text, Some(schema))
    }

    fn walked(text: &[u8], against: Option<Schema>) -> Result<Vec<String>, serde_json::Error> {
        let mut findings = Findings::default();
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        findings.root(against).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(findings.into_errors())
    }

    fn pod() -> Schema {
        schema::of("v1", "Pod").expect("Pod is served")
    }

    #[test]
    fn unknown_and_duplicate_fields_are_reported_in_the_order_of_the_text() {
        let text = br#"{"kind":"Pod","metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2"}},
            "spec":{"foo":{"deep":1},"containers":[{"name":"c","bar":1,"env":[{"name":"A","Value":"x"}]}]},
            "kind":"Pod","spec":{"foo":2}}"#;
        let errors = check_json(text, pod()).expect("it is JSON");
        assert_eq!(
            message(&errors),
            "strict decoding error: duplicate field \"metadata.name\", \
             duplicate field \"metadata.labels.x\", unknown field \"spec.foo\", \
             unknown field \"spec.containers[0].bar\", \
             unknown field \"spec.containers[0].env[0].Value\", \
             duplicate field \"kind\", duplicate field \"spec\""
        );
    }

    #[test]
    fn the_document_walk_finds_the_same_unknown_fields_as_the_text_walk() {
        let text = r#"{"bogus":1,"metadata":{"managedFields":[{"fieldsV1":{"f:x":{"deep":1}},"no":1}]},
            "spec":{"containers":[{"livenessProbe":{"httpGet":{"port":"x","portt":1}}}]}}"#;
        let value: Value = serde_json::from_str(text).expect("it is JSON");
        let mut from_text = check_json(text.as_bytes(), pod()).expect("it is JSON");
        let mut from_value = unknown_fields(&value, pod());
        from_text.sort();
        from_value.sort();
        assert_eq!(from_text, from_value);
        assert_eq!(from_value.len(), 3, "{from_value:?}");
    }

    #[test]
    fn a_wrong_type_is_left_to_the_decoder_and_an_endless_list_of_errors_is_cut() {
        assert!(unknown_fields(&serde_json::json!({"spec": ["x", {"y": 1}]}), pod()).is_empty());
        let fields: serde_json::Map<_, _> =
            (0..500).map(|n| (format!("f{n}"), Value::Null)).collect();
        assert_eq!(unknown_fields(&Value::Object(fields), pod()).len(), ERRORS_MAX);
    }

    #[test]
    fn a_patch_is_checked_for_members_given_twice_and_for_members_no_operation_has() {
        let merge = br#"{"data":{"a":"1","a":"2"},"list":[{"x":1,"x":{"y":1,"y":2}}],"foo":1}"#;
        assert_eq!(
            check_patch(merge, false).expect("it is JSON"),
            [
                "duplicate field \"data.a\"",
                "duplicate field \"list[0].x\"",
                "duplicate field \"list[0].x.y\""
            ]
        );
        let operations =
            br#"[{"op":"add","path":"/a","bogus":1,"value":{"b":1,"b":2}},{"op":1,"op":2}]"#;
        assert_eq!(
            check_patch(operations, true).expect("it is JSON"),
            [
                "json patch unknown field \"[0].bogus\"",
                "json patch duplicate field \"[0].value.b\"",
                "json patch duplicate field \"[1].op\""
            ]
        );
        assert!(check_patch(b"{", false).is_err());
    }

    /// What a reader that makes a tree finds on its way is what the walk over the text alone finds.
    fn found_while_reading(text: &str, schema: Option<Schema>) {
        use super::super::read::{self, Budget, Unknown};

        for unknown in [Unknown::Drop, Unknown::Keep] {
            let walked = walked(text.as_bytes(), read::reported(schema, unknown));
            let mut findings = Findings::default();
            let (mut strict, mut plain) = (Budget::of_body(1 << 20), Budget::of_body(1 << 20));
            let bytes = text.as_bytes();
            let tree = read::read_json_strict(bytes, schema, unknown, &mut strict, &mut findings);
            let same = read::read_json(bytes, schema, unknown, &mut plain);
            assert_eq!(tree.ok(), same.ok(), "{text}");
            if let Ok(walked) = &walked {
                assert_eq!(findings.into_errors(), *walked, "{text}");
            }
        }
    }

    #[test]
    fn a_tree_is_checked_while_it_is_read_with_the_same_errors_in_the_same_order() {
        let text = r#"{"kind":"Pod","metadata":{"name":"a","name":"b","x":{"y":1,"y":2},"labels":{"x":"1","x":"2"},
            "managedFields":[{"fieldsV1":{"f:a":{"q":1,"q":2},"f:a":1},"fieldsV1":[{"z":1,"z":{"w":1,"w":1}}]}]},
            "spec":{"foo":{"deep":1},"nodeName":{"a":1,"a":{"b":1,"b":2}},"hostNetwork":[{"c":1,"c":2}],
            "nodeSelector":[{"d":1,"d":2}],"containers":{"e":1,"e":2},
            "volumes":[[{"f":1,"f":2}],{"name":"c","bar":1,"secret":{"items":[{"key":"A","Value":"x"}]}}]},
            "kind":"Pod","spec":{"foo":2}}"#;
        found_while_reading(text, Some(pod()));
        found_while_reading(text, None);
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        /// JSON of a pod's words, with members that stand twice.
        fn text() -> impl Strategy<Value = String> {
            let leaf = prop_oneof![
                Just("1".to_owned()),
                Just("null".to_owned()),
                Just("\"x\"".to_owned()),
                Just("{}".to_owned())
            ];
            leaf.prop_recursive(6, 48, 5, |inner| {
                let name =
                    "(kind|metadata|labels|spec|containers|env|name|fieldsV1|managedFields|a|b)";
                let member =
                    (name, inner.clone()).prop_map(|(name, value)| format!("\"{name}\":{value}"));
                prop_oneof![
                    3 => prop::collection::vec(member, 0..5)
                        .prop_map(|members| format!("{{{}}}", members.join(","))),
                    1 => prop::collection::vec(inner, 0..4)
                        .prop_map(|items| format!("[{}]", items.join(","))),
                ]
            })
        }

        proptest! {
            #[test]
            fn a_reader_finds_what_the_walk_finds(text in text()) {
                found_while_reading(&text, Some(pod()));
                found_while_reading(&text, None);
            }
        }
    }

    #[test]
    fn yaml_is_checked_by_the_same_walk() {
        let text = "kind: Pod\nmetadata: {name: a, nmae: b}\nspec:\n  containers: []\n";
        let value: Value = serde_saphyr::from_str(text).expect("it is YAML");
        assert_eq!(unknown_fields(&value, pod()), ["unknown field \"metadata.nmae\""]);
    }
}
