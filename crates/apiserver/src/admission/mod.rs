//! What may be written. Admission takes the [`Permit`] and the object, may change the object, and
//! yields [`Admitted`](admitted::Admitted), the only thing a registry write accepts.
//!
//! The order is upstream's: first whether the namespace takes objects at all, then what nodes may
//! write, then what a pod gets from its service account, then who may use and grant what, last, because
//! it may wait, whether there is room in the namespace's quotas.

pub(crate) mod admitted;
mod attach;
mod certificates;
mod escalation;
pub(crate) mod grant;
mod heaviest;
mod host_paths;
mod limit_ranger;
mod mount_paths;
mod mountable;
mod named;
mod namespace_lifecycle;
mod node_restriction;
pub(crate) mod node_token;
mod owner;
mod parsed;
mod pod_security;
mod priority;
mod quota;
mod runtime_class;
mod secret_use;
pub(crate) mod service_account;
mod token_secret;
mod workload;

use std::sync::Arc;

use coffer_api::pod_security::Level;
use coffer_api::status::Failure;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;

use self::admitted::{Admitted, Deletion, New, Update};
use self::grant::Secrets;
use self::heaviest::Heaviest;
use self::limit_ranger::LimitRanges;
use self::mount_paths::MountPaths;
use self::named::shown_name;
use self::parsed::Parsed;
use self::priority::PriorityClasses;
use self::quota::Quotas;
use crate::authz::{Authorizer, Permit};
use crate::cache::Cache;
use crate::object::{Object, Resource, Resources};
use crate::tasks::Group;
use crate::tokens::Authority;

/// Whether creating a pod that references a secret requires permission on that secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretUseCheck {
    /// A client that may create pods may use every secret of the namespace, as in Kubernetes.
    Off,
    /// As `Off`, with a warning for what `Enforce` would refuse.
    Warn,
    /// `use` or `get` on each secret, or the write is refused.
    #[default]
    Enforce,
}

/// What an operator decides about admission.
pub(crate) struct AdmissionConfig {
    /// Whether pods get a service account, its token and its secrets.
    pub(crate) service_account_admission: bool,
    /// The CA certificate that token Secrets carry as `ca.crt`, PEM.
    pub(crate) root_ca_pem: Vec<u8>,
    pub(crate) secret_use_check: SecretUseCheck,
    /// What pods may ask of nodes in namespaces without an enforce label.
    pub(crate) pod_security_default: Level,
}

/// The chain of admission checks.
pub(crate) struct Admission {
    pub(crate) config: AdmissionConfig,
    pub(crate) resources: Arc<Resources>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) tokens: Arc<Authority>,
    limit_ranges: LimitRanges,
    priority_classes: PriorityClasses,
    runtime_classes: Arc<Parsed<RuntimeClass>>,
    mount_paths: Arc<MountPaths>,
    /// Of accounts, and of each kind that may own what has a pod or a template of pods.
    heaviest: Vec<Arc<Heaviest>>,
    quotas: Quotas,
}

impl Admission {
    /// A chain that reads from the cache. `tasks`: where writes go whose callers no longer wait.
    pub(crate) fn new(
        config: AdmissionConfig,
        resources: Arc<Resources>,
        cache: Arc<Cache>,
        authorizer: Arc<Authorizer>,
        tokens: Arc<Authority>,
        tasks: Group,
    ) -> Self {
        let limit_ranges = LimitRanges::new(&resources);
        let priority_classes = PriorityClasses::new(&resources);
        let runtime_classes = Parsed::of_kind(&resources, Some);
        let mount_paths = MountPaths::following(&resources);
        let heaviest = Heaviest::of_judged(&resources);
        let quotas = Quotas::new(resources.clone(), cache, tasks);
        Self {
            config,
            resources,
            authorizer,
            tokens,
            limit_ranges,
            priority_classes,
            runtime_classes,
            mount_paths,
            heaviest,
            quotas,
        }
    }

    /// How many bytes of other objects the write of an object of this kind may be judged by: a pod's or a
    /// template's account and owner, the largest that its namespace has. Which ones they are is in the body.
    pub(crate) fn bytes_to_judge(&self, resource: &Resource, namespace: &str) -> usize {
        if !resource.makes_pods() {
            return 0;
        }
        self.heaviest.iter().map(|kind| kind.bytes(namespace)).sum()
    }

