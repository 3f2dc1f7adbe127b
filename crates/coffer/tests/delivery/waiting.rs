//! "If the secret cannot be fetched […] kubelet will periodically retry. It will report an event about
//! the pod explaining the reason it is not started yet", whatever the reason is.

use coffer_testkit::{Kubectl, Runtime, eventually};

use crate::cluster::{ControlPlane, Node};
use crate::stage::{until_event, until_ready};

fn pod(name: &str, secret: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
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

/// All that a kubelet needs but secrets.
const AGENT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: agent}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: agent}
rules:
- {apiGroups: [''], resources: [nodes, nodes/status, pods, pods/status, events], verbs: ['*']}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: ['*']}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: agent}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: agent}
subjects: [{kind: ServiceAccount, name: agent, namespace: default}]
";

async fn create(kubectl: &Kubectl, manifest: &str) {
    kubectl.ok_with_input(&["create", "-f", "-"], manifest.as_bytes()).await.unwrap();
}

async fn kubeconfig_of_agent(kubectl: &Kubectl) -> String {
    let token = kubectl.ok(&["create", "token", "agent"]).await.unwrap();
    let view = async |path: &str| {
        let path = format!("-o=jsonpath={{.clusters[0].cluster.{path}}}");
        kubectl.ok(&["config", "view", "--raw", &path]).await.unwrap()
    };
    format!(
        "apiVersion: v1
kind: Config
current-context: agent
contexts: [{{name: agent, context: {{cluster: coffer, user: agent}}}}]
clusters: [{{name: coffer, cluster: {{server: '{}', certificate-authority-data: {}}}}}]
users: [{{name: agent, user: {{token: {}}}}}]
",
        view("server").await,
        view("certificate-authority-data").await,
        token.trim()
    )
}

#[tokio::test]
async fn a_kubelet_that_cannot_read_a_secret_reports_an_event_and_retries() {
    let runtime = Runtime::start().await.unwrap();
    let mut plane = ControlPlane::start().await;
    let kubectl = plane.kubectl.clone();
    create(&kubectl, AGENT).await;
    let kubeconfig = kubeconfig_of_agent(&kubectl).await;
    let node = Node::with_kubeconfig(&plane, "agent", &runtime.endpoint(), &kubeconfig).await;
    let start = "Warning FailedMount MountVolume.SetUp failed for volume \"v\" : ";

    kubectl.ok(&["create", "secret", "generic", "s", "--from-literal=k=v"]).await.unwrap();
    create(&kubectl, &pod("denied", "s")).await;
    let denied = format!(
        "{start}secrets \"s\" is forbidden: User \"system:serviceaccount:default:agent\" cannot get \
         resource \"secrets\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(until_event(&kubectl, "denied", &denied, 2).await, denied);
    let rule = r#"[{"op": "add", "path": "/rules/-",
        "value": {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch"]}}]"#;
    kubectl.ok(&["patch", "clusterrole", "agent", "--type=json", "-p", rule]).await.unwrap();
    until_ready(&kubectl, "denied").await;

    create(&kubectl, &pod("alone", "later")).await;
    let absent = format!("{start}secret \"later\" not found");
    assert_eq!(until_event(&kubectl, "alone", &absent, 1).await, absent);
    plane.kill_apiserver().await;
    let unreachable = format!("{start}failed to get secret \"later\": ");
    let has_failed = |line: &String| {
        line.contains("failed to get secret \"later\"") && line.contains("Connection refused")
    };
    eventually("a try while the API server is away", async || node.log().iter().any(has_failed))
        .await;
    plane.start_apiserver().await;
    let event = until_event(&kubectl, "alone", &unreachable, 1).await;
    assert!(event.contains("Connection refused"), "{event}");
    kubectl.ok(&["create", "secret", "generic", "later", "--from-literal=k=v"]).await.unwrap();
    until_ready(&kubectl, "alone").await;
}
