//! The usage of one quota by the pods of a namespace, updated with every change.

use std::collections::HashMap;
use std::sync::Arc;

use coffer_api::quota::{Amounts, added};
use k8s_openapi::api::core::v1::{self, ResourceQuotaSpec};

use crate::pod::Pod;

/// The sum and the usage of each pod, so that a change that is reported twice counts once.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    spec: ResourceQuotaSpec,
    total: Amounts,
    pods: HashMap<String, Amounts>,
}

impl Tally {
    /// Counts pods.
    pub(super) fn of(spec: ResourceQuotaSpec, pods: &[Arc<Pod>]) -> Self {
        let mut tally = Self { spec, total: Amounts::new(), pods: HashMap::new() };
        for pod in pods {
            tally.set(pod.metadata.name.as_deref().unwrap_or_default(), Some(pod));
        }
        tally
    }

    /// The quota's spec for which it was counted.
    pub(super) fn spec(&self) -> &ResourceQuotaSpec {
        &self.spec
    }

    /// The usage of all pods.
    pub(super) fn total(&self) -> &Amounts {
        &self.total
    }

    /// Sets the present state of a pod, `None` if it was deleted. Returns whether the sum has changed.
    pub(super) fn set(&mut self, name: &str, pod: Option<&Pod>) -> bool {
        let now = pod
            .map(|pod| added(&self.spec, "pods.", Some(&v1::Pod::from(pod))))
            .unwrap_or_default();
        let before = self.pods.get(name);
        if before.map_or(now.is_empty(), |before| *before == now) {
            return false;
        }
        for (resource, amount) in before.into_iter().flatten() {
            if let Some(sum) = self.total.get_mut(resource) {
                sum.sub(amount);
            }
        }
        for (resource, amount) in &now {
            match self.total.get_mut(resource) {
                Some(sum) => sum.add(amount),
                None => drop(self.total.insert(resource.clone(), amount.clone())),
            }
        }
        if now.is_empty() {
            self.pods.remove(name);
        } else {
            self.pods.insert(name.to_owned(), now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, cpu: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
            "status": { "phase": phase } }))
        .expect("a pod")
    }

    #[test]
    fn the_sum_follows_pods_that_are_created_end_and_are_deleted() {
        let spec: ResourceQuotaSpec = serde_json::from_value(json!({ "hard": {
            "pods": "9", "count/pods": "9", "requests.cpu": "9" } }))
        .expect("a spec");
        let mut tally = Tally::of(spec, &[Arc::new(pod("a", "250m", "Running"))]);
        let sum = |tally: &Tally| {
            let text = |name: &str| tally.total().get(name).map(|amount| amount.to_text().0);
            [text("pods"), text("count/pods"), text("requests.cpu")].map(Option::unwrap_or_default)
        };
        assert_eq!(sum(&tally), ["1", "1", "250m"]);
        let b = pod("b", "500m", "Pending");
        assert!(tally.set("b", Some(&b)));
        assert!(!tally.set("b", Some(&b)), "reported twice, counted once");
        assert_eq!(sum(&tally), ["2", "2", "750m"]);
        assert!(!tally.set("b", Some(&pod("b", "500m", "Running"))));
        assert!(tally.set("b", Some(&pod("b", "500m", "Succeeded"))));
        assert_eq!(sum(&tally), ["1", "2", "250m"]);
        assert!(tally.set("a", None));
        assert!(tally.set("b", None));
        assert_eq!(sum(&tally), ["0", "0", "0"]);
    }

    #[test]
    fn a_sum_with_absurd_amounts_comes_back_to_what_it_was() {
        let spec: ResourceQuotaSpec =
            serde_json::from_value(json!({ "hard": { "requests.cpu": "9" } })).expect("a spec");
        let mut tally = Tally::of(spec, &[Arc::new(pod("a", "250m", "Running"))]);
        for name in ["b", "c", "d"] {
            assert!(tally.set(name, Some(&pod(name, "170e36", "Running"))));
        }
        for name in ["b", "c", "d"] {
            assert!(tally.set(name, None));
        }
        assert_eq!(tally.total()["requests.cpu"].to_text().0, "250m");
    }
}
