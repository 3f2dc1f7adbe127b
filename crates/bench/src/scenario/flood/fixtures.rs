//! What each kind of flood needs: its user with the least rights, what is there to be asked for, and
//! the requests, made once.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, StatusCode};
use kube::config::AuthInfo;
use serde_json::{Value, json};

use super::Kind;
use super::attack::{Attack, Call};
use crate::cluster::account::account;
use crate::cluster::workspace::{Workspace, json_body};
use crate::context::Context;
use crate::load::{self, Failed, Work, in_row};
use crate::measure::stats::Tally;
use crate::options::Protocol;
use crate::transport::client::{APPLICATION_JSON, Client, JSON_PATCH, STRATEGIC_PATCH};
use crate::transport::target::Target;

const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// A little less than the 3 MiB that servers take.
const HEAVY_BODY_BYTES: usize = 3_000_000;
const PATCH_OPERATIONS: usize = 9_990;
const PATCHED_VARIABLES: usize = 20_000;
const POD_VARIABLES: usize = 90_000;
const SELECTOR_TERMS: usize = 12_500;
const SELECTED_CONFIG_MAPS: u64 = 3_000;
/// Config maps of a megabyte each.
const LARGE_CONFIG_MAPS: u64 = 30;
const LARGE_BYTES: usize = 1_000_000;
const POPULATE_CLIENTS: usize = 16;

/// Makes what a flood needs.
pub(super) async fn prepare(
    context: &Context,
    admin: &Arc<Target>,
    workspace: &mut Workspace,
    kind: Kind,
    from: IpAddr,
) -> Result<Attack> {
    workspace.ensure_default_account().await?;
    let mut client = Client::connect(admin, Protocol::Http1).await?;
    let token = account(&mut client, &workspace.namespace, &workspace.run, "flood", rights(kind))
        .await
        .context("no account to flood with")?;
    let user = admin.with_token(&token).await?.with_source(from);
    let config_maps = workspace.path("configmaps");
    let fill = |count: u64, bytes: usize| {
        let maps = ConfigMaps { path: config_maps.clone(), value: "x".repeat(bytes) };
        let bounds = (Some(count), None);
        load::run(context, admin, "preparing", POPULATE_CLIENTS, bounds, Arc::new(maps))
    };
    Ok(match kind {
        Kind::IdleConnections => {
            Attack::Idle(admin.as_user(AuthInfo::default()).await?.with_source(from))
        }
        Kind::HeavyBodies => Attack::Calls(user, vec![heavy_body()]),
        Kind::HeavyPatches => {
            let path = deployment(&mut client, workspace).await?;
            Attack::Calls(user, heavy_patches(&path))
        }
        Kind::LongSelectors => {
            fill(SELECTED_CONFIG_MAPS, 1).await?;
            let path = format!("{config_maps}?labelSelector={}", long_selector());
            Attack::Calls(user, vec![Call { method: Method::GET, path, body: None }])
        }
        Kind::ManyWatches => {
            fill(LARGE_CONFIG_MAPS, LARGE_BYTES).await?;
            Attack::Watches(user, format!("{config_maps}?watch=1"))
        }
        Kind::SlowClients => {
            fill(LARGE_CONFIG_MAPS, LARGE_BYTES).await?;
            Attack::Slow { user, post: ACCESS_REVIEWS.to_owned(), list: config_maps }
        }
        Kind::PodsWithManyVariables => {
            let path = format!("{}?dryRun=All", workspace.path("pods"));
            let body = Some((APPLICATION_JSON, pod(POD_VARIABLES).to_string().into()));
            Attack::Calls(user, vec![Call { method: Method::POST, path, body }])
        }
    })
}

/// The least that a flood's user must be allowed.
fn rights(kind: Kind) -> Value {
    let rule = |group: &str, resource: &str, verbs: &[&str]| json!([{ "apiGroups": [group], "resources": [resource], "verbs": verbs }]);
    match kind {
        Kind::IdleConnections | Kind::HeavyBodies => json!([]),
        Kind::HeavyPatches => rule("apps", "deployments", &["patch"]),
        Kind::LongSelectors | Kind::SlowClients => rule("", "configmaps", &["list"]),
        Kind::ManyWatches => rule("", "configmaps", &["list", "watch"]),
        Kind::PodsWithManyVariables => rule("", "pods", &["create"]),
    }
}

struct ConfigMaps {
    path: String,
    value: String,
}

