//! What the writer notes of an object is what the cache would read out of its bytes.

use coffer_api::kinds::Secret;
use coffer_api::schema::fit::Scalar;
use coffer_api::schema::{self, Schema, Shape};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::object::Resources;

/// Structs in structs that are filled.
const DEPTH_MAX: usize = 5;

/// Draws numbers from a seed, so that one value of proptest makes an object of any kind.
struct Draw {
    seed: u64,
    /// Whether no field is left out.
    whole: bool,
}

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % end
    }

    /// A value that fits a schema.
    fn value(&mut self, schema: Schema, depth: usize) -> Value {
        match schema.shape() {
            Shape::Struct if depth == 0 => json!({}),
            Shape::Struct => {
                let fields: Vec<_> = schema.fields().collect();
                let is_drawn = |_: &_| self.whole || self.below(3) > 0;
                let drawn = fields.into_iter().filter(is_drawn).collect::<Vec<_>>();
                let members = drawn
                    .into_iter()
                    .map(|(name, field)| (name.to_owned(), self.value(field, depth - 1)));
                Value::Object(members.collect())
            }
            Shape::Map(inner) => {
                let members: Map<String, Value> = (0..self.below(3))
                    .map(|nth| (format!("k{nth}"), self.value(inner, depth.saturating_sub(1))))
                    .collect();
                members.into()
            }
            Shape::List(item, _) => {
                (0..self.below(3)).map(|_| self.value(item, depth.saturating_sub(1))).collect()
            }
            Shape::Any => json!({}),
            Shape::Scalar => match schema.scalar() {
                Some(Scalar::Int(_)) => self.below(100).into(),
                Some(Scalar::Float) => 0.5.into(),
                Some(Scalar::Bool) => (self.below(2) == 1).into(),
                Some(Scalar::Bytes) => "c2VjcmV0".into(),
                Some(Scalar::Time | Scalar::MicroTime) => "2026-01-02T03:04:05.000000Z".into(),
                Some(Scalar::Quantity | Scalar::Special) => "7".into(),
                _ => ["", "a", "b\"\\", "secret"][self.below(4) as usize].into(),
            },
        }
    }
}

proptest! {
    /// By the writer's note, by the shallow reading and by that of the whole object: for each kind.
    #[test]
    fn the_index_of_a_note_is_the_index_of_the_bytes(seed in 1_u64..) {
        for resource in Resources::all().iter().filter(|resource| resource.is_stored_form()) {
            let info = resource.info;
            let schema = schema::of(&info.api_version(), info.kind).expect(info.kind);
            let draw = |whole| {
                let mut value = Draw { seed, whole }.value(schema, DEPTH_MAX);
                value["apiVersion"] = info.api_version().into();
                value["kind"] = info.kind.into();
                // As all that is stored has one; the stamp goes before it.
                value["metadata"]["name"] = "n".into();
                (resource.parse)(value.to_string().as_bytes())
            };
            // Some fields are required: of a condition, the time at which it changed.
            let object = draw(false).or_else(|_| draw(true)).expect(info.kind);
            let index = TypedIndex {
                head: resource.head.clone(),
                shallow: resource.shallow,
                parse: resource.parse,
            };
            let (noted, bytes) = (entry(&*object), object.encode());
            prop_assert_eq!(&index.entry(&bytes), &Ok(noted.clone()), "{}", info.kind);
            let mut looks = 0;
            let whole = index.whole(&bytes, &mut |typed| {
                looks += 1;
                assert_eq!(typed.type_id(), object.as_any().type_id());
            });
            prop_assert_eq!((&whole, looks), (&Ok(noted.clone()), 1), "{}", info.kind);
            // With its resourceVersion it is the same object.
            let stamped = index.stamp(&bytes, 7).unwrap();
            prop_assert_eq!(index.entry(&stamped), Ok(noted), "{}", info.kind);
        }
    }
}

/// A payload is skipped, whatever it is; the rest has to be of its type.
#[test]
fn a_secret_is_indexed_without_its_payload_being_decoded() {
    let resources = Resources::all();
    let shallow = resources.of::<Secret>().shallow;
    let secret = |data: &str, labels: &str| {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"a","annotations":{data},"labels":{labels}}},"type":"t","data":{data}}}"#
        );
        shallow(text.as_bytes()).map(|object| entry(&*object))
    };
    let found = secret(r#"{"a":[1,{"b":"no base64"}]}"#, r#"{"l":"m"}"#).unwrap();
    assert_eq!(found.labels, [("l".to_owned(), "m".to_owned())].into());
    assert_eq!((&*found.name, found.fields), ("a", vec![("type", "t".to_owned())]));
    assert!(secret("{}", "[]").is_err());
    assert!(secret("{", "{}").is_err(), "what is read over is JSON nevertheless");
}
