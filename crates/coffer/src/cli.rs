//! The command line. Flags copy upstream's names where upstream has the flag.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use coffer_containerd::RegistryMirror;
use coffer_kubelet::{ImagePullCredentialsVerificationPolicy, ImagesConfig, SecretPlaceholders};

/// A Kubernetes-compatible control plane and node agent, built around Secrets.
#[derive(Debug, Parser)]
#[command(name = "coffer", version, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// Say more on standard error: -v what happens, -vv also what each part does.
    #[arg(short = 'v', long = "verbose", action = ArgAction::Count, global = true)]
    pub(crate) verbosity: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run everything: API server, controllers, scheduler, kubelet, containerd.
    Up(UpOptions),
    /// Run the API server alone, with the store in its data directory.
    Apiserver(ApiserverOptions),
    /// Run the scheduler alone.
    Scheduler(ClientOptions),
    /// Run the controllers alone.
    ControllerManager(ControllerManagerOptions),
    /// Run a node's agent alone.
    Kubelet(KubeletOptions),
    /// Make a bootstrap token, and print the kubeconfig that a new node joins with.
    BootstrapKubeconfig(crate::join::BootstrapOptions),
    /// Exchange the key that tokens of service accounts are signed with.
    RotateTokenKey(crate::access::RotateOptions),
    /// Send manifests to the API server by server-side apply.
    Apply(crate::apply::ApplyOptions),
    /// Run in runc's place: put the values of Secrets in the place of their placeholders.
    OciRuntime(crate::oci_runtime::OciRuntimeOptions),
    /// Copy containerd's log from standard input to standard output, without what registries say.
    #[command(hide = true)]
    ContainerdLog,
}

#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) server: ApiserverOptions,
    /// A CRI runtime that is running, such as unix:///run/containerd/containerd.sock. Without it
    /// Coffer starts a containerd of its own below the data directory.
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) container_runtime_endpoint: Option<String>,
    /// The runtime calls `coffer oci-runtime` in runc's place: tell it placeholders for environment
    /// variables and arguments that come from Secrets, because it writes down what it is told. The
    /// containerd that Coffer starts itself always does.
    #[arg(long, alias = "secret-stand-ins", requires = "container_runtime_endpoint")]
    pub(crate) secret_placeholders: bool,
    #[command(flatten)]
    pub(crate) handlers: HandlerOptions,
    /// The node's name; the host's name in lower case if not given.
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The port for exec, attach, port-forward and logs; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    /// Ask the registry at URL first for images of HOST (docker.io for names without a host). May
    /// be repeated. For the containerd that Coffer starts itself.
    #[arg(
        long,
        value_name = "HOST=URL",
        action = ArgAction::Append,
        conflicts_with = "container_runtime_endpoint"
    )]
    pub(crate) registry_mirror: Vec<RegistryMirror>,
    #[command(flatten)]
    pub(crate) images: ImageOptions,
    /// At SIGTERM end the pods and the containerd that Coffer started, too. Else they live on, and
    /// the next start finds them.
    #[arg(long)]
    pub(crate) stop_pods_on_exit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApiserverOptions {
    /// Where all state is kept: store, keys, certificates, admin.kubeconfig.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/coffer")]
    pub(crate) data_dir: PathBuf,
    /// The port to serve HTTPS on; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub(crate) secure_port: u16,
    /// The address to serve HTTPS on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) bind_address: IpAddr,
    /// The address at which pods, and others that are not on this machine, reach the server. If not
    /// given: the one to serve on, if it leads to this machine from elsewhere; else, for pods on the
    /// network of the containerd that Coffer starts itself, this machine's address on that network.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Bytes that the store may hold, recent history included. Beyond it creates and updates that
    /// grow fail until something is deleted.
    #[arg(long, value_name = "BYTES", default_value_t = coffer_store::embedded::QUOTA_BYTES,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) quota_backend_bytes: u64,
    #[command(flatten)]
    pub(crate) access: crate::access::AccessOptions,
    #[command(flatten)]
    pub(crate) signing: SigningOptions,
}

