//! The command line. Flags have Kubernetes' names where Kubernetes has the flag.

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
    /// Increase log verbosity: -v for info, -vv for debug. The log goes to standard error.
    #[arg(short = 'v', long = "verbose", action = ArgAction::Count, global = true)]
    pub(crate) verbosity: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run all parts on this machine: API server, controllers, scheduler, kubelet, containerd.
    Up(UpOptions),
    /// Run only the API server, with the store in its data directory.
    Apiserver(ApiserverOptions),
    /// Run only the scheduler.
    Scheduler(ClientOptions),
    /// Run only the controllers.
    ControllerManager(ControllerManagerOptions),
    /// Run only the kubelet, the agent of a node.
    Kubelet(KubeletOptions),
    /// Create a bootstrap token, and print a kubeconfig with it for a new node.
    BootstrapKubeconfig(crate::bootstrap::BootstrapOptions),
    /// Rotate the key that signs service account tokens.
    RotateTokenKey(crate::token_keys::RotateOptions),
    /// Apply manifests with server-side apply.
    Apply(crate::apply::ApplyOptions),
    /// Run an OCI runtime (runc), replacing placeholders by the values of Secrets.
    OciRuntime(crate::oci_runtime::OciRuntimeOptions),
    /// Copy containerd's log from standard input to standard output, without registries' responses.
    #[command(hide = true)]
    ContainerdLog,
}

#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) server: ApiserverOptions,
    /// The endpoint of a running CRI runtime, such as unix:///run/containerd/containerd.sock. By
    /// default Coffer starts its own containerd, with its state below the data directory.
    #[arg(long, value_name = "ENDPOINT")]
    pub(crate) container_runtime_endpoint: Option<String>,
    /// Send the runtime placeholders instead of the values of environment variables and arguments
    /// that come from Secrets, because it stores them on disk. The runtime must be configured to call
    /// `coffer oci-runtime` instead of runc. Always on for the containerd that Coffer starts.
    #[arg(long, alias = "secret-stand-ins", requires = "container_runtime_endpoint")]
    pub(crate) secret_placeholders: bool,
    #[command(flatten)]
    pub(crate) handlers: HandlerOptions,
    /// The name of the node. The default is the host name in lower case.
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The kubelet's port, for exec, attach, port-forward and logs; 0 selects a free port.
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    pub(crate) kubelet_port: u16,
    /// Use the registry at URL as a mirror of HOST (docker.io for image names without a host). May be
    /// repeated. Only for the containerd that Coffer starts.
    #[arg(
        long,
        value_name = "HOST=URL",
        action = ArgAction::Append,
        conflicts_with = "container_runtime_endpoint"
    )]
    pub(crate) registry_mirror: Vec<RegistryMirror>,
    #[command(flatten)]
    pub(crate) images: ImageOptions,
    /// Stop all pods and the containerd that Coffer started on SIGTERM. By default they keep running,
    /// and the next start finds them.
    #[arg(long)]
    pub(crate) stop_pods_on_exit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApiserverOptions {
    /// The directory for all state: store, keys, certificates, admin.kubeconfig.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/coffer")]
    pub(crate) data_dir: PathBuf,
    /// The port to serve HTTPS on; 0 selects a free port.
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub(crate) secure_port: u16,
    /// The address to serve HTTPS on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) bind_address: IpAddr,
    /// The address at which pods and other machines reach the server. The default is --bind-address if
    /// other machines can reach it; otherwise, for pods on the network of the containerd that Coffer
    /// starts, this machine's address on that network.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Maximum size of the store in bytes, recent history included. When it is exceeded, creates and
    /// updates that grow are rejected until objects are deleted.
    #[arg(long, value_name = "BYTES", default_value_t = coffer_store::embedded::QUOTA_BYTES,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) quota_backend_bytes: u64,
    #[command(flatten)]
    pub(crate) access: crate::access::AccessOptions,
    #[command(flatten)]
    pub(crate) signing: SigningOptions,
}

/// The lifetime of certificates. Those of the cluster's own parts are renewed before they expire.
#[derive(Clone, Debug, Args)]
pub(crate) struct SigningOptions {
    /// Maximum lifetime of a signed certificate, such as 8760h, 90m or 30s.
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
        return Err("must be greater than 0 and at most 87600h".to_owned());
    }
    Ok(time::Duration::new(parsed.as_secs(), parsed.subsec_nanos()))
}

