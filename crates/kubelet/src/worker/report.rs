//! A pod's status, as its worker has it computed and passes it on.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::messages;
use super::task::Worker;
use crate::pod;
use crate::runtime::{Container, Observed};
use crate::status::{self, Failure, Phase, View};

const DEADLINE_EXCEEDED: Failure = Failure {
    reason: "DeadlineExceeded",
    message: "Pod was active on the node longer than the specified deadline",
};

impl Worker {
    pub(super) fn remember_messages(&mut self, pod: &Pod, observed: &Observed) {
        messages::collect(&self.shared.layout, &self.id, pod, observed, &mut self.messages);
    }

    /// How long the pod may still run, if that is limited and not over.
    pub(super) fn deadline(&self, pod: &Pod) -> Option<Duration> {
        let allowed = pod::spec(pod).active_deadline_seconds?;
        let since = self.known.start_time.as_ref()?.0;
        let until = since.as_second().saturating_add(allowed);
        let left = u64::try_from(until.saturating_sub(Timestamp::now().as_second())).unwrap_or(0);
        (left > 0).then(|| Duration::from_secs(left))
    }

    fn past_deadline(&self, pod: &Pod) -> bool {
        let is_limited = pod::spec(pod).active_deadline_seconds.is_some();
        is_limited && self.known.start_time.is_some() && self.deadline(pod).is_none()
    }

    /// Computes the status and passes it on.
    pub(super) fn report(&mut self, pod: &Pod, observed: &Observed, is_ending: bool) -> Phase {
        let waiting = self
            .progress
            .holds
            .iter()
            .map(|(name, hold)| (name.clone(), hold.waiting.clone()))
            .collect();
        let secrets = self.usage.finding();
        let probed = |container: &Container| {
            let probes = self.probes.get(&container.id)?;
            Some((container.name.clone(), probes.probed()))
        };
        let probes = observed.running().filter_map(probed).collect();
        let view = View {
            pod,
            known: &self.known,
            observed,
            waiting: &waiting,
            messages: &self.messages,
            probes: &probes,
            failure: self.past_deadline(pod).then_some(&DEADLINE_EXCEEDED),
            secrets: secrets.as_ref(),
            is_ending,
            host_ip: self.shared.facts.ip,
            runtime_name: &self.shared.runtime_name,
            now: Timestamp::now(),
        };
        let status = status::compute(&view);
        if let Some(reporter) = &self.reporter {
            reporter.seen(pod);
            reporter.status(status.clone());
        }
        self.known = status;
        // An API client may have said so, for a pod that was evicted.
        let by_others = pod.status.as_ref().and_then(Phase::reported);
        by_others.or(Phase::reported(&self.known)).unwrap_or(Phase::Running)
    }
}
