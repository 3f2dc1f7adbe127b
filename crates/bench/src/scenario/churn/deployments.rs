//! Pods that controllers make: Deployments that the cluster's own controllers and scheduler turn into
//! running pods, while each part's processor time and memory are measured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use http::Method;
use serde_json::json;

use super::cluster::{Cluster, TAINT};
use super::follow::{Named, follow};
use super::nodes::Nodes;
use super::seen::{Counts, Seen, Step};
use super::template;
use crate::cluster::control_plane::ControlPlane;
use crate::cluster::workspace::{RUN_LABEL, Workspace, json_body};
use crate::context::Context;
use crate::measure::progress;
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::options::Protocol;
use crate::transport::client::{Client, STRATEGIC_PATCH};
use crate::transport::target::Target;

/// Pods that a node has room for: upstream's default.
pub(super) const PODS_PER_NODE: u64 = 110;
/// What a rolling update adds to the pods that there are, in percent: upstream's default.
const SURGE_PERCENT: u64 = 25;
/// A cluster in which nothing changes for so long will not finish.
const STALL: Duration = Duration::from_secs(180);

#[derive(Debug, Args)]
pub(crate) struct Deployments {
    /// Make the pods by this many Deployments, through the cluster's controllers and its scheduler.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["pods", "secrets", "starting", "schedule"],
          value_parser = clap::value_parser!(u32).range(1..=50_000))]
    deployments: Option<u32>,
    /// Pods of each Deployment.
    #[arg(long, value_name = "NUMBER", default_value = "100", requires = "deployments",
          value_parser = clap::value_parser!(u32).range(1..=50_000))]
    replicas: u32,
    /// Percent of the Deployments that are updated once all pods run.
    #[arg(long, value_name = "PERCENT", default_value = "10", requires = "deployments",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    update_percent: u32,
    /// Seconds with heartbeats only that are measured once all pods run.
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "deployments")]
    rest_seconds: u64,
    /// Start API server, controller manager and scheduler of this program, rather than measuring the
    /// cluster of --kubeconfig.
    #[arg(long, value_name = "PROGRAM", requires = "deployments", conflicts_with = "kubeconfig")]
    pub(super) coffer: Option<PathBuf>,
}

impl Deployments {
    /// Whether pods are made by Deployments.
    pub(super) fn wanted(&self) -> bool {
        self.deployments.is_some()
    }

    pub(super) fn count(&self) -> u64 {
        u64::from(self.deployments.unwrap_or_default())
    }

    fn pods(&self) -> u64 {
        self.count() * u64::from(self.replicas)
    }

    fn updated(&self) -> u64 {
        (self.count() * u64::from(self.update_percent)).div_ceil(100)
    }

    pub(super) fn plan(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "create {} Deployments of {} pods each; wait until the cluster's controllers, its scheduler \
             and the nodes run all {} pods",
            self.count(),
            self.replicas,
            self.pods()
        )];
        lines.push(format!("measure {} s of heartbeats", self.rest_seconds));
        if self.updated() > 0 {
            lines.push(format!("change the template of {} of them and wait", self.updated()));
        }
        lines.push("delete all and wait until no pod is left".to_owned());
        lines
    }

    /// Whether so many nodes have room for all pods.
    ///
    /// # Errors
    /// How many nodes it takes.
    pub(super) fn check_room(&self, nodes: u64) -> Result<()> {
        let surge = self.updated() * (u64::from(self.replicas) * SURGE_PERCENT).div_ceil(100);
        let needed = (self.pods() + surge).div_ceil(PODS_PER_NODE);
        ensure!(
            nodes >= needed,
            "{} pods and {surge} more during the update need {needed} nodes of {PODS_PER_NODE} pods \
             each: give --nodes {needed}",
            self.pods()
        );
        Ok(())
    }
}

/// A run of it.
pub(super) struct Run<'a> {
    pub(super) deployments: &'a Deployments,
    pub(super) cluster: Arc<Cluster>,
    pub(super) nodes: Nodes,
    seen: Arc<Seen>,
    client: Client,
    /// The path of the Deployments.
    path: String,
    control_plane: Option<&'a mut ControlPlane>,
}