/// How long certificates are good for. Those of the cluster's own parts are exchanged in time, while
/// they are in use.
#[derive(Clone, Debug, Args)]
pub(crate) struct SigningOptions {
    /// How long a certificate is good for, at most: 8760h, 90m, 30s.
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    cluster_signing_duration: time::Duration,
}

impl SigningOptions {
    pub(crate) fn duration(&self) -> time::Duration {
        self.cluster_signing_duration
    }
}

fn duration(text: &str) -> Result<time::Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    if !parsed.is_positive() || parsed > jiff::SignedDuration::from_hours(10 * 8760) {
        return Err("must be more than nothing, and no more than 87600h".to_owned());
    }
    Ok(time::Duration::new(parsed.as_secs(), parsed.subsec_nanos()))
}

#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    /// How to reach the API server.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerManagerOptions {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The authority that signs requests for clients' certificates; the cluster's own, if its `pki`
    /// directory is beside the kubeconfig. Without one, requests are approved and not signed.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub(crate) cluster_signing_cert_file: Option<PathBuf>,
    /// The key of that authority.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub(crate) cluster_signing_key_file: Option<PathBuf>,
    /// The authority that signs what kubelets serve with: another one than that of clients. Without
    /// one, where that of clients is given, such requests are not signed.
    #[arg(
        long,
        value_name = "FILE",
        requires_all = [
            "cluster_signing_kubelet_serving_key_file",
            "cluster_signing_cert_file",
        ]
    )]
    pub(crate) cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    /// The key of that authority.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_kubelet_serving_cert_file")]
    pub(crate) cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signing: SigningOptions,
}

#[derive(Debug, Args)]
pub(crate) struct KubeletOptions {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// Joins the cluster with this if the kubeconfig is not there, or its certificate has ended.
    /// With it, the node's certificate is exchanged in time.
    #[arg(long, value_name = "FILE")]
    pub(crate) bootstrap_kubeconfig: Option<PathBuf>,
    /// The node's name; the host's name in lower case if not given.
    #[arg(long, value_name = "NAME", visible_alias = "hostname-override")]
    pub(crate) node_name: Option<String>,
    /// Where volumes and logs of the node's pods are.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub(crate) root_dir: PathBuf,
    /// The CRI runtime to start containers with.
    #[arg(long, value_name = "ENDPOINT", default_value = "unix:///run/containerd/containerd.sock")]
    pub(crate) container_runtime_endpoint: String,
    /// The runtime calls `coffer oci-runtime` in runc's place: tell it placeholders for environment
    /// variables and arguments that come from Secrets, because it writes down what it is told.
    #[arg(long, alias = "secret-stand-ins")]
    pub(crate) secret_placeholders: bool,
    #[command(flatten)]
    pub(crate) handlers: HandlerOptions,
    /// The address to serve exec, attach, port-forward and logs on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
    /// The port to serve exec, attach, port-forward and logs on; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    pub(crate) port: u16,
    /// The address that the node says it has; the one to serve on if not given.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) node_ip: Option<IpAddr>,
    /// How many pods the node takes.
    #[arg(long, value_name = "NUMBER", default_value_t = coffer_kubelet::MAX_PODS_DEFAULT)]
    pub(crate) max_pods: u32,
    /// A directory with manifests of static pods, or one manifest.
    #[arg(long, value_name = "PATH")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// A URL to fetch manifests of static pods from.
    #[arg(long, value_name = "URL")]
    pub(crate) manifest_url: Option<String>,
    #[command(flatten)]
    pub(crate) images: ImageOptions,
    /// At SIGTERM end the node's pods, too. Else they live on, and the next start finds them.
    #[arg(long)]
    pub(crate) stop_pods_on_exit: bool,
    /// The oom_score_adj of this process, from -1000 (never killed when memory runs out) to 1000; as
    /// it was started if not given.
    #[arg(
        long,
        value_name = "SCORE",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-1000..=1000)
    )]
    pub(crate) oom_score_adj: Option<i32>,
    #[command(flatten)]
    pub(crate) tls: KubeletTls,
    #[command(flatten)]
    pub(crate) beside: BesideServer,
}

