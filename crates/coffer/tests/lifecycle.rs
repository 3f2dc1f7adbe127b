//! What is kept, what keeps running and what is removed when Coffer stops and starts again.

use std::path::Path;
use std::process::Command;

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Registry, eventually, images, mounts};

/// No byte of the test's own program or images reads like this.
const CANARY: &str = "c4n4ry-7f3a9d02-of-the-lifecycle-test";
const CANARY_BASE64: &str = "YzRuNHJ5LTdmM2E5ZDAyLW9mLXRoZS1saWZlY3ljbGUtdGVzdA";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: keeper
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: ["sleep", "3600"]
    volumeMounts:
    - { name: secret, mountPath: /etc/secret }
  volumes:
  - name: secret
    secret: { secretName: canary }
"#;

/// The ways into a container's environment and command line. It ends when a line is written to its
/// pipe.
const ENV_POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: environment }
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "mkfifo /end; read line < /end", "$(DERIVED)"]
    args: ["$(ALL_k)"]
    envFrom:
    - { prefix: ALL_, secretRef: { name: canary } }
    env:
    - { name: KEY, valueFrom: { secretKeyRef: { name: canary, key: k } } }
    - { name: DERIVED, value: "user:$(KEY)@host" }
    - { name: PLAIN, value: "to be seen" }
    livenessProbe:
      exec: { command: [sh, -c, 'test "$DERIVED" = "user:$ALL_k@host"'] }
      periodSeconds: 1
      failureThreshold: 1
"#;

const ENDING_PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: finisher }
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - { name: main, image: busybox, command: [sleep, "3600"] }
---
apiVersion: v1
kind: Pod
metadata: { name: mixed }
spec:
  restartPolicy: OnFailure
  terminationGracePeriodSeconds: 1
  containers:
  - { name: done, image: busybox, command: ["true"] }
  - { name: lasting, image: busybox, command: [sleep, "3600"] }
"#;

async fn registry() -> Registry {
    let registry = Registry::open().await.unwrap();
    registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
    registry
}

fn builder(registry: &Registry) -> CofferBuilder {
    CofferBuilder::up(env!("CARGO_BIN_EXE_coffer")).mirror(registry)
}

async fn start_pod(kubectl: &Kubectl) {
    let secret = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: canary}}, stringData: {{k: {CANARY}}}}}"
    );
    kubectl.ok_with_input(&["create", "-f", "-"], secret.as_bytes()).await.unwrap();
    kubectl.ok_with_input(&["create", "-f", "-"], POD.as_bytes()).await.unwrap();
    until_ready(kubectl).await;
}

async fn until_ready(kubectl: &Kubectl) {
    let wait = ["wait", "--for=condition=Ready", "pod/keeper", "--timeout=120s"];
    kubectl.ok(&wait).await.unwrap();
}

/// Which container runs, how often it was restarted, and what it reads.
async fn pod(kubectl: &Kubectl) -> (String, String) {
    let path = "-o=jsonpath={.status.containerStatuses[0].containerID} \
                {.status.containerStatuses[0].restartCount}";
    let container = kubectl.ok(&["get", "pod", "keeper", path]).await.unwrap();
    let read = ["exec", "keeper", "--", "cat", "/etc/secret/k"];
    (container, kubectl.ok(&read).await.unwrap())
}

/// What the container that was restarted so often has from the secret, and its command line.
async fn check_environment(kubectl: &Kubectl, restarts: u32) {
    let count = format!("--for=jsonpath={{.status.containerStatuses[0].restartCount}}={restarts}");
    for condition in [count.as_str(), "--for=condition=Ready"] {
        kubectl.ok(&["wait", condition, "pod/environment", "--timeout=120s"]).await.unwrap();
    }
    let print = "printf '%s\\n' \"$KEY\" \"$ALL_k\" \"$DERIVED\" \"$PLAIN\"";
    let shown = kubectl.ok(&["exec", "environment", "--", "sh", "-c", print]).await.unwrap();
    assert_eq!(shown, format!("{CANARY}\n{CANARY}\nuser:{CANARY}@host\nto be seen\n"));
    let line = ["exec", "environment", "--", "cat", "/proc/1/cmdline"];
    let words = kubectl.ok(&line).await.unwrap();
    let words: Vec<&str> = words.split('\0').skip(3).collect();
    assert_eq!(words, [&format!("user:{CANARY}@host"), CANARY, ""]);
}

