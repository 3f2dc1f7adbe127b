//! The roles and bindings every cluster has, as upstream's bootstrap policy names and fills them.
//!
//! Only groups that Coffer serves or may come to serve are listed; the names, labels and
//! aggregation are upstream's, so that what people wrote against Kubernetes binds the same roles.

use std::collections::BTreeMap;

use coffer_api::kinds;
pub(super) use coffer_api::kinds::roles::READ;
use coffer_api::kinds::roles::{Grant, READ_WRITE, Role as ToRole};
use coffer_api::well_known::{api_group, group, label, namespace, user};
use k8s_openapi::api::rbac::v1::{
    AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef,
    Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{AUTO_UPDATE, GROUP, controllers};

const APPS: &str = api_group::APPS;
const AUTHENTICATION: &str = api_group::AUTHENTICATION;
const AUTHORIZATION: &str = api_group::AUTHORIZATION;
const AUTOSCALING: &str = api_group::AUTOSCALING;
const BATCH: &str = api_group::BATCH;
const CERTIFICATES: &str = api_group::CERTIFICATES;
const COORDINATION: &str = api_group::COORDINATION;
const EVENTS: &str = api_group::EVENTS;
const NETWORKING: &str = api_group::NETWORKING;
const NODE: &str = api_group::NODE;

const ALL_USERS: [&str; 2] = [group::AUTHENTICATED, group::UNAUTHENTICATED];

fn owned(values: &[&str]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.iter().map(|&value| value.to_owned()).collect())
}

/// A rule over resources.
pub(super) fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> PolicyRule {
    PolicyRule {
        verbs: owned(verbs).unwrap_or_default(),
        api_groups: owned(groups),
        resources: owned(resources),
        ..Default::default()
    }
}

/// A rule over named objects of one resource.
fn named(verbs: &[&str], group: &str, resource: &str, names: &[&str]) -> PolicyRule {
    PolicyRule { resource_names: owned(names), ..rule(verbs, &[group], &[resource]) }
}

/// A rule over non-resource URLs.
pub(super) fn paths(verbs: &[&str], urls: &[&str]) -> PolicyRule {
    PolicyRule {
        verbs: owned(verbs).unwrap_or_default(),
        non_resource_urls: owned(urls),
        ..Default::default()
    }
}

/// Every part that writes events needs this.
pub(super) fn events() -> PolicyRule {
    rule(&["create", "update", "patch"], &["", EVENTS], &["events"])
}

/// Marked as made by the server, and as updated by it at every start unless an administrator turns that off.
pub(super) fn meta(name: &str) -> ObjectMeta {
    let pair = |key: &str, value: &str| Some(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: pair(label::BOOTSTRAPPING, "rbac-defaults"),
        annotations: pair(AUTO_UPDATE, "true"),
        ..Default::default()
    }
}

pub(super) fn role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata: meta(name), rules: Some(rules), aggregation_rule: None }
}

fn aggregate_label(to: &str) -> (String, String) {
    (format!("{GROUP}/aggregate-to-{to}"), "true".to_owned())
}

/// A role that is part of an aggregated one.
fn part_of(to: &str, mut role: ClusterRole) -> ClusterRole {
    role.metadata.labels.get_or_insert_default().extend([aggregate_label(to)]);
    role
}

/// A role whose rules are those of all roles with its label.
fn aggregated(name: &str) -> ClusterRole {
    let selector = LabelSelector {
        match_labels: Some(BTreeMap::from([aggregate_label(name)])),
        match_expressions: None,
    };
    ClusterRole {
        metadata: meta(name),
        rules: None,
        aggregation_rule: Some(AggregationRule { cluster_role_selectors: Some(vec![selector]) }),
    }
}

fn subject(kind: &str, name: &str) -> Subject {
    let api_group = Some(GROUP.to_owned());
    Subject { kind: kind.to_owned(), name: name.to_owned(), api_group, namespace: None }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: GROUP.to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

pub(super) fn binding(name: &str, role: &str, subjects: Vec<Subject>) -> ClusterRoleBinding {
    let subjects = (!subjects.is_empty()).then_some(subjects);
    ClusterRoleBinding { metadata: meta(name), role_ref: role_ref("ClusterRole", role), subjects }
}

pub(super) fn users(names: &[&str]) -> Vec<Subject> {
    names.iter().map(|name| subject("User", name)).collect()
}

fn groups(names: &[&str]) -> Vec<Subject> {
    names.iter().map(|name| subject("Group", name)).collect()
}

/// An account of kube-system.
pub(super) fn system_account(name: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        namespace: Some(namespace::KUBE_SYSTEM.to_owned()),
        api_group: None,
    }
}

