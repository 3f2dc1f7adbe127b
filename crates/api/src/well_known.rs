//! Names that Kubernetes, and Coffer, give a meaning: written once, so that a misspelt one does not
//! compile instead of never matching.
//!
//! A name that one file alone reads or writes may stay there.

/// Keys of annotations.
pub mod annotation {
    /// Which file a static pod's copy in the API stands for; only a kubelet may set it.
    pub const MIRROR: &str = "kubernetes.io/config.mirror";
    /// The hash of a static pod's manifest.
    pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
    /// Where a kubelet has a pod from: `file`, `api`.
    pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
    /// What client-side apply sent last: the whole object, a Secret's payload included.
    pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    /// The container that `kubectl exec` and `logs` take where none is named.
    pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
    /// The service account that a token secret belongs to.
    pub const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
    /// Its uid.
    pub const SERVICE_ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
    /// On a service account: its pods mount only what its `secrets` lists.
    pub const ENFORCE_MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
    /// A text for people.
    pub const DESCRIPTION: &str = "kubernetes.io/description";
    /// What it costs to delete a pod rather than its siblings.
    pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    /// A ReplicaSet's number in the history of its Deployment.
    pub const REVISION: &str = "deployment.kubernetes.io/revision";
    /// The numbers it had before.
    pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
    /// How many replicas the Deployment of a ReplicaSet wants.
    pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
    /// How many it may have while it rolls out.
    pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
    /// On a default RBAC object: the server restores it at its start.
    pub const RBAC_AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
    /// On the last event of a watch list's initial state.
    pub const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
    /// A container's AppArmor profile before it was a field: the container's name follows.
    pub const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    /// A pod's seccomp profile before it was a field.
    pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    /// A container's: the container's name follows.
    pub const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";

    /// How a running pod's secret volumes follow their secrets: `live`, or not at all.
    pub const SECRET_UPDATE: &str = "coffer.dev/secret-update";
    /// Which version of each secret a pod uses; the kubelet sets it.
    pub const SECRET_RESOURCE_VERSIONS: &str = "coffer.dev/secret-resource-versions";
    /// The secrets that the writer of a pod template was allowed to use; the API server alone sets it.
    pub const GRANTED_SECRETS: &str = "coffer.dev/granted-secrets";
    /// The same for host paths.
    pub const GRANTED_HOST_PATHS: &str = crate::host_paths::GRANTED;
    /// Where an account's secrets appear in its pods.
    pub const MOUNT_PATH: &str = "coffer.dev/mount-path";
    /// On an account or a pod: whether the account's secrets are added to pods.
    pub const ATTACH_SECRETS: &str = "coffer.dev/attach-secrets";
}

/// Keys of labels.
pub mod label {
    /// A namespace's own name.
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
    /// A node's host name.
    pub const HOSTNAME: &str = "kubernetes.io/hostname";
    /// A node's operating system.
    pub const OS: &str = "kubernetes.io/os";
    /// A node's architecture, as Go names it.
    pub const ARCH: &str = "kubernetes.io/arch";
    /// [`OS`] before it was stable.
    pub const OS_BETA: &str = "beta.kubernetes.io/os";
    /// [`ARCH`] before it was stable.
    pub const ARCH_BETA: &str = "beta.kubernetes.io/arch";
    /// A node's zone.
    pub const ZONE: &str = "topology.kubernetes.io/zone";
    /// A node's region.
    pub const REGION: &str = "topology.kubernetes.io/region";
    /// A node's machine type.
    pub const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";
    /// [`ZONE`] before it was stable.
    pub const ZONE_BETA: &str = "failure-domain.beta.kubernetes.io/zone";
    /// [`REGION`] before it was stable.
    pub const REGION_BETA: &str = "failure-domain.beta.kubernetes.io/region";
    /// [`INSTANCE_TYPE`] before it was stable.
    pub const INSTANCE_TYPE_BETA: &str = "beta.kubernetes.io/instance-type";
    /// A node's role is what follows.
    pub const NODE_ROLE_PREFIX: &str = "node-role.kubernetes.io/";
    /// The hash of the pod template that a ReplicaSet was made from.
    pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
    /// Marks the default RBAC objects.
    pub const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";
}

