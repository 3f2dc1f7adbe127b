//! Bodies that kubectl really sends, the tables against the schemas, and bodies that nobody should
//! send.
//!
//! `tests/kubectl/*.json` are requests of kubectl, each with what the same command prints with
//! `--dry-run=client -o json` (without its nulls). `tests/go/*.json` are objects filled at random
//! and encoded by upstream's own Go types, with the JSON of what the same types decode from that.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::message::{Field, Message, Shape, Type};
use super::tables::{self, UNSTORED};
use super::{Malformed, ProtobufError, decode};
use crate::kinds;
use crate::schema::{Definitions, PREFIX, definitions};

/// apiVersion, kind and message of all kinds that come in bodies.
fn all() -> Vec<(String, &'static str, &'static Message)> {
    let served = kinds::ALL.iter().map(|info| (info.api_version(), info.kind, info.message));
    let unstored = UNSTORED.iter().map(|it| (it.api_version.to_owned(), it.kind, it.message));
    served.chain(unstored).collect()
}

/// A request as it was recorded.
struct Recorded {
    from: String,
    body: Vec<u8>,
    object: Value,
}

fn recorded() -> Vec<Recorded> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protobuf/tests");
    let files = ["kubectl", "go"].into_iter().flat_map(|from| {
        std::fs::read_dir(directory.join(from)).expect("the fixtures are checked in")
    });
    let recorded: Vec<_> = files.map(|file| read(&file.expect("readable").path())).collect();
    assert!(recorded.len() > 20, "the fixtures are found");
    recorded
}

fn read(path: &Path) -> Recorded {
    let text = std::fs::read(path).expect("readable");
    let json: Value = serde_json::from_slice(&text).expect("fixtures are JSON");
    let hex: String =
        json["body"].as_array().expect("lines").iter().filter_map(Value::as_str).collect();
    let body = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect();
    let from = json["from"].as_str().expect("text").to_owned();
    Recorded { from, body, object: json["object"].clone() }
}

/// A field with a length: text, bytes, a message.
fn bytes(number: u16, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u16::try_from(content.len()).expect("test messages are short");
    [&two_bytes(number << 3 | 2), &two_bytes(length), content].concat()
}

fn two_bytes(number: u16) -> [u8; 2] {
    [(number & 0x7f) as u8 | 0x80, (number >> 7) as u8]
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version), bytes(2, kind)].concat();
    [b"k8s\0".to_vec(), bytes(1, type_meta), bytes(2, raw)].concat()
}

fn object(api_version: &str, kind: &str, raw: &[u8]) -> Value {
    let document = decode(&body(api_version, kind, raw)).expect("well formed");
    document.value().clone()
}

#[test]
fn what_clients_send_as_protobuf_is_what_they_would_have_sent_as_json() {
    for Recorded { from, body, object } in recorded() {
        let document = decode(&body).unwrap_or_else(|error| panic!("{from}: {error}"));
        assert_eq!(*document.value(), object, "{from}");
    }
}

/// A kind that is added to the schemas, or a field that a newer `k8s-openapi` has, must not be
/// dropped silently from what client-go sends.
#[test]
fn the_tables_and_the_schemas_know_the_same_kinds_and_fields() {
    let Definitions { schemas, kinds } = definitions();
    let mut comparison = Comparison { schemas, seen: BTreeSet::new() };
    let mut compared = 0;
    for (name, gvk) in kinds {
        let answered_only = gvk.kind.ends_with("List") || gvk.kind.starts_with("API");
        if answered_only || gvk.kind == "Status" {
            continue;
        }
        let message = tables::message(gvk.api_version, gvk.kind)
            .unwrap_or_else(|| panic!("no table for {} {}", gvk.api_version, gvk.kind));
        comparison.structs(&name, message);
        compared += 1;
    }
    assert_eq!(compared, all().len() + 1, "the tables have kinds that the schemas do not know");
}

struct Comparison {
    schemas: Map<String, Value>,
    seen: BTreeSet<String>,
}

impl Comparison {
    fn structs(&mut self, name: &str, message: &'static Message) {
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        let properties = self.schemas[name]["properties"].as_object().expect(name).clone();
        let fields = members(message);
        let mut expected: BTreeSet<_> = properties.keys().map(String::as_str).collect();
        if properties.contains_key("metadata") || name.ends_with("DeleteOptions") {
            // The envelope has them.
            expected.remove("apiVersion");
            expected.remove("kind");
        }
        let found: BTreeSet<_> = fields.iter().map(|field| field.name).collect();
        assert_eq!(found, expected, "fields of {name}");
        for field in fields {
            let place = format!("{name}.{}", field.name);
            self.shape(&place, &properties[field.name], field.shape);
        }
    }

