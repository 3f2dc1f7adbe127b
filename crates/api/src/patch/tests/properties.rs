//! What holds for every patch and target: no panic, no quoting, and the laws of merging.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// A merge patch from one document to another.
fn diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, value) in to {
        match from.get(name) {
            Some(old) if old == value => {}
            Some(old) => drop(patch.insert(name.clone(), diff(old, value))),
            None => drop(patch.insert(name.clone(), value.clone())),
        }
    }
    Value::Object(patch)
}

/// Field names that mean something to patches, and some that do not.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(
        &[
            "metadata",
            "labels",
            "finalizers",
            "spec",
            "containers",
            "name",
            "env",
            "volumes",
            "image",
            "x",
            "y",
            "op",
            "path",
            "from",
            "value",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "$setElementOrder",
            "$setElementOrder/finalizers",
            "$deleteFromPrimitiveList/finalizers",
            "$deleteFromPrimitiveList/x",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn plain_name() -> impl Strategy<Value = String> {
    prop::sample::select(&["a", "b", "c", "metadata", "spec", "labels"][..]).prop_map(str::to_owned)
}

const CANARY: &str = "CANARY-c2VjcmV0";

fn leaf() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(1),
        json!(-1),
        json!(true),
        json!("a"),
        json!("b"),
        json!(CANARY),
        json!("delete"),
        json!("replace"),
        json!("merge"),
        json!("add"),
        json!("remove"),
        json!("test"),
        json!("move"),
        json!("copy"),
        json!("/spec/x"),
        json!("/spec/0/-1"),
        json!(""),
        json!("/metadata"),
    ])
}

fn tree(names: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = Value> {
    leaf().prop_recursive(5, 60, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(names.clone(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object(names: impl Strategy<Value = String> + Clone + 'static) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(names.clone(), tree(names), 0..5)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn any_body_is_applied_or_refused_without_panic_and_without_quoting(
        target in object(name().boxed()),
        patch in tree(name().boxed()),
        kind in prop::sample::select(vec![PatchKind::Json, PatchKind::Merge, PatchKind::Strategic]),
    ) {
        for patch in [patch.clone(), json!([patch.clone(), patch])] {
            if let Err(error) = patched(kind, target.clone(), &patch) {
                prop_assert!(!error.to_string().contains(CANARY), "{}", error);
            }
        }
    }

    #[test]
    fn bytes_that_are_not_json_are_refused(body in prop::collection::vec(any::<u8>(), 0..40)) {
        for kind in [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic] {
            let _ = apply(kind, Document::new(json!({"a": 1})), &body, pod());
        }
    }

    #[test]
    fn a_merge_patch_of_the_difference_makes_the_other(
        from in object(plain_name().boxed()),
        to in object(plain_name().boxed()),
    ) {
        let (from, to) = (without_nulls(from), without_nulls(to));
        let patch = diff(&from, &to);
        prop_assert_eq!(patched(PatchKind::Merge, from, &patch), Ok(to));
    }

    #[test]
    fn a_merge_patch_applied_twice_is_applied_once(
        target in object(plain_name().boxed()),
        patch in object(plain_name().boxed()),
    ) {
        let once = patched(PatchKind::Merge, target, &patch).expect("objects merge");
        prop_assert_eq!(patched(PatchKind::Merge, once.clone(), &patch), Ok(once));
    }

    #[test]
    fn a_strategic_merge_patch_applied_twice_is_applied_once(
        target in object(name().boxed()),
        patch in object(name().boxed()),
    ) {
        if let Ok(once) = patched(PatchKind::Strategic, target, &patch)
            && let Ok(twice) = patched(PatchKind::Strategic, once.clone(), &patch)
        {
            prop_assert_eq!(twice, once);
        }
    }

    #[test]
    fn a_reordered_list_has_the_same_items(
        live in prop::collection::btree_set("[a-f]", 0..5),
        order in prop::collection::vec("[a-f]", 0..5),
    ) {
        let named = |names: Vec<String>| -> Vec<Value> {
            names.into_iter().map(|name| json!({ "name": name })).collect()
        };
        let live = named(live.into_iter().collect());
        let patch = json!({"spec": {"$setElementOrder/containers": named(order)}});
        let result = strategic(containers(Value::Array(live.clone())), patch).expect("orders");
        let mut names: Vec<_> = result["spec"]["containers"].as_array().expect("list").clone();
        names.sort_by_key(ToString::to_string);
        prop_assert_eq!(names, live);
    }
}