/// The files on the data directory's own file system, and of the runtime's state, that hold the
/// canary. What is mounted below, the secret's tmpfs above all, is not on disk and not searched.
fn leaks(coffer: &Coffer) -> String {
    let mut find = Command::new("find");
    find.arg(coffer.data_dir());
    for entry in Path::new("/run").read_dir().unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("coffer-") {
            find.arg(entry.path());
        }
    }
    find.args(["-xdev", "-type", "f", "-exec", "grep", "-laF"]);
    find.args(["-e", CANARY, "-e", CANARY_BASE64, "{}", "+"]);
    String::from_utf8(find.output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn no_byte_of_a_secret_reaches_the_disk_from_its_creation_to_its_end() {
    let registry = registry().await;
    let mut coffer = builder(&registry).start().await.unwrap();
    let kubectl = coffer.kubectl();
    // The search itself must be able to find.
    let probe = coffer.data_dir().join("probe");
    std::fs::write(&probe, format!("x{CANARY_BASE64}x")).unwrap();
    assert_eq!(leaks(&coffer).trim(), probe.display().to_string());
    std::fs::remove_file(&probe).unwrap();

    start_pod(&kubectl).await;
    assert_eq!(pod(&kubectl).await.1, CANARY);
    kubectl.ok_with_input(&["create", "-f", "-"], ENV_POD.as_bytes()).await.unwrap();
    check_environment(&kubectl, 0).await;
    assert_eq!(leaks(&coffer), "");
    // A restarted container's come from what the pod keeps, also in a new process.
    coffer.kill().await.unwrap();
    coffer.start().await.unwrap();
    kubectl.ok(&["delete", "secret", "canary"]).await.unwrap();
    kubectl.ok(&["exec", "environment", "--", "sh", "-c", "echo > /end"]).await.unwrap();
    check_environment(&kubectl, 1).await;
    assert_eq!(leaks(&coffer), "");
    kubectl.ok(&["delete", "pod", "keeper", "environment"]).await.unwrap();
    assert_eq!(leaks(&coffer), "");
    let log = coffer.log().join("\n");
    assert!(!log.contains(CANARY) && !log.contains(CANARY_BASE64), "{log}");
    assert!(coffer.stop().await.unwrap().success());
    assert_eq!(leaks(&coffer), "");
}

#[tokio::test]
async fn a_restart_keeps_objects_and_leaves_the_pod_running() {
    let registry = registry().await;
    let mut coffer = builder(&registry).start().await.unwrap();
    let kubectl = coffer.kubectl();
    start_pod(&kubectl).await;
    let before = pod(&kubectl).await;

    assert!(coffer.stop().await.unwrap().success());
    assert!(!mounts::below(&coffer.data_dir().join("kubelet")).unwrap().is_empty());
    coffer.start().await.unwrap();
    until_ready(&kubectl).await;
    assert_eq!(pod(&kubectl).await, before);

    coffer.kill().await.unwrap();
    coffer.start().await.unwrap();
    until_ready(&kubectl).await;
    assert_eq!(pod(&kubectl).await, before);

    // As the node lifecycle controller does to the pods of a node that it has not heard of for a
    // while: the kubelet knows better.
    let keeper = kubectl.ok(&["get", "pod", "keeper", "-o", "json"]).await.unwrap();
    let mut keeper: serde_json::Value = serde_json::from_str(&keeper).unwrap();
    let conditions = keeper["status"]["conditions"].as_array_mut().unwrap();
    for condition in conditions.iter_mut().filter(|condition| condition["type"] == "Ready") {
        condition["status"] = "False".into();
    }
    let status = ["replace", "--raw", "/api/v1/namespaces/default/pods/keeper/status", "-f", "-"];
    let answer = kubectl.ok_with_input(&status, keeper.to_string().as_bytes()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["status"]["conditions"], keeper["status"]["conditions"]);
    until_ready(&kubectl).await;
    assert_eq!(pod(&kubectl).await, before);
}

/// A pod that has ended by its own will, or for good, is not run again; the others are.
#[tokio::test]
async fn asked_to_it_ends_its_pods_and_leaves_no_mount_and_no_process() {
    let registry = registry().await;
    let mut coffer = builder(&registry).arg("--stop-pods-on-exit").start().await.unwrap();
    let kubectl = coffer.kubectl();
    start_pod(&kubectl).await;
    kubectl.ok_with_input(&["create", "-f", "-"], ENDING_PODS.as_bytes()).await.unwrap();
    let finisher = ["wait", "pod/finisher", "--timeout=120s", "--for=condition=Ready"];
    kubectl.ok(&finisher).await.unwrap();
    let done = "--for=jsonpath={.status.containerStatuses[?(@.name==\"done\")].state.terminated\
                .reason}=Completed";
    kubectl.ok(&["wait", "pod/mixed", "--timeout=120s", done]).await.unwrap();
    // As timeout(1) does it, which signals its child and then its group.
    coffer.signal();
    assert!(coffer.stop().await.unwrap().success());
    nothing_is_left_of(&coffer);

    coffer.start().await.unwrap();
    until_ready(&kubectl).await;
    assert_eq!(pod(&kubectl).await.1, CANARY);
    let restarts = "-o=jsonpath={.status.phase}{range .status.containerStatuses[*]} \
                    {.name} {.restartCount}{end}";
    assert_eq!(kubectl.ok(&["get", "pod", "keeper", restarts]).await.unwrap(), "Running main 1");
    let running =
        "--for=jsonpath={.status.containerStatuses[?(@.name==\"lasting\")].restartCount}=1";
    kubectl.ok(&["wait", "pod/mixed", "--timeout=120s", running]).await.unwrap();
    let mixed = kubectl.ok(&["get", "pod", "mixed", restarts]).await.unwrap();
    assert_eq!(mixed, "Running done 0 lasting 1");
    let finisher = kubectl.ok(&["get", "pod", "finisher", restarts]).await.unwrap();
    assert_eq!(finisher, "Failed main 0");
}

/// No mount below the data directory, and no process that names it.
fn nothing_is_left_of(coffer: &Coffer) {
    assert_eq!(mounts::below(coffer.data_dir()).unwrap(), [] as [&Path; 0]);
    let data_dir = coffer.data_dir().as_os_str().as_encoded_bytes();
    for entry in Path::new("/proc").read_dir().unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let names_it = command.windows(data_dir.len()).any(|window| window == data_dir);
        assert!(!names_it, "{}", String::from_utf8_lossy(&command));
    }
}

