//! Evaluation over the bootstrap policy and a few bindings of a user's own.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use super::*;
use crate::authz::attributes::ResourceTarget;

/// An index of the bootstrap policy, with aggregated roles filled in, and of what a test adds.
fn roles(more: &[(RbacKind, CachedObject)]) -> Roles {
    let roles = Roles::default();
    let mut cluster_roles = policy::cluster_roles();
    aggregate::fill_in(&mut cluster_roles);
    let mut state = roles.write();
    for role in &cluster_roles {
        put(&mut state, RbacKind::ClusterRole, &object("", role));
    }
    for binding in &policy::cluster_role_bindings() {
        put(&mut state, RbacKind::ClusterRoleBinding, &object("", binding));
    }
    for (kind, object) in more {
        put(&mut state, *kind, object);
    }
    drop(state);
    roles
}

/// Takes in an object as the cache reads it.
fn put(state: &mut State, kind: RbacKind, object: &CachedObject) {
    fn typed<T: DeserializeOwned + 'static>(object: &CachedObject) -> Box<dyn Any> {
        Box::new(serde_json::from_slice::<T>(&object.bytes).unwrap())
    }
    let typed = match kind {
        RbacKind::Role => typed::<Role>(object),
        RbacKind::ClusterRole => typed::<ClusterRole>(object),
        RbacKind::RoleBinding => typed::<RoleBinding>(object),
        RbacKind::ClusterRoleBinding => typed::<ClusterRoleBinding>(object),
    };
    let facts = kind.facts(&*typed, object.bytes.len());
    state.put(Change::of(kind, object, facts.as_ref()));
}

fn object<T: Serialize>(namespace: &str, value: &T) -> CachedObject {
    let mut value = serde_json::to_value(value).unwrap();
    value["metadata"]["namespace"] = namespace.into();
    CachedObject {
        key: "".into(),
        revision: 1,
        name: value["metadata"]["name"].as_str().unwrap().to_owned(),
        bytes: Bytes::from(value.to_string()),
        namespace: namespace.to_owned(),
        labels: BTreeMap::new(),
        fields: Vec::new(),
        is_decoded: true,
    }
}

fn bound(namespace: &str, role: &str, subject: serde_json::Value) -> (RbacKind, CachedObject) {
    let kind =
        if namespace.is_empty() { RbacKind::ClusterRoleBinding } else { RbacKind::RoleBinding };
    let value = serde_json::json!({
        "metadata": { "name": format!("{role}-{}", subject["name"].as_str().unwrap()) },
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role },
        "subjects": [subject],
    });
    (kind, object(namespace, &value))
}

fn user(name: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    Identity { user: name.to_owned(), groups, ..Identity::anonymous() }
}

fn may(roles: &Roles, who: &Identity, verb: &str, path: &str, namespace: &str) -> bool {
    let target = if path.starts_with('/') {
        Target::Path(Cow::Borrowed(path))
    } else {
        let (path, group) = path.split_once('.').unwrap_or((path, ""));
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        Target::Resource(ResourceTarget {
            group: Cow::Borrowed(group),
            resource: Cow::Borrowed(resource),
            subresource: Cow::Borrowed(subresource),
            namespace: Cow::Borrowed(namespace),
            ..Default::default()
        })
    };
    roles.authorize(who, &Attributes { verb: Cow::Borrowed(verb), target }).is_ok()
}

#[test]
fn anonymous_callers_may_get_health_and_authenticated_ones_discovery() {
    let roles = roles(&[]);
    let (anonymous, alice) = (Identity::anonymous(), user("alice", &["system:authenticated"]));
    for (who, path, allowed) in [
        (&anonymous, "/healthz", true),
        (&anonymous, "/version", true),
        (&anonymous, "/apis", false),
        (&anonymous, "/openapi/v2", false),
        (&alice, "/apis/apps/v1", true),
        (&alice, "/openapi/v3", true),
        (&alice, "/metrics", false),
    ] {
        assert_eq!(may(&roles, who, "get", path, ""), allowed, "{} {path}", who.user);
    }
    assert!(!may(&roles, &alice, "post", "/healthz", ""));
}

