//! What goes on while parts are killed: pods are created and deleted, secrets are updated.
//!
//! Whatever fails is repeated until it is certain whether it was done, so that in the end it is known
//! what should be, and which bytes each version of each secret held.

use std::collections::BTreeMap;
use std::time::Duration;

use coffer_testkit::eventually;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, PostParams};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;
use tokio::time::sleep;

use crate::cluster::{NODES, STAND_INS_NODE};

const SECRETS: usize = 6;
/// How long the load rests between two steps.
const REST_MS: std::ops::Range<u64> = 0..400;
/// How often a secret's text is repeated, so that half of it would be noticed.
const REPEATS: usize = 64;

pub(crate) struct Load {
    pub(crate) pods: Api<Pod>,
    secrets: Api<Secret>,
    rng: StdRng,
    canary: String,
    /// Pods that should be, by name.
    pub(crate) wanted: BTreeMap<String, Expected>,
    /// What every version of every secret holds, by secret and resourceVersion.
    versions: BTreeMap<(String, String), String>,
    generation: u64,
}

/// What a pod's spec says of it.
pub(crate) struct Expected {
    pub(crate) node: &'static str,
    /// The secret of both volumes, and the other one of the second.
    pub(crate) secrets: [String; 2],
}

impl Load {
    pub(crate) fn new(client: kube::Client, mut rng: StdRng) -> Self {
        // A multiple of three bytes long: its base64 is the same wherever it begins a text.
        let canary = format!("c4n4ry{:018x}", rng.random::<u64>());
        Self {
            pods: Api::default_namespaced(client.clone()),
            secrets: Api::default_namespaced(client),
            rng,
            canary,
            wanted: BTreeMap::new(),
            versions: BTreeMap::new(),
            generation: 0,
        }
    }

    /// No byte of the machine reads like this by chance. Every secret's value begins with it.
    pub(crate) fn canary(&self) -> &str {
        &self.canary
    }

    /// What a secret held in a version.
    pub(crate) fn content(&self, secret: &str, version: &str) -> &str {
        let key = (secret.to_owned(), version.to_owned());
        self.versions.get(&key).unwrap_or_else(|| panic!("{secret} never had version {version}"))
    }

    pub(crate) async fn run(&mut self, pods: usize) {
        for at in 0..SECRETS {
            let name = format!("secret-{at}");
            let secret = self.next_secret(&name, None);
            persist("create a secret", async || {
                self.secrets.create(&PostParams::default(), &secret).await
            })
            .await;
            self.record(&name).await;
        }
        for at in 0..pods {
            self.create(format!("pod-{at}")).await;
            self.update().await;
            if self.rng.random_bool(0.4) {
                self.delete_one().await;
            }
            sleep(Duration::from_millis(self.rng.random_range(REST_MS))).await;
        }
    }

    async fn create(&mut self, name: String) {
        let node = NODES[self.rng.random_range(0..NODES.len())];
        let mut pick = || format!("secret-{}", self.rng.random_range(0..SECRETS));
        let (one, other) = (pick(), pick());
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name },
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "nodeSelector": { "kubernetes.io/hostname": node },
                "containers": [{
                    "name": "main",
                    "image": "busybox",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "infinity"],
                    "volumeMounts": [
                        { "name": "one", "mountPath": "/one" },
                        { "name": "both", "mountPath": "/both" },
                    ],
                }],
                "volumes": [
                    { "name": "one", "secret": { "secretName": one } },
                    { "name": "both", "projected": { "sources": [
                        { "secret": { "name": one, "items": [{ "key": "k", "path": "one" }] } },
                        { "secret": { "name": other, "items": [{ "key": "k", "path": "other" }] } },
                    ] } },
                ],
            },
        });
        if node == STAND_INS_NODE {
            let key = json!({ "secretKeyRef": { "name": one, "key": "k" } });
            let variables = json!([
                { "name": "ONE", "valueFrom": key },
                { "name": "DERIVED", "value": "<$(ONE)>" },
            ]);
            pod["spec"]["containers"][0]["env"] = variables;
        }
        let pod: Pod = serde_json::from_value(pod).unwrap();
        persist("create a pod", async || self.pods.create(&PostParams::default(), &pod).await)
            .await;
        self.wanted.insert(name, Expected { node, secrets: [one, other] });
    }

    async fn delete_one(&mut self) {
        let at = self.rng.random_range(0..self.wanted.len());
        let name = self.wanted.keys().nth(at).cloned().unwrap();
        persist("delete a pod", async || self.pods.delete(&name, &DeleteParams::default()).await)
            .await;
        self.wanted.remove(&name);
    }

    pub(crate) async fn delete_all(&mut self) {
        for name in std::mem::take(&mut self.wanted).into_keys() {
            persist("delete a pod", async || {
                self.pods.delete(&name, &DeleteParams::default()).await
            })
            .await;
        }
    }

    /// Gives one secret its next content. There is no other writer, so a replacement of the version
    /// that was read last is certain to be the next one, or not to have happened.
    async fn update(&mut self) {
        let name = format!("secret-{}", self.rng.random_range(0..SECRETS));
        let known = self.record(&name).await;
        let next = self.next_secret(&name, Some(known));
        // A conflict is an own earlier try whose response was lost.
        persist("update a secret", async || {
            self.secrets.replace(&name, &PostParams::default(), &next).await
        })
        .await;
        self.record(&name).await;
    }

    fn next_secret(&mut self, name: &str, replaces: Option<String>) -> Secret {
        self.generation += 1;
        let line = format!("{} {name} {}\n", self.canary, self.generation);
        let secret = json!({
            "metadata": { "name": name, "resourceVersion": replaces },
            "stringData": { "k": line.repeat(REPEATS) },
        });
        serde_json::from_value(secret).unwrap()
    }

    /// Notes what a secret holds now, and returns its version.
    async fn record(&mut self, name: &str) -> String {
        let secret = eventually("read a secret", async || self.secrets.get(name).await).await;
        let version = secret.metadata.resource_version.unwrap();
        let bytes = secret.data.unwrap().remove("k").unwrap().0;
        let content = String::from_utf8(bytes).unwrap();
        self.versions.insert((name.to_owned(), version.clone()), content);
        version
    }

    /// The present version of a secret.
    pub(crate) async fn current(&mut self, name: &str) -> String {
        self.record(name).await
    }
}

/// Repeats a write until it succeeds. If the object already exists, is already deleted or already changed, an
/// earlier try succeeded and its response was lost.
async fn persist<T>(what: &str, write: impl AsyncFn() -> kube::Result<T>) {
    eventually(what, async || match write().await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    })
    .await;
}