/// Every cluster role.
pub(crate) fn cluster_roles() -> Vec<ClusterRole> {
    let mut all = vec![
        role("cluster-admin", vec![rule(&["*"], &["*"], &["*"]), paths(&["*"], &["*"])]),
        aggregated("admin"),
        part_of("admin", aggregated("edit")),
        part_of("edit", aggregated("view")),
        part_of("admin", role("system:aggregate-to-admin", rules_of(ToRole::Admin))),
        part_of("edit", role("system:aggregate-to-edit", rules_of(ToRole::Edit))),
        part_of("view", role("system:aggregate-to-view", rules_of(ToRole::View))),
    ];
    all.extend(caller_roles());
    all.extend(component_roles());
    all.extend(controllers::roles());
    all
}

/// The roles of all callers: authenticated ones, and anonymous ones.
fn caller_roles() -> Vec<ClusterRole> {
    let info = ["/livez", "/readyz", "/healthz", "/version", "/version/"];
    let mut discovery = info.to_vec();
    discovery.extend(["/openapi", "/openapi/*", "/api", "/api/*", "/apis", "/apis/*"]);
    let reviews = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];
    vec![
        role("system:discovery", vec![paths(&["get"], &discovery)]),
        role("system:public-info-viewer", vec![paths(&["get"], &info)]),
        role(
            "system:basic-user",
            vec![
                rule(&["create"], &[AUTHORIZATION], &reviews),
                rule(&["create"], &[AUTHENTICATION], &["selfsubjectreviews"]),
            ],
        ),
        role(
            "system:service-account-issuer-discovery",
            vec![paths(
                &["get"],
                &[
                    "/.well-known/openid-configuration",
                    "/.well-known/openid-configuration/",
                    "/openid/v1/jwks",
                    "/openid/v1/jwks/",
                ],
            )],
        ),
        role(
            "system:monitoring",
            vec![paths(
                &["get"],
                &["/healthz", "/healthz/*", "/livez", "/livez/*", "/metrics", "/readyz"],
            )],
        ),
        role(
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![rule(&["create"], &[CERTIFICATES], &["certificatesigningrequests/nodeclient"])],
        ),
        role(
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![rule(
                &["create"],
                &[CERTIFICATES],
                &["certificatesigningrequests/selfnodeclient"],
            )],
        ),
    ]
}

/// What the parts of a cluster need.
fn component_roles() -> Vec<ClusterRole> {
    vec![
        role("system:kube-scheduler", scheduler_rules()),
        role("system:kube-controller-manager", controller_manager_rules()),
        role("system:node", node_rules()),
        role(
            "system:node-bootstrapper",
            vec![rule(
                &["create", "get", "list", "watch"],
                &[CERTIFICATES],
                &["certificatesigningrequests"],
            )],
        ),
        role(
            "system:node-problem-detector",
            vec![
                rule(&["get"], &[""], &["nodes"]),
                rule(&["patch"], &[""], &["nodes/status"]),
                events(),
            ],
        ),
        role(
            "system:kubelet-api-admin",
            vec![
                rule(&["get", "list", "watch"], &[""], &["nodes"]),
                rule(&["proxy"], &[""], &["nodes"]),
                rule(
                    &["*"],
                    &[""],
                    &["nodes/log", "nodes/metrics", "nodes/proxy", "nodes/spec", "nodes/stats"],
                ),
            ],
        ),
        role(
            "system:auth-delegator",
            vec![
                rule(&["create"], &[AUTHENTICATION], &["tokenreviews"]),
                rule(&["create"], &[AUTHORIZATION], &["subjectaccessreviews"]),
            ],
        ),
    ]
}

