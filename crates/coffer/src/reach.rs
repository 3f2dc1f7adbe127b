//! The address at which pods reach the API server.
//!
//! Pods on the pod network cannot reach a server on loopback. If the network is Coffer's own, the server
//! also listens on this machine's address in it, and pods get that address. Otherwise pods get the server's
//! own address if other machines can reach it, or the one given by `--advertise-address`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use coffer_apiserver::ClientNetwork;
use coffer_containerd::PodNetwork;
use coffer_kubelet::{KubernetesService, ServiceAddress};
use kube::Config;

/// How pods on the server's machine reach it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// A network on whose gateway address the server also listens.
    pub(crate) network: Option<ClientNetwork>,
    /// The address for pods on the pod network.
    pub(crate) pods: Option<IpAddr>,
}

impl Reach {
    /// Determined by `--bind-address`, `--advertise-address` and the pod network, if it is Coffer's own.
    pub(crate) fn of(bind: IpAddr, advertise: Option<IpAddr>, network: Option<PodNetwork>) -> Self {
        let is_reachable = !bind.is_loopback() && !bind.is_unspecified();
        match (advertise, network) {
            (Some(address), _) => Self { network: None, pods: Some(address) },
            // Pods have IPv4 addresses only.
            (None, Some(own)) if !is_reachable || bind.is_ipv6() => {
                let network = ClientNetwork { address: own.gateway, prefix_bits: own.prefix_bits };
                // A server that listens on all addresses listens there, too.
                let network = (!bind.is_unspecified()).then_some(network);
                Self { network, pods: Some(own.gateway.into()) }
            }
            (None, _) => Self { network: None, pods: is_reachable.then_some(bind) },
        }
    }

    /// The addresses that the kubelet on the server's machine gives to pods. Clients on this machine reach
    /// the server at `local`.
    pub(crate) fn service(&self, local: SocketAddr) -> KubernetesService {
        let address = |ip: IpAddr| ServiceAddress { host: ip.to_string(), port: local.port() };
        KubernetesService { pods: self.pods.map(address), host_network: Some(address(local.ip())) }
    }
}

/// The addresses that a kubelet with only a kubeconfig gives to pods: the host in it, if pods can reach it.
pub(crate) fn by_kubeconfig(config: &Config) -> KubernetesService {
    let url = &config.cluster_url;
    let port = url.port_u16().unwrap_or(443);
    let Some(host) = url.host() else { return KubernetesService::default() };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = ServiceAddress { host: host.to_owned(), port };
    let is_loopback = match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host == "localhost",
    };
    KubernetesService { pods: (!is_loopback).then(|| address.clone()), host_network: Some(address) }
}

/// The address at which clients on this machine reach a server that listens at `address`.
pub(crate) fn local(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: PodNetwork = PodNetwork { gateway: Ipv4Addr::new(10, 128, 3, 1), prefix_bits: 24 };

    #[test]
    fn pods_get_an_address_at_which_they_reach_the_server() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for (bind, advertise, network, pods, listens) in [
            ("127.0.0.1", None, Some(OWN), ip("10.128.3.1"), true),
            ("::1", None, Some(OWN), ip("10.128.3.1"), true),
            ("0.0.0.0", None, Some(OWN), ip("10.128.3.1"), false),
            ("192.0.2.7", None, Some(OWN), ip("192.0.2.7"), false),
            ("2001:db8::7", None, Some(OWN), ip("10.128.3.1"), true),
            ("127.0.0.1", Some("192.0.2.9"), Some(OWN), ip("192.0.2.9"), false),
            ("127.0.0.1", None, None, None, false),
            ("0.0.0.0", None, None, None, false),
            ("192.0.2.7", None, None, ip("192.0.2.7"), false),
            ("0.0.0.0", Some("192.0.2.9"), None, ip("192.0.2.9"), false),
        ] {
            let advertise = advertise.map(|it| it.parse().unwrap());
            let reach = Reach::of(bind.parse().unwrap(), advertise, network);
            assert_eq!(
                (reach.pods, reach.network.is_some()),
                (pods, listens),
                "{bind} {advertise:?}"
            );
        }
    }

    #[test]
    fn a_loopback_kubeconfig_is_only_for_pods_on_the_hosts_network() {
        let found = |url: &str| {
            let service = by_kubeconfig(&Config::new(url.parse().unwrap()));
            let shown = |it: ServiceAddress| format!("{} {}", it.host, it.port);
            (service.pods.map(shown), service.host_network.map(shown))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found("https://127.0.0.1:6443"), (None, some("127.0.0.1 6443")));
        assert_eq!(found("https://localhost:6443"), (None, some("localhost 6443")));
        let everywhere = some("2001:db8::7 443");
        assert_eq!(found("https://[2001:db8::7]"), (everywhere.clone(), everywhere));
        let named = some("api.example.org 6443");
        assert_eq!(found("https://api.example.org:6443/"), (named.clone(), named));
    }

    #[test]
    fn a_server_that_listens_on_all_addresses_is_reached_on_loopback() {
        let found = |text: &str| local(text.parse().unwrap()).to_string();
        assert_eq!(found("0.0.0.0:6443"), "127.0.0.1:6443");
        assert_eq!(found("[::]:6443"), "[::1]:6443");
        assert_eq!(found("10.1.2.3:7"), "10.1.2.3:7");
    }
}
