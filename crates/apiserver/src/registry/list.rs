//! Lists: selectors, pages of one state, and which state that is.
//!
//! The newest state comes from the cache; an older one, named by `resourceVersionMatch=Exact` or
//! by a continue token, from the store's history.

use std::sync::Arc;

use coffer_api::continue_token::Token;
use coffer_api::reason::{CAUSE_RESOURCE_VERSION_TOO_LARGE, Reason};
use coffer_api::selector::{FieldSelector, LabelSelector};
use coffer_api::status::Failure;
use coffer_store::{ListOptions, Revision, StoreError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;

use super::Registry;
use crate::cache::{CacheError, CachedObject, Scope};
use crate::failure::{store_failure, unavailable};
use crate::object::Resource;
use crate::options::StateOptions;
use crate::request::Query;

/// Items read from the store's history at a time while filtering a page.
const HISTORY_PAGE: usize = 500;

/// Which objects of a collection are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    only: Option<String>,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// 400 for a selector that does not parse or names a field the kind does not have.
    pub(crate) fn parse(query: &Query, resource: &Resource) -> Result<Self, Failure> {
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
            .and_then(|fields| fields.check(resource.info).map(|()| fields))
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        Ok(Self { labels, fields, only: None })
    }

    /// Narrows the selection to one name: a watch spelled with the object's own path.
    ///
    /// # Errors
    /// 400 where a field selector means another one.
    pub(crate) fn require_name(&mut self, name: &str) -> Result<(), Failure> {
        if !self.fields.is_empty() && self.fields.exact("metadata.name") != Some(name) {
            let why = "fieldSelector metadata.name doesn't match requested name";
            return Err(Failure::bad_request(why));
        }
        self.only = Some(name.to_owned());
        Ok(())
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, object: &CachedObject) -> bool {
        let field = |field: &str| match field {
            "metadata.name" => object.name.as_str(),
            "metadata.namespace" => object.namespace.as_str(),
            _ => object.field(field).map(String::as_str).unwrap_or_default(),
        };
        self.only.as_ref().is_none_or(|only| *only == object.name)
            && self.labels.matches(&object.labels)
            && self.fields.matches(field)
    }

    /// Whether every object is meant.
    pub(crate) fn is_everything(&self) -> bool {
        self.only.is_none() && self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name meant, where the field selector asks for one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.only.as_deref().or_else(|| self.fields.exact("metadata.name"))
    }

    /// The narrowest scope that holds all objects meant.
    pub(crate) fn scope(&self, resource: &Resource, namespace: &str) -> Scope {
        match self.name() {
            Some(name) if !resource.info.namespaced => Scope::Key(resource.key("", name).into()),
            Some(name) if !namespace.is_empty() => Scope::Key(resource.key(namespace, name).into()),
            // A scope by field spans all namespaces, and would in one show the others' objects.
            _ if namespace.is_empty() || !resource.info.namespaced => {
                Scope::of_fields(|field| self.fields.exact(field)).unwrap_or(Scope::All)
            }
            _ => Scope::Namespace(namespace.to_owned()),
        }
    }
}

/// A list request.
pub(crate) struct ListQuery {
    pub(crate) selection: Selection,
    limit: Option<usize>,
    state: RequestedState,
}

/// Which state of the collection a list asks for.
enum RequestedState {
    Newest,
    Any,
    NotOlderThan(Revision),
    Exact(Revision),
    Continue(Token),
}

