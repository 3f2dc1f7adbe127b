//! Pods that no API server gave: from a directory, a URL, and the kubelet's own REST input. "Kubelet
//! only supports use of secrets for Pods it gets from the API server", so these may not name any.

use coffer_testkit::{Kubectl, Outcome, Runtime, eventually_is, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{ControlPlane, Node};
use crate::stage::{field, until_event, until_ready};

/// A web server, on a port of the machine where one is given.
fn web(name: &str, says: &str, host_port: Option<u16>) -> String {
    let ports = host_port.map(|port| format!("ports: [{{containerPort: 80, hostPort: {port}}}]"));
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: busybox
    imagePullPolicy: Never
    command: [sh, -c, 'echo {says} > /tmp/index.html; exec httpd -f -h /tmp']
    {}
",
        ports.unwrap_or_default()
    )
}

const WITH_SECRET: &str = "apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  containers: [{name: c, image: busybox}]
  volumes: [{name: v, secret: {secretName: s}}]
";

/// Returns the manifest for every request, until dropped.
async fn serve(manifest: String) -> (u16, tokio_util::task::AbortOnDropHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let length = manifest.len();
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{manifest}");
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    (port, tokio_util::task::AbortOnDropHandle::new(serving))
}

/// One GET of `/`, without an HTTP client.
async fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

/// The kubelet's own server, with the certificate that only the API server has.
struct KubeletApi {
    kubectl: Kubectl,
    arguments: Vec<String>,
}

