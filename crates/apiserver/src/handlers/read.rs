//! GET of an object and of a collection.

use bytes::Bytes;
use coffer_api::status::Failure;
use futures::stream;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::{Call, Handlers};
use crate::options::revision;
use crate::present::{self, Include, ListChunks};
use crate::registry::{ListQuery, Listed};
use crate::respond::{self, Answer, Body, Syntax};

impl Handlers {
    pub(super) async fn get(&self, call: &Call) -> Result<Answer, Failure> {
        if call.query.flag_given("export") == Some(true) {
            let why = "the export parameter, deprecated since v1.14, is no longer supported";
            return Err(Failure::bad_request(why));
        }
        let include = Include::parse(&call.query)?;
        // Any version means the newest, which is never older than the one that is asked for: but
        // that may have been seen elsewhere, and not have happened here yet.
        if let Some(version) = revision(call.query.get("resourceVersion"))?.filter(|it| *it > 0) {
            self.registry.wait_for(version).await?;
        }
        let found =
            self.registry.get(&call.resource, &call.path.namespace, &call.path.name).await?;
        let bytes = present::object(&call.resource, &found.bytes, call.accept.form, include, true)?;
        Ok(respond::json(StatusCode::OK, call.accept.syntax, bytes))
    }

    pub(super) async fn list(&self, call: &Call) -> Result<Answer, Failure> {
        let include = Include::parse(&call.query)?;
        let query = ListQuery::parse(&call.query, &call.resource)?;
        let list = self.registry.list(&call.resource, &call.path.namespace, &query).await?;
        self.listed(call, list, include)
    }

    /// A list in the form the client asked for.
    pub(super) fn listed(
        &self,
        call: &Call,
        list: Listed,
        include: Include,
    ) -> Result<Answer, Failure> {
        let mut chunks = ListChunks::new(call.resource.clone(), list, call.accept.form, include);
        if call.accept.syntax == Syntax::Yaml {
            let user = call.permit.identity().user.clone();
            let body = chunks.into_yaml(self.lanes.clone(), user);
            return Ok(respond::typed(StatusCode::OK, "application/yaml", body));
        }
        let first = chunks.next().transpose()?.unwrap_or_default();
        // Short lists are one body with a length; long ones are made while they are sent.
        let Some(second) = chunks.next().transpose()? else {
            return Ok(respond::json(StatusCode::OK, Syntax::Json, first));
        };
        let ready = [Ok(first), Ok(second)].into_iter();
        let all = ready.chain(chunks.map(|chunk| chunk.map_err(std::io::Error::other)));
        Ok(respond::typed(StatusCode::OK, "application/json", streamed(all)))
    }
}

/// Each chunk is made when the one before it is on its way, and others get their turn between two.
fn streamed(chunks: impl Iterator<Item = std::io::Result<Bytes>> + Send + 'static) -> Body {
    let stream = stream::unfold(chunks, |mut chunks| async move {
        tokio::task::yield_now().await;
        let chunk = chunks.next()?;
        Some((chunk.map(Frame::data), chunks))
    });
    StreamBody::new(stream).boxed_unsync()
}
