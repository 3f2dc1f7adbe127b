//! What others than the flood's user notice, each probe as its caller does it.
//!
//! `kubectl get` opens a connection for each command, a health check for each question; a kubelet
//! keeps one, and opens another when that breaks. Probes come when they are due, whether or not the
//! ones before have completed: a server that stops is not asked less often for that. Only a lease
//! is renewed one time after the other, because each renewal names the version of the last.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::identities::Identities;
use crate::cluster::workspace::{LEASES, RUN_LABEL, Workspace, json_body};
use crate::context::Context;
use crate::measure::stats::Tally;
use crate::options::Protocol;
use crate::transport::client::{CallError, Client, parse};
use crate::transport::target::Target;

const GET: usize = 0;
const KEPT: usize = 1;
const FRESH: usize = 2;
const HEALTH: usize = 3;
const KUBECTL: usize = 4;
const ROWS: [&str; 5] = [
    "get secret, new connection",
    "renew lease, kept connection",
    "renew lease, new connection",
    "/healthz, new connection",
    "kubectl get secret",
];

/// How often each request is sent.
const EVERY: Duration = Duration::from_millis(250);
/// How often kubectl is run, whose start alone takes some tenths of a core second.
const KUBECTL_EVERY: Duration = Duration::from_secs(2);
/// After this a probe has failed, as a kubelet gives up on its lease and a health check on its
/// question.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Probes of one row under way: those of a time of `TIMEOUT`, and some more.
const UNDER_WAY_MAX: usize = 64;
const UNANSWERED: &str = "no answer within 10 s";

/// The probes.
pub(super) struct Probes {
    reader: Arc<Target>,
    secret: String,
    anonymous: Arc<Target>,
    node: Arc<Target>,
    node_name: String,
    run: String,
    kubectl: Option<Arc<Kubectl>>,
}

struct Kubectl {
    program: std::path::PathBuf,
    arguments: Vec<String>,
    /// Its kubeconfig and its cache.
    _directory: TempDir,
}

#[derive(Deserialize)]
struct Versioned {
    metadata: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    resource_version: String,
}

/// Where probes are counted.
pub(super) fn tally() -> Arc<Tally> {
    Arc::new(Tally::new(&ROWS))
}

/// The probes whose 99th percentile is longer than a time, and the percentile.
pub(super) fn later_than(tally: &Tally, bound: Duration) -> Vec<(&'static str, String)> {
    let mut late = Vec::new();
    for (row, name) in ROWS.iter().enumerate() {
        match tally.quantile_or_failed(row, 0.99) {
            None => late.push((*name, "failed".to_owned())),
            Some(p99) if p99 > bound => late.push((*name, format!("{} ms", p99.as_millis()))),
            Some(_) => {}
        }
    }
    late
}

impl Probes {
    pub(super) async fn new(
        context: &Context,
        identities: &Identities,
        workspace: &Workspace,
        kubectl: Option<&Path>,
    ) -> Result<Self> {
        let kubectl = match kubectl {
            Some(program) => Some(Arc::new(Kubectl::new(context, identities, workspace, program)?)),
            None => None,
        };
        let probes = Self {
            reader: identities.reader.clone(),
            secret: identities.secret.clone(),
            anonymous: identities.anonymous.clone(),
            node: identities.node.clone(),
            node_name: identities.node_name.clone(),
            run: workspace.run.clone(),
            kubectl,
        };
        probes.make_lease().await.context("the node cannot make its lease")?;
        Ok(probes)
    }

    /// Probes for a time; ends when the last probe has completed or has failed.
    pub(super) async fn run(&self, time: Duration, tally: &Arc<Tally>) -> Result<()> {
        let end = Instant::now() + time;
        let mut running = JoinSet::new();
        let (secret, reader) = (self.secret.clone(), self.reader.clone());
        running.spawn(every(EVERY, end, GET, tally.clone(), move || {
            get(reader.clone(), secret.clone())
        }));
        let anonymous = self.anonymous.clone();
        running.spawn(every(EVERY, end, HEALTH, tally.clone(), move || {
            get(anonymous.clone(), "/healthz".to_owned())
        }));
        if let Some(kubectl) = self.kubectl.clone() {
            running.spawn(every(KUBECTL_EVERY, end, KUBECTL, tally.clone(), move || {
                let kubectl = kubectl.clone();
                async move { kubectl.get().await }
            }));
        }
        let lease = Lease {
            node: self.node.clone(),
            path: format!("{LEASES}/{}", self.node_name),
            name: self.node_name.clone(),
            run: self.run.clone(),
            version: None,
        };
        running.spawn(lease.renew_until(end, tally.clone()));
        while let Some(ended) = running.join_next().await {
            ended.context("a probe stopped")?;
        }
        Ok(())
    }

    async fn make_lease(&self) -> Result<(), CallError> {
        let mut client = Client::connect(&self.node, Protocol::Http2).await?;
        let lease = lease(&self.node_name, &self.run, "");
        match client.call(Method::POST, LEASES, json_body(&lease)).await {
            Err(error) if !error.is(StatusCode::CONFLICT) => Err(error),
            _ => Ok(()),
        }
    }
}

/// What becomes of a probe: nothing, or a short name for what went wrong.
type Outcome = Result<(), String>;