/// One page.
pub(crate) struct Listed {
    pub(crate) items: Vec<Arc<CachedObject>>,
    pub(crate) revision: Revision,
    pub(crate) continue_: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl ListQuery {
    /// Reads the query of a list.
    ///
    /// # Errors
    /// 400 and 422 as upstream.
    pub(crate) fn parse(query: &Query, resource: &Resource) -> Result<Self, Failure> {
        let limit = query.number("limit")?.filter(|limit| *limit > 0);
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        query.number("timeoutSeconds")?;
        let options = StateOptions::of_list(query)?;
        let selection = Selection::parse(query, resource)?;
        let state = wanted(&options, limit.is_some())?;
        // Informers begin with a page of any state. They get all of it: it is in the cache, and the
        // pages after the first would not be.
        let limit = limit.filter(|_| !matches!(state, RequestedState::Any));
        Ok(Self { selection, limit, state })
    }
}

/// The table of the API conventions: what the parameters, taken together, ask for.
fn wanted(options: &StateOptions, paged: bool) -> Result<RequestedState, Failure> {
    if let Some(token) = &options.continue_ {
        let token = Token::decode(token)?;
        return match options.revision()? {
            None | Some(0) => Ok(RequestedState::Continue(token)),
            Some(_) => Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            )),
        };
    }
    Ok(match options.revision()? {
        None => RequestedState::Newest,
        Some(0) => RequestedState::Any,
        // A page of a version without a word on how it is meant is a page of exactly that version.
        Some(version) if options.exact() || paged && !options.matches() => {
            RequestedState::Exact(version)
        }
        Some(version) => RequestedState::NotOlderThan(version),
    })
}

impl Registry {
    /// Whether a list reads a state that only the store has: each such list has objects of its own.
    pub(crate) fn reads_the_past(resource: &Resource, query: &ListQuery) -> bool {
        let revision = match &query.state {
            RequestedState::Exact(revision) => Some(*revision),
            RequestedState::Continue(token) => token.revision(),
            RequestedState::Newest | RequestedState::Any | RequestedState::NotOlderThan(_) => None,
        };
        revision.is_some_and(|revision| !resource.shard().remembers(revision))
    }

    /// One page of a collection.
    ///
    /// # Errors
    /// 410 for a state that is no longer kept, 504 for one that does not exist yet.
    pub(crate) async fn list(
        &self,
        resource: &Resource,
        namespace: &str,
        query: &ListQuery,
    ) -> Result<Listed, Failure> {
        let prefix = resource.collection(namespace);
        match &query.state {
            RequestedState::Newest => {
                self.list_newest(resource, namespace, &prefix, query, None).await
            }
            RequestedState::Any => Ok(self.list_cached(resource, namespace, &prefix, query, None)),
            RequestedState::NotOlderThan(revision) => {
                self.wait_for(*revision).await?;
                Ok(self.list_cached(resource, namespace, &prefix, query, None))
            }
            RequestedState::Exact(revision) => self
                .list_at(resource, &prefix, query, *revision, None)
                .await
                .map_err(|error| self.past(error, too_old)),
            RequestedState::Continue(token) => {
                let after = token.after(&prefix);
                let Some(revision) = token.revision() else {
                    return self
                        .list_newest(resource, namespace, &prefix, query, Some(after))
                        .await;
                };
                self.list_at(resource, &prefix, query, revision, Some(after))
                    .await
                    .map_err(|error| self.past(error, || token.expired()))
            }
        }
    }

    /// What a state of the past that cannot be read looks like to a client.
    fn past(&self, error: StoreError, compacted: impl FnOnce() -> Failure) -> Failure {
        match error {
            StoreError::Compacted { .. } => compacted(),
            StoreError::Future { requested, newest } => too_large(requested, newest),
            other => store_failure(other),
        }
    }

    /// Waits for a revision that a client has seen elsewhere.
    pub(crate) async fn wait_for(&self, revision: Revision) -> Result<(), Failure> {
        if self.cache.reach(revision).await.is_ok() {
            return Ok(());
        }
        Err(too_large(revision, self.cache.revision()))
    }

    /// The newest state: from the cache, or where that is behind, from the store itself.
    async fn list_newest(
        &self,
        resource: &Resource,
        namespace: &str,
        prefix: &str,
        query: &ListQuery,
        after: Option<String>,
    ) -> Result<Listed, Failure> {
        match self.cache.fresh().await {
            Ok(_) => Ok(self.list_cached(resource, namespace, prefix, query, after.as_deref())),
            Err(CacheError::Stale { .. }) => {
                let newest = self.store.revision().await.map_err(store_failure)?;
                let listed = self.list_history(resource, prefix, query, newest, after).await;
                listed.map_err(store_failure)
            }
            Err(error) => Err(unavailable(error)),
        }
    }

