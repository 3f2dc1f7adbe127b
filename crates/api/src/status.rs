//! Status errors: the one form in which the API says no. Messages are upstream's, byte for byte.
//!
//! Every layer's error enum is turned into a [`Failure`] in one place and encoded from there.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    ListMeta, Status, StatusCause, StatusDetails,
};

use crate::field::ErrorList;
use crate::reason::Reason;

/// A request that failed, with all that its Status says.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status code.
    pub code: u16,
    /// For programs: what kind of failure it is.
    pub reason: Reason,
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

impl GroupResource<'_> {
    /// The name in quotas and in the conditions of namespaces, which has a dot for core kinds, too:
    /// `secrets.`, `deployments.apps`.
    pub fn qualified(self) -> String {
        format!("{}.{}", self.resource, self.group)
    }
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
/// Bytes of a message, and as many of all causes together. Upstream has no bound.
pub const TEXT_BYTES_MAX: usize = 32 * 1024;
/// Bytes of one text among several, such as a cause's message or an object's name.
pub const PART_BYTES_MAX: usize = 2 * 1024;
/// Ends a text that was cut.
const ELLIPSIS: &str = "...";

/// A text of up to `max` bytes: a longer one loses its end, and says so.
pub fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub(ELLIPSIS.len())));
        text.push_str(ELLIPSIS);
        text.shrink_to_fit();
    }
    text
}

/// As [`cut`], without a copy of what is cut off.
fn part(text: &str) -> String {
    if text.len() <= PART_BYTES_MAX {
        return text.to_owned();
    }
    cut(text[..text.floor_char_boundary(PART_BYTES_MAX + 1)].to_owned(), PART_BYTES_MAX)
}

