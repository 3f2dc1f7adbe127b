mod properties;

use serde_json::json;

use super::*;
use crate::reason::Reason;
use crate::schema;
use crate::status::Failure;
use crate::subresource::SubresourceName;

fn writer(manager: &str) -> Writer<'_> {
    writer_of("v1", "Secret", manager)
}

fn writer_of<'a>(api_version: &'a str, kind: &'a str, manager: &'a str) -> Writer<'a> {
    Writer {
        schema: schema::of(api_version, kind).expect(kind),
        api_version,
        kind,
        manager,
        subresource: None,
        now: "2026-01-01T00:00:00Z".parse().expect("a time"),
    }
}

fn track_update(old: Option<&Document>, new: &mut Document, writer: &Writer<'_>) {
    let managers = tracked(old.map(Document::value), new.value(), writer);
    managers.write(new.value_mut());
}

fn secret(data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"},
        "data": data,
    })
}

fn created(object: Value, writer: &Writer<'_>) -> Document {
    let mut document = Document::new(object);
    track_update(None, &mut document, writer);
    document
}

fn updated(old: &Document, object: Value, writer: &Writer<'_>) -> Document {
    let mut document = Document::new(object);
    track_update(Some(old), &mut document, writer);
    document
}

fn applied(live: Option<&Document>, patch: Value, manager: &str) -> Result<Document, ApplyError> {
    apply(live, &Document::new(patch), &writer(manager), false).map(|applied| applied.object)
}

/// What each manager owns, without the rest of the entries.
fn owners(document: &Document) -> Value {
    let entries = &document.value()["metadata"]["managedFields"];
    let entries = entries.as_array().into_iter().flatten();
    entries
        .map(|entry| {
            let name = format!(
                "{} {}",
                entry["manager"].as_str().unwrap_or_default(),
                entry["operation"].as_str().unwrap_or_default(),
            );
            (name, entry["fieldsV1"].clone())
        })
        .collect()
}

#[test]
fn the_creator_of_a_secret_owns_its_keys_and_nothing_the_server_sets() {
    let mut object = secret(json!({"password": "cA==", "username": "dQ=="}));
    object["type"] = json!("Opaque");
    object["metadata"]["labels"] = json!({"app": "x"});
    object["metadata"]["uid"] = json!("u");
    let document = created(object, &writer("kubectl-create"));
    assert_eq!(
        document.value()["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {".": {}, "f:password": {}, "f:username": {}},
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:type": {},
            },
        }])
    );
}

/// A struct that Go holds by value has no owner where it always was, and its maker's in an item that
/// was not there before.
#[test]
fn the_resources_of_a_new_container_are_its_makers_if_there_are_none() {
    let pod = |names: &[&str]| {
        let containers: Vec<_> =
            names.iter().map(|name| json!({"name": name, "resources": {}})).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"containers": containers},
        })
    };
    let owned = json!({".": {}, "f:name": {}, "f:resources": {}});
    let writer = |manager| writer_of("v1", "Pod", manager);
    let first = created(pod(&["a"]), &writer("first"));
    let both = updated(&first, pod(&["a", "b"]), &writer("second"));
    assert_eq!(
        owners(&both),
        json!({
            "first Update": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": owned}}},
            "second Update": {"f:spec": {"f:containers": {"k:{\"name\":\"b\"}": owned}}},
        })
    );
    // Left out or empty, it is the same.
    let mut without = pod(&["a", "b"]);
    without["spec"]["containers"][0].as_object_mut().expect("an object").remove("resources");
    let third = updated(&both, without, &writer("third"));
    assert_eq!(owners(&third).get("third Update"), None);
}

