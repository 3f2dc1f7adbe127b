//! GET of an object and of a collection.

use coffer_api::status::Failure;
use futures::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::Handlers;
use crate::cache::Scope;
use crate::call::Call;

use crate::memory_pool::CollectionSlot;
use crate::object::undecoded;
use crate::options::revision;
use crate::registry::{ListQuery, Listed, Registry};
use crate::representation::{self, Include, ListChunks};
use crate::respond::{self, Form, Response, Syntax};

impl Handlers {
    pub(super) async fn get(&self, call: &Call) -> Result<Response, Failure> {
        if call.query.flag_given("export") == Some(true) {
            let why = "the export parameter, deprecated since v1.14, is no longer supported";
            return Err(Failure::bad_request(why));
        }
        let include = Include::parse(&call.query)?;
        // Any version means the newest, which is never older than the one that is asked for: but
        // that may have been seen elsewhere, and not have happened here yet.
        if let Some(version) = revision(call.query.get("resourceVersion"))?.filter(|it| *it > 0) {
            self.core.registry.wait_for(version).await?;
        }
        let found =
            self.core.registry.get(&call.resource, &call.path.namespace, &call.path.name).await?;
        let bytes = match call.accept.form {
            _ if found.is_decoded => found.bytes.clone(),
            Form::Metadata(_) => undecoded::identity(&found, found.revision),
            Form::Object | Form::Table(_) => return Err(undecoded::failure(&found)),
        };
        let bytes =
            representation::object(&call.resource, &bytes, call.accept.form, include, true)?;
        Ok(respond::json(StatusCode::OK, call.accept.syntax, bytes))
    }

    /// Lists a collection. `slot`: of [`Handlers::slot_for`].
    pub(super) async fn list(
        &self,
        call: &Call,
        query: &ListQuery,
        slot: Option<CollectionSlot>,
    ) -> Result<Response, Failure> {
        let include = Include::parse(&call.query)?;
        let list = self.core.registry.list(&call.resource, &call.path.namespace, query).await?;
        self.listed(call, list, include, slot)
    }

    /// A slot for a response with the state of what is in a scope, where that is large.
    ///
    /// # Errors
    /// 429.
    pub(super) async fn slot_for(
        &self,
        call: &Call,
        scope: &Scope,
    ) -> Result<Option<CollectionSlot>, Failure> {
        let prefix = call.resource.collection(&call.path.namespace);
        if matches!(scope, Scope::Key(_)) || !call.resource.shard().is_large(&prefix) {
            return Ok(None);
        }
        self.executor.memory.collection_slot(&call.permit.identity().user, false).await.map(Some)
    }

    /// A slot for a list, where it needs one.
    ///
    /// # Errors
    /// 429.
    pub(super) async fn slot_for_list(
        &self,
        call: &Call,
        query: &ListQuery,
    ) -> Result<Option<CollectionSlot>, Failure> {
        if Registry::reads_the_past(&call.resource, query) {
            return self
                .executor
                .memory
                .collection_slot(&call.permit.identity().user, true)
                .await
                .map(Some);
        }
        let scope = query.selection.scope(&call.resource, &call.path.namespace);
        self.slot_for(call, &scope).await
    }

    /// A list in the form the client asked for, made chunk by chunk while it is sent; it gives its
    /// slot back when that is done.
    ///
    /// # Errors
    /// 500 for an object that cannot be read.
    pub(super) fn listed(
        &self,
        call: &Call,
        list: Listed,
        include: Include,
        slot: Option<CollectionSlot>,
    ) -> Result<Response, Failure> {
        let mut chunks = ListChunks::new(call.resource.clone(), list, call.accept.form, include);
        let (executor, user) = (self.executor.clone(), call.permit.identity().user.clone());
        if call.accept.syntax == Syntax::Yaml {
            let body = chunks.into_yaml(executor, user, slot);
            return Ok(respond::typed(StatusCode::OK, "application/yaml", body));
        }
        // A short list is one body with a length.
        if let Some(whole) = chunks.whole()? {
            return Ok(respond::json(StatusCode::OK, Syntax::Json, whole));
        }
        let chunks = stream::unfold((chunks, executor, user, slot), |state| async move {
            let (mut chunks, executor, user, slot) = state;
            // Other tasks may run between two.
            tokio::task::yield_now().await;
            let chunk = chunks.next_within(&executor.memory, &user).await?;
            let frame = chunk.map(Frame::data).map_err(std::io::Error::other);
            Some((frame, (chunks, executor, user, slot)))
        });
        let body = StreamBody::new(chunks).boxed_unsync();
        Ok(respond::typed(StatusCode::OK, "application/json", body))
    }
}