    /// Admits a new object. It holds its reservation of quota until it is persisted or dropped.
    ///
    /// # Errors
    /// 403 as each check words it, 404 for a namespace that does not exist.
    pub(crate) async fn admit_new<'a>(
        &self,
        permit: &Permit,
        resource: &'a Resource,
        mut object: Box<dyn Object>,
    ) -> Result<Admitted<'a, New>, Failure> {
        let warnings = self.check_new(permit, resource, &mut *object)?;
        let quota = self.quotas.admit(permit, resource, &*object).await?;
        Ok(Admitted::new(resource, New { object, quota }, warnings))
    }

    /// All checks of a new object but that of its quotas, which may have to wait. Returns warnings.
    fn check_new(
        &self,
        permit: &Permit,
        resource: &Resource,
        object: &mut dyn Object,
    ) -> Result<Vec<String>, Failure> {
        namespace_lifecycle::create(&self.resources, resource, &*object)?;
        node_restriction::create(&self.resources, permit, resource, &*object)?;
        grant::keep(&mut *object, None);
        let name = shown_name(&*object);
        let owner = owner::of(&self.resources, &*object)?;
        let mut warnings = Vec::new();
        if let Some(pod) = object.of_kind_mut::<Pod>() {
            owner::check(permit, resource, &name, owner.as_ref())?;
            let forbidden =
                |why: String| Failure::forbidden(resource.group_resource(), &name, &why);
            self.limit_ranges.admit(pod).map_err(forbidden)?;
            let limit = secret_use::limit(self, permit, owner.as_ref());
            warnings = self.add_account(pod, limit.as_ref()).map_err(forbidden)?;
            self.priority_classes.create(pod).map_err(forbidden)?;
            runtime_class::admit(&self.runtime_classes, pod).map_err(forbidden)?;
        }
        token_secret::fill_in(self, permit, &mut *object)?;
        certificates::create(permit, resource, &mut *object)?;
        self.priority_classes.check(resource, &*object, true)?;
        escalation::check(&self.authorizer, permit.identity(), resource, &*object, None)?;
        let write = secret_use::Write {
            admission: self,
            permit,
            resource,
            name: object.meta().name.clone().unwrap_or_default(),
            namespace: object.meta().namespace.clone().unwrap_or_default(),
        };
        warnings.extend(write.create(&mut *object, owner)?);
        warnings.extend(pod_security::create(self, resource, &*object)?);
        Ok(warnings)
    }

    /// Admits an update of an object.
    ///
    /// # Errors
    /// 403 as each check words it.
    pub(crate) fn admit_update<'a>(
        &self,
        permit: &Permit,
        resource: &'a Resource,
        mut object: Box<dyn Object>,
        old: &dyn Object,
    ) -> Result<Admitted<'a, Update>, Failure> {
        node_restriction::update(permit, resource, &*object, old)?;
        if let (Some(pod), Some(old)) = (object.of_kind_mut::<Pod>(), old.pod())
            && permit.writes_spec()
        {
            priority::update(pod, old);
        }
        self.priority_classes.check(resource, &*object, false)?;
        token_secret::fill_in(self, permit, &mut *object)?;
        certificates::update(self, permit, resource, &*object, old)?;
        escalation::check(&self.authorizer, permit.identity(), resource, &*object, Some(old))?;
        grant::keep(&mut *object, Some(old));
        // Only a template that is written takes over what its owner was granted.
        let takes_over = permit.writes_spec() && object.pod_template().is_some();
        let owner = if takes_over { owner::of(&self.resources, &*object)? } else { None };
        let write = secret_use::Write {
            admission: self,
            permit,
            resource,
            name: object.meta().name.clone().unwrap_or_default(),
            namespace: old.meta().namespace.clone().unwrap_or_default(),
        };
        let warnings = write.update(&mut *object, old, owner)?;
        let mut warnings: Vec<String> = warnings.into_iter().collect();
        warnings.extend(pod_security::update(self, permit, resource, &*object, old)?);
        Ok(Admitted::new(resource, Update { object }, warnings))
    }

    /// Admits a deletion.
    ///
    /// # Errors
    /// 403 for an object that is protected, or that does not belong to the calling node.
    pub(crate) fn admit_delete<'a>(
        &self,
        permit: &Permit,
        resource: &'a Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Admitted<'a, Deletion>, Failure> {
        namespace_lifecycle::delete(resource, name)?;
        priority::delete(resource, name)?;
        node_restriction::delete(permit, resource, namespace, name)?;
        let deletion = Deletion { namespace: namespace.to_owned(), name: name.to_owned() };
        Ok(Admitted::new(resource, deletion, Vec::new()))
    }

    /// Gives a new pod what its service account has for it, of secrets no more than `limit`. Returns warnings.
    fn add_account(&self, pod: &mut Pod, limit: Option<&Secrets>) -> Result<Vec<String>, String> {
        if !self.config.service_account_admission {
            return Ok(Vec::new());
        }
        match service_account::admit(&self.resources, pod, limit)? {
            Some(account) => attach::attach(self, &account, pod, limit),
            None => Ok(Vec::new()),
        }
    }
}
