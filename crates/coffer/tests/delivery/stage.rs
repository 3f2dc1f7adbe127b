//! A Coffer, its kubectl, and what these tests ask of both.

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Registry, eventually, images};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer");

pub(crate) struct Stage {
    pub(crate) coffer: Coffer,
    pub(crate) kubectl: Kubectl,
    _registry: Registry,
}

impl Stage {
    /// A Coffer that has the guide's images, by the guide's names where they can be names.
    pub(crate) async fn new() -> Self {
        let registry = Registry::open().await.unwrap();
        registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
        let redis = images::redis().unwrap();
        for name in ["redis", "mysshimage", "myclientimage"] {
            registry.push(&redis, &format!("library/{name}"), "latest").await.unwrap();
        }
        let builder = CofferBuilder::up(PROGRAM).mirror(&registry);
        let coffer = builder.start().await.unwrap();
        let kubectl = coffer.kubectl();
        Self { coffer, kubectl, _registry: registry }
    }

    pub(crate) async fn create(&self, manifest: &str) {
        self.kubectl.ok_with_input(&["create", "-f", "-"], manifest.as_bytes()).await.unwrap();
    }

    pub(crate) async fn until_ready(&self, pod: &str) {
        until_ready(&self.kubectl, pod).await;
    }

    /// One field of an object, as kubectl's jsonpath shows it.
    pub(crate) async fn field(&self, object: &str, path: &str) -> String {
        field(&self.kubectl, object, path).await
    }

    /// What a command says in a pod's container, the first if none is named: `pod` or `pod/name`.
    pub(crate) async fn exec(&self, container: &str, command: &[&str]) -> String {
        let arguments = exec_arguments(container, command);
        self.kubectl.ok(&arguments).await.unwrap()
    }

    /// What a command complains about that must fail.
    pub(crate) async fn exec_fails(&self, container: &str, command: &[&str]) -> String {
        let arguments = exec_arguments(container, command);
        let outcome = self.kubectl.run(&arguments).await.unwrap();
        assert!(!outcome.status.success(), "{container} {command:?}: {}", outcome.stdout);
        outcome.stderr
    }

    /// Waits until an object has an event that begins so, and gives it with its count.
    pub(crate) async fn until_event(&self, object: &str, start: &str, count: u32) -> String {
        until_event(&self.kubectl, object, start, count).await
    }
}

fn exec_arguments<'a>(container: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = match container.split_once('/') {
        Some((pod, container)) => vec!["exec", pod, "-c", container, "--"],
        None => vec!["exec", container, "--"],
    };
    arguments.extend(command);
    arguments
}

pub(crate) async fn field(kubectl: &Kubectl, object: &str, path: &str) -> String {
    kubectl.ok(&["get", object, &format!("-o=jsonpath={path}")]).await.unwrap()
}

pub(crate) async fn until_ready(kubectl: &Kubectl, pod: &str) {
    let name = format!("pod/{pod}");
    let wait = ["wait", "--for=condition=Ready", &name, "--timeout=120s"];
    if let Err(error) = kubectl.ok(&wait).await {
        let described = kubectl.ok(&["describe", &name]).await;
        panic!("{error:#}\n{}", described.unwrap_or_else(|error| format!("{error:#}")));
    }
}

pub(crate) async fn until_event(
    kubectl: &Kubectl,
    object: &str,
    start: &str,
    count: u32,
) -> String {
    let selector = format!("--field-selector=involvedObject.name={object}");
    let path = "-o=jsonpath={range .items[*]}{.count} {.type} {.reason} {.message}{\"\\n\"}{end}";
    eventually(format!("{count} × {start:?} about {object}"), async || {
        let all = kubectl.run(&["get", "events", &selector, path]).await.unwrap().stdout;
        let mut events = all.lines().filter_map(|line| line.split_once(' '));
        let enough = |found: &str| found.parse().is_ok_and(|found: u32| found >= count);
        let event = events.find(|(found, event)| enough(found) && event.starts_with(start));
        event.map(|(_, event)| event.to_owned()).ok_or(all)
    })
    .await
}
