//! From a bound pod to a running container, and what can stop it on the way.

use std::sync::Arc;

use coffer_testkit::cri::{Call, Exit, Request};
use parking_lot::Mutex;
use serde_json::json;
use tonic::Status;

use crate::support::{condition, on_node, phase, restarts, within};

#[test]
fn a_pod_starts_in_order_and_shows_its_address() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        let pod = node.running("p").await;
        let expected = [
            "RunPodSandbox p",
            "PullImage registry.test/app:1",
            "CreateContainer p/c",
            "StartContainer p/c",
        ];
        assert_eq!(node.cri.lines(), expected);
        assert_eq!(phase(&pod), "Running");
        let sandbox = &node.cri.sandboxes()[0];
        let ip = pod.status.and_then(|status| status.pod_ip);
        assert_eq!(ip.as_deref(), Some(sandbox.ip.as_str()));
        for begin in ["Pulling: ", "Pulled: ", "Created: ", "Started: "] {
            node.event("p", begin).await;
        }
    });
}

#[test]
fn a_pod_with_resources_of_its_own_shows_its_status() {
    on_node(async |node| {
        let amounts = json!({ "cpu": "1", "memory": "64Mi" });
        let spec = json!({ "resources": { "limits": amounts, "requests": amounts } });
        node.create("p", spec).await;
        let pod = node.running("p").await;
        let class = pod.status.and_then(|status| status.qos_class);
        assert_eq!(class.as_deref(), Some("Guaranteed"));
        let config = &node.cri.running("p")[0].config;
        let resources = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        assert_eq!(resources.map(|resources| resources.oom_score_adj), Some(-997));
    });
}

#[test]
fn no_container_starts_before_all_volumes_are_mounted() {
    on_node(async |node| {
        node.secret("s", "password", "hunter2").await;
        node.config_map("m", "mode", "fast").await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let at_start = seen.clone();
        node.cri.on_start(move |_, container| {
            let read = |container_path: &str, file: &str| {
                let mut mounts = container.config.mounts.iter();
                let mount = mounts.find(|mount| mount.container_path == container_path);
                let path = format!("{}/{file}", mount.expect("mounted").host_path);
                std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
            };
            let found = (read("/s", "password"), read("/m", "mode"), read("/e", "."));
            at_start.lock().push(found);
        });
        let mounts = json!([{ "name": "s", "mountPath": "/s" }, { "name": "m", "mountPath": "/m" },
            { "name": "e", "mountPath": "/e" }]);
        let container = |name: &str| json!({ "name": name, "image": "registry.test/app:1", "volumeMounts": mounts });
        let spec = json!({
            "initContainers": [container("first")],
            "containers": [container("c"), container("d")],
            "volumes": [{ "name": "s", "secret": { "secretName": "s" } },
                { "name": "m", "configMap": { "name": "m" } },
                { "name": "e", "emptyDir": { "medium": "Memory" } }],
        });
        let pod = node.create("p", spec).await;
        node.runtime("the init container runs", |cri| cri.running("p").len() == 1).await;
        node.cri.exit("p/first", Exit::code(0));
        node.running("p").await;
        // A directory cannot be read as a file; one that is not there gives another error.
        let directory = std::fs::read_to_string("/").expect_err("a directory").to_string();
        let whole = ("hunter2".to_owned(), "fast".to_owned(), directory);
        assert_eq!(*seen.lock(), [whole.clone(), whole.clone(), whole]);
        let mounts = node.mounts();
        let volumes = node.pod_directory(&pod).join("volumes").display().to_string();
        assert_eq!(
            mounts.iter().filter(|mount| mount.starts_with(&volumes)).count(),
            3,
            "{mounts:?}"
        );
    });
}

#[test]
fn init_containers_run_one_after_the_other_before_the_others() {
    on_node(async |node| {
        let container = |name: &str| json!({ "name": name, "image": "registry.test/app:1" });
        let spec = json!({ "initContainers": [container("one"), container("two")],
            "containers": [container("c"), container("d")] });
        node.create("p", spec).await;
        for init in ["one", "two"] {
            let name = |cri: &coffer_testkit::cri::FakeCri| {
                cri.running("p").first().map(|found| found.name().to_owned())
            };
            node.runtime(init, |cri| name(cri).as_deref() == Some(init)).await;
            assert_eq!(node.cri.running("p").len(), 1);
            node.cri.exit(&format!("p/{init}"), Exit::code(0));
        }
        let pod = node.running("p").await;
        assert_eq!(condition(&pod, "Initialized"), Some("True"));
        let starts = node.cri.lines();
        let starts: Vec<_> = starts.iter().filter(|line| line.starts_with("Start")).collect();
        assert_eq!(
            starts,
            [
                "StartContainer p/one",
                "StartContainer p/two",
                "StartContainer p/c",
                "StartContainer p/d"
            ]
        );
    });
}

#[test]
fn a_pod_that_is_deleted_during_a_pull_is_removed_before_the_pull_ends() {
    on_node(async |node| {
        let mut pull = node.cri.hold(Call::PullImage);
        let pod = node.create("p", json!({})).await;
        within("a pull", pull.arrived(1)).await;
        node.delete("p", 30).await;
        node.removed("p").await;
        pull.release();
        assert!(node.cri.containers("p").is_empty());
        assert!(node.cri.sandboxes().is_empty());
        assert!(!node.pod_directory(&pod).exists());
        // Another pod finds the image, or pulls it: nothing of the first conflicts with it.
        node.create("q", json!({})).await;
        node.running("q").await;
        assert_eq!(node.cri.count(Call::CreateContainer, "p/c"), 0);
    });
}