impl<'a> Run<'a> {
    /// Waits until all nodes are Ready, and sees pods and Deployments from then on.
    pub(super) async fn prepare(
        deployments: &'a Deployments,
        context: &Context,
        target: &Arc<Target>,
        workspace: &Workspace,
        (cluster, nodes): (Arc<Cluster>, Nodes),
        control_plane: Option<&'a mut ControlPlane>,
    ) -> Result<Self> {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments", workspace.namespace);
        let client = Client::connect(target, context.options.for_requests()).await?;
        let seen = Seen::new();
        let mut run = Self { deployments, cluster, nodes, seen, client, path, control_plane };
        let selector = format!("?labelSelector={RUN_LABEL}%3D{}", run.cluster.run);
        run.follow(target, format!("/api/v1/nodes{selector}"), run.seen.nodes(TAINT)).await?;
        run.follow(target, run.cluster.pods.clone(), run.seen.pods()).await?;
        run.follow(target, run.path.clone(), run.seen.deployments()).await?;
        let all = run.cluster.layout.nodes;
        let ready = Goal {
            name: "nodes are Ready",
            reached: &|counts: &Counts| counts.listed >= 3 && counts.nodes_ready == all,
            done: &|counts: &Counts| (counts.nodes_ready, all),
        };
        run.wait(context, ready).await?;
        Ok(run)
    }

    async fn follow<T: serde::de::DeserializeOwned + Named + Send + 'static>(
        &mut self,
        target: &Arc<Target>,
        path: String,
        report: impl FnMut(super::follow::Change<'_, T>) + Send + 'static,
    ) -> Result<()> {
        let client = Client::connect(target, Protocol::Http2).await?;
        self.nodes.add(async move { follow(client, &path, report).await });
        Ok(())
    }

    /// All phases, each reported when it ends.
    pub(super) async fn measure(mut self, context: &mut Context) -> Result<()> {
        self.create(context).await?;
        self.rest(context).await?;
        if self.deployments.updated() > 0 {
            self.update(context).await?;
        }
        self.delete(context).await
    }

    async fn create(&mut self, context: &mut Context) -> Result<()> {
        let (count, pods) = (self.deployments.count(), self.deployments.pods());
        let tally = Tally::new(&["create deployment"]);
        let phase = self.begin(context, format!("run {pods} pods of {count} Deployments"), tally);
        for number in 0..count {
            let body = template::deployment(&self.cluster, self.deployments.replicas, number);
            let start = Instant::now();
            self.client.call(Method::POST, &self.path, json_body(&body)).await?;
            phase.tally.record(0, start.elapsed());
        }
        let goal = Goal {
            name: "pods run",
            reached: &|counts: &Counts| counts.pods_running == pods && counts.complete == count,
            done: &|counts: &Counts| (counts.pods_running, pods),
        };
        let outcome = self.wait(context, goal).await;
        self.end(
            context,
            phase,
            &[
                ("created", |counts| counts.created),
                ("bound", |counts| counts.bound),
                ("running", |counts| counts.running),
            ],
        );
        outcome
    }

