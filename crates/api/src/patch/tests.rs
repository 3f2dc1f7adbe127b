mod properties;

use serde_json::{Value, json};

use super::*;
use crate::reason::Reason;
use crate::schema;

fn pod() -> Schema {
    schema::of("v1", "Pod").expect("Pod is served")
}

fn patched(kind: PatchKind, target: Value, patch: &Value) -> Result<Value, PatchError> {
    let body = patch.to_string();
    apply(kind, Document::new(target), body.as_bytes(), pod())
        .map(|document| document.value().clone())
}

fn json_patched(target: Value, patch: Value) -> Result<Value, String> {
    patched(PatchKind::Json, target, &patch).map_err(|error| error.to_string())
}

fn strategic(target: Value, patch: Value) -> Result<Value, String> {
    patched(PatchKind::Strategic, target, &patch).map_err(|error| error.to_string())
}

/// The examples of RFC 6902, appendix A, that have a result.
#[test]
fn json_patch_does_what_its_rfc_shows() {
    for (target, patch, expected) in [
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz", "value": "qux"}]),
            json!({"baz": "qux", "foo": "bar"}),
        ),
        (
            json!({"foo": ["bar", "baz"]}),
            json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
            json!({"foo": ["bar", "qux", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            json!([{"op": "remove", "path": "/baz"}]),
            json!({"foo": "bar"}),
        ),
        (
            json!({"foo": ["bar", "qux", "baz"]}),
            json!([{"op": "remove", "path": "/foo/1"}]),
            json!({"foo": ["bar", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
            json!({"baz": "boo", "foo": "bar"}),
        ),
        (
            json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
            json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
            json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
        ),
        (
            json!({"foo": ["all", "grass", "cows", "eat"]}),
            json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
            json!({"foo": ["all", "cows", "eat", "grass"]}),
        ),
        (
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            json!([{"op": "test", "path": "/baz", "value": "qux"},
                   {"op": "test", "path": "/foo/1", "value": 2}]),
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
        ),
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]),
            json!({"foo": "bar", "baz": "qux"}),
        ),
        (
            json!({"/": 9, "~1": 10}),
            json!([{"op": "test", "path": "/~01", "value": 10}]),
            json!({"/": 9, "~1": 10}),
        ),
        (
            json!({"foo": ["bar"]}),
            json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]),
            json!({"foo": ["bar", ["abc", "def"]]}),
        ),
        (
            json!({"a": {"b": 1}}),
            json!([{"op": "copy", "from": "/a", "path": "/c"}]),
            json!({"a": {"b": 1}, "c": {"b": 1}}),
        ),
    ] {
        assert_eq!(json_patched(target, patch.clone()), Ok(expected), "{patch}");
    }
}

/// What `evanphx/json-patch` allows beyond the RFC, and clients of Kubernetes may rely on.
#[test]
fn json_patch_takes_upstreams_liberties() {
    for (target, patch, expected) in [
        (json!({"l": [1, 2]}), json!([{"op": "remove", "path": "/l/-1"}]), json!({"l": [1]})),
        (
            json!({"l": [1, 2]}),
            json!([{"op": "add", "path": "/l/-1", "value": 3}]),
            json!({"l": [1, 2, 3]}),
        ),
        (json!({}), json!([{"op": "replace", "path": "/a", "value": 1}]), json!({"a": 1})),
        (json!({}), json!([{"op": "test", "path": "/a", "value": null}]), json!({})),
        (json!({"a": 1}), json!([{"op": "replace", "path": "", "value": {}}]), json!({})),
        (json!({"a": 1}), json!(null), json!({"a": 1})),
    ] {
        assert_eq!(json_patched(target, patch.clone()), Ok(expected), "{patch}");
    }
}

