//! Messages of `v1`.

use super::meta;
use crate::protobuf::message::Type::{
    Bool, Bytes, Int, IntOrString, MicroTime, Nested, Quantity, Text, Time,
};
use crate::protobuf::message::{Message, given, inline, list, map, nonzero};

pub(crate) static AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE: Message = Message(&[
    given(1, "volumeID", Text),
    nonzero(2, "fsType", Text),
    nonzero(3, "partition", Int),
    nonzero(4, "readOnly", Bool),
]);

pub(crate) static AFFINITY: Message = Message(&[
    given(1, "nodeAffinity", Nested(&NODE_AFFINITY)),
    given(2, "podAffinity", Nested(&POD_AFFINITY)),
    given(3, "podAntiAffinity", Nested(&POD_ANTI_AFFINITY)),
]);

pub(crate) static APP_ARMOR_PROFILE: Message =
    Message(&[given(1, "type", Text), given(2, "localhostProfile", Text)]);

pub(crate) static ATTACHED_VOLUME: Message =
    Message(&[given(1, "name", Text), given(2, "devicePath", Text)]);

pub(crate) static AZURE_DISK_VOLUME_SOURCE: Message = Message(&[
    given(1, "diskName", Text),
    given(2, "diskURI", Text),
    given(3, "cachingMode", Text),
    given(4, "fsType", Text),
    given(5, "readOnly", Bool),
    given(6, "kind", Text),
]);

pub(crate) static AZURE_FILE_VOLUME_SOURCE: Message = Message(&[
    given(1, "secretName", Text),
    given(2, "shareName", Text),
    nonzero(3, "readOnly", Bool),
]);

pub(crate) static BINDING: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "target", Nested(&OBJECT_REFERENCE)),
]);

