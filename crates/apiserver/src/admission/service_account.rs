//! ServiceAccount: what a new pod gets from its account.
//!
//! The account's name where the pod names none; a projected volume with a token, the cluster's CA
//! and the namespace in every container; image pull secrets where the pod has none. A pod whose
//! account does not exist is refused.

use std::time::Duration;

use coffer_api::kinds::pod::is_mirror;
use coffer_api::kinds::{Namespace, ServiceAccount};
use coffer_api::names;
use coffer_api::references::{self, ReferenceKind, Usage};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath,
    ObjectFieldSelector, Pod, PodSpec, ProjectedVolumeSource, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};

use super::grant::Secrets;
use super::mountable;
use crate::cache::{Initial, Scope, Start};
use crate::object::{Object, Resource, Resources};

/// The account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";
/// How long a new pod waits for the default account of a namespace that has just been made.
const ACCOUNT_WAIT: Duration = Duration::from_secs(2);
/// Where containers find their account's credentials.
pub(super) const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// The lifetime of a mounted token, in seconds: upstream's, recognisable in audit.
const TOKEN_S: i64 = 3607;
/// The config map with the cluster's CA, in every namespace.
const ROOT_CA: &str = coffer_api::well_known::ROOT_CA_CONFIG_MAP;
/// rw-r--r--.
const FILE_MODE: i32 = 0o644;

/// Waits, for a bounded time, until the default account of a new pod's namespace exists. A
/// controller creates it a moment after the namespace; clients should not have to know that.
pub(crate) async fn await_default_account(
    resources: &Resources,
    resource: &Resource,
    object: &dyn Object,
) {
    let Some(pod) = object.pod() else { return };
    if !resource.is::<Pod>() || is_mirror(pod) || account_name(pod) != DEFAULT_ACCOUNT {
        return;
    }
    let accounts = resources.of::<ServiceAccount>();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let namespaces = resources.of::<Namespace>();
    if namespaces.shard().get(&namespaces.key("", namespace)).is_none() {
        return;
    }
    let key = accounts.key(namespace, DEFAULT_ACCOUNT);
    if accounts.shard().get(&key).is_some() {
        return;
    }
    let scope = Scope::Key(key.into());
    let Ok(account) = accounts.shard().subscribe(scope, Start::Now) else { return };
    if !matches!(account.inbox.next_initial(), Initial::Object(_)) {
        let _ = tokio::time::timeout(ACCOUNT_WAIT, account.inbox.next()).await;
    }
}

/// A new pod, changed to what its account says; of the account's pull secrets it gets those that
/// `limit` has. Returns the account.
///
/// # Errors
/// Why the pod is refused, for a 403.
pub(super) fn admit(
    resources: &Resources,
    pod: &mut Pod,
    limit: Option<&Secrets>,
) -> Result<Option<ServiceAccount>, String> {
    if is_mirror(pod) {
        mirror(pod)?;
        return Ok(None);
    }
    let name = account_name(pod).to_owned();
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let spec = pod.spec.get_or_insert_default();
    spec.service_account_name = Some(name.clone());
    spec.service_account = Some(name.clone());
    let account = find(resources, &namespace, &name).ok_or_else(|| {
        format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        )
    })?;
    mountable::check(&account, spec)?;
    if automounts(&account, spec) {
        mount_token(spec);
    }
    if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
        spec.image_pull_secrets.clone_from(&account.image_pull_secrets);
        if let (Some(limit), Some(given)) = (limit, &mut spec.image_pull_secrets) {
            given.retain(|secret| limit.has(&secret.name));
        }
    }
    Ok(Some(account))
}

/// An account, as the cache has it.
pub(super) fn find(resources: &Resources, namespace: &str, name: &str) -> Option<ServiceAccount> {
    let accounts = resources.of::<ServiceAccount>();
    let found = accounts.shard().get(&accounts.key(namespace, name))?;
    serde_json::from_slice(&found.bytes).ok()
}

/// The account a pod runs as.
pub(super) fn account_name(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    let named = spec.and_then(|spec| spec.service_account_name.as_deref());
    named.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_ACCOUNT)
}

/// A mirror pod shows what a node runs by itself: it is not changed, and may refer to nothing.
fn mirror(pod: &Pod) -> Result<(), String> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    for found in references::of(spec) {
        match (found.kind, found.usage) {
            (ReferenceKind::ServiceAccount, Usage::Token) => {
                return Err(
                    "a mirror pod may not use service account token volume projections".to_owned()
                );
            }
            (ReferenceKind::ServiceAccount, _) => {
                return Err("a mirror pod may not reference service accounts".to_owned());
            }
            (ReferenceKind::Secret, _) => {
                return Err("a mirror pod may not reference secrets".to_owned());
            }
            (ReferenceKind::ConfigMap, _) => {}
        }
    }
    Ok(())
}

