//! The OpenAPI documents: what `kubectl explain`, validation and client-side apply read.
//!
//! Pure functions from the schemas of `coffer_api` and the table of served kinds; routing and
//! content negotiation are elsewhere. Everything is made on first use and kept: version 2 as one
//! JSON document, version 3 as one for each group version derived from it, and version 2 once more
//! as the protobuf that every kubectl asks for first.

mod encode;
mod operations;
mod proto;
mod v2;
mod v3;

use std::hash::{DefaultHasher, Hasher};
use std::sync::LazyLock;

use serde_json::{Value, json};

/// The media type that [`v2_proto`] is sent as. Clients ask for it with an `@` in place of the last
/// dot but one; Go cannot parse that as a Content-Type, and upstream does not send it either.
pub const V2_PROTO: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Encoded bytes with the hash that is their ETag.
pub struct Encoded {
    /// The document.
    pub bytes: Vec<u8>,
    /// Upper-case hexadecimal; changes when the bytes do.
    pub hash: String,
}

impl Encoded {
    fn new(bytes: Vec<u8>) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&bytes);
        Self { hash: format!("{:016X}", hasher.finish()), bytes }
    }

    fn json(value: &Value) -> Self {
        Self::new(serde_json::to_vec(value).expect("a JSON tree has string keys"))
    }
}

/// A group version's document; `path` is what comes after `/openapi/v3/`.
struct GroupVersion {
    path: String,
    document: Encoded,
}

struct Documents {
    v2_json: Encoded,
    v2_proto: Encoded,
    v3_index: Encoded,
    v3: Vec<GroupVersion>,
}

static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let v2 = v2::document();
    let v3: Vec<GroupVersion> = v3::documents(&v2)
        .into_iter()
        .map(|(path, value)| GroupVersion { path, document: Encoded::json(&value) })
        .collect();
    Documents {
        v2_json: Encoded::json(&v2),
        v2_proto: Encoded::new(encode::document(&v2)),
        v3_index: Encoded::json(&index(&v3)),
        v3,
    }
});

fn index(documents: &[GroupVersion]) -> Value {
    let paths: serde_json::Map<_, _> = documents
        .iter()
        .map(|GroupVersion { path, document }| {
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            (path.clone(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

/// `/openapi/v2` as JSON.
pub fn v2_json() -> &'static Encoded {
    &DOCUMENTS.v2_json
}

/// `/openapi/v2` as gnostic's protobuf, [`V2_PROTO`].
pub fn v2_proto() -> &'static Encoded {
    &DOCUMENTS.v2_proto
}

/// `/openapi/v3`: where each group version's document is.
pub fn v3_index() -> &'static Encoded {
    &DOCUMENTS.v3_index
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/apps/v1`, …: `path` is `api/v1`, `apis/apps/v1`.
pub fn v3(path: &str) -> Option<&'static Encoded> {
    let found = DOCUMENTS.v3.iter().find(|document| document.path == path)?;
    Some(&found.document)
}

#[cfg(test)]
mod tests;