impl Work for ConfigMaps {
    const ROWS: &'static [&'static str] = &["create"];

    async fn step(&self, client: &mut Client, number: u64, _: &Tally) -> Result<(), Failed> {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": format!("map-{number:05}"),
                "labels": { "app": "flood", "number": number.to_string() },
            },
            "data": { "value": self.value },
        });
        let made = client.call(Method::POST, &self.path, json_body(&map)).await;
        made.map(drop).map_err(in_row(0))
    }
}

/// `{"x":[{"":0},…]}`: few bytes, many values.
fn heavy_body() -> Call {
    let mut text = String::with_capacity(HEAVY_BODY_BYTES + 16);
    text.push_str(r#"{"x":[{"":0}"#);
    while text.len() < HEAVY_BODY_BYTES {
        text.push_str(r#",{"":0}"#);
    }
    text.push_str("]}");
    let body = Some((APPLICATION_JSON, Bytes::from(text)));
    Call { method: Method::POST, path: ACCESS_REVIEWS.to_owned(), body }
}

fn variables(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "name": format!("A{number:05}") })).collect()
}

fn pod_spec(count: usize) -> Value {
    json!({
        "automountServiceAccountToken": false,
        "containers": [{ "name": "c", "image": "i", "env": variables(count) }],
    })
}

fn pod(count: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "flood" }, "spec": pod_spec(count),
    })
}

/// A Deployment without pods, with as many variables as the server lets it have; returns its path.
async fn deployment(client: &mut Client, workspace: &Workspace) -> Result<String> {
    let path = format!("/apis/apps/v1/namespaces/{}/deployments", workspace.namespace);
    let mut count = PATCHED_VARIABLES;
    loop {
        let labels = json!({ "app": "flood" });
        let made = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "flood" },
            "spec": {
                "replicas": 0, "selector": { "matchLabels": labels },
                "template": { "metadata": { "labels": labels }, "spec": pod_spec(count) },
            },
        });
        match client.call(Method::POST, &path, json_body(&made)).await {
            Err(error) if error.is(StatusCode::PAYLOAD_TOO_LARGE) && count > 1 => count /= 2,
            made => return Ok(made.map(|_| format!("{path}/flood"))?),
        }
    }
}

fn heavy_patches(path: &str) -> Vec<Call> {
    let env = "/spec/template/spec/containers/0/env";
    let mut operations = String::from("[");
    for number in 0..PATCH_OPERATIONS {
        let comma = if number == 0 { "" } else { "," };
        // What is appended goes to the front: each operation moves all items.
        let _ = write!(
            operations,
            r#"{comma}{{"op":"add","path":"{env}/0","value":{{"name":"B{number:05}"}}}}"#
        );
    }
    operations.push(']');
    let merged: Vec<_> = (0..PATCHED_VARIABLES)
        .map(|number| json!({ "name": format!("A{number:05}"), "value": "y" }))
        .collect();
    let merge = json!({ "spec": { "template": { "spec": {
        "containers": [{ "name": "c", "env": merged }],
    } } } });
    let call = |media, body: String| Call {
        method: Method::PATCH,
        path: format!("{path}?dryRun=All"),
        body: Some((media, body.into())),
    };
    vec![call(JSON_PATCH, operations), call(STRATEGIC_PATCH, merge.to_string())]
}

/// `!aaa,!aab,…`: all are true of every object, so that none ends the comparison.
fn long_selector() -> String {
    let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
    let terms = (0..SELECTOR_TERMS).map(|number| {
        [letter(number / 676), letter(number / 26), letter(number)].into_iter().collect::<String>()
    });
    terms.map(|key| format!("!{key}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_large_as_servers_let_them_be_and_no_larger() {
        let largest = 3 * 1024 * 1024;
        let heavy = heavy_body().body.unwrap().1;
        assert!(heavy.len() >= HEAVY_BODY_BYTES && heavy.len() < largest);
        serde_json::from_slice::<Value>(&heavy).unwrap();
        for patch in heavy_patches("/p") {
            let body = patch.body.unwrap().1;
            assert!(body.len() < largest);
            serde_json::from_slice::<Value>(&body).unwrap();
        }
        assert!(pod(POD_VARIABLES).to_string().len() < largest);
        // An http::Uri has 65,534 bytes at most.
        assert!(long_selector().len() < 65_000);
    }

    #[test]
    fn no_term_of_the_selector_is_there_twice() {
        let selector = long_selector();
        let terms: std::collections::BTreeSet<_> = selector.split(',').collect();
        assert_eq!(terms.len(), SELECTOR_TERMS);
    }
}
