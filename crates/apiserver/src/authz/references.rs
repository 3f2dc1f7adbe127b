//! What a pod's spec refers to: the secrets, config maps and account that it cannot run without.
//!
//! One walk over the spec serves the node graph (which node may read what), admission (who may use
//! what) and the checks on mirror pods, so that all of them see the same references.

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, PodSpec, Volume};

/// The kinds of objects a pod refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ReferenceKind {
    Secret,
    ConfigMap,
    ServiceAccount,
}

/// Where in the spec a reference is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Usage {
    ImagePull,
    Volume,
    Environment,
    Account,
    /// A projected token of the pod's account.
    Token,
}

/// One reference, within the pod's own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reference<'a> {
    pub(crate) kind: ReferenceKind,
    pub(crate) name: &'a str,
    pub(crate) usage: Usage,
}

/// Every reference a spec makes, in the order of its fields; the same object may come up again.
pub(crate) fn of(spec: &PodSpec) -> Vec<Reference<'_>> {
    let mut all = Vec::new();
    let mut put = |kind, name, usage| {
        if let Some(name) = Some(name).filter(|name: &&str| !name.is_empty()) {
            all.push(Reference { kind, name, usage });
        }
    };
    let account = spec.service_account_name.as_deref().or(spec.service_account.as_deref());
    put(ReferenceKind::ServiceAccount, account.unwrap_or_default(), Usage::Account);
    for reference in spec.image_pull_secrets.iter().flatten() {
        put(ReferenceKind::Secret, &reference.name, Usage::ImagePull);
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        environment(container, &mut put);
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        variables(container.env.as_deref(), container.env_from.as_deref(), &mut put);
    }
    for source in spec.volumes.iter().flatten() {
        volume(source, account.unwrap_or_default(), &mut put);
    }
    all
}

fn environment<'a>(container: &'a Container, put: &mut impl FnMut(ReferenceKind, &'a str, Usage)) {
    variables(container.env.as_deref(), container.env_from.as_deref(), put);
}

fn variables<'a>(
    env: Option<&'a [EnvVar]>,
    env_from: Option<&'a [EnvFromSource]>,
    put: &mut impl FnMut(ReferenceKind, &'a str, Usage),
) {
    for source in env_from.into_iter().flatten() {
        if let Some(secret) = &source.secret_ref {
            put(ReferenceKind::Secret, &secret.name, Usage::Environment);
        }
        if let Some(config) = &source.config_map_ref {
            put(ReferenceKind::ConfigMap, &config.name, Usage::Environment);
        }
    }
    for source in env.into_iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(secret) = &source.secret_key_ref {
            put(ReferenceKind::Secret, &secret.name, Usage::Environment);
        }
        if let Some(config) = &source.config_map_key_ref {
            put(ReferenceKind::ConfigMap, &config.name, Usage::Environment);
        }
    }
}

fn volume<'a>(
    volume: &'a Volume,
    account: &'a str,
    put: &mut impl FnMut(ReferenceKind, &'a str, Usage),
) {
    if let Some(secret) = &volume.secret {
        put(
            ReferenceKind::Secret,
            secret.secret_name.as_deref().unwrap_or_default(),
            Usage::Volume,
        );
    }
    if let Some(config) = &volume.config_map {
        put(ReferenceKind::ConfigMap, &config.name, Usage::Volume);
    }
    let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    for source in projected.into_iter().flatten() {
        if let Some(secret) = &source.secret {
            put(ReferenceKind::Secret, &secret.name, Usage::Volume);
        }
        if let Some(config) = &source.config_map {
            put(ReferenceKind::ConfigMap, &config.name, Usage::Volume);
        }
        if source.service_account_token.is_some() {
            put(ReferenceKind::ServiceAccount, account, Usage::Token);
        }
    }
    for secret in driver_secrets(volume) {
        put(ReferenceKind::Secret, secret, Usage::Volume);
    }
}

/// Secrets that volume drivers are handed. Coffer mounts none of these, and none is a way around
/// the checks.
fn driver_secrets(volume: &Volume) -> impl Iterator<Item = &str> {
    let local = [
        volume.cephfs.as_ref().and_then(|it| it.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|it| it.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|it| it.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|it| it.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|it| &it.secret_ref),
        volume.iscsi.as_ref().and_then(|it| it.secret_ref.as_ref()),
        volume.storageos.as_ref().and_then(|it| it.secret_ref.as_ref()),
        volume.csi.as_ref().and_then(|it| it.node_publish_secret_ref.as_ref()),
    ];
    let azure = volume.azure_file.as_ref().map(|it| it.secret_name.as_str());
    local.into_iter().flatten().map(|reference| reference.name.as_str()).chain(azure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_secret_is_found() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "serviceAccountName": "app",
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [
                {"name": "i", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "init", "key": "k"}}}]}
            ],
            "containers": [
                {"name": "c", "envFrom": [{"secretRef": {"name": "from"}}, {"configMapRef": {"name": "settings"}}]}
            ],
            "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "debug"}}]}],
            "volumes": [
                {"name": "v", "secret": {"secretName": "volume"}},
                {"name": "p", "projected": {"sources": [
                    {"secret": {"name": "projected"}},
                    {"serviceAccountToken": {"path": "token"}}
                ]}},
                {"name": "csi", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
                {"name": "az", "azureFile": {"shareName": "s", "secretName": "azure"}}
            ],
        }))
        .unwrap();
        let secrets: Vec<&str> = of(&spec)
            .into_iter()
            .filter(|found| found.kind == ReferenceKind::Secret)
            .map(|found| found.name)
            .collect();
        assert_eq!(
            secrets,
            ["pull", "init", "from", "debug", "volume", "projected", "csi", "azure"]
        );
        let token =
            Reference { kind: ReferenceKind::ServiceAccount, name: "app", usage: Usage::Token };
        assert!(of(&spec).contains(&token));
    }
}
