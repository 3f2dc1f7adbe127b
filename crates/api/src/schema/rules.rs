//! How lists and objects merge, field by field, as the Kubernetes API reference documents it with
//! `x-kubernetes-list-type`, `-list-map-keys`, `-map-type`, `-patch-strategy` and `-patch-merge-key`.
//!
//! Names are those of the definitions, without `io.k8s.` and `api.` or `apimachinery.pkg.apis.` in
//! front. What is not named here is granular if an object, atomic if a list.

use super::{ListRule, ListType};

/// Objects distinguished by `keys` under server-side apply and by `merge_key` in strategic merge.
const fn keyed(keys: &'static [&'static str], merge_key: &'static str) -> ListRule {
    ListRule {
        apply: ListType::Map(keys),
        patch_merge_key: Some(merge_key),
        patch_merges: true,
        patch_retains_keys: false,
    }
}

/// As [`keyed`], for lists of unions: an item's fields that a patch leaves out go away.
const fn keyed_union(keys: &'static [&'static str], merge_key: &'static str) -> ListRule {
    ListRule { patch_retains_keys: true, ..keyed(keys, merge_key) }
}

/// Keys for server-side apply only; strategic merge replaces the list.
const fn apply_keyed(keys: &'static [&'static str]) -> ListRule {
    ListRule { apply: ListType::Map(keys), ..ATOMIC }
}

const ATOMIC: ListRule = ListRule::ATOMIC;
const SET: ListRule = ListRule { apply: ListType::Set, ..ATOMIC };
const MERGED_SET: ListRule = ListRule { patch_merges: true, ..SET };
const CONDITIONS: ListRule = keyed(&["type"], "type");

/// Every list that is not atomic.
const LISTS: &[(&str, &str, ListRule)] = &[
    ("apps.v1.DeploymentStatus", "conditions", CONDITIONS),
    ("apps.v1.ReplicaSetStatus", "conditions", CONDITIONS),
    ("certificates.v1.CertificateSigningRequestStatus", "conditions", apply_keyed(&["type"])),
    ("core.v1.Container", "env", keyed(&["name"], "name")),
    ("core.v1.Container", "ports", keyed(&["containerPort", "protocol"], "containerPort")),
    ("core.v1.Container", "volumeDevices", keyed(&["devicePath"], "devicePath")),
    ("core.v1.Container", "volumeMounts", keyed(&["mountPath"], "mountPath")),
    ("core.v1.ContainerRestartRuleOnExitCodes", "values", SET),
    ("core.v1.ContainerStatus", "allocatedResourcesStatus", keyed(&["name"], "name")),
    ("core.v1.ContainerStatus", "volumeMounts", keyed(&["mountPath"], "mountPath")),
    ("core.v1.EphemeralContainer", "env", keyed(&["name"], "name")),
    ("core.v1.EphemeralContainer", "ports", keyed(&["containerPort", "protocol"], "containerPort")),
    ("core.v1.EphemeralContainer", "volumeDevices", keyed(&["devicePath"], "devicePath")),
    ("core.v1.EphemeralContainer", "volumeMounts", keyed(&["mountPath"], "mountPath")),
    ("core.v1.NamespaceStatus", "conditions", CONDITIONS),
    ("core.v1.NodeSpec", "podCIDRs", MERGED_SET),
    ("core.v1.NodeStatus", "addresses", CONDITIONS),
    ("core.v1.NodeStatus", "conditions", CONDITIONS),
    ("core.v1.PodSpec", "containers", keyed(&["name"], "name")),
    ("core.v1.PodSpec", "ephemeralContainers", keyed(&["name"], "name")),
    ("core.v1.PodSpec", "hostAliases", keyed(&["ip"], "ip")),
    ("core.v1.PodSpec", "imagePullSecrets", keyed(&["name"], "name")),
    ("core.v1.PodSpec", "initContainers", keyed(&["name"], "name")),
    ("core.v1.PodSpec", "resourceClaims", keyed_union(&["name"], "name")),
    ("core.v1.PodSpec", "schedulingGates", keyed(&["name"], "name")),
    (
        "core.v1.PodSpec",
        "topologySpreadConstraints",
        keyed(&["topologyKey", "whenUnsatisfiable"], "topologyKey"),
    ),
    ("core.v1.PodSpec", "volumes", keyed_union(&["name"], "name")),
    ("core.v1.PodStatus", "conditions", CONDITIONS),
    (
        "core.v1.PodStatus",
        "hostIPs",
        ListRule { patch_merge_key: Some("ip"), patch_merges: true, ..ATOMIC },
    ),
    ("core.v1.PodStatus", "podIPs", keyed(&["ip"], "ip")),
    ("core.v1.PodStatus", "resourceClaimStatuses", keyed_union(&["name"], "name")),
    ("core.v1.ReplicationControllerStatus", "conditions", CONDITIONS),
    ("core.v1.ResourceRequirements", "claims", apply_keyed(&["name"])),
    ("core.v1.ResourceStatus", "resources", apply_keyed(&["resourceID"])),
    ("core.v1.ServiceAccount", "secrets", keyed(&["name"], "name")),
    ("core.v1.ServiceSpec", "ports", keyed(&["port", "protocol"], "port")),
    ("core.v1.ServiceStatus", "conditions", CONDITIONS),
    ("meta.v1.ObjectMeta", "finalizers", MERGED_SET),
    ("meta.v1.ObjectMeta", "ownerReferences", keyed(&["uid"], "uid")),
];

