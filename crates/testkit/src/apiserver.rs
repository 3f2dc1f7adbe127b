//! A real API server inside the test's process: over TLS on a free port, with its own CA and store.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Weak};

use coffer_apiserver::tokens::{ServiceAccountKeys, TokenKeys, generate_signing_key};
use coffer_apiserver::{AccessConfig, Config, KeyPair, Server};
use coffer_store::Store;
use coffer_store::embedded::{Embedded, Options};
use coffer_store::sealed::Sealed;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running server and what is needed to talk to it.
pub struct TestServer {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// The CA of its own certificate and of its clients'.
    pub ca_pem: String,
    /// What signs and verifies service account tokens.
    pub token_keys: TokenKeys,
    issuer: Issuer<'static, rcgen::KeyPair>,
    dir: TempDir,
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
    store: Option<Embedded>,
    held: Weak<dyn Store>,
}

impl TestServer {
    /// Starts on an empty store.
    pub async fn start() -> Self {
        Self::start_in(TempDir::new().unwrap()).await
    }

    /// Starts on what a directory holds.
    pub async fn start_in(dir: TempDir) -> Self {
        Self::start_with(dir, access()).await
    }

    /// Starts with an operator's decisions about access.
    pub async fn start_with(dir: TempDir, access: AccessConfig) -> Self {
        let store = Embedded::open(&dir.path().join("store"), Options::default()).unwrap();
        Self::start_over(dir, access, store.clone(), Arc::new(store)).await
    }