    fn list_cached(
        &self,
        resource: &Resource,
        namespace: &str,
        prefix: &str,
        query: &ListQuery,
        after: Option<&str>,
    ) -> Listed {
        let applied = self.cache.revision();
        let scope = query.selection.scope(resource, namespace);
        let (mut items, newest) = resource.shard().list(prefix, &scope);
        items.retain(|object| after.is_none_or(|after| &*object.key > after));
        page(items, applied.max(newest), prefix, query)
    }

    /// A past state: from the cache while that remembers it, as for most clients that read page by page,
    /// else from the store.
    async fn list_at(
        &self,
        resource: &Resource,
        prefix: &str,
        query: &ListQuery,
        revision: Revision,
        after: Option<String>,
    ) -> Result<Listed, StoreError> {
        if revision <= self.cache.revision() {
            let remembered = resource.shard().list_at(prefix, after.as_deref(), revision);
            if let Some(items) = remembered {
                return Ok(page(items, revision, prefix, query));
            }
        }
        self.list_history(resource, prefix, query, revision, after).await
    }

    async fn list_history(
        &self,
        resource: &Resource,
        prefix: &str,
        query: &ListQuery,
        revision: Revision,
        mut after: Option<String>,
    ) -> Result<Listed, StoreError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut items = Vec::new();
        loop {
            let options = ListOptions {
                limit: Some(limit.saturating_sub(items.len()).clamp(1, HISTORY_PAGE)),
                after: after.take(),
                revision: Some(revision),
            };
            let page = self.store.list(prefix, options).await?;
            let last = page.items.last().map(|item| item.key.clone());
            for item in page.items {
                let shard = resource.shard();
                let object = shard.index(&item.key, item.value.as_bytes(), item.revision);
                if query.selection.matches(&object) {
                    items.push(Arc::new(object));
                }
            }
            let more = page.remaining > 0;
            if !more || items.len() >= limit {
                let remaining = (more && query.selection.is_everything()).then_some(page.remaining);
                let continue_ =
                    last.filter(|_| more).map(|last| Token::after_key(prefix, &last, revision));
                return Ok(Listed { items, revision, continue_, remaining });
            }
            after = last;
        }
    }
}

/// What a query wants of the objects of one state, up to its limit.
fn page(
    mut items: Vec<Arc<CachedObject>>,
    revision: Revision,
    prefix: &str,
    query: &ListQuery,
) -> Listed {
    items.retain(|object| query.selection.matches(object));
    let Some(limit) = query.limit.filter(|limit| items.len() > *limit) else {
        return Listed { items, revision, continue_: None, remaining: None };
    };
    let rest = items.len() - limit;
    items.truncate(limit);
    let remaining = query.selection.is_everything().then_some(rest);
    let continue_ = items.last().map(|last| Token::after_key(prefix, &last.key, revision));
    Listed { items, revision, continue_, remaining }
}

/// 410 for a state that is no longer kept.
fn too_old() -> Failure {
    Failure::expired("The resourceVersion for the provided list is too old.")
}

/// 504 for a state that does not exist yet.
fn too_large(requested: Revision, newest: Revision) -> Failure {
    let message = format!("Timeout: Too large resource version: {requested}, current: {newest}");
    let mut failure = Failure::plain(Reason::Timeout, message);
    let details = failure.details.get_or_insert_default();
    details.retry_after_seconds = Some(1);
    details.causes = Some(vec![StatusCause {
        reason: Some(CAUSE_RESOURCE_VERSION_TOO_LARGE.to_owned()),
        message: Some("Too large resource version".to_owned()),
        field: None,
    }]);
    failure
}
