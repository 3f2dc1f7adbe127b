//! Makes and mends the default roles and bindings at every start.
//!
//! As upstream's start-up hook: what is missing is made; rules and subjects that are missing are
//! added; what somebody added stays; an object whose annotation [`AUTO_UPDATE`] is not `true` is
//! left as it is.

use coffer_api::Document;
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use k8s_openapi::Metadata;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::{GROUP, cover, policy};
use crate::authz::Permit;
use crate::handlers::Handlers;
use crate::object::{Object, Resource};
use crate::registry::Change;

/// Whether the server may mend an object at start.
pub(super) const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// One of the four kinds, as far as mending goes.
trait Mended: Metadata<Ty = ObjectMeta> + Serialize + Clone + Send + Sync + 'static {
    const PLURAL: &'static str;

    /// Adds to `self`, as found, what the policy's `wanted` has beyond it. Whether anything was.
    fn mend(&mut self, wanted: &Self) -> bool;
}

fn mend_rules(found: &mut Option<Vec<PolicyRule>>, wanted: &Option<Vec<PolicyRule>>) -> bool {
    let own = found.get_or_insert_default();
    let missing = cover::missing(&*own, wanted.as_deref().unwrap_or_default());
    own.extend(missing.iter().cloned());
    !missing.is_empty()
}

fn mend_subjects(found: &mut Option<Vec<Subject>>, wanted: &Option<Vec<Subject>>) -> bool {
    let own = found.get_or_insert_default();
    let before = own.len();
    for subject in wanted.iter().flatten() {
        let same = |own: &Subject| {
            (&own.kind, &own.name, own.namespace.as_deref().unwrap_or_default())
                == (&subject.kind, &subject.name, subject.namespace.as_deref().unwrap_or_default())
        };
        if !own.iter().any(same) {
            own.push(subject.clone());
        }
    }
    own.len() != before
}

impl Mended for ClusterRole {
    const PLURAL: &'static str = "clusterroles";

    fn mend(&mut self, wanted: &Self) -> bool {
        let labels = mend_labels(&mut self.metadata, &wanted.metadata);
        // An aggregated role's rules are gathered, not written down.
        if wanted.aggregation_rule.is_some() {
            let same = self.aggregation_rule == wanted.aggregation_rule;
            self.aggregation_rule.clone_from(&wanted.aggregation_rule);
            return labels || !same;
        }
        mend_rules(&mut self.rules, &wanted.rules) || labels
    }
}

impl Mended for Role {
    const PLURAL: &'static str = "roles";

    fn mend(&mut self, wanted: &Self) -> bool {
        mend_rules(&mut self.rules, &wanted.rules)
    }
}

impl Mended for ClusterRoleBinding {
    const PLURAL: &'static str = "clusterrolebindings";

    fn mend(&mut self, wanted: &Self) -> bool {
        mend_subjects(&mut self.subjects, &wanted.subjects)
    }
}

impl Mended for RoleBinding {
    const PLURAL: &'static str = "rolebindings";

    fn mend(&mut self, wanted: &Self) -> bool {
        mend_subjects(&mut self.subjects, &wanted.subjects)
    }
}

fn mend_labels(found: &mut ObjectMeta, wanted: &ObjectMeta) -> bool {
    let own = found.labels.get_or_insert_default();
    let before = own.clone();
    own.extend(wanted.labels.clone().unwrap_or_default());
    *own != before
}

/// Makes and mends everything, then fills in aggregated roles.
///
/// # Errors
/// What the registry answers.
pub(crate) async fn reconcile(handlers: &Handlers) -> Result<(), Failure> {
    // All at once, so that the store commits them together.
    tokio::try_join!(
        ensure_all(handlers, policy::cluster_roles()),
        ensure_all(handlers, policy::cluster_role_bindings()),
        ensure_all(handlers, policy::roles()),
        ensure_all(handlers, policy::role_bindings()),
    )?;
    super::aggregate::reconcile(handlers).await
}