#[test]
fn a_json_patch_that_does_not_apply_is_refused_with_upstreams_message() {
    for (patch, error) in [
        (
            json!([{"op": "remove", "path": "/b"}]),
            "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value",
        ),
        (
            json!([{"op": "add", "path": "/b/c", "value": 1}]),
            "add operation does not apply: doc is missing path: \"/b/c\": missing value",
        ),
        (
            json!([{"op": "test", "path": "/a", "value": "CANARY"}]),
            "testing value /a failed: test failed",
        ),
        (
            json!([{"op": "add", "path": "/l/7", "value": 1}]),
            "error in add for path: '/l/7': Unable to access invalid index: 7: invalid index referenced",
        ),
        (
            json!([{"op": "add", "path": "/l/x", "value": 1}]),
            "error in add for path: '/l/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        (
            json!([{"op": "replace", "path": "/l/7", "value": 1}]),
            "replace operation does not apply: doc is missing key: /l/7: missing value",
        ),
        (json!([{"op": "add", "value": 1}]), "add operation failed to decode path: missing value"),
        (json!([{"op": "bogus", "path": "/a"}]), "Unexpected kind: unknown"),
        (
            json!({"op": "add"}),
            "json: cannot unmarshal object into Go value of type jsonpatch.Patch",
        ),
        (
            json!(["CANARY"]),
            "json: cannot unmarshal string into Go value of type jsonpatch.Operation",
        ),
    ] {
        let result = json_patched(json!({"a": "s3cret", "l": [1]}), patch.clone());
        assert_eq!(result, Err(error.to_owned()), "{patch}");
    }
}

/// Without the bound, thirty operations of forty bytes each ask for a gigabyte.
#[test]
fn a_patch_that_copies_a_document_into_itself_over_and_over_is_refused() {
    let doubling: Vec<_> =
        (0..64).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a/{n}")})).collect();
    let error =
        json_patched(json!({"a": {"k": "v"}}), Value::Array(doubling)).expect_err("too big");
    assert!(error.starts_with("Unable to complete the copy"), "{error}");

    let many = vec![json!({"op": "test", "path": "/a", "value": 1}); OPERATIONS_MAX + 1];
    let error = patched(PatchKind::Json, json!({"a": 1}), &Value::Array(many));
    assert_eq!(error, Err(PatchError::TooManyOperations(10_001)));
    let failure = Failure::from(&error.expect_err("it is one"));
    assert_eq!(failure.code, 413);
    assert_eq!(
        failure.message,
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
}

/// A depth of a hundred thousand overflows the stack of the caller that drops the document.
#[test]
fn a_patch_that_moves_a_document_into_itself_over_and_over_is_refused() {
    let down = "/x".repeat(90);
    let nested = (0..90).fold(json!({}), |inner, _| json!({ "x": inner }));
    let mut operations = vec![json!({"op": "add", "path": "/a", "value": nested})];
    // No more of them than fit the memory that the patch may take: it is refused at its first move.
    for _ in 0..10 {
        operations.push(json!({"op": "add", "path": "/b", "value": nested}));
        operations.push(json!({"op": "move", "from": "/a", "path": format!("/b{down}")}));
        operations.push(json!({"op": "move", "from": "/b", "path": "/a"}));
    }
    let result = json_patched(json!({}), Value::Array(operations));
    assert_eq!(result, Err("exceeded max depth".to_owned()));
}

/// RFC 7386, appendix A, where target and patch are objects.
#[test]
fn merge_patch_does_what_its_rfc_shows() {
    for (target, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        let result = patched(PatchKind::Merge, target, &patch);
        assert_eq!(result, Ok(expected), "{patch}");
    }
    let error = patched(PatchKind::Merge, json!({}), &json!(["CANARY"])).expect_err("no object");
    assert_eq!(
        error.to_string(),
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
}

fn containers(list: Value) -> Value {
    json!({"spec": {"containers": list}})
}

#[test]
fn strategic_merge_merges_keyed_lists_and_replaces_others() {
    let live = json!({"spec": {
        "containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
                       {"name": "b", "image": "2"}],
        "tolerations": [{"key": "t"}],
    }});
    let patch = json!({"spec": {
        "containers": [{"name": "a", "image": "9", "env": [{"name": "Y", "value": "2"}]},
                       {"name": "c", "image": "3", "command": null}],
        "tolerations": [{"key": "u"}],
    }});
    assert_eq!(
        strategic(live, patch),
        Ok(json!({"spec": {
            "containers": [
                {"name": "a", "image": "9",
                 "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
                {"name": "c", "image": "3"},
                {"name": "b", "image": "2"}],
            "tolerations": [{"key": "u"}],
        }}))
    );
}

#[test]
fn strategic_merge_obeys_its_directives() {
    let two = || containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]));
    for (target, patch, expected) in [
        (
            two(),
            containers(json!([{"name": "a", "$patch": "delete"}])),
            containers(json!([{"name": "b", "image": "2"}])),
        ),
        (
            two(),
            containers(json!([{"name": "c"}, {"$patch": "replace"}])),
            containers(json!([{"name": "c"}])),
        ),
        (
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            json!({"metadata": {"labels": {"c": "3"}}}),
        ),
        (
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"],
                "$setElementOrder/finalizers": ["d", "a"], "finalizers": ["d"]}}),
            json!({"metadata": {"finalizers": ["d", "a", "c"]}}),
        ),
        (
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"],
                "secret": {"secretName": "s"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}),
        ),
        // What kubectl edit sends for a reordered, changed and deleted container.
        (
            two(),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                "containers": [{"name": "a", "image": "9"}]}}),
            containers(json!([{"name": "b", "image": "2"}, {"name": "a", "image": "9"}])),
        ),
        (
            json!({"spec": {}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}],
                "containers": [{"name": "a", "ports": [{"$patch": "delete", "containerPort": 1}]}]}}),
            containers(json!([{"name": "a", "ports": []}])),
        ),
    ] {
        assert_eq!(strategic(target, patch.clone()), Ok(expected), "{patch}");
    }
}

