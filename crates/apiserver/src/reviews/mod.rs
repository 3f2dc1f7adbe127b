//! Reviews: queries of identity and access, by creating an object that is not stored.
//!
//! `authentication.k8s.io` says who a user is, `authorization.k8s.io` what a user may do. Each review
//! is one POST; nothing is stored, read or listed. Here is what each says; `handlers::review` posts.

pub(crate) mod access;
pub(crate) mod identity;
pub(crate) mod rules;

use coffer_api::status::Failure;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::body::MediaType;
use crate::decode;
use crate::request::ResourcePath;

const AUTHENTICATION: &str = coffer_api::well_known::api_group::AUTHENTICATION;
const AUTHORIZATION: &str = coffer_api::well_known::api_group::AUTHORIZATION;

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

    /// Whether its response grows with what the caller has, and not with what is asked.
    pub(crate) fn shows_rights(&self) -> bool {
        self.kind == "SelfSubjectRulesReview"
    }

    pub(crate) fn api_version(&self) -> String {
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

/// The body of a review, to be decoded as its kind.
pub(crate) struct ReviewBody<'a> {
    pub(crate) review: &'a Review,
    pub(crate) media: MediaType,
    pub(crate) bytes: &'a [u8],
}

impl ReviewBody<'_> {
    fn decode<T: DeserializeOwned + Serialize>(&self) -> Result<T, Failure> {
        decode::value(self.bytes, self.media, self.review.kind, &self.review.api_version())
    }

    /// A review has no name, labels or other metadata.
    fn has_no_metadata(&self, metadata: &ObjectMeta) -> Result<(), Failure> {
        // Fields that the server sets are ignored.
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
