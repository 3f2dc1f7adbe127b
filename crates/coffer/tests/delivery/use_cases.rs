//! The guide's use cases, its manifests as written.
//!
//! Two of its images have names that no registry takes: repository names are lower-case. As written
//! the pods say so; with the name in lower case they run.

use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Weak};

use coffer_testkit::eventually_is;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::stage::Stage;

const SSH_SECRET: &str = include_str!("../../../../examples/guide/ssh-key-secret.json");
const SSH_POD: &str = include_str!("../../../../examples/guide/secret-test-pod.json");
const DB_SECRETS: &str = include_str!("../../../../examples/guide/prod-test-secrets.json");
const DB_PODS: &str = include_str!("../../../../examples/guide/prod-test-pods.json");
const SIGNER: &str = include_str!("../../../../examples/guide/signer.yaml");

/// The runtime of the shared stage, which outlives the test that started it.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Runs a use case on a stage that is shared by those that run at the same time: the first one starts it, and the
/// last one stops it.
fn on_shared_stage(use_case: impl AsyncFnOnce(&Stage)) {
    static STAGE: Mutex<Weak<Stage>> = Mutex::const_new(Weak::new());
    RUNTIME.block_on(async {
        let stage = {
            let mut shared = STAGE.lock().await;
            match shared.upgrade() {
                Some(stage) => stage,
                None => {
                    let stage = Arc::new(Stage::new().await);
                    *shared = Arc::downgrade(&stage);
                    stage
                }
            }
        };
        use_case(&stage).await;
    });
}

#[test]
fn ssh_keys_are_files_in_the_pod() {
    on_shared_stage(pod_with_ssh_keys);
}

#[test]
fn pods_with_prod_and_test_credentials_get_their_own() {
    on_shared_stage(pods_with_prod_and_test_credentials);
}

#[test]
fn a_secret_is_visible_to_one_container_of_the_pod_only() {
    on_shared_stage(secret_visible_to_one_container);
}

#[test]
fn secrets_are_environment_variables_of_the_container() {
    on_shared_stage(secret_in_the_environment);
}

#[test]
fn a_pod_waits_with_an_event_until_its_secret_exists() {
    on_shared_stage(secret_that_comes_after_its_pod);
}

async fn until_invalid_name(stage: &Stage, pod: &str, image: &str) {
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=InvalidImageName";
    let wait = ["wait", &format!("pod/{pod}"), "--timeout=120s", "--for", reason];
    stage.kubectl.ok(&wait).await.unwrap();
    let path = "{.status.containerStatuses[0].state.waiting.message}";
    let expected = format!(
        "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid \
         reference format: repository name (library/{image}) must be lowercase"
    );
    assert_eq!(stage.field(&format!("pod/{pod}"), path).await, expected);
}

async fn pod_with_ssh_keys(stage: &Stage) {
    stage.create(SSH_SECRET).await;
    stage.create(SSH_POD).await;
    until_invalid_name(stage, "secret-test-pod", "mySshImage").await;
    // The image name is one of the few fields that can be changed in place.
    let set = ["set", "image", "pod/secret-test-pod", "ssh-test-container=mysshimage"];
    stage.kubectl.ok(&set).await.unwrap();
    stage.until_ready("secret-test-pod").await;

    let ls = stage.exec("secret-test-pod", &["ls", "/etc/secret-volume"]).await;
    assert_eq!(ls, "id-rsa\nid-rsa.pub\n");
    let cat = async |file: &str| {
        let path = format!("/etc/secret-volume/{file}");
        stage.exec("secret-test-pod", &["cat", &path]).await
    };
    assert_eq!(cat("id-rsa").await, "value-2\r\n\r\n");
    assert_eq!(cat("id-rsa.pub").await, "value-1\r\n");
}