pub(crate) static CSI_VOLUME_SOURCE: Message = Message(&[
    given(1, "driver", Text),
    given(2, "readOnly", Bool),
    given(3, "fsType", Text),
    map(4, "volumeAttributes", Text),
    given(5, "nodePublishSecretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
]);

pub(crate) static CAPABILITIES: Message = Message(&[list(1, "add", Text), list(2, "drop", Text)]);

pub(crate) static CEPH_FS_VOLUME_SOURCE: Message = Message(&[
    list(1, "monitors", Text),
    nonzero(2, "path", Text),
    nonzero(3, "user", Text),
    nonzero(4, "secretFile", Text),
    given(5, "secretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
    nonzero(6, "readOnly", Bool),
]);

pub(crate) static CINDER_VOLUME_SOURCE: Message = Message(&[
    given(1, "volumeID", Text),
    nonzero(2, "fsType", Text),
    nonzero(3, "readOnly", Bool),
    given(4, "secretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
]);

pub(crate) static CLIENT_IP_CONFIG: Message = Message(&[given(1, "timeoutSeconds", Int)]);

pub(crate) static CLUSTER_TRUST_BUNDLE_PROJECTION: Message = Message(&[
    given(1, "name", Text),
    given(2, "signerName", Text),
    given(3, "labelSelector", Nested(&meta::LABEL_SELECTOR)),
    given(4, "path", Text),
    given(5, "optional", Bool),
]);

pub(crate) static CONFIG_MAP: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    map(2, "data", Text),
    map(3, "binaryData", Bytes),
    given(4, "immutable", Bool),
]);

pub(crate) static CONFIG_MAP_ENV_SOURCE: Message =
    Message(&[inline(1, &LOCAL_OBJECT_REFERENCE), given(2, "optional", Bool)]);

pub(crate) static CONFIG_MAP_KEY_SELECTOR: Message = Message(&[
    inline(1, &LOCAL_OBJECT_REFERENCE),
    given(2, "key", Text),
    given(3, "optional", Bool),
]);

pub(crate) static CONFIG_MAP_NODE_CONFIG_SOURCE: Message = Message(&[
    given(1, "namespace", Text),
    given(2, "name", Text),
    nonzero(3, "uid", Text),
    nonzero(4, "resourceVersion", Text),
    given(5, "kubeletConfigKey", Text),
]);

pub(crate) static CONFIG_MAP_PROJECTION: Message = Message(&[
    inline(1, &LOCAL_OBJECT_REFERENCE),
    list(2, "items", Nested(&KEY_TO_PATH)),
    given(4, "optional", Bool),
]);

pub(crate) static CONFIG_MAP_VOLUME_SOURCE: Message = Message(&[
    inline(1, &LOCAL_OBJECT_REFERENCE),
    list(2, "items", Nested(&KEY_TO_PATH)),
    given(3, "defaultMode", Int),
    given(4, "optional", Bool),
]);

pub(crate) static CONTAINER: Message = Message(&[
    given(1, "name", Text),
    nonzero(2, "image", Text),
    list(3, "command", Text),
    list(4, "args", Text),
    nonzero(5, "workingDir", Text),
    list(6, "ports", Nested(&CONTAINER_PORT)),
    list(7, "env", Nested(&ENV_VAR)),
    given(8, "resources", Nested(&RESOURCE_REQUIREMENTS)),
    list(9, "volumeMounts", Nested(&VOLUME_MOUNT)),
    given(10, "livenessProbe", Nested(&PROBE)),
    given(11, "readinessProbe", Nested(&PROBE)),
    given(12, "lifecycle", Nested(&LIFECYCLE)),
    nonzero(13, "terminationMessagePath", Text),
    nonzero(14, "imagePullPolicy", Text),
    given(15, "securityContext", Nested(&SECURITY_CONTEXT)),
    nonzero(16, "stdin", Bool),
    nonzero(17, "stdinOnce", Bool),
    nonzero(18, "tty", Bool),
    list(19, "envFrom", Nested(&ENV_FROM_SOURCE)),
    nonzero(20, "terminationMessagePolicy", Text),
    list(21, "volumeDevices", Nested(&VOLUME_DEVICE)),
    given(22, "startupProbe", Nested(&PROBE)),
    list(23, "resizePolicy", Nested(&CONTAINER_RESIZE_POLICY)),
    given(24, "restartPolicy", Text),
    list(25, "restartPolicyRules", Nested(&CONTAINER_RESTART_RULE)),
]);

pub(crate) static CONTAINER_EXTENDED_RESOURCE_REQUEST: Message = Message(&[
    given(1, "containerName", Text),
    given(2, "resourceName", Text),
    given(3, "requestName", Text),
]);

pub(crate) static CONTAINER_IMAGE: Message =
    Message(&[list(1, "names", Text), nonzero(2, "sizeBytes", Int)]);

pub(crate) static CONTAINER_PORT: Message = Message(&[
    nonzero(1, "name", Text),
    nonzero(2, "hostPort", Int),
    given(3, "containerPort", Int),
    nonzero(4, "protocol", Text),
    nonzero(5, "hostIP", Text),
]);

pub(crate) static CONTAINER_RESIZE_POLICY: Message =
    Message(&[given(1, "resourceName", Text), given(2, "restartPolicy", Text)]);

pub(crate) static CONTAINER_RESTART_RULE: Message = Message(&[
    nonzero(1, "action", Text),
    given(2, "exitCodes", Nested(&CONTAINER_RESTART_RULE_ON_EXIT_CODES)),
]);

pub(crate) static CONTAINER_RESTART_RULE_ON_EXIT_CODES: Message =
    Message(&[nonzero(1, "operator", Text), list(2, "values", Int)]);

pub(crate) static CONTAINER_STATE: Message = Message(&[
    given(1, "waiting", Nested(&CONTAINER_STATE_WAITING)),
    given(2, "running", Nested(&CONTAINER_STATE_RUNNING)),
    given(3, "terminated", Nested(&CONTAINER_STATE_TERMINATED)),
]);

pub(crate) static CONTAINER_STATE_RUNNING: Message = Message(&[given(1, "startedAt", Time)]);

pub(crate) static CONTAINER_STATE_TERMINATED: Message = Message(&[
    given(1, "exitCode", Int),
    nonzero(2, "signal", Int),
    nonzero(3, "reason", Text),
    nonzero(4, "message", Text),
    given(5, "startedAt", Time),
    given(6, "finishedAt", Time),
    nonzero(7, "containerID", Text),
]);

pub(crate) static CONTAINER_STATE_WAITING: Message =
    Message(&[nonzero(1, "reason", Text), nonzero(2, "message", Text)]);

pub(crate) static CONTAINER_STATUS: Message = Message(&[
    given(1, "name", Text),
    given(2, "state", Nested(&CONTAINER_STATE)),
    given(3, "lastState", Nested(&CONTAINER_STATE)),
    given(4, "ready", Bool),
    given(5, "restartCount", Int),
    given(6, "image", Text),
    given(7, "imageID", Text),
    nonzero(8, "containerID", Text),
    given(9, "started", Bool),
    map(10, "allocatedResources", Quantity),
    given(11, "resources", Nested(&RESOURCE_REQUIREMENTS)),
    list(12, "volumeMounts", Nested(&VOLUME_MOUNT_STATUS)),
    given(13, "user", Nested(&CONTAINER_USER)),
    list(14, "allocatedResourcesStatus", Nested(&RESOURCE_STATUS)),
    given(15, "stopSignal", Text),
]);

pub(crate) static CONTAINER_USER: Message =
    Message(&[given(1, "linux", Nested(&LINUX_CONTAINER_USER))]);

pub(crate) static DAEMON_ENDPOINT: Message = Message(&[given(1, "Port", Int)]);

pub(crate) static DOWNWARD_API_PROJECTION: Message =
    Message(&[list(1, "items", Nested(&DOWNWARD_API_VOLUME_FILE))]);

pub(crate) static DOWNWARD_API_VOLUME_FILE: Message = Message(&[
    given(1, "path", Text),
    given(2, "fieldRef", Nested(&OBJECT_FIELD_SELECTOR)),
    given(3, "resourceFieldRef", Nested(&RESOURCE_FIELD_SELECTOR)),
    given(4, "mode", Int),
]);

pub(crate) static DOWNWARD_API_VOLUME_SOURCE: Message =
    Message(&[list(1, "items", Nested(&DOWNWARD_API_VOLUME_FILE)), given(2, "defaultMode", Int)]);

pub(crate) static EMPTY_DIR_VOLUME_SOURCE: Message =
    Message(&[nonzero(1, "medium", Text), given(2, "sizeLimit", Quantity)]);

pub(crate) static ENV_FROM_SOURCE: Message = Message(&[
    nonzero(1, "prefix", Text),
    given(2, "configMapRef", Nested(&CONFIG_MAP_ENV_SOURCE)),
    given(3, "secretRef", Nested(&SECRET_ENV_SOURCE)),
]);

pub(crate) static ENV_VAR: Message = Message(&[
    given(1, "name", Text),
    nonzero(2, "value", Text),
    given(3, "valueFrom", Nested(&ENV_VAR_SOURCE)),
]);

pub(crate) static ENV_VAR_SOURCE: Message = Message(&[
    given(1, "fieldRef", Nested(&OBJECT_FIELD_SELECTOR)),
    given(2, "resourceFieldRef", Nested(&RESOURCE_FIELD_SELECTOR)),
    given(3, "configMapKeyRef", Nested(&CONFIG_MAP_KEY_SELECTOR)),
    given(4, "secretKeyRef", Nested(&SECRET_KEY_SELECTOR)),
    given(5, "fileKeyRef", Nested(&FILE_KEY_SELECTOR)),
]);

pub(crate) static EPHEMERAL_CONTAINER: Message =
    Message(&[inline(1, &EPHEMERAL_CONTAINER_COMMON), nonzero(2, "targetContainerName", Text)]);

pub(crate) static EPHEMERAL_CONTAINER_COMMON: Message = Message(&[
    given(1, "name", Text),
    nonzero(2, "image", Text),
    list(3, "command", Text),
    list(4, "args", Text),
    nonzero(5, "workingDir", Text),
    list(6, "ports", Nested(&CONTAINER_PORT)),
    list(7, "env", Nested(&ENV_VAR)),
    given(8, "resources", Nested(&RESOURCE_REQUIREMENTS)),
    list(9, "volumeMounts", Nested(&VOLUME_MOUNT)),
    given(10, "livenessProbe", Nested(&PROBE)),
    given(11, "readinessProbe", Nested(&PROBE)),
    given(12, "lifecycle", Nested(&LIFECYCLE)),
    nonzero(13, "terminationMessagePath", Text),
    nonzero(14, "imagePullPolicy", Text),
    given(15, "securityContext", Nested(&SECURITY_CONTEXT)),
    nonzero(16, "stdin", Bool),
    nonzero(17, "stdinOnce", Bool),
    nonzero(18, "tty", Bool),
    list(19, "envFrom", Nested(&ENV_FROM_SOURCE)),
    nonzero(20, "terminationMessagePolicy", Text),
    list(21, "volumeDevices", Nested(&VOLUME_DEVICE)),
    given(22, "startupProbe", Nested(&PROBE)),
    list(23, "resizePolicy", Nested(&CONTAINER_RESIZE_POLICY)),
    given(24, "restartPolicy", Text),
    list(25, "restartPolicyRules", Nested(&CONTAINER_RESTART_RULE)),
]);

pub(crate) static EPHEMERAL_VOLUME_SOURCE: Message =
    Message(&[given(1, "volumeClaimTemplate", Nested(&PERSISTENT_VOLUME_CLAIM_TEMPLATE))]);

pub(crate) static EVENT: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "involvedObject", Nested(&OBJECT_REFERENCE)),
    nonzero(3, "reason", Text),
    nonzero(4, "message", Text),
    given(5, "source", Nested(&EVENT_SOURCE)),
    given(6, "firstTimestamp", Time),
    given(7, "lastTimestamp", Time),
    nonzero(8, "count", Int),
    nonzero(9, "type", Text),
    given(10, "eventTime", MicroTime),
    given(11, "series", Nested(&EVENT_SERIES)),
    nonzero(12, "action", Text),
    given(13, "related", Nested(&OBJECT_REFERENCE)),
    given(14, "reportingComponent", Text),
    given(15, "reportingInstance", Text),
]);

