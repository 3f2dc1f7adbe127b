//! POST of a review.

use coffer_api::status::Failure;
use http::{HeaderMap, StatusCode};

use super::Handlers;
use crate::authz::Permit;
use crate::body::{self, MediaType, Payload};
use crate::decode;
use crate::options::WriteOptions;
use crate::request::{RequestInfo, Verb};
use crate::respond::{self, Response};
use crate::reviews::{Review, ReviewBody, access, identity, rules};

impl Handlers {
    /// A permitted request for a review.
    ///
    /// # Errors
    /// 405 for any verb but create; 400 and 422 for a body that asks nothing.
    pub(super) async fn post_review(
        &self,
        review: &Review,
        permit: &Permit,
        info: &RequestInfo,
        headers: &HeaderMap,
        payload: Payload,
    ) -> Result<Response, Failure> {
        let Some((verb, path)) = &info.resource else { return Err(Failure::no_such_path()) };
        if review.namespaced == path.namespace.is_empty() {
            return Err(Failure::no_such_path());
        }
        let whole = path.name.is_empty() && path.subresource.is_empty();
        if *verb != Verb::Create || !whole {
            return Err(Failure::method_not_allowed());
        }
        let accept = info.accepted.plain()?;
        // A review is never stored: a dry run does the same.
        let options = WriteOptions::parse(&info.query, "CreateOptions")?;
        let media = MediaType::of_object(headers)?;
        let bytes = body::take(payload)?;
        let asked = ReviewBody { review, media, bytes: &bytes };
        let (authorizer, who) = (&self.core.authorizer, permit.identity());
        let status = StatusCode::CREATED;
        let mut response = match review.kind {
            "SelfSubjectReview" => {
                respond::value(status, accept.syntax, &identity::of_caller(&asked, who)?)
            }
            "TokenReview" => respond::value(
                status,
                accept.syntax,
                &identity::of_token(&self.authenticator, &self.core.registry, &asked).await?,
            ),
            "SelfSubjectAccessReview" => {
                let response = access::of_caller(authorizer, &asked, who).await?;
                respond::value(status, accept.syntax, &response)
            }
            "SubjectAccessReview" => {
                let response = access::of_subject(authorizer, &asked).await?;
                respond::value(status, accept.syntax, &response)
            }
            "LocalSubjectAccessReview" => {
                let response = access::local(authorizer, &asked, &path.namespace).await?;
                respond::value(status, accept.syntax, &response)
            }
            _ => {
                let response = rules::of_caller(authorizer, &asked, who)?;
                respond::value(status, accept.syntax, &response)
            }
        };
        let kind = (review.kind, &*review.api_version());
        let warnings = decode::value_warnings(&bytes, media, kind, options.field_validation)?;
        respond::warn(&mut response, &warnings);
        Ok(response)
    }
}