/// Keys of taints.
pub mod taint {
    /// The node's Ready condition is False.
    pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
    /// It is Unknown.
    pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
    /// It is cordoned.
    pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
    /// It is short of memory.
    pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
    /// It is short of disk space.
    pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
    /// It is short of process ids.
    pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
    /// Its network is not set up.
    pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
}

/// `effect` of a taint, and of a toleration that is for one effect only.
pub mod taint_effect {
    /// New pods do not get to the node.
    pub const NO_SCHEDULE: &str = "NoSchedule";
    /// New pods get to the node only if no other one takes them.
    pub const PREFER_NO_SCHEDULE: &str = "PreferNoSchedule";
    /// New pods do not get to the node, and those on it are evicted.
    pub const NO_EXECUTE: &str = "NoExecute";
}

/// Finalizers that Kubernetes itself sets.
pub mod finalizer {
    /// In the spec of a namespace: its objects are deleted first.
    pub const KUBERNETES: &str = "kubernetes";
    /// The object's dependents lose their owner reference first.
    pub const ORPHAN: &str = "orphan";
    /// The object's dependents are deleted first.
    pub const FOREGROUND: &str = "foregroundDeletion";
}

/// Namespaces that are always there.
pub mod namespace {
    /// Where objects go that name none.
    pub const DEFAULT: &str = "default";
    /// The system's own objects.
    pub const KUBE_SYSTEM: &str = "kube-system";
    /// What every client may read.
    pub const KUBE_PUBLIC: &str = "kube-public";
    /// The heartbeats of nodes.
    pub const NODE_LEASE: &str = "kube-node-lease";
    /// All of them.
    pub const ALL: [&str; 4] = [DEFAULT, NODE_LEASE, KUBE_PUBLIC, KUBE_SYSTEM];
}

/// The ConfigMap, in each namespace, with the CA bundle of the API server.
pub const ROOT_CA_CONFIG_MAP: &str = "kube-root-ca.crt";
/// The service account of pods that name none.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// `spec.signerName` of a CertificateSigningRequest.
pub mod signer {
    /// Certificates of API clients.
    pub const KUBE_APISERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
    /// Certificates of kubelets as API clients.
    pub const KUBE_APISERVER_CLIENT_KUBELET: &str = "kubernetes.io/kube-apiserver-client-kubelet";
    /// Certificates of kubelets' servers.
    pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
    /// What `certificates.k8s.io/v1` does not allow any more.
    pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";
}

/// Users that the system gives a meaning.
pub mod user {
    /// A client that did not authenticate.
    pub const ANONYMOUS: &str = "system:anonymous";
    /// The API server itself.
    pub const API_SERVER: &str = "system:apiserver";
    /// The controllers.
    pub const KUBE_CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
    /// The scheduler.
    pub const KUBE_SCHEDULER: &str = "system:kube-scheduler";
    /// A node's kubelet: its node's name follows.
    pub const NODE_PREFIX: &str = "system:node:";
    /// A service account: its namespace and name follow, with a colon between them.
    pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
    /// A bootstrap token: its id follows.
    pub const BOOTSTRAP_PREFIX: &str = "system:bootstrap:";

    /// The user of a node's kubelet.
    pub fn of_node(node: &str) -> String {
        [NODE_PREFIX, node].concat()
    }

    /// The node whose kubelet a user is, if the name is that of one. Whether it is a kubelet, its
    /// group says: [`super::group::NODES`].
    pub fn node_of(user: &str) -> Option<&str> {
        user.strip_prefix(NODE_PREFIX).filter(|node| !node.is_empty())
    }

    /// The user of a service account.
    pub fn of_service_account(namespace: &str, name: &str) -> String {
        [SERVICE_ACCOUNT_PREFIX, namespace, ":", name].concat()
    }

