//! What is allowed in a pod spec and yet most likely not meant.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};

use super::environment;
use super::resources::Amounts;
use super::volumes::{Source, sources_of};
use crate::field::Path;
use crate::kinds::optional::{list, text};
use crate::quantity::Quantity;

/// Warnings about the pods a template would make.
pub(crate) fn of_template(template: Option<&PodTemplateSpec>, path: &Path) -> Vec<String> {
    let spec = template.and_then(|template| template.spec.as_ref());
    spec.map(|spec| of_spec(spec, &path.child("spec"))).unwrap_or_default()
}

/// Warnings about a spec at `path`, of a pod or of a template.
pub(super) fn of_spec(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(deprecated_volumes(spec, path));
    let mut addresses = BTreeSet::new();
    for (at, alias) in list(&spec.host_aliases).iter().enumerate() {
        if !addresses.insert(&alias.ip) {
            let path = path.child("hostAliases").index(at).child("ip");
            warnings.push(format!("{path}: duplicate ip {:?}", alias.ip));
        }
    }
    warnings.extend(pull_secrets(spec, path));
    let all = [("initContainers", list(&spec.init_containers)), ("containers", &spec.containers)];
    for (name, containers) in all {
        for (at, container) in containers.iter().enumerate() {
            warnings.extend(of_container(container, &path.child(name).index(at)));
        }
    }
    if spec.termination_grace_period_seconds.is_some_and(|grace_s| grace_s < 0) {
        let path = path.child("terminationGracePeriodSeconds");
        warnings.push(format!(
            "{path}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    warnings
}

fn deprecated_volumes(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, volume) in list(&spec.volumes).iter().enumerate() {
        let path = path.child("volumes").index(at);
        let since = [
            (Source::PhotonPersistentDisk, "v1.11, non-functional in v1.16+"),
            (Source::GitRepo, "v1.11"),
            (Source::ScaleIo, "v1.16, non-functional in v1.22+"),
            (Source::Flocker, "v1.22, non-functional in v1.25+"),
            (Source::StorageOs, "v1.22, non-functional in v1.25+"),
            (Source::Quobyte, "v1.22, non-functional in v1.25+"),
            (Source::Glusterfs, "v1.25, non-functional in v1.26+"),
            (Source::CephFs, "v1.28, non-functional in v1.31+"),
            (Source::Rbd, "v1.28, non-functional in v1.31+"),
        ];
        let sources = sources_of(volume);
        for (source, since) in since.iter().filter(|(source, _)| sources.contains(source)) {
            let name = match source {
                Source::StorageOs => "storageOS".to_owned(),
                Source::CephFs => "cephfs".to_owned(),
                other => other.to_string(),
            };
            warnings.push(format!("{}: deprecated in {since}", path.child(&name)));
        }
    }
    warnings
}

fn pull_secrets(spec: &PodSpec, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut names = BTreeSet::new();
    let secrets = list(&spec.image_pull_secrets);
    let at_name = |at| path.child("imagePullSecrets").index(at).child("name");
    for (at, secret) in secrets.iter().enumerate() {
        if !names.insert(&secret.name) {
            warnings.push(format!("{}: duplicate name {:?}", at_name(at), secret.name));
        }
    }
    for (at, _) in secrets.iter().enumerate().filter(|(_, secret)| secret.name.is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", at_name(at)));
    }
    warnings
}

fn of_container(container: &Container, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(requirements) = &container.resources {
        let path = path.child("resources");
        warnings.extend(fractions(&requirements.limits, &path.child("limits")));
        warnings.extend(fractions(&requirements.requests, &path.child("requests")));
    }
    for (at, name) in environment::hidden(&container.env) {
        let path = path.child("env").index(at);
        warnings.push(format!(
            "{path}: hides previous definition of {name:?}, which may be dropped when using apply"
        ));
    }
    let mut seen: Vec<(usize, String)> = Vec::new();
    for (at, port) in list(&container.ports).iter().enumerate() {
        let what = format!(
            "{}/{}/{}/{}",
            port.container_port,
            text(&port.protocol),
            text(&port.host_ip),
            port.host_port.unwrap_or_default()
        );
        let ports = path.child("ports");
        if let Some((other, _)) = seen.iter().find(|(_, other)| *other == what) {
            let (path, other) = (ports.index(at), ports.index(*other));
            warnings.push(format!("{path}: duplicate port definition with {other}"));
        }
        seen.push((at, what));
    }
    warnings
}

fn fractions(amounts: &Option<Amounts>, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in ["memory", "ephemeral-storage"] {
        let text = amounts.as_ref().and_then(|amounts| amounts.get(name));
        let quantity = text.and_then(|text| Quantity::of(text).ok());
        if let Some(quantity) = quantity.filter(|quantity| !quantity.is_whole()) {
            warnings.push(format!(
                "{}: fractional byte value \"{quantity}\" is invalid, must be an integer",
                path.key(name)
            ));
        }
    }
    warnings
}
