//! What a pod's spec refers to: the secrets, config maps and account that it cannot run without.
//!
//! One walk over the spec serves the node graph (which node may read what), admission (who may use
//! what), the checks on mirror pods and static pods, and the kubelet, which fetches what a container's
//! environment is made of, so that none of them knows a way in that another forgot.

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, PodSpec, Volume};

/// The kinds of objects a pod refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// `secrets`
    Secret,
    /// `configmaps`
    ConfigMap,
    /// `serviceaccounts`
    ServiceAccount,
}

impl ReferenceKind {
    /// The kind's plural, as messages have it.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
            Self::ServiceAccount => "serviceaccounts",
        }
    }
}

/// Where in the spec a reference is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Usage {
    /// `imagePullSecrets`
    ImagePull,
    /// A volume, or a source of a projected one.
    Volume,
    /// A container's environment.
    Environment,
    /// The account that the pod runs as.
    Account,
    /// A projected token of the pod's account.
    Token,
}

/// One reference, within the pod's own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reference<'a> {
    /// What kind of object.
    pub kind: ReferenceKind,
    /// Its name; not empty but in what [`written`] returns.
    pub name: &'a str,
    /// Where.
    pub usage: Usage,
    /// The one key that a variable is made from; `None` for the whole object.
    pub key: Option<&'a str>,
    /// Whether the pod runs without it.
    pub optional: bool,
}

/// Every reference a spec makes, in the order of its fields; the same object may come up again.
pub fn of(spec: &PodSpec) -> Vec<Reference<'_>> {
    let mut all = written(spec);
    all.retain(|reference| !reference.name.is_empty());
    all
}

/// As [`of`], with the references that leave out the name: what is to refer to nothing may not have them,
/// either.
pub fn written(spec: &PodSpec) -> Vec<Reference<'_>> {
    let mut all = Found(Vec::new());
    let account = spec.service_account_name.as_deref().or(spec.service_account.as_deref());
    let account = account.unwrap_or_default();
    if !account.is_empty() {
        all.put(ReferenceKind::ServiceAccount, account, Usage::Account, None);
    }
    for reference in spec.image_pull_secrets.iter().flatten() {
        all.put(ReferenceKind::Secret, &reference.name, Usage::ImagePull, None);
    }
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        all.environment(container.env.as_deref(), container.env_from.as_deref());
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        all.environment(container.env.as_deref(), container.env_from.as_deref());
    }
    for volume in spec.volumes.iter().flatten() {
        all.volume(volume, account);
    }
    all.0
}

/// What a container's environment refers to: whole objects first, then single keys.
pub fn of_environment(container: &Container) -> Vec<Reference<'_>> {
    let mut all = Found(Vec::new());
    all.environment(container.env.as_deref(), container.env_from.as_deref());
    all.0.retain(|reference| !reference.name.is_empty());
    all.0
}

struct Found<'a>(Vec<Reference<'a>>);

impl<'a> Found<'a> {
    fn put(&mut self, kind: ReferenceKind, name: &'a str, usage: Usage, optional: Option<bool>) {
        let optional = optional == Some(true);
        self.0.push(Reference { kind, name, usage, key: None, optional });
    }

    fn put_key(
        &mut self,
        kind: ReferenceKind,
        name: &'a str,
        key: &'a str,
        optional: Option<bool>,
    ) {
        let (usage, optional) = (Usage::Environment, optional == Some(true));
        self.0.push(Reference { kind, name, usage, key: Some(key), optional });
    }

    fn environment(&mut self, env: Option<&'a [EnvVar]>, env_from: Option<&'a [EnvFromSource]>) {
        for source in env_from.into_iter().flatten() {
            if let Some(secret) = &source.secret_ref {
                let optional = secret.optional;
                self.put(ReferenceKind::Secret, &secret.name, Usage::Environment, optional);
            }
            if let Some(config) = &source.config_map_ref {
                let optional = config.optional;
                self.put(ReferenceKind::ConfigMap, &config.name, Usage::Environment, optional);
            }
        }
        for source in env.into_iter().flatten().filter_map(|variable| variable.value_from.as_ref())
        {
            if let Some(secret) = &source.secret_key_ref {
                self.put_key(ReferenceKind::Secret, &secret.name, &secret.key, secret.optional);
            }
            if let Some(config) = &source.config_map_key_ref {
                self.put_key(ReferenceKind::ConfigMap, &config.name, &config.key, config.optional);
            }
        }
    }