/// As upstream shows it: `f:template` and `f:source` have an owner of their fields and none of themselves.
#[test]
fn a_struct_that_go_holds_by_value_has_no_owner_in_any_kind() {
    let spec = json!({"containers": [{"name": "c"}]});
    let c = json!({"k:{\"name\":\"c\"}": {".": {}, "f:name": {}}});
    for (version, kind, body, owned) in [
        (
            "v1",
            "PodTemplate",
            json!({"template": {"metadata": {"labels": {"a": "b"}}, "spec": spec}}),
            json!({"f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
                "f:spec": {"f:containers": c},
            }}),
        ),
        (
            "apps/v1",
            "ReplicaSet",
            json!({"spec": {"template": {"spec": spec}}}),
            json!({"f:spec": {"f:template": {"f:spec": {"f:containers": c}}}}),
        ),
        // A pointer.
        (
            "v1",
            "ReplicationController",
            json!({"spec": {"template": {"spec": spec}}}),
            json!({"f:spec": {"f:template": {".": {}, "f:spec": {".": {}, "f:containers": {".": {}, "k:{\"name\":\"c\"}": {".": {}, "f:name": {}}}}}}}),
        ),
        (
            "v1",
            "Event",
            json!({"involvedObject": {"kind": "Pod"}, "source": {"component": "kubelet"}}),
            json!({"f:involvedObject": {}, "f:source": {"f:component": {}}}),
        ),
    ] {
        let mut object = body;
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        object["metadata"] = json!({"name": "x"});
        let document = created(object, &writer_of(version, kind, "m"));
        assert_eq!(owners(&document), json!({"m Update": owned}), "{kind}");
    }
}

/// What upstream records for `kubectl run`, as its users see it in every pod.
#[test]
fn the_creator_of_a_pod_owns_items_by_key_and_not_the_spec_itself() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "containers": [{
                "name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            }],
            "tolerations": [{"key": "t"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
        "status": {"phase": "Pending"},
    });
    let document = created(pod, &writer_of("v1", "Pod", "kubectl-run"));
    assert_eq!(
        owners(&document),
        json!({"kubectl-run Update": {"f:spec": {
            "f:containers": {"k:{\"name\":\"c\"}": {
                ".": {},
                "f:env": {".": {}, "k:{\"name\":\"A\"}": {
                    ".": {}, "f:name": {},
                    "f:valueFrom": {".": {}, "f:secretKeyRef": {}},
                }},
                "f:image": {},
                "f:name": {},
                "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                    ".": {}, "f:containerPort": {}, "f:protocol": {},
                }},
            }},
            "f:tolerations": {},
            "f:volumes": {".": {}, "k:{\"name\":\"v\"}": {".": {}, "f:emptyDir": {}, "f:name": {}}},
        }}})
    );
}

#[test]
fn an_update_takes_over_what_it_changes_and_leaves_the_rest() {
    let first = created(secret(json!({"a": "MQ==", "b": "Mg=="})), &writer("one"));
    let mut next = first.value().clone();
    next["data"] = json!({"a": "OQ==", "b": "Mg==", "c": "Mw=="});
    let second = updated(&first, next, &writer("two"));
    assert_eq!(
        owners(&second),
        json!({
            "one Update": {"f:data": {".": {}, "f:b": {}}},
            "two Update": {"f:data": {"f:a": {}, "f:c": {}}},
        })
    );

    let mut without = second.value().clone();
    without["data"] = json!({"a": "OQ=="});
    let third = updated(&second, without, &writer("three"));
    assert_eq!(
        owners(&third),
        json!({"one Update": {"f:data": {}}, "two Update": {"f:data": {"f:a": {}}}})
    );
}

#[test]
fn a_status_update_owns_only_status_and_records_its_subresource() {
    let spec = Writer {
        now: "2026-01-01T00:00:01Z".parse().expect("a time"),
        ..writer_of("v1", "Pod", "user")
    };
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n"}});
    let first = created(pod, &spec);
    let status = Writer { subresource: Some(SubresourceName::Status), manager: "kubelet", ..spec };
    let mut next = first.value().clone();
    next["status"] = json!({
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
    });
    let second = updated(&first, next, &status);
    let entries = second.value()["metadata"]["managedFields"].as_array().expect("a list");
    assert_eq!(entries.len(), 2);
    let entry = entries.iter().find(|entry| entry["manager"] == "kubelet").expect("an entry");
    assert_eq!(entry["subresource"], "status");
    assert_eq!(
        entry["fieldsV1"],
        json!({"f:status": {
            "f:conditions": {
                ".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}, "f:type": {}},
            },
            "f:phase": {},
        }})
    );
}

