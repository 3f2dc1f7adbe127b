//! The Python client, as PyPI has it: a script of its own API, run in a virtual environment that is
//! made once and kept in `target`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::TestServer;

/// The package, at the version that the script was written for.
const PACKAGE: &str = "kubernetes==37.0.2";

/// The environment's interpreter; made aside and moved, so that two tests see all of it or nothing.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let environment = target.join("testkit").join(PACKAGE);
    let interpreter = environment.join("bin/python");
    if !interpreter.exists() {
        std::fs::create_dir_all(target.join("testkit")).unwrap();
        let fresh = tempfile::tempdir_in(target.join("testkit")).unwrap();
        let made = fresh.path().join("environment");
        run(Command::new("python3").args(["-m", "venv"]).arg(&made));
        run(Command::new(made.join("bin/python")).args(["-m", "pip", "install", "-q", PACKAGE]));
        // Its scripts know where they were made; the interpreter finds its packages by itself.
        if std::fs::rename(&made, &environment).is_err() {
            assert!(interpreter.exists(), "cannot move it to {}", environment.display());
        }
    }
    interpreter
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} (make deps installs python3-venv): {words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_completes_its_script() {
    // A server remembers no event before its start, which is what the script's last watch is about.
    let dir = TestServer::start().await.stop().await;
    let server = TestServer::start_in(dir).await;
    let kubeconfig = server.kubeconfig("kubernetes-admin", &["system:masters"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/session.py");
    let output = tokio::task::spawn_blocking(move || {
        Command::new(python()).arg(script).arg(kubeconfig).output().unwrap()
    });
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{said}");
    server.stop().await;
}
