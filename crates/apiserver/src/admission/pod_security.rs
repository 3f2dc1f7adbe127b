//! PodSecurity: a pod may ask of its node what its namespace allows, as the namespace's labels
//! `pod-security.kubernetes.io/*` say, or `--pod-security-default` where there is no enforce label.
//!
//! Pods are refused; for templates, whose pods would be, the client gets a warning. A namespace's labels
//! must be valid, and a client that tightens them is warned of the pods that violate them. The checks
//! themselves are pure: [`coffer_api::pod_security`]. A user who may update a namespace sets its
//! level, as upstream.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use coffer_api::kinds::Namespace;
use coffer_api::pod_security::{Policy, Violation, details, reasons, violations};
use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Admission;
use super::named::shown_name;
use crate::authz::Permit;
use crate::cache::Scope;
use crate::object::{Object, Resource};

/// Pods checked when a namespace is tightened.
const EXISTING_PODS_MAX: usize = 3000;
/// How long that may take.
const EXISTING_PODS_TIME: Duration = Duration::from_secs(1);

/// Checks a new object. Returns warnings.
///
/// # Errors
/// 403 for a pod that its namespace does not allow, 422 for a namespace with labels that say nothing.
pub(super) fn create(
    admission: &Admission,
    resource: &Resource,
    object: &dyn Object,
) -> Result<Vec<String>, Failure> {
    if let Some(namespace) = object.of_kind::<Namespace>() {
        validate_labels(admission, resource, namespace, None)?;
        return Ok(Vec::new());
    }
    match object.pod() {
        Some(pod) => check_pod(admission, resource, object, pod),
        None => Ok(check_template(admission, resource, object)),
    }
}

/// Checks an update of an object. Returns warnings.
///
/// # Errors
/// As [`create`].
pub(super) fn update(
    admission: &Admission,
    permit: &Permit,
    resource: &Resource,
    object: &dyn Object,
    old: &dyn Object,
) -> Result<Vec<String>, Failure> {
    if !permit.writes_spec() {
        return Ok(Vec::new());
    }
    if let (Some(pod), Some(before)) = (object.pod(), old.pod()) {
        // What this endpoint does not write is not checked: it stays as it was.
        let sub = SubresourceName::parse(permit.subresource());
        let mut pod = pod.clone();
        Object::prepare_for_update(&mut pod, before, sub);
        return if is_significant(&pod, before) {
            check_pod(admission, resource, object, &pod)
        } else {
            Ok(Vec::new())
        };
    }
    match (object.of_kind::<Namespace>(), old.of_kind::<Namespace>()) {
        (Some(namespace), Some(before)) => {
            let now = validate_labels(admission, resource, namespace, Some(before))?;
            let (before, _) = policy_of(admission, &before.metadata);
            let name = namespace.metadata.name.as_deref().unwrap_or_default();
            Ok(if now.tightens(&before) {
                check_existing_pods(admission, name, &now)
            } else {
                Vec::new()
            })
        }
        _ => Ok(check_template(admission, resource, object)),
    }
}

fn policy_of(admission: &Admission, meta: &ObjectMeta) -> (Policy, Vec<String>) {
    let none = BTreeMap::new();
    let labels = meta.labels.as_ref().unwrap_or(&none);
    let (policy, errors) = Policy::of(labels, admission.config.pod_security_default);
    (policy, errors.iter().map(ToString::to_string).collect())
}

/// The policy of a namespace's labels. Those that were invalid before may stay so.
fn validate_labels(
    admission: &Admission,
    resource: &Resource,
    namespace: &Namespace,
    old: Option<&Namespace>,
) -> Result<Policy, Failure> {
    let none = BTreeMap::new();
    let labels = namespace.metadata.labels.as_ref().unwrap_or(&none);
    let (policy, errors) = Policy::of(labels, admission.config.pod_security_default);
    let as_before = old.is_some_and(|old| {
        let wrong: Vec<_> = errors.iter().map(ToString::to_string).collect();
        policy_of(admission, &old.metadata).1 == wrong
    });
    if errors.is_empty() || as_before {
        return Ok(policy);
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    Err(Failure::invalid(resource.info.group, resource.info.kind, name, &errors))
}

/// The policy for what is in a namespace; nothing where there is no such namespace.
fn policy_in(admission: &Admission, namespace: &str) -> Option<Policy> {
    let namespaces = admission.resources.of::<Namespace>();
    let found = namespaces.shard().get(&namespaces.key("", namespace))?;
    Some(Policy::of(&found.labels, admission.config.pod_security_default).0)
}

fn check_pod(
    admission: &Admission,
    resource: &Resource,
    object: &dyn Object,
    pod: &Pod,
) -> Result<Vec<String>, Failure> {
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let policy = policy_in(admission, namespace)
        .ok_or_else(|| Failure::internal(format!("failed to lookup namespace {namespace:?}")))?;
    if policy.is_privileged() {
        return Ok(Vec::new());
    }
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let found = violations(policy.enforce, &pod.metadata, spec);
    if !found.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&found));
        return Err(Failure::forbidden(resource.group_resource(), &shown_name(object), &why));
    }
    Ok(warnings_of(&policy, resource, namespace, &pod.metadata, spec))
}