#[test]
fn view_reads_all_but_secrets_edit_reads_them_and_admin_binds_too() {
    let subject = |name: &str| serde_json::json!({"kind": "User", "name": name, "apiGroup": GROUP});
    let roles = roles(&[
        bound("n", "view", subject("vera")),
        bound("n", "edit", subject("ed")),
        bound("n", "admin", subject("ada")),
    ]);
    for (who, verb, path, namespace, allowed) in [
        ("vera", "list", "pods", "n", true),
        ("vera", "get", "deployments/scale.apps", "n", true),
        ("vera", "get", "secrets", "n", false),
        ("vera", "create", "pods", "n", false),
        ("vera", "list", "pods", "other", false),
        ("vera", "list", "pods", "", false),
        ("ed", "get", "secrets", "n", true),
        ("ed", "create", "pods/exec", "n", true),
        ("ed", "create", "serviceaccounts/token", "n", true),
        ("ed", "create", "rolebindings.rbac.authorization.k8s.io", "n", false),
        ("ada", "create", "rolebindings.rbac.authorization.k8s.io", "n", true),
        ("ada", "get", "secrets", "n", true),
        ("ada", "update", "resourcequotas", "n", false),
    ] {
        let found = may(&roles, &user(who, &[]), verb, path, namespace);
        assert_eq!(found, allowed, "{who} {verb} {path} {namespace}");
    }
}

#[test]
fn an_account_of_another_namespace_is_another_user() {
    let local = serde_json::json!({"kind": "ServiceAccount", "name": "app"});
    let roles = roles(&[bound("n", "edit", local)]);
    assert!(may(&roles, &user("system:serviceaccount:n:app", &[]), "get", "secrets", "n"));
    for other in ["system:serviceaccount:m:app", "system:serviceaccount:n:app2", "app"] {
        assert!(!may(&roles, &user(other, &[]), "get", "secrets", "n"), "{other}");
    }
}

#[test]
fn nodes_get_nothing_from_roles_and_controllers_what_they_need() {
    let roles = roles(&[]);
    let node = user("system:node:a", &["system:nodes", "system:authenticated"]);
    assert!(!may(&roles, &node, "get", "secrets", "n"));
    assert!(!may(&roles, &node, "list", "pods", ""));
    let manager = user("system:kube-controller-manager", &["system:authenticated"]);
    for (verb, path) in [
        ("watch", "secrets"),
        ("create", "pods"),
        ("update", "namespaces/finalize"),
        ("update", "deployments/status.apps"),
        ("create", "serviceaccounts"),
        ("delete", "configmaps"),
        ("update", "resourcequotas/status"),
    ] {
        assert!(may(&roles, &manager, verb, path, "n"), "{verb} {path}");
    }
    assert!(!may(&roles, &manager, "create", "rolebindings.rbac.authorization.k8s.io", "n"));
    let scheduler = user("system:kube-scheduler", &["system:authenticated"]);
    assert!(may(&roles, &scheduler, "create", "pods/binding", "n"));
    assert!(!may(&roles, &scheduler, "get", "secrets", "n"));
}

#[test]
fn a_binding_to_a_deleted_role_is_an_error_in_the_denial() {
    let subject = serde_json::json!({"kind": "User", "name": "vera", "apiGroup": GROUP});
    let roles = roles(&[bound("n", "deleted", subject)]);
    let target =
        ResourceTarget { resource: "pods".into(), namespace: "n".into(), ..Default::default() };
    let errors =
        roles.authorize(&user("vera", &[]), &Attributes::resource("get", target)).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "clusterroles.rbac.authorization.k8s.io \"deleted\" not found"
    );
}

#[test]
fn deleted_roles_and_bindings_give_no_rights() {
    let subject = serde_json::json!({"kind": "User", "name": "vera", "apiGroup": GROUP});
    let (kind, binding) = bound("n", "view", subject);
    let roles = roles(&[]);
    put(&mut roles.write(), kind, &binding);
    assert!(may(&roles, &user("vera", &[]), "list", "pods", "n"));
    roles.write().put(Change::of(kind, &binding, None));
    assert!(!may(&roles, &user("vera", &[]), "list", "pods", "n"));
}
