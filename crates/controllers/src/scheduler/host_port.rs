//! The host ports of pods.

use coffer_api::kinds::pod::is_sidecar;

use crate::pod::Pod;

/// A port of the node that only one pod can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    ip: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// Whether only one of both can be used on a node: same port and protocol, and a common address.
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

/// The host ports of a pod's containers.
pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let or = |field: &Option<String>, default: &str| {
        field.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let spec = pod.spec.iter();
    let sidecars = spec.clone().flat_map(|spec| spec.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|container| is_sidecar(container));
    spec.flat_map(|spec| &spec.containers)
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let (ip, protocol) = (or(&port.host_ip, "0.0.0.0"), or(&port.protocol, "TCP"));
            Some(HostPort { ip, protocol, port: number })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).expect("a pod")
    }

    #[test]
    fn host_ports_with_a_common_address_conflict() {
        let ports = |port: serde_json::Value| {
            host_ports(&pod(json!({ "containers": [{ "name": "c", "ports": [port] }] })))
        };
        let any = ports(json!({ "containerPort": 80, "hostPort": 80 }));
        let one = ports(json!({ "containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1" }));
        let two = ports(json!({ "containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.2" }));
        let udp = ports(json!({ "containerPort": 80, "hostPort": 80, "protocol": "UDP" }));
        assert!(any[0].conflicts(&one[0]) && one[0].conflicts(&any[0]));
        assert!(!one[0].conflicts(&two[0]));
        assert!(!any[0].conflicts(&udp[0]));
        assert!(ports(json!({ "containerPort": 80 })).is_empty());
    }
}
