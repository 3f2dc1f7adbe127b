//! A control plane of its own for one run: API server, controller manager and scheduler, a process
//! each, on a directory that goes when the run ends.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::launch::Launched;
use super::program::Program;
use crate::measure::meter::Meter;
use crate::transport::target::Target;

/// The parts that are clients of the API server; each has a kubeconfig of its name.
const CLIENTS: [&str; 2] = ["controller-manager", "scheduler"];
const APISERVER: &str = "apiserver";

/// A running control plane.
pub(crate) struct ControlPlane {
    apiserver: Launched,
    clients: Vec<(&'static str, Program)>,
    _directory: tempfile::TempDir,
}

impl ControlPlane {
    /// Starts all parts of `coffer`; returns when the API server is ready.
    pub(crate) async fn start(coffer: &Path) -> Result<(Self, Arc<Target>)> {
        let directory =
            tempfile::Builder::new().prefix("coffer-bench-").tempdir().context("no directory")?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let program = coffer.display().to_string();
        let words = |words: &[&str]| -> Vec<String> {
            std::iter::once(program.as_str())
                .chain(words.iter().copied())
                .map(str::to_owned)
                .collect()
        };
        let data = directory.path().display().to_string();
        let server = words(&[APISERVER, "--data-dir", &data, "--secure-port", "0"]);
        let mut apiserver = Launched::of(&server, path("admin.kubeconfig").into())?;
        let target = apiserver.ready().await?;
        let mut clients = Vec::new();
        for name in CLIENTS {
            let kubeconfig = path(&format!("kubeconfig/{name}.kubeconfig"));
            clients.push((name, Program::start(&words(&[name, "--kubeconfig", &kubeconfig]))?));
        }
        Ok((Self { apiserver, clients, _directory: directory }, target))
    }

    /// A meter of all parts, by their names.
    pub(crate) fn meter(&self) -> Result<Meter> {
        let server = std::iter::once((APISERVER, self.apiserver.pid()));
        let clients = self.clients.iter().map(|(name, program)| (*name, program.pid()));
        let named = |(name, pid): (&'static str, Option<u32>)| {
            Ok((name.to_owned(), pid.with_context(|| format!("the {name} has ended"))?))
        };
        Meter::named(server.chain(clients).map(named).collect::<Result<_>>()?)
    }

    /// Fails if a part has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(how) = self.apiserver.ended()? {
            bail!("the {APISERVER} ended {how}");
        }
        for (name, program) in &mut self.clients {
            if let Some(how) = program.ended()? {
                bail!("the {name} ended {how}");
            }
        }
        Ok(())
    }

    /// Ends all parts, the API server last.
    pub(crate) async fn end(self) -> Result<()> {
        for (_, program) in self.clients {
            program.end().await?;
        }
        self.apiserver.end().await.map(drop)
    }
}