/// The pod's field, then the account's, then the default: yes.
fn automounts(account: &ServiceAccount, spec: &PodSpec) -> bool {
    let own = spec.automount_service_account_token;
    own.or(account.automount_service_account_token).unwrap_or(true)
}

/// Mounts the token volume wherever nothing is mounted at its path.
fn mount_token(spec: &mut PodSpec) {
    let existing = spec
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name.starts_with(VOLUME_PREFIX))
        .map(|volume| volume.name.clone());
    let random = |below: usize| rand::random_range(0..below);
    let name = existing.clone().unwrap_or_else(|| names::generate_name(VOLUME_PREFIX, random));
    let mut mounted = false;
    for container in containers(spec) {
        let mounts = container.volume_mounts.get_or_insert_default();
        if mounts.iter().any(|mount| mount.mount_path == TOKEN_PATH) {
            continue;
        }
        mounts.push(VolumeMount {
            name: name.clone(),
            mount_path: TOKEN_PATH.to_owned(),
            read_only: Some(true),
            ..Default::default()
        });
        mounted = true;
    }
    if mounted && existing.is_none() {
        spec.volumes.get_or_insert_default().push(token_volume(name));
    }
}

/// Init containers and containers, to be changed.
pub(super) fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers)
}

fn token_volume(name: String) -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            expiration_seconds: Some(TOKEN_S),
            path: "token".to_owned(),
            audience: None,
        }),
        ..Default::default()
    };
    let item =
        KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), ..Default::default() };
    let ca = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: ROOT_CA.to_owned(),
            items: Some(vec![item]),
            optional: None,
        }),
        ..Default::default()
    };
    let field = ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: "metadata.namespace".to_owned(),
    };
    let file = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(field),
        ..Default::default()
    };
    let namespace = VolumeProjection {
        downward_api: Some(DownwardAPIProjection { items: Some(vec![file]) }),
        ..Default::default()
    };
    Volume {
        name,
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(FILE_MODE),
            sources: Some(vec![token, ca, namespace]),
        }),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(value: Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_container_gets_the_token_but_those_that_have_a_mount_there() {
        let mut spec = spec(json!({
            "initContainers": [{ "name": "i" }],
            "containers": [
                { "name": "a" },
                { "name": "b", "volumeMounts": [{ "name": "own", "mountPath": TOKEN_PATH }] },
            ],
        }));
        mount_token(&mut spec);
        let volume = spec.volumes.as_ref().unwrap()[0].name.clone();
        assert!(volume.starts_with(VOLUME_PREFIX) && volume.len() == VOLUME_PREFIX.len() + 5);
        let mounts = |container: &Container| -> Vec<String> {
            let mounts = container.volume_mounts.iter().flatten();
            mounts.map(|mount| mount.name.clone()).collect()
        };
        assert_eq!(mounts(&spec.init_containers.as_ref().unwrap()[0]), [volume.as_str()]);
        assert_eq!(mounts(&spec.containers[0]), [volume.as_str()]);
        assert_eq!(mounts(&spec.containers[1]), ["own"]);
        // A second time adds nothing.
        let before = spec.clone();
        mount_token(&mut spec);
        assert_eq!(spec, before);
    }

    #[test]
    fn the_token_volume_equals_upstreams() {
        let volume = serde_json::to_value(token_volume("v".to_owned())).unwrap();
        assert_eq!(
            volume,
            json!({
                "name": "v",
                "projected": {
                    "defaultMode": 420,
                    "sources": [
                        { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                        { "configMap": {
                            "name": "kube-root-ca.crt",
                            "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                        } },
                        { "downwardAPI": { "items": [{
                            "path": "namespace",
                            "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                        }] } },
                    ],
                },
            })
        );
    }

    #[test]
    fn automount_of_the_pod_overrides_the_accounts() {
        for (pod, account, mounts) in [
            (None, None, true),
            (None, Some(false), false),
            (Some(true), Some(false), true),
            (Some(false), Some(true), false),
        ] {
            let spec = PodSpec { automount_service_account_token: pod, ..PodSpec::default() };
            let account =
                ServiceAccount { automount_service_account_token: account, ..Default::default() };
            assert_eq!(automounts(&account, &spec), mounts, "{pod:?} {account:?}");
        }
    }
}
