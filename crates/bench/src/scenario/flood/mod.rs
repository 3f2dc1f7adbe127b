//! A flood by one ordinary user, and what the others notice of it.
//!
//! One user with the least rights that the flood needs sends it, from an address of its own on
//! loopback. Meanwhile another user reads a secret, a node renews its lease and a health check asks
//! for `/healthz`, most of them on new connections, because a server that serves only its open
//! connections is down for everyone else. What they saw, and the server's memory, can be held against
//! bounds.
//!
//! ```text
//! identities (tokens, a node's certificate) → probes, calm → for each kind: fixtures → attack ∥ probes
//! ```

mod attack;
mod fixtures;
mod identities;
mod probes;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use self::attack::Flooding;
use self::identities::Identities;
use self::probes::Probes;
use crate::cluster::workspace::Workspace;
use crate::context::Context;
use crate::measure::report::Phase;
use crate::options::Options;
use crate::transport::target::Target;

/// How long a flood takes if nothing is said.
const SECONDS_DEFAULT: u64 = 60;
/// How long a flood may take.
const SECONDS_MAX: u64 = 600;
/// Clients of a flood at most.
const CLIENTS_MAX: u16 = 4096;
/// How long the probes run without a flood, to compare; not longer than a flood.
const CALM: Duration = Duration::from_secs(5);
/// How long after a flood the memory that is left is looked at; not longer than the flood was.
const AFTERMATH: Duration = Duration::from_secs(10);
/// A server that has this many times the memory that it may have is not flooded any longer, nor is one
/// that has half of the machine's: that the bound is broken is known by then.
const RUNAWAY: u64 = 8;
/// How often that is looked at.
const RUNAWAY_POLL: Duration = Duration::from_millis(200);
/// How long it may take to clean up behind one flood: the server may have been hurt.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(120);

/// What a flood consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Anonymous connections that say nothing, half a preface, or answer pings and no more.
    IdleConnections,
    /// Bodies of 3 MB, from a user without any rights.
    HeavyBodies,
    /// JSON patches of 9,990 operations and strategic merges of 20,000 items.
    HeavyPatches,
    /// Lists of 3,000 config maps by selectors of 12,500 terms.
    LongSelectors,
    /// Watches of 30 MB that are read byte by byte.
    ManyWatches,
    /// Requests that are sent, and responses that are read, byte by byte.
    SlowClients,
    /// Dry runs of pods with 90,000 variables.
    PodsWithManyVariables,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kinds(Option<Kind>);

impl std::str::FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(None));
        }
        Kind::from_str(text, false).map(|kind| Self(Some(kind))).map_err(|_| {
            let names: Vec<_> = Kind::value_variants().iter().map(|kind| kind.name()).collect();
            format!("possible values: {}, all", names.join(", "))
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Flood {
    /// idle-connections, heavy-bodies, heavy-patches, long-selectors, many-watches, slow-clients,
    /// pods-with-many-variables; or all of them, one after the other.
    #[arg(long, value_name = "KIND", default_value = "all")]
    kind: Kinds,
    /// Clients of the flood: connections, requests or watches at a time. Each kind has its own number
    /// if not given.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=i64::from(CLIENTS_MAX)))]
    clients: Option<u16>,
    /// The address on loopback that the flood comes from.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.2")]
    from: IpAddr,
    /// Credentials of a node that has no kubelet, to renew its lease with. If not given, a certificate
    /// is requested, which the cluster must sign.
    #[arg(long, value_name = "FILE")]
    node_kubeconfig: Option<PathBuf>,
    /// Run `kubectl get secret` with this program, too.
    #[arg(long, value_name = "FILE")]
    kubectl: Option<PathBuf>,
    /// Fail if the 99th percentile of any probe is longer. A probe that fails counts as longer.
    #[arg(long, value_name = "MILLISECONDS")]
    p99_max_ms: Option<u64>,
    /// Fail if the server's memory was ever larger; in 10^6 bytes. Needs --server-pid.
    #[arg(long, value_name = "MEGABYTES")]
    rss_max_mb: Option<u64>,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::IdleConnections => "idle-connections",
            Self::HeavyBodies => "heavy-bodies",
            Self::HeavyPatches => "heavy-patches",
            Self::LongSelectors => "long-selectors",
            Self::ManyWatches => "many-watches",
            Self::SlowClients => "slow-clients",
            Self::PodsWithManyVariables => "pods-with-many-variables",
        }
    }

    /// The clients of the review that found the weakness, or more where those were few.
    fn clients(self) -> usize {
        match self {
            Self::IdleConnections => 1200,
            Self::HeavyBodies => 30,
            Self::HeavyPatches => 8,
            Self::LongSelectors => 20,
            Self::ManyWatches => 250,
            Self::SlowClients => 300,
            Self::PodsWithManyVariables => 4,
        }
    }
}

