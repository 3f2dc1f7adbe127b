//! The fields of a pod that controllers read.
//!
//! With 50,000 pods every KiB per pod is 50 MiB in each process. So only those fields of a pod's status are
//! kept that are read, and its spec, without its node, is shared with the other pods of its owner, which have
//! the same template. Values of environment variables, arguments and annotations may be secrets and are not
//! kept. Pods are changed by patch only, which keeps all other fields on the server.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, Weak};

use coffer_api::condition::{Condition as _, ConditionType};
use coffer_api::demand::{Resources, requests};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{self, Container, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::DELETION_COST;
use crate::owner::controller_of;

/// The conditions that controllers read.
const CONDITIONS: [ConditionType; 2] = [ConditionType::Ready, ConditionType::PodScheduled];
/// Number of remembered specs from which those that no pod uses are searched for.
const SWEEP_MIN: usize = 1024;

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(from = "v1::Pod")]
pub(crate) struct Pod {
    /// Only the fields that controllers read.
    pub(crate) metadata: ObjectMeta,
    /// The node it is bound to; see [`super::node_name`].
    pub(crate) node_name: Option<String>,
    /// Its spec without its node.
    pub(crate) spec: Option<Arc<Spec>>,
    /// The fields of its status that controllers read.
    pub(crate) status: Option<Status>,
}

/// The status of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Status {
    /// The phase.
    pub(crate) phase: Option<String>,
    /// Those of [`CONDITIONS`].
    pub(crate) conditions: Option<Vec<PodCondition>>,
    /// Restarts of the container that restarted most.
    pub(crate) restarts_max: i32,
}

/// A pod's spec without its node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spec {
    spec: PodSpec,
    requests: OnceLock<Resources>,
}

impl Spec {
    /// The requests of each resource, summed up once for all pods that share the spec.
    pub(crate) fn requests(&self) -> &Resources {
        self.requests.get_or_init(|| requests(&self.spec))
    }
}

impl Deref for Spec {
    type Target = PodSpec;

    fn deref(&self) -> &PodSpec {
        &self.spec
    }
}

impl PartialEq for Spec {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

/// An `Arc` of a type that is `Eq` compares pointers first, so that shared specs are not compared field by
/// field.
impl Eq for Spec {}

impl From<v1::Pod> for Pod {
    fn from(mut pod: v1::Pod) -> Self {
        let node_name = pod.spec.as_mut().and_then(|spec| spec.node_name.take());
        Self {
            metadata: kept_metadata(pod.metadata),
            node_name,
            spec: pod
                .spec
                .map(|spec| Arc::new(Spec { spec: kept_spec(spec), requests: OnceLock::new() })),
            status: pod.status.map(kept_status),
        }
    }
}

/// For functions that read pods as the API has them.
impl From<&Pod> for v1::Pod {
    fn from(pod: &Pod) -> Self {
        let spec = pod
            .spec
            .as_ref()
            .map(|spec| PodSpec { node_name: pod.node_name.clone(), ..spec.spec.clone() });
        let status = pod.status.as_ref().map(|status| v1::PodStatus {
            phase: status.phase.clone(),
            conditions: status.conditions.clone(),
            ..v1::PodStatus::default()
        });
        Self { metadata: pod.metadata.clone(), spec, status }
    }
}

fn kept_metadata(mut meta: ObjectMeta) -> ObjectMeta {
    let mut annotations = meta.annotations.take().unwrap_or_default();
    annotations.retain(|annotation, _| annotation == DELETION_COST);
    if let Some(owners) = &mut meta.owner_references {
        owners.shrink_to_fit();
    }
    ObjectMeta {
        annotations: (!annotations.is_empty()).then_some(annotations),
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        creation_timestamp: meta.creation_timestamp,
        deletion_timestamp: meta.deletion_timestamp,
        deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
        labels: meta.labels,
        owner_references: meta.owner_references,
        finalizers: meta.finalizers,
        ..ObjectMeta::default()
    }
}

fn kept_spec(mut spec: PodSpec) -> PodSpec {
    spec.volumes = None;
    spec.ephemeral_containers = None;
    spec.host_aliases = None;
    spec.dns_config = None;
    spec.security_context = None;
    for one in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        keep_of_container(one);
    }
    spec.containers.shrink_to_fit();
    spec
}

/// Keeps a container's resources, its ports, and whether it is a sidecar.
fn keep_of_container(all: &mut Container) {
    *all = Container {
        name: std::mem::take(&mut all.name),
        ports: all.ports.take(),
        resources: all.resources.take(),
        restart_policy: all.restart_policy.take(),
        ..Container::default()
    };
}

fn kept_status(status: v1::PodStatus) -> Status {
    let restarts = status.container_statuses.iter().flatten().map(|status| status.restart_count);
    let restarts_max = restarts.max().unwrap_or_default();
    let mut conditions = status.conditions.unwrap_or_default();
    conditions.retain(|condition| CONDITIONS.iter().any(|type_| condition.is(*type_)));
    conditions.shrink_to_fit();
    Status { phase: status.phase, conditions: Some(conditions), restarts_max }
}

