//! At which address pods find the API server.
//!
//! A server on loopback is nothing that a pod with a network of its own reaches. Where the network is
//! ours, too, the server then also listens at this machine's address on it, and that is what pods are
//! told. Where it is not, pods are told the server's own address if it has one that leads anywhere,
//! or the one given by `--advertise-address`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use coffer_apiserver::ClientNetwork;
use coffer_containerd::PodNetwork;
use coffer_kubelet::{KubernetesService, ServiceAddress};
use kube::Config;

/// How a server is reached from beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// A network at whose gateway the server listens, too.
    pub(crate) network: Option<ClientNetwork>,
    /// The address that pods with a network of their own are told.
    pub(crate) pods: Option<IpAddr>,
}

impl Reach {
    /// What follows from `--bind-address`, `--advertise-address` and the network of the pods, if it
    /// is one of our own.
    pub(crate) fn of(bind: IpAddr, advertise: Option<IpAddr>, network: Option<PodNetwork>) -> Self {
        let leads_somewhere = !bind.is_loopback() && !bind.is_unspecified();
        match (advertise, network) {
            (Some(address), _) => Self { network: None, pods: Some(address) },
            // Pods have addresses of version 4 only.
            (None, Some(own)) if !leads_somewhere || bind.is_ipv6() => {
                let network = ClientNetwork { address: own.gateway, prefix_bits: own.prefix_bits };
                // Whoever listens everywhere listens there.
                let network = (!bind.is_unspecified()).then_some(network);
                Self { network, pods: Some(own.gateway.into()) }
            }
            (None, _) => Self { network: None, pods: leads_somewhere.then_some(bind) },
        }
    }

    /// What the kubelet beside a server that clients on this machine reach at `local` tells pods.
    pub(crate) fn service(&self, local: SocketAddr) -> KubernetesService {
        let address = |ip: IpAddr| ServiceAddress { host: ip.to_string(), port: local.port() };
        KubernetesService { pods: self.pods.map(address), host_network: Some(address(local.ip())) }
    }
}

/// What a kubelet tells pods that knows the server by a kubeconfig only: the host in it, if it leads
/// anywhere from where they are.
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
    fn pods_are_told_an_address_that_leads_to_the_server() {
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
    fn a_kubeconfig_for_this_machine_only_is_for_pods_on_its_network_only() {
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
    fn a_server_that_listens_everywhere_is_reached_on_loopback() {
        let found = |text: &str| local(text.parse().unwrap()).to_string();
        assert_eq!(found("0.0.0.0:6443"), "127.0.0.1:6443");
        assert_eq!(found("[::]:6443"), "[::1]:6443");
        assert_eq!(found("10.1.2.3:7"), "10.1.2.3:7");
    }
}
