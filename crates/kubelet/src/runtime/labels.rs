//! The labels and annotations by which sandboxes and containers are found again. Upstream's
//! names, so that `crictl` and monitoring agents understand what they see.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Container, Pod};

use crate::pod::PodId;

pub(super) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(super) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(super) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(super) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Which kubelet's it is: several nodes on one machine may share one runtime.
pub(super) const NODE: &str = "coffer.dev/node";
/// On a sandbox: the runtime of its containers replaces placeholders by values. A sandbox
/// keeps the runtime that it was made with, whatever the runtime's configuration says later.
const PLACEHOLDERS: &str = "coffer.dev/secret-placeholders";
/// What 0.1 wrote for it.
const STAND_INS: &str = "coffer.dev/secret-stand-ins";

pub(super) const HASH: &str = "io.kubernetes.container.hash";
pub(super) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub(super) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(super) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub(super) const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Holds a copy of the whole pod and says nothing that the runtime needs.
const LAST_APPLIED: &str = coffer_api::well_known::annotation::LAST_APPLIED;

pub(super) fn pod_labels(id: &PodId, node: &str) -> HashMap<String, String> {
    let labels =
        [(POD_NAME, id.name()), (POD_NAMESPACE, id.namespace()), (POD_UID, id.uid()), (NODE, node)];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// A sandbox carries its pod's own labels too.
pub(super) fn sandbox_labels(
    pod: &Pod,
    id: &PodId,
    node: &str,
    placeholders: bool,
) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> =
        pod.metadata.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.extend(pod_labels(id, node));
    labels.remove(STAND_INS);
    labels.remove(PLACEHOLDERS);
    if placeholders {
        labels.insert(PLACEHOLDERS.to_owned(), "true".to_owned());
    }
    labels
}

/// Whether a sandbox was made by a runtime that replaces placeholders by values.
pub(super) fn has_placeholders(labels: &HashMap<String, String>) -> bool {
    [PLACEHOLDERS, STAND_INS].iter().any(|label| labels.contains_key(*label))
}

pub(super) fn sandbox_annotations(pod: &Pod) -> HashMap<String, String> {
    let annotations = pod.metadata.annotations.iter().flatten();
    annotations
        .filter(|(key, _)| *key != LAST_APPLIED)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Changes when a container's definition changes in a way that takes a new container. FNV-1a: it
/// must stay the same in later builds, or an upgraded kubelet would restart every container.
pub(crate) fn container_hash(container: &Container) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let image = container.image.as_deref().unwrap_or_default();
    let bytes = container.name.bytes().chain([0]).chain(image.bytes());
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_cannot_say_what_its_runtime_does() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"labels": {STAND_INS: "true", PLACEHOLDERS: "true", "app": "x"}},
        }))
        .expect("a pod");
        let id = PodId::new("ns", "p", "u").expect("an identity");
        let labels = |placeholders| sandbox_labels(&pod, &id, "n", placeholders);
        assert!(!has_placeholders(&labels(false)) && labels(false).contains_key("app"));
        assert!(has_placeholders(&labels(true)));
    }

    #[test]
    fn the_hash_is_the_same_in_every_build() {
        let container = Container {
            name: "mypod".to_owned(),
            image: Some("redis".to_owned()),
            ..Default::default()
        };
        assert_eq!(container_hash(&container), "2af42717ecc8907d");
    }
}
