//! What holds for every object, set and list: applying, merging, encoding.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn data() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", "[1-3]", 0..4).prop_map(|data| json!(data))
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-e]", 1..5)
        .prop_map(|names| names.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn fields_v1() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(
        &[
            "f:data",
            "f:a",
            ".",
            "k:{\"name\":\"x\"}",
            "v:\"x\"",
            "v:1",
            "i:0",
            "x:y",
            "f",
            "",
            "é:",
        ][..],
    );
    Just(json!({})).prop_recursive(4, 20, 4, move |inner| {
        prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..4)
            .prop_map(|members| json!(members))
    })
}

/// Names are quoted in messages, as they are upstream.
fn with_plain_names(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            for (name, value) in members {
                let inner = with_plain_names(value.take());
                *value = if name == "name" && inner.is_string() { json!("n") } else { inner };
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| *item = with_plain_names(item.take()));
        }
        _ => {}
    }
    value
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop::sample::select(vec![
        json!(null),
        json!(1),
        json!(1.5),
        json!(true),
        json!("CANARY"),
        json!([]),
        json!({}),
    ]);
    let name = prop::sample::select(
        &[
            "metadata",
            "spec",
            "status",
            "containers",
            "name",
            "env",
            "labels",
            "x",
            "managedFields",
            "volumes",
            "ports",
            "containerPort",
            "annotations",
        ][..],
    );
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #[test]
    fn an_applied_secret_has_all_that_was_wanted_and_owns_exactly_that(
        live in data(), first in data(), second in data(),
    ) {
        let live = created(secret(live), &writer("other"));
        let forced = |live: &Document, data: Value| {
            apply(Some(live), &Document::new(secret(data)), &writer("me"), true)
                .expect("forced").object
        };
        let once = forced(&live, first.clone());
        let twice = forced(&once, second.clone());
        for (key, value) in second.as_object().expect("an object") {
            prop_assert_eq!(&twice.value()["data"][key], value);
        }
        for key in first.as_object().expect("an object").keys() {
            let wanted = second.get(key).is_some();
            let others = live.value()["data"][key] == once.value()["data"][key]
                && live.value()["data"].get(key).is_some();
            prop_assert_eq!(
                twice.value()["data"].get(key).is_some(), wanted || others, "{}", key,
            );
        }
        let again = forced(&twice, second);
        prop_assert_eq!(again.value(), twice.value());
    }

    #[test]
    fn merged_lists_hold_every_item_once_with_the_wanted_in_their_order(
        live in names(), wanted in names(),
    ) {
        let schema = schema::of("v1", "Pod").expect("Pod");
        fn refs(names: &[String]) -> Vec<&str> {
            names.iter().map(String::as_str).collect()
        }
        let merged =
            merge::merge(&containers(&refs(&live)), &containers(&refs(&wanted)), schema);
        let merged: Vec<String> = merged["spec"]["containers"].as_array().expect("a list").iter()
            .map(|item| item["name"].as_str().expect("a name").to_owned()).collect();
        let kept: Vec<_> = merged.iter().filter(|name| wanted.contains(name)).cloned().collect();
        prop_assert_eq!(&kept, &wanted);
        let mut all: Vec<_> = live.iter().chain(&wanted).cloned().collect();
        all.sort();
        all.dedup();
        let mut sorted = merged;
        sorted.sort();
        prop_assert_eq!(sorted, all);
    }

    #[test]
    fn a_set_survives_its_encoding(fields in fields_v1()) {
        if let Ok(set) = FieldSet::decode(&fields) {
            prop_assert_eq!(FieldSet::decode(&set.encode()), Ok(set));
        }
    }

    #[test]
    fn set_operations_keep_their_laws(a in fields_v1(), b in fields_v1()) {
        if let (Ok(a), Ok(b)) = (FieldSet::decode(&a), FieldSet::decode(&b)) {
            let mut both = a.clone();
            both.unite(b.clone());
            for path in a.paths() {
                prop_assert!(both.contains(&path));
            }
            let mut rest = both.clone();
            rest.subtract(&b);
            for path in rest.paths() {
                prop_assert!(a.contains(&path) && !b.contains(&path));
            }
            for path in a.intersection(&b).paths() {
                prop_assert!(a.contains(&path) && b.contains(&path));
            }
        }
    }

    #[test]
    fn no_object_makes_tracking_or_applying_panic(old in anything(), new in anything()) {
        let pod = writer_of("v1", "Pod", "me");
        let old = Document::new(old);
        let mut tracked = Document::new(new.clone());
        track_update(Some(&old), &mut tracked, &pod);
        track_update(None, &mut tracked, &pod);
        let mut new = with_plain_names(new);
        if let Some(members) = new.as_object_mut() {
            members.insert("apiVersion".to_owned(), json!("v1"));
            members.insert("kind".to_owned(), json!("Pod"));
        }
        for force in [false, true] {
            if let Err(error) = apply(Some(&old), &Document::new(new.clone()), &pod, force) {
                prop_assert!(!error.to_string().contains("CANARY"), "{}", error);
            }
        }
    }
}
