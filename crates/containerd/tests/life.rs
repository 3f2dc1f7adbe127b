//! A containerd of our own, from its start to its end, with a real pod in it.

use std::path::Path;

use coffer_containerd::{Containerd, Settings, mounts, stop_with_pods};
use coffer_testkit::{eventually, images};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ExecSyncRequest, ImageSpec,
    LinuxPodSandboxConfig, ListPodSandboxRequest, PodSandboxConfig, PodSandboxMetadata,
    PullImageRequest, RunPodSandboxRequest, StartContainerRequest,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Uri};

const BUSYBOX: &str = "docker.io/library/busybox:latest";

/// Ends what a failed test would leave.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("coffer-life-").tempdir().unwrap() }
    }

    fn settings(&self) -> Settings {
        Settings {
            data_dir: self.directory.path().to_owned(),
            registry_mirrors: Vec::new(),
            oci_runtime: None,
            inherited: Default::default(),
            log_filter: None,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let stop = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let _ = runtime.block_on(stop_with_pods(self.directory.path(), 0));
        };
        std::thread::scope(|scope| {
            scope.spawn(stop);
        });
    }
}

async fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://cri")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}

async fn run_pod(socket: &Path, name: &str) -> (RuntimeServiceClient<Channel>, String) {
    let mut client = RuntimeServiceClient::new(channel(socket).await);
    let sandbox = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..PodSandboxConfig::default()
    };
    let request =
        RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
    let pod_sandbox_id = client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: BUSYBOX.to_owned(), ..ImageSpec::default() }),
        command: vec!["sleep".to_owned(), "3600".to_owned()],
        ..ContainerConfig::default()
    };
    let request = CreateContainerRequest {
        pod_sandbox_id,
        config: Some(config),
        sandbox_config: Some(sandbox),
    };
    let container_id = client.create_container(request).await.unwrap().into_inner().container_id;
    let request = StartContainerRequest { container_id: container_id.clone() };
    client.start_container(request).await.unwrap();
    (client, container_id)
}

async fn exec(client: &mut RuntimeServiceClient<Channel>, container: &str, cmd: &[&str]) -> String {
    let request = ExecSyncRequest {
        container_id: container.to_owned(),
        cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
        timeout: 10,
    };
    let answer = client.exec_sync(request).await.unwrap().into_inner();
    assert_eq!(answer.exit_code, 0, "{}", String::from_utf8_lossy(&answer.stderr));
    String::from_utf8(answer.stdout).unwrap()
}

fn listener(socket: &Path) -> Pid {
    let stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    rustix::net::sockopt::socket_peercred(&stream).unwrap().pid
}

/// The whole promise: nothing of a Coffer is left but its data directory.
#[tokio::test]
async fn a_pod_runs_and_ending_all_leaves_neither_process_nor_mount_nor_bridge() {
    let machine = Machine::new();
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let containerd = Containerd::start(&machine.settings()).await.unwrap();
    containerd.import(&images::busybox().unwrap(), BUSYBOX).await.unwrap();
    let layout = containerd.layout().clone();
    let (mut client, container) = run_pod(&layout.socket(), "one").await;

    assert_eq!(exec(&mut client, &container, &["hostname"]).await, "one\n");
    // Whatever the umask of who started it, users of a container may enter it and share files.
    assert_eq!(exec(&mut client, &container, &["stat", "-c", "%a", "/"]).await, "755\n");
    assert_eq!(exec(&mut client, &container, &["sh", "-c", "umask"]).await, "0022\n");
    let addresses = exec(&mut client, &container, &["ip", "-o", "-4", "addr"]).await;
    assert!(addresses.contains("eth0    inet 10."), "{addresses}");
    // containerd's configuration of a container, including its environment, is in memory.
    let state = format!(" {} tmpfs ", layout.state().display());
    let mounted = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(mounted.contains(&state), "{mounted}");
    let daemon = listener(&layout.socket());

    stop_with_pods(machine.directory.path(), 0).await.unwrap();
    assert!(rustix::process::test_kill_process(daemon).is_err(), "the daemon lives");
    assert_eq!(mounts::below(machine.directory.path()).unwrap(), [] as [&Path; 0]);
    assert!(!layout.runtime().exists());
    let socket = layout.socket().into_os_string().into_encoded_bytes();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let names_it = command.windows(socket.len()).any(|window| window == socket);
        assert!(!names_it, "{}", String::from_utf8_lossy(&command));
    }
    let bridge = Path::new("/sys/class/net").join(format!("cof{}", layout.tag()));
    assert!(!bridge.exists());
}

/// The control plane may be restarted at any time; the second start must find the daemon and the
/// pods of the first.
#[tokio::test]
async fn a_second_start_adopts_the_daemon_and_its_pods() {
    let machine = Machine::new();
    let first = Containerd::start(&machine.settings()).await.unwrap();
    first.import(&images::busybox().unwrap(), BUSYBOX).await.unwrap();
    let socket = first.layout().socket();
    let (_, container) = run_pod(&socket, "lasting").await;
    let daemon = listener(&socket);
    drop(first);

    let _second = Containerd::start(&machine.settings()).await.unwrap();
    assert_eq!(listener(&socket), daemon);
    let mut client = RuntimeServiceClient::new(channel(&socket).await);
    assert_eq!(exec(&mut client, &container, &["hostname"]).await, "lasting\n");
}

#[tokio::test]
async fn a_killed_daemon_is_started_again_and_its_pods_do_not_notice() {
    let machine = Machine::new();
    let mut containerd = Containerd::start(&machine.settings()).await.unwrap();
    containerd.import(&images::busybox().unwrap(), BUSYBOX).await.unwrap();
    let socket = containerd.layout().socket();
    let (mut client, container) = run_pod(&socket, "steady").await;
    let started = exec(&mut client, &container, &["stat", "-c", "%Y", "/proc/1"]).await;

    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let supervisor = tokio::spawn(async move {
        containerd.run(&stop).await;
    });
    kill_process(listener(&socket), Signal::KILL).unwrap();
    eventually("containerd to respond again", async || {
        client.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await
    })
    .await;
    let still = exec(&mut client, &container, &["stat", "-c", "%Y", "/proc/1"]).await;
    assert_eq!(still, started);

    shutdown.cancel();
    supervisor.await.unwrap();
}

/// Both registries of the testkit, through the mirror's `hosts.toml` and by their own address.
#[tokio::test]
async fn images_come_from_a_mirror_under_the_name_of_the_registry_it_mirrors() {
    let machine = Machine::new();
    let registry = coffer_testkit::Registry::open().await.unwrap();
    registry.push(&images::busybox().unwrap(), "library/busybox", "latest").await.unwrap();
    let mut settings = machine.settings();
    settings.registry_mirrors = vec![registry.mirror_of("docker.io").parse().unwrap()];
    let containerd = Containerd::start(&settings).await.unwrap();
    let mut client = ImageServiceClient::new(channel(&containerd.layout().socket()).await);
    let image = ImageSpec { image: "busybox".to_owned(), ..ImageSpec::default() };
    let request = PullImageRequest { image: Some(image), ..PullImageRequest::default() };
    let answer = client.pull_image(request).await.unwrap().into_inner();
    assert!(answer.image_ref.starts_with("sha256:"), "{}", answer.image_ref);
}