    /// Namespace and name of the service account that a user is.
    pub fn service_account_of(user: &str) -> Option<(&str, &str)> {
        let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
        let is_one = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
        is_one.then_some((namespace, name))
    }
}

/// Groups that the system gives a meaning.
pub mod group {
    /// May do everything, whatever RBAC says.
    pub const MASTERS: &str = "system:masters";
    /// Kubelets.
    pub const NODES: &str = "system:nodes";
    /// Clients that have authenticated.
    pub const AUTHENTICATED: &str = "system:authenticated";
    /// Clients that have not.
    pub const UNAUTHENTICATED: &str = "system:unauthenticated";
    /// Bootstrap tokens.
    pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
    /// Service accounts of all namespaces.
    pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

    /// Service accounts of one namespace.
    pub fn of_service_accounts(namespace: &str) -> String {
        [SERVICE_ACCOUNTS, ":", namespace].concat()
    }
}

/// `type` of a Secret.
pub mod secret_type {
    /// One that names none.
    pub const OPAQUE: &str = "Opaque";
    /// A service account's token.
    pub const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
    /// Registry credentials in the old form.
    pub const DOCKERCFG: &str = "kubernetes.io/dockercfg";
    /// Registry credentials.
    pub const DOCKER_CONFIG_JSON: &str = "kubernetes.io/dockerconfigjson";
    /// User name and password.
    pub const BASIC_AUTH: &str = "kubernetes.io/basic-auth";
    /// An SSH key.
    pub const SSH_AUTH: &str = "kubernetes.io/ssh-auth";
    /// A certificate and its key.
    pub const TLS: &str = "kubernetes.io/tls";
    /// A token that lets a node join.
    pub const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";

    /// Whether pods can pull images with it.
    pub fn is_registry_credentials(type_: &str) -> bool {
        matches!(type_, DOCKERCFG | DOCKER_CONFIG_JSON)
    }
}

/// API groups.
pub mod api_group {
    /// Workloads.
    pub const APPS: &str = "apps";
    /// Token and self reviews.
    pub const AUTHENTICATION: &str = "authentication.k8s.io";
    /// Access reviews.
    pub const AUTHORIZATION: &str = "authorization.k8s.io";
    /// Scales.
    pub const AUTOSCALING: &str = "autoscaling";
    /// Jobs. No kind of it is served.
    pub const BATCH: &str = "batch";
    /// Certificate signing requests.
    pub const CERTIFICATES: &str = "certificates.k8s.io";
    /// Leases.
    pub const COORDINATION: &str = "coordination.k8s.io";
    /// Events in their second form.
    pub const EVENTS: &str = "events.k8s.io";
    /// Options of requests, partial objects and tables.
    pub const META: &str = "meta.k8s.io";
    /// Ingresses. No kind of it is served.
    pub const NETWORKING: &str = "networking.k8s.io";
    /// Runtime classes.
    pub const NODE: &str = "node.k8s.io";
    /// Evictions and budgets.
    pub const POLICY: &str = "policy";
    /// Roles and bindings.
    pub const RBAC: &str = "rbac.authorization.k8s.io";
    /// Priority classes.
    pub const SCHEDULING: &str = "scheduling.k8s.io";
    /// Coffer's own rights.
    pub const COFFER: &str = crate::host_paths::GROUP;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_and_read_back() {
        assert_eq!(user::node_of(&user::of_node("a.b")), Some("a.b"));
        for other in ["system:node:", "system:nodes:a", "a", "System:node:a"] {
            assert_eq!(user::node_of(other), None, "{other}");
        }
        let account = user::of_service_account("n", "a");
        assert_eq!(account, "system:serviceaccount:n:a");
        assert_eq!(user::service_account_of(&account), Some(("n", "a")));
        for other in [
            "system:serviceaccount:n",
            "system:serviceaccount::a",
            "system:serviceaccount:n:",
            "system:serviceaccount:n:a:b",
            "system:serviceaccounts:n:a",
        ] {
            assert_eq!(user::service_account_of(other), None, "{other}");
        }
    }
}