    /// Starts on an empty store that seals secrets, as `coffer` does.
    pub async fn start_sealed() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Embedded::open(&dir.path().join("store"), Options::default()).unwrap();
        let key = dir.path().join("sealing.key");
        let prefixes = coffer_apiserver::sealed_prefixes();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        let sealed = Sealed::open(store.clone(), &key, &prefixes).await.unwrap();
        Self::start_over(dir, access(), store, Arc::new(sealed)).await
    }

    async fn start_over(
        dir: TempDir,
        access: AccessConfig,
        embedded: Embedded,
        served: Arc<dyn Store>,
    ) -> Self {
        let held = Arc::downgrade(&served);
        let (config, issuer, ca_pem) = config(served, access);
        let server = Server::build(config).await.unwrap();
        let (address, token_keys) = (server.local_addr().unwrap(), server.token_keys());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { server.run(stop).await.unwrap() });
        let (task, store) = (Some(task), Some(embedded));
        Self { address, ca_pem, token_keys, issuer, dir, shutdown, task, store, held }
    }

    /// Tells it to stop, and does not wait.
    pub fn begin_to_stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has stopped. Returns whether anything of it is left: every task of a server
    /// holds the store.
    pub async fn has_left_something(&mut self) -> bool {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap();
        self.held.upgrade().is_some()
    }

    /// Stops, and returns the directory for a second start.
    pub async fn stop(mut self) -> TempDir {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap();
        self.store.take().unwrap().shutdown().await;
        std::mem::replace(&mut self.dir, TempDir::new().unwrap())
    }

    /// A client certificate for a user in groups.
    pub fn certificate(&self, user: &str, groups: &[&str]) -> KeyPair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        signed(&self.issuer, params)
    }

    /// A serving certificate for loopback, such as a kubelet has.
    pub fn serving_certificate(&self) -> KeyPair {
        signed(&self.issuer, serving())
    }

    /// A kubeconfig file for a user in groups.
    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> PathBuf {
        let pair = self.certificate(user, groups);
        let path = self.dir.path().join(format!("{}.kubeconfig", user.replace(':', "-")));
        let write = |suffix: &str, bytes: &[u8]| {
            let path = path.with_extension(suffix);
            std::fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'https://{}', certificate-authority: {}}}}}]\n\
             users: [{{name: test, user: {{client-certificate: {}, client-key: {}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.address,
            write("ca", self.ca_pem.as_bytes()),
            write("crt", &pair.cert_pem),
            write("key", &pair.key_pem),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A `kube` client for a user in groups.
    pub async fn client(&self, user: &str, groups: &[&str]) -> kube::Client {
        let path = self.kubeconfig(user, groups);
        let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
        let options = kube::config::KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        // Tests see what the server says, not what a second try would bring.
        config.default_retry = false;
        kube::Client::try_from(config).unwrap()
    }

    /// A `kube` client with a bearer token, or with nothing at all.
    pub fn bearer(&self, token: Option<&str>) -> kube::Client {
        let mut config = kube::Config::new(format!("https://{}", self.address).parse().unwrap());
        let pem = rustls_pki_types::pem::PemObject::from_pem_slice(self.ca_pem.as_bytes());
        let root: rustls_pki_types::CertificateDer<'static> = pem.unwrap();
        config.root_cert = Some(vec![root.to_vec()]);
        config.auth_info.token = token.map(|token| token.to_owned().into());
        kube::Client::try_from(config).unwrap()
    }

    /// A bare TLS connection as a user in groups, for requests that no client library would build.
    pub async fn tls(
        &self,
        user: &str,
        alpn: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let pair = self.certificate(user, &["system:masters"]);
        self.tls_with(Some(&pair), alpn).await
    }

    /// The same with a client certificate, or with none.
    pub async fn tls_with(
        &self,
        pair: Option<&KeyPair>,
        alpn: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        use rustls_pki_types::pem::PemObject as _;
        let mut roots = rustls::RootCertStore::empty();
        let ca = rustls_pki_types::CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            None => config.with_no_client_auth(),
            Some(pair) => {
                let chain = rustls_pki_types::CertificateDer::from_pem_slice(&pair.cert_pem);
                let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(&pair.key_pem);
                config.with_client_auth_cert(vec![chain.unwrap()], key.unwrap()).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    /// The store below the server, for what no client can do: forget the past.
    pub fn store(&self) -> &Embedded {
        self.store.as_ref().expect("it is taken at the end only")
    }

    /// A client that may do everything.
    pub async fn admin(&self) -> kube::Client {
        self.client("kubernetes-admin", &["system:masters"]).await
    }

    /// The output of the machine's kubectl as an admin, fed with `input`.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        let kubeconfig = self.kubeconfig("kubernetes-admin", &["system:masters"]);
        let (arguments, input): (Vec<String>, _) =
            (arguments.iter().map(|one| (*one).to_owned()).collect(), input.to_owned());
        let cache = self.dir.path().join("kubectl-cache");
        tokio::task::spawn_blocking(move || {
            use std::io::Write as _;
            let mut child = Command::new("kubectl")
                .args(arguments)
                .arg("--kubeconfig")
                .arg(kubeconfig)
                .arg("--cache-dir")
                .arg(cache)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("kubectl is installed by `make deps`");
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap()
    }
}

/// Defaults, with a key to sign tokens with.
pub fn access() -> AccessConfig {
    let signing_pem = generate_signing_key().unwrap();
    AccessConfig {
        service_account_keys: Some(ServiceAccountKeys { signing_pem, accepted_pem: Vec::new() }),
        ..Default::default()
    }
}

/// What a server is built from, with a CA of its own that signs everything.
pub fn config(
    store: Arc<dyn Store>,
    access: AccessConfig,
) -> (Config, Issuer<'static, rcgen::KeyPair>, String) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name = named("test-ca", &[]);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut kubelets = CertificateParams::new(Vec::new()).unwrap();
    kubelets.distinguished_name = named("kube-apiserver-kubelet-client", &["system:masters"]);
    kubelets.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let config = Config {
        bind: "127.0.0.1:0".parse().unwrap(),
        serving: signed(&issuer, serving()),
        client_ca_pem: ca_pem.clone().into(),
        kubelet_client: Some((signed(&issuer, kubelets), ca_pem.clone().into())),
        store,
        access,
    };
    (config, issuer, ca_pem)
}

fn serving() -> CertificateParams {
    let mut serving = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    serving
}

fn named(user: &str, groups: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    for group in groups {
        name.push(DnType::OrganizationName, *group);
    }
    name
}

fn signed(issuer: &Issuer<'static, rcgen::KeyPair>, params: CertificateParams) -> KeyPair {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    KeyPair {
        cert_pem: certificate.pem().into_bytes(),
        key_pem: zeroize::Zeroizing::new(key.serialize_pem().into_bytes()),
    }
}