pub(crate) static EVENT_SERIES: Message =
    Message(&[nonzero(1, "count", Int), given(2, "lastObservedTime", MicroTime)]);

pub(crate) static EVENT_SOURCE: Message =
    Message(&[nonzero(1, "component", Text), nonzero(2, "host", Text)]);

pub(crate) static EXEC_ACTION: Message = Message(&[list(1, "command", Text)]);

pub(crate) static FC_VOLUME_SOURCE: Message = Message(&[
    list(1, "targetWWNs", Text),
    given(2, "lun", Int),
    nonzero(3, "fsType", Text),
    nonzero(4, "readOnly", Bool),
    list(5, "wwids", Text),
]);

pub(crate) static FILE_KEY_SELECTOR: Message = Message(&[
    given(1, "volumeName", Text),
    given(2, "path", Text),
    given(3, "key", Text),
    given(4, "optional", Bool),
]);

pub(crate) static FLEX_VOLUME_SOURCE: Message = Message(&[
    given(1, "driver", Text),
    nonzero(2, "fsType", Text),
    given(3, "secretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
    nonzero(4, "readOnly", Bool),
    map(5, "options", Text),
]);

pub(crate) static FLOCKER_VOLUME_SOURCE: Message =
    Message(&[nonzero(1, "datasetName", Text), nonzero(2, "datasetUUID", Text)]);

pub(crate) static GCE_PERSISTENT_DISK_VOLUME_SOURCE: Message = Message(&[
    given(1, "pdName", Text),
    nonzero(2, "fsType", Text),
    nonzero(3, "partition", Int),
    nonzero(4, "readOnly", Bool),
]);

pub(crate) static GRPC_ACTION: Message =
    Message(&[given(1, "port", Int), given(2, "service", Text)]);

pub(crate) static GIT_REPO_VOLUME_SOURCE: Message = Message(&[
    given(1, "repository", Text),
    nonzero(2, "revision", Text),
    nonzero(3, "directory", Text),
]);

pub(crate) static GLUSTERFS_VOLUME_SOURCE: Message =
    Message(&[given(1, "endpoints", Text), given(2, "path", Text), nonzero(3, "readOnly", Bool)]);

pub(crate) static HTTP_GET_ACTION: Message = Message(&[
    nonzero(1, "path", Text),
    given(2, "port", IntOrString),
    nonzero(3, "host", Text),
    nonzero(4, "scheme", Text),
    list(5, "httpHeaders", Nested(&HTTP_HEADER)),
]);

pub(crate) static HTTP_HEADER: Message =
    Message(&[given(1, "name", Text), given(2, "value", Text)]);

pub(crate) static HOST_ALIAS: Message =
    Message(&[given(1, "ip", Text), list(2, "hostnames", Text)]);

pub(crate) static HOST_IP: Message = Message(&[given(1, "ip", Text)]);

pub(crate) static HOST_PATH_VOLUME_SOURCE: Message =
    Message(&[given(1, "path", Text), given(2, "type", Text)]);

pub(crate) static ISCSI_VOLUME_SOURCE: Message = Message(&[
    given(1, "targetPortal", Text),
    given(2, "iqn", Text),
    given(3, "lun", Int),
    nonzero(4, "iscsiInterface", Text),
    nonzero(5, "fsType", Text),
    nonzero(6, "readOnly", Bool),
    list(7, "portals", Text),
    nonzero(8, "chapAuthDiscovery", Bool),
    given(10, "secretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
    nonzero(11, "chapAuthSession", Bool),
    given(12, "initiatorName", Text),
]);

pub(crate) static IMAGE_VOLUME_SOURCE: Message =
    Message(&[nonzero(1, "reference", Text), nonzero(2, "pullPolicy", Text)]);

pub(crate) static KEY_TO_PATH: Message =
    Message(&[given(1, "key", Text), given(2, "path", Text), given(3, "mode", Int)]);

pub(crate) static LIFECYCLE: Message = Message(&[
    given(1, "postStart", Nested(&LIFECYCLE_HANDLER)),
    given(2, "preStop", Nested(&LIFECYCLE_HANDLER)),
    given(3, "stopSignal", Text),
]);

pub(crate) static LIFECYCLE_HANDLER: Message = Message(&[
    given(1, "exec", Nested(&EXEC_ACTION)),
    given(2, "httpGet", Nested(&HTTP_GET_ACTION)),
    given(3, "tcpSocket", Nested(&TCP_SOCKET_ACTION)),
    given(4, "sleep", Nested(&SLEEP_ACTION)),
]);

pub(crate) static LINUX_CONTAINER_USER: Message =
    Message(&[given(1, "uid", Int), given(2, "gid", Int), list(3, "supplementalGroups", Int)]);

pub(crate) static LOAD_BALANCER_INGRESS: Message = Message(&[
    nonzero(1, "ip", Text),
    nonzero(2, "hostname", Text),
    given(3, "ipMode", Text),
    list(4, "ports", Nested(&PORT_STATUS)),
]);

pub(crate) static LOAD_BALANCER_STATUS: Message =
    Message(&[list(1, "ingress", Nested(&LOAD_BALANCER_INGRESS))]);

pub(crate) static LOCAL_OBJECT_REFERENCE: Message = Message(&[nonzero(1, "name", Text)]);

pub(crate) static NFS_VOLUME_SOURCE: Message =
    Message(&[given(1, "server", Text), given(2, "path", Text), nonzero(3, "readOnly", Bool)]);

pub(crate) static NAMESPACE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&NAMESPACE_SPEC)),
    given(3, "status", Nested(&NAMESPACE_STATUS)),
]);

pub(crate) static NAMESPACE_CONDITION: Message = Message(&[
    given(1, "type", Text),
    given(2, "status", Text),
    given(4, "lastTransitionTime", Time),
    nonzero(5, "reason", Text),
    nonzero(6, "message", Text),
]);

