//! Fifty clients with valid tokens keep working while the token key is rotated and the server is restarted.
//! None of them ever gets 401 or 403.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coffer_testkit::{Coffer, CofferBuilder, Kubectl, eventually_is};
use k8s_openapi::api::core::v1::Secret;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use parking_lot::Mutex;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer");
const CLIENTS: usize = 50;

/// What the clients share.
struct Work {
    /// How to reach the current server.
    config: Mutex<Config>,
    stop: AtomicBool,
    /// How many requests of each client succeeded.
    served: Vec<AtomicU64>,
}

impl Work {
    fn config(&self) -> Config {
        self.config.lock().clone()
    }

    /// Reads the secret again and again. Connections may fail, but no request may be refused.
    async fn run(&self, number: usize) {
        let mut config = self.config();
        let mut secrets = api(&config);
        while !self.stop.load(Ordering::Relaxed) {
            match secrets.get("db").await {
                Ok(_) => {
                    self.served[number].fetch_add(1, Ordering::Relaxed);
                }
                Err(kube::Error::Api(status)) => panic!("client {number} is refused: {status:?}"),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    config = self.config();
                    secrets = api(&config);
                }
            }
        }
    }

    /// Waits until every client has had three more successful requests: the first one may be an earlier
    /// one.
    async fn until_all_are_served(&self, when: &str) {
        let counts = || self.served.iter().map(|it| it.load(Ordering::Relaxed));
        let wanted: Vec<u64> = counts().map(|count| count + 3).collect();
        let behind = || counts().zip(&wanted).filter(|(count, wanted)| count < *wanted).count();
        let what = format!("clients that are not served: {when}");
        eventually_is(what, async || behind(), |behind| *behind == 0).await;
    }
}

fn api(config: &Config) -> Api<Secret> {
    Api::default_namespaced(Client::try_from(config.clone()).unwrap())
}

/// The administrator's way to the server, with a token instead of a certificate.
async fn config(coffer: &Coffer, token: &str) -> Config {
    let kubeconfig = Kubeconfig::read_from(coffer.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    config.auth_info = kube::config::AuthInfo::default();
    config.auth_info.token = Some(token.to_owned().into());
    // The test sees what the server says, not what a second try would bring.
    config.default_retry = false;
    config
}

async fn token(kubectl: &Kubectl) -> String {
    kubectl.ok(&["create", "token", "app"]).await.unwrap().trim().to_owned()
}

/// Which key signed a token.
fn header(token: &str) -> String {
    token.split('.').next().unwrap_or_default().to_owned()
}

async fn rotate(coffer: &Coffer, kubectl: &Kubectl) {
    let before = header(&token(kubectl).await);
    let data = coffer.data_dir();
    let output =
        Command::new(PROGRAM).arg("rotate-token-key").arg("--data-dir").arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let signs_with = async || header(&token(kubectl).await);
    eventually_is("a token of the new key", signs_with, |header| *header != before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_valid_tokens_are_never_refused_while_keys_rotate_and_the_server_restarts() {
    let mut coffer = CofferBuilder::apiserver(PROGRAM).start().await.unwrap();
    let kubectl = coffer.kubectl();
    for arguments in [
        &["create", "serviceaccount", "app"][..],
        &["create", "role", "reader", "--verb=get", "--resource=secrets"],
        &["create", "rolebinding", "app", "--role=reader", "--serviceaccount=default:app"],
        &["create", "secret", "generic", "db", "--from-literal=k=v"],
    ] {
        kubectl.ok(arguments).await.unwrap();
    }
    let token = token(&kubectl).await;
    let work = Arc::new(Work {
        config: Mutex::new(config(&coffer, &token).await),
        stop: AtomicBool::new(false),
        served: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
    });
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let work = work.clone();
        clients.spawn(async move { work.run(number).await });
    }
    let change = async {
        work.until_all_are_served("at first").await;
        rotate(&coffer, &kubectl).await;
        work.until_all_are_served("after a rotation").await;
        let status = coffer.stop().await.unwrap();
        assert!(status.success(), "{status}");
        coffer.start().await.unwrap();
        *work.config.lock() = config(&coffer, &token).await;
        work.until_all_are_served("after a restart").await;
        rotate(&coffer, &kubectl).await;
        work.until_all_are_served("after a rotation after the restart").await;
        work.stop.store(true, Ordering::Relaxed);
    };
    let all = async {
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    };
    tokio::join!(change, all);
}