impl KubeletApi {
    async fn of(plane: &ControlPlane, node: &Node) -> Self {
        let path = "{.status.daemonEndpoints.kubeletEndpoint.Port}";
        let port = field(&plane.kubectl, &format!("node/{}", node.name), path).await;
        let file = |name: &str| plane.pki().join(name).display().to_string();
        let arguments = vec![
            format!("--server=https://127.0.0.1:{port}"),
            format!("--certificate-authority={}", file("kubelet-ca.crt")),
            format!("--client-certificate={}", file("apiserver-kubelet-client.crt")),
            format!("--client-key={}", file("apiserver-kubelet-client.key")),
        ];
        let kubectl = Kubectl::new(node.directory().join("no.kubeconfig"));
        Self { kubectl, arguments }
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Outcome {
        let own = self.arguments.iter().map(String::as_str);
        let all: Vec<&str> = own.chain(arguments.iter().copied()).collect();
        self.kubectl.run_with_input(&all, input.as_bytes()).await.unwrap()
    }

    async fn post(&self, manifest: &str) -> Outcome {
        self.run(&["create", "--raw", "/pods", "-f", "-"], manifest).await
    }
}

async fn until_deleted(kubectl: &Kubectl, pod: &str) {
    let name = format!("pod/{pod}");
    let get = ["get", &name, "--ignore-not-found", "-o", "name"];
    let look = async || kubectl.ok(&get).await.unwrap();
    eventually_is(format!("{name} to be deleted"), look, |found| found.is_empty()).await;
}

/// Says of a pod that it is not ready, as the node lifecycle controller does when it has not heard of
/// a node for a while.
async fn call_unready(kubectl: &Kubectl, pod: &str) {
    let shown = kubectl.ok(&["get", "pod", pod, "-o", "json"]).await.unwrap();
    let mut shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let conditions = shown["status"]["conditions"].as_array_mut().unwrap();
    let ready = conditions.iter_mut().find(|condition| condition["type"] == "Ready").unwrap();
    ready["status"] = "False".into();
    let path = format!("/api/v1/namespaces/default/pods/{pod}/status");
    let replace = ["replace", "--raw", &path, "-f", "-"];
    kubectl.ok_with_input(&replace, shown.to_string().as_bytes()).await.unwrap();
}

#[tokio::test]
async fn static_pods_from_all_three_sources_run_and_may_not_reference_secrets() {
    let runtime = Runtime::start().await.unwrap();
    let plane = ControlPlane::start().await;
    let manifests = tempfile::tempdir().unwrap();
    let host_port = free_port().unwrap();
    let write = |name: &str, text: &str| std::fs::write(manifests.path().join(name), text).unwrap();
    write("file.yaml", &web("by-file", "file", Some(host_port)));
    write("greedy.yaml", WITH_SECRET);
    let (port, _server) = serve(web("by-url", "url", None)).await;
    let url = format!("http://127.0.0.1:{port}/pods?token=hidden");
    let path = manifests.path().display().to_string();
    let arguments = ["--pod-manifest-path", &path, "--manifest-url", &url];
    // One of the pods has a port of the machine, which the default Pod Security Standard forbids: it
    // would run, and its mirror would be refused.
    let privileged = "pod-security.kubernetes.io/enforce=privileged";
    plane.kubectl.ok(&["label", "namespace", "default", privileged]).await.unwrap();
    let node = Node::join(&plane, "static", &runtime.endpoint(), &arguments).await;
    let kubelet = KubeletApi::of(&plane, &node).await;
    let kubectl = &plane.kubectl;

    // A pod is Running before its mirror exists, so the kubelet is asked directly.
    let made = kubelet.post(&web("by-rest", "rest", None)).await;
    assert!(made.status.success(), "{}", made.stderr);
    for source in ["file", "url", "rest"] {
        let pod = format!("by-{source}-static");
        let get = ["get", "pod", &pod, "-o", "name", "--ignore-not-found"];
        let look = async || kubectl.ok(&get).await.unwrap();
        eventually_is(format!("a mirror of {pod}"), look, |found| !found.is_empty()).await;
        until_ready(kubectl, &pod).await;
        let read = kubectl.ok(&["exec", &pod, "--", "cat", "/tmp/index.html"]).await.unwrap();
        assert_eq!(read, format!("{source}\n"));
        let annotation = r"{.metadata.annotations.kubernetes\.io/config\.source}";
        let found = field(kubectl, &format!("pod/{pod}"), annotation).await;
        let expected = [("file", "file"), ("url", "http"), ("rest", "api")];
        assert!(expected.contains(&(source, found.as_str())), "{source} {found}");
    }
    // A port of the machine leads into the pod.
    let look = async || get(host_port).await.map_err(|error| error.to_string());
    let says = |response: &Result<String, String>| {
        response.as_ref().is_ok_and(|response| response.ends_with("\r\n\r\nfile\n"))
    };
    eventually_is("the pod to respond at the host port", look, says).await.unwrap();

    // A static pod that references a secret is rejected, with one error and one event.
    let refusal = "Error validating pod greedy-static_default from file, ignoring: static pods may \
                   not reference secrets";
    let event = format!("Warning FailedValidation {refusal}");
    assert_eq!(until_event(kubectl, "greedy-static", &event, 1).await, event);
    let refused = kubelet.post(WITH_SECRET).await;
    assert!(refused.stderr.contains("(BadRequest)"), "{}", refused.stderr);
    let event = event.replace("from file", "from api");
    assert_eq!(until_event(kubectl, "greedy-static", &event, 1).await, event);
    until_deleted(kubectl, "greedy-static").await;

    // The kubelet's status of its pods takes precedence.
    call_unready(kubectl, "by-url-static").await;
    until_ready(kubectl, "by-url-static").await;

    // A pod whose file or API object is removed ends. A deleted mirror is recreated.
    std::fs::remove_file(manifests.path().join("file.yaml")).unwrap();
    until_deleted(kubectl, "by-file-static").await;
    let removed = kubelet.run(&["delete", "--raw", "/pods/default/by-rest-static"], "").await;
    assert!(removed.status.success(), "{}", removed.stderr);
    until_deleted(kubectl, "by-rest-static").await;
    let uid = field(kubectl, "pod/by-url-static", "{.metadata.uid}").await;
    kubectl.ok(&["delete", "pod", "by-url-static", "--wait=false"]).await.unwrap();
    let get = ["get", "pod", "by-url-static", "-o=jsonpath={.metadata.uid}", "--ignore-not-found"];
    let look = async || kubectl.ok(&get).await.unwrap();
    eventually_is("another mirror", look, |now| !now.is_empty() && *now != uid).await;

    let log = node.log().join("\n");
    assert!(!log.contains("hidden"), "the URL's query may be a token: {log}");
}
