//! Packages of the distribution that are unpacked and not installed; fetched once, kept in `target`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// The directory that these packages are unpacked in. Their dependencies are not looked for.
///
/// # Errors
/// When neither are they there nor can apt bring them.
pub(crate) async fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/testkit");
    let directory = target.join(name);
    if directory.exists() {
        return Ok(directory);
    }
    // Unpacked aside and moved, so that a second test at the same time sees all of it or nothing.
    std::fs::create_dir_all(&target)?;
    let fresh = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&target)?;
    let download = fresh.path().join("download");
    std::fs::create_dir(&download)?;
    // apt drops to a user of its own for downloads, which may not write here.
    run(Command::new("apt-get")
        .args(["download", "-q", "-o", "APT::Sandbox::User=root"])
        .args(packages)
        .current_dir(&download))
    .await?;
    let unpacked = fresh.path().join("unpacked");
    for package in std::fs::read_dir(&download)? {
        run(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&unpacked)).await?;
    }
    if std::fs::rename(&unpacked, &directory).is_err() {
        ensure!(directory.exists(), "cannot move {name} to {}", directory.display());
    }
    Ok(directory)
}

async fn run(command: &mut Command) -> Result<()> {
    let output = command.output().await.with_context(|| format!("cannot run {command:?}"))?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?} failed: {}", words.trim());
    Ok(())
}