#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    /// The kubeconfig to reach the API server with.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerManagerOptions {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The CA certificate (PEM) to sign client certificates with. The default is the cluster's own, if its
    /// `pki` directory is in the same directory as the kubeconfig or its parent. Without one, certificate
    /// signing requests are approved but not signed.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub(crate) cluster_signing_cert_file: Option<PathBuf>,
    /// The private key (PEM) of the CA for client certificates.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub(crate) cluster_signing_key_file: Option<PathBuf>,
    /// The CA certificate (PEM) to sign kubelet serving certificates with; not the one for client
    /// certificates. If only the latter is given, requests for serving certificates are not signed.
    #[arg(
        long,
        value_name = "FILE",
        requires_all = [
            "cluster_signing_kubelet_serving_key_file",
            "cluster_signing_cert_file",
        ]
    )]
    pub(crate) cluster_signing_kubelet_serving_cert_file: Option<PathBuf>,
    /// The private key (PEM) of the CA for kubelet serving certificates.
    #[arg(long, value_name = "FILE", requires = "cluster_signing_kubelet_serving_cert_file")]
    pub(crate) cluster_signing_kubelet_serving_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signing: SigningOptions,
}

#[derive(Debug, Args)]
pub(crate) struct KubeletOptions {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The kubeconfig to join the cluster with if --kubeconfig does not exist or its certificate has
    /// expired. With this flag the kubelet renews its client certificate before it expires.
    #[arg(long, value_name = "FILE")]
    pub(crate) bootstrap_kubeconfig: Option<PathBuf>,
    /// The name of the node. The default is the host name in lower case.
    #[arg(long, value_name = "NAME", visible_alias = "hostname-override")]
    pub(crate) node_name: Option<String>,
    /// The directory for volumes and logs of the node's pods.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub(crate) root_dir: PathBuf,
    /// The endpoint of the CRI runtime.
    #[arg(long, value_name = "ENDPOINT", default_value = "unix:///run/containerd/containerd.sock")]
    pub(crate) container_runtime_endpoint: String,
    /// Send the runtime placeholders instead of the values of environment variables and arguments
    /// that come from Secrets, because it stores them on disk. The runtime must be configured to call
    /// `coffer oci-runtime` instead of runc.
    #[arg(long, alias = "secret-stand-ins")]
    pub(crate) secret_placeholders: bool,
    #[command(flatten)]
    pub(crate) handlers: HandlerOptions,
    /// The address to serve exec, attach, port-forward and logs on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
    /// The port to serve exec, attach, port-forward and logs on; 0 selects a free port.
    #[arg(long, value_name = "PORT", default_value_t = 10250)]
    pub(crate) port: u16,
    /// The node's IP address in its status. The default is --address.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) node_ip: Option<IpAddr>,
    /// Maximum number of pods on the node.
    #[arg(long, value_name = "NUMBER", default_value_t = coffer_kubelet::MAX_PODS_DEFAULT)]
    pub(crate) max_pods: u32,
    /// A directory with static pod manifests, or a single manifest.
    #[arg(long, value_name = "PATH")]
    pub(crate) pod_manifest_path: Option<PathBuf>,
    /// A URL to fetch static pod manifests from.
    #[arg(long, value_name = "URL")]
    pub(crate) manifest_url: Option<String>,
    #[command(flatten)]
    pub(crate) images: ImageOptions,
    /// Stop all pods of the node on SIGTERM. By default they keep running, and the next start finds
    /// them.
    #[arg(long)]
    pub(crate) stop_pods_on_exit: bool,
    /// The oom_score_adj of this process, from -1000 (never killed when memory runs out) to 1000. The
    /// default is to leave it unchanged.
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
    pub(crate) from_up: FromUp,
}

