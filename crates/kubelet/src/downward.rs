//! The downward API: what a pod may know about itself, in environment variables and files. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use coffer_api::go::quoted;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod;
use crate::quantity;

/// What a pod's spec does not say but its containers may ask.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) node: NodeFacts,
    pub(crate) pod_ips: &'a [String],
}

/// The part that is the same for every pod of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeFacts {
    pub(crate) ip: IpAddr,
    pub(crate) cpu_milli: i64,
    pub(crate) memory_bytes: i64,
}

/// A field by its path, as `fieldRef` names it. `None` for a path that there is not.
pub(crate) fn field(pod: &Pod, path: &str, facts: Facts<'_>) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod::spec(pod);
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return None,
        };
        return Some(entries.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let text = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "metadata.labels" => meta.labels.as_ref().map(format_map),
        "metadata.annotations" => meta.annotations.as_ref().map(format_map),
        "spec.nodeName" => spec.node_name.clone(),
        "spec.serviceAccountName" => spec.service_account_name.clone(),
        "status.hostIP" | "status.hostIPs" => Some(facts.node.ip.to_string()),
        "status.podIP" => facts.pod_ips.first().cloned(),
        "status.podIPs" => Some(facts.pod_ips.join(",")),
        _ => return None,
    };
    Some(text.unwrap_or_default())
}

/// `metadata.labels['key']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, rest))
}

/// One `key="value"` a line, sorted; upstream's `FormatMap`.
fn format_map(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<_> = map.iter().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// A container's request or limit, as `resourceFieldRef` names it. A limit that is not set is
/// what the node has.
pub(crate) fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    facts: Facts<'_>,
) -> Option<String> {
    let (list, name) = selector.resource.split_once('.')?;
    let resources = container.resources.as_ref();
    let map = match list {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return None,
    };
    let quantity = map.and_then(|map| map.get(name));
    let one = Quantity("1".to_owned());
    let divisor = selector.divisor.as_ref().unwrap_or(&one);
    let (amount, divisor) = match name {
        "cpu" => {
            let node = if list == "limits" { facts.node.cpu_milli } else { 0 };
            (quantity.map_or(Some(node), quantity::milli_value)?, quantity::milli_value(divisor)?)
        }
        "memory" => {
            let node = if list == "limits" { facts.node.memory_bytes } else { 0 };
            (quantity.map_or(Some(node), quantity::value)?, quantity::value(divisor)?)
        }
        _ => (quantity.map_or(Some(0), quantity::value)?, quantity::value(divisor)?),
    };
    // A divisor of "0" is what an absent one is decoded to.
    let divisor = match divisor {
        0 if name == "cpu" => 1000,
        0 => 1,
        divisor => divisor,
    };
    let (whole, rest) = (amount.checked_div(divisor)?, amount.checked_rem(divisor)?);
    Some(whole.saturating_add(i64::from(rest != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(pod_ips: &[String]) -> Facts<'_> {
        let node = NodeFacts { ip: [10, 0, 0, 1].into(), cpu_milli: 2000, memory_bytes: 1 << 30 };
        Facts { node, pod_ips }
    }

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"b": "x\"y", "a": "1\n2"}},
            "spec": {"containers": [], "nodeName": "node-1"},
        }))
        .expect("a pod")
    }

    #[test]
    fn fields_are_found_by_their_paths() {
        let ips = ["10.1.0.5".to_owned()];
        let pod = pod();
        let get = |path| field(&pod, path, facts(&ips));
        assert_eq!(get("metadata.name").as_deref(), Some("p"));
        assert_eq!(get("metadata.labels['b']").as_deref(), Some("x\"y"));
        assert_eq!(get("metadata.labels['none']").as_deref(), Some(""));
        assert_eq!(get("metadata.labels").as_deref(), Some("a=\"1\\n2\"\nb=\"x\\\"y\""));
        let mut odd = pod.clone();
        let bell = [("a".to_owned(), "\u{7}\u{85}\u{fffe}".to_owned())];
        odd.metadata.annotations = Some(bell.into());
        let shown = field(&odd, "metadata.annotations", facts(&ips));
        assert_eq!(shown.as_deref(), Some("a=\"\\a\\u0085\\ufffe\""));
        assert_eq!(get("spec.nodeName").as_deref(), Some("node-1"));
        assert_eq!(get("status.podIP").as_deref(), Some("10.1.0.5"));
        assert_eq!(get("status.hostIP").as_deref(), Some("10.0.0.1"));
        assert_eq!(get("spec.containers"), None);
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "65Mi"}},
        }))
        .expect("a container");
        let get = |resource: &str, divisor: Option<&str>| {
            let divisor = divisor.map(|text| Quantity(text.to_owned()));
            let selector = ResourceFieldSelector {
                resource: resource.to_owned(),
                divisor,
                container_name: None,
            };
            super::resource(&container, &selector, facts(&[]))
        };
        assert_eq!(get("limits.cpu", None).as_deref(), Some("2"));
        assert_eq!(get("limits.cpu", Some("1m")).as_deref(), Some("1500"));
        assert_eq!(get("limits.memory", Some("1Mi")).as_deref(), Some("65"));
        assert_eq!(get("requests.cpu", None).as_deref(), Some("0"));
        assert_eq!(get("nonsense", None), None);
    }
}
