//! Who a kubelet is to the API server: its own node, or somebody whom nothing limits to it.
//!
//! The Node authorizer gives a node the secrets of its pods and of no others. It knows nodes by their
//! user and group; a kubelet that runs as an administrator, or as a service account, has what that
//! one has. Kubernetes lets it run, and so does Coffer, and says so.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// The group of all nodes.
const NODES: &str = "system:nodes";
/// How long until a server that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(10);

/// Asks the API server who `client` is, until it answers or `stop`, and warns if it is not `node`.
pub(crate) async fn check(client: Client, node: String, stop: CancellationToken) {
    let reviews = Api::<SelfSubjectReview>::all(client);
    let asked = async {
        loop {
            let review = SelfSubjectReview::default();
            match reviews.create(&PostParams::default(), &review).await {
                Ok(answer) => return answer.status.and_then(|status| status.user_info),
                Err(error) => {
                    tracing::debug!(%error, "the kubelet's identity is not known yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    };
    let Some(Some(user)) = stop.run_until_cancelled(asked).await else { return };
    if let Some(warning) = warning(&user, &node) {
        tracing::warn!("{warning}");
    }
}

/// What is wrong with a kubelet of `node` being this user.
fn warning(user: &UserInfo, node: &str) -> Option<String> {
    let name = user.username.as_deref().unwrap_or_default();
    let in_group = user.groups.iter().flatten().any(|group| group == NODES);
    let wanted = format!("system:node:{node}");
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
    fn a_kubelet_that_is_not_its_node_is_warned_about() {
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
