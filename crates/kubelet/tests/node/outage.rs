//! A container runtime that goes, hangs, loses what it had, and comes back.

use coffer_testkit::cri::{Call, Keep};
use serde_json::json;
use tonic::Status;

use crate::support::{on_node, restarts, with_secret, within};

#[test]
fn a_runtime_that_comes_back_finds_its_pods_running_and_none_twice() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        node.running("p").await;
        let before = node.cri.lines();
        node.cri.crash().await;
        assert_eq!(node.ready(false).await, "container runtime is down");
        node.create("q", json!({})).await;
        node.cri.restart(Keep::Everything);
        node.ready(true).await;
        node.running("q").await;
        let pod = node.running("p").await;
        assert_eq!(restarts(&pod), 0);
        let of_p = |lines: &[String]| lines.iter().filter(|it| !it.contains(" q")).count();
        assert_eq!(of_p(&node.cri.lines()), of_p(&before));
        assert_eq!(node.cri.running("q").len(), 1);
    });
}

#[test]
fn after_a_reboot_pods_start_again_with_their_secrets() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let pod = node.create("p", with_secret()).await;
        node.running("p").await;
        node.cri.crash().await;
        node.cri.restart(Keep::Dead);
        node.until("p", "restarted", |pod| restarts(pod) == 1).await;
        node.running("p").await;
        assert_eq!(node.cri.running("p").len(), 1);
        let sandbox = node.cri.sandboxes().into_iter().find(|found| found.ready);
        assert_eq!(sandbox.map(|found| found.attempt()), Some(1));
        let volume = node.pod_directory(&pod).join("volumes/kubernetes.io~secret/v/password");
        assert_eq!(std::fs::read_to_string(volume).expect("mounted"), "hunter2");
    });
}

#[test]
fn a_runtime_that_has_forgotten_everything_gets_every_pod_once() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        node.create("q", json!({})).await;
        node.running("p").await;
        node.running("q").await;
        node.cri.crash().await;
        node.cri.restart(Keep::Nothing);
        for pod in ["p", "q"] {
            node.runtime("it runs again", |cri| cri.running(pod).len() == 1).await;
            node.running(pod).await;
        }
        node.ready(true).await;
        assert_eq!(node.cri.sandboxes().len(), 2);
    });
}

#[test]
fn a_sandbox_that_is_lost_is_recreated_and_its_containers_restart() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        node.running("p").await;
        node.cri.lose_sandbox("p");
        node.event("p", "SandboxChanged: Pod sandbox changed, it will be killed and re-created.")
            .await;
        node.until("p", "restarted", |pod| restarts(pod) == 1).await;
        node.running("p").await;
        assert_eq!(node.cri.running("p").len(), 1);
        let ready = node.cri.sandboxes().into_iter().filter(|found| found.ready);
        assert_eq!(ready.map(|found| found.attempt()).collect::<Vec<_>>(), [1]);
    });
}

#[test]
fn a_pod_that_ends_while_the_runtime_is_down_is_ended_when_it_is_back() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let pod = node.create("p", with_secret()).await;
        node.running("p").await;
        node.cri.crash().await;
        node.ready(false).await;
        node.delete("p", 1).await;
        // Another pod's object shows that the kubelet goes on meanwhile; its own stays.
        node.create("q", json!({})).await;
        assert!(node.pod_directory(&pod).exists(), "its container runs on");
        node.cri.restart(Keep::Everything);
        node.removed("p").await;
        assert!(node.cri.containers("p").is_empty());
        assert!(!node.pod_directory(&pod).exists());
        node.running("q").await;
    });
}

#[test]
fn a_runtime_without_a_network_says_so_on_the_node() {
    on_node(async |node| {
        node.cri.set_condition("NetworkReady", false, "NetworkPluginNotReady", "no plugin");
        let message = node.ready(false).await;
        let expected = "container runtime network not ready: NetworkReady=false \
                        reason:NetworkPluginNotReady message:no plugin";
        assert_eq!(message, expected);
        node.cri.set_condition("NetworkReady", true, "", "");
        node.ready(true).await;
    });
}

#[test]
fn a_runtime_that_returns_an_error_is_not_called_down() {
    on_node(async |node| {
        node.cri.fail(Call::Status, u32::MAX, Status::internal("no metadata store"));
        let message = node.ready(false).await;
        let expected = "container runtime status check failed: rpc error: code = Internal desc = \
                        no metadata store";
        assert_eq!(message, expected);
        node.cri.clear_script();
        node.ready(true).await;
    });
}

#[test]
fn calls_that_hang_while_the_runtime_crashes_are_made_again_once() {
    on_node(async |node| {
        let mut hang = node.cri.hold(Call::StartContainer);
        node.create("p", json!({})).await;
        within("the start", hang.arrived(1)).await;
        node.cri.crash().await;
        hang.release();
        node.cri.restart(Keep::Everything);
        node.running("p").await;
        assert_eq!(node.cri.running("p").len(), 1);
    });
}

#[test]
fn a_call_that_returns_unavailable_is_not_an_outage() {
    on_node(async |node| {
        node.cri.fail(
            Call::RunPodSandbox,
            1,
            Status::unavailable("the network plugin is starting"),
        );
        node.create("p", json!({})).await;
        let event = node.event("p", "FailedCreatePodSandBox: ").await;
        let expected = "FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = \
                        Unavailable desc = the network plugin is starting";
        assert_eq!(event, expected);
        node.running("p").await;
        node.ready(true).await;
    });
}

/// The directory's trouble, and not the runtime's.
#[test]
fn a_log_directory_that_cannot_be_made_is_named_by_the_event() {
    on_node(async |node| {
        let logs = node.root().join("logs");
        let _ = std::fs::remove_dir_all(&logs);
        std::fs::write(&logs, b"").expect("writable");
        node.create("p", json!({})).await;
        let event = node.event("p", "FailedCreatePodSandBox: ").await;
        assert!(!event.contains("container runtime is down"), "{event}");
        assert!(event.contains("log directory"), "{event}");
        assert_eq!(node.cri.count(Call::RunPodSandbox, "p"), 0);
        std::fs::remove_file(&logs).expect("removable");
        node.running("p").await;
    });
}
