//! The program against a real server: scenarios run, measure something, and leave nothing.

use std::process::{Command, Output, Stdio};

use coffer_testkit::apiserver::TestServer;
use coffer_testkit::eventually;
use serde_json::Value;

async fn bench(arguments: Vec<String>) -> Output {
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coffer-bench"));
        command.args(arguments).stdin(Stdio::null()).output().expect("the program starts")
    };
    tokio::task::spawn_blocking(run).await.expect("it does not panic")
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs a scenario as an administrator, which must succeed; returns its report.
async fn report(server: &TestServer, line: &str) -> Value {
    let (output, report) = ran(server, line).await;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}: {err}\n{out}");
    report
}

/// Runs a scenario as an administrator; returns how it ended and its report.
async fn ran(server: &TestServer, line: &str) -> (Output, Value) {
    let kubeconfig = server.kubeconfig("kubernetes-admin", &["system:masters"]);
    let json = kubeconfig.with_extension("json");
    let mut arguments = words(line);
    arguments.extend(["--kubeconfig".into(), kubeconfig.display().to_string()]);
    arguments.extend(["--json".into(), json.display().to_string()]);
    arguments.extend(["--server-pid".into(), std::process::id().to_string()]);
    let output = bench(arguments).await;
    let report = std::fs::read(json)
        .unwrap_or_else(|_| panic!("{line}: {}", String::from_utf8_lossy(&output.stderr)));
    (output, serde_json::from_slice(&report).expect("JSON"))
}

async fn left_over(server: &TestServer) -> Vec<String> {
    use k8s_openapi::api::core::v1::{Namespace, Node};
    use kube::api::{Api, ListParams};
    let (client, all) = (server.admin().await, ListParams::default());
    let namespaces = Api::<Namespace>::all(client.clone()).list(&all).await.expect("namespaces");
    let nodes = Api::<Node>::all(client).list(&all).await.expect("nodes");
    let names = namespaces.items.into_iter().filter_map(|one| one.metadata.name);
    let names = names.chain(nodes.items.into_iter().filter_map(|one| one.metadata.name));
    names.filter(|name| name.contains("bench")).collect()
}

fn row<'a>(report: &'a Value, phase: usize, name: &str) -> &'a Value {
    let rows = report["phases"][phase]["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn scenarios_measure_a_server_and_leave_nothing_behind() {
    let server = TestServer::start().await;
    let create = report(&server, "create --clients 1,4 --count 20 --size 100").await;
    assert_eq!(create["server"]["version"].as_str().map(|it| it.starts_with('v')), Some(true));
    assert_eq!(row(&create, 0, "create")["count"], 20);
    assert_eq!(row(&create, 1, "create")["count"], 20);
    assert!(row(&create, 1, "create")["p99Ms"].as_f64().unwrap() > 0.0);
    assert!(create["phases"][0]["server"][0]["rssEndBytes"].as_u64().unwrap() > 0);

    let get = report(&server, "get --clients 2 --objects 5 --count 50 --http 2").await;
    assert_eq!(row(&get, 0, "get")["count"], 50);

    let update = report(&server, "update --clients 8 --objects 1 --count 40").await;
    assert_eq!(row(&update, 0, "put")["count"], 40);

    let list = report(&server, "list --objects 30 --limit 7 --count 2").await;
    assert_eq!(row(&list, 3, "page")["count"], 2 * 5);

    let watch = report(&server, "watch --watchers 20 --count 5 --rate 100").await;
    assert_eq!(row(&watch, 0, "event at a watcher")["count"], 100);
    assert_eq!(row(&watch, 0, "event at the last watcher")["count"], 5);

    let objects = report(&server, "watch-objects --watchers 20 --count 40 --rate 500").await;
    assert_eq!(row(&objects, 0, "event at a watcher")["count"], 40);

    let mixed = report(&server, "mixed --clients 4 --objects 10 --watchers 3 --count 200").await;
    assert!(row(&mixed, 0, "get")["count"].as_u64().unwrap() > 50);

    let churn = "churn --nodes 3 --pods 9 --secrets 4 --starting 3 --count 6";
    let churn = report(&server, churn).await;
    assert_eq!(row(&churn, 0, "node: register")["count"], 3);
    assert_eq!(row(&churn, 1, "pod created → seen running")["count"], 9);
    assert_eq!(row(&churn, 2, "pod deleted → seen gone")["count"], 6);

    let fill = report(&server, "quota-fill --pods 12 --sample 3").await;
    let counts = [0, 1, 2].map(|phase| row(&fill, phase, "create pod")["count"].clone());
    assert_eq!(counts, [3, 6, 3]);

    assert_eq!(left_over(&server).await, Vec::<String>::new());
    server.stop().await;
}

