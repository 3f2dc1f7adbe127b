//! The end of containers and pods: hooks, grace periods, order.

use std::time::Duration;

use coffer_kubelet::OnExit;
use coffer_testkit::cri::{Call, FakeCri, Request};
use serde_json::json;
use tonic::Status;

use crate::support::{on_node, restarts, with_secret, within};

/// The grace periods that the runtime was given, in order.
fn graces(cri: &FakeCri) -> Vec<Duration> {
    let calls = cri.calls().into_iter();
    calls
        .filter_map(|call| match call.request {
            Request::StopContainer { grace } => Some(grace),
            _ => None,
        })
        .collect()
}

#[test]
fn a_deleted_pod_ends_in_order_hook_container_sandbox_and_then_what_is_left() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let mut spec = with_secret();
        let hook = json!({ "preStop": { "exec": { "command": ["drain"] } } });
        spec["containers"][0]["lifecycle"] = hook;
        node.create("p", spec).await;
        node.running("p").await;
        let before = node.cri.lines().len();
        node.delete("p", 30).await;
        node.removed("p").await;
        let ended = node.cri.calls().split_off(before);
        let lines: Vec<_> = ended.iter().map(|call| call.line()).collect();
        let expected = [
            "ExecSync p/c",
            "StopContainer p/c",
            "StopPodSandbox p",
            "RemoveContainer p/c",
            "RemovePodSandbox p",
        ];
        assert_eq!(lines, expected);
        let Request::ExecSync { command } = &ended[0].request else { panic!("a command") };
        assert_eq!(command, &["drain"]);
        node.event("p", "Killing: Stopping container c").await;
        assert!(node.cri.sandboxes().is_empty());
    });
}

#[test]
fn a_container_that_ignores_its_stop_signal_is_killed_after_its_grace_period() {
    on_node(async |node| {
        node.cri.ignores_stop("p/c");
        node.create("p", json!({ "terminationGracePeriodSeconds": 3 })).await;
        node.running("p").await;
        node.delete("p", 3).await;
        node.removed("p").await;
        let graces = graces(&node.cri);
        assert!(!graces.is_empty());
        // Whole seconds have passed since, and two are the least.
        let allowed = Duration::from_secs(2)..=Duration::from_secs(3);
        assert!(graces.iter().all(|grace| allowed.contains(grace)), "{graces:?}");
        assert!(node.cri.containers("p").is_empty());
    });
}

#[test]
fn a_second_deletion_with_a_shorter_grace_period_takes_effect_immediately() {
    on_node(async |node| {
        node.cri.ignores_stop("p/c");
        node.create("p", json!({ "terminationGracePeriodSeconds": 3600 })).await;
        node.running("p").await;
        node.delete("p", 3600).await;
        node.runtime("the stop", |cri| cri.count(Call::StopContainer, "p/c") == 1).await;
        node.delete("p", 1).await;
        node.removed("p").await;
        let graces = graces(&node.cri);
        assert!(graces[0] > Duration::from_secs(3000), "{graces:?}");
        assert!(*graces.last().expect("stopped") <= Duration::from_secs(2), "{graces:?}");
    });
}

#[test]
fn a_hook_that_fails_is_reported_and_does_not_keep_the_pod() {
    on_node(async |node| {
        node.cri.exec_returns("p/c", 1, "cannot drain");
        let hook = json!({ "preStop": { "exec": { "command": ["drain"] } } });
        let spec = json!({ "containers": [
            { "name": "c", "image": "registry.test/app:1", "lifecycle": hook }] });
        node.create("p", spec).await;
        node.running("p").await;
        node.delete("p", 5).await;
        node.event("p", "FailedPreStopHook: PreStopHook failed").await;
        node.removed("p").await;
    });
}

#[test]
fn a_hook_that_does_not_end_is_cut_off_by_the_grace_period() {
    on_node(async |node| {
        let hook = json!({ "preStop": { "exec": { "command": ["drain"] } } });
        let spec = json!({ "containers": [
            { "name": "c", "image": "registry.test/app:1", "lifecycle": hook }] });
        node.create("p", spec).await;
        node.running("p").await;
        let mut hang = node.cri.hold(Call::ExecSync);
        node.delete("p", 2).await;
        within("the hook", hang.arrived(1)).await;
        node.removed("p").await;
        assert_eq!(node.cri.count(Call::StopContainer, "p/c"), 1);
        hang.release();
    });
}

