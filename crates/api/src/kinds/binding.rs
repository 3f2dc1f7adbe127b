//! Binding: how a scheduler tells the API server where a pod shall run. Never stored.

use k8s_openapi::api::core::v1::Binding;

use super::optional::text;
use crate::field::{Error, ErrorList, Path};

/// Everything wrong with a binding; that the pod exists and is unbound is the registry's to check.
pub fn validate(binding: &Binding) -> ErrorList {
    let path = Path::new("target");
    let mut errors = ErrorList::new();
    let kind = text(&binding.target.kind);
    if !matches!(kind, "" | "Node") {
        errors.push(Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if text(&binding.target.name).is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_names_a_node() {
        let check = |target: serde_json::Value| -> Vec<String> {
            let binding = serde_json::from_value(serde_json::json!({ "target": target })).unwrap();
            validate(&binding).iter().map(ToString::to_string).collect()
        };
        assert_eq!(check(serde_json::json!({"kind": "Node", "name": "n"})), [""; 0]);
        assert_eq!(check(serde_json::json!({"name": "n"})), [""; 0]);
        assert_eq!(
            check(serde_json::json!({"kind": "Pod"})),
            [
                "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
                "target.name: Required value",
            ]
        );
    }
}
