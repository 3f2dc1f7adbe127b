//! What the runtime is asked for a pod's sandbox. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{labels, security};
use crate::pod::{self, PodId};

/// The longest host name that Linux takes.
const HOST_NAME_LEN_MAX: usize = 63;

/// Name resolution where pods do not bring their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsDefaults {
    pub(crate) servers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
    /// The cluster's own servers, if there is such a service.
    pub(crate) cluster_servers: Vec<IpAddr>,
    pub(crate) cluster_domain: String,
}

impl DnsDefaults {
    /// Reads the host's resolv.conf.
    pub(crate) fn parse(resolv_conf: &str) -> Self {
        let mut dns = Self::default();
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
                Some("search") => dns.searches = words.map(str::to_owned).collect(),
                Some("options") => dns.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        dns
    }

    fn for_pod(&self, spec: &PodSpec, namespace: &str) -> cri::DnsConfig {
        let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
        let cluster_first = match policy {
            "ClusterFirst" => !pod::uses_host_network(spec),
            "ClusterFirstWithHostNet" => true,
            _ => false,
        };
        let mut dns = if policy == "None" {
            cri::DnsConfig::default()
        } else if cluster_first && !self.cluster_servers.is_empty() {
            let domain = &self.cluster_domain;
            let mut searches =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(self.searches.iter().cloned());
            cri::DnsConfig {
                servers: self.cluster_servers.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        } else {
            cri::DnsConfig {
                servers: self.servers.clone(),
                searches: self.searches.clone(),
                options: self.options.clone(),
            }
        };
        if let Some(own) = &spec.dns_config {
            append_new(&mut dns.servers, own.nameservers.iter().flatten().cloned());
            append_new(&mut dns.searches, own.searches.iter().flatten().cloned());
            for option in own.options.iter().flatten() {
                let Some(name) = &option.name else { continue };
                dns.options.retain(|known| known.split(':').next() != Some(name));
                dns.options.push(match &option.value {
                    Some(value) => format!("{name}:{value}"),
                    None => name.clone(),
                });
            }
        }
        dns
    }
}

fn append_new(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

/// A pod's host name: its own, or its pod's name.
pub(crate) fn host_name(pod: &Pod) -> String {
    let own = pod::spec(pod).hostname.as_deref().filter(|name| !name.is_empty());
    let name = own.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let mut name = name.to_owned();
    name.truncate(HOST_NAME_LEN_MAX);
    name.truncate(name.trim_end_matches(['-', '.']).len());
    name
}

/// The configuration of a pod's sandbox.
pub(crate) fn sandbox_config(
    pod: &Pod,
    id: &PodId,
    node: &str,
    attempt: u32,
    logs: &Path,
    dns: &DnsDefaults,
    placeholders: bool,
) -> cri::PodSandboxConfig {
    let spec = pod::spec(pod);
    let on_host_network = pod::uses_host_network(spec);
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: id.name().to_owned(),
            uid: id.uid().to_owned(),
            namespace: id.namespace().to_owned(),
            attempt,
        }),
        // On the host's network the name is the host's, and runtimes refuse another.
        hostname: if on_host_network { String::new() } else { host_name(pod) },
        log_directory: logs.to_string_lossy().into_owned(),
        dns_config: Some(dns.for_pod(spec, id.namespace())),
        port_mappings: if on_host_network { Vec::new() } else { port_mappings(spec) },
        labels: labels::sandbox_labels(pod, id, node, placeholders),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(cri::LinuxPodSandboxConfig {
            security_context: Some(security::sandbox_context(spec)),
            sysctls: sysctls(spec),
            ..Default::default()
        }),
        windows: None,
    }
}

fn port_mappings(spec: &PodSpec) -> Vec<cri::PortMapping> {
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let mapped = ports.filter_map(|port| {
        let host_port = port.host_port.filter(|port| *port > 0)?;
        Some(cri::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp,
                Some("SCTP") => cri::Protocol::Sctp,
                _ => cri::Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port,
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
    });
    mapped.collect()
}

fn sysctls(spec: &PodSpec) -> HashMap<String, String> {
    let context = spec.security_context.as_ref();
    let sysctls = context.and_then(|context| context.sysctls.as_deref()).unwrap_or_default();
    sysctls.iter().map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(spec: serde_json::Value) -> cri::PodSandboxConfig {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}},
            "spec": spec,
        }))
        .expect("a pod");
        let id = PodId::of(&pod).expect("an identity");
        let mut dns =
            DnsDefaults::parse("# host\nnameserver 192.0.2.1\nsearch example.org\noptions edns0\n");
        dns.cluster_servers = vec![[10, 96, 0, 10].into()];
        dns.cluster_domain = "cluster.local".to_owned();
        sandbox_config(&pod, &id, "node", 1, Path::new("/logs"), &dns, false)
    }

    #[test]
    fn a_pod_on_the_host_network_sets_no_host_name_and_maps_no_ports() {
        let container = serde_json::json!({"name": "c", "ports": [
            {"containerPort": 80, "hostPort": 8080}]});
        let own = config(serde_json::json!({"containers": [container]}));
        assert_eq!((own.hostname.as_str(), own.port_mappings.len()), ("p", 1));
        let host = config(serde_json::json!({"containers": [container], "hostNetwork": true}));
        assert_eq!((host.hostname.as_str(), host.port_mappings.len()), ("", 0));
        assert_eq!(own.labels["io.kubernetes.pod.uid"], "u");
        assert_eq!(own.labels["app"], "x");
    }

    #[test]
    fn name_resolution_follows_the_policy() {
        let dns = |spec| config(spec).dns_config.expect("set");
        let cluster = dns(serde_json::json!({"containers": []}));
        assert_eq!(cluster.servers, ["10.96.0.10"]);
        assert_eq!(cluster.searches[0], "ns.svc.cluster.local");
        let host = dns(serde_json::json!({"containers": [], "hostNetwork": true}));
        assert_eq!(host.servers, ["192.0.2.1"]);
        assert_eq!(host.options, ["edns0"]);
        let own = dns(serde_json::json!({"containers": [], "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["198.51.100.1"], "options": [{"name": "ndots", "value": "2"}]}}));
        assert_eq!(
            (own.servers, own.options),
            (vec!["198.51.100.1".into()], vec!["ndots:2".into()])
        );
    }
}