#[test]
fn a_post_start_hook_that_fails_ends_its_container() {
    on_node(async |node| {
        node.cri.exec_returns("p/c", 1, "");
        let hook = json!({ "postStart": { "exec": { "command": ["warm"] } } });
        let spec = json!({ "containers": [
            { "name": "c", "image": "registry.test/app:1", "lifecycle": hook }] });
        node.create("p", spec).await;
        node.event("p", "FailedPostStartHook: PostStartHook failed").await;
        node.waiting("p", "PostStartHookError").await;
        node.runtime("it is stopped", |cri| cri.count(Call::StopContainer, "p/c") > 0).await;
    });
}

#[test]
fn a_step_of_the_end_that_fails_is_repeated_and_nothing_after_it_is_done_before() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let pod = node.create("p", with_secret()).await;
        node.running("p").await;
        node.cri.fail(Call::StopPodSandbox, 2, Status::unknown("network plugin"));
        let mut last = node.cri.hold(Call::RemoveContainer);
        node.delete("p", 1).await;
        node.runtime("the sandbox is stopped", |cri| cri.count(Call::StopPodSandbox, "p") == 2)
            .await;
        assert!(node.pod_directory(&pod).exists(), "its sandbox may still run");
        within("the removal", last.arrived(1)).await;
        assert_eq!(node.cri.count(Call::StopPodSandbox, "p"), 3);
        assert!(!node.pod_directory(&pod).exists(), "secrets go before the runtime's records");
        last.release();
        node.removed("p").await;
    });
}

#[test]
fn a_container_whose_liveness_probe_fails_is_restarted() {
    on_node(async |node| {
        node.cri.exec_returns("p/c", 1, "not well");
        let probe = json!({ "exec": { "command": ["check"] }, "periodSeconds": 1,
            "failureThreshold": 1 });
        let spec = json!({ "terminationGracePeriodSeconds": 2, "containers": [
            { "name": "c", "image": "registry.test/app:1", "livenessProbe": probe }] });
        node.create("p", spec).await;
        node.event("p", "Unhealthy: Liveness probe failed: not well").await;
        node.event("p", "Killing: Container c failed liveness probe, will be restarted").await;
        node.cri.exec_returns("p/c", 0, "");
        node.until("p", "restarted", |pod| restarts(pod) >= 1).await;
    });
}

#[test]
fn a_kubelet_that_ends_its_pods_leaves_nothing_of_them_but_their_objects() {
    on_node(async |node| {
        node.stop_kubelet().await;
        node.start_kubelet_that(OnExit::StopPods).await;
        node.secret("s", "password", "hunter2").await;
        node.create("p", with_secret()).await;
        node.running("p").await;
        node.stop_kubelet().await;
        assert!(node.cri.sandboxes().is_empty() && node.cri.containers("p").is_empty());
        assert_eq!(node.mounts(), Vec::<String>::new());
        // The next kubelet starts it again.
        node.start_kubelet().await;
        node.runtime("it runs again", |cri| cri.running("p").len() == 1).await;
        node.running("p").await;
    });
}

#[test]
fn a_pod_that_is_deleted_while_its_container_starts_ends_it_after_the_start() {
    on_node(async |node| {
        node.cri.delay(Call::StartContainer, 1, Duration::from_secs(1));
        node.create("p", json!({})).await;
        node.runtime("the start", |cri| cri.count(Call::StartContainer, "p/c") == 1).await;
        node.delete("p", 2).await;
        node.removed("p").await;
        assert_eq!(node.cri.count(Call::StopContainer, "p/c"), 1);
        assert_eq!(node.cri.count(Call::CreateContainer, "p/c"), 1);
        assert!(node.cri.containers("p").is_empty() && node.cri.sandboxes().is_empty());
    });
}
