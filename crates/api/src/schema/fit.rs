//! Whether a JSON value fits its place: nulls that Go's decoder takes as nothing, and what it says of
//! a value that does not fit.
//!
//! Nothing here prints a value, but for a number that does not fit into an integer field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{Schema, Shape};
use crate::{go, redact};

/// The type of a scalar, as far as JSON tells types apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Text.
    String,
    /// A signed integer of so many bits.
    Int(u8),
    /// A floating-point number.
    Float,
    /// True or false.
    Bool,
    /// Bytes, base64 in JSON.
    Bytes,
    /// A time in whole seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
    /// An amount: `1000m` is `1`.
    Quantity,
    /// An IntOrString: read by rules of its own.
    Special,
}

/// One step from a value to one in it.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Into an object.
    Key(&'a str),
    /// Into a list.
    Index(usize),
}

/// A Secret's values are left to their own type: it erases what it reads, and the guide allows no
/// line ends in them.
const READS_ITS_OWN_BYTES: &str = "io.k8s.api.core.v1.Secret";

/// Makes of an object what Go makes of it that reads it and writes it again, for our own decoder,
/// which is stricter.
///
/// A field that says nothing ([`Schema::is_nothing`]: `labels: {}`, `hostNetwork: false`) is not a field,
/// so that an object which has it and one which has not are the same one.
/// A null that stands for a map's value or a list's item becomes the zero of its type: `annotations:
/// {note: }` in YAML means an empty note. (A null field is absent and needs no conversion.) Base64 is
/// written again, without line ends and stray bits.
pub fn normalize(object: &mut Value, schema: Schema) {
    normalize_value(object, schema, schema.definition_name() != Some(READS_ITS_OWN_BYTES));
}

fn normalize_value(value: &mut Value, schema: Schema, bytes: bool) {
    match (value, schema.shape()) {
        (Value::Object(fields), Shape::Struct) => {
            fields.retain(|name, field| {
                let Some(schema) = schema.field(name) else { return true };
                // Of the wrong type it stays, for the decoder to refuse.
                if unfit(field, schema).is_none() && schema.is_nothing(field) {
                    return false;
                }
                normalize_value(field, schema, bytes);
                true
            });
        }
        (Value::Object(members), Shape::Map(inner)) => {
            members.values_mut().for_each(|member| normalize_member(member, inner, bytes));
        }
        (Value::Array(items), Shape::List(inner, _)) => {
            items.iter_mut().for_each(|item| normalize_member(item, inner, bytes));
        }
        (Value::String(text), Shape::Scalar) if bytes && schema.scalar() == Some(Scalar::Bytes) => {
            if let Ok(bytes) = go::base64(text) {
                *text = STANDARD.encode(bytes);
            }
        }
        _ => {}
    }
}

fn normalize_member(member: &mut Value, schema: Schema, bytes: bool) {
    if !member.is_null() {
        normalize_value(member, schema, bytes);
        return;
    }
    *member = match schema.shape() {
        Shape::Struct | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(..) => Value::Array(Vec::new()),
        Shape::Scalar => match schema.scalar() {
            Some(Scalar::Int(_)) => Value::from(0),
            Some(Scalar::Float) => Value::from(0.0),
            Some(Scalar::Bool) => Value::from(false),
            Some(Scalar::Quantity | Scalar::Special) => Value::from("0"),
            _ => Value::from(""),
        },
        Shape::Any => return,
    };
}

/// What Go's decoder says of the value at the end of a path that does not fit its field: which field
/// of which struct, and what it ought to be. `None` where the value fits: what is wrong with it is not a
/// matter of types.
pub fn misfit<'a>(
    root: &Value,
    schema: Schema,
    path: impl IntoIterator<Item = Step<'a>>,
) -> Option<String> {
    let Found { value, schema, owner, fields } = find(root, schema, path)?;
    let (found, wanted) = (unfit(value, schema)?, go_type(schema)?);
    if fields.is_empty() {
        return Some(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
    }
    let field = fields.join(".");
    Some(format!(
        "json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {wanted}"
    ))
}

/// What is wrong with the base64 at the end of a path, if base64 is to stand there and something is.
pub fn corrupt_base64<'a>(
    root: &Value,
    schema: Schema,
    path: impl IntoIterator<Item = Step<'a>>,
) -> Option<go::CorruptBase64> {
    let Found { value, schema, .. } = find(root, schema, path)?;
    let text = value.as_str().filter(|_| schema.scalar() == Some(Scalar::Bytes))?;
    go::base64(text).err()
}

