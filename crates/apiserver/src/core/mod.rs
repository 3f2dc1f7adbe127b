//! What writes take part in: the registry, admission before it, and the authorizer.
//!
//! Handlers work for clients, the modules here for the server itself: the namespaces, roles and
//! priority classes every cluster has, aggregated roles, expired events, what evictions take of
//! disruption budgets. None of them knows HTTP.

pub(crate) mod aggregate;
mod budgets;
pub(crate) mod disruption;
pub(crate) mod expire;
mod internal;
pub(crate) mod namespaces;
pub(crate) mod priority_classes;
pub(crate) mod roles;

use std::sync::Arc;

use coffer_api::status::Failure;

use self::budgets::Budgets;
use self::internal::Internal;
use crate::admission::{Admission, service_account};
use crate::authz::{Authorizer, InternalPermit, Permit};
use crate::object::{Object, Resource, Resources};
use crate::registry::{Registry, Written};

/// Registry, admission and authorizer of one server.
pub(crate) struct Core {
    pub(crate) registry: Registry,
    pub(crate) admission: Admission,
    pub(crate) authorizer: Arc<Authorizer>,
    internal: Internal,
    budgets: Arc<Budgets>,
}

impl Core {
    /// `permit`: the server's own, for what it writes itself.
    pub(crate) fn new(
        registry: Registry,
        admission: Admission,
        authorizer: Arc<Authorizer>,
        permit: InternalPermit,
    ) -> Self {
        let budgets = Budgets::following(registry.resources());
        Self { registry, admission, authorizer, internal: Internal::new(permit), budgets }
    }

    /// The table of kinds.
    pub(crate) fn resources(&self) -> &Resources {
        self.registry.resources()
    }

    /// Admits and persists a new object of a caller, whose managedFields are made already.
    ///
    /// # Errors
    /// What admission refuses, 422 from validation, 409 for a taken name.
    pub(crate) async fn write_new(
        &self,
        permit: &Permit,
        resource: &Resource,
        object: Box<dyn Object>,
        dry_run: bool,
    ) -> Result<Written, Failure> {
        // The namespace may have been made a moment ago.
        self.registry.settle().await?;
        if self.admission.config.service_account_admission {
            service_account::await_default_account(self.resources(), resource, &*object).await;
        }
        let admitted = self.admission.admit_new(permit, resource, object).await?;
        self.registry.persist_new(admitted, dry_run).await
    }
}