#[test]
fn strategic_merge_keeps_the_order_of_items_that_only_the_server_has() {
    let live = containers(json!([{"name": "a"}, {"name": "injected"}, {"name": "b"}]));
    let patch = json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
        "containers": [{"name": "b", "image": "2"}]}});
    assert_eq!(
        strategic(live, patch),
        Ok(containers(json!([{"name": "a"}, {"name": "injected"}, {"name": "b", "image": "2"}])))
    );
}

#[test]
fn strategic_merge_refuses_what_contradicts_the_schema_and_quotes_no_value() {
    for (target, patch, error) in [
        (
            containers(json!([{"name": "a"}])),
            containers(json!([{"image": "CANARY"}])),
            "map: map[...] does not contain declared merge key: name",
        ),
        (
            containers(json!([{"name": "a"}])),
            containers(json!(["CANARY"])),
            "list element types are not identical",
        ),
        (
            json!({"spec": {"bogus": {}}}),
            json!({"spec": {"bogus": {"x": "CANARY"}}}),
            "unable to find api field in struct PodSpec for the json field \"bogus\"",
        ),
        (
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "CANARY"}}}),
            "unknown patch type: ... in map: map[...]",
        ),
        (
            json!({"spec": {"volumes": [{"name": "v"}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "secret": {}}]}}),
            "invalid patch format of retainKeys",
        ),
        (
            containers(json!([{"name": "a"}])),
            json!({"spec": {"$setElementOrder/containers": "CANARY"}}),
            "expected a []interface {}, but received a string",
        ),
        (
            containers(json!([{"name": "a"}])),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}],
                "containers": [{"name": "z"}]}}),
            "The order in patch list doesn't match $setElementOrder list",
        ),
    ] {
        assert_eq!(strategic(target, patch.clone()), Err(error.to_owned()), "{patch}");
    }
}

#[test]
fn upstreams_status_comes_of_each_error() {
    let failure = |error: PatchError| Failure::from(&error);
    assert_eq!(failure(PatchError::Malformed("x".into())).code, 400);
    let unmergeable = failure(PatchError::Unmergeable("x".into()));
    assert_eq!((unmergeable.code, unmergeable.reason), (400, Reason::Unknown));
    let invalid = failure(PatchError::NotApplicable("x".into()));
    assert_eq!((invalid.code, invalid.reason), (422, Reason::Invalid));
    assert_eq!(invalid.message, "the server rejected our request due to an error in our request");
}