pub(crate) static NAMESPACE_SPEC: Message = Message(&[list(1, "finalizers", Text)]);

pub(crate) static NAMESPACE_STATUS: Message =
    Message(&[nonzero(1, "phase", Text), list(2, "conditions", Nested(&NAMESPACE_CONDITION))]);

pub(crate) static NODE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&NODE_SPEC)),
    given(3, "status", Nested(&NODE_STATUS)),
]);

pub(crate) static NODE_ADDRESS: Message =
    Message(&[given(1, "type", Text), given(2, "address", Text)]);

pub(crate) static NODE_AFFINITY: Message = Message(&[
    given(1, "requiredDuringSchedulingIgnoredDuringExecution", Nested(&NODE_SELECTOR)),
    list(2, "preferredDuringSchedulingIgnoredDuringExecution", Nested(&PREFERRED_SCHEDULING_TERM)),
]);

pub(crate) static NODE_CONDITION: Message = Message(&[
    given(1, "type", Text),
    given(2, "status", Text),
    given(3, "lastHeartbeatTime", Time),
    given(4, "lastTransitionTime", Time),
    nonzero(5, "reason", Text),
    nonzero(6, "message", Text),
]);

pub(crate) static NODE_CONFIG_SOURCE: Message =
    Message(&[given(2, "configMap", Nested(&CONFIG_MAP_NODE_CONFIG_SOURCE))]);

pub(crate) static NODE_CONFIG_STATUS: Message = Message(&[
    given(1, "assigned", Nested(&NODE_CONFIG_SOURCE)),
    given(2, "active", Nested(&NODE_CONFIG_SOURCE)),
    given(3, "lastKnownGood", Nested(&NODE_CONFIG_SOURCE)),
    nonzero(4, "error", Text),
]);

pub(crate) static NODE_DAEMON_ENDPOINTS: Message =
    Message(&[given(1, "kubeletEndpoint", Nested(&DAEMON_ENDPOINT))]);

pub(crate) static NODE_FEATURES: Message = Message(&[given(1, "supplementalGroupsPolicy", Bool)]);

pub(crate) static NODE_RUNTIME_HANDLER: Message = Message(&[
    given(1, "name", Text),
    given(2, "features", Nested(&NODE_RUNTIME_HANDLER_FEATURES)),
]);

pub(crate) static NODE_RUNTIME_HANDLER_FEATURES: Message =
    Message(&[given(1, "recursiveReadOnlyMounts", Bool), given(2, "userNamespaces", Bool)]);

pub(crate) static NODE_SELECTOR: Message =
    Message(&[list(1, "nodeSelectorTerms", Nested(&NODE_SELECTOR_TERM))]);

pub(crate) static NODE_SELECTOR_REQUIREMENT: Message =
    Message(&[given(1, "key", Text), given(2, "operator", Text), list(3, "values", Text)]);

pub(crate) static NODE_SELECTOR_TERM: Message = Message(&[
    list(1, "matchExpressions", Nested(&NODE_SELECTOR_REQUIREMENT)),
    list(2, "matchFields", Nested(&NODE_SELECTOR_REQUIREMENT)),
]);

pub(crate) static NODE_SPEC: Message = Message(&[
    nonzero(1, "podCIDR", Text),
    nonzero(2, "externalID", Text),
    nonzero(3, "providerID", Text),
    nonzero(4, "unschedulable", Bool),
    list(5, "taints", Nested(&TAINT)),
    given(6, "configSource", Nested(&NODE_CONFIG_SOURCE)),
    list(7, "podCIDRs", Text),
]);

pub(crate) static NODE_STATUS: Message = Message(&[
    map(1, "capacity", Quantity),
    map(2, "allocatable", Quantity),
    nonzero(3, "phase", Text),
    list(4, "conditions", Nested(&NODE_CONDITION)),
    list(5, "addresses", Nested(&NODE_ADDRESS)),
    given(6, "daemonEndpoints", Nested(&NODE_DAEMON_ENDPOINTS)),
    given(7, "nodeInfo", Nested(&NODE_SYSTEM_INFO)),
    list(8, "images", Nested(&CONTAINER_IMAGE)),
    list(9, "volumesInUse", Text),
    list(10, "volumesAttached", Nested(&ATTACHED_VOLUME)),
    given(11, "config", Nested(&NODE_CONFIG_STATUS)),
    list(12, "runtimeHandlers", Nested(&NODE_RUNTIME_HANDLER)),
    given(13, "features", Nested(&NODE_FEATURES)),
]);

pub(crate) static NODE_SWAP_STATUS: Message = Message(&[given(1, "capacity", Int)]);

pub(crate) static NODE_SYSTEM_INFO: Message = Message(&[
    given(1, "machineID", Text),
    given(2, "systemUUID", Text),
    given(3, "bootID", Text),
    given(4, "kernelVersion", Text),
    given(5, "osImage", Text),
    given(6, "containerRuntimeVersion", Text),
    given(7, "kubeletVersion", Text),
    given(8, "kubeProxyVersion", Text),
    given(9, "operatingSystem", Text),
    given(10, "architecture", Text),
    given(11, "swap", Nested(&NODE_SWAP_STATUS)),
]);

pub(crate) static OBJECT_FIELD_SELECTOR: Message =
    Message(&[nonzero(1, "apiVersion", Text), given(2, "fieldPath", Text)]);

pub(crate) static OBJECT_REFERENCE: Message = Message(&[
    nonzero(1, "kind", Text),
    nonzero(2, "namespace", Text),
    nonzero(3, "name", Text),
    nonzero(4, "uid", Text),
    nonzero(5, "apiVersion", Text),
    nonzero(6, "resourceVersion", Text),
    nonzero(7, "fieldPath", Text),
]);

pub(crate) static PERSISTENT_VOLUME_CLAIM_SPEC: Message = Message(&[
    list(1, "accessModes", Text),
    given(2, "resources", Nested(&VOLUME_RESOURCE_REQUIREMENTS)),
    nonzero(3, "volumeName", Text),
    given(4, "selector", Nested(&meta::LABEL_SELECTOR)),
    given(5, "storageClassName", Text),
    given(6, "volumeMode", Text),
    given(7, "dataSource", Nested(&TYPED_LOCAL_OBJECT_REFERENCE)),
    given(8, "dataSourceRef", Nested(&TYPED_OBJECT_REFERENCE)),
    given(9, "volumeAttributesClassName", Text),
]);

pub(crate) static PERSISTENT_VOLUME_CLAIM_TEMPLATE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&PERSISTENT_VOLUME_CLAIM_SPEC)),
]);

pub(crate) static PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE: Message =
    Message(&[given(1, "claimName", Text), nonzero(2, "readOnly", Bool)]);

