//! Rules of quotas, one line each.

use serde_json::{Value, json};

use super::ResourceQuota;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};
use crate::subresource::SubresourceName;

fn valid() -> Value {
    json!({
        "metadata": {"name": "q", "namespace": "n"},
        "spec": {"hard": {"secrets": "10", "count/deployments.apps": "2", "requests.cpu": "1000m"}},
    })
}

#[test]
fn amounts_are_of_known_resources() {
    check_create::<ResourceQuota>(
        &valid(),
        &[
            ("spec.hard", json!({"hugepages-2Mi": "4Mi"}), &[]),
            (
                "spec.hard",
                json!({"secrets": "1500m"}),
                &["spec.hard[secrets]: Invalid value: \"1500m\": must be an integer"],
            ),
            (
                "spec.hard",
                json!({"secrets": "-1"}),
                &["spec.hard[secrets]: Invalid value: \"-1\": must be greater than or equal to 0"],
            ),
            (
                "spec.hard",
                json!({"storage": "1"}),
                &[
                    "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                ],
            ),
            (
                "spec.hard",
                json!({"disk": "1"}),
                &[
                    "spec.hard[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
                    "spec.hard[disk]: Invalid value: \"disk\": must be a standard resource for quota",
                ],
            ),
        ],
    );
}

#[test]
fn scopes_fit_what_is_counted() {
    let pods = with(&valid(), "spec.hard", json!({"pods": "2"}));
    let selector = |scope: &str, operator: &str, values: Value| json!({"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]});
    check_create::<ResourceQuota>(
        &pods,
        &[
            ("spec.scopes", json!(["BestEffort"]), &[]),
            (
                "spec.scopes",
                json!(["Sometimes"]),
                &["spec.scopes: Invalid value: [\"Sometimes\"]: unsupported scope"],
            ),
            (
                "spec.scopes",
                json!(["BestEffort", "NotBestEffort"]),
                &[
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
                ],
            ),
            (
                "spec",
                json!({"hard": {"secrets": "1"}, "scopes": ["Terminating"]}),
                &[
                    "spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource",
                ],
            ),
            ("spec.scopeSelector", selector("PriorityClass", "In", json!(["high"])), &[]),
            (
                "spec.scopeSelector",
                selector("PriorityClass", "In", json!([])),
                &[
                    "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                ],
            ),
            (
                "spec.scopeSelector",
                selector("PriorityClass", "Exists", json!(["x"])),
                &[
                    "spec.scopeSelector.matchExpressions.values: Invalid value: [\"x\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                ],
            ),
            (
                "spec.scopeSelector",
                selector("BestEffort", "DoesNotExist", json!([])),
                &[
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"DoesNotExist\": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity",
                ],
            ),
            (
                "spec.scopeSelector",
                selector("PriorityClass", "Like", json!([])),
                &[
                    "spec.scopeSelector.matchExpressions.operator: Invalid value: \"Like\": not a valid selector operator",
                ],
            ),
        ],
    );
    check_update::<ResourceQuota>(
        &pods,
        None,
        &[
            ("spec.hard.pods", json!("3"), &[]),
            (
                "spec.scopes",
                json!(["BestEffort"]),
                &["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"],
            ),
        ],
    );
    check_update::<ResourceQuota>(
        &pods,
        Some(SubresourceName::Status),
        &[(
            "status.used",
            json!({"pods": "-1"}),
            &["status.used[pods]: Invalid value: \"-1\": must be greater than or equal to 0"],
        )],
    );
}

#[test]
fn amounts_are_kept_in_canonical_form_and_each_subresource_writes_its_part() {
    let quota: ResourceQuota = created(&valid());
    let hard = serde_json::to_value(&quota.spec.unwrap().hard).unwrap();
    assert_eq!(hard["requests.cpu"], json!("1"));
    let old: ResourceQuota = stored(&valid());
    let sent = with(&valid(), "status.used", json!({"secrets": "1"}));
    assert_eq!(updated(&old, &sent, None).status, old.status);
    let status = updated(
        &old,
        &json!({"metadata": valid()["metadata"], "status": {"used": {"secrets": "1"}}}),
        Some(SubresourceName::Status),
    );
    assert_eq!(status.spec, old.spec);
}
