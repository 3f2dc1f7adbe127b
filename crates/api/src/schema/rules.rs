//! The merge rules that the served kinds declare, by definition and field.

use crate::kinds;
use crate::kinds::merge::{ListRule, Rules, SHARED};

/// The rules of all kinds, and what they share.
fn all() -> impl Iterator<Item = &'static Rules> {
    kinds::ALL.iter().map(|info| info.rules).chain([&SHARED])
}

/// `core.v1.Pod` of `io.k8s.api.core.v1.Pod`.
fn short(definition: &str) -> &str {
    let tail = definition.strip_prefix("io.k8s.").unwrap_or(definition);
    tail.strip_prefix("api.")
        .or_else(|| tail.strip_prefix("apimachinery.pkg.apis."))
        .unwrap_or(tail)
}

pub(super) fn list(definition: &str, field: &str) -> ListRule {
    let name = short(definition);
    all()
        .flat_map(|rules| rules.lists)
        .find(|(struct_, list, _)| *struct_ == name && *list == field)
        .map_or(ListRule::ATOMIC, |(_, _, rule)| *rule)
}

pub(super) fn is_atomic_struct(definition: &str) -> bool {
    all().any(|rules| rules.atomic_structs.contains(&short(definition)))
}

pub(super) fn is_atomic_map(definition: &str, field: &str) -> bool {
    all().any(|rules| rules.atomic_maps.contains(&(short(definition), field)))
}

pub(super) fn retains_keys(definition: &str, field: &str) -> bool {
    all().any(|rules| rules.retain_keys.contains(&(short(definition), field)))
}

pub(super) fn is_replaced(definition: &str, field: &str) -> bool {
    all().any(|rules| rules.replaced.contains(&(short(definition), field)))
}

pub(super) fn key_default(definition: &str, key: &str) -> Option<&'static str> {
    let name = short(definition);
    all()
        .flat_map(|rules| rules.key_defaults)
        .find(|(struct_, field, _)| *struct_ == name && *field == key)
        .map(|(_, _, value)| *value)
}

pub(super) fn omits_zero(definition: &str, field: &str) -> bool {
    let name = short(definition);
    all()
        .flat_map(|rules| rules.omits_zero)
        .any(|(struct_, fields)| *struct_ == name && fields.contains(&field))
}

pub(super) fn is_held(definition: &str, field: &str) -> bool {
    let name = short(definition);
    all()
        .flat_map(|rules| rules.held)
        .any(|(struct_, fields)| *struct_ == name && fields.contains(&field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::merge::ListType;
    use crate::schema::definitions;

    /// A typo in a name here would silently make a list atomic.
    #[test]
    fn every_rule_names_a_field_that_exists() {
        let definitions = definitions().schemas;
        let exists = |name: &str, field: &str| {
            let full = definitions.keys().find(|full| short(full) == name);
            let full = full.unwrap_or_else(|| panic!("no definition {name}"));
            field.is_empty() || definitions[full]["properties"].get(field).is_some()
        };
        for rules in all() {
            for (name, field, _) in rules.lists {
                assert!(exists(name, field), "{name}.{field}");
            }
            let fields = [rules.atomic_maps, rules.retain_keys, rules.replaced];
            for (name, field) in fields.into_iter().flatten() {
                assert!(exists(name, field), "{name}.{field}");
            }
            for (name, field, _) in rules.key_defaults {
                assert!(exists(name, field), "{name}.{field}");
            }
            for (name, fields) in rules.omits_zero.iter().chain(rules.held) {
                for field in *fields {
                    assert!(exists(name, field), "{name}.{field}");
                }
            }
            for name in rules.atomic_structs {
                assert!(exists(name, ""), "{name}");
            }
        }
    }

    /// Pointers in Go although they are required.
    const POINTERS: &[&str] = &[
        "apps.v1.DeploymentSpec.selector",
        "apps.v1.ReplicaSetSpec.selector",
        "core.v1.ScaleIOVolumeSource.secretRef",
    ];

    /// What must be given is held by value, and so has no owner: a kind that did not say so would make
    /// an owner of who creates it.
    #[test]
    fn every_struct_that_is_required_is_held_by_value() {
        let definitions = definitions().schemas;
        let mut unnamed = Vec::new();
        for (name, definition) in &definitions {
            let fields = definition["required"].as_array().into_iter().flatten();
            for field in fields.filter_map(|field| field.as_str()) {
                let property = &definition["properties"][field];
                let target = property["$ref"].as_str().and_then(|path| path.rsplit('/').next());
                let is_struct = target
                    .and_then(|target| definitions.get(target))
                    .is_some_and(|target| target.get("properties").is_some());
                let is_object = definition.get("x-kubernetes-group-version-kind").is_some();
                let is_part = is_object && matches!(field, "metadata" | "spec" | "status");
                let place = format!("{}.{field}", short(name));
                if is_struct && !is_part && !is_held(name, field) && !POINTERS.contains(&&*place) {
                    unnamed.push(place);
                }
            }
        }
        assert_eq!(unnamed, [""; 0]);
    }

    #[test]
    fn every_key_of_a_keyed_list_is_a_field_of_its_items() {
        let definitions = definitions().schemas;
        for (name, field, rule) in all().flat_map(|rules| rules.lists) {
            let full = definitions.keys().find(|full| short(full) == *name).expect("tested above");
            let Some(item) = definitions[full]["properties"][*field]["items"]["$ref"].as_str()
            else {
                assert_eq!(rule.patch_merge_key, None, "{name}.{field} is a list of scalars");
                continue;
            };
            let item =
                &definitions[item.strip_prefix("#/definitions/").expect("a local reference")];
            let keys = match rule.apply {
                ListType::Map(keys) => keys,
                _ => &[],
            };
            for key in keys.iter().chain(&rule.patch_merge_key) {
                assert!(item["properties"].get(*key).is_some(), "{name}.{field} by {key}");
            }
        }
    }
}
