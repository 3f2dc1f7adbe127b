//! What attackers tried on a kubelet, as tests: each group is a row of the table in SECURITY.md.
//!
//! They need no root and no runtime, and are compiled into the crate, because what is attacked is
//! inside. Those that need real parts are in `crates/coffer/tests`.

mod names;
mod overload;
mod texts;

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_api::secret::SecretBytes;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::client::Body;
use serde_json::{Value as Json, json};

use crate::downward::{Facts, NodeFacts};
use crate::env::{self, CommandLine, Context, Environment, Sources};
use crate::objects::Objects;
use crate::pod::{self, PodId};

const NODE: NodeFacts = NodeFacts {
    ip: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    cpu_milli: 1,
    memory_bytes: 1,
};

fn pod(container: Json) -> (Arc<Pod>, PodId) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u",
            "annotations": { "large": "a".repeat(200_000) } },
        "spec": { "containers": [container] },
    }))
    .expect("a pod");
    let id = PodId::of(&pod).expect("an identity");
    (Arc::new(pod), id)
}

/// What a container would be started with, where its Secret `s` has these keys.
fn started_with(
    container: Json,
    secret: &[(&str, &[u8])],
    map: &[(&str, &str)],
) -> Result<(Environment, CommandLine), String> {
    let (pod, id) = pod(container);
    let keys =
        secret.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.to_vec())));
    let data = map.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let map = ConfigMap { data: Some(data.collect()), ..Default::default() };
    let keys: BTreeMap<_, _> = keys.collect();
    let sources = Sources::given([("s".to_owned(), keys)], [("m".to_owned(), map)]);
    let context = Context { facts: Facts { node: NODE, pod_ips: &[] }, services: &[] };
    let container = &pod::spec(&pod).containers[0];
    let environment = env::resolve(&pod, &id, container, &sources, context);
    let environment = environment.map_err(|error| error.to_string())?;
    let line = environment.command_line(container).map_err(|error| error.to_string())?;
    Ok((environment, line))
}

/// Objects of an API server that has these, by path.
fn objects(all: impl Fn(&str) -> Option<Json> + Clone + Send + 'static) -> Arc<Objects> {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let found = all(request.uri().path());
        async move {
            let code = if found.is_some() { 200 } else { 404 };
            let body = found.unwrap_or(Json::Null).to_string();
            let answer = http::Response::builder().status(code);
            answer.body(Body::from(body.into_bytes()))
        }
    });
    Arc::new(Objects::new(kube::Client::new(service, "default")))
}
