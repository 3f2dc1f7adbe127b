//! kubectl's verbs, typed as people type them, in one long session on one server: by the machine's
//! own kubectl, and by Debian's 1.20, the oldest that must work.

use coffer_testkit::Kubectl;

use crate::support::TestServer;

/// One line of the session.
struct Step {
    /// The command line; single quotes keep spaces together.
    line: &'static str,
    input: &'static str,
    wants: Wants,
    /// What Debian's 1.20 does not have, or says in other words.
    new_only: bool,
}

enum Wants {
    /// It succeeds and its output has this.
    Says(&'static str),
    /// It fails and says this.
    Fails(&'static str),
}

fn says(line: &'static str, text: &'static str) -> Step {
    Step { line, input: "", wants: Wants::Says(text), new_only: false }
}

fn fed(line: &'static str, input: &'static str, text: &'static str) -> Step {
    Step { input, ..says(line, text) }
}

fn fails(line: &'static str, text: &'static str) -> Step {
    Step { wants: Wants::Fails(text), ..says(line, "") }
}

fn new(step: Step) -> Step {
    Step { new_only: true, ..step }
}

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata: {name: s, labels: {app: x}}
type: Opaque
data: {user: Ym9i, pass: c2VzYW1l}
";
const SECRET_CHANGED: &str = "apiVersion: v1
kind: Secret
metadata: {name: s, labels: {app: x}}
type: Opaque
data: {pass: b3RoZXI=}
";
const SECRET_TYPO: &str = "apiVersion: v1
kind: Secret
metadata: {name: t}
tpye: Opaque
";
const LIST: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "l1"}, "stringData": {"a": "b"}},
{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "l2"}, "data": {"a": "b"}}]}"#;
const CONTROLLER: &str = "apiVersion: v1
kind: ReplicationController
metadata: {name: rc}
spec:
  replicas: 1
  selector: {app: rc}
  template:
    metadata: {labels: {app: rc}}
    spec: {containers: [{name: c, image: redis}]}
";
const NODE: &str = "apiVersion: v1
kind: Node
metadata: {name: n1}
";
const POD_ON_NODE: &str = "apiVersion: v1
kind: Pod
metadata: {name: onnode, labels: {app: onnode}}
spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: c, image: redis}]}
";
const EVENT: &str = "apiVersion: v1
kind: Event
metadata: {name: e1}
type: Warning
reason: Tested
message: all is well
involvedObject: {apiVersion: v1, kind: Secret, namespace: default, name: s}
";

fn session() -> Vec<Step> {
    let mut steps = asking();
    steps.extend(secrets());
    steps.extend(other_kinds());
    steps.extend(workloads());
    steps.extend(nodes());
    steps
}

fn asking() -> Vec<Step> {
    vec![
        says("version", "v1.33.0+coffer"),
        says("api-versions", "rbac.authorization.k8s.io/v1"),
        says("api-resources --namespaced=true -o name", "secrets\n"),
        says("api-resources --verbs=deletecollection -o name", "leases.coordination.k8s.io"),
        says("get namespaces", "kube-system"),
        says("get --raw /readyz", "ok"),
        says("get --raw /api/v1/namespaces/default", "\"phase\":\"Active\""),
        says("auth can-i delete secrets", "yes"),
        fails("auth can-i get secrets --as stranger", "no"),
        new(says("auth whoami", "system:masters")),
        says("explain secret.data", "Data contains the secret data."),
        says("explain pods.spec.containers --recursive", "imagePullPolicy"),
        fails("explain secret.nonsense", "field \"nonsense\" does not exist"),
    ]
}

