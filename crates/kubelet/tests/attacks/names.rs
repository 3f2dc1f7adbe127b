//! Values and names that a program cannot be given, and values where they would lie on a disk.

use coffer_testkit::Attacks;
use serde_json::json;

use super::{objects, started_with};
use crate::config::SecretPlaceholders;

const VALUE: &[u8] = b"canary\0-value";

#[test]
fn a_value_with_a_nul_is_refused_by_the_name_of_its_key() {
    let mut attacks = Attacks::group("values that a runtime would quote: NUL, invalid names");
    let key = json!({ "secretKeyRef": { "name": "s", "key": "k" } });
    for (what, container) in [
        ("env", json!({ "env": [{ "name": "A", "valueFrom": key }] })),
        ("envFrom", json!({ "envFrom": [{ "prefix": "A", "secretRef": { "name": "s" } }] })),
        (
            "composed",
            json!({ "env": [{ "name": "A", "valueFrom": key },
            { "name": "B", "value": "x$(A)" }] }),
        ),
        ("command", json!({ "env": [{ "name": "A", "valueFrom": key }], "command": ["$(A)"] })),
    ] {
        let mut container = container;
        container["name"] = json!("c");
        for value in [VALUE, b"\0canary", b"canary\0"] {
            let seen = started_with(container.clone(), &[("k", value)], &[]).err();
            let says = |part: &str| seen.as_ref().is_some_and(|seen| seen.contains(part));
            let failed = says("contains a NUL character: key k in Secret ns/s") && !says("canary");
            attacks.attempt(what, failed, &seen);
        }
    }
    for (what, container, expected) in [
        (
            "a plain value",
            json!({ "name": "c", "env": [{ "name": "A", "value": "a\0b" }] }),
            "environment variable \"A\" contains a NUL character",
        ),
        (
            "an argument",
            json!({ "name": "c", "args": ["x", "a\0b"] }),
            "args[1] contains a NUL character",
        ),
        (
            "a program",
            json!({ "name": "c", "command": ["a\0b"] }),
            "command[0] contains a NUL character",
        ),
        (
            "a ConfigMap",
            json!({ "name": "c", "envFrom": [{ "configMapRef": { "name": "m" } }] }),
            "environment variable \"k\" contains a NUL character",
        ),
        (
            "a name with =",
            json!({ "name": "c", "env": [{ "name": "A=B", "value": "x" }] }),
            "\"A=B\" cannot be the name of an environment variable",
        ),
        (
            "no name",
            json!({ "name": "c", "env": [{ "name": "", "value": "x" }] }),
            "\"\" cannot be the name of an environment variable",
        ),
        (
            "a name with NUL",
            json!({ "name": "c", "env": [{ "name": "A\0", "value": "x" }] }),
            "\"A\\0\" cannot be the name of an environment variable",
        ),
    ] {
        let seen = started_with(container, &[], &[("k", "a\0b")]).err();
        attacks.attempt(what, seen.as_deref() == Some(expected), &seen);
    }
    attacks.finish();
}

#[test]
fn a_value_does_not_become_a_directorys_name() {
    let mut attacks = Attacks::group("values of Secrets as names on disk");
    let key = json!({ "secretKeyRef": { "name": "s", "key": "k" } });
    let container = json!({ "name": "c", "env": [{ "name": "A", "valueFrom": key },
        { "name": "B", "value": "x-$(A)" }, { "name": "C", "value": "$(B)" },
        { "name": "POD", "value": "p" }] });
    let (environment, _) = started_with(container, &[("k", b"canary")], &[]).expect("text");
    for expression in ["$(A)", "$(B)", "$(C)", "a/$(POD)/$(A)", "$$$(A)"] {
        let seen = environment.expand_path(expression, 0).map_err(|error| error.to_string());
        let expected = "volumeMounts[0].subPathExpr refers to an environment variable that comes \
                        from a Secret: it would become the name of a directory on disk";
        attacks.attempt(expression, seen.as_ref().is_err_and(|seen| seen == expected), &seen);
    }
    assert_eq!(environment.expand_path("a/$(POD)", 0).expect("no secret"), "a/p");
    attacks.finish();
}

#[tokio::test]
async fn a_runtime_class_does_not_turn_placeholders_off() {
    use k8s_openapi::api::node::v1::RuntimeClass;
    let mut attacks = Attacks::group("placeholders turned off by a runtimeClassName");
    let objects = objects(|path| {
        let of = "/apis/node.k8s.io/v1/runtimeclasses/";
        let class = json!({ "metadata": { "name": "sandboxed" }, "handler": "runsc" });
        (path.strip_prefix(of) == Some("sandboxed")).then_some(class)
    });
    // A name without a class, the handler's own name among them: not what the runtime is asked for.
    for name in ["runc", "nosuch", "../../api/v1/secrets", "a/b?x"] {
        let seen = objects.get::<RuntimeClass>("", name).await.map_err(|error| error.to_string());
        let expected = format!("runtimeclass.node.k8s.io {name:?} not found");
        attacks.attempt(name, seen.as_ref().is_err_and(|seen| *seen == expected), &seen);
    }
    let class = objects.get::<RuntimeClass>("", "sandboxed").await.expect("found");
    let own = SecretPlaceholders::new(["runc".to_owned()]);
    for handler in [class.handler.as_str(), "RUNC", "runc ", "kata"] {
        let told = own.are_for(handler) || own.may_get_values(handler);
        attacks.attempt(handler, !told, told);
    }
    for handler in ["", "runc"] {
        attacks.attempt("Coffer's own handler", own.are_for(handler), handler);
    }
    let lax = SecretPlaceholders { dangerous_values_for_others: true, ..own };
    assert!(!lax.are_for("runsc") && lax.may_get_values("runsc"), "by its own flag only");
    attacks.finish();
}