pub(crate) static PHOTON_PERSISTENT_DISK_VOLUME_SOURCE: Message =
    Message(&[given(1, "pdID", Text), nonzero(2, "fsType", Text)]);

pub(crate) static POD: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&POD_SPEC)),
    given(3, "status", Nested(&POD_STATUS)),
]);

pub(crate) static POD_AFFINITY: Message = Message(&[
    list(1, "requiredDuringSchedulingIgnoredDuringExecution", Nested(&POD_AFFINITY_TERM)),
    list(2, "preferredDuringSchedulingIgnoredDuringExecution", Nested(&WEIGHTED_POD_AFFINITY_TERM)),
]);

pub(crate) static POD_AFFINITY_TERM: Message = Message(&[
    given(1, "labelSelector", Nested(&meta::LABEL_SELECTOR)),
    list(2, "namespaces", Text),
    given(3, "topologyKey", Text),
    given(4, "namespaceSelector", Nested(&meta::LABEL_SELECTOR)),
    list(5, "matchLabelKeys", Text),
    list(6, "mismatchLabelKeys", Text),
]);

pub(crate) static POD_ANTI_AFFINITY: Message = Message(&[
    list(1, "requiredDuringSchedulingIgnoredDuringExecution", Nested(&POD_AFFINITY_TERM)),
    list(2, "preferredDuringSchedulingIgnoredDuringExecution", Nested(&WEIGHTED_POD_AFFINITY_TERM)),
]);

pub(crate) static POD_CERTIFICATE_PROJECTION: Message = Message(&[
    nonzero(1, "signerName", Text),
    nonzero(2, "keyType", Text),
    given(3, "maxExpirationSeconds", Int),
    nonzero(4, "credentialBundlePath", Text),
    nonzero(5, "keyPath", Text),
    nonzero(6, "certificateChainPath", Text),
]);

pub(crate) static POD_CONDITION: Message = Message(&[
    given(1, "type", Text),
    given(2, "status", Text),
    given(3, "lastProbeTime", Time),
    given(4, "lastTransitionTime", Time),
    nonzero(5, "reason", Text),
    nonzero(6, "message", Text),
    nonzero(7, "observedGeneration", Int),
]);

pub(crate) static POD_DNS_CONFIG: Message = Message(&[
    list(1, "nameservers", Text),
    list(2, "searches", Text),
    list(3, "options", Nested(&POD_DNS_CONFIG_OPTION)),
]);

pub(crate) static POD_DNS_CONFIG_OPTION: Message =
    Message(&[nonzero(1, "name", Text), given(2, "value", Text)]);

pub(crate) static POD_EXTENDED_RESOURCE_CLAIM_STATUS: Message = Message(&[
    list(1, "requestMappings", Nested(&CONTAINER_EXTENDED_RESOURCE_REQUEST)),
    given(2, "resourceClaimName", Text),
]);

pub(crate) static POD_IP: Message = Message(&[given(1, "ip", Text)]);

pub(crate) static POD_OS: Message = Message(&[given(1, "name", Text)]);

pub(crate) static POD_READINESS_GATE: Message = Message(&[given(1, "conditionType", Text)]);

pub(crate) static POD_RESOURCE_CLAIM: Message = Message(&[
    given(1, "name", Text),
    given(3, "resourceClaimName", Text),
    given(4, "resourceClaimTemplateName", Text),
]);

pub(crate) static POD_RESOURCE_CLAIM_STATUS: Message =
    Message(&[given(1, "name", Text), given(2, "resourceClaimName", Text)]);

pub(crate) static POD_SCHEDULING_GATE: Message = Message(&[given(1, "name", Text)]);

pub(crate) static POD_SECURITY_CONTEXT: Message = Message(&[
    given(1, "seLinuxOptions", Nested(&SE_LINUX_OPTIONS)),
    given(2, "runAsUser", Int),
    given(3, "runAsNonRoot", Bool),
    list(4, "supplementalGroups", Int),
    given(5, "fsGroup", Int),
    given(6, "runAsGroup", Int),
    list(7, "sysctls", Nested(&SYSCTL)),
    given(8, "windowsOptions", Nested(&WINDOWS_SECURITY_CONTEXT_OPTIONS)),
    given(9, "fsGroupChangePolicy", Text),
    given(10, "seccompProfile", Nested(&SECCOMP_PROFILE)),
    given(11, "appArmorProfile", Nested(&APP_ARMOR_PROFILE)),
    given(12, "supplementalGroupsPolicy", Text),
    given(13, "seLinuxChangePolicy", Text),
]);

pub(crate) static POD_SPEC: Message = Message(&[
    list(1, "volumes", Nested(&VOLUME)),
    list(2, "containers", Nested(&CONTAINER)),
    nonzero(3, "restartPolicy", Text),
    given(4, "terminationGracePeriodSeconds", Int),
    given(5, "activeDeadlineSeconds", Int),
    nonzero(6, "dnsPolicy", Text),
    map(7, "nodeSelector", Text),
    nonzero(8, "serviceAccountName", Text),
    nonzero(9, "serviceAccount", Text),
    nonzero(10, "nodeName", Text),
    nonzero(11, "hostNetwork", Bool),
    nonzero(12, "hostPID", Bool),
    nonzero(13, "hostIPC", Bool),
    given(14, "securityContext", Nested(&POD_SECURITY_CONTEXT)),
    list(15, "imagePullSecrets", Nested(&LOCAL_OBJECT_REFERENCE)),
    nonzero(16, "hostname", Text),
    nonzero(17, "subdomain", Text),
    given(18, "affinity", Nested(&AFFINITY)),
    nonzero(19, "schedulerName", Text),
    list(20, "initContainers", Nested(&CONTAINER)),
    given(21, "automountServiceAccountToken", Bool),
    list(22, "tolerations", Nested(&TOLERATION)),
    list(23, "hostAliases", Nested(&HOST_ALIAS)),
    nonzero(24, "priorityClassName", Text),
    given(25, "priority", Int),
    given(26, "dnsConfig", Nested(&POD_DNS_CONFIG)),
    given(27, "shareProcessNamespace", Bool),
    list(28, "readinessGates", Nested(&POD_READINESS_GATE)),
    given(29, "runtimeClassName", Text),
    given(30, "enableServiceLinks", Bool),
    given(31, "preemptionPolicy", Text),
    map(32, "overhead", Quantity),
    list(33, "topologySpreadConstraints", Nested(&TOPOLOGY_SPREAD_CONSTRAINT)),
    list(34, "ephemeralContainers", Nested(&EPHEMERAL_CONTAINER)),
    given(35, "setHostnameAsFQDN", Bool),
    given(36, "os", Nested(&POD_OS)),
    given(37, "hostUsers", Bool),
    list(38, "schedulingGates", Nested(&POD_SCHEDULING_GATE)),
    list(39, "resourceClaims", Nested(&POD_RESOURCE_CLAIM)),
    given(40, "resources", Nested(&RESOURCE_REQUIREMENTS)),
    given(41, "hostnameOverride", Text),
]);