fn secrets() -> Vec<Step> {
    vec![
        fed("apply -f -", SECRET, "secret/s created"),
        fed("apply -f -", SECRET, "secret/s unchanged"),
        fed("apply -f - --dry-run=server", SECRET_CHANGED, "secret/s configured (server dry run)"),
        says("get secret s -o jsonpath={.data.user}", "Ym9i"),
        Step { wants: Wants::Fails(""), ..fed("diff -f -", SECRET_CHANGED, "") },
        fed("apply -f -", SECRET_CHANGED, "secret/s configured"),
        fed("diff -f -", SECRET_CHANGED, ""),
        says("get secret s -o jsonpath={.data}", r#"{"pass":"b3RoZXI="}"#),
        fed("apply --server-side --force-conflicts -f -", SECRET, "secret/s serverside-applied"),
        says("get secret s -o jsonpath={.data.user}", "Ym9i"),
        new(Step {
            wants: Wants::Fails("unknown field \"tpye\""),
            ..fed("create -f -", SECRET_TYPO, "")
        }),
        new(fed(
            "create -f - --validate=warn --dry-run=server",
            SECRET_TYPO,
            "Warning: unknown field \"tpye\"",
        )),
        new(fed("create -f - --validate=ignore --dry-run=server", SECRET_TYPO, "secret/t created")),
        fed("create -f - --validate=false --dry-run=server", SECRET_TYPO, "secret/t created"),
        Step { wants: Wants::Fails("tpye"), ..fed("create -f -", SECRET_TYPO, "") },
        says("label secret s tier=back", "secret/s labeled"),
        fails(
            "label secret s tier=front",
            "'tier' already has a value (back), and --overwrite is false",
        ),
        says("label secret s tier-", "secret/s "),
        says("annotate secret s note=hello", "secret/s annotated"),
        says("edit secret s", "secret/s edited"),
        says("get secret s -o jsonpath={.metadata.annotations.note}", "goodbye"),
        says("patch secret s -p '{\"stringData\":{\"more\":\"x\"}}'", "secret/s patched"),
        says(
            "patch secret s --type=json -p '[{\"op\":\"remove\",\"path\":\"/data/more\"}]'",
            "secret/s patched",
        ),
        says("patch secret s --type=merge -p '{\"data\":{\"pass\":null}}'", "secret/s patched"),
        says("get secrets", "s      Opaque   1 "),
        says("get secrets -o wide -l app=x", "Opaque"),
        says("get secrets -o name --field-selector type=Opaque", "secret/s"),
        says("get secrets -o custom-columns=NAME:.metadata.name,TYPE:.type", "s      Opaque"),
        says("get secret s -o yaml", "kind: Secret"),
        says("get secret s -o json", "\"kind\": \"Secret\""),
        says("get secret s -o go-template='{{.metadata.name}}'", "s"),
        says("get secrets -A --sort-by=.metadata.name --no-headers", "default"),
        says("get secrets --chunk-size=1 -o name", "secret/s"),
        says("describe secret s", "user:  3 bytes"),
        fails("get secret none", "Error from server (NotFound): secrets \"none\" not found"),
        says("get secret none --ignore-not-found", ""),
        fed("create -f -", LIST, "configmap/l2 created"),
        fed("delete -f -", LIST, "secret \"l1\" deleted"),
        fed("replace -f -", SECRET, "secret/s replaced"),
        fed("replace --force -f -", SECRET, "secret/s replaced"),
        says("create secret generic g --from-literal=a=b", "secret/g created"),
        fails("create secret generic g --from-literal=a=b", "secrets \"g\" already exists"),
        says("create secret generic h --from-literal=a=b --dry-run=server -o name", "secret/h"),
        says(
            "create secret docker-registry d --docker-username=u --docker-password=p",
            "secret/d created",
        ),
        says("get secret d -o jsonpath={.type}", "kubernetes.io/dockerconfigjson"),
        says("delete secret g d --wait", "secret \"g\" deleted"),
        says("delete secrets --all --dry-run=server", "(server dry run)"),
        says("get secret s -o name", "secret/s"),
    ]
}

fn other_kinds() -> Vec<Step> {
    vec![
        says("create namespace n", "namespace/n created"),
        says("describe namespace n", "Status:       Active"),
        says("create configmap c --from-literal=a=b", "configmap/c created"),
        says("describe configmap c", "a:\n----\nb\n"),
        says("create serviceaccount sa", "serviceaccount/sa created"),
        says("describe serviceaccount sa", "Name:                sa"),
        new(says("create token sa", "ey")),
        says(
            "create role r --verb=get,list --resource=secrets",
            "role.rbac.authorization.k8s.io/r created",
        ),
        says(
            "create rolebinding rb --role=r --serviceaccount=default:sa",
            "rolebinding.rbac.authorization.k8s.io/rb created",
        ),
        says(
            "create clusterrole cr --verb=get --resource=nodes",
            "clusterrole.rbac.authorization.k8s.io/cr created",
        ),
        says(
            "create clusterrolebinding crb --clusterrole=cr --user=ann",
            "clusterrolebinding.rbac.authorization.k8s.io/crb created",
        ),
        says("auth can-i list secrets --as system:serviceaccount:default:sa", "yes"),
        says("describe role r", "secrets"),
        says("describe rolebinding rb", "ServiceAccount  sa    default"),
        says("describe clusterrole cr", "nodes"),
        says("describe clusterrolebinding crb", "User  ann"),
        says("create quota q --hard=pods=5,secrets=20", "resourcequota/q created"),
        says("describe quota q", "Name:       q"),
        fed("create -f -", EVENT, "event/e1 created"),
        says("get events", "Tested"),
        says("describe event e1", "all is well"),
        new(says("events", "Tested")),
        new(says("events --for secret/s", "all is well")),
        says("describe secret s", "Opaque"),
        says("get leases,roles,rolebindings,quota,sa,cm,ev -A", "configmap/c"),
        says("delete namespace n --wait=false", "namespace \"n\" deleted"),
        says("get namespace n", "Terminating"),
    ]
}

fn workloads() -> Vec<Step> {
    vec![
        says("create deployment d --image=redis", "deployment.apps/d created"),
        says("scale deployment d --replicas=3", "deployment.apps/d scaled"),
        fails(
            "scale deployment d --replicas=4 --current-replicas=9",
            "Expected replicas to be 9, was 3",
        ),
        says("set image deployment/d redis=redis:7", "deployment.apps/d image updated"),
        says("set env deployment/d A=b", "deployment.apps/d env updated"),
        says("set env deployment/d --from=secret/s --prefix=S_", "deployment.apps/d env updated"),
        says("rollout restart deployment d", "deployment.apps/d restarted"),
        says("rollout pause deployment d", "deployment.apps/d paused"),
        says("rollout resume deployment d", "deployment.apps/d resumed"),
        says("rollout history deployment d", "deployment.apps/d"),
        says("get deployment d -o wide", "redis:7"),
        says("describe deployment d", "3 desired"),
        says("get deployment d -o jsonpath={.metadata.generation}", "8"),
        says("delete deployment d --cascade=orphan --wait=false", "deployment.apps \"d\" deleted"),
        says("get deployment d -o jsonpath={.metadata.finalizers}", "[\"orphan\"]"),
        says(
            "patch deployment d -p '{\"metadata\":{\"finalizers\":null}}'",
            "deployment.apps/d patched",
        ),
        fails("get deployment d", "NotFound"),
        fed("apply -f -", CONTROLLER, "replicationcontroller/rc created"),
        says("scale rc rc --replicas=2", "replicationcontroller/rc scaled"),
        says("describe rc rc", "Replicas:     0 current / 2 desired"),
        says("delete rc rc", "replicationcontroller \"rc\" deleted"),
        says("run p --image=redis", "pod/p created"),
        says("get pod p -o wide", "Pending"),
        says("describe pod p", "Image:        redis"),
        new(says(
            "wait pod/p --for=jsonpath={.status.phase}=Pending --timeout=9s",
            "pod/p condition met",
        )),
        says("expose pod p --port=80 --dry-run=client -o name", "service/p"),
        fails("set image pod/p p=", ""),
        fails("logs p", ""),
        says("get all", "pod/p"),
        says("delete pod p --grace-period=0 --force", "pod \"p\" force deleted"),
        says("run q --image=redis --labels=app=q", "pod/q created"),
        says("delete pod -l app=q --now", "pod \"q\" deleted"),
    ]
}

fn nodes() -> Vec<Step> {
    vec![
        fed("create -f -", NODE, "node/n1 created"),
        says("cordon n1", "node/n1 cordoned"),
        says("get nodes", "SchedulingDisabled"),
        says("uncordon n1", "node/n1 uncordoned"),
        says("taint node n1 k=v:NoSchedule", "node/n1 tainted"),
        says("label node n1 zone=a", "node/n1 labeled"),
        fed("create -f -", POD_ON_NODE, "pod/onnode created"),
        says("describe node n1", "k=v:NoSchedule"),
        says("drain n1 --force --timeout=20s", "node/n1 "),
        fails("get pod onnode", "NotFound"),
        says("delete node n1", "node \"n1\" deleted"),
        says("get csr", ""),
    ]
}

/// Splits a command line at spaces that are not between single quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for found in line.chars() {
        match found {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    words
}

async fn hold(kubectl: &Kubectl, old: bool) {
    let mut wrong = Vec::new();
    for step in session() {
        if old && step.new_only {
            continue;
        }
        let words = words(step.line);
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = kubectl.command(&arguments);
        command.env("KUBE_EDITOR", "sed -i s/hello/goodbye/");
        let outcome = run(command, step.input).await;
        let good = match step.wants {
            Wants::Says(text) => outcome.0 && outcome.1.contains(text),
            Wants::Fails(text) => !outcome.0 && outcome.1.contains(text),
        };
        if !good {
            wrong.push(format!("kubectl {}\n{}", step.line, outcome.1));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whether it succeeded, and all that it said.
async fn run(mut command: tokio::process::Command, input: &str) -> (bool, String) {
    use tokio::io::AsyncWriteExt as _;
    let piped = std::process::Stdio::piped;
    let mut child = command.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    // A kubectl that reads nothing closes its end.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_installed_kubectl_completes_the_session() {
    let server = TestServer::start().await;
    let kubectl = Kubectl::new(server.kubeconfig("kubernetes-admin", &["system:masters"]));
    hold(&kubectl, false).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_kubectl_1_20_completes_the_session() {
    let server = TestServer::start().await;
    let kubeconfig = server.kubeconfig("kubernetes-admin", &["system:masters"]);
    let kubectl = Kubectl::debian(kubeconfig).await.expect("apt brings kubernetes-client");
    hold(&kubectl, true).await;
    server.stop().await;
}

/// `get -w` prints a line for each change, in the columns of the first table.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_each_change_as_a_row() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let server = TestServer::start().await;
    let kubectl = Kubectl::new(server.kubeconfig("kubernetes-admin", &["system:masters"]));
    kubectl.ok(&["create", "secret", "generic", "a"]).await.unwrap();
    let mut command = kubectl.command(&["get", "secrets", "-w"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || -> Vec<String> {
        let line = lines.next_line().await.unwrap().unwrap();
        line.split_whitespace().take(3).map(str::to_owned).collect()
    };
    assert_eq!(next().await, ["NAME", "TYPE", "DATA"]);
    assert_eq!(next().await, ["a", "Opaque", "0"]);
    let patch = r#"{"stringData":{"k":"v"}}"#;
    kubectl.ok(&["patch", "secret", "a", "-p", patch]).await.unwrap();
    assert_eq!(next().await, ["a", "Opaque", "1"]);
    kubectl.ok(&["create", "secret", "generic", "b"]).await.unwrap();
    assert_eq!(next().await, ["b", "Opaque", "0"]);
    kubectl.ok(&["delete", "secret", "a"]).await.unwrap();
    assert_eq!(next().await, ["a", "Opaque", "1"], "the last that was seen of it");
    child.kill().await.unwrap();
    server.stop().await;
}
