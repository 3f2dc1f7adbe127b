//! Settings of a kubelet.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use crate::image::ImagesConfig;

/// The port of upstream's kubelet.
pub const SERVER_PORT_DEFAULT: u16 = 10250;
/// How many pods a node takes where nothing else is said. Upstream says 110, with larger machines
/// and a network of 256 addresses per node in mind; the limit here is the network alone.
pub const MAX_PODS_DEFAULT: u32 = 250;

/// Settings of a [`Kubelet`](crate::Kubelet).
#[derive(Clone)]
pub struct Config {
    /// The node's name; also what its pods are labelled with in the runtime.
    pub node_name: String,
    /// Where volumes and logs are; one kubelet at a time uses it.
    pub root_dir: PathBuf,
    /// The runtime's socket: `unix:///run/containerd/containerd.sock`.
    pub container_runtime_endpoint: String,
    /// How to reach the API server.
    pub client: kube::Client,
    /// The HTTPS server for exec, attach, port-forward and logs.
    pub server: ServerConfig,
    /// The address that the node is reached at; the one that leads to the network where absent.
    pub node_ip: Option<IpAddr>,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// Labels of the node in addition to the usual ones.
    pub node_labels: Vec<(String, String)>,
    /// Name servers for pods with `dnsPolicy: ClusterFirst`; without any, pods get the host's.
    pub cluster_dns: Vec<IpAddr>,
    /// The domain of the cluster's services.
    pub cluster_domain: String,
    /// Where containers find the API server (`KUBERNETES_SERVICE_HOST` and `_PORT`), if they can.
    pub kubernetes_service: KubernetesService,
    /// Pods that come from elsewhere than the API server.
    pub static_pods: StaticPodsConfig,
    /// Credentials for images, and who is asked for them.
    pub images: ImagesConfig,
    /// The runtime runs containers by [`OciRuntime`](crate::OciRuntime): it gets placeholders for
    /// the environment variables and arguments that come from Secrets. `None` for a runtime that does
    /// not, and so gets the values.
    pub secret_placeholders: Option<SecretPlaceholders>,
    /// What no `hostPath` reaches of pods whose writers may not, in addition to what this kubelet knows
    /// itself (its root directory, the runtime's socket) and what every node has.
    pub protected_paths: Vec<PathBuf>,
}

/// Where static pods come from.
#[derive(Clone, Debug, Default)]
pub struct StaticPodsConfig {
    /// A directory with manifests, or one manifest (`--pod-manifest-path`).
    pub manifest_path: Option<PathBuf>,
    /// Where manifests are fetched from (`--manifest-url`).
    pub manifest_url: Option<String>,
}

/// Which handlers of the runtime put values where placeholders are. Containers of another would
/// see the placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPlaceholders {
    /// Names of handlers, as RuntimeClasses have them; the empty one is for pods without a class.
    pub handlers: Vec<String>,
    /// Containers of other handlers get the values, which the runtime then writes to its disk.
    /// Without it they do not start.
    pub dangerous_values_for_others: bool,
}

impl SecretPlaceholders {
    /// Those of a runtime that calls [`OciRuntime`](crate::OciRuntime) for the usual handler, and for
    /// `handlers`.
    pub fn new(handlers: impl IntoIterator<Item = String>) -> Self {
        let handlers = std::iter::once(String::new()).chain(handlers).collect();
        Self { handlers, dangerous_values_for_others: false }
    }

    pub(crate) fn are_for(&self, handler: &str) -> bool {
        self.handlers.iter().any(|known| known == handler)
    }

    /// Whether containers of this handler may get values.
    pub(crate) fn may_get_values(&self, handler: &str) -> bool {
        // One with placeholders is asked about for a sandbox from before them.
        self.are_for(handler) || self.dangerous_values_for_others
    }
}

/// Where containers find the API server. Pods on the host's network are distinguished because they
/// reach what only the machine itself does, and may be started before the pods' network is there.
#[derive(Clone, Debug, Default)]
pub struct KubernetesService {
    /// For pods with a network of their own.
    pub pods: Option<ServiceAddress>,
    /// For pods on the host's network.
    pub host_network: Option<ServiceAddress>,
}

/// A host, by address or by name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// An IP address without brackets, or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Settings of the kubelet's own HTTPS server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one, which the Node object then shows.
    pub address: SocketAddr,
    /// PEM file with the serving certificate and what signed it.
    pub tls_cert_file: PathBuf,
    /// PEM file with the key for it.
    pub tls_private_key_file: PathBuf,
    /// PEM file with the CA whose certificates may talk to this server. Of those only the API
    /// server's, named `kube-apiserver-kubelet-client`, may.
    pub client_ca_file: PathBuf,
}

/// As in a URL: an address of version 6 is in brackets.
impl std::fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl Config {
    /// Settings with upstream's defaults for all that is not asked for here.
    pub fn new(
        node_name: impl Into<String>,
        root_dir: impl Into<PathBuf>,
        container_runtime_endpoint: impl Into<String>,
        client: kube::Client,
        server: ServerConfig,
    ) -> Self {
        Self {
            node_name: node_name.into(),
            root_dir: root_dir.into(),
            container_runtime_endpoint: container_runtime_endpoint.into(),
            client,
            server,
            node_ip: None,
            max_pods: MAX_PODS_DEFAULT,
            node_labels: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            kubernetes_service: KubernetesService::default(),
            static_pods: StaticPodsConfig::default(),
            images: ImagesConfig::default(),
            secret_placeholders: None,
            protected_paths: Vec::new(),
        }
    }
}

/// The address from which this machine would speak to the network. Nothing is sent.
pub(crate) fn outward_ip() -> IpAddr {
    const SOMEWHERE: (&str, u16) = ("192.0.2.1", 9);
    let local = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(SOMEWHERE)?;
        socket.local_addr()
    };
    // A machine without a route speaks to itself.
    local().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
}

/// The variables by which programs in containers find the API server.
pub(crate) fn service_variables(service: Option<&ServiceAddress>) -> Vec<(String, String)> {
    let Some(address @ ServiceAddress { host, port }) = service else { return Vec::new() };
    let url = format!("tcp://{address}");
    let variables = [
        ("KUBERNETES_SERVICE_HOST".to_owned(), host.clone()),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS".to_owned(), port.to_string()),
        ("KUBERNETES_PORT".to_owned(), url.clone()),
        (format!("KUBERNETES_PORT_{port}_TCP"), url),
        (format!("KUBERNETES_PORT_{port}_TCP_PROTO"), "tcp".to_owned()),
        (format!("KUBERNETES_PORT_{port}_TCP_PORT"), port.to_string()),
        (format!("KUBERNETES_PORT_{port}_TCP_ADDR"), host.clone()),
    ];
    variables.into()
}
