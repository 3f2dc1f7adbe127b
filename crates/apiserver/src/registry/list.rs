//! Lists: selectors, pages of one state, and which state that is.
//!
//! The newest state comes from the cache; an older one, named by `resourceVersionMatch=Exact` or
//! by a continue token, from the store's history.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_api::selector::{FieldSelector, LabelSelector};
use coffer_api::status::Failure;
use coffer_store::{ListOptions, Revision, StoreError};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::{Deserialize, Serialize};

use super::{Registry, store_failure, unavailable};
use crate::cache::{CachedObject, Scope};
use crate::object::Resource;
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
    pub(crate) fn require_name(&mut self, name: &str) {
        self.only = Some(name.to_owned());
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, object: &CachedObject) -> bool {
        let field = |field: &str| match field {
            "metadata.name" => object.name.as_str(),
            "metadata.namespace" => object.namespace.as_str(),
            _ => {
                let found = object.fields.iter().find(|(name, _)| *name == field);
                found.map(|(_, value)| value.as_str()).unwrap_or_default()
            }
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
            Some(name) if !resource.info.namespaced => Scope::Key(resource.key("", name)),
            Some(name) if !namespace.is_empty() => Scope::Key(resource.key(namespace, name)),
            _ if namespace.is_empty() || !resource.info.namespaced => Scope::All,
            _ => Scope::Namespace(namespace.to_owned()),
        }
    }
}

/// A list request.
pub(crate) struct ListQuery {
    pub(crate) selection: Selection,
    limit: Option<usize>,
    state: Wanted,
}

/// Which state of the collection a list asks for.
enum Wanted {
    Newest,
    Any,
    NotOlderThan(Revision),
    Exact(Revision),
    Continue(Token),
}

/// Where the next page begins. Upstream's shape, so that nobody is tempted to read more into it.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: Revision,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

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
        let selection = Selection::parse(query, resource)?;
        let limit = query.number::<i64>("limit")?.filter(|limit| *limit > 0);
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Self { selection, limit, state: wanted(query)? })
    }
}

fn wanted(query: &Query) -> Result<Wanted, Failure> {
    let version = revision(query)?;
    let matching = query.get("resourceVersionMatch");
    let forbidden = |field: &str, why: &str| {
        let path = coffer_api::field::Path::new(field);
        let error = coffer_api::field::Error::forbidden(&path, why);
        Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &vec![error]))
    };
    if let Some(token) = query.get("continue") {
        if matching.is_some() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            return forbidden("resourceVersionMatch", why);
        }
        if version.is_some_and(|version| version != 0) {
            return Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        return Token::decode(token).map(Wanted::Continue);
    }
    match (matching, version) {
        (Some(_), None) => {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            forbidden("resourceVersionMatch", why)
        }
        (Some("Exact"), Some(0)) => {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            forbidden("resourceVersionMatch", why)
        }
        (Some("Exact"), Some(version)) => Ok(Wanted::Exact(version)),
        (None | Some("NotOlderThan"), Some(0)) => Ok(Wanted::Any),
        (None | Some("NotOlderThan"), Some(version)) => Ok(Wanted::NotOlderThan(version)),
        (None, None) => Ok(Wanted::Newest),
        (Some(other), Some(_)) => {
            let path = coffer_api::field::Path::new("resourceVersionMatch");
            let supported = ["Exact", "NotOlderThan", ""];
            let error = coffer_api::field::Error::not_supported(&path, other, &supported);
            Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &vec![error]))
        }
    }
}

/// The `resourceVersion` parameter.
///
/// # Errors
/// 400 for what is no number.
pub(crate) fn revision(query: &Query) -> Result<Option<Revision>, Failure> {
    query
        .get("resourceVersion")
        .map(|text| {
            text.parse().map_err(|_| {
                Failure::bad_request(format!("Invalid value: {text:?}: invalid resource version"))
            })
        })
        .transpose()
}

impl Token {
    fn decode(text: &str) -> Result<Self, Failure> {
        let bad =
            || Failure::bad_request("continue key is not valid: it was not issued by this server");
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| bad())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if token.v != TOKEN_VERSION || token.rv == 0 || token.start.contains("..") {
            return Err(bad());
        }
        Ok(token)
    }

    fn encode(&self) -> String {
        let json = serde_json::to_vec(self).expect("strings and numbers encode");
        URL_SAFE_NO_PAD.encode(json)
    }
}

