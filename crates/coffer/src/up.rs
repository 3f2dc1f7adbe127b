//! All parts in one process.
//!
//! Order of starting: what fails fastest first (rights, data directory, certificates, store, port),
//! then the runtime, then the clients of both. Order of ending is the reverse: kubelet, scheduler
//! and controllers before the server that they report to, the store last. The parts meet nowhere
//! but at the server's port and the runtime's socket.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use coffer_containerd::{Containerd, OciRuntime, Settings, mounts};
use coffer_kubelet::{Config, Kubelet, KubernetesService, ServerConfig};
use k8s_openapi::api::core::v1::Node;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cli::UpOptions;
use crate::data_dir::DataDir;
use crate::parts::apiserver::ApiServer;
use crate::pki::Pki;
use crate::reach::Reach;
use crate::renewal::{KUBELET, OwnNode};
use crate::{join, node_name, parts, signals};

/// The kubelet ends its pods with their own grace periods. One that it does not know, because the
/// start was cut short, gets this long.
const GRACE_S: i64 = 30;
/// One machine: the server reaches the kubelet without a network.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How often the server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(20);
/// How often the log says what a start that hangs is waiting for.
const COMPLAINT: Duration = Duration::from_secs(30);

/// Runs everything until a signal.
pub(crate) async fn run(options: UpOptions) -> Result<()> {
    parts::kubelet::require_root("coffer up")?;
    let node = node_name::resolve(options.node_name.as_deref())?;
    let data = DataDir::hold(&options.server.data_dir)?;
    let shutdown = signals::shutdown()?;
    let network = match &options.container_runtime_endpoint {
        Some(_) => None,
        None => Some(coffer_containerd::pod_network(data.path())?),
    };
    let reach = Reach::of(options.server.bind_address, options.server.advertise_address, network);
    let own = OwnNode { name: node.clone(), addresses: vec![LOOPBACK] };
    let server = ApiServer::build(&options.server, &data, &reach, Some(own)).await?;

    let mut servers = Parts::default();
    let mut clients = Parts::default();
    let service = reach.service(server.address());
    let announcement = announcement(&server.url(), &node, &data.admin_kubeconfig());
    servers.spawn("the API server", |stop| server.run(stop));
    let outcome = async {
        let start = start_clients(&mut clients, &options, &data, &node, service);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            failure = servers.first_end() => return Err(failure),
            started = start => started?,
        }
        #[expect(clippy::print_stdout, reason = "the line that other programs wait for")]
        {
            println!("{announcement}");
        }
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            failure = servers.first_end() => Err(failure),
            failure = clients.first_end() => Err(failure),
        }
    }
    .await;

    clients.end().await;
    let containerd = end_containerd(&options, &data).await;
    servers.end().await;
    outcome.and(containerd)
}

/// Starts what talks to the server, and waits until the node is ready for pods.
async fn start_clients(
    clients: &mut Parts,
    options: &UpOptions,
    data: &DataDir,
    node: &str,
    service: KubernetesService,
) -> Result<()> {
    let endpoint = match &options.container_runtime_endpoint {
        Some(endpoint) => endpoint.clone(),
        None => start_containerd(clients, options, data).await?,
    };
    let config = kubelet_config(options, data, node, endpoint).await?;
    start_kubelet(clients, options, Config { kubernetes_service: service, ..config }).await?;
    let client = parts::client(&data.kubeconfig("scheduler")).await?;
    clients.spawn("the scheduler", |stop| async move {
        coffer_controllers::scheduler::run(client, stop).await;
        Ok(())
    });
    let signer = join::signer_in(&data.pki())?.lasting(options.server.signing.duration());
    let kubeconfig = data.kubeconfig("controller-manager");
    let controllers = parts::controllers(&kubeconfig, Some(signer)).await?;
    clients.spawn("the controllers", |stop| async move {
        controllers.run(stop).await;
        Ok(())
    });
    until_ready(parts::client(&data.admin_kubeconfig()).await?, node).await
}

async fn start_containerd(
    clients: &mut Parts,
    options: &UpOptions,
    data: &DataDir,
) -> Result<String> {
    let settings = Settings {
        data_dir: data.path().to_owned(),
        registry_mirrors: options.registry_mirror.clone(),
        oci_runtime: Some(OciRuntime {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            arguments: vec!["oci-runtime".into(), "--root-dir".into(), data.kubelet().into()],
        }),
    };
    let mut containerd = Containerd::start(&settings).await?;
    let endpoint = containerd.endpoint();
    clients.spawn("containerd", |stop| async move {
        containerd.run(&stop).await;
        Ok(())
    });
    Ok(endpoint)
}

