//! What a write costs before the store and after it: decoding, validating, encoding and patching a
//! secret of 1 KiB, as the API server does it.

use coffer_api::kinds::{Kind as _, Secret};
use coffer_api::patch::{self, PatchKind};
use coffer_api::schema;
use coffer_api::schema::read::{self, Budget, Unknown};
use coffer_api::schema::strict::Findings;
use coffer_api::{Document, document};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const VALUE: usize = 1024;

fn secret_json() -> Vec<u8> {
    use base64::Engine as _;
    let bytes: Vec<u8> = (0..VALUE).map(|n| (n * 31 % 251) as u8).collect();
    let value = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!(
        r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"mysecret","namespace":"myns"}},"type":"Opaque","data":{{"value":"{value}"}}}}"#
    )
    .into_bytes()
}

fn parse(json: &[u8]) -> Document {
    Document::new(serde_json::from_slice(json).expect("JSON"))
}

fn decoded() -> Secret {
    parse(&secret_json()).decode().expect("a secret")
}

#[divan::bench]
fn parse_to_document(bencher: Bencher<'_, '_>) {
    let json = secret_json();
    bencher.bench(|| parse(black_box(&json)));
}

#[divan::bench]
fn parse_strictly(bencher: Bencher<'_, '_>) {
    let json = secret_json();
    let schema = schema::of("v1", "Secret");
    bencher.bench(|| {
        let (mut budget, mut findings) = (Budget::of_body(json.len()), Findings::default());
        let text = black_box(&json);
        read::read_json_strict(text, schema, Unknown::Drop, &mut budget, &mut findings)
            .map(Document::new)
            .expect("JSON")
    });
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let document = parse(&secret_json());
    bencher.bench(|| black_box(&document).decode::<Secret>().expect("a secret"));
}

#[divan::bench]
fn decode_validate_encode(bencher: Bencher<'_, '_>) {
    let json = secret_json();
    bencher.bench(|| {
        let mut secret: Secret = parse(black_box(&json)).decode().expect("a secret");
        secret.set_defaults();
        secret.prepare_for_create();
        assert!(secret.validate().is_empty());
        serde_json::to_vec(&secret).expect("JSON")
    });
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let secret = decoded();
    bencher.bench(|| serde_json::to_vec(black_box(&secret)).expect("JSON"));
}

#[divan::bench]
fn erase(bencher: Bencher<'_, '_>) {
    let json = secret_json();
    bencher
        .with_inputs(|| serde_json::from_slice::<serde_json::Value>(&json).expect("JSON"))
        .bench_refs(document::erase);
}

fn patched(bencher: Bencher<'_, '_>, kind: PatchKind, patch: &str) {
    let target = parse(&secret_json());
    let schema = schema::of("v1", "Secret").expect("a schema");
    bencher.with_inputs(|| target.clone()).bench_values(|target| {
        patch::apply(kind, target, black_box(patch.as_bytes()), schema).expect("applies")
    });
}

#[divan::bench]
fn merge_patch(bencher: Bencher<'_, '_>) {
    patched(bencher, PatchKind::Merge, r#"{"metadata":{"labels":{"a":"b"}},"data":{"k":"dg=="}}"#);
}

#[divan::bench]
fn strategic_merge_patch(bencher: Bencher<'_, '_>) {
    let patch = r#"{"metadata":{"labels":{"a":"b"}},"data":{"k":"dg=="}}"#;
    patched(bencher, PatchKind::Strategic, patch);
}

#[divan::bench]
fn json_patch(bencher: Bencher<'_, '_>) {
    let patch = r#"[{"op":"replace","path":"/data/value","value":"dg=="},{"op":"add","path":"/data/k","value":"dg=="}]"#;
    patched(bencher, PatchKind::Json, patch);
}
