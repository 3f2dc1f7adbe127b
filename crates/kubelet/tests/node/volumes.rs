//! Secrets of a pod: awaited, mounted, kept as they were, removed.

use coffer_testkit::cri::{Call, Exit};
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::json;

use crate::support::{Node, on_node, restarts, with_secret};

fn password(node: &Node, pod: &Pod) -> String {
    let volume = node.pod_directory(pod).join("volumes/kubernetes.io~secret/v/password");
    std::fs::read_to_string(volume).unwrap_or_else(|error| error.to_string())
}

#[test]
fn a_pod_waits_for_its_secret_with_upstreams_event_and_starts_once_it_exists() {
    on_node(async |node| {
        let pod = node.create("p", with_secret()).await;
        let event = node.event("p", "FailedMount: ").await;
        assert_eq!(
            event,
            "FailedMount: MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found"
        );
        assert_eq!(node.cri.lines(), Vec::<String>::new(), "not even a sandbox");
        assert_eq!(node.mounts(), Vec::<String>::new());
        node.secret("s", "password", "hunter2").await;
        node.running("p").await;
        assert_eq!(password(node, &pod), "hunter2");
    });
}

#[test]
fn a_running_pods_secret_does_not_change_also_across_restarts() {
    on_node(async |node| {
        node.secret("s", "password", "first").await;
        let key = json!({ "secretKeyRef": { "name": "s", "key": "password" } });
        let mut spec = with_secret();
        spec["containers"][0]["env"] = json!([{ "name": "PASSWORD", "valueFrom": key }]);
        let pod = node.create("p", spec).await;
        node.running("p").await;
        let patch = json!({ "stringData": { "password": "second" } });
        node.patch::<Secret>("s", patch).await;
        let is_stale = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|it| it.type_ == "coffer.dev/SecretsCurrent" && it.status == "False")
        };
        node.until("p", "the pod reports the old version", is_stale).await;
        node.cri.exit("p/c", Exit::code(1));
        node.until("p", "restarted", |pod| restarts(pod) == 1).await;
        node.running("p").await;
        node.stop_kubelet().await;
        node.start_kubelet().await;
        node.cri.exit("p/c", Exit::code(1).ago(std::time::Duration::from_secs(600)));
        node.until("p", "restarted", |pod| restarts(pod) == 2).await;
        assert_eq!(password(node, &pod), "first");
        for container in node.cri.containers("p") {
            let env = container.config.envs.iter().find(|env| env.key == "PASSWORD");
            assert_eq!(env.map(|env| env.value.as_str()), Some("first"));
        }
    });
}

#[test]
fn deletion_unmounts_the_volumes_after_the_container_has_ended_and_removes_all_files() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let pod = node.create("p", with_secret()).await;
        node.running("p").await;
        let mut stop = node.cri.hold(Call::StopContainer);
        node.delete("p", 5).await;
        crate::support::within("the stop", stop.arrived(1)).await;
        assert_eq!(password(node, &pod), "hunter2", "it runs, so it has its secret");
        stop.release();
        node.removed("p").await;
        assert_eq!(node.mounts(), Vec::<String>::new());
        assert!(!node.pod_directory(&pod).exists());
        let logs = std::fs::read_dir(node.root().join("logs")).map_or(0, Iterator::count);
        assert_eq!(logs, 0, "its logs are removed");
    });
}

#[test]
fn a_pod_that_has_run_to_its_end_lets_its_secrets_go() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let mut spec = with_secret();
        spec["restartPolicy"] = json!("Never");
        node.create("p", spec).await;
        node.running("p").await;
        node.cri.exit("p/c", Exit::code(0));
        node.until("p", "Succeeded", |pod| crate::support::phase(pod) == "Succeeded").await;
        node.runtime("the sandbox ends", |cri| cri.sandboxes().iter().all(|it| !it.ready)).await;
        coffer_testkit::eventually("the volumes to be unmounted", async || {
            node.mounts().is_empty()
        })
        .await;
    });
}

/// A volume that cannot be unmounted is the volume's trouble and not the runtime's.
#[test]
fn a_volume_in_use_delays_the_deletion_and_the_event_names_it() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let pod = node.create("p", with_secret()).await;
        node.running("p").await;
        let volume = node.pod_directory(&pod).join("volumes/kubernetes.io~secret/v");
        let open = std::fs::File::open(volume.join("password")).expect("readable");
        node.delete("p", 1).await;
        let event = node.event("p", "FailedKillPod: ").await;
        let begin = "FailedKillPod: error killing pod: failed to remove its volumes: unmount ";
        assert!(event.starts_with(begin), "{event}");
        assert!(!event.contains("container runtime is down"), "{event}");
        drop(open);
        node.removed("p").await;
        assert_eq!(node.mounts(), Vec::<String>::new());
    });
}
