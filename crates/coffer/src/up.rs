//! `coffer up`: all parts on one machine, the kubelet and containerd as separate processes.
//!
//! Start order: first what fails fastest (rights, data directory, certificates, store, port), then the
//! runtime, then the clients of both. Stop order is the reverse: kubelet, scheduler and controllers before
//! the server that they report to, the store last. The parts share no state; they communicate through the
//! server's port and the runtime's socket only.
//!
//! The kubelet executes what users write into pods. It may crash because of that, be killed when memory
//! runs out, or fail again at each start. The server keeps serving, so that the pod can be deleted, and the
//! kubelet is restarted.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Error, Result, anyhow};
use coffer_api::condition::{self, ConditionType};
use coffer_containerd::{Containerd, Inherited, LogFilter, OciRuntime, Settings, mounts};
use coffer_kubelet::KubernetesService;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::child::{Child, State};
use crate::cli::UpOptions;
use crate::data_dir::DataDir;
use crate::parts::apiserver::ApiServer;
use crate::pki::Pki;
use crate::reach::Reach;
use crate::renewal::{KUBELET, OwnNode};
use crate::report::one_line;
use crate::{node_name, oom, parts, signals, signing};

/// The kubelet stops its pods with their own grace periods. A pod that it does not know, because the start
/// was interrupted, gets this grace period in seconds.
const GRACE_S: i64 = 30;
/// One machine: the server reaches the kubelet without a network.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long a kubelet may take to stop, in addition to the time that it announces for stopping its pods,
/// whose grace periods it knows. After that it is killed.
const KUBELET_STOP_MAX: Duration = Duration::from_secs(30);
/// How often the server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(20);
/// How often the log says what a start that takes long is waiting for.
const WARN_AFTER: Duration = Duration::from_secs(30);

/// The parameters of the parts.
struct Context<'a> {
    options: &'a UpOptions,
    data: &'a DataDir,
    node: &'a str,
    service: KubernetesService,
    /// The limits that this process was started with, for its child processes.
    inherited: Inherited,
    verbosity: u8,
}

/// Runs everything until a signal.
pub(crate) async fn run(options: UpOptions, verbosity: u8) -> Result<()> {
    parts::kubelet::require_root("coffer up")?;
    let node = node_name::resolve(options.node_name.as_deref())?;
    let data = DataDir::lock(&options.server.data_dir)?;
    let shutdown = signals::shutdown()?;
    let network = match &options.container_runtime_endpoint {
        Some(_) => None,
        None => Some(coffer_containerd::pod_network(data.path())?),
    };
    let reach = Reach::of(options.server.bind_address, options.server.advertise_address, network);
    check_kubelet(&options)?;
    let inherited = Inherited {
        open_files: coffer_net::descriptors::raise().inherited,
        oom_score_adj: Some(oom::protect()),
    };
    let own = OwnNode { name: node.clone(), addresses: vec![LOOPBACK] };
    let server = ApiServer::build(&options.server, &data, &reach, Some(own)).await?;

    let mut servers = Parts::default();
    let mut clients = Parts::default();
    let announcement = announcement(&server.url(), &node, &data.admin_kubeconfig());
    let context = Context {
        options: &options,
        data: &data,
        node: &node,
        service: reach.service(server.address()),
        inherited,
        verbosity,
    };
    servers.spawn("the API server", |stop| server.run(stop));
    let outcome = async {
        let ready = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            failure = servers.first_end() => return Err(failure),
            started = start_clients(&mut clients, &context) => started?,
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            failure = servers.first_end() => return Err(failure),
            failure = clients.first_end() => return Err(failure),
            ready = ready => ready?,
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

/// Starts the server's clients. The future that it returns waits until the node is ready for pods.
async fn start_clients<'a>(
    clients: &mut Parts,
    context: &Context<'a>,
) -> Result<impl Future<Output = Result<()>> + use<'a>> {
    let Context { options, data, node, .. } = *context;
    let endpoint = match &options.container_runtime_endpoint {
        Some(endpoint) => endpoint.clone(),
        None => start_containerd(clients, context).await?,
    };
    let (states, kubelet_state) = watch::channel(State::default());
    let kubelet = kubelet(context, endpoint)?;
    clients.spawn("the kubelet", |stop| async move {
        kubelet.run(states, stop).await;
        Ok(())
    });
    let client = parts::client(&data.kubeconfig("scheduler"), parts::Component::Scheduler).await?;
    clients.spawn("the scheduler", |stop| async move {
        Ok(coffer_controllers::scheduler(client).run(stop).await?)
    });
    let signer = signing::signer_in(&data.pki())?.lasting(options.server.signing.duration());
    let kubeconfig = data.kubeconfig("controller-manager");
    let controllers = parts::controllers(&kubeconfig, Some(signer)).await?;
    clients.spawn("the controllers", |stop| async move { Ok(controllers.run(stop).await?) });
    let client = parts::client(&data.admin_kubeconfig(), parts::Component::Coffer).await?;
    Ok(until_ready(client, node, kubelet_state))
}

async fn start_containerd(clients: &mut Parts, context: &Context<'_>) -> Result<String> {
    let Context { options, data, inherited, .. } = *context;
    let program = std::env::current_exe().context("cannot find this program's executable")?;
    let settings = Settings {
        data_dir: data.path().to_owned(),
        registry_mirrors: options.registry_mirror.clone(),
        oci_runtime: Some(OciRuntime {
            program: program.clone(),
            arguments: vec!["oci-runtime".into(), "--root-dir".into(), data.kubelet().into()],
        }),
        inherited,
        log_filter: Some(LogFilter { program, arguments: vec!["containerd-log".into()] }),
    };
    let mut containerd = Containerd::start(&settings).await?;
    let endpoint = containerd.endpoint();
    clients.spawn("containerd", |stop| async move {
        containerd.run(&stop).await;
        Ok(())
    });
    Ok(endpoint)
}