#[test]
fn a_container_that_cannot_be_created_waits_with_the_runtimes_words_and_is_retried() {
    on_node(async |node| {
        let refused = Status::internal("no such device");
        node.cri.fail(Call::CreateContainer, 1, refused);
        node.create("p", json!({})).await;
        let message = node.waiting("p", "CreateContainerError").await;
        assert_eq!(message, "rpc error: code = Internal desc = no such device");
        let event = node.event("p", "Failed: ").await;
        assert_eq!(event, "Failed: Error: rpc error: code = Internal desc = no such device");
        node.running("p").await;
        assert_eq!(node.cri.count(Call::CreateContainer, "p/c"), 2);
    });
}

#[test]
fn a_container_that_cannot_be_started_waits_with_run_container_error_and_is_recreated() {
    on_node(async |node| {
        let refused = Status::unknown("exec format error");
        node.cri.fail(Call::StartContainer, 1, refused);
        node.create("p", json!({})).await;
        let message = node.waiting("p", "RunContainerError").await;
        assert_eq!(message, "rpc error: code = Unknown desc = exec format error");
        node.running("p").await;
        assert_eq!(node.cri.containers("p").len(), 1, "the one that did not start is removed");
    });
}

#[test]
fn a_container_waits_for_the_key_of_its_environment() {
    on_node(async |node| {
        node.secret("s", "other", "x").await;
        let key = json!({ "secretKeyRef": { "name": "s", "key": "password" } });
        let spec = json!({ "containers": [{ "name": "c", "image": "registry.test/app:1",
            "env": [{ "name": "PASSWORD", "valueFrom": key }] }] });
        node.create("p", spec).await;
        let event = node.event("p", "F").await;
        assert!(event.contains("couldn't find key password in Secret default/s"), "{event}");
        assert!(node.cri.containers("p").is_empty());
        let patch = json!({ "stringData": { "password": "hunter2" } });
        node.patch::<k8s_openapi::api::core::v1::Secret>("s", patch).await;
        node.running("p").await;
        let container = &node.cri.running("p")[0];
        let env = container.config.envs.iter().find(|env| env.key == "PASSWORD");
        assert_eq!(env.map(|env| env.value.as_str()), Some("hunter2"));
    });
}

#[test]
fn a_pod_that_hangs_in_the_runtime_does_not_hinder_another() {
    on_node(async |node| {
        let mut hang = node.cri.hold(Call::RunPodSandbox);
        node.create("p", json!({})).await;
        within("a sandbox", hang.arrived(1)).await;
        node.cri.clear_script();
        node.create("q", json!({})).await;
        node.running("q").await;
        assert!(node.cri.containers("p").is_empty());
        hang.release();
        node.running("p").await;
    });
}

#[test]
fn a_sandbox_that_fails_is_retried_and_the_event_has_the_runtimes_message() {
    on_node(async |node| {
        node.cri.fail(Call::RunPodSandbox, 2, Status::unknown("no network"));
        node.create("p", json!({})).await;
        let event = node.event("p", "FailedCreatePodSandBox: ").await;
        let expected = "FailedCreatePodSandBox: Failed to create pod sandbox: \
                        rpc error: code = Unknown desc = no network";
        assert_eq!(event, expected);
        node.running("p").await;
        assert_eq!(node.cri.count(Call::RunPodSandbox, "p"), 3);
        assert_eq!(node.cri.sandboxes().len(), 1);
    });
}

#[test]
fn an_image_that_is_changed_restarts_the_container_immediately() {
    on_node(async |node| {
        node.create("p", json!({})).await;
        node.running("p").await;
        let image =
            json!({ "spec": { "containers": [{ "name": "c", "image": "registry.test/app:2" }] } });
        node.patch::<k8s_openapi::api::core::v1::Pod>("p", image).await;
        let pod = node.until("p", "restarted", |pod| restarts(pod) == 1).await;
        assert_eq!(phase(&pod), "Running");
        node.event("p", "Killing: Container c definition changed, will be restarted").await;
        let created = node.cri.calls().into_iter().rev().find_map(|call| match call.request {
            Request::CreateContainer(ask) => ask.config?.image.map(|image| image.image),
            _ => None,
        });
        assert!(created.is_some_and(|image| image.starts_with("sha256:")));
        assert_eq!(node.cri.count(Call::PullImage, "registry.test/app:2"), 1);
    });
}

#[test]
fn a_container_that_fails_does_not_hinder_the_others_of_its_pod() {
    on_node(async |node| {
        let refused = Status::internal("no such device");
        node.cri.fail_about(Call::CreateContainer, "p/c", 1, refused);
        let container = |name: &str| json!({ "name": name, "image": "registry.test/app:1" });
        node.create("p", json!({ "containers": [container("c"), container("d")] })).await;
        node.waiting("p", "CreateContainerError").await;
        node.running("p").await;
        assert_eq!(node.cri.count(Call::CreateContainer, "p/c"), 2);
        assert_eq!(node.cri.count(Call::CreateContainer, "p/d"), 1);
    });
}
