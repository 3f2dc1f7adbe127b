//! A namespace with a quota is filled with pods: does the last pod cost what the first did?

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::cluster::workspace::{RUN_LABEL, Workspace, json_body};
use crate::context::Context;
use crate::load::clients::clients_text;
use crate::load::{self, Failed, Work, in_row};
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::options::{Options, Protocol};
use crate::transport::client::Client;
use crate::transport::target::Target;

#[derive(Debug, Args)]
pub(crate) struct QuotaFill {
    /// Pods to create.
    #[arg(long, value_name = "NUMBER", default_value = "10000")]
    pods: NonZeroU64,
    /// Pods of the first and of the last phase, which are compared.
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    sample: NonZeroU64,
    /// Clients with one request under way each.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    clients: NonZeroUsize,
}

/// Creates pods, each once.
struct Pods {
    /// The path of the pods.
    path: String,
    run: String,
    /// The number of the first.
    first: u64,
}

impl Work for Pods {
    const ROWS: &'static [&'static str] = &["create pod"];

    async fn step(&self, client: &mut Client, number: u64, tally: &Tally) -> Result<(), Failed> {
        let body = pod(&self.run, self.first + number);
        let start = Instant::now();
        client.call(Method::POST, &self.path, json_body(&body)).await.map_err(in_row(0))?;
        tally.record(0, start.elapsed());
        Ok(())
    }
}

fn pod(run: &str, number: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("pod-{number:07}"), "labels": { RUN_LABEL: run } },
        "spec": {
            "automountServiceAccountToken": false,
            // No node has it: the pods stay where they are.
            "nodeSelector": { RUN_LABEL: run },
            "containers": [{
                "name": "main", "image": "hollow",
                "resources": { "requests": { "cpu": "10m" } },
            }],
        },
    })
}

impl QuotaFill {
    /// How many pods each phase creates.
    fn phases(&self) -> [u64; 3] {
        let pods = self.pods.get();
        let sample = self.sample.get().min(pods.div_ceil(2));
        [sample, pods - 2 * sample.min(pods - sample), sample.min(pods - sample)]
    }

    pub(super) fn plan(&self, _: &Options) -> Vec<String> {
        let [first, _, last] = self.phases();
        vec![
            format!("create a quota that has room for {} pods and their cpu", self.pods),
            format!(
                "create {} pods with {}; report the first {first} and the last {last}",
                self.pods,
                clients_text(self.clients.get())
            ),
        ]
    }

    pub(super) async fn measure(
        &self,
        context: &mut Context,
        target: &Arc<Target>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        workspace.simulated = true;
        workspace.ensure_default_account().await?;
        let mut client = Client::connect(target, Protocol::Http1).await?;
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "fill" },
            "spec": { "hard": {
                "pods": self.pods.to_string(), "requests.cpu": format!("{}m", 10 * self.pods.get()),
            } },
        });
        client.call(Method::POST, &workspace.path("resourcequotas"), json_body(&quota)).await?;
        let mut first = 0;
        let mut costs = Vec::new();
        for (which, count) in ["first", "next", "last"].into_iter().zip(self.phases()) {
            if count == 0 {
                continue;
            }
            let work = Pods { path: workspace.path("pods"), run: workspace.run.clone(), first };
            let name = format!("the {which} {count} pods of {}", self.pods);
            let bounds = (Some(count), None);
            let clients = self.clients.get();
            let mut phase =
                load::run(context, target, &name, clients, bounds, Arc::new(work)).await?;
            costs.push(cpu_per_pod(&phase));
            if let (true, [Some(before), .., Some(after)]) = (costs.len() > 1, &costs[..]) {
                phase.fact("server CPU per pod, of the first ones'", 100.0 * after / before, "%");
            }
            context.push(phase);
            first += count;
        }
        Ok(())
    }
}

/// Seconds of the server's processor for each pod.
fn cpu_per_pod(phase: &Phase) -> Option<f64> {
    let seconds: f64 = phase.server.iter().map(|usage| usage.cpu_seconds).sum();
    (seconds > 0.0 && phase.operations > 0).then(|| seconds / phase.operations as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_are_all_pods_whatever_the_sample() {
        for (pods, sample, expected) in [
            (10_000, 1_000, [1_000, 8_000, 1_000]),
            (3, 1_000, [2, 0, 1]),
            (1, 1, [1, 0, 0]),
            (20, 5, [5, 10, 5]),
        ] {
            let number = |number| NonZeroU64::new(number).unwrap();
            let fill = QuotaFill {
                pods: number(pods),
                sample: number(sample),
                clients: NonZeroUsize::MIN,
            };
            assert_eq!(fill.phases(), expected);
            assert_eq!(fill.phases().iter().sum::<u64>(), pods);
        }
    }
}