    fn shape(&mut self, place: &str, schema: &Value, shape: Shape) {
        match shape {
            Shape::Given(of) | Shape::Nonzero(of) => self.type_of(place, schema, of),
            Shape::List(of) => self.type_of(place, &schema["items"], of),
            Shape::Map(of) => self.type_of(place, &schema["additionalProperties"], of),
            Shape::Inline(_) => panic!("{place}: members() takes these apart"),
        }
    }

    fn type_of(&mut self, place: &str, schema: &Value, of: Type) {
        let definition = schema["$ref"].as_str().and_then(|path| path.strip_prefix(PREFIX));
        let short = definition.map(|name| name.rsplit('.').next().expect("names have a last part"));
        let expected = |kind: &str, format: Option<&str>| {
            assert_eq!(schema["type"], kind, "{place}");
            assert_eq!(schema["format"].as_str(), format, "{place}");
        };
        match of {
            Type::Nested(message) => self.structs(definition.expect(place), message),
            Type::Bool => expected("boolean", None),
            Type::Int => assert_eq!(schema["type"], "integer", "{place}"),
            Type::Text => expected("string", None),
            Type::Bytes => expected("string", Some("byte")),
            Type::TextList => assert_eq!(schema["items"]["type"], "string", "{place}"),
            Type::Time => assert_eq!(short, Some("Time"), "{place}"),
            Type::MicroTime => assert_eq!(short, Some("MicroTime"), "{place}"),
            Type::Quantity => assert_eq!(short, Some("Quantity"), "{place}"),
            Type::IntOrString => assert_eq!(short, Some("IntOrString"), "{place}"),
            Type::Json => assert_eq!(short, Some("FieldsV1"), "{place}"),
        }
    }
}

