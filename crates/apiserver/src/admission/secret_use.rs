//! Use of secrets is a permission: a user who creates a pod with a secret must be allowed to use that secret.
//!
//! In Kubernetes a user who may create pods in a namespace may read all its secrets, by running a pod
//! that prints them; the guide names it as a risk. Here a pod, a pod template or an account that
//! references a secret requires `use` or `get` on it, also of a user who changes what runs
//! with the secret: another image in another user's pod could print it as well. Scaling another user's
//! workload requires no permission on its secrets.
//!
//! A template's pods are made later, by a controller, and what their account lists may have changed
//! by then. What the template's writer was allowed is recorded ([`super::grant`]), and a
//! controller's pod gets that and no more, whatever the controller itself may do.

use std::borrow::Cow;
use std::collections::BTreeSet;

use coffer_api::kinds::{Secret, ServiceAccount};
use coffer_api::status::Failure;

use super::attach::{self, MOUNT_PATH};
use super::grant::{Grant, Secrets};
use super::owner::{self, Owner};
use super::workload::{self, Workload, secrets_of};
use super::{Admission, SecretUseCheck, host_paths};
use crate::authz::attributes::{Attributes, ResourceTarget};
use crate::authz::{Decision, Permit};
use crate::object::{Object, Resource};

/// A write whose secrets are checked.
pub(super) struct Write<'a> {
    pub(super) admission: &'a Admission,
    pub(super) permit: &'a Permit,
    pub(super) resource: &'a Resource,
    /// The name in refusals.
    pub(super) name: String,
    /// The namespace it is written to.
    pub(super) namespace: String,
}

/// What the last writer of the template that a pod is made from was allowed: no more is attached to
/// it. `None` for a pod without a controller, and where nothing is refused.
pub(super) fn limit(
    admission: &Admission,
    permit: &Permit,
    owner: Option<&Owner>,
) -> Option<Secrets> {
    if admission.config.secret_use_check != SecretUseCheck::Enforce {
        return None;
    }
    match owner {
        Some(owner) => Some(owner.secrets.clone()),
        None if owner::is_controller(permit.identity()) => Some(Secrets::Named(BTreeSet::new())),
        None => None,
    }
}

