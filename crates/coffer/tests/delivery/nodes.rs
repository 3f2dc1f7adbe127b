//! Several nodes on one machine: "A secret is only sent to a node if a pod on that node requires
//! it", and no node's credential reads another's.

use std::path::Path;

use coffer_testkit::{Kubectl, Runtime, eventually_is, mounts};

use crate::cluster::{ControlPlane, Node};
use crate::stage::until_ready;

fn pod(name: &str, node: &str, secret: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  containers:
  - name: main
    image: busybox
    imagePullPolicy: Never
    command: [sleep, '3600']
    volumeMounts:
    - {{name: v, mountPath: /v}}
  volumes:
  - {{name: v, secret: {{secretName: {secret}}}}}
"
    )
}

async fn create(kubectl: &Kubectl, pod: &str) {
    kubectl.ok_with_input(&["create", "-f", "-"], pod.as_bytes()).await.unwrap();
}

/// The API server's response to a node that reads a secret.
async fn asks(node: &Node, secret: &str) -> String {
    let get = ["get", "secret", secret, "-o=jsonpath={.data.key}"];
    let outcome = node.kubectl().run(&get).await.unwrap();
    outcome.stdout + &outcome.stderr
}

async fn is_refused(node: &Node, secret: &str) {
    let refusal = format!(
        "Error from server (Forbidden): secrets {secret:?} is forbidden: User \
         \"system:node:{}\" cannot get resource \"secrets\" in API group \"\" in the namespace \
         \"default\": no relationship found between node '{}' and this object\n",
        node.name, node.name
    );
    let seen = eventually_is(
        "a node to be denied a secret that it does not need",
        async || asks(node, secret).await,
        |answer| answer.contains("Forbidden"),
    )
    .await;
    assert_eq!(seen, refusal);
}

fn secret_mounts(node: &Node) -> Vec<String> {
    let below = mounts::below(&node.root()).unwrap();
    let names = below.iter().filter(|mount| mount.ends_with(Path::new("kubernetes.io~secret/v")));
    names.map(|mount| mount.display().to_string()).collect()
}

/// Two nodes that share a runtime, as on a test machine, and one with a runtime of its own.
#[tokio::test]
async fn a_secret_reaches_only_the_nodes_whose_pods_need_it() {
    let (shared, own) = tokio::join!(Runtime::start(), Runtime::start());
    let (shared, own) = (shared.unwrap(), own.unwrap());
    let plane = ControlPlane::start().await;
    let (shared_endpoint, own_endpoint) = (shared.endpoint(), own.endpoint());
    let (first, second, third) = tokio::join!(
        Node::join(&plane, "first", &shared_endpoint, &[]),
        Node::join(&plane, "second", &shared_endpoint, &[]),
        Node::join(&plane, "third", &own_endpoint, &[]),
    );
    let kubectl = &plane.kubectl;
    for (name, value) in [("for-first", "1"), ("for-second", "2")] {
        let literal = format!("--from-literal=key={value}");
        kubectl.ok(&["create", "secret", "generic", name, &literal]).await.unwrap();
    }
    for node in [&first, &second, &third] {
        is_refused(node, "for-first").await;
        is_refused(node, "for-second").await;
    }

    create(kubectl, &pod("mover", "first", "for-first")).await;
    create(kubectl, &pod("stayer", "second", "for-second")).await;
    for (pod, value) in [("mover", "1"), ("stayer", "2")] {
        until_ready(kubectl, pod).await;
        let read = kubectl.ok(&["exec", pod, "--", "cat", "/v/key"]).await.unwrap();
        assert_eq!(read, value);
    }
    assert_eq!(asks(&first, "for-first").await, "MQ==");
    assert_eq!(asks(&second, "for-second").await, "Mg==");
    is_refused(&first, "for-second").await;
    is_refused(&second, "for-first").await;
    assert_eq!(secret_mounts(&first).len(), 1);
    assert_eq!(secret_mounts(&second).len(), 1);
    assert_eq!(secret_mounts(&third), [] as [&str; 0]);

    // A pod moves to another node by being recreated; the access to its secrets moves with it.
    kubectl.ok(&["delete", "pod", "mover"]).await.unwrap();
    is_refused(&first, "for-first").await;
    assert_eq!(secret_mounts(&first), [] as [&str; 0]);
    create(kubectl, &pod("mover", "third", "for-first")).await;
    until_ready(kubectl, "mover").await;
    assert_eq!(asks(&third, "for-first").await, "MQ==");
    let read = kubectl.ok(&["exec", "mover", "--", "cat", "/v/key"]).await.unwrap();
    assert_eq!(read, "1");
    is_refused(&first, "for-first").await;
    is_refused(&third, "for-second").await;
    // Its neighbour did not notice.
    let restarts = "-o=jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(kubectl.ok(&["get", "pod", "stayer", restarts]).await.unwrap(), "0");
}

/// A pod lives on with the runtime that it was made with: after an upgrade, which brings placeholders,
/// its restarted containers get the values themselves, as before.
#[tokio::test]
async fn a_pod_from_before_placeholders_sees_its_values_after_them() {
    let runtime = Runtime::start().await.unwrap();
    let (plane, endpoint) = (ControlPlane::start().await, runtime.endpoint());
    let mut node = Node::join(&plane, "older", &endpoint, &[]).await;
    let kubectl = &plane.kubectl;
    let literal = "--from-literal=key=of-old";
    kubectl.ok(&["create", "secret", "generic", "s", literal]).await.unwrap();
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: {name: survivor}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    imagePullPolicy: Never
    command: [sh, -c, "mkfifo /end; read line < /end"]
    env:
    - {name: KEY, valueFrom: {secretKeyRef: {name: s, key: key}}}
"#;
    create(kubectl, pod).await;
    until_ready(kubectl, "survivor").await;
    node.restart(&plane, &endpoint, &["--secret-placeholders"]).await;
    // By now it is the new kubelet's: the old one's port is closed.
    let end = ["exec", "survivor", "--", "sh", "-c", "echo > /end"];
    let ended = async || kubectl.run(&end).await.unwrap().stderr;
    eventually_is("the container to end", ended, String::is_empty).await;
    let count = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    kubectl.ok(&["wait", count, "pod/survivor", "--timeout=60s"]).await.unwrap();
    until_ready(kubectl, "survivor").await;
    let print = ["exec", "survivor", "--", "sh", "-c", "echo $KEY"];
    assert_eq!(kubectl.ok(&print).await.unwrap(), "of-old\n");
}
