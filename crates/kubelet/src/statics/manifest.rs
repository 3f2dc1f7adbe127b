//! From a manifest to a static pod: identity, defaults, validation, and the guide's restriction.
//! Pure.
//!
//! The guide: "Kubelet only supports use of secrets for Pods it gets from the API server." So a
//! manifest that refers to a secret in any way is refused as a whole, whichever source it came from.

use coffer_api::kinds::Kind as _;
use coffer_api::well_known::annotation;
use coffer_api::{Document, host_paths, references, yaml};
use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};

use crate::pod;

/// Where a manifest came from. Upstream's names for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ManifestSource {
    File,
    Url,
    /// The kubelet's own server.
    Api,
}

impl ManifestSource {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Url => "http",
            Self::Api => "api",
        }
    }
}

/// Why a manifest does not become a pod. No message quotes the manifest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("{0}")]
    Syntax(#[from] yaml::YamlError),
    #[error("it is a {0}, not a Pod")]
    Kind(String),
    #[error("a field has the wrong form")]
    Form,
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
    #[error("{0}")]
    Invalid(String),
}

/// A refused manifest, with the names that it gave itself if it could be read so far.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) error: ManifestError,
}

impl Refused {
    fn nameless(error: ManifestError) -> Self {
        Self { namespace: String::new(), name: String::new(), error }
    }
}

/// Reads one manifest that holds a Pod, or a PodList.
pub(crate) fn read(
    bytes: &[u8],
    source: ManifestSource,
    place: &str,
    node: &str,
) -> Vec<Result<Pod, Refused>> {
    let document = match yaml::parse(bytes) {
        Ok(document) => document,
        Err(error) => return vec![Err(Refused::nameless(error.into()))],
    };
    let items = document.value().get("items").and_then(|items| items.as_array());
    match (document.value()["kind"].as_str(), items) {
        (Some("PodList" | "List"), Some(items)) => items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                pod_of(&Document::new(item.clone()), source, &format!("{place}#{at}"), node)
            })
            .collect(),
        _ => vec![pod_of(&document, source, place, node)],
    }
}

fn pod_of(
    document: &Document,
    source: ManifestSource,
    place: &str,
    node: &str,
) -> Result<Pod, Refused> {
    let kind = document.value()["kind"].as_str().unwrap_or_default();
    if kind != "Pod" {
        return Err(Refused::nameless(ManifestError::Kind(kind.to_owned())));
    }
    // Serde's error may quote the value that it did not like.
    let decoded = document.decode::<Pod>();
    let mut pod = decoded.map_err(|_| Refused::nameless(ManifestError::Form))?;
    let uid = uid(document, source, place, node);
    identify(&mut pod, &uid, source, node);
    let refuse = |pod: &Pod, error| Refused {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        error,
    };
    if let Some(what) = reference(pod::spec(&pod)) {
        return Err(refuse(&pod, ManifestError::Reference(what)));
    }
    pod.set_defaults();
    let errors = pod.validate();
    if let Some(first) = errors.first() {
        return Err(refuse(&pod, ManifestError::Invalid(first.to_string())));
    }
    if pod::PodId::of(&pod).is_none() {
        return Err(refuse(&pod, ManifestError::Invalid("its name is not usable".to_owned())));
    }
    Ok(pod)
}

