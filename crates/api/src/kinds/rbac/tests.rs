//! Rules of roles and bindings, one line each.

use serde_json::{Value, json};

use super::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use crate::kinds::testing::{check_create, check_update, created};

#[test]
fn rules_are_of_resources_or_of_urls() {
    let rule = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]});
    let role = json!({"metadata": {"name": "system:reader", "namespace": "n"}, "rules": [rule]});
    check_create::<Role>(
        &role,
        &[
            (
                "metadata.name",
                json!("a%b"),
                &["metadata.name: Invalid value: \"a%b\": may not contain '%'"],
            ),
            (
                "metadata.name",
                json!(".."),
                &["metadata.name: Invalid value: \"..\": may not be '..'"],
            ),
            (
                "rules.0.verbs",
                json!([]),
                &["rules[0].verbs: Required value: verbs must contain at least one value"],
            ),
            (
                "rules.0.apiGroups",
                json!([]),
                &[
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                ],
            ),
            (
                "rules.0.resources",
                json!([]),
                &[
                    "rules[0].resources: Required value: resource rules must supply at least one resource",
                ],
            ),
            ("rules.0.resourceNames", json!(["s"]), &[]),
            (
                "rules.0",
                json!({"apiGroups": [""], "resources": ["a", "b"], "verbs": ["get"], "resourceNames": ["s"]}),
                &[
                    "rules[0].resourceNames: Required value: resource names cannot apply to multiple resources",
                ],
            ),
            (
                "rules.0",
                json!({"nonResourceURLs": ["/healthz"], "verbs": ["get"]}),
                &[
                    "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs",
                ],
            ),
        ],
    );
    let cluster_role = json!({
        "metadata": {"name": "reader"},
        "rules": [{"nonResourceURLs": ["/healthz"], "verbs": ["get"]}],
    });
    check_create::<ClusterRole>(
        &cluster_role,
        &[
            (
                "rules.0.resources",
                json!(["a"]),
                &[
                    "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: rules cannot apply to both regular resources and non-resource URLs",
                ],
            ),
            (
                "aggregationRule",
                json!({}),
                &[
                    "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
                ],
            ),
            (
                "aggregationRule",
                json!({"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Like"}]}]}),
                &[
                    "aggregationRule.clusterRoleSelectors[0].matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator",
                ],
            ),
        ],
    );
}

fn binding() -> Value {
    json!({
        "metadata": {"name": "b", "namespace": "n"},
        "roleRef": {"kind": "Role", "name": "reader"},
        "subjects": [
            {"kind": "User", "name": "alice"},
            {"kind": "Group", "name": "ops"},
            {"kind": "ServiceAccount", "name": "default"},
        ],
    })
}

#[test]
fn bindings_name_a_role_and_subjects() {
    let group = "rbac.authorization.k8s.io";
    check_create::<RoleBinding>(
        &binding(),
        &[
            (
                "roleRef.apiGroup",
                json!("x"),
                &[&format!(
                    "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"{group}\""
                )],
            ),
            (
                "roleRef.kind",
                json!("Pod"),
                &[
                    "roleRef.kind: Unsupported value: \"Pod\": supported values: \"Role\", \"ClusterRole\"",
                ],
            ),
            ("roleRef.name", json!(""), &["roleRef.name: Required value"]),
            (
                "subjects.0.kind",
                json!("Robot"),
                &[
                    "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
                ],
            ),
            (
                "subjects.0.name",
                json!(""),
                &[
                    "subjects[0].name: Required value",
                    "subjects[0].name: Invalid value: \"\": user name cannot be empty",
                ],
            ),
            (
                "subjects.1.apiGroup",
                json!("x"),
                &[&format!(
                    "subjects[1].apiGroup: Unsupported value: \"x\": supported values: \"{group}\""
                )],
            ),
            (
                "subjects.2.apiGroup",
                json!("x"),
                &["subjects[2].apiGroup: Unsupported value: \"x\": supported values: \"\""],
            ),
        ],
    );
    check_update::<RoleBinding>(
        &binding(),
        None,
        &[
            ("subjects", json!([]), &[]),
            (
                "roleRef.name",
                json!("admin"),
                &[
                    "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"admin\"}: cannot change roleRef",
                ],
            ),
        ],
    );
    let bound: RoleBinding = created(&binding());
    assert_eq!(bound.role_ref.api_group, group);
    assert_eq!(bound.subjects.unwrap()[0].api_group.as_deref(), Some(group));
}

#[test]
fn a_cluster_wide_binding_says_whose_account_it_means() {
    let valid = json!({
        "metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "n"}],
    });
    check_create::<ClusterRoleBinding>(
        &valid,
        &[
            (
                "roleRef.kind",
                json!("Role"),
                &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
            ),
            ("subjects.0.namespace", Value::Null, &["subjects[0].namespace: Required value"]),
        ],
    );
}