/// What the roles of a namespace may do with kinds that are not served, or not yet: subjects of a role
/// have these permissions from the day that a kind is served, as in Kubernetes. What a served kind
/// declares overrides this.
const UNSERVED: &[(&str, &str, &[Grant])] = &[
    ("", "bindings", &[Grant::view(&[""])]),
    ("", "endpoints", &[Grant::view(&[""])]),
    ("", "persistentvolumeclaims", &[Grant::view(&["", "/status"]), Grant::edit(&[""])]),
    (
        "",
        "services",
        &[
            Grant::view(&["", "/status"]),
            Grant { role: ToRole::Edit, verbs: READ_WRITE, of: &["/proxy"] },
            Grant::edit(&[""]),
        ],
    ),
    (APPS, "controllerrevisions", &[Grant::view(&[""])]),
    (APPS, "daemonsets", &[Grant::view(&["", "/status"]), Grant::edit(&[""])]),
    (
        APPS,
        "statefulsets",
        &[Grant::view(&["", "/status", "/scale"]), Grant::edit(&["", "/scale"])],
    ),
    (
        AUTHORIZATION,
        "localsubjectaccessreviews",
        &[Grant { role: ToRole::Admin, verbs: &["create"], of: &[""] }],
    ),
    (AUTOSCALING, "horizontalpodautoscalers", &[Grant::view(&["", "/status"]), Grant::edit(&[""])]),
    (BATCH, "jobs", &[Grant::view(&["", "/status"]), Grant::edit(&[""])]),
    (BATCH, "cronjobs", &[Grant::view(&["", "/status"]), Grant::edit(&[""])]),
    ("discovery.k8s.io", "endpointslices", &[Grant::view(&[""])]),
    (NETWORKING, "ingresses", &[Grant::view(&["", "/status"]), Grant::edit(&[""])]),
    (NETWORKING, "networkpolicies", &[Grant::view(&[""]), Grant::edit(&[""])]),
];

/// The rules of `view`, `edit` or `admin` beyond those of the role below it: what each kind declares.
/// Resources of one group with the same verbs share a rule.
fn rules_of(role: ToRole) -> Vec<PolicyRule> {
    let served = kinds::ALL.iter().map(|info| (info.group, info.plural, info.roles));
    let is_served = |group: &str, plural: &str| {
        kinds::ALL.iter().any(|info| (info.group, info.plural) == (group, plural))
    };
    let unserved = UNSERVED.iter().copied().filter(|(group, plural, _)| !is_served(group, plural));
    let mut rules: Vec<(&str, &[&str], Vec<String>)> = Vec::new();
    for (group, plural, grants) in served.chain(unserved) {
        for grant in grants.iter().filter(|grant| grant.role == role) {
            let resources = grant.of.iter().map(|of| format!("{plural}{of}"));
            match rules.iter_mut().find(|(in_, verbs, _)| (*in_, *verbs) == (group, grant.verbs)) {
                Some((_, _, all)) => all.extend(resources),
                None => rules.push((group, grant.verbs, resources.collect())),
            }
        }
    }
    let rules = rules.into_iter().map(|(group, verbs, resources)| PolicyRule {
        resources: Some(resources),
        ..rule(verbs, &[group], &[])
    });
    rules.collect()
}

fn scheduler_rules() -> Vec<PolicyRule> {
    vec![
        events(),
        rule(&["create"], &[COORDINATION], &["leases"]),
        named(&["get", "update"], COORDINATION, "leases", &["kube-scheduler"]),
        rule(READ, &[""], &["nodes", "namespaces"]),
        rule(&["get", "list", "watch", "delete"], &[""], &["pods"]),
        rule(&["create"], &[""], &["bindings", "pods/binding"]),
        rule(&["patch", "update"], &[""], &["pods/status"]),
        rule(READ, &[""], &["replicationcontrollers", "services"]),
        rule(READ, &[APPS], &["replicasets", "statefulsets"]),
        rule(READ, &[""], &["persistentvolumeclaims", "persistentvolumes"]),
        rule(&["create"], &[AUTHENTICATION], &["tokenreviews"]),
        rule(&["create"], &[AUTHORIZATION], &["subjectaccessreviews"]),
    ]
}

fn controller_manager_rules() -> Vec<PolicyRule> {
    vec![
        events(),
        rule(&["create"], &[COORDINATION], &["leases"]),
        named(&["get", "update"], COORDINATION, "leases", &["kube-controller-manager"]),
        rule(&["create"], &[""], &["secrets", "serviceaccounts"]),
        rule(&["delete"], &[""], &["secrets"]),
        rule(&["get"], &[""], &["namespaces", "secrets", "serviceaccounts", "configmaps"]),
        rule(&["update", "patch"], &[""], &["secrets", "serviceaccounts"]),
        rule(&["create"], &[AUTHENTICATION], &["tokenreviews"]),
        rule(&["create"], &[AUTHORIZATION], &["subjectaccessreviews"]),
        rule(&["list", "watch"], &["*"], &["*"]),
        rule(&["create"], &[""], &["serviceaccounts/token"]),
    ]
}