/// A time that our decoder takes and that RFC 3339, with its four digits of a year, cannot write: stored, it
/// could not be read again. Upstream's decoder refuses it, in words that are these but for the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing time as \"{layout}\": cannot parse as \"2006\"")]
pub struct TimeOutOfRange {
    /// Where it is: `status.conditions[0].lastTransitionTime`.
    pub path: String,
    layout: &'static str,
}

/// The first time in an object that is outside of the years 0000 to 9999. What is not a time is left to the
/// decoder.
pub fn time_out_of_range(object: &Value, schema: Schema) -> Option<TimeOutOfRange> {
    let layout = match (object, schema.shape()) {
        (Value::Object(fields), Shape::Struct) => {
            let mut known = fields.iter().filter_map(|(name, field)| {
                Some((name, time_out_of_range(field, schema.field(name)?)?))
            });
            return known.next().map(|(name, found)| found.below(redact::key(name)));
        }
        (Value::Object(members), Shape::Map(inner)) if may_hold_times(inner) => {
            let mut found = members
                .iter()
                .filter_map(|(key, member)| Some((key, time_out_of_range(member, inner)?)));
            return found.next().map(|(key, found)| found.below(redact::key(key)));
        }
        (Value::Array(items), Shape::List(inner, _)) if may_hold_times(inner) => {
            let found = items.iter().enumerate();
            let mut found =
                found.filter_map(|(at, item)| Some((at, time_out_of_range(item, inner)?)));
            return found.next().map(|(at, found)| found.below(&format!("[{at}]")));
        }
        (Value::String(text), Shape::Scalar) if !has_a_year_of_four_digits(text) => {
            match schema.scalar() {
                Some(Scalar::Time) => "2006-01-02T15:04:05Z07:00",
                Some(Scalar::MicroTime) => "2006-01-02T15:04:05.000000Z07:00",
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(TimeOutOfRange { path: String::new(), layout })
}

impl TimeOutOfRange {
    fn below(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

fn may_hold_times(schema: Schema) -> bool {
    let is_other = |scalar| !matches!(scalar, Scalar::Time | Scalar::MicroTime);
    !schema.scalar().is_some_and(is_other)
}

/// The first second of the year 0000.
const FIRST_SECOND: i64 = -62_167_219_200;

/// Whether a time, in UTC, is in a year that is written with four digits. The last time that is decoded at all
/// is in the year 9999.
fn has_a_year_of_four_digits(text: &str) -> bool {
    match text.as_bytes().first() {
        // Signs lead years of more digits.
        Some(b'+' | b'-') => false,
        // An offset may make the year before of it.
        Some(b'0') => text.parse().is_ok_and(|at: Timestamp| at.as_second() >= FIRST_SECOND),
        _ => true,
    }
}

/// A value and its place, as Go tells it.
struct Found<'v, 'a> {
    value: &'v Value,
    schema: Schema,
    /// The innermost struct's name.
    owner: &'static str,
    /// The fields on the way, without keys and indices.
    fields: Vec<&'a str>,
}

fn find<'v, 'a>(
    root: &'v Value,
    schema: Schema,
    path: impl IntoIterator<Item = Step<'a>>,
) -> Option<Found<'v, 'a>> {
    let owner = short_name(schema.definition_name()?);
    let mut at = Found { value: root, schema, owner, fields: Vec::new() };
    for step in path {
        (at.value, at.schema) = match (step, at.schema.shape()) {
            (Step::Key(name), Shape::Struct) => {
                at.owner = short_name(at.schema.definition_name()?);
                at.fields.push(name);
                (at.value.get(name)?, at.schema.field(name)?)
            }
            (Step::Key(key), Shape::Map(inner)) => (at.value.get(key)?, inner),
            (Step::Index(index), Shape::List(inner, _)) => (at.value.get(index)?, inner),
            _ => return None,
        };
    }
    Some(at)
}

/// Go's word for a value that is not one of the schema's.
fn unfit(value: &Value, schema: Schema) -> Option<String> {
    let fits = match (schema.shape(), value) {
        (_, Value::Null) | (Shape::Any, _) => true,
        (Shape::Struct | Shape::Map(_), Value::Object(_)) => true,
        (Shape::List(..), Value::Array(_)) => true,
        (Shape::Scalar, value) => match (schema.scalar(), value) {
            (
                None | Some(Scalar::Quantity | Scalar::Special | Scalar::Time | Scalar::MicroTime),
                _,
            ) => true,
            (Some(Scalar::String | Scalar::Bytes), Value::String(_)) => true,
            (Some(Scalar::Bool), Value::Bool(_)) => true,
            (Some(Scalar::Float), Value::Number(_)) => true,
            (Some(Scalar::Int(bits)), Value::Number(number)) => {
                let fits =
                    number.as_i64().is_some_and(|it| bits == 64 || i32::try_from(it).is_ok());
                return (!fits).then(|| format!("number {number}"));
            }
            _ => false,
        },
        _ => false,
    };
    let word = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    (!fits).then(|| word.to_owned())
}

/// The type as Go prints it; named types of text are printed as what they are.
fn go_type(schema: Schema) -> Option<String> {
    Some(match schema.shape() {
        Shape::Struct => {
            let mut parts = schema.definition_name()?.rsplit('.');
            let (name, package) = (parts.next()?, parts.next()?);
            format!("{package}.{name}")
        }
        Shape::Map(inner) => format!("map[string]{}", go_type(inner)?),
        Shape::List(inner, _) => format!("[]{}", go_type(inner)?),
        Shape::Any => return None,
        Shape::Scalar => match schema.scalar()? {
            Scalar::String => "string".to_owned(),
            Scalar::Int(bits) => format!("int{bits}"),
            Scalar::Float => "float64".to_owned(),
            Scalar::Bool => "bool".to_owned(),
            Scalar::Bytes => "[]uint8".to_owned(),
            Scalar::Quantity | Scalar::Special | Scalar::Time | Scalar::MicroTime => return None,
        },
    })
}

fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    fn said(api_version: &str, kind: &str, document: Value, path: &[&str]) -> Option<String> {
        let steps = path.iter().map(|step| match step.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Key(step),
        });
        misfit(&document, schema::of(api_version, kind).unwrap(), steps)
    }

    #[test]
    fn base64_is_read_as_go_reads_it_but_for_a_secrets() {
        let schema = |kind| schema::of("v1", kind).unwrap();
        let mut map = json!({ "binaryData": { "a": "dm\nFs\r\ndWU=\n", "b": "dh==", "c": "d" } });
        normalize(&mut map, schema("ConfigMap"));
        assert_eq!(map, json!({ "binaryData": { "a": "dmFsdWU=", "b": "dg==", "c": "d" } }));
        let at = |key| {
            corrupt_base64(&map, schema("ConfigMap"), [Step::Key("binaryData"), Step::Key(key)])
        };
        assert_eq!((at("a"), at("c")), (None, Some(go::CorruptBase64 { at: 0 })));
        let mut secret = json!({ "data": { "a": "dg==\n", "b": null } });
        normalize(&mut secret, schema("Secret"));
        assert_eq!(secret, json!({ "data": { "a": "dg==\n", "b": "" } }));
    }

    #[test]
    fn a_zero_is_absent_unless_the_field_is_a_pointer() {
        let mut pod = json!({
            "metadata": { "labels": {}, "finalizers": [], "generateName": "", "name": "p" },
            "spec": {
                "hostNetwork": false, "hostUsers": false, "enableServiceLinks": false,
                "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                "securityContext": {}, "nodeSelector": {}, "volumes": [{ "name": "v", "emptyDir": {} }],
                "containers": [{
                    "name": "c", "stdin": false, "workingDir": "", "args": [""], "command": [],
                    "env": [{ "name": "A", "value": "" }], "resources": {}, "image": 5,
                    "securityContext": { "runAsUser": 0, "privileged": false },
                }],
            },
        });
        normalize(&mut pod, schema::of("v1", "Pod").unwrap());
        assert_eq!(
            pod,
            json!({
                "metadata": { "name": "p" },
                "spec": {
                    "hostUsers": false, "enableServiceLinks": false,
                    "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
                    "securityContext": {}, "volumes": [{ "name": "v", "emptyDir": {} }],
                    "containers": [{
                        "name": "c", "args": [""], "env": [{ "name": "A" }], "resources": {},
                        "image": 5, "securityContext": { "runAsUser": 0, "privileged": false },
                    }],
                },
            })
        );
        let mut wrong = json!({ "metadata": { "labels": [] } });
        normalize(&mut wrong, schema::of("v1", "Pod").unwrap());
        assert_eq!(wrong, json!({ "metadata": { "labels": [] } }));
    }

    #[test]
    fn a_value_of_the_wrong_type_gets_gos_message() {
        let env = json!({ "spec": { "containers": [{ "env": [{ "name": "A", "value": 5 }] }] } });
        let path = ["spec", "containers", "0", "env", "0", "value"];
        assert_eq!(
            said("v1", "Pod", env, &path).unwrap(),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string"
        );
        let replicas = |value: Value| {
            let document = json!({ "spec": { "replicas": value } });
            said("apps/v1", "Deployment", document, &["spec", "replicas"])
        };
        let field = "into Go struct field DeploymentSpec.spec.replicas of type int32";
        for (value, found) in [
            (json!("3"), "string"),
            (json!(3.5), "number 3.5"),
            (json!(5_000_000_000_i64), "number 5000000000"),
            (json!([3]), "array"),
        ] {
            assert_eq!(replicas(value).unwrap(), format!("json: cannot unmarshal {found} {field}"));
        }
        for (document, path, wanted) in [
            (
                json!({ "metadata": { "labels": { "a.b": true } } }),
                &["metadata", "labels", "a.b"][..],
                "bool into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({ "metadata": { "labels": "x" } }),
                &["metadata", "labels"],
                "string into Go struct field ObjectMeta.metadata.labels of type map[string]string",
            ),
            (
                json!({ "data": { "pin": 4711 } }),
                &["data", "pin"],
                "number into Go struct field Secret.data of type []uint8",
            ),
            (
                json!({ "metadata": [] }),
                &["metadata"],
                "array into Go struct field Secret.metadata of type v1.ObjectMeta",
            ),
        ] {
            let text = said("v1", "Secret", document, path).unwrap();
            assert_eq!(text, format!("json: cannot unmarshal {wanted}"));
        }
        let fits = json!({ "data": { "a": "no base64" } });
        assert_eq!(said("v1", "Secret", fits, &["data", "a"]), None);
    }

    #[test]
    fn times_that_rfc_3339_cannot_write_are_found_with_their_place() {
        let found = |kind, version, object: Value| {
            let found = time_out_of_range(&object, schema::of(version, kind).unwrap());
            found.map(|found| (found.path.clone(), found.to_string()))
        };
        let condition = |time| json!({ "type": "Ready", "lastTransitionTime": time });
        let status =
            |time| json!({ "status": { "conditions": [condition("x"), condition(time)] } });
        let year = |layout| format!("parsing time as \"{layout}\": cannot parse as \"2006\"");
        for (time, is_bad) in [
            ("2026-01-01T00:00:00Z", false),
            ("0000-01-01T00:00:00Z", false),
            ("0000-01-01T00:00:00-01:00", false),
            ("9999-12-30T22:00:00Z", false),
            ("no time", false),
            ("0000-01-01T00:00:00+01:00", true),
            ("-000001-01-01T00:00:00Z", true),
            ("-000000-01-01T00:00:00Z", true),
            ("+002026-01-01T00:00:00Z", true),
        ] {
            let path = "status.conditions[1].lastTransitionTime".to_owned();
            let wanted = is_bad.then(|| (path, year("2006-01-02T15:04:05Z07:00")));
            assert_eq!(found("Pod", "v1", status(time)), wanted, "{time}");
        }
        let negative = "-000001-01-01T00:00:00Z";
        let lease = json!({ "spec": { "renewTime": negative, "holderIdentity": negative } });
        let wanted = ("spec.renewTime".to_owned(), year("2006-01-02T15:04:05.000000Z07:00"));
        assert_eq!(found("Lease", "coordination.k8s.io/v1", lease), Some(wanted));
        let budget = json!({ "status": { "disruptedPods": { "hunter 2": negative } } });
        let wanted = ("status.disruptedPods.*".to_owned(), year("2006-01-02T15:04:05Z07:00"));
        assert_eq!(found("PodDisruptionBudget", "policy/v1", budget), Some(wanted));
        let entry = json!({ "metadata": { "managedFields": [{ "time": negative }] } });
        let path = found("Secret", "v1", entry).unwrap().0;
        assert_eq!(path, "metadata.managedFields[0].time");
        let map = json!({ "data": { "a": negative }, "metadata": { "labels": { "b": negative } } });
        assert_eq!(found("ConfigMap", "v1", map), None);
    }

    #[test]
    fn nulls_in_maps_and_lists_are_zeros_and_null_fields_stay() {
        let mut pod = json!({
            "metadata": { "labels": { "a": null }, "annotations": null },
            "spec": {
                "nodeSelector": { "b": null },
                "securityContext": { "supplementalGroups": [null] },
                "containers": [{ "args": [null, "x"], "resources": { "limits": { "cpu": null } } }, null],
                "volumes": null,
            },
        });
        normalize(&mut pod, schema::of("v1", "Pod").unwrap());
        assert_eq!(
            pod,
            json!({
                "metadata": { "labels": { "a": "" }, "annotations": null },
                "spec": {
                    "nodeSelector": { "b": "" },
                    "securityContext": { "supplementalGroups": [0] },
                    "containers": [{ "args": ["", "x"], "resources": { "limits": { "cpu": "0" } } }, {}],
                    "volumes": null,
                },
            })
        );
    }
}
