//! Which version of each secret a pod uses, and whether that is the one the API server has.
//!
//! Written to the pod as the annotation `coffer.dev/secret-resource-versions` and the condition
//! `coffer.dev/SecretsCurrent`: the guide plans that pods report this, "so that a replication
//! controller restarts ones using an old resourceVersion". It is read from the pod's snapshot, so
//! it says what was mounted and nothing else.

use std::collections::BTreeMap;
use std::pin::Pin;

use crate::objects::{ObjectKey, ObjectState, Objects, Subscription, Version};
use crate::pod::PodId;
use crate::status::SecretsFinding;

/// Where the versions are written: a JSON object of secret names and resourceVersions, `null` for
/// an optional secret that did not exist.
pub(super) const VERSIONS_ANNOTATION: &str =
    coffer_api::well_known::annotation::SECRET_RESOURCE_VERSIONS;

/// The secrets that a pod uses, each with a watch on it.
#[derive(Default)]
pub(super) struct Usage(BTreeMap<String, Used>);

struct Used {
    version: Option<Version>,
    now: Subscription,
}

impl Usage {
    /// Takes over what the snapshot records.
    pub(super) fn reload(
        &mut self,
        versions: BTreeMap<String, Option<Version>>,
        objects: &Objects,
        id: &PodId,
    ) {
        self.0.retain(|name, _| versions.contains_key(name));
        for (name, version) in versions {
            match self.0.get_mut(&name) {
                Some(used) => used.version = version,
                None => {
                    let now = objects.watch(&ObjectKey::secret(id.namespace(), &name));
                    self.0.insert(name, Used { version, now });
                }
            }
        }
    }

    pub(super) fn annotations(&self) -> BTreeMap<String, String> {
        if self.0.is_empty() {
            return BTreeMap::new();
        }
        let version = |used: &Used| used.version.as_ref().map(|used| used.resource_version.clone());
        let versions: BTreeMap<&str, Option<String>> =
            self.0.iter().map(|(name, used)| (name.as_str(), version(used))).collect();
        let text = serde_json::json!(versions).to_string();
        [(VERSIONS_ANNOTATION.to_owned(), text)].into()
    }

    /// What the condition says; nothing for a pod without secrets.
    pub(super) fn finding(&self) -> Option<SecretsFinding> {
        if self.0.is_empty() {
            return None;
        }
        let stale: Vec<String> =
            self.0.iter().filter_map(|(name, used)| used.staleness(name)).collect();
        Some(SecretsFinding { stale: stale.join("; ") })
    }

    /// The secrets that exist in another version than the one used, of those in `followed`.
    pub(super) fn outdated(&self, followed: impl Fn(&str) -> bool) -> Vec<String> {
        let outdated = self.0.iter().filter(|(name, used)| {
            let exists = matches!(used.now.seen(), ObjectState::Present(_));
            exists && used.staleness(name).is_some() && followed(name)
        });
        outdated.map(|(name, _)| name.clone()).collect()
    }

    /// Waits until something else is known of one of them.
    pub(super) async fn changed(&mut self) {
        if self.0.is_empty() {
            return std::future::pending().await;
        }
        let changes = self.0.values_mut().map(|used| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(used.now.changed())
        });
        futures::future::select_all(changes).await;
    }
}

impl Used {
    /// How the secret differs from what is used. Before its watch has spoken it does not.
    fn staleness(&self, name: &str) -> Option<String> {
        match (&self.version, self.now.seen()) {
            (_, ObjectState::Unknown) | (None, ObjectState::Absent) => None,
            (None, ObjectState::Present(now)) => Some(format!(
                "secret {name:?} was created after the pod started, with resourceVersion {}",
                now.resource_version
            )),
            (Some(_), ObjectState::Absent) => Some(format!("secret {name:?} was deleted")),
            (Some(used), ObjectState::Present(now)) if *used == now => None,
            (Some(used), ObjectState::Present(now)) => {
                let what = if used.uid == now.uid { "is now at" } else { "was recreated, with" };
                Some(format!(
                    "secret {name:?} {what} resourceVersion {}, the pod uses {}",
                    now.resource_version, used.resource_version
                ))
            }
        }
    }
}
