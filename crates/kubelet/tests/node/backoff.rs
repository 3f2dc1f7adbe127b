//! What fails is retried, later each time, and the status says so in upstream's words.

use std::time::Duration;

use coffer_testkit::cri::{Call, Exit};
use serde_json::json;

use crate::support::{on_node, phase, restarts};

/// Longer than any back-off.
const LONG_AGO: Duration = Duration::from_secs(1000);

#[test]
fn an_image_that_cannot_be_pulled_backs_off_and_is_pulled_once_it_is_there() {
    on_node(async |node| {
        let image = "registry.test/app:1";
        node.cri.no_image(image);
        node.create("p", json!({})).await;
        let message = node.waiting("p", "ErrImagePull").await;
        assert!(
            message.starts_with("rpc error: code = NotFound desc = failed to pull"),
            "{message}"
        );
        node.event("p", &format!("Failed: Failed to pull image {image:?}: ")).await;
        let message = node.waiting("p", "ImagePullBackOff").await;
        assert!(message.starts_with(&format!("Back-off pulling image {image:?}: ErrImagePull: ")));
        node.event("p", &format!("BackOff: Back-off pulling image {image:?}")).await;
        node.event("p", "Failed: Error: ImagePullBackOff").await;
        node.cri.image_appears(image);
        node.running("p").await;
        assert_eq!(node.cri.count(Call::PullImage, image), 2);
    });
}

#[test]
fn a_container_that_crashes_again_waits_and_is_restarted_after_its_back_off() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        node.running("p").await;
        // The first restart comes immediately.
        node.cri.exit("p/c", Exit::code(1));
        node.until("p", "restarted", |pod| restarts(pod) == 1).await;
        node.running("p").await;
        node.cri.exit("p/c", Exit::code(1));
        let message = node.waiting("p", "CrashLoopBackOff").await;
        let begin = "back-off 10s restarting failed container=c pod=p_default(";
        assert!(message.starts_with(begin), "{message}");
        node.event("p", "BackOff: Back-off restarting failed container c in pod p_default(").await;
        let pod = node.until("p", "restarted", |pod| restarts(pod) == 2).await;
        assert_eq!(phase(&pod), "Running");
    });
}

#[test]
fn the_back_off_of_a_container_doubles_with_each_restart() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        node.running("p").await;
        // These ended so long ago that their back-off is over.
        for restart in 1..4 {
            node.cri.exit("p/c", Exit::code(1).ago(LONG_AGO));
            node.until("p", "restarted", |pod| restarts(pod) == restart).await;
            node.running("p").await;
        }
        node.cri.exit("p/c", Exit::code(1));
        let message = node.waiting("p", "CrashLoopBackOff").await;
        assert!(message.starts_with("back-off 40s restarting failed container=c"), "{message}");
    });
}

#[test]
fn a_pod_that_never_restarts_fails_with_its_containers_exit_code() {
    on_node(async |node| {
        node.create("p", json!({ "restartPolicy": "Never" })).await;
        node.running("p").await;
        node.cri.exit("p/c", Exit::code(3));
        let pod = node.until("p", "Failed", |pod| phase(pod) == "Failed").await;
        let statuses = pod.status.and_then(|status| status.container_statuses).unwrap_or_default();
        let ended = statuses[0].state.as_ref().and_then(|state| state.terminated.as_ref());
        assert_eq!(ended.map(|ended| ended.exit_code), Some(3));
        assert_eq!(node.cri.count(Call::CreateContainer, "p/c"), 1);
    });
}

#[test]
fn a_pod_that_restarts_on_failure_ends_with_the_first_success() {
    on_node(async |node| {
        node.create("p", json!({ "restartPolicy": "OnFailure" })).await;
        node.running("p").await;
        node.cri.exit("p/c", Exit::code(1));
        node.until("p", "restarted", |pod| restarts(pod) == 1).await;
        node.running("p").await;
        node.cri.exit("p/c", Exit::code(0));
        let pod = node.until("p", "Succeeded", |pod| phase(pod) == "Succeeded").await;
        assert_eq!(restarts(&pod), 1);
    });
}