impl Write<'_> {
    /// Checks a new object, records the grant of one that has a template. Returns warnings where
    /// they are all that is wanted.
    ///
    /// # Errors
    /// 403 that names every secret the writer may not use; 409 for a controller's pod that does not
    /// match its owner's current template.
    pub(super) fn create(
        &self,
        object: &mut dyn Object,
        owner: Option<Owner>,
    ) -> Result<Option<String>, Failure> {
        let Some(workload) = workload::of(object) else { return self.account(object, None) };
        let is_node = self.permit.identity().node().is_some();
        if owner::is_controller(self.permit.identity()) {
            return self.controllers_own(object, owner);
        }
        let (is_template, checked) = (workload.is_template, self.check(&workload));
        let mut grant = Grant {
            secrets: checked.granted,
            // A mirror pod runs from the node's own files, and uses no secrets of the API.
            host_paths: !is_node && host_paths::check(self, &workload)?,
        };
        if let Some(owner) = owner {
            grant.secrets = grant.secrets.map(|own| own.and(owner.secrets));
            grant.host_paths &= owner.host_paths;
        }
        let warning = self.refuse(&checked.denied)?;
        record(object, grant, is_template);
        Ok(warning)
    }

    /// An object that a controller creates gets its owner's template and what was granted with it.
    fn controllers_own(
        &self,
        object: &mut dyn Object,
        owner: Option<Owner>,
    ) -> Result<Option<String>, Failure> {
        let pod = object.pod();
        let nothing = Grant { secrets: Some(Secrets::Named(BTreeSet::new())), host_paths: false };
        let Some(pod) = pod else {
            // If the owner's template has changed meanwhile, its controller scales this one down soon.
            let grant = owner.filter(|owner| owner.is_made_from).map(|owner| owner.grant);
            record(object, grant.unwrap_or(nothing), true);
            return Ok(None);
        };
        let granted = owner.as_ref().map(|owner| &owner.secrets);
        let has = |name: &String| granted.is_some_and(|granted| granted.has(name));
        let denied: Vec<String> = secrets_of(pod).into_iter().filter(|name| !has(name)).collect();
        let shown = owner.as_ref().map(|owner| owner.shown.as_str());
        let host_paths = owner.as_ref().is_some_and(|owner| owner.host_paths);
        host_paths::granted(self, pod, host_paths, shown)?;
        let warning = if denied.is_empty() || self.mode() == SecretUseCheck::Off {
            None
        } else {
            let why = match shown {
                Some(shown) => format!(
                    "the last writer of the template of {shown} was not allowed to use {}",
                    listed(&denied)
                ),
                None => format!(
                    "no owner's template references {}, and a controller's pod may use no other secrets",
                    listed(&denied)
                ),
            };
            self.warn_or_refuse(why)?
        };
        record(object, Grant { secrets: None, host_paths }, false);
        Ok(warning)
    }

    /// Checks an updated object.
    ///
    /// # Errors
    /// As for a new object.
    pub(super) fn update(
        &self,
        object: &mut dyn Object,
        old: &dyn Object,
        owner: Option<Owner>,
    ) -> Result<Option<String>, Failure> {
        let (Some(new), Some(before)) = (workload::of(object), workload::of(old)) else {
            return self.account(object, Some(old));
        };
        // A node writes only the status of an existing pod, whatever else it sends.
        if self.permit.identity().node().is_some() {
            return Ok(None);
        }
        let writes_spec = self.permit.writes_spec();
        if !new.is_template {
            let same = if writes_spec { new.runs_as(&before) } else { new.annotations_as(&before) };
            if same {
                return Ok(None);
            }
            let checked = if writes_spec { &new } else { &before };
            host_paths::check_update(self, checked, Grant::of(old.meta()).host_paths)?;
            return self.refuse(&self.check(checked).denied);
        }
        if !writes_spec {
            return Ok(None);
        }
        let (new_template, old_template) = (object.pod_template(), old.pod_template());
        let is_same = new_template
            .zip(old_template)
            .is_some_and(|(new, old)| coffer_api::equality::equal(new, old));
        if is_same {
            let owner = owner.filter(|owner| owner.is_made_from);
            if let Some(owner) = owner.filter(|_| owner::is_controller(self.permit.identity())) {
                record(object, owner.grant, true);
            }
            return Ok(None);
        }
        let stored = Grant::of(old.meta());
        if new.runs_as(&before) {
            // A restart: what the account lists now is granted to the same program as far as the writer may use it.
            let secrets = self.extended(&new, stored.secrets.clone());
            record(object, Grant { secrets, ..stored }, true);
            return Ok(None);
        }
        if owner::is_controller(self.permit.identity()) {
            return self.controllers_own(object, owner);
        }
        let checked = self.check(&new);
        let host_paths = host_paths::check(self, &new)?;
        let warning = self.refuse(&checked.denied)?;
        record(object, Grant { secrets: checked.granted, host_paths }, true);
        Ok(warning)
    }

    /// The grant of a template whose program stays the same: what it had, and what its account lists now,
    /// as far as this writer may use it. A controller adds nothing.
    fn extended(&self, workload: &Workload<'_>, stored: Option<Secrets>) -> Option<Secrets> {
        if self.mode() == SecretUseCheck::Off || owner::is_controller(self.permit.identity()) {
            return stored;
        }
        let named = secrets_of(&workload.pod);
        let had = stored.unwrap_or(Secrets::Named(named));
        let listed = attach::listed_by_account(self.admission, &workload.pod).all;
        let more = listed.into_iter().filter(|name| !had.has(name));
        let more: Vec<String> = more.filter(|name| self.may_use(name, workload)).collect();
        Some(had.with(more))
    }

    /// Which secrets the writer may grant and which not.
    fn check(&self, workload: &Workload<'_>) -> Checked {
        if self.mode() == SecretUseCheck::Off {
            return Checked { granted: None, denied: Vec::new() };
        }
        let mut wanted = secrets_of(&workload.pod);
        let mut all = wanted.clone();
        if workload.is_template {
            let listed = attach::listed_by_account(self.admission, &workload.pod);
            wanted.extend(listed.wanted);
            all.extend(listed.all);
        }
        // A user who may use every secret may use each.
        if self.may_use("", workload) {
            return Checked { granted: Some(Secrets::Every), denied: Vec::new() };
        }
        let (may, denied): (BTreeSet<_>, BTreeSet<_>) =
            all.into_iter().partition(|name| self.may_use(name, workload));
        let denied = denied.into_iter().filter(|name| wanted.contains(name)).collect();
        Checked { granted: Some(Secrets::Named(may)), denied }
    }

    /// Checks an account. Only changes of its list count: what is on it already was another user's
    /// decision, unless its mount path changes.
    fn account(
        &self,
        object: &dyn Object,
        old: Option<&dyn Object>,
    ) -> Result<Option<String>, Failure> {
        let account = |object: Option<&dyn Object>| -> Option<ServiceAccount> {
            object.and_then(|it| it.of_kind::<ServiceAccount>()).cloned()
        };
        let Some(new) = account(Some(object)) else { return self.mount_path(object, old) };
        if self.mode() == SecretUseCheck::Off {
            return Ok(None);
        }
        let path = |account: &ServiceAccount| {
            account.metadata.annotations.as_ref().and_then(|all| all.get(MOUNT_PATH)).cloned()
        };
        let before = account(old).filter(|old| path(old) == path(&new));
        let before = before.map(|old| attach::all_of(&old)).unwrap_or_default();
        let namespace = new.metadata.namespace.as_deref().unwrap_or_default();
        let added = attach::all_of(&new);
        let added = added.difference(&before);
        let denied = added.filter(|name| !may_use(self.admission, self.permit, namespace, name));
        self.refuse(&denied.cloned().collect::<Vec<_>>())
    }

    /// Checks where a secret says that it is mounted: in pods that have other secrets, too, whose
    /// programs may read what lies there.
    fn mount_path(
        &self,
        object: &dyn Object,
        old: Option<&dyn Object>,
    ) -> Result<Option<String>, Failure> {
        if !self.resource.is::<Secret>() || self.mode() == SecretUseCheck::Off {
            return Ok(None);
        }
        let path =
            |object: &dyn Object| object.meta().annotations.as_ref()?.get(MOUNT_PATH).cloned();
        let may = || may_use(self.admission, self.permit, &self.namespace, "");
        if path(object) == old.and_then(path) || may() {
            return Ok(None);
        }
        let (user, namespace) = (&self.permit.identity().user, &self.namespace);
        self.warn_or_refuse(format!(
            "User {user:?} cannot change the annotation {MOUNT_PATH}: pods with other secrets mount it, so this requires the verb \"use\" or \"get\" on all secrets in the namespace {namespace:?}"
        ))
    }

    fn may_use(&self, name: &str, workload: &Workload<'_>) -> bool {
        let namespace = workload.pod.metadata.namespace.as_deref().unwrap_or_default();
        may_use(self.admission, self.permit, namespace, name)
    }

    fn mode(&self) -> SecretUseCheck {
        self.admission.config.secret_use_check
    }

    fn refuse(&self, denied: &[String]) -> Result<Option<String>, Failure> {
        if denied.is_empty() || self.mode() == SecretUseCheck::Off {
            return Ok(None);
        }
        let user = &self.permit.identity().user;
        let namespace = &self.namespace;
        self.warn_or_refuse(format!(
            "User {user:?} cannot use {} in the namespace {namespace:?}: this requires the verb \"use\" or \"get\" on it",
            listed(denied)
        ))
    }

    fn warn_or_refuse(&self, why: String) -> Result<Option<String>, Failure> {
        if self.mode() == SecretUseCheck::Warn {
            return Ok(Some(why));
        }
        Err(Failure::forbidden(self.resource.group_resource(), &self.name, &why))
    }
}

/// Of the secrets that a workload gets: which its writer may grant.
struct Checked {
    granted: Option<Secrets>,
    denied: Vec<String>,
}

/// A template's grant stays on its object; a pod's has only what the kubelet reads.
fn record(object: &mut dyn Object, grant: Grant, is_template: bool) {
    let secrets = grant.secrets.filter(|_| is_template);
    Grant { secrets, ..grant }.record(object.meta_mut());
}

/// `secret "db"` or `secrets "a", "b"`.
fn listed(names: &[String]) -> String {
    let plural = if names.len() == 1 { "secret" } else { "secrets" };
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("{plural} {}", names.join(", "))
}

fn may_use(admission: &Admission, permit: &Permit, namespace: &str, name: &str) -> bool {
    ["use", "get"].iter().any(|verb| may(verb, admission, permit, namespace, name))
}

/// Whether the writer has this right on a secret; on every one of the namespace for an empty name.
pub(super) fn may(
    verb: &str,
    admission: &Admission,
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