async fn ensure_all<T: Mended>(handlers: &Handlers, wanted: Vec<T>) -> Result<(), Failure> {
    let all = wanted.into_iter().map(|wanted| ensure(handlers, wanted));
    futures::future::try_join_all(all).await.map(drop)
}

async fn ensure<T: Mended>(handlers: &Handlers, wanted: T) -> Result<(), Failure> {
    let resources = &handlers.registry.resources;
    let Some(resource) = resources.find(GROUP, "v1", T::PLURAL) else { return Ok(()) };
    let namespace = wanted.metadata().namespace.clone().unwrap_or_default();
    let name = wanted.metadata().name.clone().unwrap_or_default();
    let found = resource.shard().get(&resource.key(&namespace, &name));
    match found {
        Some(found) if !needs_mending(resource, &found.bytes, &wanted)? => Ok(()),
        Some(_) => mend(handlers, resource, (&namespace, &name), &wanted).await,
        None => make(handlers, resource, wanted).await,
    }
}

fn needs_mending<T: Mended>(
    resource: &Resource,
    bytes: &[u8],
    wanted: &T,
) -> Result<bool, Failure> {
    let object = resource.parse(bytes)?;
    let found = object.as_any().downcast_ref::<T>();
    Ok(found.is_some_and(|found| is_ours(&*object) && found.clone().mend(wanted)))
}

fn is_ours(object: &dyn Object) -> bool {
    let annotations = object.meta().annotations.as_ref();
    annotations.and_then(|all| all.get(AUTO_UPDATE)).is_some_and(|value| value == "true")
}

async fn make<T: Mended>(
    handlers: &Handlers,
    resource: &Resource,
    wanted: T,
) -> Result<(), Failure> {
    let document = Document::encode(&wanted).map_err(Failure::internal)?;
    let mut object = resource.decode(&document).map_err(Failure::internal)?;
    object.set_defaults();
    // The namespaces were made a moment ago.
    handlers.registry.settle().await?;
    let admitted = handlers.admission().create(&Permit::server_itself(), resource, object)?;
    match handlers.registry.create(resource, admitted, false, None).await {
        // Another server of the same store was faster.
        Err(failure) if failure.reason == Reason::AlreadyExists => Ok(()),
        done => done.map(drop),
    }
}

async fn mend<T: Mended>(
    handlers: &Handlers,
    resource: &Resource,
    target: (&str, &str),
    wanted: &T,
) -> Result<(), Failure> {
    let change = |old: &dyn Object| {
        let mut object = resource.parse(&old.encode())?;
        if is_ours(old)
            && let Some(found) = object.as_any_mut().downcast_mut::<T>()
        {
            found.mend(wanted);
        }
        let permit = Permit::server_itself();
        let object = handlers.admission().update(&permit, resource, object, old)?;
        Ok(Change { object, expected: None })
    };
    match handlers.registry.update(resource, target, None, false, change).await {
        Err(failure) if failure.reason == Reason::NotFound => Ok(()),
        done => done.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{binding, role, rule, users};
    use super::*;

    #[test]
    fn mending_adds_what_is_missing_and_keeps_what_somebody_added() {
        let wanted = role("r", vec![rule(&["get", "list"], &[""], &["pods"])]);
        let mut found =
            role("r", vec![rule(&["get"], &[""], &["pods"]), rule(&["get"], &[""], &["secrets"])]);
        assert!(found.mend(&wanted));
        assert_eq!(found.rules.as_ref().unwrap().len(), 3);
        assert!(!found.clone().mend(&wanted));

        let wanted = binding("b", "r", users(&["alice"]));
        let mut found = binding("b", "r", users(&["bob"]));
        assert!(found.mend(&wanted));
        assert_eq!(found.subjects.as_ref().unwrap().len(), 2);
        assert!(!found.mend(&wanted));
    }
}