pub(crate) static POD_STATUS: Message = Message(&[
    nonzero(1, "phase", Text),
    list(2, "conditions", Nested(&POD_CONDITION)),
    nonzero(3, "message", Text),
    nonzero(4, "reason", Text),
    nonzero(5, "hostIP", Text),
    nonzero(6, "podIP", Text),
    given(7, "startTime", Time),
    list(8, "containerStatuses", Nested(&CONTAINER_STATUS)),
    nonzero(9, "qosClass", Text),
    list(10, "initContainerStatuses", Nested(&CONTAINER_STATUS)),
    nonzero(11, "nominatedNodeName", Text),
    list(12, "podIPs", Nested(&POD_IP)),
    list(13, "ephemeralContainerStatuses", Nested(&CONTAINER_STATUS)),
    nonzero(14, "resize", Text),
    list(15, "resourceClaimStatuses", Nested(&POD_RESOURCE_CLAIM_STATUS)),
    list(16, "hostIPs", Nested(&HOST_IP)),
    nonzero(17, "observedGeneration", Int),
    given(18, "extendedResourceClaimStatus", Nested(&POD_EXTENDED_RESOURCE_CLAIM_STATUS)),
]);

pub(crate) static POD_TEMPLATE_SPEC: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&POD_SPEC)),
]);

pub(crate) static PORT_STATUS: Message =
    Message(&[given(1, "port", Int), given(2, "protocol", Text), given(3, "error", Text)]);

pub(crate) static PORTWORX_VOLUME_SOURCE: Message = Message(&[
    given(1, "volumeID", Text),
    nonzero(2, "fsType", Text),
    nonzero(3, "readOnly", Bool),
]);

pub(crate) static PREFERRED_SCHEDULING_TERM: Message =
    Message(&[given(1, "weight", Int), given(2, "preference", Nested(&NODE_SELECTOR_TERM))]);

pub(crate) static PROBE: Message = Message(&[
    inline(1, &PROBE_HANDLER),
    nonzero(2, "initialDelaySeconds", Int),
    nonzero(3, "timeoutSeconds", Int),
    nonzero(4, "periodSeconds", Int),
    nonzero(5, "successThreshold", Int),
    nonzero(6, "failureThreshold", Int),
    given(7, "terminationGracePeriodSeconds", Int),
]);

pub(crate) static PROBE_HANDLER: Message = Message(&[
    given(1, "exec", Nested(&EXEC_ACTION)),
    given(2, "httpGet", Nested(&HTTP_GET_ACTION)),
    given(3, "tcpSocket", Nested(&TCP_SOCKET_ACTION)),
    given(4, "grpc", Nested(&GRPC_ACTION)),
]);

pub(crate) static PROJECTED_VOLUME_SOURCE: Message =
    Message(&[list(1, "sources", Nested(&VOLUME_PROJECTION)), given(2, "defaultMode", Int)]);

pub(crate) static QUOBYTE_VOLUME_SOURCE: Message = Message(&[
    given(1, "registry", Text),
    given(2, "volume", Text),
    nonzero(3, "readOnly", Bool),
    nonzero(4, "user", Text),
    nonzero(5, "group", Text),
    nonzero(6, "tenant", Text),
]);

pub(crate) static RBD_VOLUME_SOURCE: Message = Message(&[
    list(1, "monitors", Text),
    given(2, "image", Text),
    nonzero(3, "fsType", Text),
    nonzero(4, "pool", Text),
    nonzero(5, "user", Text),
    nonzero(6, "keyring", Text),
    given(7, "secretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
    nonzero(8, "readOnly", Bool),
]);

pub(crate) static REPLICATION_CONTROLLER: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&REPLICATION_CONTROLLER_SPEC)),
    given(3, "status", Nested(&REPLICATION_CONTROLLER_STATUS)),
]);

pub(crate) static REPLICATION_CONTROLLER_CONDITION: Message = Message(&[
    given(1, "type", Text),
    given(2, "status", Text),
    given(3, "lastTransitionTime", Time),
    nonzero(4, "reason", Text),
    nonzero(5, "message", Text),
]);

pub(crate) static REPLICATION_CONTROLLER_SPEC: Message = Message(&[
    given(1, "replicas", Int),
    map(2, "selector", Text),
    given(3, "template", Nested(&POD_TEMPLATE_SPEC)),
    nonzero(4, "minReadySeconds", Int),
]);

pub(crate) static REPLICATION_CONTROLLER_STATUS: Message = Message(&[
    given(1, "replicas", Int),
    nonzero(2, "fullyLabeledReplicas", Int),
    nonzero(3, "observedGeneration", Int),
    nonzero(4, "readyReplicas", Int),
    nonzero(5, "availableReplicas", Int),
    list(6, "conditions", Nested(&REPLICATION_CONTROLLER_CONDITION)),
]);

pub(crate) static RESOURCE_CLAIM: Message =
    Message(&[given(1, "name", Text), nonzero(2, "request", Text)]);

pub(crate) static RESOURCE_FIELD_SELECTOR: Message = Message(&[
    nonzero(1, "containerName", Text),
    given(2, "resource", Text),
    given(3, "divisor", Quantity),
]);

pub(crate) static RESOURCE_HEALTH: Message =
    Message(&[given(1, "resourceID", Text), nonzero(2, "health", Text)]);

pub(crate) static RESOURCE_QUOTA: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&RESOURCE_QUOTA_SPEC)),
    given(3, "status", Nested(&RESOURCE_QUOTA_STATUS)),
]);

pub(crate) static RESOURCE_QUOTA_SPEC: Message = Message(&[
    map(1, "hard", Quantity),
    list(2, "scopes", Text),
    given(3, "scopeSelector", Nested(&SCOPE_SELECTOR)),
]);

pub(crate) static RESOURCE_QUOTA_STATUS: Message =
    Message(&[map(1, "hard", Quantity), map(2, "used", Quantity)]);

pub(crate) static RESOURCE_REQUIREMENTS: Message = Message(&[
    map(1, "limits", Quantity),
    map(2, "requests", Quantity),
    list(3, "claims", Nested(&RESOURCE_CLAIM)),
]);

pub(crate) static RESOURCE_STATUS: Message =
    Message(&[given(1, "name", Text), list(2, "resources", Nested(&RESOURCE_HEALTH))]);

pub(crate) static SE_LINUX_OPTIONS: Message = Message(&[
    nonzero(1, "user", Text),
    nonzero(2, "role", Text),
    nonzero(3, "type", Text),
    nonzero(4, "level", Text),
]);