/// The fields as JSON has them, those of inlined messages among them.
fn members(message: &'static Message) -> Vec<&'static Field> {
    let members = message.0.iter().map(|field| match field.shape {
        Shape::Inline(inner) => members(inner),
        _ => vec![field],
    });
    members.flatten().collect()
}

/// Decoding recurses, and finds fields by binary search.
#[test]
fn no_message_contains_itself_and_each_is_sorted_by_number() {
    fn depth(message: &'static Message, above: &mut Vec<*const Message>) -> usize {
        let address = std::ptr::from_ref(message);
        assert!(!above.contains(&address), "a message contains itself");
        assert!(message.0.is_sorted_by(|a, b| a.number < b.number));
        above.push(address);
        let inner = message.0.iter().map(|field| match field.shape {
            Shape::Inline(inner) => depth(inner, above),
            Shape::Given(Type::Nested(inner))
            | Shape::List(Type::Nested(inner))
            | Shape::Map(Type::Nested(inner)) => depth(inner, above),
            _ => 0,
        });
        let deepest = inner.max().unwrap_or(0);
        above.pop();
        deepest + 1
    }
    let deepest = all().iter().map(|kind| depth(kind.2, &mut Vec::new())).max();
    assert_eq!(deepest, Some(11), "a Deployment's pod template has the deepest fields");
}

#[test]
fn delete_options_come_in_the_version_of_any_group() {
    let options = [vec![0x08, 0], bytes(4, "Foreground"), bytes(5, "All")].concat();
    for api_version in ["v1", "apps/v1", "policy/v1", "meta.k8s.io/v1"] {
        let expected = json!({
            "apiVersion": api_version, "kind": "DeleteOptions",
            "gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "dryRun": ["All"],
        });
        assert_eq!(object(api_version, "DeleteOptions", &options), expected);
    }
}

#[test]
fn an_object_without_fields_is_its_type_alone() {
    let expected = json!({ "apiVersion": "v1", "kind": "Secret" });
    assert_eq!(object("v1", "Secret", &[]), expected);
    let without_raw = [b"k8s\0".to_vec(), bytes(1, [bytes(1, "v1"), bytes(2, "Secret")].concat())];
    assert_eq!(*decode(&without_raw.concat()).unwrap().value(), expected);
}

#[test]
fn the_last_scalar_counts_and_parts_of_a_message_add_up() {
    let name = |text: &str| bytes(1, bytes(1, text));
    let raw = [name("first"), bytes(1, bytes(3, "myns")), name("second")].concat();
    let metadata = json!({ "name": "second", "namespace": "myns" });
    assert_eq!(object("v1", "Secret", &raw)["metadata"], metadata);
    let emptied = [raw, name("")].concat();
    assert_eq!(object("v1", "Secret", &emptied)["metadata"], json!({ "namespace": "myns" }));
}

#[test]
fn a_map_entry_may_lack_its_key_or_value_and_the_last_of_a_key_counts() {
    let entry = |key: &str, value: &str| bytes(2, [bytes(1, key), bytes(2, value)].concat());
    let raw = [entry("a", "1"), bytes(2, bytes(1, "b")), bytes(2, bytes(2, "2")), entry("a", "3")];
    let expected = json!({ "": "Mg==", "a": "Mw==", "b": "" });
    assert_eq!(object("v1", "Secret", &raw.concat())["data"], expected);
}

#[test]
fn repeated_numbers_may_be_packed() {
    // spec.securityContext.supplementalGroups
    let groups = [bytes(4, [1, 0x80, 1]), vec![0x20, 5]].concat();
    let pod = object("v1", "Pod", &bytes(2, bytes(14, groups)));
    assert_eq!(pod["spec"]["securityContext"]["supplementalGroups"], json!([1, 128, 5]));
}

#[test]
fn fields_of_a_newer_client_are_skipped() {
    let newer =
        [vec![0xf8, 0x7f, 1], bytes(15, "x"), vec![0x7b, 0x08, 1, 0x7c], bytes(3, "Opaque")];
    let expected = json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque" });
    assert_eq!(object("v1", "Secret", &newer.concat()), expected);
}

#[test]
fn what_is_no_envelope_is_refused_in_upstreams_words() {
    let refused = |bytes: &[u8]| decode(bytes).unwrap_err();
    assert_eq!(refused(b"").to_string(), "empty data");
    assert_eq!(refused(b"k8s\0").to_string(), "empty body");
    assert_eq!(
        refused(b"{\"kind\":\"Secret\"}").to_string(),
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    );
    assert_eq!(refused(b"k8s\0\x0a\x05"), ProtobufError::Envelope(Malformed::Truncated));
    assert_eq!(refused(&body("v1", "", &[])), ProtobufError::MissingType("Kind"));
    assert_eq!(refused(&body("", "Secret", &[])), ProtobufError::MissingType("apiVersion"));
    let wrapped = [body("v1", "Secret", &[]), bytes(3, "gzip")].concat();
    assert_eq!(refused(&wrapped), ProtobufError::ContentEncoding);
    assert_eq!(
        refused(&body("apps/v1", "Secret", &[])).to_string(),
        "no kind \"Secret\" is registered for version \"apps/v1\""
    );
}

#[test]
fn errors_name_the_field_and_nothing_of_its_value() {
    let refused = |kind: &str, raw: &[u8]| decode(&body("v1", kind, raw)).unwrap_err().to_string();
    let not_text = bytes(1, b"hunter2\xff");
    let container = bytes(2, [bytes(1, "a"), bytes(7, bytes(2, b"hunter2\xff"))].concat());
    let pod = bytes(2, [bytes(2, bytes(1, "b")), container].concat());
    assert_eq!(refused("Pod", &pod), "spec.containers[1].env[0].value: invalid UTF-8");
    assert_eq!(refused("Secret", &bytes(1, not_text)), "metadata.name: invalid UTF-8");
    // The key and the value of an entry.
    assert_eq!(refused("Secret", &bytes(2, bytes(1, b"hunter2\xff"))), "data: invalid UTF-8");
    assert_eq!(refused("Secret", &bytes(2, b"\x0a\x10hunter2")), "data: unexpected EOF");
    assert_eq!(refused("Secret", &[0x10, 1]), "data: wrong wire type");
    assert_eq!(refused("Secret", &[0x12, 9]), "object: unexpected EOF");
    // Inlined on the way: spec.volumes[0].volumeSource.secret.
    let volume = bytes(1, [bytes(1, "v"), bytes(2, bytes(6, bytes(1, b"\xff")))].concat());
    assert_eq!(
        refused("Pod", &bytes(2, volume)),
        "spec.volumes[0].secret.secretName: invalid UTF-8"
    );
    let fields = bytes(1, bytes(17, bytes(7, bytes(1, "{hunter2"))));
    assert_eq!(refused("Secret", &fields), "metadata.managedFields[0].fieldsV1: invalid JSON");
}

/// A body cut off anywhere is refused, or is a shorter object: it may end between two fields.
#[test]
fn a_body_cut_off_anywhere_never_panics() {
    for Recorded { body, .. } in recorded() {
        for end in 0..body.len() {
            let _ = decode(&body[..end]);
        }
    }
}

fn kinds() -> impl Strategy<Value = (String, &'static str)> {
    proptest::sample::select(all()).prop_map(|(api_version, kind, _)| (api_version, kind))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode(&bytes);
        let _ = decode(&[b"k8s\0".as_slice(), &bytes].concat());
    }

    #[test]
    fn an_arbitrary_message_of_any_kind_never_panics(
        (api_version, kind) in kinds(),
        raw in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        let _ = decode(&body(&api_version, kind, &raw));
    }

    #[test]
    fn a_mutated_body_never_panics(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        thread_local!(static RECORDED: Vec<Recorded> = recorded());
        let mut body = RECORDED.with(|all| all[which.index(all.len())].body.clone());
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        let _ = decode(&body);
        let removed = cut.index(body.len());
        body.remove(removed);
        let _ = decode(&body);
    }
}
