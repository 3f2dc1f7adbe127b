//! Permissions that are used over time: a watch is authorized again while it runs, and ends with its right.
//!
//! Upstream authorizes a watch once and lets it run for up to an hour. Here a node whose pod is
//! deleted no longer sees the pod's secrets, nor a user whose binding is.

use std::borrow::Cow;

use coffer_api::selector::FieldSelector;

use super::attributes::{Attributes, ResourceTarget};
use super::authorizer::{Authorizer, Permit};
use super::decision::Decision;
use crate::request::ResourcePath;

/// The right behind a running watch.
pub(crate) struct AccessRecheck {
    asked: Attributes<'static>,
    /// The state of roles and bindings at which it was last evaluated here.
    judged_at: Option<u64>,
}

impl AccessRecheck {
    /// The right to watch what was just permitted. `name` is the one object meant, if it is one.
    pub(crate) fn of(path: &ResourcePath, name: Option<&str>, fields: Option<&str>) -> Self {
        let owned = |text: &str| Cow::Owned(text.to_owned());
        let fields = fields.and_then(|text| FieldSelector::parse(text).ok()).unwrap_or_default();
        let target = ResourceTarget {
            group: owned(&path.group),
            resource: owned(&path.resource),
            subresource: owned(&path.subresource),
            namespace: owned(&path.namespace),
            name: owned(name.unwrap_or_default()),
            fields,
        };
        // Not evaluated yet: between the permit and here a right may have ended.
        Self { asked: Attributes::resource("watch", target), judged_at: None }
    }

    /// Whether the right still holds. Evaluated again when roles or bindings have changed, and for
    /// nodes, whose rights come and go with pods, every time.
    pub(crate) fn holds(&mut self, authorizer: &Authorizer, permit: &Permit) -> bool {
        let identity = permit.identity();
        let now = Some(authorizer.roles.generation());
        if now == self.judged_at && identity.node().is_none() {
            return true;
        }
        self.judged_at = now;
        authorizer.decide(identity, &self.asked) == Decision::Allow
    }
}
