//! Status errors: the one form in which the API says no. Messages are upstream's, byte for byte.
//!
//! Every layer's error enum is turned into a [`Failure`] in one place and encoded from there.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ListMeta, Status, StatusCause, StatusDetails,
};

use crate::field::ErrorList;

/// A request that failed, with all that its Status says.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status code.
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, `Conflict`, …; empty where upstream has none.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// For programs: which object, which causes, when to retry.
    pub details: Option<Box<StatusDetails>>,
    /// For a list that cannot go on as it began: where it can go on.
    pub continue_: Option<String>,
}

/// Group and plural of a resource, for messages such as `pods "a" not found` or
/// `deployments.apps "a" not found`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupResource<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
}

impl std::fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() {
            f.write_str(self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// Causes, and texts in the message, of one answer. Upstream has no bound.
pub const CAUSES_MAX: usize = 1000;

impl Failure {
    /// A failure without details.
    pub fn plain(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, continue_: None }
    }

    fn about(
        code: u16,
        reason: &'static str,
        resource: GroupResource<'_>,
        name: &str,
        message: String,
    ) -> Self {
        let details = StatusDetails {
            group: none_if_empty(resource.group),
            kind: Some(resource.resource.to_owned()),
            name: none_if_empty(name),
            ..Default::default()
        };
        Self { code, reason, message, details: Some(Box::new(details)), continue_: None }
    }

    /// 404 for an object.
    pub fn not_found(resource: GroupResource<'_>, name: &str) -> Self {
        let message = format!("{resource} \"{name}\" not found");
        Self::about(404, "NotFound", resource, name, message)
    }

    /// 409 for a name that is taken.
    pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Self {
        let message = format!("{resource} \"{name}\" already exists");
        Self::about(409, "AlreadyExists", resource, name, message)
    }

    /// 409 for a write that lost a race or a precondition.
    pub fn conflict(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::about(409, "Conflict", resource, name, message)
    }

    /// 403.
    pub fn forbidden(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = match (resource.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} \"{name}\" is forbidden: {why}"),
        };
        Self::about(403, "Forbidden", resource, name, message)
    }

    /// 422 with one cause per error, up to [`CAUSES_MAX`]. `kind` is the kind's name; the group is
    /// appended to it.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &ErrorList) -> Self {
        let shown = &errors[..errors.len().min(CAUSES_MAX)];
        let causes = shown
            .iter()
            .map(|error| StatusCause {
                field: Some(error.path.to_string()),
                message: Some(error.body()),
                reason: Some(error.kind.reason().to_owned()),
            })
            .collect();
        let mut texts: Vec<String> = shown.iter().map(ToString::to_string).collect();
        // There may be hundreds of thousands: several for each item of a list.
        if shown.len() < errors.len() {
            texts.push(format!("{} more errors", errors.len() - shown.len()));
        }
        // Each text once.
        let mut seen = HashSet::with_capacity(texts.len());
        let lines: Vec<&str> =
            texts.iter().map(String::as_str).filter(|text| seen.insert(*text)).collect();
        let all = match lines.as_slice() {
            [] => "<nil>".to_owned(),
            [line] => (*line).to_owned(),
            lines => format!("[{}]", lines.join(", ")),
        };
        let shown = GroupResource { group, resource: kind };
        let details = StatusDetails {
            group: none_if_empty(group),
            kind: Some(kind.to_owned()),
            name: none_if_empty(name),
            causes: Some(causes),
            ..Default::default()
        };
        Self {
            code: 422,
            reason: "Invalid",
            message: format!("{shown} \"{name}\" is invalid: {all}"),
            details: Some(Box::new(details)),
            continue_: None,
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::plain(401, "Unauthorized", "Unauthorized")
    }

    /// 410 for a resourceVersion or continue token that is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::plain(410, "Expired", message)
    }

    /// 500; the message is shown, so it must name nothing secret.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let mut failure =
            Self::plain(500, "InternalError", format!("Internal error occurred: {message}"));
        failure.details = Some(Box::new(StatusDetails {
            causes: Some(vec![StatusCause {
                message: Some(message.to_string()),
                ..Default::default()
            }]),
            ..Default::default()
        }));
        failure
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::plain(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 404 for a path no resource is served at.
    pub fn no_such_path() -> Self {
        let mut failure =
            Self::plain(404, "NotFound", "the server could not find the requested resource");
        failure.details = Some(Box::default());
        failure
    }

    /// 413 for a body over its limit.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::plain(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit_bytes}"),
        )
    }

    /// 429 with `retryAfterSeconds`.
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: i32) -> Self {
        let mut failure = Self::plain(429, "TooManyRequests", message);
        failure.details = Some(Box::new(StatusDetails {
            retry_after_seconds: Some(retry_after_s),
            ..Default::default()
        }));
        failure
    }

    /// The Status object clients get.
    pub fn status(&self) -> Status {
        Status {
            code: Some(self.code.into()),
            reason: none_if_empty(self.reason),
            message: Some(self.message.clone()),
            status: Some("Failure".to_owned()),
            details: self.details.as_deref().cloned(),
            metadata: ListMeta { continue_: self.continue_.clone(), ..Default::default() },
        }
    }
}

fn none_if_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
