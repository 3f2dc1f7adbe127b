//! Client libraries in pods, with their in-cluster configuration only: the mounted credentials and the
//! variables with the address of the API server.

use std::process::Command;

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, Registry, images};
use serde_json::{Value, json};

/// What a client in a pod does, in kube-rs: the namespace's secret, then another's.
///
/// The test below puts this very program into an image and runs it there.
#[expect(clippy::print_stdout, reason = "the test below reads its output")]
#[ignore = "runs in a pod, started by clients_in_pods_read_what_their_account_may_and_are_refused_the_rest"]
#[tokio::test]
async fn kube_rs_in_a_pod() {
    use k8s_openapi::api::core::v1::Secret;
    let config = kube::Config::incluster().unwrap();
    println!("namespace {}", config.default_namespace);
    let client = kube::Client::try_from(config).unwrap();
    let own = kube::Api::<Secret>::default_namespaced(client.clone()).get("db").await.unwrap();
    let password = &own.data.unwrap()["password"].0;
    println!("password {}", String::from_utf8_lossy(password));
    match kube::Api::<Secret>::namespaced(client, "other").get("db").await {
        Err(kube::Error::Api(status)) => println!("refused {} {}", status.code, status.message),
        other => panic!("{other:?}"),
    }
}

/// The same in the Python client.
const PYTHON: &str = r#"
import base64, json
from kubernetes import client, config
config.load_incluster_config()
with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as file:
    namespace = file.read()
print("namespace", namespace)
api = client.CoreV1Api()
own = api.read_namespaced_secret("db", namespace)
print("password", base64.b64decode(own.data["password"]).decode())
try:
    api.read_namespaced_secret("db", "other")
except client.ApiException as error:
    print("refused", error.status, json.loads(error.body)["message"])
"#;

const SAID: &str = "\
namespace shop
password hunter2
refused 403 secrets \"db\" is forbidden: User \"system:serviceaccount:shop:reader\" cannot get \
resource \"secrets\" in API group \"\" in the namespace \"other\"
";

fn pod(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["serviceAccountName"] = "reader".into();
    spec["restartPolicy"] = "Never".into();
    let meta = json!({ "name": name, "namespace": "shop" });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec })
}

fn objects() -> Value {
    let namespaced = |kind: &str, version: &str, namespace: &str, name: &str| {
        let meta = json!({ "name": name, "namespace": namespace });
        json!({ "apiVersion": version, "kind": kind, "metadata": meta })
    };
    let with = |mut object: Value, field: &str, value: Value| {
        object[field] = value;
        object
    };
    let secret = |namespace: &str| {
        let data = json!({ "password": "hunter2" });
        with(namespaced("Secret", "v1", namespace, "db"), "stringData", data)
    };
    let namespace = |name: &str| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    // A pod on the machine's network is more than the default Pod Security Standard allows.
    let level = json!({ "pod-security.kubernetes.io/enforce": "privileged" });
    let mut shop = namespace("shop");
    shop["metadata"]["labels"] = level;
    let rbac = "rbac.authorization.k8s.io";
    let rule = json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] });
    let role = namespaced("Role", &format!("{rbac}/v1"), "shop", "reader");
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding",
        "metadata": { "name": "reader", "namespace": "shop" },
        "roleRef": { "apiGroup": rbac, "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": "shop" }],
    });
    let kube_rs = json!([{
        "name": "client", "image": "kube-rs",
        "args": ["kube_rs_in_a_pod", "--exact", "--ignored", "--nocapture", "--quiet"],
    }]);
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        shop, namespace("other"), secret("shop"), secret("other"),
        namespaced("ServiceAccount", "v1", "shop", "reader"),
        with(role, "rules", json!([rule])), binding,
        pod("kube-rs", json!({ "containers": kube_rs })),
        pod("kube-rs-on-host", json!({ "containers": kube_rs, "hostNetwork": true })),
        pod("python", json!({
            "containers": [{ "name": "client", "image": "python", "args": ["-c", PYTHON] }],
        })),
    ]})
}

async fn start(registry: &Registry) -> Coffer {
    let own = std::env::current_exe().unwrap();
    // Without its symbols the program is a tenth.
    let directory = tempfile::tempdir().unwrap();
    let small = directory.path().join("kube-rs");
    let stripped = Command::new("strip").arg("-o").arg(&small).arg(own).status().unwrap();
    assert!(stripped.success());
    let image = images::program(&small).unwrap();
    registry.push(&image, "library/kube-rs", "latest").await.unwrap();
    let image = images::python_client().await.unwrap();
    registry.push(&image, "library/python", "latest").await.unwrap();
    CofferBuilder::up(env!("CARGO_BIN_EXE_coffer")).mirror(registry).start().await.unwrap()
}

/// What a pod said once it has ended.
async fn said_by(kubectl: &Kubectl, pod: &str) -> String {
    let ended = "--for=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
    let pod_path = format!("pod/{pod}");
    let wait = ["wait", "-n", "shop", ended, &pod_path, "--timeout=120s"];
    kubectl.ok(&wait).await.unwrap();
    kubectl.ok(&["logs", "-n", "shop", pod]).await.unwrap()
}

/// The server listens on loopback, as it does by default.
#[tokio::test]
async fn clients_in_pods_read_what_their_account_may_and_are_refused_the_rest() {
    let registry = Registry::open().await.unwrap();
    let coffer = start(&registry).await;
    assert!(coffer.ready_line().contains("https://127.0.0.1:"), "{}", coffer.ready_line());
    let kubectl = coffer.kubectl();
    let input = objects().to_string();
    kubectl.ok_with_input(&["create", "-f", "-"], input.as_bytes()).await.unwrap();
    for pod in ["kube-rs", "kube-rs-on-host", "python"] {
        let said = said_by(&kubectl, pod).await;
        // Around what the program says stands what its test harness says.
        assert!(said.contains(SAID), "{pod} said:\n{said}");
    }
}