/// The pod's uid: the same for the same manifest at the same place, and for no other.
fn uid(document: &Document, source: ManifestSource, place: &str, node: &str) -> String {
    let text = document.value().to_string();
    let parts = [node, source.as_str(), place, &text];
    // Two FNV-1a sums with different beginnings: 128 bits, as upstream's uids have. It has to
    // tell manifests apart that one administrator wrote, not to withstand an attack.
    let sum = |offset: u64| {
        let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
        bytes.fold(offset, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    format!("{:016x}{:016x}", sum(0xcbf2_9ce4_8422_2325), sum(0x6c62_272e_07bb_0142))
}

fn identify(pod: &mut Pod, uid: &str, source: ManifestSource, node: &str) {
    let meta = &mut pod.metadata;
    meta.uid = Some(uid.to_owned());
    let name = meta.name.as_deref().unwrap_or_default();
    meta.name = Some(format!("{name}-{node}"));
    let namespace = meta.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    meta.namespace = Some(namespace.unwrap_or("default").to_owned());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(annotation::CONFIG_HASH.to_owned(), uid.to_owned());
    annotations.insert(annotation::CONFIG_SOURCE.to_owned(), source.as_str().to_owned());
    annotations.remove(annotation::MIRROR);
    // A manifest is the machine's own. (Its mirror in the API has no mark: the server takes it off.)
    annotations.insert(host_paths::GRANTED.to_owned(), "true".to_owned());
    pod.status = None;
    pod.spec.get_or_insert_default().node_name = Some(node.to_owned());
}

/// What of the API a spec refers to, if it does; upstream's plural names. A secret is what the guide speaks
/// of; it is named first.
fn reference(spec: &PodSpec) -> Option<&'static str> {
    let claims = |volume: &Volume| volume.persistent_volume_claim.is_some();
    let written = references::written(spec).into_iter().map(|reference| reference.kind);
    match written.min() {
        Some(kind) => Some(kind.plural()),
        None if spec.volumes.iter().flatten().any(claims) => Some("persistentvolumeclaims"),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(manifest: &str) -> Result<Pod, Refused> {
        read(manifest.as_bytes(), ManifestSource::File, "/m/web.yaml", "node-1").remove(0)
    }

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n\
        spec:\n  containers: [{name: c, image: i}]\n";

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let pod = one(WEB).expect("a pod");
        let again = one(WEB).expect("a pod");
        assert_eq!(pod.metadata.name.as_deref(), Some("web-node-1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(pod.metadata.uid, again.metadata.uid);
        assert_eq!(pod::spec(&pod).node_name.as_deref(), Some("node-1"));
        assert_eq!(pod::spec(&pod).restart_policy.as_deref(), Some("Always"), "defaults are set");
        let other = one(&WEB.replace("image: i", "image: j")).expect("a pod");
        assert_ne!(pod.metadata.uid, other.metadata.uid);
    }

    #[test]
    fn every_way_to_refer_to_a_secret_is_refused() {
        for part in [
            "volumes: [{name: v, secret: {secretName: s}}]",
            "volumes: [{name: v, projected: {sources: [{secret: {name: s}}]}}]",
            "volumes: [{name: v, csi: {driver: d, nodePublishSecretRef: {name: s}}}]",
            "volumes: [{name: v, azureFile: {secretName: s, shareName: x}}]",
            "imagePullSecrets: [{name: s}]",
            "initContainers: [{name: i, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]",
            "initContainers: [{name: i, image: i, envFrom: [{secretRef: {name: s}}]}]",
        ] {
            let refused = one(&format!("{WEB}  {part}\n")).expect_err(part);
            assert_eq!(
                refused.error.to_string(),
                "static pods may not reference secrets",
                "{part}"
            );
            assert_eq!(refused.name, "web-node-1");
        }
        let account = one(&format!("{WEB}  serviceAccountName: a\n")).expect_err("refused");
        assert_eq!(account.error.to_string(), "static pods may not reference serviceaccounts");
    }

    #[test]
    fn an_invalid_pod_is_refused_without_being_quoted() {
        for wrong in ["", "{", "kind: Secret\ndata: {a: canary}\n", "kind: Pod\nspec: canary\n"] {
            let refused = one(wrong).expect_err(wrong);
            assert!(!refused.error.to_string().contains("canary"), "{}", refused.error);
        }
        let invalid =
            one("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n");
        assert!(matches!(invalid.expect_err("invalid").error, ManifestError::Invalid(_)));
    }

    #[test]
    fn a_list_is_as_many_pods() {
        let list = "kind: PodList\nitems:\n- {kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}\n\
            - {kind: Pod, metadata: {name: b}, spec: {containers: [{name: c, image: i}]}}\n";
        let pods = read(list.as_bytes(), ManifestSource::Url, "http://x", "n");
        assert_eq!(pods.iter().filter(|pod| pod.is_ok()).count(), 2);
    }
}
