//! Stored objects that cannot be decoded: accepted by an earlier release, or written past the server.
//!
//! They prevent neither the server from starting nor others from being listed. They are known by their keys:
//! lists of metadata name them, and a user with the right to delete them can do so.

use bytes::Bytes;
use coffer_api::status::Failure;
use coffer_store::Revision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::json;

use crate::cache::CachedObject;

/// What is known of its metadata: its name, its revision, and its uid where that can be read.
pub(crate) fn metadata(object: &CachedObject, revision: Revision) -> ObjectMeta {
    ObjectMeta {
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        uid: uid(&object.bytes),
        resource_version: Some(revision.to_string()),
        ..ObjectMeta::default()
    }
}

/// As [`metadata`], as the JSON of an object: for those that ask for no more.
pub(crate) fn identity(object: &CachedObject, revision: Revision) -> Bytes {
    json!({ "metadata": metadata(object, revision) }).to_string().into()
}

/// What those get that ask for all of it: what upstream says of one.
pub(crate) fn failure(object: &CachedObject) -> Failure {
    Failure::internal(format!(
        "StorageError: corrupt object, Code: 7, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: object not decodable",
        object.key
    ))
}

fn uid(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        uid: Option<String>,
    }
    // What is not asked for is read over, however deep it is and whatever times it has.
    serde_json::from_slice::<Object>(bytes).ok()?.metadata.uid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_read_where_the_rest_cannot_be() {
        let deep = "[".repeat(500) + &"]".repeat(500);
        let text = format!(r#"{{"metadata":{{"uid":"u","x":{deep}}},"status":{deep}}}"#);
        assert_eq!(uid(text.as_bytes()).as_deref(), Some("u"));
        for none in ["", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"uid":1}}"#, "\u{0}\u{1}"] {
            assert_eq!(uid(none.as_bytes()), None, "{none}");
        }
    }
}