impl Registry {
    /// One page of a collection.
    ///
    /// # Errors
    /// 410 for a state that is no longer there, 504 for one that is not there yet.
    pub(crate) async fn list(
        &self,
        resource: &Resource,
        namespace: &str,
        query: &ListQuery,
    ) -> Result<Listed, Failure> {
        let prefix = resource.collection(namespace);
        match &query.state {
            Wanted::Newest => {
                self.cache.fresh().await.map_err(unavailable)?;
                Ok(self.list_cached(resource, namespace, &prefix, query))
            }
            Wanted::Any => Ok(self.list_cached(resource, namespace, &prefix, query)),
            Wanted::NotOlderThan(revision) => {
                self.wait_for(*revision).await?;
                Ok(self.list_cached(resource, namespace, &prefix, query))
            }
            Wanted::Exact(revision) => {
                self.list_history(resource, &prefix, query, *revision, None).await
            }
            Wanted::Continue(token) => {
                let after = format!("{prefix}{}", token.start);
                self.list_history(resource, &prefix, query, token.rv, Some(after)).await
            }
        }
    }

    /// Waits for a revision that a client has seen elsewhere.
    pub(crate) async fn wait_for(&self, revision: Revision) -> Result<(), Failure> {
        if self.cache.reach(revision).await.is_ok() {
            return Ok(());
        }
        let now = self.cache.revision();
        let mut failure = Failure::plain(
            504,
            "Timeout",
            format!("Timeout: Too large resource version: {revision}, current: {now}"),
        );
        let details = failure.details.get_or_insert_default();
        details.retry_after_seconds = Some(1);
        details.causes = Some(vec![StatusCause {
            reason: Some("ResourceVersionTooLarge".to_owned()),
            message: Some("Too large resource version".to_owned()),
            field: None,
        }]);
        Err(failure)
    }

    fn list_cached(
        &self,
        resource: &Resource,
        namespace: &str,
        prefix: &str,
        query: &ListQuery,
    ) -> Listed {
        let applied = self.cache.revision();
        let scope = query.selection.scope(resource, namespace);
        let (mut items, newest) = resource.shard().list(prefix, &scope);
        items.retain(|object| query.selection.matches(object));
        let revision = applied.max(newest);
        let Some(limit) = query.limit.filter(|limit| items.len() > *limit) else {
            return Listed { items, revision, continue_: None, remaining: None };
        };
        let rest = items.len() - limit;
        items.truncate(limit);
        let remaining = query.selection.is_everything().then_some(rest);
        let continue_ = items.last().map(|last| token_after(prefix, &last.key, revision));
        Listed { items, revision, continue_, remaining }
    }

    async fn list_history(
        &self,
        resource: &Resource,
        prefix: &str,
        query: &ListQuery,
        revision: Revision,
        mut after: Option<String>,
    ) -> Result<Listed, Failure> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let mut items = Vec::new();
        loop {
            let options = ListOptions {
                limit: Some(limit.saturating_sub(items.len()).clamp(1, HISTORY_PAGE)),
                after: after.take(),
                revision: Some(revision),
            };
            let page = self.store.list(prefix, options).await.map_err(|error| match error {
                StoreError::Future { .. } => Failure::plain(
                    504,
                    "Timeout",
                    format!("Timeout: Too large resource version: {revision}"),
                ),
                other => store_failure(other),
            })?;
            let last = page.items.last().map(|item| item.key.clone());
            for item in page.items {
                let shard = resource.shard();
                let object = shard.index(&item.key, item.value.as_bytes(), item.revision);
                let object = object.map_err(unavailable)?;
                if query.selection.matches(&object) {
                    items.push(Arc::new(object));
                }
            }
            let more = page.remaining > 0;
            if !more || items.len() >= limit {
                let remaining = (more && query.selection.is_everything()).then_some(page.remaining);
                let continue_ =
                    last.filter(|_| more).map(|last| token_after(prefix, &last, revision));
                return Ok(Listed { items, revision, continue_, remaining });
            }
            after = last;
        }
    }
}

fn token_after(prefix: &str, key: &str, rv: Revision) -> String {
    let start = key.strip_prefix(prefix).unwrap_or(key).to_owned();
    Token { v: TOKEN_VERSION.to_owned(), rv, start }.encode()
}