    async fn rest(&mut self, context: &mut Context) -> Result<()> {
        let seconds = self.deployments.rest_seconds;
        let phase = self.begin(context, format!("at rest for {seconds} s"), Tally::new(&[]));
        let outcome = tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => self.check(),
            error = self.nodes.failed() => Err(error),
        };
        self.end(context, phase, &[]);
        outcome
    }

    async fn update(&mut self, context: &mut Context) -> Result<()> {
        let (count, updated) = (self.deployments.count(), self.deployments.updated());
        let pods = updated * u64::from(self.deployments.replicas);
        let name = format!("update {updated} of {count} Deployments, {pods} pods");
        let phase = self.begin(context, name, Tally::new(&["patch deployment"]));
        let patch = json!({ "spec": { "template": {
            "metadata": { "annotations": { RUN_LABEL: "updated" } } } } });
        for number in 0..updated {
            let path = format!("{}/{}", self.path, template::name(number));
            let start = Instant::now();
            let body = Some((STRATEGIC_PATCH, patch.to_string().into()));
            self.client.call(Method::PATCH, &path, body).await?;
            phase.tally.record(0, start.elapsed());
        }
        let all = self.deployments.pods();
        let goal = Goal {
            name: "pods are replaced",
            reached: &|counts: &Counts| {
                counts.running.count >= pods
                    && (counts.pods_running, counts.pods) == (all, all)
                    && counts.complete == count
            },
            done: &|counts: &Counts| (counts.running.count, pods),
        };
        let outcome = self.wait(context, goal).await;
        self.end(
            context,
            phase,
            &[("running", |counts| counts.running), ("gone", |counts| counts.gone)],
        );
        outcome
    }

    async fn delete(&mut self, context: &mut Context) -> Result<()> {
        let (count, pods) = (self.deployments.count(), self.deployments.pods());
        let name = format!("delete {count} Deployments, {pods} pods");
        let phase = self.begin(context, name, Tally::new(&["delete deployment"]));
        for number in 0..count {
            let path = format!("{}/{}", self.path, template::name(number));
            let start = Instant::now();
            self.client.call(Method::DELETE, &path, None).await?;
            phase.tally.record(0, start.elapsed());
        }
        let goal = Goal {
            name: "pods are gone",
            reached: &|counts: &Counts| counts.pods == 0,
            done: &|counts: &Counts| (counts.gone.count, pods),
        };
        let outcome = self.wait(context, goal).await;
        self.end(context, phase, &[("gone", |counts| counts.gone)]);
        outcome
    }

    fn begin(&self, context: &Context, name: String, tally: Tally) -> Running {
        self.seen.begin();
        self.cluster.next_tally();
        Running { name, tally, metering: context.meter.start(), start: Instant::now() }
    }

    /// Reports what a phase came to, also where it was cut short.
    fn end(&self, context: &mut Context, running: Running, steps: Steps<'_>) {
        let Running { name, tally, metering, start } = running;
        let metered = metering.stop();
        let (took, counts) = (metered.took, self.seen.subscribe().borrow().clone());
        let mut phase = Phase::new(name, &tally, metered);
        for rows in [self.seen.next_tally().rows(took), self.cluster.next_tally().rows(took)] {
            phase.rows.extend(rows);
        }
        phase.operations = counts.running.count.max(counts.gone.count);
        for (what, step) in steps {
            let Step { count, last } = step(&counts);
            let seconds = last.map_or(0.0, |last| (last - start).as_secs_f64());
            if seconds > 0.0 {
                phase.fact(format!("pods {what}"), count as f64 / seconds, "per second");
                phase.fact(format!("{count} pods {what} after"), seconds, "seconds");
            }
        }
        context.push(phase);
    }

    fn check(&mut self) -> Result<()> {
        self.control_plane.as_mut().map_or(Ok(()), |parts| parts.check())
    }

    async fn wait(&mut self, context: &Context, goal: Goal<'_>) -> Result<()> {
        let mut counts = self.seen.subscribe();
        let mut ticks = tokio::time::interval(progress::EVERY);
        let (mut changes, mut changed) = (0, Instant::now());
        loop {
            tokio::select! {
                _ = counts.wait_for(|counts| (goal.reached)(counts)) => break,
                error = self.nodes.failed() => return Err(error),
                _ = ticks.tick() => {}
            }
            self.check()?;
            let now = counts.borrow_and_update().clone();
            let (done, of) = (goal.done)(&now);
            context.progress.draw(goal.name, done as f64 / of.max(1) as f64, &done.to_string());
            if now.changes != changes {
                (changes, changed) = (now.changes, Instant::now());
            } else if changed.elapsed() > STALL {
                bail!(
                    "{done} of {of} {}, and nothing has changed for {} s",
                    goal.name,
                    STALL.as_secs()
                );
            }
        }
        context.progress.clear();
        Ok(())
    }
}

/// A phase under way.
struct Running {
    name: String,
    tally: Tally,
    metering: crate::measure::meter::Metering,
    start: Instant,
}

/// What a phase reports the rate of, by name.
type Steps<'a> = &'a [(&'a str, fn(&Counts) -> Step)];

/// What is waited for.
struct Goal<'a> {
    name: &'a str,
    reached: &'a (dyn Fn(&Counts) -> bool + Sync),
    /// How many of how many.
    done: &'a (dyn Fn(&Counts) -> (u64, u64) + Sync),
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[arg(long)]
        pods: Option<u32>,
        #[arg(long)]
        secrets: Option<u32>,
        #[arg(long)]
        starting: Option<u32>,
        #[arg(long)]
        schedule: bool,
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
        #[command(flatten)]
        deployments: Deployments,
    }

    fn deployments(line: &str) -> Deployments {
        Line::parse_from(std::iter::once("x").chain(line.split_whitespace())).deployments
    }

    #[test]
    fn nodes_without_room_for_all_pods_and_the_surge_are_refused() {
        let ten = deployments("--deployments 10 --replicas 100");
        assert_eq!((ten.pods(), ten.updated()), (1_000, 1));
        ten.check_room(10).expect("1,025 pods on nodes for 1,100");
        let error = ten.check_room(9).expect_err("nodes for 990").to_string();
        assert!(error.ends_with("give --nodes 10"), "{error}");
    }

    #[test]
    fn replicas_without_deployments_are_refused() {
        let line = ["x", "--replicas", "7"];
        assert!(Line::try_parse_from(line).is_err());
        assert!(!deployments("").wanted());
    }
}