/// The kubelet, as a separate process: a pod that makes it crash does not affect the server.
fn kubelet(context: &Context<'_>, endpoint: String) -> Result<Child> {
    let Context { options, data, node, service, inherited, verbosity } = context;
    let UpOptions {
        server,
        container_runtime_endpoint,
        secret_placeholders,
        handlers,
        node_name: _,
        kubelet_port,
        registry_mirror: _,
        images,
        stop_pods_on_exit,
    } = options;
    let pki = Pki::open(&data.pki())?.lasting(server.signing.duration());
    let files = pki.kubelet_server(&data.pki(), node, &[LOOPBACK])?;
    let mut arguments: Vec<OsString> = vec!["kubelet".into()];
    let mut flag = |name: &str, value: &dyn AsRef<OsStr>| {
        let mut argument = OsString::from(name);
        argument.push("=");
        argument.push(value);
        arguments.push(argument);
    };
    flag("--kubeconfig", &data.kubeconfig(KUBELET));
    flag("--node-name", node);
    flag("--root-dir", &data.kubelet());
    flag("--container-runtime-endpoint", &endpoint);
    flag("--address", &LOOPBACK.to_string());
    flag("--node-ip", &LOOPBACK.to_string());
    flag("--port", &kubelet_port.to_string());
    flag("--tls-cert-file", &files.cert_path);
    flag("--tls-private-key-file", &files.key_path);
    flag("--client-ca-file", &pki.kubelet_client_ca_path());
    if let Some(score) = inherited.oom_score_adj {
        flag("--oom-score-adj", &score.to_string());
    }
    let services = [
        ("--kubernetes-service", &service.pods),
        ("--host-network-kubernetes-service", &service.host_network),
    ];
    for (name, service) in services {
        if let Some(service) = service {
            flag(name, &service.to_string());
        }
    }
    if *secret_placeholders || container_runtime_endpoint.is_none() {
        arguments.push("--secret-placeholders".into());
    }
    let own = container_runtime_endpoint.is_none().then_some(coffer_containerd::RUNTIME_HANDLER);
    arguments.extend(handlers.arguments(own));
    if *stop_pods_on_exit {
        arguments.push("--stop-pods-on-exit".into());
    }
    arguments.extend(images.arguments());
    arguments.extend((0..*verbosity).map(|_| "-v".into()));
    Ok(Child { name: "the kubelet", arguments, stop_max: KUBELET_STOP_MAX })
}

/// Checks early what a restart of the kubelet would not change.
fn check_kubelet(options: &UpOptions) -> Result<()> {
    let endpoint = options.container_runtime_endpoint.as_deref().unwrap_or("unix:///");
    coffer_kubelet::check(endpoint, &options.images.config())
        .context("the kubelet cannot start")?;
    let address = SocketAddr::new(LOOPBACK, options.kubelet_port);
    std::net::TcpListener::bind(address)
        .with_context(|| format!("the kubelet cannot start: cannot listen on {address}"))?;
    Ok(())
}

/// Stops Coffer's own containerd if pods stop with this process; otherwise it keeps running with them.
async fn end_containerd(options: &UpOptions, data: &DataDir) -> Result<()> {
    if options.stop_pods_on_exit && options.container_runtime_endpoint.is_none() {
        coffer_containerd::stop_with_pods(data.path(), GRACE_S).await?;
        // The kubelet has done so, unless the runtime was stuck. No process needs them any more.
        mounts::unmount_below(&data.kubelet())?;
    }
    Ok(())
}

async fn until_ready(client: Client, node: &str, kubelet: watch::Receiver<State>) -> Result<()> {
    let ready = async {
        // Until the kubelet is up, the Node object has the status of an earlier start.
        kubelet.clone().wait_for(|state| state.was_up).await.context("the kubelet ended")?;
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
        match timeout(WARN_AFTER, &mut ready).await {
            Ok(outcome) => return outcome,
            Err(_) => match kubelet.borrow().ended.as_deref() {
                Some(ended) => {
                    tracing::warn!(node, ended, "still waiting for the node: its kubelet ended");
                }
                None => tracing::warn!(node, "still waiting for the server and its node"),
            },
        }
    }
}

fn node_is_ready(node: Option<&Node>) -> bool {
    let conditions = node.and_then(|node| node.status.as_ref()?.conditions.as_deref());
    condition::is_true(conditions.unwrap_or_default(), ConditionType::Ready)
}

fn announcement(url: &str, node: &str, kubeconfig: &Path) -> String {
    format!("coffer is ready: {url}, node {node}, KUBECONFIG={}", kubeconfig.display())
}

/// Tasks that run until they are all stopped together.
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

    /// Waits until a part ends without being stopped, and returns how. Waits forever if there is no part.
    async fn first_end(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("{name} stopped unexpectedly"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            // Its message may quote anything; the log has where it was.
            Some(Err(_)) => anyhow!("a part of Coffer panicked"),
            None => std::future::pending().await,
        }
    }

    /// Stops all parts and waits until they have ended.
    async fn end(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(error))) => {
                    let error = one_line(&error);
                    tracing::error!(error, "{name} failed to stop");
                }
                Err(_) => tracing::error!("a part of Coffer panicked while stopping"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    #[tokio::test]
    async fn a_part_that_fails_is_named() {
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
