//! Rules of leases, one line each.

use serde_json::json;

use super::Lease;
use crate::kinds::testing::{check_create, check_update};

#[test]
fn durations_are_positive_and_holders_preferred_by_a_strategy() {
    let valid = json!({
        "metadata": {"name": "n1", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40},
    });
    let rows: &[_] = &[
        (
            "spec.leaseDurationSeconds",
            json!(0),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"] as &[&str],
        ),
        (
            "spec.leaseTransitions",
            json!(-1),
            &["spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            "spec.strategy",
            json!("Newest"),
            &[
                "spec.strategy.strategy: Unsupported value: \"Newest\": supported values: \"OldestEmulationVersion\"",
            ],
        ),
        ("spec.strategy", json!("example.com/s"), &[]),
        (
            "spec.preferredHolder",
            json!("n2"),
            &["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
        ),
        ("spec.renewTime", json!("2020-01-01T00:00:00.000000Z"), &[]),
    ];
    check_create::<Lease>(&valid, rows);
    check_update::<Lease>(&valid, None, rows);
}