/// As many causes as an answer takes.
pub(crate) fn bounded(causes: impl Iterator<Item = StatusCause>) -> Vec<StatusCause> {
    let mut left = TEXT_BYTES_MAX;
    let fits = |cause: &StatusCause| {
        let texts = [&cause.field, &cause.message, &cause.reason];
        let bytes: usize = texts.into_iter().flatten().map(String::len).sum();
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    let part = |text: Option<String>| text.map(|text| cut(text, PART_BYTES_MAX));
    causes
        .map(|StatusCause { field, message, reason }| StatusCause {
            field: part(field),
            message: part(message),
            reason: part(reason),
        })
        .take(CAUSES_MAX)
        .take_while(fits)
        .collect()
}

impl Failure {
    /// A failure without details, with the code of its reason.
    pub fn plain(reason: Reason, message: impl Into<String>) -> Self {
        let message = cut(message.into(), TEXT_BYTES_MAX);
        Self { code: reason.code(), reason, message, details: None, continue_: None }
    }

    /// As [`Failure::plain`], with another code: without a reason, or another server's.
    pub fn with_code(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, ..Self::plain(reason, message) }
    }

    fn about(reason: Reason, resource: GroupResource<'_>, name: &str, message: String) -> Self {
        let details = StatusDetails {
            group: none_if_empty(resource.group),
            kind: Some(part(resource.resource)),
            name: none_if_empty(&part(name)),
            ..Default::default()
        };
        Self { details: Some(Box::new(details)), ..Self::plain(reason, message) }
    }

    /// 404 for an object.
    pub fn not_found(resource: GroupResource<'_>, name: &str) -> Self {
        let message = format!("{resource} \"{name}\" not found");
        Self::about(Reason::NotFound, resource, name, message)
    }

    /// 409 for a name that is taken.
    pub fn already_exists(resource: GroupResource<'_>, name: &str) -> Self {
        let message = format!("{resource} \"{name}\" already exists");
        Self::about(Reason::AlreadyExists, resource, name, message)
    }

    /// 409 for a write that lost a race or a precondition.
    pub fn conflict(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self::about(Reason::Conflict, resource, name, message)
    }

    /// 403.
    pub fn forbidden(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = match (resource.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} \"{name}\" is forbidden: {why}"),
        };
        Self::about(Reason::Forbidden, resource, name, message)
    }

    /// 422 with one cause per error, up to [`CAUSES_MAX`] and [`TEXT_BYTES_MAX`]. `kind` is the kind's name; the group is
    /// appended to it.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &ErrorList) -> Self {
        let causes = bounded(errors.iter().map(|error| StatusCause {
            field: Some(error.path.to_string()),
            message: Some(error.body()),
            reason: Some(error.kind.reason().to_owned()),
        }));
        // There may be hundreds of thousands: several for each item of a list.
        let mut left = TEXT_BYTES_MAX;
        let fits = |text: &String| {
            let fits = text.len() <= left;
            left = left.saturating_sub(text.len() + ", ".len());
            fits
        };
        let shown = errors.iter().take(CAUSES_MAX);
        let mut texts: Vec<String> =
            shown.map(|error| cut(error.to_string(), PART_BYTES_MAX)).take_while(fits).collect();
        if texts.len() < errors.len() {
            texts.push(format!("{} more errors", errors.len() - texts.len()));
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
            kind: Some(part(kind)),
            name: none_if_empty(&part(name)),
            causes: Some(causes),
            ..Default::default()
        };
        Self {
            code: Reason::Invalid.code(),
            reason: Reason::Invalid,
            message: format!("{shown} \"{}\" is invalid: {all}", part(name)),
            details: Some(Box::new(details)),
            continue_: None,
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::plain(Reason::BadRequest, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::plain(Reason::Unauthorized, "Unauthorized")
    }

    /// 410 for a resourceVersion or continue token that is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::plain(Reason::Expired, message)
    }

    /// 500; the message is shown, so it must name nothing secret.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        let mut failure =
            Self::plain(Reason::InternalError, format!("Internal error occurred: {message}"));
        failure.details = Some(Box::new(StatusDetails {
            causes: Some(vec![StatusCause {
                message: Some(cut(message.to_string(), PART_BYTES_MAX)),
                ..Default::default()
            }]),
            ..Default::default()
        }));
        failure
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::plain(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        )
    }

    /// 404 for a path no resource is served at.
    pub fn no_such_path() -> Self {
        let mut failure =
            Self::plain(Reason::NotFound, "the server could not find the requested resource");
        failure.details = Some(Box::default());
        failure
    }

    /// 413 for a body over its limit.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::plain(
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {limit_bytes}"),
        )
    }

    /// 429 with `retryAfterSeconds`.
    pub fn too_many_requests(message: impl Into<String>, retry_after_s: i32) -> Self {
        let mut failure = Self::plain(Reason::TooManyRequests, message);
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
            reason: none_if_empty(self.reason.as_str()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{Error, Path};

    /// The bytes of a Status as its client gets it.
    fn encoded_length(failure: &Failure) -> usize {
        serde_json::to_vec(&failure.status()).unwrap().len()
    }

    #[test]
    fn a_failure_is_short_however_much_was_wrong() {
        const LONG: usize = 3 << 20;
        let long = "\u{e9}".repeat(LONG / 2);
        let resource = GroupResource { group: "", resource: "configmaps" };
        let labels = Path::new("metadata").child("labels");
        let many: ErrorList = (0..5_000)
            .map(|n| Error::invalid(&labels, &format!("/{n}"), "x".repeat(200)))
            .collect();
        let one = |error| vec![error];
        for (what, failure) in [
            ("many", Failure::invalid("", "ConfigMap", "m", &many)),
            (
                "a value",
                Failure::invalid("", "ConfigMap", "m", &one(Error::invalid(&labels, &long, "no"))),
            ),
            (
                "a key",
                Failure::invalid(
                    "",
                    "ConfigMap",
                    "m",
                    &one(Error::required(&Path::new("data").key(&long), "")),
                ),
            ),
            (
                "a detail",
                Failure::invalid("", "ConfigMap", "m", &one(Error::forbidden(&labels, &*long))),
            ),
            (
                "an invalid name",
                Failure::invalid("", "ConfigMap", &long, &one(Error::required(&labels, ""))),
            ),
            ("a name", Failure::not_found(resource, &long)),
            ("a conflict", Failure::conflict(resource, "m", &long)),
            ("forbidden", Failure::forbidden(resource, &long, &long)),
            ("plain", Failure::bad_request(long.clone())),
            ("internal", Failure::internal(&long)),
        ] {
            let bytes = encoded_length(&failure);
            assert!(bytes <= 2 * TEXT_BYTES_MAX + (16 << 10), "{what}: {bytes}");
            assert!(failure.message.len() <= TEXT_BYTES_MAX + (4 << 10), "{what}");
        }
    }

    #[test]
    fn what_is_left_out_is_counted_and_what_is_cut_says_so() {
        let path = Path::new("a");
        let errors: ErrorList =
            (0..5_000).map(|n| Error::invalid(&path, n, "d".repeat(100))).collect();
        let failure = Failure::invalid("", "Pod", "p", &errors);
        let causes = failure.details.as_ref().unwrap().causes.as_ref().unwrap();
        assert!((100..CAUSES_MAX).contains(&causes.len()), "{}", causes.len());
        assert!(failure.message.ends_with(" more errors]"), "{}", failure.message);
        let error = Error::invalid(&path, &"v".repeat(5_000), "is too long");
        let failure = Failure::invalid("", "Pod", "p", &vec![error]);
        let message = &failure.message;
        assert!(message.contains("vvv...\": is too long"), "{message}");
    }
}
