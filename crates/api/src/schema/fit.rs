//! Whether a JSON value fits its place: nulls that Go's decoder takes as nothing, and what it says of
//! a value that does not fit.
//!
//! Nothing here prints a value, but for a number that does not fit into an integer field.

use serde_json::{Map, Value};

use super::{Schema, Shape};

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
    /// A Quantity, a time, an IntOrString: read by rules of its own.
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

/// Turns a null that stands for a map's value or a list's item into the zero of its type, as Go's
/// decoder does: `annotations: {note: }` in YAML means an empty note. A null field is no field and
/// needs no turning.
pub fn settle_nulls(value: &mut Value, schema: Schema) {
    match (value, schema.shape()) {
        (Value::Object(fields), Shape::Struct) => {
            for (name, field) in fields {
                if let Some(schema) = schema.field(name) {
                    settle_nulls(field, schema);
                }
            }
        }
        (Value::Object(members), Shape::Map(inner)) => {
            members.values_mut().for_each(|member| settle_member(member, inner));
        }
        (Value::Array(items), Shape::List(inner, _)) => {
            items.iter_mut().for_each(|item| settle_member(item, inner));
        }
        _ => {}
    }
}

fn settle_member(member: &mut Value, schema: Schema) {
    if !member.is_null() {
        settle_nulls(member, schema);
        return;
    }
    *member = match schema.shape() {
        Shape::Struct | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(..) => Value::Array(Vec::new()),
        Shape::Scalar => match schema.scalar() {
            Some(Scalar::Int(_)) => Value::from(0),
            Some(Scalar::Float) => Value::from(0.0),
            Some(Scalar::Bool) => Value::from(false),
            // Of the special ones only quantities stand in maps.
            Some(Scalar::Special) => Value::from("0"),
            _ => Value::from(""),
        },
        Shape::Any => return,
    };
}

/// What Go's decoder says of the value at the end of a path that does not fit its field: which field
/// of which struct, and what it ought to be. `None` where the value fits: what is wrong with it is no
/// matter of types.
pub fn misfit<'a>(
    root: &Value,
    schema: Schema,
    path: impl IntoIterator<Item = Step<'a>>,
) -> Option<String> {
    let (mut value, mut schema) = (root, schema);
    let mut owner = short_name(schema.definition_name()?);
    let mut fields = Vec::new();
    for step in path {
        match (step, schema.shape()) {
            (Step::Key(name), Shape::Struct) => {
                owner = short_name(schema.definition_name()?);
                fields.push(name);
                (value, schema) = (value.get(name)?, schema.field(name)?);
            }
            (Step::Key(key), Shape::Map(inner)) => (value, schema) = (value.get(key)?, inner),
            (Step::Index(at), Shape::List(inner, _)) => (value, schema) = (value.get(at)?, inner),
            _ => return None,
        }
    }
    let (found, wanted) = (unfit(value, schema)?, go_type(schema)?);
    if fields.is_empty() {
        return Some(format!("json: cannot unmarshal {found} into Go value of type {wanted}"));
    }
    let field = fields.join(".");
    Some(format!(
        "json: cannot unmarshal {found} into Go struct field {owner}.{field} of type {wanted}"
    ))
}

/// Go's word for a value that is none of the schema's.
fn unfit(value: &Value, schema: Schema) -> Option<String> {
    let fits = match (schema.shape(), value) {
        (_, Value::Null) | (Shape::Any, _) => true,
        (Shape::Struct | Shape::Map(_), Value::Object(_)) => true,
        (Shape::List(..), Value::Array(_)) => true,
        (Shape::Scalar, value) => match (schema.scalar(), value) {
            (None | Some(Scalar::Special), _) => true,
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
            Scalar::Special => return None,
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
    fn a_value_of_the_wrong_type_is_told_as_go_tells_it() {
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
        settle_nulls(&mut pod, schema::of("v1", "Pod").unwrap());
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