/// What every node may do, before the graph narrows it; also the rules of `system:node`, which has
/// no binding.
pub(crate) fn node_rules() -> Vec<PolicyRule> {
    vec![
        rule(&["create"], &[AUTHENTICATION], &["tokenreviews"]),
        rule(&["create"], &[AUTHORIZATION], &["subjectaccessreviews", "localsubjectaccessreviews"]),
        rule(READ, &[""], &["services"]),
        rule(&["create", "get", "list", "watch"], &[""], &["nodes"]),
        rule(&["update", "patch"], &[""], &["nodes/status"]),
        rule(&["update", "patch"], &[""], &["nodes"]),
        events(),
        rule(READ, &[""], &["pods"]),
        rule(&["create", "delete"], &[""], &["pods"]),
        rule(&["update", "patch"], &[""], &["pods/status"]),
        rule(&["create"], &[""], &["pods/eviction"]),
        rule(READ, &[""], &["secrets", "configmaps"]),
        rule(&["create", "get", "list", "watch"], &[CERTIFICATES], &["certificatesigningrequests"]),
        rule(&["get", "create", "update", "patch", "delete"], &[COORDINATION], &["leases"]),
        rule(&["create"], &[""], &["serviceaccounts/token"]),
        rule(READ, &[NODE], &["runtimeclasses"]),
    ]
}

/// Every cluster role binding.
pub(crate) fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    let same = |name: &str, subjects| binding(name, name, subjects);
    let mut all = vec![
        same("cluster-admin", groups(&[group::MASTERS])),
        same("system:monitoring", groups(&["system:monitoring"])),
        same("system:discovery", groups(&[group::AUTHENTICATED])),
        same("system:basic-user", groups(&[group::AUTHENTICATED])),
        same("system:public-info-viewer", groups(&ALL_USERS)),
        same("system:kube-controller-manager", users(&[user::KUBE_CONTROLLER_MANAGER])),
        same("system:kube-scheduler", users(&[user::KUBE_SCHEDULER])),
        same("system:node", Vec::new()),
        // What kubeadm sets up: the owner of a bootstrap token may ask for a node's certificate, and a
        // node may ask for its next one. Both kinds of requests are approved.
        binding(
            "coffer:kubelet-bootstrap",
            "system:node-bootstrapper",
            groups(&[group::BOOTSTRAPPERS]),
        ),
        binding(
            "coffer:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            groups(&[group::BOOTSTRAPPERS]),
        ),
        binding(
            "coffer:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            groups(&[group::NODES]),
        ),
        same("system:service-account-issuer-discovery", groups(&[group::SERVICE_ACCOUNTS])),
    ];
    all.extend(controllers::bindings());
    all
}

/// Roles of single namespaces.
pub(crate) fn roles() -> Vec<Role> {
    let of = |namespace: &str, name: &str, rules| {
        let metadata = ObjectMeta { namespace: Some(namespace.to_owned()), ..meta(name) };
        Role { metadata, rules: Some(rules) }
    };
    vec![
        of(
            namespace::KUBE_SYSTEM,
            "extension-apiserver-authentication-reader",
            vec![named(READ, "", "configmaps", &["extension-apiserver-authentication"])],
        ),
        of(
            namespace::KUBE_SYSTEM,
            "system:controller:token-cleaner",
            vec![rule(&["get", "list", "watch", "delete"], &[""], &["secrets"]), events()],
        ),
        of(
            namespace::KUBE_SYSTEM,
            "system:controller:bootstrap-signer",
            vec![rule(READ, &[""], &["secrets"])],
        ),
        of(
            namespace::KUBE_PUBLIC,
            "system:controller:bootstrap-signer",
            vec![
                rule(READ, &[""], &["configmaps"]),
                named(&["update"], "", "configmaps", &["cluster-info"]),
                events(),
            ],
        ),
    ]
}

/// Bindings of single namespaces.
pub(crate) fn role_bindings() -> Vec<RoleBinding> {
    let of = |namespace: &str, name: &str, account: &str| RoleBinding {
        metadata: ObjectMeta { namespace: Some(namespace.to_owned()), ..meta(name) },
        role_ref: role_ref("Role", name),
        subjects: Some(vec![system_account(account)]),
    };
    vec![
        of(namespace::KUBE_SYSTEM, "system:controller:token-cleaner", "token-cleaner"),
        of(namespace::KUBE_SYSTEM, "system:controller:bootstrap-signer", "bootstrap-signer"),
        of(namespace::KUBE_PUBLIC, "system:controller:bootstrap-signer", "bootstrap-signer"),
    ]
}