/// Hidden flags that `coffer up` passes to the kubelet that it starts.
#[derive(Debug, Default, Args)]
pub(crate) struct FromUp {
    /// The PID of the parent process; this process ends with it.
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent: Option<u32>,
    /// The address of the API server for pods on the pod network.
    #[arg(long, value_name = "ADDRESS:PORT", hide = true)]
    pub(crate) kubernetes_service: Option<SocketAddr>,
    /// The address of the API server for pods on the host's network.
    #[arg(long, value_name = "ADDRESS:PORT", hide = true)]
    pub(crate) host_network_kubernetes_service: Option<SocketAddr>,
}

/// Placeholders for pods with a `runtimeClassName`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HandlerOptions {
    /// A handler of a RuntimeClass that also calls `coffer oci-runtime`, in addition to the default
    /// handler. May be repeated.
    #[arg(long, value_name = "HANDLER", action = ArgAction::Append, requires = "secret_placeholders")]
    pub(crate) secret_placeholder_handler: Vec<String>,
    /// With --secret-placeholders, start containers with Secrets in their environment also under handlers
    /// that do not call `coffer oci-runtime`. The runtime then stores the values on disk. By default such
    /// containers do not start.
    #[arg(long)]
    pub(crate) allow_secret_env_in_runtime: bool,
}

impl HandlerOptions {
    /// The kubelet's options for a runtime with placeholders.
    pub(crate) fn placeholders(&self) -> SecretPlaceholders {
        let handlers = self.secret_placeholder_handler.iter().cloned();
        let mut placeholders = SecretPlaceholders::new(handlers);
        placeholders.dangerous_values_for_others = self.allow_secret_env_in_runtime;
        placeholders
    }

    /// These options as flags, with `own` added to the handlers.
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

/// Sources of a node's image credentials, in addition to the pods' own secrets and the node's file
/// (`config.json` in the kubelet's root directory), and which pods need credentials. The last two are
/// fields of upstream's configuration file.
#[derive(Debug, Args)]
pub(crate) struct ImageOptions {
    /// The credential provider configuration: a file or a directory of files.
    #[arg(long, value_name = "PATH", requires = "image_credential_provider_bin_dir")]
    image_credential_provider_config: Option<PathBuf>,
    /// The directory of the credential provider plugins.
    #[arg(long, value_name = "DIR", requires = "image_credential_provider_config")]
    image_credential_provider_bin_dir: Option<PathBuf>,
    /// Whether a pod needs credentials for an image that is already on the node: NeverVerify,
    /// NeverVerifyPreloadedImages (verify images that the kubelet pulled), NeverVerifyAllowlistedImages or
    /// AlwaysVerify.
    #[arg(long, value_name = "POLICY", default_value = "NeverVerifyPreloadedImages")]
    image_pull_credentials_verification_policy: ImagePullCredentialsVerificationPolicy,
    /// An image without tag, or REGISTRY/PATH/*, that NeverVerifyAllowlistedImages does not verify. May be
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

    /// These options as flags.
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

/// Certificates of the kubelet's server: either all three files, or the cluster's certificate authorities
/// on this machine.
#[derive(Debug, Args)]
pub(crate) struct KubeletTls {
    /// The serving certificate (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["tls_private_key_file", "client_ca_file"])]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// The private key (PEM) of the serving certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// CA bundle (PEM) for the API server's client certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// The cluster's `pki` directory, to create the three files with. The default is the one in the
    /// directory of the kubeconfig or its parent.
    #[arg(long, value_name = "DIR", conflicts_with = "tls_cert_file")]
    pub(crate) pki_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_mirror_for_an_external_runtime_is_rejected() {
        let line = ["coffer", "up", "--registry-mirror", "docker.io=http://a"];
        assert!(Arguments::try_parse_from(line).is_ok());
        let both = line.iter().copied().chain(["--container-runtime-endpoint", "unix:///x"]);
        assert!(Arguments::try_parse_from(both).is_err());
        let malformed = ["coffer", "up", "--registry-mirror", "docker.io"];
        let error = Arguments::try_parse_from(malformed).unwrap_err().to_string();
        assert!(error.contains("expected HOST=URL"), "{error}");
    }

    #[test]
    fn image_options_are_passed_on_to_the_kubelets_process() {
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
            let Verb::Kubelet(kubelet) = Arguments::try_parse_from(line).unwrap().verb else {
                panic!()
            };
            assert_eq!(format!("{:?}", kubelet.images), format!("{:?}", up.images));
        }
    }
}