/// The kinds that an unoptimised server stands: what they show of it is not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_measured_by_what_others_notice_and_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let node = server.kubeconfig("system:node:probed", &["system:nodes"]);
    for (kind, happened) in [
        ("idle-connections", "flood: connections opened"),
        ("slow-clients", "flood: connections opened"),
        ("many-watches", "flood: watches opened"),
    ] {
        let node = node.display();
        let line = format!("--seconds 2 flood --kind {kind} --clients 8 --node-kubeconfig {node}");
        let flood = report(&server, &line).await;
        for phase in 0..2 {
            for probe in [
                "get secret, new connection",
                "renew lease, kept connection",
                "renew lease, new connection",
                "/healthz, new connection",
            ] {
                assert!(row(&flood, phase, probe)["count"].as_u64().unwrap() > 0, "{probe}");
            }
        }
        let facts = flood["phases"][1]["facts"].as_array().expect("facts");
        let fact = facts.iter().find(|fact| fact["name"] == happened);
        assert!(fact.is_some_and(|fact| fact["value"].as_f64() > Some(7.0)), "{kind}: {facts:?}");
    }
    assert_eq!(left_over(&server).await, Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_that_breaks_a_bound_fails_in_one_line_that_names_it() {
    let server = TestServer::start().await;
    let node = server.kubeconfig("system:node:probed", &["system:nodes"]);
    let node = node.display();
    let flood = "--seconds 1 flood --kind idle-connections --clients 4 --node-kubeconfig";
    for (bound, named) in [
        ("--rss-max-mb 1", "MB, --rss-max-mb 1"),
        ("--p99-max-ms 0", "get secret, new connection: p99"),
    ] {
        let (output, report) = ran(&server, &format!("{flood} {node} {bound}")).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{bound}: {text}");
        assert_eq!(text.lines().count(), 1, "{bound}: {text}");
        assert!(text.contains(named), "{bound}: {text}");
        assert_eq!(report["phases"].as_array().map(Vec::len), Some(2), "the figures are there");
    }
    assert_eq!(left_over(&server).await, Vec::<String>::new());
    server.stop().await;
}

/// Ctrl-C in the middle of a scenario must not leave a namespace full of secrets.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_cleans_up() {
    let server = TestServer::start().await;
    let kubeconfig = server.kubeconfig("kubernetes-admin", &["system:masters"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_coffer-bench"))
        .args(["create", "--seconds", "600", "--kubeconfig"])
        .arg(&kubeconfig)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    eventually("the run to begin", async || !left_over(&server).await.is_empty()).await;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(left_over(&server).await, Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_in_one_line() {
    for (line, wanted) in [
        ("get", "this scenario needs a server: give --kubeconfig FILE"),
        ("get --kubeconfig /nowhere/at/all", "cannot use kubeconfig /nowhere/at/all"),
        ("get --server-pid 4294967295", "there is no process 4294967295 to measure"),
        ("cold-start --kubeconfig x -- /nowhere/at/all", "cannot start /nowhere/at/all"),
        (
            "cold-start --kubeconfig x -- ls /nowhere/at/all",
            "the server ended before it was ready (exit status: 2): ls: cannot access",
        ),
        ("--seconds 601 flood", "a flood is bounded by --seconds, of which there are 600 at most"),
        ("--count 7 flood", "a flood is bounded by --seconds"),
        ("flood --rss-max-mb 1", "give --server-pid PID"),
        (
            "churn --nodes 1 --deployments 2 --replicas 100 --coffer x",
            "200 pods and 25 more during the update need 3 nodes of 110 pods each: give --nodes 3",
        ),
        ("churn --deployments 1 --coffer /nowhere/at/all", "cannot start /nowhere/at/all"),
        ("disk --dir /nowhere/at/all", "cannot make a file in /nowhere/at/all"),
        ("etcd --endpoint http://127.0.0.1:1", "cannot reach etcd at http://127.0.0.1:1"),
    ] {
        let output = bench(words(line)).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{line}");
        assert_eq!(text.lines().count(), 1, "{line}: {text}");
        assert!(text.starts_with("coffer-bench: ") && text.contains(wanted), "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_done_and_needs_no_server() {
    for scenario in [
        "create",
        "watch",
        "churn",
        "churn --deployments 3",
        "quota-fill",
        "flood",
        "pod-start",
        "disk",
        "cold-start -- x",
    ] {
        let output = bench(words(&format!("--dry-run {scenario}"))).await;
        assert!(output.status.success(), "{scenario}");
        assert!(!output.stdout.is_empty(), "{scenario}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bare_server_and_the_disk_are_measured_without_a_cluster() {
    let output = bench(words("baseline --clients 2 --count 50")).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("bare get, 2 clients") && text.contains("µs each"), "{text}");
    let output = bench(words("disk --clients 4 --count 50 --dir .")).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("records in each fdatasync"), "{text}");
}
