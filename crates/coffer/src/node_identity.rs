//! The identity of a kubelet at the API server: its own node, or a user that is not limited to one.
//!
//! The Node authorizer gives a node access only to the secrets of its pods. It identifies nodes by user and
//! group; a kubelet that runs as an administrator, or as a service account, has all permissions of that user.
//! Kubernetes allows this, and so does Coffer, with a warning.

use std::time::Duration;

use coffer_wire::backoff::{Backoff, Limits};
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// The group of all nodes.
const NODES: &str = coffer_api::well_known::group::NODES;
/// How long to wait before a failed request is retried. Spread: nodes lose the API server together.
const RETRY: Limits = Limits::spread(Duration::from_secs(1), Duration::from_secs(30));

/// Asks the API server for the user of `client`, retrying until `stop`, and warns if it is not `node`.
pub(crate) async fn check(client: Client, node: String, stop: CancellationToken) {
    let reviews = Api::<SelfSubjectReview>::all(client);
    let asked = async {
        let mut backoff = Backoff::new(RETRY);
        loop {
            let review = SelfSubjectReview::default();
            match reviews.create(&PostParams::default(), &review).await {
                Ok(review) => return review.status.and_then(|status| status.user_info),
                Err(error) => {
                    let error = coffer_client::error::shown(&error);
                    tracing::debug!(%error, "cannot check the kubelet's identity yet");
                    backoff.wait().await;
                }
            }
        }
    };
    let Some(Some(user)) = stop.run_until_cancelled(asked).await else { return };
    if let Some(warning) = warning(&user, &node) {
        tracing::warn!("{warning}");
    }
}

/// The warning if a kubelet of `node` has this user.
fn warning(user: &UserInfo, node: &str) -> Option<String> {
    let name = user.username.as_deref().unwrap_or_default();
    let in_group = user.groups.iter().flatten().any(|group| group == NODES);
    let wanted = coffer_api::well_known::user::of_node(node);
    (name != wanted || !in_group).then(|| {
        format!(
            "the kubelet of node {node:?} runs as user {name:?}, not as {wanted:?} in group {NODES:?}: it is not limited to the secrets of its pods; join with --bootstrap-kubeconfig and a --kubeconfig of its own"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubelet_with_another_identity_than_its_nodes_logs_a_warning() {
        let user = |name: &str, groups: &[&str]| UserInfo {
            username: Some(name.to_owned()),
            groups: Some(groups.iter().map(|&group| group.to_owned()).collect()),
            ..UserInfo::default()
        };
        let nodes = ["system:nodes", "system:authenticated"];
        assert_eq!(warning(&user("system:node:a", &nodes), "a"), None);
        for (name, groups) in [
            ("system:node:b", &nodes[..]),
            ("system:node:a", &["system:authenticated"]),
            ("kubernetes-admin", &["system:masters"]),
            ("system:serviceaccount:default:agent", &["system:serviceaccounts"]),
        ] {
            let warning = warning(&user(name, groups), "a").unwrap();
            assert!(warning.contains(&format!("runs as user {name:?}")), "{warning}");
        }
    }
}
