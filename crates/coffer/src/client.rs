//! API clients that follow their kubeconfig: a part that runs for years gets its renewed certificates
//! this way.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use parking_lot::RwLock;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// How often a client that is in use checks whether its kubeconfig has changed. Certificates are
/// renewed when a fifth of their lifetime is left, which is much longer.
const CHECK_PERIOD: Duration = Duration::from_secs(1);

/// The part that a client belongs to. Its name is the beginning of the User-Agent, and so the manager of the
/// fields that it writes, as upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Component {
    /// The controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// The kubelet.
    Kubelet,
    /// The program itself.
    Coffer,
}

impl Component {
    fn user_agent(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::ControllerManager => {
                concat!("kube-controller-manager/v", env!("CARGO_PKG_VERSION"))
            }
            Self::Scheduler => concat!("kube-scheduler/v", env!("CARGO_PKG_VERSION")),
            Self::Kubelet => concat!("kubelet/v", env!("CARGO_PKG_VERSION")),
            Self::Coffer => concat!("coffer/v", env!("CARGO_PKG_VERSION")),
        })
    }

    fn client(self, mut config: Config) -> Result<Client> {
        config.headers.push((USER_AGENT, self.user_agent()));
        connecting(config)
    }
}

struct Follower {
    component: Component,
    kubeconfig: PathBuf,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    client: Client,
    /// When the kubeconfig that the client is made from was written, if that is known.
    modified: Option<SystemTime>,
    /// When the file was last checked.
    checked: Instant,
}

/// Reads a kubeconfig.
///
/// # Errors
/// When it cannot be read, or is not valid; the path is named.
pub(crate) async fn config(kubeconfig: &Path) -> Result<Config> {
    let load = || format!("cannot use kubeconfig {}", kubeconfig.display());
    let path = kubeconfig.to_owned();
    let parsed = spawn_blocking(move || Kubeconfig::read_from(path)).await?.with_context(load)?;
    Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.with_context(load)
}

/// A client with the credentials in a kubeconfig. When the file is replaced, requests use the new
/// credentials after [`CHECK_PERIOD`] at the latest.
///
/// # Errors
/// As [`config`].
pub(crate) async fn following(kubeconfig: &Path, component: Component) -> Result<Client> {
    let modified = modified(kubeconfig).await;
    let config = config(kubeconfig).await?;
    let namespace = config.default_namespace.clone();
    let client = component
        .client(config)
        .with_context(|| format!("cannot use kubeconfig {}", kubeconfig.display()))?;
    let current = Current { client, modified, checked: Instant::now() };
    let current = RwLock::new(current);
    let follower = Arc::new(Follower { component, kubeconfig: kubeconfig.to_owned(), current });
    let send = tower::service_fn(move |request| {
        let follower = follower.clone();
        async move { follower.client().await.send(request).await }
    });
    Ok(Client::new(send, namespace))
}

/// A client of a configuration.
///
/// # Errors
/// When the credentials or certificates in it cannot be used. kube panics at a token, in the file or of a
/// plugin, that cannot be the value of a header.
pub(crate) fn connecting(config: Config) -> Result<Client> {
    let made = std::panic::catch_unwind(AssertUnwindSafe(|| Client::try_from(config)));
    let made = made.map_err(|_| anyhow!("the credentials cannot be used"))?;
    Ok(made?)
}

impl Follower {
    async fn client(&self) -> Client {
        let known = self.current.read().clone();
        if known.checked.elapsed() < CHECK_PERIOD || !self.takes_check(known.checked) {
            return known.client;
        }
        let modified = modified(&self.kubeconfig).await;
        // The credentials stay valid when the file is removed.
        if modified.is_none() || modified == known.modified {
            return known.client;
        }
        let renewed = async { self.component.client(config(&self.kubeconfig).await?) };
        let client = renewed.await.unwrap_or_else(|error: anyhow::Error| {
            let error = crate::report::one_line(&error);
            tracing::warn!(error, "cannot use the changed kubeconfig");
            known.client
        });
        let current = Current { client: client.clone(), modified, checked: Instant::now() };
        *self.current.write() = current;
        client
    }

    /// Whether this request is the one that checks the file; concurrent ones use the known client.
    fn takes_check(&self, seen: Instant) -> bool {
        let mut current = self.current.write();
        let is_due = current.checked == seen;
        if is_due {
            current.checked = Instant::now();
        }
        is_due
    }
}

/// When a file was last written, if it exists.
async fn modified(path: &Path) -> Option<SystemTime> {
    let path = path.to_owned();
    let modified = spawn_blocking(move || std::fs::metadata(path)?.modified());
    modified.await.ok()?.ok()
}

/// The certificates that a configuration trusts, PEM.
pub(crate) fn ca_pem(config: &Config) -> Result<String> {
    let pem = coffer_controllers::Options::of_config(config).root_ca_pem;
    let pem = pem.context("the kubeconfig has no certificate authority")?;
    String::from_utf8(pem).context("the certificate authority is not PEM")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a kubeconfig for the server at a port.
    fn write(path: &Path, port: u16) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\n\
             users: [{{name: u, user: {{}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }

    /// Starts a server that returns the same body for every request; returns its port.
    async fn server(version: &'static str) -> u16 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let length = version.len();
                let response = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{version}"
                );
                let _ = stream.write_all(response.as_bytes()).await;
            }
        });
        port
    }

    async fn pass_check_period() {
        tokio::time::pause();
        tokio::time::advance(CHECK_PERIOD).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn requests_use_a_replaced_kubeconfig_after_the_check_period() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part.kubeconfig");
        let (first, second) = (server("first").await, server("second").await);
        write(&path, first);
        let before = modified(&path).await;
        let client = following(&path, Component::Kubelet).await.unwrap();
        let get = || client.request_text(http::Request::get("/").body(Vec::new()).unwrap());
        assert_eq!(get().await.unwrap(), "first");
        // File times may be coarse: the change must be visible.
        while modified(&path).await == before {
            write(&path, second);
        }
        pass_check_period().await;
        assert_eq!(get().await.unwrap(), "second");
        std::fs::remove_file(&path).unwrap();
        pass_check_period().await;
        assert_eq!(get().await.unwrap(), "second", "a removed file changes nothing");
    }
}