async fn pods_with_prod_and_test_credentials(stage: &Stage) {
    stage.create(DB_SECRETS).await;
    stage.create(DB_PODS).await;
    for environment in ["prod", "test"] {
        let pod = format!("{environment}-db-client-pod");
        until_invalid_name(stage, &pod, "myClientImage").await;
    }
    let delete = ["delete", "pod", "prod-db-client-pod", "test-db-client-pod"];
    stage.kubectl.ok(&delete).await.unwrap();
    // The guide's two secrets are alike; which one a pod got must show nevertheless.
    let patch = r#"{"stringData": {"password": "of-the-tests"}}"#;
    stage.kubectl.ok(&["patch", "secret", "test-db-secret", "-p", patch]).await.unwrap();
    stage.create(&DB_PODS.replace("myClientImage", "myclientimage")).await;

    for (environment, password) in [("prod", "value-2\r\n\r\n"), ("test", "of-the-tests")] {
        let pod = format!("{environment}-db-client-pod");
        stage.until_ready(&pod).await;
        let ls = stage.exec(&pod, &["ls", "/etc/secret-volume"]).await;
        assert_eq!(ls, "password\nusername\n");
        let read = stage.exec(&pod, &["cat", "/etc/secret-volume/password"]).await;
        assert_eq!(read, password, "{pod}");
        let read = stage.exec(&pod, &["cat", "/etc/secret-volume/username"]).await;
        assert_eq!(read, "value-1\r\n", "{pod}");

        let secret = format!("{environment}-db-secret");
        let version = stage.field(&format!("secret/{secret}"), "{.metadata.resourceVersion}").await;
        let path = r"{.metadata.annotations.coffer\.dev/secret-resource-versions}";
        let reported = stage.field(&format!("pod/{pod}"), path).await;
        assert_eq!(reported, format!(r#"{{"{secret}":"{version}"}}"#));
    }
}

/// The frontend gets correct signatures from the signer, but cannot get the key.
async fn secret_visible_to_one_container(stage: &Stage) {
    stage.create(SIGNER).await;
    stage.until_ready("signing-app").await;
    let ask = "echo pay 3 to mallory | nc 127.0.0.1 9000";
    let ask = ["exec", "signing-app", "-c", "frontend", "--", "sh", "-c", ask];
    let signed = eventually_is(
        "the signer to respond",
        async || stage.kubectl.run(&ask).await.unwrap().stdout,
        |signature| !signature.is_empty(),
    )
    .await;
    assert_eq!(signed, format!("{}\n", sha256(b"value-2\r\n\r\npay 3 to mallory")));
    let key = stage.exec("signing-app/signer", &["cat", "/etc/signing/hmac-key"]).await;
    assert_eq!(key, "value-2\r\n\r\n");

    let error = stage.exec_fails("signing-app/frontend", &["ls", "/etc/signing"]).await;
    assert!(error.contains("No such file or directory"), "{error}");
    let mounts = stage.exec("signing-app/frontend", &["cat", "/proc/mounts"]).await;
    assert!(!mounts.contains("/etc/signing"), "{mounts}");
    // The processes of the signer, whose /proc/PID/root would be a way, are not there either.
    let processes = stage.exec("signing-app/frontend", &["ps"]).await;
    assert!(!processes.contains("hmac-key"), "{processes}");
}

async fn secret_in_the_environment(stage: &Stage) {
    stage
        .create(
            r#"
apiVersion: v1
kind: Secret
metadata: {name: db-env}
stringData: {user: value-1, password: "pass word\n", 1st: one, dotted.key: two}
---
apiVersion: v1
kind: Pod
metadata: {name: env-pod}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    envFrom:
    - secretRef: {name: db-env}
    - prefix: DB_
      secretRef: {name: db-env}
    - secretRef: {name: nosuch, optional: true}
    env:
    - {name: WHO, valueFrom: {secretKeyRef: {name: db-env, key: user}}}
    - {name: NONE, valueFrom: {secretKeyRef: {name: db-env, key: nosuch, optional: true}}}
    - {name: GREETING, value: hello $(WHO)}
---
apiVersion: v1
kind: Pod
metadata: {name: env-pod-without-key}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    env:
    - {name: WHO, valueFrom: {secretKeyRef: {name: db-env, key: late}}}
"#,
        )
        .await;
    stage.until_ready("env-pod").await;
    let print = async |name: &str| {
        let script = format!("printf '%s' \"${name}\"");
        stage.exec("env-pod", &["sh", "-c", &script]).await
    };
    assert_eq!(print("user").await, "value-1");
    assert_eq!(print("DB_password").await, "pass word\n");
    assert_eq!(print("DB_1st").await, "one");
    assert_eq!(print("GREETING").await, "hello value-1");
    let all = stage.exec("env-pod", &["env"]).await;
    assert!(all.contains("\ndotted.key=two\n") && !all.contains("NONE"), "{all}");
    let invalid = "Warning InvalidEnvironmentVariableNames Keys [1st] from the EnvFrom secret \
                   default/db-env were skipped since they are considered invalid environment \
                   variable names.";
    assert_eq!(stage.until_event("env-pod", invalid, 1).await, invalid);

    let reason =
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError";
    let wait = ["wait", "pod/env-pod-without-key", "--timeout=120s", "--for", reason];
    stage.kubectl.ok(&wait).await.unwrap();
    let event = "Warning Failed Error: couldn't find key late in Secret default/db-env";
    assert_eq!(stage.until_event("env-pod-without-key", event, 1).await, event);
    let patch = r#"{"stringData": {"late": "here"}}"#;
    stage.kubectl.ok(&["patch", "secret", "db-env", "-p", patch]).await.unwrap();
    stage.until_ready("env-pod-without-key").await;
}

/// The kubelet "will report an event about the pod explaining the reason it is not started yet".
async fn secret_that_comes_after_its_pod(stage: &Stage) {
    stage
        .create(
            r#"
apiVersion: v1
kind: Pod
metadata: {name: early}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sleep, "3600"]
    volumeMounts:
    - {name: v, mountPath: /v}
  volumes:
  - {name: v, secret: {secretName: later, items: [{key: b, path: b}]}}
"#,
        )
        .await;
    let absent =
        r#"Warning FailedMount MountVolume.SetUp failed for volume "v" : secret "later" not found"#;
    // More than once, and one event: repeats are counted.
    assert_eq!(stage.until_event("early", absent, 3).await, absent);
    let selector = "--field-selector=involvedObject.name=early,reason=FailedMount";
    let events = stage.kubectl.ok(&["get", "events", selector, "-o", "name"]).await.unwrap();
    assert_eq!(events.lines().count(), 1, "{events}");
    let path = "{.status.phase} {.status.containerStatuses[0].state.waiting.reason}";
    assert_eq!(stage.field("pod/early", path).await, "Pending ContainerCreating");

    let create = ["create", "secret", "generic", "later", "--from-literal=a=1"];
    stage.kubectl.ok(&create).await.unwrap();
    let lacking = "Warning FailedMount MountVolume.SetUp failed for volume \"v\" : references \
                   non-existent secret key: b";
    assert_eq!(stage.until_event("early", lacking, 1).await, lacking);
    let patch = r#"{"stringData": {"b": "2"}}"#;
    stage.kubectl.ok(&["patch", "secret", "later", "-p", patch]).await.unwrap();
    stage.until_ready("early").await;
    assert_eq!(stage.exec("early", &["cat", "/v/b"]).await, "2");
}

/// By a program that is not ours.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::io::Write as _;
    let mut command = Command::new("sha256sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    String::from_utf8_lossy(&said).split_whitespace().next().unwrap().to_owned()
}
