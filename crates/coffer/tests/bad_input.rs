//! Mistakes of users, and the one-line errors that they get.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use coffer_testkit::CofferBuilder;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer");
/// The user `nobody`, who has no permissions.
const UNPRIVILEGED: u32 = 65534;

fn run(command: &mut Command) -> Output {
    command.env_remove("COFFER_LOG").output().unwrap()
}

/// Exit status 1, nothing on standard output, and one line that says who speaks.
#[track_caller]
fn assert_refused(output: &Output, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("coffer: ") && stderr.contains(expected), "{stderr}");
}

fn apiserver(data_dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["apiserver", "--secure-port", "0", "--data-dir"]).arg(data_dir);
    command
}

/// The program where `nobody` can run it, and a directory that they own.
struct Unprivileged {
    directory: TempDir,
}

impl Unprivileged {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::copy(PROGRAM, directory.path().join("coffer")).unwrap();
        Self { directory }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(self.directory.path().join("coffer"));
        command.arg(verb).current_dir("/").uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        command
    }
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data_dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["apiserver", "--secure-port", &port, "--data-dir"]).arg(data_dir.path());
    let expected = format!("cannot listen on 127.0.0.1:{port}");
    assert_refused(&run(&mut command), &expected);
}

/// A kubeconfig holds tokens, and plugins print them: neither is quoted.
#[test]
fn a_kubeconfig_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    let config = |user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:1\"}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             users:\n- name: u\n  user:\n{user}"
        )
    };
    let plugin = "    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      \
                  command: /bin/sh\n      interactiveMode: Never\n      \
                  args: [-c, 'echo hunter2; echo hunter2 >&2; exit 1']\n";
    let credentials = "the credentials cannot be used";
    for (text, expected) in [
        (config("    token: hunter2\n  - hunter2\n"), "invalid YAML at line "),
        (config("    token: [hunter2]\n"), "invalid YAML at line "),
        (config("    client-key-data: hunter2!\n"), "the client key is not base64"),
        (config(plugin), credentials),
        (config(&plugin.replace("exit 1", "exit 0")), credentials),
        (config("    token: \"hunter2\\n\"\n"), credentials),
    ] {
        std::fs::write(&file, &text).unwrap();
        for verb in ["controller-manager", "scheduler", "apply"] {
            let mut command = Command::new(PROGRAM);
            command.arg(verb).arg("--kubeconfig").arg(&file);
            if verb == "apply" {
                command.args(["-f", "/dev/null"]);
            }
            let output = command.env("COFFER_LOG", "trace").output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(!stderr.contains("hunter2"), "{verb}: {stderr}");
            if verb != "apply" {
                assert_eq!(output.status.code(), Some(1), "{verb}: {stderr}");
                let last = stderr.lines().last().unwrap_or_default();
                assert!(last.starts_with("coffer: cannot use kubeconfig "), "{verb}: {stderr}");
                assert!(last.contains(expected), "{verb}: {text}\n{stderr}");
            }
        }
    }
}

#[test]
fn a_missing_containerd() {
    let data_dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["up", "--secure-port", "0", "--kubelet-port", "0", "--data-dir"]);
    command.arg(data_dir.path()).env("PATH", "/nonexistent");
    assert_refused(&run(&mut command), "containerd is not installed");
}

#[test]
fn an_invalid_runtime_endpoint() {
    let data_dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["up", "--secure-port", "0", "--kubelet-port", "0", "--data-dir"]);
    command.arg(data_dir.path()).args(["--container-runtime-endpoint", "localhost:1234"]);
    assert_refused(&run(&mut command), "is not a unix socket");
}

#[test]
fn a_user_who_is_not_root() {
    let unprivileged = Unprivileged::new();
    let mut up = unprivileged.command("up");
    assert_refused(&run(up.arg("--data-dir").arg("/tmp/never")), "must run as root");
    let mut kubelet = unprivileged.command("kubelet");
    assert_refused(&run(kubelet.args(["--kubeconfig", "/dev/null"])), "must run as root");
}

#[test]
fn a_data_directory_that_may_not_be_read() {
    let unprivileged = Unprivileged::new();
    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let mut command = unprivileged.command("apiserver");
    let output = run(command.arg("--data-dir").arg(closed.path()));
    assert_refused(&output, "Permission denied");
    assert_refused(&output, &closed.path().display().to_string());
}

#[test]
fn a_data_directory_that_is_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_refused(&run(&mut apiserver(file.path())), "Not a directory");
}

#[test]
fn a_data_directory_with_foreign_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.tex"), "").unwrap();
    assert_refused(&run(&mut apiserver(directory.path())), "contains files that are not Coffer's");
}

#[tokio::test]
async fn a_data_directory_in_use() {
    let coffer = CofferBuilder::apiserver(PROGRAM).start().await.unwrap();
    assert_refused(&run(&mut apiserver(coffer.data_dir())), "is in use by another coffer");
}

#[test]
fn a_kubeconfig_that_is_not_there() {
    for verb in ["scheduler", "controller-manager"] {
        let mut command = Command::new(PROGRAM);
        command.args([verb, "--kubeconfig", "/nonexistent/kubeconfig"]);
        assert_refused(&run(&mut command), "/nonexistent/kubeconfig");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_status_2() {
    for arguments in [
        &["frobnicate"][..],
        &["up", "--no-such-flag"],
        &["up", "--secure-port", "65536"],
        &["up", "--registry-mirror", "docker.io"],
        &["scheduler"],
    ] {
        let output = run(Command::new(PROGRAM).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// What kubectl sends to the server, and the errors that it gets.
#[tokio::test]
async fn invalid_manifests() {
    let coffer = CofferBuilder::apiserver(PROGRAM).start().await.unwrap();
    let kubectl = coffer.kubectl();
    let oversized = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: large}}\ndata: {{k: {}}}\n",
        "x".repeat(4 << 20)
    );
    for (manifest, expected) in [
        ("{", "error parsing"),
        ("apiVersion: v1\nkind: Secret\n\tmetadata:", "error parsing"),
        ("{apiVersion: v1, kind: Sekret, metadata: {name: a}}", "no matches for kind \"Sekret\""),
        ("{apiVersion: v7, kind: Secret, metadata: {name: a}}", "no matches for kind \"Secret\""),
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: nowhere}}",
            "namespaces \"nowhere\" not found",
        ),
        (&oversized, "equest entity too large"),
    ] {
        let create = kubectl.run_with_input(&["create", "-f", "-"], manifest.as_bytes());
        let outcome = create.await.unwrap();
        let shown: String = manifest.chars().take(60).collect();
        assert!(!outcome.status.success(), "{shown}");
        assert!(outcome.stderr.contains(expected), "{shown}: {}", outcome.stderr);
    }
}