/// Starts a probe whenever one is due.
async fn every<F>(
    period: Duration,
    end: Instant,
    row: usize,
    tally: Arc<Tally>,
    probe: impl Fn() -> F,
) where
    F: Future<Output = Outcome> + Send + 'static,
{
    let mut ticks = tokio::time::interval(period);
    let mut running = JoinSet::new();
    while Instant::now() < end {
        ticks.tick().await;
        while running.try_join_next().is_some() {}
        if running.len() >= UNDER_WAY_MAX {
            continue;
        }
        let (tally, probe) = (tally.clone(), probe());
        running.spawn(async move { timed(row, &tally, probe).await });
    }
    while running.join_next().await.is_some() {}
}

/// Runs a probe and counts it. Returns whether it succeeded.
async fn timed(row: usize, tally: &Tally, probe: impl Future<Output = Outcome>) -> bool {
    let start = Instant::now();
    match tokio::time::timeout(TIMEOUT, probe).await {
        Ok(Ok(())) => {
            tally.record(row, start.elapsed());
            return true;
        }
        Ok(Err(what)) => tally.fail(row, &what),
        Err(_) => tally.fail(row, UNANSWERED),
    }
    false
}

async fn get(target: Arc<Target>, path: String) -> Outcome {
    let call = async {
        let mut client = Client::connect(&target, Protocol::Http1).await?;
        client.call(Method::GET, &path, None).await
    };
    call.await.map(drop).map_err(|error| error.label())
}

/// A node's lease, as its kubelet keeps it.
struct Lease {
    node: Arc<Target>,
    path: String,
    name: String,
    run: String,
    /// The version of the last renewal; `None` if it must be asked for.
    version: Option<String>,
}

impl Lease {
    /// Renews it over a kept connection and over a new one in turn.
    async fn renew_until(mut self, end: Instant, tally: Arc<Tally>) {
        let mut kept = None;
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while Instant::now() < end {
            for row in [KEPT, FRESH] {
                ticks.tick().await;
                let mut client = if row == KEPT { kept.take() } else { None };
                let renewed = timed(row, &tally, self.renew(&mut client)).await;
                if !renewed {
                    self.version = None;
                } else if row == KEPT {
                    kept = client;
                }
            }
        }
    }

    async fn renew(&mut self, client: &mut Option<Client>) -> Outcome {
        let renewed = self.try_renew(client).await;
        renewed.map_err(|error| error.label())
    }

    async fn try_renew(&mut self, kept: &mut Option<Client>) -> Result<(), CallError> {
        let client = match kept {
            Some(client) => client,
            None => kept.insert(Client::connect(&self.node, Protocol::Http2).await?),
        };
        let version = match self.version.take() {
            Some(version) => version,
            None => client.get::<Versioned>(&self.path).await?.metadata.resource_version,
        };
        let lease = lease(&self.name, &self.run, &version);
        let answer = client.call(Method::PUT, &self.path, json_body(&lease)).await?;
        self.version = Some(version_of(&self.path, &answer)?);
        Ok(())
    }
}

fn version_of(path: &str, answer: &Bytes) -> Result<String, CallError> {
    parse::<Versioned>(path, answer).map(|lease| lease.metadata.resource_version)
}

fn lease(name: &str, run: &str, version: &str) -> serde_json::Value {
    let now = format!("{:.6}", jiff::Timestamp::now());
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": "kube-node-lease", "labels": { RUN_LABEL: run },
        },
        "spec": { "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now },
    });
    if !version.is_empty() {
        lease["metadata"]["resourceVersion"] = version.into();
    }
    lease
}

impl Kubectl {
    fn new(
        context: &Context,
        identities: &Identities,
        workspace: &Workspace,
        program: &Path,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("coffer-bench-").tempdir()?;
        let kubeconfig = identities.reader_kubeconfig(context, directory.path())?;
        let cache = directory.path().join("cache");
        let found = std::process::Command::new(program).arg("version").arg("--client").output();
        if !found.is_ok_and(|output| output.status.success()) {
            bail!("{} does not run", program.display());
        }
        let arguments = [
            "--kubeconfig",
            &kubeconfig.to_string_lossy(),
            "--cache-dir",
            &cache.to_string_lossy(),
            "--namespace",
            &workspace.namespace,
            "get",
            "secret",
            &identities.secret_name,
        ];
        let arguments = arguments.map(str::to_owned).to_vec();
        Ok(Self { program: program.to_owned(), arguments, _directory: directory })
    }

    async fn get(&self) -> Outcome {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let ended = command.stderr(Stdio::null()).kill_on_drop(true).status().await;
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(error.kind().to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_is_late_or_fails_is_named_with_its_percentile() {
        let tally = Tally::new(&ROWS);
        let bound = Duration::from_secs(1);
        assert!(later_than(&tally, bound).is_empty());
        tally.record(GET, Duration::from_millis(900));
        tally.record(KEPT, Duration::from_millis(4000));
        tally.fail(HEALTH, UNANSWERED);
        let late = later_than(&tally, bound);
        let names: Vec<_> = late.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [ROWS[KEPT], ROWS[HEALTH]]);
        assert!(late[0].1.ends_with(" ms") && late[1].1 == "failed", "{late:?}");
    }

    #[test]
    fn the_text_of_a_failure_names_the_time() {
        assert!(UNANSWERED.contains(&format!("{} s", TIMEOUT.as_secs())));
    }
}