/// A runtime that hangs does not block forever, and its pods and their secrets are removed nevertheless.
/// This takes as long as all are waited for: two minutes.
#[tokio::test]
async fn a_runtime_that_hangs_is_ended_with_all_that_it_runs() {
    let registry = registry().await;
    let mut coffer = builder(&registry).arg("--stop-pods-on-exit").start().await.unwrap();
    start_pod(&coffer.kubectl()).await;
    let pid = pid_of(&coffer);
    let containerd = coffer.containerd().unwrap();
    rustix::process::kill_process(containerd, rustix::process::Signal::STOP).unwrap();
    assert!(coffer.stop().await.unwrap().success());
    nothing_is_left_of(&coffer);
    assert!(!is_there(&pid));
}

/// The number of the process that runs the pod's only command.
fn pid_of(coffer: &Coffer) -> String {
    let data_dir = coffer.data_dir().to_str().unwrap();
    let is_it = |pid: &String| {
        let read =
            |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("cmdline") == "sleep\x003600\0" && read("mountinfo").contains(data_dir)
    };
    let entries = Path::new("/proc").read_dir().unwrap().flatten();
    let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.find(is_it).expect("the container's process")
}

/// A process in the container of another one that the container knows nothing of. It ends by
/// itself after two minutes.
fn process_in_mounts_of(pid: &str) -> std::process::Child {
    let mut command = Command::new("nsenter");
    command.args(["--target", pid, "--mount", "--root", "sleep", "120"]).spawn().unwrap()
}

