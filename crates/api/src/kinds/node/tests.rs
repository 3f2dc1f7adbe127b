//! Rules of nodes, one line each.

use serde_json::{Value, json};

use super::Node;
use crate::kinds::Kind;
use crate::kinds::testing::{check_create, check_update, created, stored, updated, with};
use crate::subresource::SubresourceName;

fn valid() -> Value {
    json!({
        "metadata": {"name": "n1"},
        "spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "p://1"},
        "status": {"capacity": {"cpu": "2", "memory": "1024Mi"}},
    })
}

#[test]
fn taints_amounts_and_networks() {
    let taint = json!({"key": "a", "value": "b", "effect": "NoSchedule"});
    check_create::<Node>(
        &valid(),
        &[
            ("spec.taints", json!([taint]), &[]),
            (
                "spec.taints",
                json!([taint, taint]),
                &[
                    "metadata.taints[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"b\",\"Effect\":\"NoSchedule\",\"TimeAdded\":null}: taints must be unique by key and effect pair",
                ],
            ),
            (
                "spec.taints",
                json!([{"key": "a", "effect": ""}]),
                &["metadata.taints[0].effect: Required value"],
            ),
            (
                "spec.taints",
                json!([{"key": "a", "effect": "Go"}]),
                &[
                    "metadata.taints[0].effect: Unsupported value: \"Go\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                ],
            ),
            (
                "status.allocatable",
                json!({"cpu": "-1"}),
                &[
                    "status.allocatable.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                ],
            ),
            (
                "status.allocatable",
                json!({"pods": "1500m"}),
                &["status.allocatable.pods: Invalid value: \"1500m\": must be an integer"],
            ),
            (
                "spec.podCIDRs",
                json!(["10.0.0.0"]),
                &[
                    "spec.podCIDRs[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
            ("spec.podCIDRs", json!(["10.0.0.0/24", "2001:db8::/64"]), &[]),
            (
                "spec.podCIDRs",
                json!(["10.0.0.0/24", "10.0.1.0/24"]),
                &[
                    "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.0.1.0/24\"]: may specify no more than one CIDR for each IP family",
                ],
            ),
        ],
    );
}

#[test]
fn what_is_given_once_stays() {
    check_update::<Node>(
        &valid(),
        None,
        &[
            ("spec.unschedulable", json!(true), &[]),
            (
                "spec.podCIDRs",
                json!(["10.1.0.0/24"]),
                &[
                    "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                ],
            ),
            (
                "spec.providerID",
                json!("p://2"),
                &[
                    "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                ],
            ),
            ("spec.externalID", json!("x"), &["spec.externalID: Forbidden: may not be updated"]),
        ],
    );
    let address = json!({"type": "InternalIP", "address": "1.1.1.1"});
    check_update::<Node>(
        &valid(),
        Some(SubresourceName::Status),
        &[(
            "status.addresses",
            json!([address, address]),
            &[
                "status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"1.1.1.1\"}",
            ],
        )],
    );
}

#[test]
fn a_kubelet_writes_the_status_at_creation_and_through_its_subresource() {
    let node: Node = created(&valid());
    let status = serde_json::to_value(&node.status).unwrap();
    assert_eq!(status["allocatable"], json!({"cpu": "2", "memory": "1Gi"}));
    let old: Node = stored(&valid());
    let sent =
        with(&with(&valid(), "spec.unschedulable", json!(true)), "status", json!({"phase": "x"}));
    assert_eq!(updated(&old, &sent, None).status, old.status);
    assert_eq!(updated(&old, &sent, Some(SubresourceName::Status)).spec, old.spec);
    assert_eq!(updated(&old, &sent, None).fields(), [("spec.unschedulable", "true".to_owned())]);
}

#[test]
fn the_older_field_of_the_pods_network_is_the_first_of_the_newer_one() {
    for (given, cidr, cidrs) in [
        (json!({"podCIDR": "10.1.0.0/24"}), json!("10.1.0.0/24"), json!(["10.1.0.0/24"])),
        (json!({"podCIDRs": ["10.1.0.0/24"]}), json!("10.1.0.0/24"), json!(["10.1.0.0/24"])),
        (
            json!({"podCIDR": "10.2.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00::/64"]}),
            json!("10.2.0.0/24"),
            json!(["10.2.0.0/24"]),
        ),
        (json!({}), Value::Null, Value::Null),
    ] {
        let node = serde_json::to_value(created::<Node>(&with(&valid(), "spec", given)));
        let node = node.expect("a node");
        assert_eq!((&node["spec"]["podCIDR"], &node["spec"]["podCIDRs"]), (&cidr, &cidrs));
    }
    let detail =
        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid";
    check_update::<Node>(&valid(), None, &[("spec.podCIDR", json!("10.9.0.0/24"), &[detail])]);
}
