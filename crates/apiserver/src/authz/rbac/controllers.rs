//! The roles of the controllers, one each, as upstream has them.
//!
//! Upstream binds each to a service account of kube-system. Coffer's controllers share one
//! credential, so each is bound to `system:kube-controller-manager` as well: what a controller may
//! do stays written down by controller.

use coffer_api::well_known::{api_group, signer};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule};

use super::GROUP;
use super::policy::{READ, binding, events, role, rule, system_account, users};

const PREFIX: &str = "system:controller:";
const MANAGER: &str = coffer_api::well_known::user::KUBE_CONTROLLER_MANAGER;
const APPS: &str = api_group::APPS;

/// Every controller's role.
pub(super) fn roles() -> Vec<ClusterRole> {
    controllers().map(|(name, rules)| role(&format!("{PREFIX}{name}"), rules)).collect()
}

/// Every controller's binding.
pub(super) fn bindings() -> Vec<ClusterRoleBinding> {
    controllers()
        .map(|(name, _)| {
            let mut subjects = vec![system_account(name)];
            subjects.extend(users(&[MANAGER]));
            let name = format!("{PREFIX}{name}");
            binding(&name, &name, subjects)
        })
        .collect()
}

fn controllers() -> impl Iterator<Item = (&'static str, Vec<PolicyRule>)> {
    let pods = ["get", "list", "watch", "create", "delete", "patch", "update"];
    let scaled = |group: &str, plural: &str| {
        let (status, finalizers) = (format!("{plural}/status"), format!("{plural}/finalizers"));
        vec![
            rule(&["get", "list", "watch", "update", "patch"], &[group], &[plural]),
            rule(&["update", "patch"], &[group], &[&status]),
            rule(&["update"], &[group], &[&finalizers]),
            rule(&pods, &[""], &["pods"]),
            events(),
        ]
    };
    let mut deployments = scaled(APPS, "deployments");
    deployments.push(rule(&pods, &[APPS], &["replicasets"]));
    [
        ("replication-controller", scaled("", "replicationcontrollers")),
        ("replicaset-controller", scaled(APPS, "replicasets")),
        ("deployment-controller", deployments),
        (
            "disruption-controller",
            vec![
                rule(READ, &[APPS], &["deployments", "replicasets"]),
                rule(READ, &[""], &["pods", "replicationcontrollers"]),
                rule(READ, &[api_group::POLICY], &["poddisruptionbudgets"]),
                rule(&["update"], &[api_group::POLICY], &["poddisruptionbudgets/status"]),
                events(),
            ],
        ),
        (
            "generic-garbage-collector",
            vec![
                rule(&["get", "list", "watch", "patch", "update", "delete"], &["*"], &["*"]),
                events(),
            ],
        ),
        (
            "namespace-controller",
            vec![
                rule(&["get", "list", "watch", "delete"], &[""], &["namespaces"]),
                rule(&["update"], &[""], &["namespaces/finalize", "namespaces/status"]),
                rule(&["get", "list", "delete", "deletecollection"], &["*"], &["*"]),
            ],
        ),
        (
            "service-account-controller",
            vec![rule(&["get", "list", "watch", "create"], &[""], &["serviceaccounts"]), events()],
        ),
        (
            "root-ca-cert-publisher",
            vec![
                rule(&["get", "list", "watch", "create", "update"], &[""], &["configmaps"]),
                events(),
            ],
        ),
        (
            "resourcequota-controller",
            vec![
                rule(&["list", "watch"], &["*"], &["*"]),
                rule(&["update", "patch"], &[""], &["resourcequotas/status"]),
                events(),
            ],
        ),
        (
            "node-controller",
            vec![
                rule(&["get", "list", "watch", "update", "delete", "patch"], &[""], &["nodes"]),
                rule(&["patch", "update"], &[""], &["nodes/status"]),
                rule(&["get", "list", "watch", "delete"], &[""], &["pods"]),
                rule(&["patch", "update"], &[""], &["pods/status"]),
                rule(READ, &[api_group::COORDINATION], &["leases"]),
                events(),
            ],
        ),
        (
            "pod-garbage-collector",
            vec![
                rule(&["list", "watch", "delete"], &[""], &["pods"]),
                rule(&["get", "list"], &[""], &["nodes"]),
                rule(&["patch"], &[""], &["pods/status"]),
            ],
        ),
        (
            "clusterrole-aggregation-controller",
            vec![rule(
                &["escalate", "get", "list", "watch", "update", "patch"],
                &[GROUP],
                &["clusterroles"],
            )],
        ),
        ("certificate-controller", certificates()),
    ]
    .into_iter()
}

fn certificates() -> Vec<PolicyRule> {
    let group = [api_group::CERTIFICATES];
    let signers = |verb: &str, names: &[&str]| PolicyRule {
        resource_names: Some(names.iter().map(|&name| name.to_owned()).collect()),
        ..rule(&[verb], &group, &["signers"])
    };
    let (serving, client) = (signer::KUBELET_SERVING, signer::KUBE_APISERVER_CLIENT);
    let kubelet = signer::KUBE_APISERVER_CLIENT_KUBELET;
    vec![
        rule(&["get", "list", "watch", "delete"], &group, &["certificatesigningrequests"]),
        rule(
            &["update", "patch"],
            &group,
            &["certificatesigningrequests/status", "certificatesigningrequests/approval"],
        ),
        signers("approve", &[kubelet, serving]),
        signers("sign", &[signer::LEGACY_UNKNOWN, serving, client, kubelet]),
        rule(&["create"], &[api_group::AUTHORIZATION], &["subjectaccessreviews"]),
        // Whether someone is the node already that a request would make its asker.
        rule(&["get"], &[""], &["nodes"]),
        rule(&["list"], &[""], &["pods"]),
        rule(&["get"], &[api_group::COORDINATION], &["leases"]),
        events(),
    ]
}
