//! The end of a pod: containers, sandbox, volumes, traces, and last the API object.
//!
//! Each step is repeated until it has succeeded, by this process or the next one: whatever of a
//! pod is found is taken from there.

use std::time::Duration;

use super::Desired;
use super::error::WorkerError;
use super::messages;
use super::stop::{self, Stopping};
use super::task::{Next, Worker, grace_period, pod_ip};
use crate::event::Reason;
use crate::probe::Probes;
use crate::runtime::{Container, ContainerState, Observed};

impl Worker {
    /// One round for a pod that should not be.
    pub(super) async fn end(&mut self, desired: &Desired) -> Result<Next, WorkerError> {
        let observed = self.observe().await?;
        let alive: Vec<&Container> = observed
            .containers
            .iter()
            .filter(|container| {
                matches!(container.state, ContainerState::Running | ContainerState::Unknown)
            })
            .collect();
        // A container that is about to end is not probed any more.
        self.containers.probes.values_mut().for_each(Probes::pause);
        if let Some(pod) = &desired.pod {
            self.remember_messages(pod, &observed).await;
            // A pod that ends with the kubelet goes on with the next one: how its containers end
            // now counts only where they are not to be restarted.
            let is_ending = alive.is_empty() && !desired.is_leaving;
            self.report(pod, &observed, is_ending);
        }
        if !alive.is_empty() {
            self.stop_all(desired, &observed, &alive).await?;
            return Ok(Next::Again);
        }
        for sandbox in observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
            self.shared.runtime.stop_sandbox(&sandbox.id).await?;
        }
        // The secrets go first of what is left: nothing runs that could still read them. That is
        // seen to here, because the runtime may have lost a process, and with its removal below
        // what could tell whose it is.
        self.end_remains(observed.ids()).await?;
        self.release().await?;
        self.remove(&observed).await?;
        if desired.is_leaving {
            if let Some(reporter) = self.reporting.reporter.take() {
                reporter.leave().await;
            }
        } else if desired.is_gone && !self.pod.is_static {
            // There is no object left to report about.
            self.reporting.reporter = None;
        }
        Ok(Next::Done)
    }

    /// Ends all containers concurrently, each with the same time to do it; a second, shorter deadline
    /// from the API server takes effect immediately.
    async fn stop_all(
        &mut self,
        desired: &Desired,
        observed: &Observed,
        alive: &[&Container],
    ) -> Result<(), WorkerError> {
        let ip = desired.pod.as_ref().and_then(|pod| pod_ip(&self.shared, pod, observed));
        let stops = alive.iter().map(|container| {
            let grace = match &desired.pod {
                Some(pod) => grace_period(pod),
                None => {
                    Duration::from_secs(u64::try_from(container.grace_period_s).unwrap_or_default())
                }
            };
            let stopping = Stopping {
                id: &self.id,
                pod: desired.pod.as_deref(),
                container_id: &container.id,
                name: &container.name,
                pod_ip: ip.as_deref(),
                grace,
                message: format!("Stopping container {}", container.name),
            };
            stop::stop(&self.shared, stopping)
        });
        let stops: Vec<_> = stops.collect();
        let all = futures::future::try_join_all(stops);
        let mut desired = self.pod.desired.clone();
        tokio::select! {
            result = all => Ok(result.map(|_| ())?),
            Ok(()) = desired.changed() => Ok(()),
        }
    }

    async fn release(&mut self) -> Result<(), WorkerError> {
        self.shared.volumes.tear_down(&self.id).await.map_err(|error| {
            let error = WorkerError::Volumes(error);
            let message = format!("error killing pod: {error}");
            self.shared.events.pod(&self.id, Reason::FailedKillPod, message);
            error
        })
    }

    async fn remove(&mut self, observed: &Observed) -> Result<(), WorkerError> {
        let runtime = &self.shared.runtime;
        for container in observed.held() {
            runtime.remove_container(&container.id).await?;
        }
        for sandbox in &observed.sandboxes {
            runtime.remove_sandbox(&sandbox.id).await?;
        }
        messages::remove_logs(&self.shared.layout.logs(&self.id)).await;
        Ok(())
    }
}
