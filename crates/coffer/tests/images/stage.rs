//! A Coffer, its kubectl, and the words in which these tests ask for pods and secrets.

use std::path::Path;
use std::process::Command;

use coffer_testkit::image::{Image, Layer, Run};
use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Registry, eventually, images};

pub(crate) const USER: &str = "puller";
/// No byte of the test's own program or images reads like this.
pub(crate) const PASSWORD: &str = "c4n4ry-0b8e51d7-of-the-image-tests";

pub(crate) struct Stage {
    pub(crate) coffer: Coffer,
    pub(crate) kubectl: Kubectl,
}

pub(crate) fn builder() -> CofferBuilder {
    CofferBuilder::up(env!("CARGO_BIN_EXE_coffer"))
}

/// A registry behind the tests' user and password, with one private image.
pub(crate) async fn private_registry() -> Registry {
    with_app(Registry::with_password(USER, PASSWORD).await.unwrap()).await
}

/// A registry without authentication, with the same image.
pub(crate) async fn open_registry() -> Registry {
    with_app(Registry::open().await.unwrap()).await
}

/// Puts in an image that runs, and one whose layer no other image has.
pub(crate) async fn with_app(registry: Registry) -> Registry {
    registry.push(&images::busybox().unwrap(), "private/app", "1").await.unwrap();
    let layer = Layer::new().file("hello", b"world", 0o644);
    let bait = Image::new(vec![layer], &Run::default());
    registry.push(&bait, "private/bait", "1").await.unwrap();
    registry
}

impl Stage {
    pub(crate) async fn new(builder: CofferBuilder) -> Self {
        let coffer = builder.start().await.unwrap();
        let kubectl = coffer.kubectl();
        Self { coffer, kubectl }
    }

    /// `kubectl create secret docker-registry`
    pub(crate) async fn create_secret(&self, secret: &str, server: &str, password: &str) {
        let arguments = secret_arguments(secret, server, password);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.kubectl.ok(&arguments).await.unwrap();
    }

    /// Gives a secret, or one that is not there yet, another password.
    pub(crate) async fn replace_secret(&self, secret: &str, server: &str, password: &str) {
        let mut arguments = secret_arguments(secret, server, password);
        arguments.extend(["--dry-run=client", "-o", "json"].map(str::to_owned));
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let manifest = self.kubectl.ok(&arguments).await.unwrap();
        self.kubectl.ok_with_input(&["apply", "-f", "-"], manifest.as_bytes()).await.unwrap();
    }

    pub(crate) async fn create(&self, manifest: &str) {
        self.kubectl.ok_with_input(&["create", "-f", "-"], manifest.as_bytes()).await.unwrap();
    }

    /// Starts a pod and waits until it runs.
    pub(crate) async fn run(&self, pod: &Pod<'_>) {
        self.create(&pod.manifest()).await;
        self.until_running(pod).await;
    }

    pub(crate) async fn until_running(&self, pod: &Pod<'_>) {
        let name = format!("pod/{}", pod.name);
        let wait = ["wait", "-n", pod.namespace, "--for=condition=Ready", &name, "--timeout=120s"];
        if let Err(error) = self.kubectl.ok(&wait).await {
            panic!("{error:#}\n{}", self.events(pod).await.join("\n"));
        }
    }

    /// Starts a pod and waits until it waits for this reason.
    pub(crate) async fn fail(&self, pod: &Pod<'_>, reason: &str) {
        self.create(&pod.manifest()).await;
        let name = format!("pod/{}", pod.name);
        let condition = format!(
            "--for=jsonpath={{.status.containerStatuses[0].state.waiting.reason}}={reason}"
        );
        let wait = ["wait", "-n", pod.namespace, &condition, &name, "--timeout=120s"];
        if let Err(error) = self.kubectl.ok(&wait).await {
            panic!("{error:#}\n{}", self.events(pod).await.join("\n"));
        }
    }

    pub(crate) async fn waiting_message(&self, pod: &Pod<'_>) -> String {
        let path = "-o=jsonpath={.status.containerStatuses[0].state.waiting.message}";
        self.kubectl.ok(&["get", "pod", "-n", pod.namespace, pod.name, path]).await.unwrap()
    }