/// What `coffer up` tells the kubelet that it starts.
#[derive(Debug, Default, Args)]
pub(crate) struct BesideServer {
    /// The process that started this one, and that it ends with.
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent: Option<u32>,
    /// Where pods with a network of their own find the API server.
    #[arg(long, value_name = "ADDRESS:PORT", hide = true)]
    pub(crate) kubernetes_service: Option<SocketAddr>,
    /// Where pods on the host's network find the API server.
    #[arg(long, value_name = "ADDRESS:PORT", hide = true)]
    pub(crate) host_network_kubernetes_service: Option<SocketAddr>,
}

/// Pods with a `runtimeClassName`, where placeholders are in use.
#[derive(Clone, Debug, Args)]
pub(crate) struct HandlerOptions {
    /// With placeholders: a handler (of a RuntimeClass) that calls `coffer oci-runtime`, too, beside
    /// the one for pods without a class. May be repeated.
    #[arg(long, value_name = "HANDLER", action = ArgAction::Append, requires = "secret_placeholders")]
    pub(crate) secret_placeholder_handler: Vec<String>,
    /// With placeholders: tell handlers that do not call `coffer oci-runtime` the values themselves,
    /// which the runtime then writes to its disk. Without it such containers do not start.
    #[arg(long)]
    pub(crate) allow_secret_env_in_runtime: bool,
}

impl HandlerOptions {
    /// What the kubelet is told of a runtime with placeholders.
    pub(crate) fn placeholders(&self) -> SecretPlaceholders {
        let handlers = self.secret_placeholder_handler.iter().cloned();
        let mut placeholders = SecretPlaceholders::new(handlers);
        placeholders.dangerous_values_for_others = self.allow_secret_env_in_runtime;
        placeholders
    }

    /// The flags that these options come from, with `own` among the handlers.
    pub(crate) fn arguments(&self, own: Option<&str>) -> Vec<OsString> {
        let Self { secret_placeholder_handler, allow_secret_env_in_runtime } = self;
        let handlers = own.into_iter().chain(secret_placeholder_handler.iter().map(String::as_str));
        let handlers = handlers.map(|it| format!("--secret-placeholder-handler={it}").into());
        let mut arguments: Vec<OsString> = handlers.collect();
        if *allow_secret_env_in_runtime {
            arguments.push("--allow-secret-env-in-runtime".into());
        }
        arguments
    }
}

/// Where a node has credentials for images from, beside the pods' own secrets and the node's file
/// (`config.json` in the kubelet's root directory), and who is asked for them. The last two are
/// fields of upstream's configuration file.
#[derive(Debug, Args)]
pub(crate) struct ImageOptions {
    /// A file, or a directory of files, that says which credential provider plugins there are.
    #[arg(long, value_name = "PATH", requires = "image_credential_provider_bin_dir")]
    image_credential_provider_config: Option<PathBuf>,
    /// The directory that the credential provider plugins are in.
    #[arg(long, value_name = "DIR", requires = "image_credential_provider_config")]
    image_credential_provider_bin_dir: Option<PathBuf>,
    /// For which images that are on the node already a pod must have credentials: NeverVerify,
    /// NeverVerifyPreloadedImages (all that the kubelet has pulled), NeverVerifyAllowlistedImages
    /// or AlwaysVerify.
    #[arg(long, value_name = "POLICY", default_value = "NeverVerifyPreloadedImages")]
    image_pull_credentials_verification_policy: ImagePullCredentialsVerificationPolicy,
    /// An image without tag, or REGISTRY/PATH/*, that NeverVerifyAllowlistedImages lets pass. May be
    /// repeated.
    #[arg(long, value_name = "IMAGE", action = ArgAction::Append)]
    preloaded_images_verification_allowlist: Vec<String>,
}