/// Objects with one owner, wherever they stand.
const ATOMIC_STRUCTS: &[&str] = &[
    "core.v1.ConfigMapKeySelector",
    "core.v1.FileKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.ScopeSelector",
    "core.v1.SecretKeySelector",
    "core.v1.TypedLocalObjectReference",
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
];

/// Maps with one owner.
const ATOMIC_MAPS: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "nodeSelector"),
    ("core.v1.ReplicationControllerSpec", "selector"),
    ("core.v1.ServiceSpec", "selector"),
    ("node.v1.Scheduling", "nodeSelector"),
];

/// Unions that are not list items: fields that a client-side apply leaves out go away.
const RETAIN_KEYS: &[(&str, &str)] = &[("apps.v1.DeploymentSpec", "strategy")];

/// Key fields that an item may leave out.
const KEY_DEFAULTS: &[(&str, &str, &str)] =
    &[("core.v1.ContainerPort", "protocol", "TCP"), ("core.v1.ServicePort", "protocol", "TCP")];

/// Fields that hold a value, not a pointer to one, and that are left out where they are the zero of
/// their type (`""`, `0`, `false`): a caller that writes the zero means nothing by it. Empty lists and maps
/// are that everywhere and need no naming. A field that is not here keeps its zero.
const OMITS_ZERO: &[(&str, &[&str])] = &[
    ("apps.v1.DeploymentSpec", &["minReadySeconds", "paused"]),
    ("apps.v1.DeploymentStrategy", &["type"]),
    ("apps.v1.ReplicaSetSpec", &["minReadySeconds"]),
    ("core.v1.ConfigMapEnvSource", &["name"]),
    ("core.v1.ConfigMapKeySelector", &["name"]),
    ("core.v1.ConfigMapProjection", &["name"]),
    ("core.v1.ConfigMapVolumeSource", &["name"]),
    ("core.v1.Container", CONTAINER),
    ("core.v1.ContainerPort", &["hostIP", "hostPort", "name", "protocol"]),
    ("core.v1.EmptyDirVolumeSource", &["medium"]),
    ("core.v1.EnvFromSource", &["prefix"]),
    ("core.v1.EnvVar", &["value"]),
    ("core.v1.EphemeralContainer", CONTAINER),
    ("core.v1.EphemeralContainer", &["targetContainerName"]),
    ("core.v1.HTTPGetAction", &["host", "path", "scheme"]),
    ("core.v1.ImageVolumeSource", &["pullPolicy", "reference"]),
    ("core.v1.LocalObjectReference", &["name"]),
    ("core.v1.NFSVolumeSource", &["readOnly"]),
    ("core.v1.NodeSpec", &["podCIDR", "providerID", "unschedulable"]),
    ("core.v1.ObjectFieldSelector", &["apiVersion"]),
    ("core.v1.ObjectReference", REFERENCE),
    ("core.v1.PersistentVolumeClaimVolumeSource", &["readOnly"]),
    ("core.v1.PodDNSConfigOption", &["name"]),
    (
        "core.v1.PodSpec",
        &[
            "dnsPolicy",
            "hostIPC",
            "hostNetwork",
            "hostPID",
            "hostname",
            "nodeName",
            "priorityClassName",
            "restartPolicy",
            "schedulerName",
            "serviceAccount",
            "serviceAccountName",
            "subdomain",
        ],
    ),
    ("core.v1.PodStatus", &["hostIP", "message", "nominatedNodeName", "phase", "podIP", "reason"]),
    (
        "core.v1.Probe",
        &[
            "failureThreshold",
            "initialDelaySeconds",
            "periodSeconds",
            "successThreshold",
            "timeoutSeconds",
        ],
    ),
    ("core.v1.ReplicationControllerSpec", &["minReadySeconds"]),
    ("core.v1.ResourceFieldSelector", &["containerName"]),
    ("core.v1.SELinuxOptions", &["level", "role", "type", "user"]),
    ("core.v1.Secret", &["type"]),
    ("core.v1.SecretEnvSource", &["name"]),
    ("core.v1.SecretKeySelector", &["name"]),
    ("core.v1.SecretProjection", &["name"]),
    ("core.v1.SecretVolumeSource", &["secretName"]),
    ("core.v1.ServiceAccountTokenProjection", &["audience"]),
    ("core.v1.TCPSocketAction", &["host"]),
    ("core.v1.Taint", &["value"]),
    ("core.v1.Toleration", &["effect", "key", "operator", "value"]),
    ("core.v1.VolumeMount", &["readOnly", "subPath", "subPathExpr"]),
    (
        "meta.v1.ObjectMeta",
        &["generateName", "generation", "name", "namespace", "resourceVersion", "selfLink", "uid"],
    ),
    ("rbac.v1.Subject", &["apiGroup", "namespace"]),
];

