//! The table of served resources.

use std::sync::Arc;

use coffer_api::kinds::{self, Kind, KindInfo, SeriesEvent, Served, Visitor};

use super::events_view::events_view;
use super::index::TypedIndex;
use super::resource::Resource;
use crate::cache::ShardSource;

/// Every served resource, in discovery's order.
pub(crate) struct Resources(Vec<Arc<Resource>>);

impl Resources {
    /// The table of all kinds in `coffer_api::kinds`.
    pub(crate) fn all() -> Self {
        let mut all = Self(Vec::new());
        kinds::for_each(&mut all);
        for resource in &mut all.0 {
            if resource.is::<SeriesEvent>() {
                *resource = Arc::new(events_view());
            }
        }
        all
    }

    /// What the keys of objects that are encrypted at rest begin with.
    pub(crate) fn sealed_prefixes(&self) -> Vec<String> {
        let sealed = self.0.iter().filter(|resource| resource.stored_info().sealed);
        sealed.map(|resource| resource.collection("")).collect()
    }

    /// What the cache must hold: one source per storage prefix.
    pub(crate) fn sources(&self) -> Vec<ShardSource> {
        self.0
            .iter()
            .filter(|resource| resource.is_stored_form())
            .map(|resource| ShardSource {
                prefix: resource.prefix.clone(),
                index: Arc::new(TypedIndex {
                    head: resource.head.clone(),
                    shallow: resource.shallow,
                    parse: resource.parse,
                }),
            })
            .collect()
    }

    /// Tells every resource where its objects are cached.
    pub(crate) fn attach(&self, cache: &crate::cache::Cache) {
        for resource in &self.0 {
            let _ = resource.shard.set(cache.of(&resource.prefix));
        }
    }

    /// The resource at a path. Code that means one kind asks for it with [`Self::of`].
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let at = |info: &KindInfo| (info.group, info.version, info.plural);
        self.0.iter().find(|resource| at(resource.info) == (group, version, plural))
    }

    /// The resource of a kind.
    pub(crate) fn of<K: Served>(&self) -> &Arc<Resource> {
        let found = self.0.iter().find(|resource| resource.is::<K>());
        found.expect("the table has every kind that is served")
    }

    /// All resources in discovery's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.0.iter()
    }
}

impl Visitor for Resources {
    fn visit<K: Kind>(&mut self) {
        self.0.push(Arc::new(Resource::of::<K>()));
    }
}
