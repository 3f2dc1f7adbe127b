//! Use is a right: who makes a pod that uses a secret must be allowed to use that secret.
//!
//! In Kubernetes whoever may create pods in a namespace may read all its secrets, by running a pod
//! that shows them; the guide names it as a risk. Here a pod, a pod template or an account that
//! refers to a secret takes the right `use` or `get` on it, also of whoever changes what runs with
//! the secret: an image exchanged in somebody else's pod could show it as well. Scaling what
//! somebody else set up takes no right to its secrets, and a controller that makes pods from a
//! template acts for the one whose template was admitted.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeSet;

use coffer_api::kinds::{ServiceAccount, equal};
use coffer_api::status::Failure;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, ReplicationController};

use super::{Admission, SecretUseCheck};
use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::authz::references::{self, ReferenceKind};
use crate::authz::{Decision, Permit, node};
use crate::object::{Object, Resource};

/// Judges the secrets that a write gives to what runs; answers warnings where they are all that is wanted.
///
/// # Errors
/// 403 that names every secret the writer may not use.
pub(super) fn check(
    admission: &Admission<'_>,
    permit: &Permit,
    resource: &Resource,
    object: &dyn Object,
    old: Option<&dyn Object>,
) -> Result<Option<String>, Failure> {
    let mode = admission.access.secret_use_check;
    // What a node writes to a pod that is there is its status, whatever it sends along.
    let is_status = old.is_some() && node::of(permit.identity()).is_some();
    if mode == SecretUseCheck::Off || is_status {
        return Ok(None);
    }
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    let before = match (old, old.and_then(|old| runs(old.as_any())), runs(object.as_any())) {
        (Some(_), Some(before), Some(now)) if equal(&before, &now) => return Ok(None),
        // Of an account it is the list that counts: what is on it already is somebody else's word.
        (Some(old), None, None) => used_by(admission, old),
        _ => BTreeSet::new(),
    };
    let wanted = used_by(admission, object);
    let denied: Vec<&String> = wanted
        .difference(&before)
        .filter(|name| !may_use(admission, permit, namespace, name))
        .collect();
    if denied.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = denied.iter().map(|name| format!("{name:?}")).collect();
    let plural = if names.len() == 1 { "secret" } else { "secrets" };
    let user = &permit.identity().user;
    let why = format!(
        "User {user:?} cannot use {plural} {} in the namespace {namespace:?}: that takes the verb \"use\" or \"get\" on it",
        names.join(", ")
    );
    if mode == SecretUseCheck::Warn {
        return Ok(Some(why));
    }
    let name = object.meta().name.as_deref().unwrap_or_default();
    Err(Failure::forbidden(resource.group_resource(), name, &why))
}

fn may_use(admission: &Admission<'_>, permit: &Permit, namespace: &str, name: &str) -> bool {
    ["use", "get"].iter().any(|verb| may(verb, admission, permit, namespace, name))
}

/// Whether the writer has this right on a secret.
pub(super) fn may(
    verb: &str,
    admission: &Admission<'_>,
    permit: &Permit,
    namespace: &str,
    name: &str,
) -> bool {
    let asked = Attributes::resource(
        verb,
        ResourceTarget {
            resource: Cow::Borrowed("secrets"),
            namespace: Cow::Borrowed(namespace),
            name: Cow::Borrowed(name),
            ..Default::default()
        },
    );
    admission.authorizer.decide(permit.identity(), &asked) == Decision::Allow
}

/// The secrets that pods get by this object. A template's pods also get what their account adds.
fn used_by(admission: &Admission<'_>, object: &dyn Object) -> BTreeSet<String> {
    let any = object.as_any();
    if let Some(account) = any.downcast_ref::<ServiceAccount>() {
        let listed = account.secrets.iter().flatten().filter_map(|it| it.name.clone());
        let pull = account.image_pull_secrets.iter().flatten().map(|it| it.name.clone());
        return listed.chain(pull).filter(|name| !name.is_empty()).collect();
    }
    if let Some(pod) = any.downcast_ref::<Pod>() {
        return secrets_of(pod);
    }
    let Some(template) = template_of(any) else { return BTreeSet::new() };
    let mut pod = Pod {
        metadata: template.metadata.clone().unwrap_or_default(),
        spec: template.spec.clone(),
        status: None,
    };
    pod.metadata.namespace.clone_from(&object.meta().namespace);
    let own = secrets_of(&pod);
    // A template of an account that is not there, or that refuses it, makes no pods for now.
    match admission.equip(&mut pod) {
        Ok(_) => &own | &secrets_of(&pod),
        Err(_) => own,
    }
}

/// What a pod, or the pods of a template, run, but for where and for how long: schedulers and those
/// who end pods give nobody a secret.
fn runs(any: &dyn Any) -> Option<PodSpec> {
    let spec = match any.downcast_ref::<Pod>() {
        Some(pod) => pod.spec.clone(),
        None => template_of(any)?.spec.clone(),
    };
    Some(PodSpec {
        node_name: None,
        tolerations: None,
        scheduling_gates: None,
        active_deadline_seconds: None,
        termination_grace_period_seconds: None,
        ..spec.unwrap_or_default()
    })
}

fn secrets_of(pod: &Pod) -> BTreeSet<String> {
    let references = pod.spec.as_ref().map(references::of).unwrap_or_default();
    references
        .into_iter()
        .filter(|found| found.kind == ReferenceKind::Secret)
        .map(|found| found.name.to_owned())
        .collect()
}

/// The template of a kind that makes pods.
pub(super) fn template_of(any: &dyn Any) -> Option<&PodTemplateSpec> {
    if let Some(found) = any.downcast_ref::<Deployment>() {
        return found.spec.as_ref().map(|spec| &spec.template);
    }
    if let Some(found) = any.downcast_ref::<ReplicaSet>() {
        return found.spec.as_ref().and_then(|spec| spec.template.as_ref());
    }
    let found = any.downcast_ref::<ReplicationController>()?;
    found.spec.as_ref().and_then(|spec| spec.template.as_ref())
}
