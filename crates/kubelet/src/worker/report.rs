//! A pod's status, as its worker has it computed and passes it on.

use std::sync::Arc;
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

/// Nothing of such a pod is started. At the level `restricted` a pod for another system need not set
/// what only Linux knows, and would run here without it.
const OS_NOT_SUPPORTED: Failure = Failure {
    reason: "PodOSNotSupported",
    message: "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
};

/// Whether a pod is for the system of this node: Linux, which it need not say.
fn is_for_this_os(pod: &Pod) -> bool {
    pod::spec(pod).os.as_ref().is_none_or(|os| os.name == "linux")
}

impl Worker {
    /// Reads what containers left behind that ended.
    pub(super) async fn remember_messages(&mut self, pod: &Arc<Pod>, observed: &Observed) {
        let messages = &mut self.containers.messages;
        messages::collect(&self.shared.layout, &self.id, pod, observed, messages).await;
    }

    /// How long the pod may still run, if that is limited and not over.
    pub(super) fn deadline(&self, pod: &Pod) -> Option<Duration> {
        let allowed = pod::spec(pod).active_deadline_seconds?;
        let since = self.reporting.known.start_time.as_ref()?.0;
        let until = since.as_second().saturating_add(allowed);
        let left = u64::try_from(until.saturating_sub(Timestamp::now().as_second())).unwrap_or(0);
        (left > 0).then(|| Duration::from_secs(left))
    }

    fn past_deadline(&self, pod: &Pod) -> bool {
        let is_limited = pod::spec(pod).active_deadline_seconds.is_some();
        is_limited && self.reporting.known.start_time.is_some() && self.deadline(pod).is_none()
    }

    /// Why the pod does not run any more, or never did, whatever its containers do.
    fn failure(&self, pod: &Pod) -> Option<&'static Failure> {
        if !is_for_this_os(pod) {
            return Some(&OS_NOT_SUPPORTED);
        }
        self.past_deadline(pod).then_some(&DEADLINE_EXCEEDED)
    }

    /// Computes the status and passes it on.
    pub(super) fn report(&mut self, pod: &Pod, observed: &Observed, is_ending: bool) -> Phase {
        let waiting = self
            .progress
            .holds
            .iter()
            .map(|(name, hold)| (name.clone(), hold.waiting.clone()))
            .collect();
        let secrets = self.volumes.usage.finding();
        let probed = |container: &Container| {
            let probes = self.containers.probes.get(&container.id)?;
            Some((container.name.clone(), probes.probed()))
        };
        let probes = observed.running().filter_map(probed).collect();
        let view = View {
            pod,
            known: &self.reporting.known,
            observed,
            waiting: &waiting,
            messages: &self.containers.messages,
            probes: &probes,
            failure: self.failure(pod),
            secrets: secrets.as_ref(),
            is_ending,
            host_ip: self.shared.facts.ip,
            runtime_name: &self.shared.runtime_name,
            now: Timestamp::now(),
        };
        let status = status::compute(&view);
        if let Some(reporter) = &self.reporting.reporter {
            reporter.seen(pod);
            reporter.status(status.clone());
        }
        self.reporting.known = status;
        // An API client may have said so, for a pod that was evicted.
        let by_others = pod.status.as_ref().and_then(Phase::reported);
        by_others.or(Phase::reported(&self.reporting.known)).unwrap_or(Phase::Running)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_for_this_node_unless_it_names_another_system() {
        for (os, expected) in [
            (json!(null), true),
            (json!({ "name": "linux" }), true),
            (json!({ "name": "windows" }), false),
            (json!({ "name": "" }), false),
        ] {
            let pod = json!({ "metadata": {}, "spec": { "containers": [], "os": os } });
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert_eq!(is_for_this_os(&pod), expected, "{os}");
        }
    }
}