#[test]
fn clients_may_end_the_tracking_and_may_not_forge_it_through_a_subresource() {
    let first = created(secret(json!({"a": "MQ=="})), &writer("one"));
    for reset in [json!([]), json!([{}])] {
        let mut next = first.value().clone();
        next["metadata"]["managedFields"] = reset;
        let second = updated(&first, next.clone(), &writer("two"));
        assert!(managers::field(second.value()).is_none());
        let through_status = Writer { subresource: Some(SubresourceName::Status), ..writer("two") };
        assert_eq!(owners(&updated(&first, next, &through_status)), owners(&first));
    }
    // Lists that cannot be read, or were left out, change nothing.
    for bad in [json!(null), json!([{"manager": "x"}]), json!([1]), json!("x")] {
        let mut next = first.value().clone();
        next["metadata"]["managedFields"] = bad;
        assert_eq!(owners(&updated(&first, next, &writer("two"))), owners(&first));
    }
}

fn with_fields_of_depth(depth: usize) -> Value {
    let fields = (1..depth).fold(json!({}), |inner, _| json!({ "f:a": inner }));
    let mut object = secret(json!({"a": "MQ=="}));
    object["metadata"]["managedFields"] = json!([{ "manager": "deep", "operation": "Update",
        "apiVersion": "v2", "fieldsType": "FieldsV1", "fieldsV1": fields }]);
    object
}

/// Deeper ones could be stored, and made every list of the kind unreadable for clients in Rust, or the object
/// for the server itself.
#[test]
fn managed_fields_that_are_nested_too_deeply_count_as_not_given() {
    let first = created(secret(json!({"a": "MQ=="})), &writer("one"));
    let deepest = with_fields_of_depth(FIELDS_NESTING_MAX);
    let kept = updated(&first, deepest.clone(), &writer("two"));
    assert!(owners(&kept)["deep Update"].is_object(), "{}", owners(&kept));
    for depth in [FIELDS_NESTING_MAX + 1, 127, 1000] {
        let too_deep = with_fields_of_depth(depth);
        assert_eq!(owners(&updated(&first, too_deep.clone(), &writer("two"))), owners(&first));
        // Those of an earlier release go with the next write.
        let old = Document::new(too_deep.clone());
        let healed = updated(&old, too_deep.clone(), &writer("two"));
        assert!(managers::field(healed.value()).is_none());
        let mut dropped = Document::new(too_deep);
        drop_deep_managed_fields(&mut dropped);
        assert!(managers::field(dropped.value()).is_none());
    }
    let mut same = Document::new(deepest.clone());
    drop_deep_managed_fields(&mut same);
    assert_eq!(*same.value(), deepest);
    for odd in [json!([]), json!(7), json!({ "metadata": [] })] {
        let mut same = Document::new(odd.clone());
        drop_deep_managed_fields(&mut same);
        assert_eq!(*same.value(), odd);
    }
}

#[test]
fn an_update_without_change_leaves_managed_fields_as_they_are() {
    let first = created(secret(json!({"a": "MQ=="})), &writer("one"));
    let later = Writer { now: "2027-01-01T00:00:00Z".parse().expect("a time"), ..writer("one") };
    let second = updated(&first, first.value().clone(), &later);
    assert_eq!(first.value(), second.value());
}

#[test]
fn more_than_ten_updaters_become_ancient_changes() {
    let mut document = created(secret(json!({"k0": "MQ=="})), &writer("m0"));
    for n in 1..15 {
        let name = format!("m{n:02}");
        let now = Timestamp::from_second(1_800_000_000 + n).expect("a time");
        let writer = Writer { now, ..writer(&name) };
        let mut next = document.value().clone();
        next["data"][format!("k{n}")] = json!("MQ==");
        document = updated(&document, next, &writer);
    }
    let owners = owners(&document);
    assert_eq!(owners.as_object().map(serde_json::Map::len), Some(10));
    let ancient = &owners["ancient-changes Update"]["f:data"];
    assert!(ancient.get("f:k0").is_some() && ancient.get("f:k5").is_some(), "{ancient}");
    assert!(owners.get("m14 Update").is_some());
}

