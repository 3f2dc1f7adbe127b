//! A kubelet that ends and comes back: what runs runs on, and nothing is done twice.

use coffer_testkit::cri::{Call, Exit};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::support::{on_node, phase, restarts, with_secret, within};

#[test]
fn running_containers_are_adopted_and_their_secrets_stay_mounted() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        node.create("p", with_secret()).await;
        node.running("p").await;
        let (before, mounts) = (node.cri.lines(), node.mounts());
        node.stop_kubelet().await;
        assert_eq!(node.mounts(), mounts);
        node.start_kubelet().await;
        // A pod of its own shows that this kubelet works.
        node.create("q", json!({})).await;
        node.running("q").await;
        let pod = node.running("p").await;
        let after = node.cri.lines();
        let of_p: Vec<_> = after.iter().filter(|line| !line.contains(" q")).collect();
        assert_eq!(of_p.len(), before.len(), "{of_p:?}");
        assert_eq!(node.mounts(), mounts);
        assert_eq!(restarts(&pod), 0);
    });
}

#[test]
fn a_container_that_ended_while_no_kubelet_ran_is_restarted_by_the_next() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        node.running("p").await;
        node.stop_kubelet().await;
        node.cri.exit("p/c", Exit::code(1));
        node.start_kubelet().await;
        let pod = node.until("p", "restarted", |pod| restarts(pod) == 1).await;
        assert_eq!(phase(&pod), "Running");
    });
}

#[test]
fn a_pod_that_was_deleted_while_no_kubelet_ran_is_ended_by_the_next() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        let pod = node.create("p", with_secret()).await;
        node.running("p").await;
        node.stop_kubelet().await;
        node.delete("p", 0).await;
        node.removed("p").await;
        assert_eq!(node.cri.running("p").len(), 1);
        node.start_kubelet().await;
        node.runtime("the orphan is removed", |cri| cri.sandboxes().is_empty()).await;
        let directory = node.pod_directory(&pod);
        coffer_testkit::eventually("its files to be removed", async || !directory.exists()).await;
        assert_eq!(node.mounts(), Vec::<String>::new());
    });
}

#[test]
fn a_start_that_was_interrupted_is_not_done_twice() {
    on_node(async |node| {
        for (name, call) in
            [("a", Call::RunPodSandbox), ("b", Call::CreateContainer), ("c", Call::StartContainer)]
        {
            let mut hang = node.cri.hold(call);
            node.create(name, json!({})).await;
            within("the call", hang.arrived(1)).await;
            node.stop_kubelet().await;
            hang.release();
            node.start_kubelet().await;
            node.running(name).await;
            assert_eq!(node.cri.running(name).len(), 1, "{name}");
            let ready = node.cri.sandboxes().into_iter().filter(|it| it.pod() == name && it.ready);
            assert_eq!(ready.count(), 1, "{name}");
        }
    });
}

#[test]
fn what_the_api_shows_of_a_pod_never_goes_back() {
    on_node(async |node| {
        use futures::StreamExt as _;
        let config = kube::runtime::watcher::Config::default().fields("metadata.name=p");
        let seen = kube::runtime::watcher(node.api::<Pod>(), config);
        node.create("p", json!({ "restartPolicy": "OnFailure" })).await;
        let watching = tokio::spawn(async move {
            let mut seen = std::pin::pin!(seen);
            let mut all: Vec<Pod> = Vec::new();
            while let Some(event) = seen.next().await {
                use kube::runtime::watcher::Event;
                if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event {
                    let is_over = phase(&pod) == "Succeeded";
                    all.push(pod);
                    if is_over {
                        return all;
                    }
                }
            }
            all
        });
        let long_ago = std::time::Duration::from_secs(1000);
        for restart in 1..4 {
            node.running("p").await;
            node.cri.exit("p/c", Exit::code(1).ago(long_ago));
            node.until("p", "restarted", |pod| restarts(pod) == restart).await;
        }
        node.running("p").await;
        node.cri.exit("p/c", Exit::code(0));
        let all = within("the watch", watching).await.expect("it ends");
        let order = |pod: &Pod| {
            ["", "Pending", "Running", "Succeeded"].iter().position(|it| *it == phase(pod))
        };
        for pair in all.windows(2) {
            assert!(restarts(&pair[0]) <= restarts(&pair[1]));
            assert!(order(&pair[0]).is_some() && order(&pair[0]) <= order(&pair[1]));
        }
        assert_eq!(all.last().map(restarts), Some(3));
    });
}
