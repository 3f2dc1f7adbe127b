//! The node's Lease: a sign of life that is cheap to write.

use std::time::Duration;

use coffer_client::error::is_not_found;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::backoff::{self, Backoff, jitter};
use crate::objects::root_cause;

const NAMESPACE: &str = coffer_api::well_known::namespace::NODE_LEASE;
/// Upstream's: a lease is good for 40 s and renewed every quarter of that.
const LEASE_DURATION_S: i32 = 40;
const RENEW_PERIOD: Duration = Duration::from_secs(10);

/// Renews the lease until dropped.
pub(super) async fn renew(client: kube::Client, node: String, node_uid: String) {
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    loop {
        let mut backoff = Backoff::new(backoff::LEASE);
        loop {
            let renewal = renew_once(&leases, &node, &node_uid);
            match tokio::time::timeout(RENEW_PERIOD, renewal).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::debug!(cause = root_cause(&error), "node lease not renewed");
                }
                Err(_) => tracing::debug!("node lease not renewed: no response in time"),
            }
            backoff.wait().await;
        }
        tokio::time::sleep(jitter(RENEW_PERIOD, backoff::PERIOD_JITTER)).await;
    }
}

async fn renew_once(leases: &Api<Lease>, node: &str, node_uid: &str) -> kube::Result<()> {
    let spec = LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: Some(LEASE_DURATION_S),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..Default::default()
    };
    let patch = json!({"spec": spec});
    match leases.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => return Ok(()),
        Err(error) if is_not_found(&error) => {}
        Err(error) => return Err(error),
    }
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid.to_owned(),
        ..Default::default()
    };
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: Some(spec),
    };
    leases.create(&PostParams::default(), &lease).await.map(|_| ())
}
