//! What is not kept of pods and nodes: there are many of them, and controllers read little.
//!
//! Values of environment variables, arguments and annotations may be secrets, one more reason not to
//! keep them. Both kinds are changed by patch only, so that nothing that is cut out here gets lost.

use k8s_openapi::api::core::v1::{Container, Node, Pod};

/// The annotation of client-side apply, which is a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Keeps what identifies, places, counts and judges a pod.
pub(super) fn pod(pod: &mut Pod) {
    let meta = &mut pod.metadata;
    (meta.managed_fields, meta.generate_name, meta.self_link) = (None, None, None);
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        spec.ephemeral_containers = None;
        spec.host_aliases = None;
        spec.dns_config = None;
        spec.security_context = None;
        for one in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            container(one);
        }
        spec.containers.shrink_to_fit();
    }
    if let Some(status) = &mut pod.status {
        (status.init_container_statuses, status.ephemeral_container_statuses) = (None, None);
        (status.pod_ips, status.host_ips, status.message) = (None, None, None);
        for status in status.container_statuses.iter_mut().flatten() {
            (status.state, status.last_state, status.container_id) = (None, None, None);
            (status.image, status.image_id) = (String::new(), String::new());
            (status.volume_mounts, status.user, status.resources) = (None, None, None);
        }
    }
}

/// Keeps what a container asks for: resources, ports, and whether it is a sidecar.
fn container(all: &mut Container) {
    *all = Container {
        name: std::mem::take(&mut all.name),
        ports: all.ports.take(),
        resources: all.resources.take(),
        restart_policy: all.restart_policy.take(),
        ..Container::default()
    };
}

/// Drops what a node has of images: their names are most of it.
pub(super) fn node(node: &mut Node) {
    let meta = &mut node.metadata;
    meta.managed_fields = None;
    if let Some(status) = &mut node.status {
        (status.images, status.volumes_in_use, status.volumes_attached) = (None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use coffer_api::demand::requests;
    use serde_json::json;

    use super::*;
    use crate::scheduler::host_port::host_ports;

    #[test]
    fn a_trimmed_pod_asks_for_what_it_asked_for_and_holds_no_values() {
        let whole: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "labels": { "app": "web" },
                "annotations": { LAST_APPLIED: "hunter2", "a": "b" }, "managedFields": [{}] },
            "spec": {
                "nodeName": "n", "tolerations": [{ "operator": "Exists" }], "volumes": [{ "name": "v" }],
                "containers": [{ "name": "c", "image": "i", "args": ["hunter2"],
                    "env": [{ "name": "E", "value": "hunter2" }],
                    "ports": [{ "containerPort": 80, "hostPort": 80 }],
                    "resources": { "requests": { "cpu": "1" } } }],
                "initContainers": [{ "name": "s", "restartPolicy": "Always", "command": ["hunter2"],
                    "resources": { "requests": { "cpu": "2" } } }] },
            "status": { "phase": "Running", "containerStatuses": [{ "name": "c", "ready": true,
                "restartCount": 3, "image": "i", "imageID": "j",
                "state": { "terminated": { "exitCode": 1, "message": "hunter2" } } }] },
        }))
        .expect("a pod");
        let mut trimmed = whole.clone();
        pod(&mut trimmed);
        let text = serde_json::to_string(&trimmed).expect("a pod");
        assert!(!text.contains("hunter2"), "{text}");
        let cpu = |pod: &Pod| requests(pod.spec.as_ref().expect("a spec")).get("cpu").milli();
        assert_eq!(cpu(&trimmed), cpu(&whole));
        assert_eq!(host_ports(&trimmed), host_ports(&whole));
        assert_eq!(crate::pod::restarts_max(&trimmed), 3);
        assert_eq!(trimmed.metadata.labels, whole.metadata.labels);
        assert_eq!(
            trimmed.spec.and_then(|spec| spec.tolerations),
            whole.spec.and_then(|spec| spec.tolerations)
        );
    }
}
