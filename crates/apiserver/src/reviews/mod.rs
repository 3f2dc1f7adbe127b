//! Reviews: questions about identity and access that are asked by creating an object nobody keeps.
//!
//! `authentication.k8s.io` says who somebody is, `authorization.k8s.io` what they may do. Each
//! review is one POST; nothing is stored, read or listed.

mod access;
mod identity;
mod rules;

use coffer_api::status::Failure;
use http::{HeaderMap, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::authz::Permit;
use crate::body::{self, MediaType, Payload};
use crate::decode;
use crate::handlers::Handlers;
use crate::options::WriteOptions;
use crate::request::{RequestInfo, ResourcePath, Verb};
use crate::respond::{self, Accept, Answer};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// One kind of review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) namespaced: bool,
}

const fn review(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> Review {
    Review { group, kind, plural, singular, namespaced: false }
}

/// Every review, in discovery's order.
pub(crate) const ALL: [Review; 6] = [
    review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview"),
    review(AUTHENTICATION, "TokenReview", "tokenreviews", "tokenreview"),
    Review {
        namespaced: true,
        ..review(
            AUTHORIZATION,
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
            "localsubjectaccessreview",
        )
    },
    review(
        AUTHORIZATION,
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
    ),
    review(
        AUTHORIZATION,
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
    ),
    review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", "subjectaccessreview"),
];

/// The version both groups are served in.
pub(crate) const VERSION: &str = "v1";

impl Review {
    /// Its entry in a group's list of resources.
    pub(crate) fn api_resource(&self) -> Value {
        json!({
            "name": self.plural, "singularName": self.singular, "namespaced": self.namespaced,
            "kind": self.kind, "verbs": ["create"],
        })
    }

    /// Its entry in aggregated discovery.
    pub(crate) fn discovered(&self) -> Value {
        json!({
            "resource": self.plural, "singularResource": self.singular, "verbs": ["create"],
            "responseKind": { "group": self.group, "version": VERSION, "kind": self.kind },
            "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
        })
    }

    /// Whether its answer grows with what the caller has, and not with what is asked.
    pub(crate) fn shows_rights(&self) -> bool {
        self.kind == "SelfSubjectRulesReview"
    }

    fn api_version(&self) -> String {
        format!("{}/{VERSION}", self.group)
    }
}

/// The reviews of a group and version.
pub(crate) fn of(group: &str, version: &str) -> impl Iterator<Item = &'static Review> {
    ALL.iter().filter(move |review| (review.group, VERSION) == (group, version))
}

/// The review at a path, if there is one.
pub(crate) fn find(path: &ResourcePath) -> Option<&'static Review> {
    let here = |review: &&Review| {
        (review.group, VERSION, review.plural) == (&*path.group, &*path.version, &*path.resource)
    };
    ALL.iter().find(here)
}

/// Answers a permitted request for a review.
///
/// # Errors
/// 405 for any verb but create; 400 and 422 for a body that asks nothing.
pub(crate) async fn answer(
    handlers: &Handlers,
    review: &Review,
    permit: &Permit,
    info: &RequestInfo,
    headers: &HeaderMap,
    payload: Payload,
) -> Result<Answer, Failure> {
    let Some((verb, path)) = &info.resource else { return Err(Failure::no_such_path()) };
    if review.namespaced == path.namespace.is_empty() {
        return Err(Failure::no_such_path());
    }
    let whole = path.name.is_empty() && path.subresource.is_empty();
    if *verb != Verb::Create || !whole {
        return Err(Failure::method_not_allowed());
    }
    let accept = Accept::of_plain(headers)?;
    // Nothing is kept anyway: a dry run is answered as any other.
    let options = WriteOptions::parse(&info.query, "CreateOptions")?;
    let media = MediaType::of_object(headers)?;
    let bytes = body::take(payload)?;
    let asked = Asked { review, media, bytes: &bytes };
    let who = permit.identity();
    let status = StatusCode::CREATED;
    let mut answer = match review.kind {
        "SelfSubjectReview" => {
            respond::value(status, accept.syntax, &identity::of_caller(&asked, who)?)
        }
        "TokenReview" => {
            respond::value(status, accept.syntax, &identity::of_token(handlers, &asked).await?)
        }
        "SelfSubjectAccessReview" => {
            let answer = access::of_caller(&handlers.authorizer, &asked, who).await?;
            respond::value(status, accept.syntax, &answer)
        }
        "SubjectAccessReview" => {
            let answer = access::of_subject(&handlers.authorizer, &asked).await?;
            respond::value(status, accept.syntax, &answer)
        }
        "LocalSubjectAccessReview" => {
            let answer = access::local(&handlers.authorizer, &asked, &path.namespace).await?;
            respond::value(status, accept.syntax, &answer)
        }
        _ => {
            let answer = rules::of_caller(&handlers.authorizer, &asked, who)?;
            respond::value(status, accept.syntax, &answer)
        }
    };
    let kind = (review.kind, &*review.api_version());
    let warnings = decode::value_warnings(&bytes, media, kind, options.field_validation)?;
    respond::warn(&mut answer, &warnings);
    Ok(answer)
}

/// The body of a review, to be decoded as its kind.
struct Asked<'a> {
    review: &'a Review,
    media: MediaType,
    bytes: &'a [u8],
}

impl Asked<'_> {
    fn decode<T: DeserializeOwned + Serialize>(&self) -> Result<T, Failure> {
        decode::value(self.bytes, self.media, self.review.kind, &self.review.api_version())
    }

    /// A question has no name, no labels and the like.
    fn nothing_but_a_question(&self, metadata: &ObjectMeta) -> Result<(), Failure> {
        // The server's own part is not looked at.
        let asked = ObjectMeta {
            managed_fields: None,
            creation_timestamp: None,
            uid: None,
            ..metadata.clone()
        };
        if asked == ObjectMeta::default() {
            return Ok(());
        }
        let path = coffer_api::field::Path::new("metadata");
        Err(self.invalid(coffer_api::kinds::meta::invalid_json(&path, &asked, "must be empty")))
    }

    fn invalid(&self, error: coffer_api::field::Error) -> Failure {
        Failure::invalid(self.review.group, self.review.kind, "", &vec![error])
    }
}
