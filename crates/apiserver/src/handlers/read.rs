//! GET of an object and of a collection.

use bytes::Bytes;
use coffer_api::status::Failure;
use futures::stream;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, HeaderValue, VARY};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use super::{Call, Handlers};
use crate::present::{self, Include, ListChunks};
use crate::registry::ListQuery;
use crate::respond::{self, Answer, Body, Form, Syntax};

impl Handlers {
    pub(super) async fn get(&self, call: &Call) -> Result<Answer, Failure> {
        let include = Include::parse(&call.query)?;
        let found =
            self.registry.get(&call.resource, &call.path.namespace, &call.path.name).await?;
        let bytes = present::object(&call.resource, &found.bytes, call.accept.form, include, true)?;
        Ok(respond::json(StatusCode::OK, call.accept.syntax, bytes))
    }

    pub(super) async fn list(&self, call: Call) -> Result<Answer, Failure> {
        let include = Include::parse(&call.query)?;
        let query = ListQuery::parse(&call.query, &call.resource)?;
        let list = self.registry.list(&call.resource, &call.path.namespace, &query).await?;
        if call.accept.form == Form::Table {
            let bytes = present::table(&call.resource, &list, include)?;
            return Ok(respond::json(StatusCode::OK, call.accept.syntax, bytes));
        }
        let mut chunks = ListChunks::new(call.resource, list, call.accept.form);
        if call.accept.syntax == Syntax::Yaml {
            let whole: Vec<Bytes> = chunks.collect::<Result<_, _>>()?;
            return Ok(respond::json(StatusCode::OK, Syntax::Yaml, whole.concat().into()));
        }
        let first = chunks.next().transpose()?.unwrap_or_default();
        // Short lists are one body with a length; long ones are made while they are sent.
        let Some(second) = chunks.next().transpose()? else {
            return Ok(respond::json(StatusCode::OK, Syntax::Json, first));
        };
        let ready = [Ok(first), Ok(second)].into_iter();
        let all = ready.chain(chunks.map(|chunk| chunk.map_err(std::io::Error::other)));
        if !respond::takes_gzip(&call.headers) {
            return Ok(respond::typed(StatusCode::OK, "application/json", streamed(all)));
        }
        let body = streamed(respond::gzip(all));
        let mut answer = respond::typed(StatusCode::OK, "application/json", body);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        Ok(answer)
    }
}

fn streamed(chunks: impl Iterator<Item = std::io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(stream::iter(chunks.map(|chunk| chunk.map(Frame::data)))).boxed_unsync()
}
