//! The records themselves: upstream's `ImagePulledRecord` and `ImagePullIntent`, and how what is
//! known of an image grows. Pure.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const RECORD_KIND: &str = "ImagePulledRecord";
const INTENT_KIND: &str = "ImagePullIntent";
/// Secrets remembered for one repository; upstream stops adding by matching at the same number.
const SECRETS_MAX: usize = 100;

/// What is known of one image on this machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::image) struct PulledRecord {
    kind: String,
    api_version: String,
    pub(super) last_updated_time: Timestamp,
    pub(super) image_ref: String,
    /// By repository: the same image may be public in one and private in another.
    #[serde(default)]
    pub(in crate::image) credential_mapping: BTreeMap<String, PullCredentials>,
}

/// Who may use an image by the name of one repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::image) struct PullCredentials {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::image) kubernetes_secrets: Vec<PullSecret>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::image) kubernetes_service_accounts: Vec<PullServiceAccount>,
    /// It was pulled anonymously, or with what the node has for all its pods.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::image) node_pods_accessible: bool,
}

/// A secret with which an image was pulled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::image) struct PullSecret {
    pub(in crate::image) namespace: String,
    pub(in crate::image) name: String,
    pub(in crate::image) uid: String,
    pub(in crate::image) credential_hash: String,
}

/// A service account with whose token a credential provider was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::image) struct PullServiceAccount {
    pub(in crate::image) namespace: String,
    pub(in crate::image) name: String,
    pub(in crate::image) uid: String,
}

/// What a pull, or a match, adds to a record.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::image) enum Grant {
    /// Every pod of the node.
    Node,
    Secret(PullSecret),
    ServiceAccount(PullServiceAccount),
}

/// A pull that has begun.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PullIntent {
    kind: String,
    api_version: String,
    pub(super) image: String,
}

impl PullIntent {
    pub(super) fn new(image: &str) -> Self {
        Self {
            kind: INTENT_KIND.to_owned(),
            api_version: API_VERSION.to_owned(),
            image: image.to_owned(),
        }
    }
}

impl PulledRecord {
    pub(super) fn new(image_ref: &str) -> Self {
        Self {
            kind: RECORD_KIND.to_owned(),
            api_version: API_VERSION.to_owned(),
            last_updated_time: Timestamp::now(),
            image_ref: image_ref.to_owned(),
            credential_mapping: BTreeMap::new(),
        }
    }

    /// Adds a grant; says whether that changed anything.
    pub(super) fn grant(&mut self, repository: &str, grant: Option<Grant>) -> bool {
        let Some(grant) = grant else { return false };
        let known = self.credential_mapping.entry(repository.to_owned()).or_default();
        if known.node_pods_accessible {
            return false;
        }
        let before = known.clone();
        match grant {
            Grant::Node => {
                *known = PullCredentials { node_pods_accessible: true, ..Default::default() };
            }
            Grant::Secret(secret) => {
                let same = |other: &PullSecret| {
                    (&other.namespace, &other.name, &other.uid)
                        == (&secret.namespace, &secret.name, &secret.uid)
                };
                known.kubernetes_secrets.retain(|other| !same(other));
                if known.kubernetes_secrets.len() < SECRETS_MAX {
                    known.kubernetes_secrets.push(secret);
                }
                known.kubernetes_secrets.sort();
            }
            Grant::ServiceAccount(account) => {
                known.kubernetes_service_accounts.push(account);
                known.kubernetes_service_accounts.sort();
                known.kubernetes_service_accounts.dedup();
            }
        }
        *known != before
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pull secret's credential, as a pull that succeeded with it records it.
    pub(in super::super) fn secret(name: &str, hash: &str) -> Grant {
        Grant::Secret(PullSecret {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            credential_hash: hash.to_owned(),
        })
    }

    #[test]
    fn grants_accumulate_until_the_image_needs_no_credential() {
        let mut record = PulledRecord::new("sha256:1");
        assert!(record.grant("r.io/a", Some(secret("two", "h2"))));
        assert!(record.grant("r.io/a", Some(secret("one", "h1"))));
        assert!(!record.grant("r.io/a", Some(secret("one", "h1"))), "known already");
        assert!(record.grant("r.io/a", Some(secret("one", "h3"))), "the credential is new");
        let names: Vec<_> = record.credential_mapping["r.io/a"]
            .kubernetes_secrets
            .iter()
            .map(|secret| (&*secret.name, &*secret.credential_hash))
            .collect();
        assert_eq!(names, [("one", "h3"), ("two", "h2")]);
        assert!(record.grant("r.io/a", Some(Grant::Node)));
        assert!(record.credential_mapping["r.io/a"].kubernetes_secrets.is_empty());
        assert!(!record.grant("r.io/a", Some(secret("one", "h1"))));
        assert!(record.grant("other.io/a", Some(secret("one", "h1"))), "another repository");
    }
}
