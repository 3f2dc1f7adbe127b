//! What happens to the bytes of a request between the endpoint and the store, without a server: the
//! fuzz targets give it bytes, and nothing may panic, hang or break a promise.
//!
//! The first byte of most inputs chooses a kind; the rest is what a client sends.

pub mod pods;
pub mod redact;

use coffer_api::apply::{self, Writer};
use coffer_api::kinds::{self, Kind, Visitor};
use coffer_api::patch::{self, PatchKind};
use coffer_api::schema::read::{self, Budget, Unknown};
use coffer_api::schema::strict::{self, Findings};
use coffer_api::schema::{self, Schema};
use coffer_api::{Document, go};
use serde_json::{Value, json};

/// The kind that a byte chooses.
fn kind_of(first: u8) -> (String, &'static str) {
    let info = kinds::ALL[usize::from(first) % kinds::ALL.len()];
    (info.api_version(), info.kind)
}

/// A body that has been read, of the kind that `first` chooses.
pub fn body(first: u8, text: &[u8], mut document: Document) {
    let (api_version, kind) = kind_of(first);
    let Some(schema) = schema::of(&api_version, kind) else { return };
    if document.value().is_object() {
        document.value_mut()["apiVersion"] = api_version.into();
        document.value_mut()["kind"] = kind.into();
    }
    // The text need not be JSON, but if it is, it was read before.
    let (mut budget, mut findings) = (Budget::of_body(text.len()), Findings::default());
    let _ = read::read_json_strict(text, Some(schema), Unknown::Drop, &mut budget, &mut findings)
        .map(Document::new);
    drop(findings.into_errors());
    strict::unknown_fields(document.value(), schema);
    object(&document, None);
}

/// A document that says what it is, as a new object and as the successor of itself or of `old`.
pub fn object(document: &Document, old: Option<&Document>) {
    let text = |name: &str| document.value()[name].as_str().unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    kinds::for_each(&mut AsItsKind { named: (api_version, kind), document, old });
}

/// Takes a document as an object of the kind that it names.
struct AsItsKind<'a> {
    named: (&'a str, &'a str),
    document: &'a Document,
    old: Option<&'a Document>,
}

impl Visitor for AsItsKind<'_> {
    fn visit<K: Kind>(&mut self) {
        if (K::INFO.api_version().as_str(), K::INFO.kind) == self.named {
            typed::<K>(self.document, self.old);
        }
    }
}

fn typed<K: Kind>(document: &Document, old: Option<&Document>) {
    let Some(mut object) = decoded::<K>(document) else { return };
    object.set_defaults();
    let encoded = Document::encode(&object).expect("an API type encodes");
    let mut again: K = encoded.decode().expect("what was encoded decodes");
    again.set_defaults();
    let twice = Document::encode(&again).expect("an API type encodes");
    assert!(encoded == twice, "{}: defaulting is not idempotent", K::INFO.kind);

    let schema = schema::of(&K::INFO.api_version(), K::INFO.kind).expect("each kind has one");
    let mut tracked = encoded;
    track(old, &mut tracked, &writer(schema, &K::INFO.api_version(), K::INFO.kind));

    let mut old = old.and_then(decoded::<K>).unwrap_or(again);
    old.set_defaults();
    object.prepare_for_create();
    report(&object.validate());
    let subresources = K::INFO.subresources.iter().map(|sub| Some(sub.name));
    for sub in std::iter::once(None).chain(subresources) {
        let mut successor: K = twice.decode().expect("what was encoded decodes");
        successor.prepare_for_update(&old, sub);
        report(&successor.validate_update(&old, sub));
    }
    object.warnings();
    object.fields();
}

fn decoded<K: Kind>(document: &Document) -> Option<K> {
    let mut document = Document::new(document.value().clone());
    let schema = schema::of(&K::INFO.api_version(), K::INFO.kind)?;
    schema::fit::normalize(document.value_mut(), schema);
    document.decode().ok()
}

fn report(errors: &coffer_api::field::ErrorList) {
    errors.iter().for_each(|error| drop(error.to_string()));
}

fn writer<'a>(schema: Schema, api_version: &'a str, kind: &'a str) -> Writer<'a> {
    let now = jiff::Timestamp::UNIX_EPOCH;
    Writer { schema, api_version, kind, manager: "fuzz", subresource: None, now }
}