fn is_there(pid: &str) -> bool {
    // A zombie has none.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| !command.is_empty())
}

fn kill(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Makes the runtime lose the container of a process and its sandbox: what knows of them
/// is killed, and what runc has noted is removed, as if it had been killed before it took note.
fn lose(coffer: &Coffer, pid: &str) {
    let read =
        |pid: &str, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let shim = read(pid, "status");
    let shim = shim.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    let tasks = Path::new("/proc").join(shim).join("task").read_dir().unwrap().flatten();
    let children: String =
        tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap()).collect();
    let containers = children.split_whitespace().map(|child| {
        let cgroups = read(child, "cgroup");
        cgroups.lines().map(|line| line.rsplit('/').next().unwrap()).max().unwrap().to_owned()
    });
    let containers: Vec<String> = containers.collect();
    assert_eq!(containers.len(), 2, "{containers:?}");
    kill(&coffer.containerd().unwrap().as_raw_nonzero().to_string());
    kill(shim);
    for id in containers {
        std::fs::remove_dir_all(Path::new("/run/containerd/runc/k8s.io").join(id)).unwrap();
    }
}

/// As a kubelet leaves it that is killed while it starts a container: containerd has a task of the
/// container, and its CRI service does not know of it ("cannot delete running task").
#[tokio::test]
async fn a_container_whose_task_the_runtime_has_lost_is_removed_with_its_pod() {
    let registry = registry().await;
    let mut coffer = builder(&registry).start().await.unwrap();
    let kubectl = coffer.kubectl();
    kubectl.ok_with_input(&["create", "-f", "-"], ENDING_PODS.as_bytes()).await.unwrap();
    let done =
        |field| format!("jsonpath={{.status.containerStatuses[?(@.name==\"done\")].{field}}}");
    let ended = format!("--for={}=Completed", done("state.terminated.reason"));
    kubectl.ok(&["wait", "pod/mixed", &ended, "--timeout=120s"]).await.unwrap();
    let path = format!("-o={}", done("containerID"));
    let id = kubectl.ok(&["get", "pod", "mixed", &path]).await.unwrap();
    let id = id.strip_prefix("containerd://").unwrap();
    ctr(&coffer, &["tasks", "start", "--null-io", "--detach", id]);
    eventually("the task to end", async || {
        let tasks = ctr(&coffer, &["tasks", "list"]);
        tasks.lines().any(|line| line.starts_with(id) && line.ends_with("STOPPED"))
    })
    .await;

    kubectl.ok(&["delete", "pod", "mixed", "--timeout=60s"]).await.unwrap();
    eventually("the container to be removed", async || {
        !ctr(&coffer, &["containers", "list", "--quiet"]).lines().any(|line| line == id)
    })
    .await;
    assert!(coffer.stop().await.unwrap().success());
}

/// Runs containerd's own client, and returns what it prints.
fn ctr(coffer: &Coffer, arguments: &[&str]) -> String {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(coffer.containerd_socket().unwrap());
    let output = command.args(["--namespace", "k8s.io"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// As `runc init` is left when containerd is killed while it makes a container; with it the pod's
/// secrets stay mounted, where the host sees no mount any more.
#[tokio::test]
async fn a_process_that_the_runtime_has_lost_ends_with_its_pod_and_with_the_runtime() {
    let registry = registry().await;
    let mut coffer = builder(&registry).arg("--stop-pods-on-exit").start().await.unwrap();
    let kubectl = coffer.kubectl();
    start_pod(&kubectl).await;
    let pid = pid_of(&coffer);
    let mut stray = process_in_mounts_of(&pid);
    lose(&coffer, &pid);
    let again = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    kubectl.ok(&["wait", "pod/keeper", again, "--timeout=120s"]).await.unwrap();
    until_ready(&kubectl).await;
    assert!(is_there(&pid), "the runtime knows it still");

    kubectl.ok(&["delete", "pod", "keeper", "--timeout=120s"]).await.unwrap();
    assert!(!is_there(&pid), "it lives on without its pod");
    assert!(stray.try_wait().unwrap().is_none(), "it is in no container's cgroup");

    assert!(coffer.stop().await.unwrap().success());
    let ended = stray.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
}
