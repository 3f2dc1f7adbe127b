//! What an object runs: the pod it is, or the pods that are made from its template, and what of
//! them decides what they get and what sees it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use coffer_api::equality::equal;
use coffer_api::references::{self, ReferenceKind};
use coffer_api::well_known::annotation;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, EnvVar, Pod, PodSpec, PodTemplateSpec};

use super::attach::ATTACH;
use crate::authz::node::graph::MIRROR;
use crate::object::Object;

/// Live update: the running pod follows its secrets.
const SECRET_UPDATE: &str = annotation::SECRET_UPDATE;
/// Annotations of a pod that decide what it gets, or when. (The downward API and the runtime read
/// others: [`reads_annotation`].)
pub(super) const ANNOTATIONS_READ: [&str; 3] = [ATTACH, SECRET_UPDATE, MIRROR];
/// The kubelet hands all annotations to the container runtime, which, with its plugins, reads those
/// that begin so.
const RUNTIME_PREFIXES: [&str; 8] = [
    "io.kubernetes.",
    "io.containerd",
    "io.katacontainers.",
    "run.oci.",
    "cdi.k8s.io/",
    annotation::APP_ARMOR_PREFIX,
    annotation::SECCOMP_CONTAINER_PREFIX,
    "seccomp.security.alpha.kubernetes.io/",
];
/// Or whose domains end so.
const RUNTIME_DOMAINS: [&str; 2] = ["nri.io", "nri.containerd.io"];

/// What an object runs.
pub(super) struct Workload<'a> {
    /// The pod, or one as the template describes it, in the object's namespace.
    pub(super) pod: Cow<'a, Pod>,
    /// Whether controllers make pods from it.
    pub(super) is_template: bool,
}

/// What an object runs; `None` for one that runs nothing.
pub(super) fn of(object: &dyn Object) -> Option<Workload<'_>> {
    if let Some(pod) = object.pod() {
        return Some(Workload { pod: Cow::Borrowed(pod), is_template: false });
    }
    let mut pod = pod_of(object.pod_template()?);
    pod.metadata.namespace.clone_from(&object.meta().namespace);
    Some(Workload { pod: Cow::Owned(pod), is_template: true })
}

/// A pod as a template describes it.
pub(super) fn pod_of(template: &PodTemplateSpec) -> Pod {
    Pod {
        metadata: template.metadata.clone().unwrap_or_default(),
        spec: template.spec.clone(),
        status: None,
    }
}

/// The secrets that a spec names.
pub(super) fn secrets_of(pod: &Pod) -> BTreeSet<String> {
    let references = pod.spec.as_ref().map(references::of).unwrap_or_default();
    references
        .into_iter()
        .filter(|found| found.kind == ReferenceKind::Secret)
        .map(|found| found.name.to_owned())
        .collect()
}

impl Workload<'_> {
    /// Whether it runs the same with the same secrets in the same places: all of the spec, but for
    /// how long and from when it runs, and what of labels and annotations is read.
    pub(super) fn runs_as(&self, old: &Self) -> bool {
        self.annotations_as(old) && equal(&self.spec(), &old.spec())
    }

    /// Whether what is read of labels and annotations is the same.
    pub(super) fn annotations_as(&self, old: &Self) -> bool {
        let (new, old) = (&self.pod.metadata, &old.pod.metadata);
        let read = Read::by(&self.pod);
        let pick = |map: Option<&BTreeMap<String, String>>, reads: &dyn Fn(&str) -> bool| {
            let read = map.into_iter().flatten().filter(|(key, _)| reads(key));
            read.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
        };
        let annotations = |key: &str| reads_annotation(key) || read.annotations.has(key);
        let labels = |key: &str| read.labels.has(key);
        pick(new.annotations.as_ref(), &annotations) == pick(old.annotations.as_ref(), &annotations)
            && pick(new.labels.as_ref(), &labels) == pick(old.labels.as_ref(), &labels)
    }

    /// A template's node and its gates are a choice of where its secrets go. A pod's node is the
    /// scheduler's, by `binding`, and never changes; its gates only go.
    fn spec(&self) -> PodSpec {
        let mut spec = self.pod.spec.clone().unwrap_or_default();
        if !self.is_template {
            (spec.node_name, spec.scheduling_gates) = (None, None);
        }
        PodSpec { active_deadline_seconds: None, termination_grace_period_seconds: None, ..spec }
    }
}

/// Whether the server, the kubelet or a container runtime reads an annotation of any pod.
pub(super) fn reads_annotation(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or_default();
    ANNOTATIONS_READ.contains(&key)
        || RUNTIME_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
        || RUNTIME_DOMAINS.iter().any(|it| domain.ends_with(it))
}

/// The keys that containers read of a map by the downward API.
#[derive(Default)]
struct Keys {
    whole: bool,
    keys: BTreeSet<String>,
}

impl Keys {
    fn has(&self, key: &str) -> bool {
        self.whole || self.keys.contains(key)
    }
}

/// What containers read of their pod's labels and annotations.
#[derive(Default)]
struct Read {
    labels: Keys,
    annotations: Keys,
}

impl Read {
    fn by(pod: &Pod) -> Self {
        let mut read = Self::default();
        let Some(spec) = &pod.spec else { return read };
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        let env = containers
            .flat_map(|it| it.env.iter().flatten())
            .chain(ephemeral.flat_map(|it| it.env.iter().flatten()));
        env.filter_map(variable).for_each(|path| read.add(path));
        for volume in spec.volumes.iter().flatten() {
            let own = volume.downward_api.iter().flat_map(|it| it.items.iter().flatten());
            let parts = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
            let parts = parts.filter_map(|part| part.downward_api.as_ref());
            let files = own.chain(parts.flat_map(|it| it.items.iter().flatten()));
            files.filter_map(file).for_each(|path| read.add(path));
        }
        read
    }

    /// A path of which it is not clear what it reads, reads everything.
    fn add(&mut self, path: &str) {
        for (map, keys) in
            [("metadata.labels", &mut self.labels), ("metadata.annotations", &mut self.annotations)]
        {
            let Some(rest) = path.strip_prefix(map) else { continue };
            match rest.strip_prefix("['").and_then(|rest| rest.strip_suffix("']")) {
                Some(key) => {
                    keys.keys.insert(key.to_owned());
                }
                None => keys.whole = true,
            }
        }
    }
}

fn variable(variable: &EnvVar) -> Option<&str> {
    let source = variable.value_from.as_ref()?;
    source.field_ref.as_ref().map(|field| field.field_path.as_str())
}

fn file(file: &DownwardAPIVolumeFile) -> Option<&str> {
    file.field_ref.as_ref().map(|field| field.field_path.as_str())
}

#[cfg(test)]
mod tests;