#[test]
fn an_applier_owns_what_it_wants_and_removes_what_it_wants_no_more() {
    let first = applied(None, secret(json!({"a": "MQ==", "b": "Mg=="})), "me").expect("applies");
    assert_eq!(owners(&first), json!({"me Apply": {"f:data": {"f:a": {}, "f:b": {}}}}));
    let second = applied(Some(&first), secret(json!({"b": "Mg=="})), "me").expect("applies");
    assert_eq!(second.value()["data"], json!({"b": "Mg=="}));
    assert_eq!(owners(&second), json!({"me Apply": {"f:data": {"f:b": {}}}}));
    let third = applied(Some(&second), secret(json!(null)), "me").expect("applies");
    assert_eq!(third.value()["data"], json!({}));
    assert_eq!(third.value()["metadata"]["name"], "s");
}

#[test]
fn two_appliers_of_one_value_own_it_together_until_both_let_go() {
    let first = applied(None, secret(json!({"a": "MQ=="})), "one").expect("applies");
    let second = applied(Some(&first), secret(json!({"a": "MQ=="})), "two").expect("applies");
    assert_eq!(
        owners(&second),
        json!({
            "one Apply": {"f:data": {"f:a": {}}}, "two Apply": {"f:data": {"f:a": {}}},
        })
    );
    let empty = || json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    let third = applied(Some(&second), empty(), "one").expect("applies");
    assert_eq!(third.value()["data"], json!({"a": "MQ=="}));
    assert_eq!(owners(&third), json!({"two Apply": {"f:data": {"f:a": {}}}}));
    let fourth = applied(Some(&third), empty(), "two").expect("applies");
    assert_eq!(fourth.value().get("data"), None);
}

#[test]
fn a_conflict_names_manager_and_field_and_no_value_and_force_takes_over() {
    let live = created(
        secret(json!({"foo": "CANARYb2xk", "bar": "CANARYb2xk"})),
        &writer("kubectl-client-side-apply"),
    );
    let error = applied(Some(&live), secret(json!({"foo": "CANARYbmV3"})), "me").err();
    let error = error.expect("it conflicts");
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using v1: \
         .data.foo"
    );
    let failure = Failure::from(&error);
    assert_eq!((failure.code, failure.reason), (409, Reason::Conflict));
    let causes = failure.details.and_then(|details| details.causes).expect("causes");
    assert_eq!(causes[0].reason.as_deref(), Some("FieldManagerConflict"));
    assert_eq!(causes[0].field.as_deref(), Some(".data.foo"));
    assert_eq!(
        causes[0].message.as_deref(),
        Some("conflict with \"kubectl-client-side-apply\" using v1")
    );

    let both = secret(json!({"foo": "CANARYbmV3", "bar": "CANARYbmV3"}));
    let error = applied(Some(&live), both.clone(), "me").expect_err("it conflicts");
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using v1:\n\
         - .data.bar\n- .data.foo"
    );
    let forced = apply(Some(&live), &Document::new(both), &writer("me"), true).expect("forced");
    assert_eq!(
        owners(&forced.object),
        json!({
            "me Apply": {"f:data": {"f:bar": {}, "f:foo": {}}},
            "kubectl-client-side-apply Update": {"f:data": {}},
        })
    );
}

#[test]
fn kubectl_takes_over_what_its_own_client_side_apply_wrote() {
    let mut old = secret(json!({"foo": "b2xk", "theirs": "eA=="}));
    let last = secret(json!({"foo": "b2xk"})).to_string();
    old["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let live = created(old, &writer("kubectl-client-side-apply"));
    let new = applied(Some(&live), secret(json!({"foo": "bmV3"})), "kubectl").expect("no conflict");
    assert_eq!(new.value()["data"]["foo"], "bmV3");
    let annotation =
        &new.value()["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert_eq!(*annotation, json!(format!("{}\n", secret(json!({"foo": "bmV3"})))));

    let error = applied(Some(&live), secret(json!({"theirs": "eQ=="})), "kubectl").err();
    assert!(matches!(error, Some(ApplyError::Conflicts(conflicts)) if conflicts.len() == 1));
}

#[test]
fn the_first_apply_to_an_untracked_object_conflicts_with_before_first_apply() {
    let live = Document::new(secret(json!({"a": "MQ=="})));
    let error = applied(Some(&live), secret(json!({"a": "Mg=="})), "me").expect_err("conflict");
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
}

#[test]
fn a_patch_that_fits_no_schema_is_refused_with_its_paths() {
    let mut patch = secret(json!({}));
    patch["metadata"]["managedFields"] = json!([]);
    let error = applied(None, patch, "me").expect_err("managedFields");
    assert_eq!(error.to_string(), "metadata.managedFields must be nil");
    assert_eq!(Failure::from(&error).code, 400);

    let mut patch = secret(json!({}));
    patch["apiVersion"] = json!("v2");
    let error = applied(None, patch, "me").expect_err("version");
    assert_eq!(error.to_string(), "invalid object type: /v2, Kind=Secret");

    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
        "spec": {"foo": "CANARY", "containers": [{"name": "a", "bar": 1}]},
    });
    let apply_pod = |pod: Value| {
        apply(None, &Document::new(pod), &writer_of("v1", "Pod", "me"), false)
            .map(|_| ())
            .expect_err("refused")
    };
    let error = apply_pod(pod.clone());
    let mut lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
    lines[1..].sort();
    assert_eq!(
        lines,
        [
            "failed to create typed patch object (n/p; /v1, Kind=Pod): errors:",
            "  .spec.containers[name=\"a\"].bar: field not declared in schema",
            "  .spec.foo: field not declared in schema",
        ]
    );

    let mut pod = pod;
    pod["spec"] = json!({"containers": [{"name": "a"}, {"name": "a"}]});
    assert_eq!(
        apply_pod(pod).to_string(),
        "failed to create typed patch object (n/p; /v1, Kind=Pod): .spec.containers: \
         duplicate entries for key [name=\"a\"]"
    );
}