    /// The events of a pod, oldest first, as `Type Reason Message`.
    pub(crate) async fn events(&self, pod: &Pod<'_>) -> Vec<String> {
        let selector = format!("--field-selector=involvedObject.name={}", pod.name);
        let path = "-o=jsonpath={range .items[*]}{.type} {.reason} {.message}{\"\\n\"}{end}";
        let get =
            ["get", "events", "-n", pod.namespace, &selector, "--sort-by=.firstTimestamp", path];
        let text = self.kubectl.ok(&get).await.unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a pod has an event that begins so.
    pub(crate) async fn until_event(&self, pod: &Pod<'_>, start: &str) -> String {
        self.until_events(pod, start, 1).await
    }

    /// Waits until a pod has an event that begins so, so many times.
    pub(crate) async fn until_events(&self, pod: &Pod<'_>, start: &str, times: u32) -> String {
        let selector = format!("--field-selector=involvedObject.name={}", pod.name);
        let path =
            "-o=jsonpath={range .items[*]}{.count} {.type} {.reason} {.message}{\"\\n\"}{end}";
        let get = ["get", "events", "-n", pod.namespace, &selector, path];
        eventually(format!("{times} × {start:?} about {}", pod.name), async || {
            let text = self.kubectl.ok(&get).await.unwrap();
            let found = text.lines().find_map(|line| {
                let (count, event) = line.split_once(' ')?;
                let enough = count.parse::<u32>().ok()? >= times && event.starts_with(start);
                enough.then(|| event.to_owned())
            });
            found.ok_or(text)
        })
        .await
    }

    /// What the containerd of the Coffer has written into its log.
    pub(crate) fn containerd_log(&self) -> String {
        let path = self.coffer.data_dir().join("containerd/containerd.log");
        std::fs::read_to_string(path).unwrap()
    }

    /// Nothing that a password, or the base64 of it that goes over the wire, can be read from: not
    /// on disk, in no log, in no event and no status.
    pub(crate) async fn assert_no_leak(&self) {
        let packed = base64_of(&format!("{USER}:{PASSWORD}"));
        let said = self.coffer.log().join("\n");
        let shown = self.kubectl.ok(&["get", "pods,events", "-A", "-o", "yaml"]).await.unwrap();
        let described = self.kubectl.ok(&["describe", "pods,nodes", "-A"]).await.unwrap();
        for text in [&said, &shown, &described] {
            assert!(!text.contains(PASSWORD) && !text.contains(&packed), "{text}");
        }
        let mut find = Command::new("find");
        find.arg(self.coffer.data_dir());
        for entry in Path::new("/run").read_dir().unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("coffer-") {
                find.arg(entry.path());
            }
        }
        find.args(["-xdev", "-type", "f", "-exec", "grep", "-laF"]);
        find.args(["-e", PASSWORD, "-e", &base64_of(PASSWORD), "-e", &packed, "{}", "+"]);
        let found = String::from_utf8(find.output().unwrap().stdout).unwrap();
        assert_eq!(found, "");
    }
}

/// Without its padding, so that it is found inside of longer base64 as well.
fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(text)
}

fn secret_arguments(secret: &str, server: &str, password: &str) -> Vec<String> {
    let (namespace, name) = secret.split_once('/').unwrap_or(("default", secret));
    let mut arguments: Vec<_> =
        ["create", "secret", "docker-registry", "-n", namespace, name].map(str::to_owned).into();
    arguments.push(format!("--docker-server={server}"));
    arguments.push(format!("--docker-username={USER}"));
    arguments.push(format!("--docker-password={password}"));
    arguments
}

/// A pod of one container.
pub(crate) struct Pod<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) image: String,
    policy: &'a str,
    secrets: Vec<&'a str>,
    service_account: &'a str,
}

impl<'a> Pod<'a> {
    pub(crate) fn new(name: &'a str, image: impl Into<String>) -> Self {
        Self {
            namespace: "default",
            name,
            image: image.into(),
            policy: "Always",
            secrets: Vec::new(),
            service_account: "default",
        }
    }

    pub(crate) fn within(mut self, namespace: &'a str) -> Self {
        self.namespace = namespace;
        self
    }

    pub(crate) fn policy(mut self, policy: &'a str) -> Self {
        self.policy = policy;
        self
    }

    pub(crate) fn secret(mut self, name: &'a str) -> Self {
        self.secrets.push(name);
        self
    }

    pub(crate) fn service_account(mut self, name: &'a str) -> Self {
        self.service_account = name;
        self
    }

    fn manifest(&self) -> String {
        let Self { namespace, name, image, policy, service_account, .. } = self;
        let secrets: Vec<_> = self.secrets.iter().map(|name| format!("{{name: {name}}}")).collect();
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{namespace: {namespace}, name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  serviceAccountName: {service_account}
  imagePullSecrets: [{}]
  containers:
  - name: main
    image: '{image}'
    imagePullPolicy: {policy}
    command: [sleep, '3600']
",
            secrets.join(", ")
        )
    }
}