pub(crate) static SCALE_IO_VOLUME_SOURCE: Message = Message(&[
    given(1, "gateway", Text),
    given(2, "system", Text),
    given(3, "secretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
    nonzero(4, "sslEnabled", Bool),
    nonzero(5, "protectionDomain", Text),
    nonzero(6, "storagePool", Text),
    nonzero(7, "storageMode", Text),
    nonzero(8, "volumeName", Text),
    nonzero(9, "fsType", Text),
    nonzero(10, "readOnly", Bool),
]);

pub(crate) static SCOPE_SELECTOR: Message =
    Message(&[list(1, "matchExpressions", Nested(&SCOPED_RESOURCE_SELECTOR_REQUIREMENT))]);

pub(crate) static SCOPED_RESOURCE_SELECTOR_REQUIREMENT: Message =
    Message(&[given(1, "scopeName", Text), given(2, "operator", Text), list(3, "values", Text)]);

pub(crate) static SECCOMP_PROFILE: Message =
    Message(&[given(1, "type", Text), given(2, "localhostProfile", Text)]);

pub(crate) static SECRET: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    map(2, "data", Bytes),
    nonzero(3, "type", Text),
    map(4, "stringData", Text),
    given(5, "immutable", Bool),
]);

pub(crate) static SECRET_ENV_SOURCE: Message =
    Message(&[inline(1, &LOCAL_OBJECT_REFERENCE), given(2, "optional", Bool)]);

pub(crate) static SECRET_KEY_SELECTOR: Message = Message(&[
    inline(1, &LOCAL_OBJECT_REFERENCE),
    given(2, "key", Text),
    given(3, "optional", Bool),
]);

pub(crate) static SECRET_PROJECTION: Message = Message(&[
    inline(1, &LOCAL_OBJECT_REFERENCE),
    list(2, "items", Nested(&KEY_TO_PATH)),
    given(4, "optional", Bool),
]);

pub(crate) static SECRET_VOLUME_SOURCE: Message = Message(&[
    nonzero(1, "secretName", Text),
    list(2, "items", Nested(&KEY_TO_PATH)),
    given(3, "defaultMode", Int),
    given(4, "optional", Bool),
]);

pub(crate) static SECURITY_CONTEXT: Message = Message(&[
    given(1, "capabilities", Nested(&CAPABILITIES)),
    given(2, "privileged", Bool),
    given(3, "seLinuxOptions", Nested(&SE_LINUX_OPTIONS)),
    given(4, "runAsUser", Int),
    given(5, "runAsNonRoot", Bool),
    given(6, "readOnlyRootFilesystem", Bool),
    given(7, "allowPrivilegeEscalation", Bool),
    given(8, "runAsGroup", Int),
    given(9, "procMount", Text),
    given(10, "windowsOptions", Nested(&WINDOWS_SECURITY_CONTEXT_OPTIONS)),
    given(11, "seccompProfile", Nested(&SECCOMP_PROFILE)),
    given(12, "appArmorProfile", Nested(&APP_ARMOR_PROFILE)),
]);

pub(crate) static SERVICE: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    given(2, "spec", Nested(&SERVICE_SPEC)),
    given(3, "status", Nested(&SERVICE_STATUS)),
]);

pub(crate) static SERVICE_ACCOUNT: Message = Message(&[
    given(1, "metadata", Nested(&meta::OBJECT_META)),
    list(2, "secrets", Nested(&OBJECT_REFERENCE)),
    list(3, "imagePullSecrets", Nested(&LOCAL_OBJECT_REFERENCE)),
    given(4, "automountServiceAccountToken", Bool),
]);

pub(crate) static SERVICE_ACCOUNT_TOKEN_PROJECTION: Message = Message(&[
    nonzero(1, "audience", Text),
    given(2, "expirationSeconds", Int),
    given(3, "path", Text),
]);

pub(crate) static SERVICE_PORT: Message = Message(&[
    nonzero(1, "name", Text),
    nonzero(2, "protocol", Text),
    given(3, "port", Int),
    given(4, "targetPort", IntOrString),
    nonzero(5, "nodePort", Int),
    given(6, "appProtocol", Text),
]);

pub(crate) static SERVICE_SPEC: Message = Message(&[
    list(1, "ports", Nested(&SERVICE_PORT)),
    map(2, "selector", Text),
    nonzero(3, "clusterIP", Text),
    nonzero(4, "type", Text),
    list(5, "externalIPs", Text),
    nonzero(7, "sessionAffinity", Text),
    nonzero(8, "loadBalancerIP", Text),
    list(9, "loadBalancerSourceRanges", Text),
    nonzero(10, "externalName", Text),
    nonzero(11, "externalTrafficPolicy", Text),
    nonzero(12, "healthCheckNodePort", Int),
    nonzero(13, "publishNotReadyAddresses", Bool),
    given(14, "sessionAffinityConfig", Nested(&SESSION_AFFINITY_CONFIG)),
    given(17, "ipFamilyPolicy", Text),
    list(18, "clusterIPs", Text),
    list(19, "ipFamilies", Text),
    given(20, "allocateLoadBalancerNodePorts", Bool),
    given(21, "loadBalancerClass", Text),
    given(22, "internalTrafficPolicy", Text),
    given(23, "trafficDistribution", Text),
]);

pub(crate) static SERVICE_STATUS: Message = Message(&[
    given(1, "loadBalancer", Nested(&LOAD_BALANCER_STATUS)),
    list(2, "conditions", Nested(&meta::CONDITION)),
]);

pub(crate) static SESSION_AFFINITY_CONFIG: Message =
    Message(&[given(1, "clientIP", Nested(&CLIENT_IP_CONFIG))]);

pub(crate) static SLEEP_ACTION: Message = Message(&[given(1, "seconds", Int)]);

pub(crate) static STORAGE_OS_VOLUME_SOURCE: Message = Message(&[
    nonzero(1, "volumeName", Text),
    nonzero(2, "volumeNamespace", Text),
    nonzero(3, "fsType", Text),
    nonzero(4, "readOnly", Bool),
    given(5, "secretRef", Nested(&LOCAL_OBJECT_REFERENCE)),
]);

pub(crate) static SYSCTL: Message = Message(&[given(1, "name", Text), given(2, "value", Text)]);

pub(crate) static TCP_SOCKET_ACTION: Message =
    Message(&[given(1, "port", IntOrString), nonzero(2, "host", Text)]);

pub(crate) static TAINT: Message = Message(&[
    given(1, "key", Text),
    nonzero(2, "value", Text),
    given(3, "effect", Text),
    given(4, "timeAdded", Time),
]);

