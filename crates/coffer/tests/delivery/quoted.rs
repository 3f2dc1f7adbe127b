//! What fails with a Secret in its environment: the event says why, and neither it nor the status nor
//! a file has the value, in whatever spelling.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use coffer_testkit::Attacks;

use crate::stage::Stage;

/// Part of every value here.
const MARK: &str = "KNRYq7c1f9";

const SECRET: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: marked}
stringData:
  nul: "KNRYq7c1f9\0x"
  quote: "KNRYq7c1f9 \"quoted\" \\ ü\n"
  plain: KNRYq7c1f9-plain
  short: "471"
"#;

fn pod(name: &str, key: &str, rest: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  volumes: [{{name: v, emptyDir: {{}}}}]
  containers:
  - name: main
    image: busybox
    env:
    - {{name: A, valueFrom: {{secretKeyRef: {{name: marked, key: {key}}}}}}}
{rest}
"
    )
}

/// A container that cannot be started says so, and goes on being tried.
async fn waits(stage: &Stage, pod: &str, reason: &str) -> String {
    let path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    let object = format!("pod/{pod}");
    let wait = ["wait", &object, "--timeout=120s", "--for", &format!("{path}={reason}")];
    stage.kubectl.ok(&wait).await.unwrap();
    stage.field(&object, "{.status.containerStatuses[0].state.waiting.message}").await
}

async fn ended_with(stage: &Stage, pod: &str) -> String {
    let object = format!("pod/{pod}");
    let wait = ["wait", &object, "--timeout=120s", "--for=jsonpath={.status.phase}=Failed"];
    stage.kubectl.ok(&wait).await.unwrap();
    stage.field(&object, "{.status.containerStatuses[0].state.terminated.message}").await
}

#[tokio::test]
async fn a_value_is_not_quoted_whatever_fails_with_it() {
    let stage = Stage::new().await;
    let mut attacks = Attacks::group("values of Secrets in what a real runtime says and writes");
    stage.create(SECRET).await;
    let command = "    command: [sh, -c, \"$0\", x]";
    for (name, key, rest) in [
        ("nul", "nul", command),
        ("program", "quote", "    command: [\"$(A)\"]"),
        ("argument", "quote", "    args: [\"$(A)\"]"),
        ("short", "short", "    command: [\"$(A)\"]"),
        ("short-tty", "short", "    command: [\"$(A)\"]\n    tty: true"),
        (
            "probe",
            "plain",
            "    command: [sleep, '3600']\n    readinessProbe: {periodSeconds: 1, \
          exec: {command: [sh, -c, 'echo \"login failed for $A\"; exit 1']}}",
        ),
        (
            "message",
            "quote",
            "    command: [sh, -c, 'echo \"no login: $A\" > \
          /dev/termination-log; exit 1']",
        ),
        (
            "directory",
            "plain",
            "    command: [sleep, '3600']\n    volumeMounts: [{name: v, \
          mountPath: /v, subPathExpr: $(A)}]",
        ),
    ] {
        stage.create(&pod(name, key, rest)).await;
    }
    let seen = waits(&stage, "nul", "CreateContainerConfigError").await;
    let expected = "environment variable \"A\" contains a NUL character: key nul in Secret \
                    default/marked cannot be an environment variable";
    attacks.attempt("NUL", seen == expected, seen);
    let seen = waits(&stage, "directory", "CreateContainerConfigError").await;
    attacks.attempt("a directory", seen.starts_with("volumeMounts[0].subPathExpr"), seen);
    for pod in ["program", "argument", "short", "short-tty"] {
        let seen = ended_or_waits(&stage, pod).await;
        let expected = "exec: \"<redacted>\": executable file not found in $PATH";
        attacks.attempt(pod, seen.contains(expected) && !seen.contains("471"), seen);
    }
    let seen = stage.until_event("probe", "Warning Unhealthy Readiness probe failed", 2).await;
    let expected = "Warning Unhealthy Readiness probe failed: login failed for <redacted>";
    attacks.attempt("probe", seen == expected, seen);
    let seen = ended_with(&stage, "message").await;
    attacks.attempt("message", seen.starts_with("no login: <redacted>"), seen);

    // The kubelet has survived all of it, and a pod that would take 8 GB, too.
    stage
        .create(&pod(
            "vast",
            "plain",
            &format!(
                "    - {{name: B, value: {}}}\n    - {{name: C, value: {}}}",
                "x".repeat(100_000),
                "$(B)".repeat(80_000)
            ),
        ))
        .await;
    let seen = waits(&stage, "vast", "CreateContainerConfigError").await;
    let expected = "environment variable \"C\" is longer than the 131072 bytes that the kernel \
                    allows for it";
    attacks.attempt("vast", seen == expected, seen);
    stage.create(&pod("after", "plain", "    command: [sleep, '3600']")).await;
    stage.until_ready("after").await;

    // A class names a handler: the same one as without a class gets placeholders, too.
    let class =
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: same}\nhandler: runc";
    stage.create(class).await;
    let classed = pod("classed", "plain", "    command: [sleep, '3600']");
    let never = "restartPolicy: Never";
    let with_class = format!("{never}\n  runtimeClassName: same");
    stage.create(&classed.replace(never, &with_class)).await;
    stage.until_ready("classed").await;
    let seen = stage.exec("classed", &["sh", "-c", "echo $A"]).await;
    attacks.attempt("a runtime class", seen == "KNRYq7c1f9-plain\n", seen);

    let shown = stage.kubectl.ok(&["get", "pods,events", "-o", "yaml"]).await.unwrap();
    attacks.attempt("shown", !shown.contains(MARK), "in events or status");
    let said = stage.coffer.log().join("\n");
    attacks.attempt("log", !said.contains(MARK), "in the log");
    let mut find = Command::new("find");
    find.arg(stage.coffer.data_dir()).args(["-xdev", "-type", "f"]);
    find.args(["-exec", "grep", "-laF", "-e", MARK]);
    for skip in 0..3 {
        // The digits that whatever stands before and behind it has no part in.
        let encoded = STANDARD_NO_PAD.encode(["x".repeat(skip), MARK.to_owned()].concat());
        find.args(["-e", &encoded[4..encoded.len() - 2]]);
    }
    let found = find.args(["{}", "+"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    attacks.attempt("disk", found.is_empty(), found);
    attacks.finish();
}

/// A start that failed is tried again, or, where the runtime has counted it, over.
async fn ended_or_waits(stage: &Stage, pod: &str) -> String {
    let event = "Warning Failed Error: ";
    stage.until_event(pod, event, 1).await
}