    fn volume(&mut self, volume: &'a Volume, account: &'a str) {
        let usage = Usage::Volume;
        if let Some(secret) = &volume.secret {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            self.put(ReferenceKind::Secret, name, usage, secret.optional);
        }
        if let Some(config) = &volume.config_map {
            self.put(ReferenceKind::ConfigMap, &config.name, usage, config.optional);
        }
        let projected = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
        for source in projected.into_iter().flatten() {
            if let Some(secret) = &source.secret {
                self.put(ReferenceKind::Secret, &secret.name, usage, secret.optional);
            }
            if let Some(config) = &source.config_map {
                self.put(ReferenceKind::ConfigMap, &config.name, usage, config.optional);
            }
            if source.service_account_token.is_some() {
                self.put(ReferenceKind::ServiceAccount, account, Usage::Token, None);
            }
        }
        for secret in driver_secrets(volume) {
            self.put(ReferenceKind::Secret, secret, usage, None);
        }
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
    use serde_json::{Value, json};

    use super::*;
    use crate::schema::{self, Schema, Shape};

    fn names(spec: &PodSpec, kind: ReferenceKind) -> Vec<&str> {
        of(spec).into_iter().filter(|found| found.kind == kind).map(|found| found.name).collect()
    }

    #[test]
    fn every_way_to_name_a_secret_is_found() {
        let spec: PodSpec = serde_json::from_value(json!({
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
        assert_eq!(
            names(&spec, ReferenceKind::Secret),
            ["pull", "init", "from", "debug", "volume", "projected", "csi", "azure"]
        );
        let is_token = |found: &Reference<'_>| (found.usage, found.name) == (Usage::Token, "app");
        assert!(of(&spec).iter().any(is_token));
    }

    /// A field, and what may stand there.
    type Step = (String, Schema);

    /// A value at this place that names an object, in everything around it.
    fn naming(place: &[Step]) -> Value {
        let (_, schema) = place.last().expect("a place has steps");
        let mut value = match schema.shape() {
            Shape::Struct if schema.field("secretName").is_some() => json!({"secretName": "found"}),
            Shape::Struct => json!({"name": "found"}),
            Shape::List(..) => json!([{"name": "found"}]),
            _ => json!("found"),
        };
        for at in (0..place.len()).rev() {
            let outer = at.checked_sub(1).map(|outer| place[outer].1);
            value = json!({ place[at].0.as_str(): value });
            if let Some(Shape::List(..)) = outer.map(|outer| outer.shape()) {
                value = json!([value]);
            }
        }
        value
    }

    /// Calls `see` with each place whose name says that it names an object.
    fn places(
        schema: Schema,
        place: &mut Vec<Step>,
        is_reference: &dyn Fn(&str) -> bool,
        see: &mut dyn FnMut(&[Step]),
    ) {
        let inner = match schema.shape() {
            Shape::List(item, _) => item,
            _ => schema,
        };
        // Nothing in a pod that names an object is deeper.
        if place.len() > 6 {
            return;
        }
        for (name, field) in inner.fields() {
            place.push((name.to_owned(), field));
            if is_reference(name) {
                see(place);
            } else {
                places(field, place, is_reference, see);
            }
            place.pop();
        }
    }

    #[test]
    fn every_field_of_a_pod_that_names_a_secret_or_config_map_is_walked() {
        let spec = schema::of("v1", "Pod").and_then(|pod| pod.field("spec")).unwrap();
        for (kind, word, least) in
            [(ReferenceKind::Secret, "ecret", 18), (ReferenceKind::ConfigMap, "onfigMap", 8)]
        {
            let mut seen = 0;
            // A `secretFile` is a path.
            let is_reference = |name: &str| name.contains(word) && name != "secretFile";
            places(spec, &mut Vec::new(), &is_reference, &mut |place| {
                let json = naming(place);
                let spec: PodSpec = serde_json::from_value(json.clone()).expect("it fits");
                assert_eq!(names(&spec, kind), ["found"], "{json}");
                seen += 1;
            });
            assert!(seen >= least, "{kind:?}: {seen}");
        }
    }

    #[test]
    fn a_reference_without_a_name_is_written_and_refers_to_nothing() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [],
            "volumes": [{"name": "v", "secret": {}}],
        }))
        .unwrap();
        assert!(of(&spec).is_empty());
        assert_eq!(written(&spec).len(), 1);
    }
}