/// Writes down who owns which field, as the registry does.
fn track(old: Option<&Document>, new: &mut Document, writer: &Writer<'_>) {
    let managed = apply::managed_fields(old.map(Document::value), new.value(), writer);
    if let Some(metadata) = new.value_mut().get_mut("metadata").and_then(Value::as_object_mut) {
        let entries = managed.entries().unwrap_or_default();
        let entries = serde_json::to_value(entries).expect("an API type encodes");
        metadata.insert("managedFields".to_owned(), entries);
    }
}

/// An object with something in all places that patches have rules for.
fn live(first: u8) -> (String, &'static str, Document) {
    let container = |name: &str| {
        json!({
            "name": name, "image": "i", "args": ["a", "b"],
            "ports": [{ "containerPort": 80, "protocol": "TCP" }],
            "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }],
            "volumeMounts": [{ "name": "v", "mountPath": "/v" }],
        })
    };
    let spec = json!({
        "containers": [container("c"), container("d")],
        "volumes": [{ "name": "v", "secret": { "secretName": "s" } }],
        "tolerations": [{ "key": "t" }], "imagePullSecrets": [{ "name": "p" }],
    });
    let template = json!({ "metadata": { "labels": { "a": "b" } }, "spec": spec });
    let (api_version, kind, rest) = match first % 4 {
        0 => ("v1", "Pod", json!({ "spec": spec, "status": { "phase": "Pending" } })),
        1 => ("v1", "Secret", json!({ "data": { "k": "dg==" }, "type": "Opaque" })),
        2 => ("v1", "ServiceAccount", json!({ "secrets": [{ "name": "s" }] })),
        _ => {
            let selector = json!({ "matchLabels": { "a": "b" } });
            let spec = json!({ "replicas": 1, "selector": selector, "template": template });
            ("apps/v1", "Deployment", json!({ "spec": spec }))
        }
    };
    let mut object = rest;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    object["metadata"] = json!({
        "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
        "labels": { "a": "b" }, "finalizers": ["x/y", "x/z"],
    });
    let mut document = Document::new(object);
    let schema = schema::of(api_version, kind).expect("it is served");
    track(None, &mut document, &writer(schema, api_version, kind));
    (api_version.to_owned(), kind, document)
}

/// A patch of one of three forms.
pub fn patch(form: PatchKind, data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let (api_version, kind, old) = live(*first);
    let schema = schema::of(&api_version, kind).expect("it is served");
    let _ = strict::check_patch(text, form == PatchKind::Json);
    let target = Document::new(old.value().clone());
    match patch::apply(form, target, text, schema) {
        Ok(patched) => {
            strict::unknown_fields(patched.value(), schema);
            object(&patched, Some(&old));
        }
        Err(error) => drop(error.to_string()),
    }
}

/// A server-side apply.
pub fn applied(data: &[u8]) {
    let Some((first, text)) = data.split_first() else { return };
    let Ok(mut intent) = coffer_api::yaml::parse(text) else { return };
    if !intent.value().is_object() {
        return;
    }
    let (api_version, kind, old) = live(*first);
    let schema = schema::of(&api_version, kind).expect("it is served");
    intent.value_mut()["apiVersion"] = api_version.as_str().into();
    intent.value_mut()["kind"] = kind.into();
    let writer = writer(schema, &api_version, kind);
    for (live, force) in [(None, false), (Some(&old), false), (Some(&old), true)] {
        match apply::apply(live, &intent, &Writer { manager: "applier", ..writer }, force) {
            Ok(applied) => object(&applied.object, live),
            Err(error) => drop(error.to_string()),
        }
    }
}

/// Text as errors quote it, and as base64.
pub fn quoted(text: &str) {
    let quoted = go::quoted(text);
    assert!(quoted.starts_with('"') && quoted.ends_with('"') && !quoted.contains('\n'));
    if let Ok(bytes) = go::base64(text) {
        assert!(bytes.len() <= text.len());
    }
}

/// A JSON value of any bytes.
pub fn json(text: &[u8]) -> Option<Document> {
    serde_json::from_slice::<Value>(text).ok().map(Document::new)
}