pub(crate) static TOLERATION: Message = Message(&[
    nonzero(1, "key", Text),
    nonzero(2, "operator", Text),
    nonzero(3, "value", Text),
    nonzero(4, "effect", Text),
    given(5, "tolerationSeconds", Int),
]);

pub(crate) static TOPOLOGY_SPREAD_CONSTRAINT: Message = Message(&[
    given(1, "maxSkew", Int),
    given(2, "topologyKey", Text),
    given(3, "whenUnsatisfiable", Text),
    given(4, "labelSelector", Nested(&meta::LABEL_SELECTOR)),
    given(5, "minDomains", Int),
    given(6, "nodeAffinityPolicy", Text),
    given(7, "nodeTaintsPolicy", Text),
    list(8, "matchLabelKeys", Text),
]);

pub(crate) static TYPED_LOCAL_OBJECT_REFERENCE: Message =
    Message(&[given(1, "apiGroup", Text), given(2, "kind", Text), given(3, "name", Text)]);

pub(crate) static TYPED_OBJECT_REFERENCE: Message = Message(&[
    given(1, "apiGroup", Text),
    given(2, "kind", Text),
    given(3, "name", Text),
    given(4, "namespace", Text),
]);

pub(crate) static VOLUME: Message = Message(&[given(1, "name", Text), inline(2, &VOLUME_SOURCE)]);

pub(crate) static VOLUME_DEVICE: Message =
    Message(&[given(1, "name", Text), given(2, "devicePath", Text)]);

pub(crate) static VOLUME_MOUNT: Message = Message(&[
    given(1, "name", Text),
    nonzero(2, "readOnly", Bool),
    given(3, "mountPath", Text),
    nonzero(4, "subPath", Text),
    given(5, "mountPropagation", Text),
    nonzero(6, "subPathExpr", Text),
    given(7, "recursiveReadOnly", Text),
]);

pub(crate) static VOLUME_MOUNT_STATUS: Message = Message(&[
    given(1, "name", Text),
    given(2, "mountPath", Text),
    nonzero(3, "readOnly", Bool),
    given(4, "recursiveReadOnly", Text),
]);

pub(crate) static VOLUME_PROJECTION: Message = Message(&[
    given(1, "secret", Nested(&SECRET_PROJECTION)),
    given(2, "downwardAPI", Nested(&DOWNWARD_API_PROJECTION)),
    given(3, "configMap", Nested(&CONFIG_MAP_PROJECTION)),
    given(4, "serviceAccountToken", Nested(&SERVICE_ACCOUNT_TOKEN_PROJECTION)),
    given(5, "clusterTrustBundle", Nested(&CLUSTER_TRUST_BUNDLE_PROJECTION)),
    given(6, "podCertificate", Nested(&POD_CERTIFICATE_PROJECTION)),
]);

pub(crate) static VOLUME_RESOURCE_REQUIREMENTS: Message =
    Message(&[map(1, "limits", Quantity), map(2, "requests", Quantity)]);

pub(crate) static VOLUME_SOURCE: Message = Message(&[
    given(1, "hostPath", Nested(&HOST_PATH_VOLUME_SOURCE)),
    given(2, "emptyDir", Nested(&EMPTY_DIR_VOLUME_SOURCE)),
    given(3, "gcePersistentDisk", Nested(&GCE_PERSISTENT_DISK_VOLUME_SOURCE)),
    given(4, "awsElasticBlockStore", Nested(&AWS_ELASTIC_BLOCK_STORE_VOLUME_SOURCE)),
    given(5, "gitRepo", Nested(&GIT_REPO_VOLUME_SOURCE)),
    given(6, "secret", Nested(&SECRET_VOLUME_SOURCE)),
    given(7, "nfs", Nested(&NFS_VOLUME_SOURCE)),
    given(8, "iscsi", Nested(&ISCSI_VOLUME_SOURCE)),
    given(9, "glusterfs", Nested(&GLUSTERFS_VOLUME_SOURCE)),
    given(10, "persistentVolumeClaim", Nested(&PERSISTENT_VOLUME_CLAIM_VOLUME_SOURCE)),
    given(11, "rbd", Nested(&RBD_VOLUME_SOURCE)),
    given(12, "flexVolume", Nested(&FLEX_VOLUME_SOURCE)),
    given(13, "cinder", Nested(&CINDER_VOLUME_SOURCE)),
    given(14, "cephfs", Nested(&CEPH_FS_VOLUME_SOURCE)),
    given(15, "flocker", Nested(&FLOCKER_VOLUME_SOURCE)),
    given(16, "downwardAPI", Nested(&DOWNWARD_API_VOLUME_SOURCE)),
    given(17, "fc", Nested(&FC_VOLUME_SOURCE)),
    given(18, "azureFile", Nested(&AZURE_FILE_VOLUME_SOURCE)),
    given(19, "configMap", Nested(&CONFIG_MAP_VOLUME_SOURCE)),
    given(20, "vsphereVolume", Nested(&VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE)),
    given(21, "quobyte", Nested(&QUOBYTE_VOLUME_SOURCE)),
    given(22, "azureDisk", Nested(&AZURE_DISK_VOLUME_SOURCE)),
    given(23, "photonPersistentDisk", Nested(&PHOTON_PERSISTENT_DISK_VOLUME_SOURCE)),
    given(24, "portworxVolume", Nested(&PORTWORX_VOLUME_SOURCE)),
    given(25, "scaleIO", Nested(&SCALE_IO_VOLUME_SOURCE)),
    given(26, "projected", Nested(&PROJECTED_VOLUME_SOURCE)),
    given(27, "storageos", Nested(&STORAGE_OS_VOLUME_SOURCE)),
    given(28, "csi", Nested(&CSI_VOLUME_SOURCE)),
    given(29, "ephemeral", Nested(&EPHEMERAL_VOLUME_SOURCE)),
    given(30, "image", Nested(&IMAGE_VOLUME_SOURCE)),
]);

pub(crate) static VSPHERE_VIRTUAL_DISK_VOLUME_SOURCE: Message = Message(&[
    given(1, "volumePath", Text),
    nonzero(2, "fsType", Text),
    nonzero(3, "storagePolicyName", Text),
    nonzero(4, "storagePolicyID", Text),
]);

pub(crate) static WEIGHTED_POD_AFFINITY_TERM: Message =
    Message(&[given(1, "weight", Int), given(2, "podAffinityTerm", Nested(&POD_AFFINITY_TERM))]);

pub(crate) static WINDOWS_SECURITY_CONTEXT_OPTIONS: Message = Message(&[
    given(1, "gmsaCredentialSpecName", Text),
    given(2, "gmsaCredentialSpec", Text),
    given(3, "runAsUserName", Text),
    given(4, "hostProcess", Bool),
]);
