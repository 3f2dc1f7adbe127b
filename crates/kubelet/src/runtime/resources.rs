//! Requests and limits as cgroup settings. Pure.

use std::collections::BTreeMap;

use coffer_api::kinds::pod::QosClass;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

const CPU_SHARES_MIN: i64 = 2;
const CPU_SHARES_MAX: i64 = 262_144;
const CPU_SHARES_PER_CPU: i64 = 1024;
const CPU_PERIOD_US: i64 = 100_000;
const CPU_QUOTA_US_MIN: i64 = 1000;

/// How the kernel chooses whom to kill when memory is short; upstream's values.
const OOM_SCORE_GUARANTEED: i64 = -997;
const OOM_SCORE_BEST_EFFORT: i64 = 1000;

type Amounts = BTreeMap<String, Quantity>;

fn amounts(container: &Container) -> (Option<&Amounts>, Option<&Amounts>) {
    let resources = container.resources.as_ref();
    (
        resources.and_then(|resources| resources.requests.as_ref()),
        resources.and_then(|resources| resources.limits.as_ref()),
    )
}

fn positive<'a>(amounts: Option<&'a Amounts>, name: &str) -> Option<&'a Quantity> {
    let amount = amounts?.get(name)?;
    quantity::milli_value(amount).filter(|milli| *milli > 0).map(|_| amount)
}

/// A container's cgroup settings. One without a limit of its own gets the limit of the pod as a whole, as
/// quotas count it.
pub(super) fn container_resources(
    pod: &Pod,
    container: &Container,
    node_memory_bytes: i64,
) -> cri::LinuxContainerResources {
    let (requests, limits) = amounts(container);
    let milli = |amounts, name| positive(amounts, name).and_then(quantity::milli_value);
    let bytes = |amounts| positive(amounts, "memory").and_then(quantity::value);
    let whole = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let whole = whole.and_then(|whole| whole.limits.as_ref());
    let cpu = milli(requests, "cpu").or(milli(limits, "cpu")).unwrap_or(0);
    let memory_request = bytes(requests).or(bytes(limits)).unwrap_or(0);
    let thousandths = |milli: i64, of: i64| milli.saturating_mul(of) / 1000;
    cri::LinuxContainerResources {
        cpu_shares: thousandths(cpu, CPU_SHARES_PER_CPU).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX),
        cpu_period: CPU_PERIOD_US,
        cpu_quota: milli(limits, "cpu")
            .or(milli(whole, "cpu"))
            .map_or(0, |milli| thousandths(milli, CPU_PERIOD_US).max(CPU_QUOTA_US_MIN)),
        memory_limit_in_bytes: bytes(limits).or(bytes(whole)).unwrap_or(0),
        oom_score_adj: oom_score(QosClass::of(pod), memory_request, node_memory_bytes),
        ..Default::default()
    }
}

/// The more of the node's memory a burstable container asked for, the later it is killed.
fn oom_score(class: QosClass, request_bytes: i64, node_bytes: i64) -> i64 {
    match class {
        QosClass::Guaranteed => OOM_SCORE_GUARANTEED,
        QosClass::BestEffort => OOM_SCORE_BEST_EFFORT,
        QosClass::Burstable => {
            let asked = i128::from(request_bytes) * 1000 / i128::from(node_bytes.max(1));
            let score = 1000 - i64::try_from(asked).unwrap_or(1000);
            score.clamp(1000 + OOM_SCORE_GUARANTEED, OOM_SCORE_BEST_EFFORT - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(spec: serde_json::Value) -> cri::LinuxContainerResources {
        let pod: Pod = serde_json::from_value(serde_json::json!({ "spec": spec })).expect("a pod");
        let container = &pod.spec.as_ref().expect("set above").containers[0];
        container_resources(&pod, container, 1 << 30)
    }

    #[test]
    fn cgroup_settings_are_upstreams() {
        let resources = serde_json::json!({"requests": {"cpu": "250m", "memory": "256Mi"},
            "limits": {"cpu": "500m", "memory": "512Mi"}});
        let settings = settings(serde_json::json!({
            "containers": [{"name": "c", "resources": resources}]}));
        assert_eq!(settings.cpu_shares, 256);
        assert_eq!((settings.cpu_period, settings.cpu_quota), (100_000, 50_000));
        assert_eq!(settings.memory_limit_in_bytes, 512 << 20);
        assert_eq!(settings.oom_score_adj, 750);
    }

    #[test]
    fn a_container_without_a_limit_gets_the_whole_pods() {
        let set = |resources: serde_json::Value| {
            let settings = settings(serde_json::json!({
                "containers": [{"name": "c", "resources": resources}],
                "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}));
            (settings.cpu_quota, settings.memory_limit_in_bytes >> 20, settings.cpu_shares)
        };
        assert_eq!(set(serde_json::json!({})), (200_000, 1024, 2));
        let own = serde_json::json!({"limits": {"cpu": "500m", "memory": "512Mi"}});
        assert_eq!(set(own), (50_000, 512, 512));
        let none = serde_json::json!({"limits": {"cpu": "0", "memory": "0"}});
        assert_eq!(set(none), (200_000, 1024, 2), "zero does not limit");
    }

    #[test]
    fn absurd_amounts_are_as_much_as_the_kernel_takes() {
        let settings = settings(serde_json::json!({
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1e30"}}}]}));
        assert_eq!(settings.cpu_shares, CPU_SHARES_MAX);
        assert_eq!(settings.cpu_quota, i64::MAX / 1000);
    }

    #[test]
    fn the_oom_score_follows_the_class_of_the_whole_pod() {
        let limits = serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"},
            "requests": {"cpu": "1", "memory": "1Gi"}});
        let container = serde_json::json!({"name": "c"});
        let score = |resources| {
            let spec = serde_json::json!({"containers": [container], "resources": resources});
            settings(spec).oom_score_adj
        };
        assert_eq!(score(limits), OOM_SCORE_GUARANTEED);
        assert_eq!(score(serde_json::json!({})), OOM_SCORE_BEST_EFFORT);
    }
}
