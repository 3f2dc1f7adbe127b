//! The kubelet alone: on a machine of its own, or one of several nodes on a machine.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coffer_kubelet::{
    Config, Kubelet, KubernetesService, OnExit, ServerConfig, ServiceAddress, StaticPodsConfig,
};
use tokio_util::sync::CancellationToken;

use crate::child;
use crate::cli::{FromUp, KubeletOptions};
use crate::join::Membership;
use crate::pki::{Credential, Pki};
use crate::{node_identity, node_name, oom, parts, reach, signals};

/// How often the serving certificate is checked. It is renewed when a fifth of its year is left.
const LOOK: Duration = Duration::from_secs(3600);

/// The kubelet alone, until a signal.
pub(crate) async fn run(options: KubeletOptions) -> Result<()> {
    require_root("coffer kubelet")?;
    coffer_net::descriptors::raise();
    if let Some(score) = options.oom_score_adj
        && let Err(error) = oom::set_score(score)
    {
        tracing::warn!(%error, score, "cannot set oom_score_adj");
    }
    let node = node_name::resolve(options.node_name.as_deref())?;
    let shutdown = signals::shutdown()?;
    let (server, serving) = server_config(&options, &node)?;
    let kubeconfig = &options.client.kubeconfig;
    let membership = match &options.bootstrap_kubeconfig {
        Some(bootstrap) => Some(Membership::enter(kubeconfig, bootstrap, &node).await?),
        None => None,
    };
    let client = parts::client(kubeconfig, parts::Component::Kubelet).await?;
    let identity = node_identity::check(client.clone(), node.clone(), shutdown.clone());
    let endpoint = options.container_runtime_endpoint;
    let mut config = Config::new(node, options.root_dir, endpoint, client, server);
    config.node_ip = Some(options.node_ip.unwrap_or(options.address))
        .filter(|address| !address.is_unspecified());
    config.kubernetes_service = match service(&options.from_up) {
        Some(service) => service,
        None => reach::by_kubeconfig(&parts::config(kubeconfig).await?),
    };
    config.max_pods = options.max_pods;
    config.images = options.images.config();
    let handlers = &options.handlers;
    config.secret_placeholders = options.secret_placeholders.then(|| handlers.placeholders());
    config.static_pods = StaticPodsConfig {
        manifest_path: options.pod_manifest_path,
        manifest_url: options.manifest_url,
    };
    // The credentials, and the control plane's directory where they lie in one.
    config.protected_paths = vec![kubeconfig.clone()];
    config.protected_paths.extend(options.bootstrap_kubeconfig);
    let data = pki_near(kubeconfig).and_then(|pki| pki.parent().map(Path::to_owned));
    config.protected_paths.extend(data);
    config.protected_paths.extend(options.tls.pki_dir);
    let kubelet = Kubelet::build(config).await.context("the kubelet cannot start")?;
    #[expect(clippy::print_stdout, reason = "the line that other programs wait for")]
    {
        println!("kubelet is ready: {}", kubelet.server_address());
    }
    let identity = Some(tokio::spawn(identity));
    let joined = membership.map(|it| tokio::spawn(it.renew_until(shutdown.clone())));
    let served = serving.map(|it| tokio::spawn(it.renew_until(shutdown.clone())));
    // For `coffer up`, which waits for that long. It may have ended.
    let ending = |limit| drop(writeln!(io::stdout(), "{}", child::ending(limit)));
    kubelet.run(shutdown, on_exit(options.stop_pods_on_exit), ending).await;
    for keeper in [identity, joined, served].into_iter().flatten() {
        keeper.await?;
    }
    Ok(())
}

/// Where pods find the API server, if `coffer up` has passed it on.
fn service(flags: &FromUp) -> Option<KubernetesService> {
    let address = |it: SocketAddr| ServiceAddress { host: it.ip().to_string(), port: it.port() };
    let (pods, host_network) = (flags.kubernetes_service, flags.host_network_kubernetes_service);
    let is_given = pods.is_some() || host_network.is_some();
    is_given.then(|| KubernetesService {
        pods: pods.map(address),
        host_network: host_network.map(address),
    })
}

/// What happens to the pods when the process ends.
pub(crate) fn on_exit(stop_pods: bool) -> OnExit {
    if stop_pods { OnExit::StopPods } else { OnExit::LeavePods }
}

/// A clear error before anything is changed, instead of a mount that fails with EPERM later.
pub(crate) fn require_root(program: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("{program} must run as root: it mounts volumes and starts containers");
    }
    Ok(())
}

fn server_config(options: &KubeletOptions, node: &str) -> Result<(ServerConfig, Option<Serving>)> {
    let address = SocketAddr::new(options.address, options.port);
    let tls = &options.tls;
    if let (Some(certificate), Some(key), Some(ca)) =
        (&tls.tls_cert_file, &tls.tls_private_key_file, &tls.client_ca_file)
    {
        let given = ServerConfig {
            address,
            tls_cert_file: certificate.clone(),
            tls_private_key_file: key.clone(),
            client_ca_file: ca.clone(),
        };
        return Ok((given, None));
    }
    let pki = match &tls.pki_dir {
        Some(directory) => directory.clone(),
        None => pki_near(&options.client.kubeconfig).context(
            "the kubeconfig's directory has no pki directory to create a serving certificate with; \
             give --tls-cert-file, --tls-private-key-file and --client-ca-file, or --pki-dir",
        )?,
    };
    let mut addresses = vec![options.address, SocketAddr::from(([127, 0, 0, 1], 0)).ip()];
    addresses.extend(options.node_ip);
    addresses.retain(|address| !address.is_unspecified());
    let directory = options.root_dir.join("pki");
    let serving = Serving { pki, directory, node: node.to_owned(), addresses };
    let (files, client_ca_file) = serving.make()?;
    let made = ServerConfig {
        address,
        tls_cert_file: files.cert_path,
        tls_private_key_file: files.key_path,
        client_ca_file,
    };
    Ok((made, Some(serving)))
}

/// A serving certificate that is created by the cluster's authorities on this machine.
struct Serving {
    pki: PathBuf,
    directory: PathBuf,
    node: String,
    addresses: Vec<IpAddr>,
}

impl Serving {
    /// The certificate, new or existing, and the file with the CA bundle for clients.
    fn make(&self) -> Result<(Credential, PathBuf)> {
        let pki = Pki::open(&self.pki)?;
        let files = pki.kubelet_server(&self.directory, &self.node, &self.addresses)?;
        Ok((files, pki.kubelet_client_ca_path().to_owned()))
    }

    /// Renews it before it expires, until `stop`. The server follows the files.
    async fn renew_until(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.make() {
                let error = crate::report::one_line(&error);
                tracing::error!(error, "cannot renew the serving certificate");
            }
        }
    }
}

/// The `pki` of the data directory that a kubeconfig lies in, as `DIR/admin.kubeconfig` or
/// `DIR/kubeconfig/PART.kubeconfig`.
pub(super) fn pki_near(kubeconfig: &Path) -> Option<PathBuf> {
    let kubeconfig = kubeconfig.canonicalize().ok()?;
    let above = kubeconfig.ancestors().skip(1).take(2);
    above.map(|directory| directory.join("pki")).find(|pki| pki.join("ca.key").exists())
}