fn containers(names: &[&str]) -> Value {
    let list: Vec<_> = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": list}})
}

#[test]
fn keyed_lists_merge_in_the_wanted_order_around_items_of_others() {
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["containers"].as_array().expect("a list");
        list.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    };
    let schema = schema::of("v1", "Pod").expect("Pod");
    for (live, wanted, merged) in [
        (vec!["a", "x", "b"], vec!["b", "a"], vec!["x", "b", "a"]),
        (vec!["a", "x", "b"], vec!["a", "b"], vec!["a", "x", "b"]),
        (vec!["a", "b"], vec!["c", "a", "d"], vec!["c", "a", "b", "d"]),
        (vec!["x"], vec!["a"], vec!["x", "a"]),
        (vec![], vec!["b", "a"], vec!["b", "a"]),
    ] {
        let result = merge::merge(&containers(&live), &containers(&wanted), schema);
        assert_eq!(names(&result), merged, "{live:?} + {wanted:?}");
    }
}

#[test]
fn dropping_an_item_removes_it_unless_another_applier_wants_it() {
    let apply_as = |live: Option<&Document>, names: &[&str], manager: &str| {
        apply(live, &Document::new(containers(names)), &writer_of("v1", "Pod", manager), false)
            .expect("applies")
            .object
    };
    let live = apply_as(None, &["a", "b"], "one");
    let live = apply_as(Some(&live), &["b"], "two");
    let live = apply_as(Some(&live), &["a"], "one");
    assert_eq!(live.value()["spec"], containers(&["a", "b"])["spec"]);
    let live = apply_as(Some(&live), &[], "two");
    assert_eq!(live.value()["spec"], containers(&["a"])["spec"]);
}

#[test]
fn an_atomic_list_is_one_field() {
    let pod = writer_of("v1", "Pod", "one");
    let with = |tolerations: Value| {
        let mut object = containers(&["a"]);
        object["spec"]["tolerations"] = tolerations;
        object
    };
    let live = created(with(json!([{"key": "x"}])), &pod);
    let other = writer_of("v1", "Pod", "two");
    let patch = Document::new(with(json!([{"key": "y"}])));
    let error = apply(Some(&live), &patch, &other, false).map(|_| ()).expect_err("a conflict");
    assert!(error.to_string().ends_with("\"one\" using v1: .spec.tolerations"), "{error}");
    let forced = apply(Some(&live), &patch, &other, true).expect("forced").object;
    assert_eq!(forced.value()["spec"]["tolerations"], json!([{"key": "y"}]));
}

#[test]
fn applying_the_status_through_the_object_owns_nothing_of_it() {
    let mut patch = containers(&["a"]);
    patch["status"] = json!({"phase": "Running"});
    let pod = writer_of("v1", "Pod", "me");
    let live = apply(None, &Document::new(patch), &pod, false).expect("applies").object;
    assert_eq!(owners(&live)["me Apply"].get("f:status"), None);
}