impl Flood {
    fn kinds(&self) -> Vec<Kind> {
        self.kind.0.map_or_else(|| Kind::value_variants().to_vec(), |kind| vec![kind])
    }

    fn clients(&self, kind: Kind) -> usize {
        self.clients.map_or(kind.clients(), usize::from)
    }

    fn time(options: &Options) -> Result<Duration> {
        let seconds = options.seconds.map_or(SECONDS_DEFAULT, |seconds| seconds.get());
        if options.count.is_some() || seconds > SECONDS_MAX {
            bail!("a flood is bounded by --seconds, of which there are {SECONDS_MAX} at most");
        }
        Ok(Duration::from_secs(seconds))
    }

    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        let seconds = options.seconds.map_or(SECONDS_DEFAULT, |seconds| seconds.get());
        let mut lines = vec![
            "make namespaces coffer-bench-<random>, users in them, and a node's certificate"
                .to_owned(),
            format!(
                "get a secret, renew a lease, ask for /healthz for {} s",
                CALM.as_secs().min(seconds)
            ),
        ];
        lines.extend(self.kinds().into_iter().map(|kind| {
            let (name, clients) = (kind.name(), self.clients(kind));
            format!("the same for {seconds} s during a flood of {name} by {clients} clients")
        }));
        lines.push("remove the namespaces and everything in them".to_owned());
        lines
    }

    /// Runs the floods, and takes away what was made for them, however they end.
    pub(super) async fn run(&self, context: &mut Context, stop: &CancellationToken) -> Result<()> {
        let time = Self::time(&context.options)?;
        if self.rss_max_mb.is_some() && context.meter.rss_bytes().is_none() {
            bail!("--rss-max-mb needs the server's process: give --server-pid PID");
        }
        let target = context.target().await?;
        let local = target.is_loopback().await.context("cannot find the server's address")?;
        if !(local && self.from.is_loopback()) {
            bail!("a flood goes over loopback only, and {} is elsewhere", target.url);
        }
        allow_descriptors().context("cannot raise the limit of open files")?;
        let mut workspace = Workspace::create(&target).await?;
        let floods = self.floods(context, &target, &mut workspace, time, stop);
        let outcome = floods.await;
        outcome.and(removed(context, workspace).await)
    }

    async fn floods(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &mut Workspace,
        time: Duration,
        stop: &CancellationToken,
    ) -> Result<()> {
        // Its leases are removed with it.
        workspace.simulated = true;
        let node = self.node_kubeconfig.as_deref();
        let prepared = Identities::make(context, target, workspace, node);
        let Some(identities) = stop.run_until_cancelled(prepared).await.transpose()? else {
            return Ok(());
        };
        let probes = Probes::new(context, &identities, workspace, self.kubectl.as_deref()).await?;
        let calm = async {
            let metering = context.meter.start();
            let tally = probes::tally();
            probes.run(CALM.min(time), &tally).await?;
            Ok::<_, anyhow::Error>(Phase::new("no flood", &tally, metering.stop()))
        };
        let Some(calm) = stop.run_until_cancelled(calm).await.transpose()? else { return Ok(()) };
        context.push(calm);
        let mut broken = Vec::new();
        for kind in self.kinds() {
            let mut fixtures = Workspace::create(target).await?;
            let flood = self.flood(context, target, &mut fixtures, &probes, (kind, time));
            let outcome = stop.run_until_cancelled(flood).await;
            let removed = removed(context, fixtures).await;
            match outcome {
                Some(outcome) => broken.extend(outcome?),
                None => return removed,
            }
            removed?;
        }
        if !broken.is_empty() {
            bail!("{}", broken.join("; "));
        }
        Ok(())
    }

    /// Ends when the server has far more memory than it may have; returns how much.
    async fn runaway(&self, context: &Context) -> u64 {
        let bound = self.rss_max_mb.map_or(u64::MAX, |bound| bound.saturating_mul(1_000_000));
        let runaway = bound.saturating_mul(RUNAWAY).min(machine_bytes() / 2);
        loop {
            tokio::time::sleep(RUNAWAY_POLL).await;
            if let Some(rss) = context.meter.rss_bytes().filter(|rss| *rss > runaway) {
                return rss;
            }
        }
    }

    /// One flood. Returns the bounds that it broke.
    async fn flood(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &mut Workspace,
        probes: &Probes,
        (kind, time): (Kind, Duration),
    ) -> Result<Vec<String>> {
        let name = format!("{}, {} clients", kind.name(), self.clients(kind));
        context.progress.draw(&name, 0.0, "preparing");
        let attack = fixtures::prepare(context, target, workspace, kind, self.from).await?;
        let metering = context.meter.start();
        let flooding = Flooding::start(&attack, self.clients(kind));
        let (tally, mut broken) = (probes::tally(), Vec::new());
        tokio::select! {
            probed = probes.run(time, &tally) => probed?,
            rss = self.runaway(context) => {
                broken.push(format!("{name}: stopped at a memory of {} MB", rss / 1_000_000));
            }
        }
        let (counts, metered) = (flooding.stop(), metering.stop());
        let peak: u64 = metered.server.iter().map(|usage| usage.rss_peak_bytes).sum();
        let mut phase = Phase::new(&name, &tally, metered);
        for (what, count) in counts {
            phase.fact(format!("flood: {what}"), count as f64, "times");
        }
        for usage in &phase.server.clone() {
            let name = format!("processor time of {} ({})", usage.name, usage.pid);
            phase.fact(name, usage.cpu_seconds, "core seconds");
        }
        context.progress.draw(&name, 1.0, "waiting for what is left");
        let aftermath = AFTERMATH.min(time);
        tokio::time::sleep(aftermath).await;
        if let Some(rss) = context.meter.rss_bytes() {
            phase.fact(format!("memory {} s after", aftermath.as_secs()), rss as f64, "bytes");
        }
        context.progress.clear();
        if let Some(bound) = self.p99_max_ms {
            let late = probes::later_than(&tally, Duration::from_millis(bound));
            let text = |(probe, p99)| format!("{name}: {probe}: p99 {p99}, --p99-max-ms {bound}");
            broken.extend(late.into_iter().map(text));
        }
        if let Some(bound) = self.rss_max_mb.filter(|bound| peak > bound * 1_000_000) {
            broken.push(format!("{name}: memory {} MB, --rss-max-mb {bound}", peak / 1_000_000));
        }
        context.push(phase);
        Ok(broken)
    }
}

/// The memory of this machine.
fn machine_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

async fn removed(context: &Context, workspace: Workspace) -> Result<()> {
    context.progress.draw("cleaning up", 0.0, &workspace.namespace);
    let namespace = workspace.namespace.clone();
    let removed = tokio::time::timeout(CLEANUP_TIMEOUT, workspace.remove()).await;
    context.progress.clear();
    removed
        .unwrap_or_else(|_| bail!("{namespace} could not be removed: the server does not answer"))
}

/// A flood of connections needs a descriptor for each.
fn allow_descriptors() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_name_it_is_given_by() {
        for kind in Kind::value_variants() {
            assert_eq!(kind.name().parse(), Ok(Kinds(Some(*kind))));
            assert!(kind.clients() <= usize::from(CLIENTS_MAX));
        }
        assert_eq!("all".parse(), Ok(Kinds(None)));
        let refused = "flood".parse::<Kinds>().unwrap_err();
        assert!(refused.contains("idle-connections, heavy-bodies"), "{refused}");
    }
}