fn check_template(admission: &Admission, resource: &Resource, object: &dyn Object) -> Vec<String> {
    let Some(template) = object.pod_template() else { return Vec::new() };
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    // A template runs nothing: without a namespace, which is refused elsewhere, there is nothing to warn of.
    let Some(policy) = policy_in(admission, namespace) else { return Vec::new() };
    let (meta, spec) = (ObjectMeta::default(), PodSpec::default());
    let meta = template.metadata.as_ref().unwrap_or(&meta);
    warnings_of(&policy, resource, namespace, meta, template.spec.as_ref().unwrap_or(&spec))
}

/// The warning for a client, if there is reason for one.
fn warnings_of(
    policy: &Policy,
    resource: &Resource,
    namespace: &str,
    meta: &ObjectMeta,
    spec: &PodSpec,
) -> Vec<String> {
    let audited = violations(policy.audit, meta, spec);
    if !audited.is_empty() {
        // There is no audit log yet. Once there is one, this is the annotation
        // `pod-security.kubernetes.io/audit-violations` of the request's event, with the details.
        tracing::debug!(
            resource = %resource.group_resource(),
            namespace,
            policy = %policy.audit,
            checks = reasons(&audited),
            "pod security: audit-violations"
        );
    }
    let warned = violations(policy.warn, meta, spec);
    if warned.is_empty() { Vec::new() } else { vec![would_violate(policy, &warned)] }
}

fn would_violate(policy: &Policy, found: &[Violation]) -> String {
    format!("would violate PodSecurity \"{}\": {}", policy.warn, details(found))
}

/// Whether an update changes what a pod runs: of what a pod's update may change only images and
/// further containers do.
fn is_significant(new: &Pod, old: &Pod) -> bool {
    let none = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&none), old.spec.as_ref().unwrap_or(&none));
    let differ = |new: &[Container], old: &[Container]| {
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new.image != old.image)
    };
    let init = |spec: &PodSpec| spec.init_containers.clone().unwrap_or_default();
    let ephemeral = |spec: &PodSpec| spec.ephemeral_containers.clone().unwrap_or_default();
    let before = ephemeral(old);
    let is_new = |container: &EphemeralContainer| {
        let same = before.iter().find(|before| before.name == container.name);
        same.is_none_or(|before| before.image != container.image)
    };
    differ(&new.containers, &old.containers)
        || differ(&init(new), &init(old))
        || ephemeral(new).iter().any(is_new)
}

/// Warnings about the pods of a namespace that violate what it enforces from now on, those with the
/// same violations named once. Of the pods of one controller one is checked before all others.
fn check_existing_pods(admission: &Admission, namespace: &str, policy: &Policy) -> Vec<String> {
    let deadline = Instant::now() + EXISTING_PODS_TIME;
    let pods = admission.resources.of::<Pod>();
    let scope = Scope::Namespace(namespace.to_owned());
    let (found, _) = pods.shard().list(&pods.collection(namespace), &scope);
    let (mut seen, mut later) = (HashSet::new(), Vec::new());
    let mut total = Tally::default();
    let mut checked = 0;
    let look = |pod: &Pod, total: &mut Tally| {
        let none = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&none);
        total.add(pod, &violations(policy.enforce, &pod.metadata, spec));
    };
    for cached in &found {
        if checked == EXISTING_PODS_MAX || Instant::now() > deadline {
            break;
        }
        let Ok(pod) = serde_json::from_slice::<Pod>(&cached.bytes) else { continue };
        let mut owners = pod.metadata.owner_references.iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        if controller.is_some_and(|owner| !seen.insert(owner.uid.clone())) {
            later.push(cached);
            continue;
        }
        look(&pod, &mut total);
        checked += 1;
    }
    for cached in later {
        if checked == EXISTING_PODS_MAX || Instant::now() > deadline {
            break;
        }
        let Ok(pod) = serde_json::from_slice::<Pod>(&cached.bytes) else { continue };
        look(&pod, &mut total);
        checked += 1;
    }
    let mut warnings = Vec::new();
    if checked < found.len() {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {} existing pods",
            found.len()
        ));
    }
    warnings.extend(total.warnings(namespace, policy));
    warnings
}

/// Pods by what they violate: the first by name, and how many.
#[derive(Default)]
struct Tally(BTreeMap<String, (String, usize)>);

impl Tally {
    fn add(&mut self, pod: &Pod, found: &[Violation]) {
        if found.is_empty() {
            return;
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let (first, count) = self.0.entry(reasons(found)).or_insert_with(|| (name.clone(), 0));
        if name < *first {
            *first = name;
        }
        *count += 1;
    }

    fn warnings(self, namespace: &str, policy: &Policy) -> Vec<String> {
        let lines = self.0.into_iter().map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        });
        let mut lines: Vec<_> = lines.collect();
        lines.sort();
        if !lines.is_empty() {
            lines.insert(
                0,
                format!(
                    "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{}\"",
                    policy.enforce
                ),
            );
        }
        lines
    }
}
