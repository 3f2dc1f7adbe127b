//! What is not kept of pods and nodes: there are many of them, and controllers read little.
//!
//! Values of environment variables, arguments and annotations may be secrets, one more reason not to
//! keep them. Both kinds are changed by patch only, so that nothing that is cut out here gets lost.

use k8s_openapi::api::core::v1::{Container, Node, Pod};

use crate::pod::DELETION_COST;

/// The conditions that controllers read.
const CONDITIONS: [&str; 2] = ["Ready", "PodScheduled"];

/// Keeps what identifies, places, counts and judges a pod.
pub(super) fn pod(pod: &mut Pod) {
    let meta = &mut pod.metadata;
    (meta.managed_fields, meta.generate_name, meta.self_link) = (None, None, None);
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|annotation, _| annotation == DELETION_COST);
    }
    meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
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
        (status.pod_ip, status.host_ip, status.resize) = (None, None, None);
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|condition| CONDITIONS.contains(&condition.type_.as_str()));
            conditions.shrink_to_fit();
        }
        // What is read of them is how often the containers restarted.
        if let Some(statuses) = &mut status.container_statuses {
            statuses.retain(|status| status.restart_count > 0);
            for status in statuses {
                (status.state, status.last_state, status.container_id) = (None, None, None);
                (status.image, status.image_id) = (String::new(), String::new());
                (status.volume_mounts, status.user, status.resources) = (None, None, None);
            }
        }
        let statuses = status.container_statuses.take();
        status.container_statuses = statuses.filter(|statuses| !statuses.is_empty());
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
                "annotations": { "a": "hunter2", DELETION_COST: "7" }, "managedFields": [{}] },
            "spec": {
                "nodeName": "n", "tolerations": [{ "operator": "Exists" }], "volumes": [{ "name": "v" }],
                "containers": [{ "name": "c", "image": "i", "args": ["hunter2"],
                    "env": [{ "name": "E", "value": "hunter2" }],
                    "ports": [{ "containerPort": 80, "hostPort": 80 }],
                    "resources": { "requests": { "cpu": "1" } } }],
                "initContainers": [{ "name": "s", "restartPolicy": "Always", "command": ["hunter2"],
                    "resources": { "requests": { "cpu": "2" } } }] },
            "status": { "phase": "Running", "conditions": [
                    { "type": "Ready", "status": "True" }, { "type": "Initialized", "status": "True" }],
                "containerStatuses": [{ "name": "c", "ready": true,
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
        assert!(crate::pod::is_ready(&trimmed));
        let annotations = trimmed.metadata.annotations.as_ref().expect("one is left");
        assert_eq!(annotations.len(), 1);
        assert_eq!(trimmed.metadata.labels, whole.metadata.labels);
        assert_eq!(
            trimmed.spec.and_then(|spec| spec.tolerations),
            whole.spec.and_then(|spec| spec.tolerations)
        );
    }
}
