//! The bridge from client-side to server-side apply, for kubectl only.
//!
//! Client-side apply keeps what it applied in an annotation. The first `kubectl apply --server-side`
//! of the same object conflicts with what `kubectl apply` owns as an updater; upstream lets those
//! conflicts pass that the annotation explains, and keeps the annotation current afterwards, so that
//! people can go back.

use serde_json::Value;

use super::Writer;
use super::compare;
use super::error::Conflict;
use super::typed;
use crate::document::{Document, erase};
use crate::well_known::annotation;

/// The field manager that `kubectl apply --server-side` is by default.
pub(super) const MANAGER: &str = "kubectl";
const ANNOTATION: &str = annotation::LAST_APPLIED;

/// The conflicts about fields that the annotation does not hold with the live value.
pub(super) fn unexplained(
    conflicts: Vec<Conflict>,
    live: &Value,
    writer: &Writer<'_>,
) -> Vec<Conflict> {
    let Some(last) = last_applied(live, writer.api_version) else { return conflicts };
    let mut explained = typed::fields(last.value(), writer.schema).children;
    let delta = compare::compare_objects(Some(last.value()), live, writer.schema).children();
    for differing in [delta.modified, delta.added, delta.removed] {
        explained.subtract(&differing);
    }
    conflicts.into_iter().filter(|conflict| !explained.contains(&conflict.elements)).collect()
}

fn last_applied(live: &Value, api_version: &str) -> Option<Document> {
    let text = live.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()?;
    let document = Document::new(serde_json::from_str(text).ok()?);
    (document.value()["apiVersion"] == api_version).then_some(document)
}

/// Writes what was applied now into the annotation, if the object has one.
pub(super) fn renew(object: &mut Document, patch: &Document) {
    let Some(annotation) = object
        .value_mut()
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(|annotations| annotations.get_mut(ANNOTATION))
        .filter(|annotation| annotation.as_str().is_some_and(|text| !text.is_empty()))
    else {
        return;
    };
    let mut applied = patch.clone();
    if let Some(Value::Object(annotations)) =
        applied.value_mut().get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
        && let Some(mut old) = annotations.remove(ANNOTATION)
    {
        erase(&mut old);
    }
    // With a line break at the end, as upstream's encoder writes it.
    let text = format!("{}\n", applied.value());
    erase(annotation);
    *annotation = Value::String(text);
}
