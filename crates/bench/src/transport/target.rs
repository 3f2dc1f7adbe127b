//! Where the server is and who the client is there: a kubeconfig, read once.
//!
//! Certificates, tokens, token files and exec plugins are understood as `kube` does. A credential is
//! asked for once, so a run should be shorter than a token's life. Proxies are not used: what lies
//! between would be measured, too.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use kube::Config;
use kube::client::{Body, ConfigExt as _};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tower::{Layer as _, ServiceExt as _};

use crate::options::Protocol;

/// A connection's bytes.
pub(crate) type Stream = Either<TlsStream<TcpStream>, TcpStream>;

/// A server, and who we are there.
#[derive(Clone)]
pub(crate) struct Target {
    /// As the kubeconfig has it.
    pub(crate) url: String,
    /// `host:port`, for the Host header.
    pub(crate) authority: String,
    /// What comes before every path; mostly nothing.
    pub(crate) prefix: String,
    /// The Authorization header, for who has no certificate.
    pub(crate) authorization: Option<HeaderValue>,
    host: String,
    port: u16,
    /// The address to connect from, if it matters.
    source: Option<IpAddr>,
    /// Bytes of the socket's receive buffer, if not the system's choice.
    receive_buffer: Option<u32>,
    tls: Option<Tls>,
    /// What it was made of, unless it is a server of this process.
    config: Option<Arc<Config>>,
}

#[derive(Clone)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Target {
    /// Reads a kubeconfig.
    pub(crate) async fn load(file: &Path, context: Option<&str>) -> Result<Arc<Self>> {
        let load = || format!("cannot use kubeconfig {}", file.display());
        let parsed = Kubeconfig::read_from(file).with_context(load)?;
        let options =
            KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
        let config = Config::from_custom_kubeconfig(parsed, &options).await.with_context(load)?;
        Self::of(config).await.map(Arc::new).with_context(load)
    }

    /// The server of a kubeconfig, as another user than the kubeconfig's.
    pub(crate) async fn as_user(&self, user: AuthInfo) -> Result<Arc<Self>> {
        let config = self.config.as_deref().context("the server is not a kubeconfig's")?;
        let mut config = config.clone();
        config.auth_info = user;
        Self::of(config).await.map(Arc::new)
    }

    /// The server of a kubeconfig, as the user of a token.
    pub(crate) async fn with_token(&self, token: &str) -> Result<Arc<Self>> {
        let token = Some(token.to_owned().into());
        self.as_user(AuthInfo { token, ..Default::default() }).await
    }

    async fn of(config: Config) -> Result<Self> {
        let url = &config.cluster_url;
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => bail!("server {url} is neither http:// nor https://"),
        };
        let host = url.host().with_context(|| format!("server {url} names no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let name = config.tls_server_name.clone().unwrap_or_else(|| host.clone());
        let tls = if https { Some(Tls::of(config.rustls_client_config()?, name)?) } else { None };
        Ok(Self {
            url: url.to_string().trim_end_matches('/').to_owned(),
            authority: url.authority().map(ToString::to_string).unwrap_or_default(),
            prefix: url.path().trim_end_matches('/').to_owned(),
            authorization: authorization(&config).await?,
            host,
            port,
            source: None,
            receive_buffer: None,
            tls,
            config: Some(Arc::new(config)),
        })
    }

    /// The same server, reached from another address of this machine.
    pub(crate) fn with_source(&self, source: IpAddr) -> Arc<Self> {
        Arc::new(Self { source: Some(source), ..self.clone() })
    }

    /// The same server, with a socket that takes no more than so many bytes unread.
    pub(crate) fn with_receive_buffer(&self, bytes: u32) -> Arc<Self> {
        Arc::new(Self { receive_buffer: Some(bytes), ..self.clone() })
    }

    /// The same server, with a whole TLS handshake at every connection: what a new process does.
    pub(crate) fn without_resumption(&self) -> Arc<Self> {
        let mut target = self.clone();
        if let Some(tls) = &mut target.tls {
            let mut config = ClientConfig::clone(&tls.config);
            config.resumption = Resumption::disabled();
            tls.config = Arc::new(config);
        }
        Arc::new(target)
    }

    /// Whether the server is on this machine's loopback interface.
    pub(crate) async fn is_loopback(&self) -> std::io::Result<bool> {
        let mut addresses = lookup_host((self.host.as_str(), self.port)).await?;
        Ok(addresses.all(|address| address.ip().is_loopback()))
    }

    /// A server on loopback, trusted by its own certificate.
    pub(crate) fn loopback(port: u16, config: ClientConfig) -> Result<Arc<Self>> {
        let host = "localhost".to_owned();
        Ok(Arc::new(Self {
            url: format!("https://{host}:{port}"),
            authority: format!("{host}:{port}"),
            prefix: String::new(),
            authorization: None,
            tls: Some(Tls::of(config, host)?),
            host: "127.0.0.1".to_owned(),
            port,
            source: None,
            receive_buffer: None,
            config: None,
        }))
    }

    /// Connects, and shakes hands for one protocol.
    pub(crate) async fn connect(&self, protocol: Protocol) -> std::io::Result<Stream> {
        self.connect_alpn(&[match protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
        }])
        .await
    }

    /// Connects, and shakes hands for one of the protocols, or for none.
    pub(crate) async fn connect_alpn(&self, protocols: &[&[u8]]) -> std::io::Result<Stream> {
        let stream = self.tcp().await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Either::Right(stream)) };
        let mut config = ClientConfig::clone(&tls.config);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(tls.name.clone(), stream).await.map(Either::Left)
    }

    async fn tcp(&self) -> std::io::Result<TcpStream> {
        let server = (self.host.as_str(), self.port);
        if self.source.is_none() && self.receive_buffer.is_none() {
            return TcpStream::connect(server).await;
        }
        let fits = |address: &std::net::SocketAddr| {
            self.source.is_none_or(|source| source.is_ipv4() == address.is_ipv4())
        };
        let address = lookup_host(server).await?.find(fits);
        let address = address.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(address).await
    }
}

impl Tls {
    fn of(config: ClientConfig, name: String) -> Result<Self> {
        let name = ServerName::try_from(name.clone())
            .map_err(|_| anyhow!("{name:?} cannot be the name of a certificate"))?;
        Ok(Self { config: Arc::new(config), name })
    }
}

/// The header that `kube` would send: its own layer is given a request, which is looked at.
async fn authorization(config: &Config) -> Result<Option<HeaderValue>> {
    let Some(layer) = config.auth_layer()? else { return Ok(None) };
    let look = tower::service_fn(|request: Request<Body>| async move {
        let mut seen = Response::new(());
        *seen.headers_mut() = request.into_parts().0.headers;
        Ok::<_, tower::BoxError>(seen)
    });
    let seen = layer.layer(look).oneshot(Request::new(Body::empty())).await;
    let seen = seen.map_err(|error| anyhow!("no credential: {error}"))?;
    Ok(seen.headers().get(AUTHORIZATION).cloned())
}
