//! What responses to writes show of secrets: to a caller who may not `get` a secret, its metadata only.
//!
//! A write returns the whole object, also where it changed nothing (`dryRun`, an empty patch), so that the
//! permission to write would include reading. Annotations are payload too, since client-side apply copies
//! the object into one; field managers name the payload's keys. A JSON patch that tests the payload, or
//! copies it to a field that is returned, requires the permission to read as well.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use coffer_api::kinds::Secret;
use coffer_api::status::Failure;
use serde_json::Value;

use super::Handlers;
use crate::authz::Decision;
use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::body::{self, MediaType};
use crate::cache::CachedObject;
use crate::call::Call;
use crate::encoded;
use crate::registry::Listed;

const SECRETS: &str = "secrets";
/// Where a secret's payload is, as JSON pointers.
const PAYLOAD: [&str; 3] = ["/data", "/stringData", "/metadata/annotations"];

impl Handlers {
    /// The object of this name in the response to a write, as the caller may see it.
    ///
    /// # Errors
    /// 500 for a stored object that cannot be read.
    pub(super) fn shown(&self, call: &Call, name: &str, bytes: Bytes) -> Result<Bytes, Failure> {
        if !is_secret(call) || self.may_get(call, &call.path.namespace, name) {
            return Ok(bytes);
        }
        let mut object = call.resource.parse(&bytes)?;
        let meta = object.meta_mut();
        (meta.annotations, meta.managed_fields) = (None, None);
        let Some(secret) = object.of_kind_mut::<Secret>() else {
            return Err(Failure::internal("a secret of another type"));
        };
        secret.data.clear();
        secret.string_data.clear();
        Ok(encoded::erasing(object.encode()))
    }

    /// The list that a deletion of a collection returns.
    ///
    /// # Errors
    /// As for one object.
    pub(super) fn shown_list(&self, call: &Call, mut list: Listed) -> Result<Listed, Failure> {
        if !is_secret(call) {
            return Ok(list);
        }
        for item in &mut list.items {
            if !item.is_decoded || self.may_get(call, &item.namespace, &item.name) {
                continue;
            }
            *item = Arc::new(CachedObject {
                key: item.key.clone(),
                revision: item.revision,
                bytes: self.shown(call, &item.name, item.bytes.clone())?,
                namespace: item.namespace.clone(),
                name: item.name.clone(),
                labels: item.labels.clone(),
                fields: item.fields.clone(),
                is_decoded: item.is_decoded,
            });
        }
        Ok(list)
    }

    /// Checks a JSON patch of a secret by a caller who may not read it.
    ///
    /// # Errors
    /// 403 for one that reads the payload, 400 or 413 for one that cannot be parsed.
    pub(super) fn check_patch(&self, call: &Call, patch: &[u8]) -> Result<(), Failure> {
        let name = &call.path.name;
        if !is_secret(call) || self.may_get(call, &call.path.namespace, name) {
            return Ok(());
        }
        let operations = body::parse(patch, MediaType::Json, None)
            .map_err(|error| error.or(Failure::bad_request))?;
        let operations = operations.value().as_array().map(Vec::as_slice).unwrap_or_default();
        if !operations.iter().any(reads_payload) {
            return Ok(());
        }
        let why = format!(
            "User {:?} cannot read it: a JSON patch that tests, copies or moves its content requires the verb \"get\" on it",
            call.permit.identity().user
        );
        Err(Failure::forbidden(call.resource.group_resource(), name, &why))
    }

    fn may_get(&self, call: &Call, namespace: &str, name: &str) -> bool {
        let asked = Attributes::resource(
            "get",
            ResourceTarget {
                resource: Cow::Borrowed(SECRETS),
                namespace: Cow::Borrowed(namespace),
                name: Cow::Borrowed(name),
                ..Default::default()
            },
        );
        self.core.authorizer.decide(call.permit.identity(), &asked) == Decision::Allow
    }
}

fn is_secret(call: &Call) -> bool {
    call.resource.is::<Secret>()
}

/// Whether an operation reads something of the payload, or something that has it in it.
fn reads_payload(operation: &Value) -> bool {
    let pointer = match operation["op"].as_str() {
        Some("test") => &operation["path"],
        Some("copy" | "move") => &operation["from"],
        Some("add" | "replace" | "remove") => return false,
        _ => return true,
    };
    let Some(pointer) = pointer.as_str() else { return true };
    // What stands before the first slash is ignored where it is applied. Escapes stand for `~` and
    // `/`, which no field of a secret has in its name.
    let pointer = pointer.find('/').map_or("", |start| &pointer[start..]);
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PAYLOAD.iter().any(|payload| within(pointer, payload) || within(payload, pointer))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::reads_payload;

    #[test]
    fn an_operation_that_reads_the_payload_is_seen() {
        for (op, field, pointer, reads) in [
            ("test", "path", "/data/password", true),
            ("test", "path", "/data", true),
            ("test", "path", "", true),
            ("test", "path", "/metadata", true),
            ("test", "path", "/metadata/annotations/a~1b", true),
            ("copy", "from", "x/data/password", true),
            ("copy", "from", "data", true),
            ("test", "path", "/metadata/resourceVersion", false),
            ("test", "path", "/type", false),
            ("copy", "from", "/data/password", true),
            ("move", "from", "/data/password", true),
            ("copy", "from", "/metadata/labels/x", false),
            ("add", "path", "/data/password", false),
            ("replace", "path", "/data", false),
            ("remove", "path", "/data/password", false),
            ("unknown", "path", "/x", true),
        ] {
            assert_eq!(
                reads_payload(&json!({ "op": op, field: pointer })),
                reads,
                "{op} {pointer}"
            );
        }
        assert!(reads_payload(&json!({ "op": "copy", "path": "/metadata/labels/x" })));
        assert!(reads_payload(&json!({ "op": ["test"] })));
    }
}
