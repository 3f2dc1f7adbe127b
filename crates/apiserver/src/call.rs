//! A request for a resource, resolved: who may do it, of which kind, and what was said with it.

use std::sync::Arc;

use coffer_api::subresource::SubresourceName;
use http::HeaderMap;

use crate::authz::Permit;
use crate::object::Resource;
use crate::request::{Query, ResourcePath};
use crate::respond::Accept;

/// A resource request, resolved.
pub(crate) struct Call {
    pub(crate) permit: Permit,
    pub(crate) resource: Arc<Resource>,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) accept: Accept,
}

impl Call {
    /// The subresource, `None` for the object itself.
    pub(crate) fn sub(&self) -> Option<SubresourceName> {
        SubresourceName::parse(&self.path.subresource)
    }

    /// The manager that is recorded for written fields: the `fieldManager` parameter, or the
    /// program's name from its User-Agent.
    pub(crate) fn manager(&self, named: Option<&str>) -> String {
        let agent = self.headers.get(http::header::USER_AGENT).and_then(|it| it.to_str().ok());
        let program = || agent.and_then(|agent| agent.split('/').next()).unwrap_or("unknown");
        named.unwrap_or_else(program).chars().filter(|c| !c.is_control()).take(128).collect()
    }
}
