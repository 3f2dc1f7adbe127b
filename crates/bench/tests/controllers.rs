//! The controllers and the scheduler in the loop: the program starts a control plane of its own, and
//! Deployments become running pods on simulated nodes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// The program that is measured, built as this test was. Cargo builds it for tests of its own crate
/// only.
fn coffer() -> PathBuf {
    let bench = PathBuf::from(env!("CARGO_BIN_EXE_coffer-bench"));
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "coffer", "--bin", "coffer"]);
    if bench.parent().is_some_and(|directory| directory.ends_with("release")) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "coffer is built");
    bench.with_file_name("coffer")
}

fn row<'a>(phase: &'a Value, name: &str) -> &'a Value {
    let rows = phase["rows"].as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {phase:#}"))
}

#[test]
fn deployments_run_are_updated_and_deleted_and_each_part_is_metered() {
    let directory = tempfile::tempdir().expect("a directory");
    let json = directory.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_coffer-bench"))
        .args(["--quiet", "churn", "--nodes", "50", "--deployments", "10", "--replicas", "50"])
        .args(["--rest-seconds", "2", "--lease-seconds", "1", "--coffer"])
        .arg(coffer())
        .arg("--json")
        .arg(&json)
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");

    let report = std::fs::read(&json).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let phases = report["phases"].as_array().expect("phases");
    let [register, run, rest, update, delete] = &phases[..] else { panic!("{report:#}") };
    assert_eq!(row(register, "node: register")["count"], 50);
    for step in ["pod created → seen bound", "pod bound → seen running"] {
        assert_eq!(row(run, step)["count"], 500);
    }
    assert!(row(rest, "node: renew lease")["count"].as_u64() > Some(0));
    assert!(row(update, "pod created → seen running")["count"].as_u64() >= Some(50));
    assert_eq!(row(delete, "delete deployment")["count"], 10);
    assert!(delete["facts"].as_array().expect("facts").iter().any(|fact| {
        fact["name"].as_str().is_some_and(|name| name.ends_with("pods gone after"))
    }));

    let parts: Vec<&Value> = run["server"].as_array().expect("parts").iter().collect();
    let names: Vec<&Value> = parts.iter().map(|part| &part["name"]).collect();
    assert_eq!(names, ["apiserver", "controller-manager", "scheduler"]);
    for part in parts {
        assert!(part["cpuSeconds"].as_f64() > Some(0.0), "{part:#}");
        assert!(part["rssPeakBytes"].as_u64() > Some(0), "{part:#}");
    }
    assert!(run["clientRssPeakBytes"].as_u64() > Some(0));

    // Nothing is left: neither a process nor a directory of the control plane.
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(|name| name.to_string_lossy().starts_with("coffer-bench-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