const CONTAINER: &[&str] = &[
    "image",
    "imagePullPolicy",
    "stdin",
    "stdinOnce",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "workingDir",
];

const REFERENCE: &[&str] =
    &["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"];

/// `core.v1.Pod` of `io.k8s.api.core.v1.Pod`.
fn short(definition: &str) -> &str {
    let tail = definition.strip_prefix("io.k8s.").unwrap_or(definition);
    tail.strip_prefix("api.")
        .or_else(|| tail.strip_prefix("apimachinery.pkg.apis."))
        .unwrap_or(tail)
}

pub(super) fn list(definition: &str, field: &str) -> ListRule {
    let name = short(definition);
    LISTS
        .iter()
        .find(|(struct_, list, _)| *struct_ == name && *list == field)
        .map_or(ATOMIC, |(_, _, rule)| *rule)
}

pub(super) fn is_atomic_struct(definition: &str) -> bool {
    ATOMIC_STRUCTS.contains(&short(definition))
}

pub(super) fn is_atomic_map(definition: &str, field: &str) -> bool {
    ATOMIC_MAPS.contains(&(short(definition), field))
}

pub(super) fn retains_keys(definition: &str, field: &str) -> bool {
    RETAIN_KEYS.contains(&(short(definition), field))
}

pub(super) fn key_default(definition: &str, key: &str) -> Option<&'static str> {
    let name = short(definition);
    KEY_DEFAULTS
        .iter()
        .find(|(struct_, field, _)| *struct_ == name && *field == key)
        .map(|(_, _, value)| *value)
}

/// Whether some struct has a field of this name that is left out where it is zero.
pub(crate) fn omits_zero_somewhere(field: &str) -> bool {
    OMITS_ZERO.iter().any(|(_, fields)| fields.contains(&field))
}

pub(super) fn omits_zero(definition: &str, field: &str) -> bool {
    let name = short(definition);
    OMITS_ZERO.iter().any(|(struct_, fields)| *struct_ == name && fields.contains(&field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::definitions;

    /// A typo in a name here would silently make a list atomic.
    #[test]
    fn every_rule_names_a_field_that_exists() {
        let definitions = definitions().schemas;
        let exists = |name: &str, field: &str| {
            let full = definitions.keys().find(|full| short(full) == name);
            let full = full.unwrap_or_else(|| panic!("no definition {name}"));
            field.is_empty() || definitions[full]["properties"].get(field).is_some()
        };
        for (name, field, _) in LISTS {
            assert!(exists(name, field), "{name}.{field}");
        }
        for (name, field) in ATOMIC_MAPS.iter().chain(RETAIN_KEYS) {
            assert!(exists(name, field), "{name}.{field}");
        }
        for (name, field, _) in KEY_DEFAULTS {
            assert!(exists(name, field), "{name}.{field}");
        }
        for (name, fields) in OMITS_ZERO {
            for field in *fields {
                assert!(exists(name, field), "{name}.{field}");
            }
        }
        for name in ATOMIC_STRUCTS {
            assert!(exists(name, ""), "{name}");
        }
    }

    #[test]
    fn every_key_of_a_keyed_list_is_a_field_of_its_items() {
        let definitions = definitions().schemas;
        for (name, field, rule) in LISTS {
            let full = definitions.keys().find(|full| short(full) == *name).expect("tested above");
            let Some(item) = definitions[full]["properties"][*field]["items"]["$ref"].as_str()
            else {
                assert_eq!(rule.patch_merge_key, None, "{name}.{field} is a list of scalars");
                continue;
            };
            let item =
                &definitions[item.strip_prefix("#/definitions/").expect("a local reference")];
            let keys = match rule.apply {
                ListType::Map(keys) => keys,
                _ => &[],
            };
            for key in keys.iter().chain(&rule.patch_merge_key) {
                assert!(item["properties"].get(*key).is_some(), "{name}.{field} by {key}");
            }
        }
    }
}
