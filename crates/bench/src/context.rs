//! What every scenario works with: options, the meter, the progress line, and the report it fills.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::measure::meter::Meter;
use crate::measure::progress::Progress;
use crate::measure::report::{Phase, Report, Server};
use crate::options::{Options, Protocol};
use crate::transport::client::Client;
use crate::transport::target::Target;

/// A run under way.
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) meter: Meter,
    pub(crate) progress: Progress,
    report: Report,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

impl Context {
    /// A run of a scenario.
    pub(crate) fn new(options: Options, scenario: &str) -> Result<Self> {
        let report = Report::new(scenario, options.json.clone());
        let (meter, progress) = (Meter::new(&options.server_pids)?, Progress::new(options.quiet));
        Ok(Self { options, meter, progress, report })
    }

    /// The server of the kubeconfig, after it has said what it is.
    pub(crate) async fn target(&mut self) -> Result<Arc<Target>> {
        let file = self.options.kubeconfig.as_ref();
        let file = file.context("this scenario needs a server: give --kubeconfig FILE")?;
        let target = Target::load(file, self.options.context.as_deref()).await?;
        self.ask_version(&target).await?;
        Ok(target)
    }

    /// Notes for the report what the server says it is.
    pub(crate) async fn ask_version(&mut self, target: &Arc<Target>) -> Result<()> {
        let mut client = Client::connect(target, Protocol::Http1).await?;
        let version: Version = client.get("/version").await?;
        self.report.server = Some(Server { url: target.url.clone(), version: version.git_version });
        Ok(())
    }

    /// Adds what was measured.
    pub(crate) fn push(&mut self, phase: Phase) {
        self.report.phases.push(phase);
    }

    /// Ends the run.
    pub(crate) fn into_report(self) -> Report {
        self.progress.clear();
        self.report
    }
}
