//! The machine's own kubectl against a real server: what people type works, with default flags.

mod support;

use support::TestServer;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SECRET: &str = "apiVersion: v1
kind: Secret
metadata:
  name: mysecret
type: Opaque
data:
  password: dmFsdWUtMg0K
  username: dmFsdWUtMQ0K
";

async fn ok(server: &TestServer, arguments: &[&str], input: &str) -> String {
    let output = server.kubectl(arguments, input).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

async fn refused(server: &TestServer, arguments: &[&str], input: &str) -> String {
    let output = server.kubectl(arguments, input).await;
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output.stdout));
    text(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_created_shown_changed_and_deleted() {
    let server = TestServer::start().await;
    ok(&server, &["create", "namespace", "myns"], "").await;
    let created = ok(&server, &["create", "-n", "myns", "-f", "-"], SECRET).await;
    assert_eq!(created, "secret/mysecret created\n");

    let shown = ok(&server, &["get", "secrets", "-n", "myns", "--no-headers"], "").await;
    let cells: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(cells[..3], ["mysecret", "Opaque", "2"]);
    let described = ok(&server, &["describe", "secret", "mysecret", "-n", "myns"], "").await;
    assert!(described.contains("password:  9 bytes"), "{described}");
    let yaml = ok(&server, &["get", "secret", "mysecret", "-n", "myns", "-o", "yaml"], "").await;
    assert!(yaml.contains("password: dmFsdWUtMg0K"), "{yaml}");

    let patch = r#"{"stringData":{"username":"other"}}"#;
    ok(&server, &["patch", "secret", "mysecret", "-n", "myns", "-p", patch], "").await;
    let path = "jsonpath={.data.username}";
    let value = ok(&server, &["get", "secret", "mysecret", "-n", "myns", "-o", path], "").await;
    assert_eq!(value, "b3RoZXI=");

    let deleted = ok(&server, &["delete", "secret", "mysecret", "-n", "myns"], "").await;
    assert!(deleted.starts_with("secret \"mysecret\" deleted"), "{deleted}");
    let missing = refused(&server, &["get", "secret", "mysecret", "-n", "myns"], "").await;
    assert_eq!(missing, "Error from server (NotFound): secrets \"mysecret\" not found\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_manifest_gets_upstreams_message() {
    let server = TestServer::start().await;
    let missing = refused(&server, &["create", "-n", "nope", "-f", "-"], SECRET).await;
    assert!(missing.ends_with("namespaces \"nope\" not found\n"), "{missing}");

    let unknown = SECRET.replace("type: Opaque", "typo: Opaque");
    let refusal = refused(&server, &["create", "-f", "-"], &unknown).await;
    assert!(refusal.contains("unknown field \"typo\""), "{refusal}");

    let bad_name = SECRET.replace("name: mysecret", "name: My_Secret");
    let refusal = refused(&server, &["create", "-f", "-"], &bad_name).await;
    assert!(
        refusal.contains(
            "The Secret \"My_Secret\" is invalid: metadata.name: Invalid value: \"My_Secret\""
        ),
        "{refusal}"
    );

    ok(&server, &["create", "-f", "-"], SECRET).await;
    let again = refused(&server, &["create", "-f", "-"], SECRET).await;
    assert!(again.ends_with("secrets \"mysecret\" already exists\n"), "{again}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_side_apply_merges_what_three_parties_wrote() {
    let server = TestServer::start().await;
    ok(&server, &["apply", "-f", "-"], SECRET).await;
    let patch = r#"{"stringData":{"extra":"kept"}}"#;
    ok(&server, &["patch", "secret", "mysecret", "-p", patch], "").await;
    let changed = SECRET.replace("  username: dmFsdWUtMQ0K\n", "");
    ok(&server, &["apply", "-f", "-"], &changed).await;
    let path = "go-template={{range $key, $value := .data}}{{$key}} {{end}}";
    let keys = ok(&server, &["get", "secret", "mysecret", "-o", path], "").await;
    assert_eq!(keys.trim(), "extra password");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_survive_a_restart() {
    let server = TestServer::start().await;
    ok(&server, &["create", "-f", "-"], SECRET).await;
    let dir = server.stop().await;
    let server = TestServer::start_in(dir).await;
    let name = ok(&server, &["get", "secret", "mysecret", "-o", "name"], "").await;
    assert_eq!(name, "secret/mysecret\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_knows_the_fields() {
    let server = TestServer::start().await;
    let explained = ok(&server, &["explain", "secret.data"], "").await;
    assert!(explained.contains("Data contains the secret data."), "{explained}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_of_server_side_apply_names_the_owner() {
    let server = TestServer::start().await;
    let first = ok(&server, &["apply", "--server-side", "-f", "-"], SECRET).await;
    assert_eq!(first, "secret/mysecret serverside-applied\n");
    let other = SECRET.replace("dmFsdWUtMg0K", "b3RoZXI=");
    let theirs = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let conflict = refused(&server, &theirs, &other).await;
    assert!(
        conflict.starts_with(
            "error: Apply failed with 1 conflict: conflict with \"kubectl\": .data.password"
        ),
        "{conflict}"
    );
    let forced =
        ["apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-"];
    ok(&server, &forced, &other).await;
    // A field that `other` no longer applies and that has no other owner is removed; `username` has two owners.
    let less = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: mysecret\n";
    ok(&server, &theirs, less).await;
    let path = "go-template={{range $key, $value := .data}}{{$key}} {{end}}";
    let keys = ok(&server, &["get", "secret", "mysecret", "-o", path], "").await;
    assert_eq!(keys.trim(), "username");
    let again = ok(&server, &["apply", "--server-side", "-f", "-"], SECRET).await;
    assert_eq!(again, "secret/mysecret serverside-applied\n");
    server.stop().await;
}

const EVENT: &str = r#"{"apiVersion":"events.k8s.io/v1","kind":"Event",
"metadata":{"name":"e","namespace":"default"},"eventTime":"2026-01-01T00:00:00.000000Z",
"reportingController":"coffer.dev/test","reportingInstance":"test-1","action":"Testing",
"reason":"Tested","type":"Normal","note":"both forms are one event",
"regarding":{"kind":"Pod","namespace":"default","name":"p"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_written_in_one_form_is_read_in_the_other() {
    let server = TestServer::start().await;
    ok(&server, &["create", "-f", "-"], EVENT).await;
    let path = "jsonpath={.involvedObject.name} {.message}";
    let core = ok(&server, &["get", "events", "e", "-o", path], "").await;
    assert_eq!(core, "p both forms are one event");
    let path = "jsonpath={.items[*].regarding.name} {.items[*].note}";
    let selector = "--field-selector=regarding.name=p";
    let series = ok(&server, &["get", "events.v1.events.k8s.io", selector, "-o", path], "").await;
    assert_eq!(series, "p both forms are one event");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_classes_are_created_shown_and_described() {
    let server = TestServer::start().await;
    let create = ["create", "priorityclass", "high", "--value=1000", "--description=first"];
    let created = ok(&server, &create, "").await;
    assert_eq!(created, "priorityclass.scheduling.k8s.io/high created\n");
    let shown = ok(&server, &["get", "pc"], "").await;
    let header = shown.lines().next().unwrap_or_default();
    let header: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(header, ["NAME", "VALUE", "GLOBAL-DEFAULT", "AGE", "PREEMPTIONPOLICY"]);
    for (name, value) in [
        ("high", "1000"),
        ("system-cluster-critical", "2000000000"),
        ("system-node-critical", "2000001000"),
    ] {
        let row = ok(&server, &["get", "pc", name, "--no-headers"], "").await;
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            [cells[0], cells[1], cells[2], cells[4]],
            [name, value, "false", "PreemptLowerPriority"]
        );
    }
    let described = ok(&server, &["describe", "pc", "high"], "").await;
    for line in ["Value:", "GlobalDefault:", "Description:", "PreemptionPolicy:"] {
        assert!(described.contains(line), "{described}");
    }
    let refusal = refused(&server, &["delete", "pc", "system-node-critical"], "").await;
    assert_eq!(
        refusal,
        "Error from server (Forbidden): priorityclasses.scheduling.k8s.io \"system-node-critical\" is forbidden: this is a system priority class and cannot be deleted\n"
    );
    server.stop().await;
}

const LIMITS: &str = "apiVersion: v1
kind: LimitRange
metadata: {name: sizes}
spec:
  limits:
  - type: Container
    max: {cpu: 1000m}
    defaultRequest: {cpu: 100m}
";
const LARGE: &str = "apiVersion: v1
kind: Pod
metadata: {name: large}
spec: {containers: [{name: c, image: redis, resources: {limits: {cpu: 2}}}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn limit_ranges_are_created_shown_and_described() {
    let server = TestServer::start().await;
    let created = ok(&server, &["create", "-f", "-"], LIMITS).await;
    assert_eq!(created, "limitrange/sizes created\n");
    let shown = ok(&server, &["get", "limits"], "").await;
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[..4], ["NAME", "CREATED", "AT", "sizes"]);
    let described = ok(&server, &["describe", "limits", "sizes"], "").await;
    let row = described.lines().find(|line| line.starts_with("Container")).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["Container", "cpu", "-", "1", "100m", "1", "-"], "{described}");
    let refusal = refused(&server, &["create", "-f", "-"], LARGE).await;
    assert!(
        refusal.ends_with(
            "pods \"large\" is forbidden: maximum cpu usage per Container is 1, but limit is 2\n"
        ),
        "{refusal}"
    );
    server.stop().await;
}