async fn kubelet_config(
    options: &UpOptions,
    data: &DataDir,
    node: &str,
    endpoint: String,
) -> Result<Config> {
    let pki = Pki::open(&data.pki())?.lasting(options.server.signing.duration());
    let address = SocketAddr::new(LOOPBACK, options.kubelet_port);
    let files = pki.kubelet_server(&data.pki(), node, &[LOOPBACK])?;
    let server = ServerConfig {
        address,
        tls_cert_file: files.cert_path,
        tls_private_key_file: files.key_path,
        client_ca_file: pki.kubelet_client_ca_path().to_owned(),
    };
    let client = parts::client(&data.kubeconfig(KUBELET)).await?;
    let mut config = Config::new(node, data.kubelet(), endpoint, client, server);
    config.node_ip = Some(LOOPBACK);
    config.protected_paths = vec![data.path().to_owned()];
    config.images = options.images.config();
    config.stand_ins = options.secret_stand_ins || options.container_runtime_endpoint.is_none();
    Ok(config)
}

async fn start_kubelet(clients: &mut Parts, options: &UpOptions, config: Config) -> Result<()> {
    let kubelet = Kubelet::build(config).await.context("the kubelet cannot start")?;
    let on_exit = parts::kubelet::on_exit(options.stop_pods_on_exit);
    clients.spawn("the kubelet", move |stop| async move {
        kubelet.run(stop, on_exit).await;
        Ok(())
    });
    Ok(())
}

/// Ends the containerd that is ours, if pods end with this process; else it lives on with them.
async fn end_containerd(options: &UpOptions, data: &DataDir) -> Result<()> {
    if options.stop_pods_on_exit && options.container_runtime_endpoint.is_none() {
        coffer_containerd::stop_with_pods(data.path(), GRACE_S).await?;
        // The kubelet has done so, unless the runtime was stuck: now nobody is left who needs them.
        mounts::unmount_below(&data.kubelet())?;
    }
    Ok(())
}

async fn until_ready(client: Client, node: &str) -> Result<()> {
    let ready = async {
        let readyz = || http::Request::get("/readyz").body(Vec::new());
        while client.request_text(readyz()?).await.is_err() {
            sleep(POLL).await;
        }
        let nodes: Api<Node> = Api::all(client);
        await_condition(nodes, node, node_is_ready).await.context("cannot watch the node")?;
        anyhow::Ok(())
    };
    tokio::pin!(ready);
    loop {
        match timeout(COMPLAINT, &mut ready).await {
            Ok(outcome) => return outcome,
            Err(_) => tracing::warn!(node, "still waiting for the server and its node"),
        }
    }
}

fn node_is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn announcement(url: &str, node: &str, kubeconfig: &Path) -> String {
    format!("coffer is ready: {url}, node {node}, KUBECONFIG={}", kubeconfig.display())
}

/// Tasks that are meant to run until they are told to stop, together.
#[derive(Default)]
struct Parts {
    tasks: JoinSet<(&'static str, Result<()>)>,
    stop: CancellationToken,
}

impl Parts {
    fn spawn<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let run = part(self.stop.clone());
        self.tasks.spawn(async move { (name, run.await) });
    }

    /// Waits for a part to end that nobody told to, and says how. Never, if there is none.
    async fn first_end(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(panic)) => Error::new(panic).context("a part of Coffer panicked"),
            None => std::future::pending().await,
        }
    }

    /// Tells all to stop and waits until they have.
    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(error))) => tracing::error!("{name} failed while ending: {error:#}"),
                Err(panic) => tracing::error!(%panic, "a part of Coffer panicked while ending"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[tokio::test]
    async fn a_part_that_ends_by_itself_is_named() {
        let mut parts = Parts::default();
        parts.spawn("the lasting part", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        parts.spawn("the failing part", |_| async { bail!("disk is full") });
        let failure = format!("{:#}", parts.first_end().await);
        assert_eq!(failure, "the failing part failed: disk is full");
        parts.end().await;
    }
}