/// Shares specs between the pods of an owner. Remembers the last spec of each owner.
#[derive(Default)]
pub(crate) struct SharedSpecs {
    by_owner: HashMap<String, Weak<Spec>>,
    swept: usize,
}

impl SharedSpecs {
    /// Replaces the pod's spec by an equal one of another pod of its owner.
    pub(crate) fn share(&mut self, pod: &mut Pod) {
        let Some(owner) = controller_of(&pod.metadata) else { return };
        let Some(spec) = &mut pod.spec else { return };
        let known = self.by_owner.get(&owner.uid).and_then(Weak::upgrade);
        match known.filter(|known| known == spec) {
            Some(known) => *spec = known,
            None => {
                self.sweep();
                self.by_owner.insert(owner.uid.clone(), Arc::downgrade(spec));
            }
        }
    }

    /// Forgets specs that no pod uses, when twice as many are remembered as were left the last time.
    fn sweep(&mut self) {
        if self.by_owner.len() >= SWEEP_MIN.max(2 * self.swept) {
            self.by_owner.retain(|_, spec| spec.strong_count() > 0);
            self.swept = self.by_owner.len();
        }
    }
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        v1::Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        v1::Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        v1::Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        v1::Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kept_pod_has_its_requests_and_no_values() {
        let whole: v1::Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "labels": { "app": "web" }, "finalizers": ["f"],
                "annotations": { "a": "hunter2", DELETION_COST: "7" },
                "managedFields": [{ "manager": "hunter2" }] },
            "spec": {
                "nodeName": "n", "tolerations": [{ "operator": "Exists" }], "volumes": [{ "name": "v" }],
                "containers": [{ "name": "c", "image": "i", "args": ["hunter2"],
                    "env": [{ "name": "E", "value": "hunter2" }],
                    "ports": [{ "containerPort": 80, "hostPort": 80 }],
                    "resources": { "requests": { "cpu": "1" } } }],
                "initContainers": [{ "name": "s", "restartPolicy": "Always", "command": ["hunter2"],
                    "resources": { "requests": { "cpu": "2" } } }] },
            "status": { "phase": "Running", "message": "hunter2", "conditions": [
                    { "type": "Ready", "status": "True" }, { "type": "Initialized", "status": "True" }],
                "containerStatuses": [{ "name": "c", "ready": true,
                "restartCount": 3, "image": "i", "imageID": "j",
                "state": { "terminated": { "exitCode": 1, "message": "hunter2" } } }] },
        }))
        .expect("a pod");
        let kept = Pod::from(whole.clone());
        let text = format!("{kept:?}");
        assert!(!text.contains("hunter2"), "{text}");
        let spec = kept.spec.as_ref().expect("a spec");
        let asked = requests(whole.spec.as_ref().expect("a spec"));
        assert_eq!((asked.get("cpu").milli(), spec.requests().get("cpu").milli()), (3000, 3000));
        let ports = spec.containers[0].ports.as_ref();
        assert_eq!(ports.map(|ports| ports.len()), Some(1));
        assert_eq!(crate::pod::restarts_max(&kept), 3);
        assert_eq!(crate::pod::node_name(&kept), Some("n"));
        assert!(crate::pod::is_ready(&kept));
        assert_eq!(kept.metadata.annotations.as_ref().map(|all| all.len()), Some(1));
        assert_eq!(kept.metadata.labels, whole.metadata.labels);
        assert_eq!(kept.metadata.finalizers, whole.metadata.finalizers);
        let again = v1::Pod::from(&kept).spec.expect("a spec");
        let spec = whole.spec.expect("a spec");
        assert_eq!((again.tolerations, again.node_name), (spec.tolerations, spec.node_name));
    }

    fn pod(owner: &str, node: &str, cpu: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": owner, "uid": owner, "controller": true }] },
            "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "i",
                "resources": { "requests": { "cpu": cpu } } }] } }))
        .expect("a pod")
    }

    #[test]
    fn pods_of_an_owner_share_equal_specs() {
        let mut specs = SharedSpecs::default();
        let mut shared = |mut pod: Pod| {
            specs.share(&mut pod);
            pod.spec.expect("a spec")
        };
        let first = shared(pod("a", "n1", "1"));
        assert!(Arc::ptr_eq(&first, &shared(pod("a", "n2", "1"))), "the node is not part of it");
        let resized = shared(pod("a", "n1", "2"));
        assert_eq!(resized.requests().get("cpu").milli(), 2000);
        assert!(!Arc::ptr_eq(&first, &shared(pod("b", "n1", "1"))));
    }

    #[test]
    fn specs_that_no_pod_uses_are_forgotten() {
        let mut specs = SharedSpecs::default();
        for owner in 0..10 * SWEEP_MIN {
            specs.share(&mut pod(&owner.to_string(), "n", "1"));
        }
        assert!(specs.by_owner.len() <= SWEEP_MIN, "{}", specs.by_owner.len());
    }
}