impl ImageOptions {
    pub(crate) fn config(&self) -> ImagesConfig {
        let allowlist = &self.preloaded_images_verification_allowlist;
        ImagesConfig {
            credential_provider_config: self.image_credential_provider_config.clone(),
            credential_provider_bin_dir: self.image_credential_provider_bin_dir.clone(),
            verification_policy: self.image_pull_credentials_verification_policy.clone(),
            preloaded_images_verification_allowlist: allowlist.clone(),
        }
    }

    /// The flags that these options come from.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let Self {
            image_credential_provider_config,
            image_credential_provider_bin_dir,
            image_pull_credentials_verification_policy,
            preloaded_images_verification_allowlist,
        } = self;
        let mut arguments: Vec<OsString> = Vec::new();
        let paths = [
            ("--image-credential-provider-config", image_credential_provider_config),
            ("--image-credential-provider-bin-dir", image_credential_provider_bin_dir),
        ];
        for (flag, path) in paths {
            if let Some(path) = path {
                arguments.extend([flag.into(), path.into()]);
            }
        }
        arguments.extend([
            "--image-pull-credentials-verification-policy".into(),
            image_pull_credentials_verification_policy.to_string().into(),
        ]);
        for image in preloaded_images_verification_allowlist {
            let mut argument = OsString::from("--preloaded-images-verification-allowlist=");
            argument.push(image);
            arguments.push(argument);
        }
        arguments
    }
}

/// The kubelet's server has a certificate that the API server trusts, and trusts the API server's.
/// All three files are given, or they come from the cluster's authorities on this machine.
#[derive(Debug, Args)]
pub(crate) struct KubeletTls {
    /// The certificate to serve with.
    #[arg(long, value_name = "FILE", requires_all = ["tls_private_key_file", "client_ca_file"])]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// The key of the certificate to serve with.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// What must have signed the API server's certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// The cluster's `pki` directory, to make the three from; the one beside the kubeconfig if not
    /// given.
    #[arg(long, value_name = "DIR", conflicts_with = "tls_cert_file")]
    pub(crate) pki_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_mirror_for_somebody_elses_runtime_is_refused() {
        let line = ["coffer", "up", "--registry-mirror", "docker.io=http://a"];
        assert!(Arguments::try_parse_from(line).is_ok());
        let both = line.iter().copied().chain(["--container-runtime-endpoint", "unix:///x"]);
        assert!(Arguments::try_parse_from(both).is_err());
        let malformed = ["coffer", "up", "--registry-mirror", "docker.io"];
        let error = Arguments::try_parse_from(malformed).unwrap_err().to_string();
        assert!(error.contains("expected HOST=URL"), "{error}");
    }

    #[test]
    fn options_of_images_survive_the_way_to_the_kubelets_process() {
        let given = [
            "--image-credential-provider-config=/etc/a b.yaml",
            "--image-credential-provider-bin-dir=/usr/lib/p",
            "--image-pull-credentials-verification-policy=NeverVerifyAllowlistedImages",
            "--preloaded-images-verification-allowlist=docker.io/library/redis",
            "--preloaded-images-verification-allowlist=r.io/team/*",
        ];
        for flags in [&given[..], &[]] {
            let line = ["coffer", "up"].iter().chain(flags);
            let Verb::Up(up) = Arguments::try_parse_from(line).unwrap().verb else { panic!() };
            let line = ["coffer", "kubelet", "--kubeconfig", "x"].map(OsString::from);
            let line = line.into_iter().chain(up.images.arguments());
            let Verb::Kubelet(told) = Arguments::try_parse_from(line).unwrap().verb else {
                panic!()
            };
            assert_eq!(format!("{:?}", told.images), format!("{:?}", up.images));
        }
    }
}
