//! All parts in one process.
//!
//! Order of starting: what fails fastest first (rights, data directory, certificates, store, port),
//! then the runtime, then the clients of both. Order of ending is the reverse: kubelet, scheduler
//! and controllers before the server that they report to, the store last. The parts meet nowhere
//! but at the server's port and the runtime's socket.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use coffer_containerd::{Containerd, Settings};
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
use crate::{parts, signals};

/// Time for a container between SIGTERM and SIGKILL when pods end with this process: the default
/// of a pod's own `terminationGracePeriodSeconds`.
const GRACE_S: i64 = 30;
/// How often the server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(20);
/// How often the log says what a start that hangs is waiting for.
const COMPLAINT: Duration = Duration::from_secs(30);

/// Runs everything until a signal.
pub(crate) async fn run(options: UpOptions) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("coffer up must run as root: it mounts volumes and starts containers");
    }
    let node = node_name(options.node_name.as_deref())?;
    let data = DataDir::hold(&options.server.data_dir)?;
    let shutdown = signals::shutdown()?;
    let pki = Pki::open(&data.pki())?;
    let server = ApiServer::build(&options.server, &data, &pki).await?;
    server.write_kubeconfigs(&data, &pki)?;

    let mut servers = Parts::default();
    let mut clients = Parts::default();
    let announcement = announcement(server.url(), &node, &data.admin_kubeconfig());
    servers.spawn("the API server", |stop| server.run(stop));
    let outcome = async {
        let start = start_clients(&mut clients, &options, &data, &node);
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
    let pods = end_pods(&options, &data).await;
    servers.end().await;
    outcome.and(pods)
}

/// Starts what talks to the server, and waits until the node is ready for pods.
async fn start_clients(
    clients: &mut Parts,
    options: &UpOptions,
    data: &DataDir,
    node: &str,
) -> Result<()> {
    let _endpoint = match &options.container_runtime_endpoint {
        Some(endpoint) => endpoint.clone(),
        None => start_containerd(clients, options, data).await?,
    };
    let client = parts::client(&data.kubeconfig("scheduler")).await?;
    clients.spawn("the scheduler", |stop| async move {
        coffer_controllers::scheduler::run(client, stop).await;
        Ok(())
    });
    let client = parts::client(&data.kubeconfig("controller-manager")).await?;
    clients.spawn("the controllers", |stop| async move {
        parts::controllers(client).run(stop).await;
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
    };
    let mut containerd = Containerd::start(&settings).await?;
    let endpoint = containerd.endpoint();
    clients.spawn("containerd", |stop| async move {
        containerd.run(&stop).await;
        Ok(())
    });
    Ok(endpoint)
}

/// Ends the pods if that was asked for; else they live on for the next start.
async fn end_pods(options: &UpOptions, data: &DataDir) -> Result<()> {
    if !options.stop_pods_on_exit {
        return Ok(());
    }
    if options.container_runtime_endpoint.is_none() {
        coffer_containerd::stop_with_pods(data.path(), GRACE_S).await?;
    }
    coffer_containerd::mounts::unmount_below(&data.kubelet())?;
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

/// The name asked for, or the host's as upstream's kubelet takes it: in lower case.
fn node_name(asked: Option<&str>) -> Result<String> {
    let host = rustix::system::uname();
    let name = match asked {
        Some(name) => name.to_owned(),
        None => host.nodename().to_string_lossy().trim().to_lowercase(),
    };
    let problems = coffer_api::names::dns1123_subdomain(&name);
    match problems.first() {
        Some(problem) => {
            Err(anyhow!("{name:?} cannot be a node's name: {problem}; see --node-name"))
        }
        None => Ok(name),
    }
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

    #[test]
    fn a_host_name_that_no_node_may_have_is_told_with_the_way_out() {
        assert_eq!(node_name(Some("node-1.example")).unwrap(), "node-1.example");
        let error = node_name(Some("Node_1")).unwrap_err().to_string();
        assert!(error.contains("--node-name"), "{error}");
    }

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
