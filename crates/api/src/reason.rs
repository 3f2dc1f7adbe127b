//! Why a request failed, for programs: `metav1.StatusReason`, with the HTTP code that goes with each.

use std::fmt;

/// The reason of a Status.
///
/// Every text converts to one: what another server says and this list does not know is
/// [`Reason::Unknown`], which no caller compares with, so that it is handled as any failure is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reason {
    /// None is given: upstream's `StatusReasonUnknown`, an empty text.
    #[default]
    Unknown,
    /// 401: the caller did not authenticate.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 409: the name is taken.
    AlreadyExists,
    /// 409: a precondition or the resourceVersion does not hold.
    Conflict,
    /// 410: the object is no longer there and will not return.
    Gone,
    /// 422: the object breaks a rule of its kind.
    Invalid,
    /// 500: the server could not complete the request in time; try again.
    ServerTimeout,
    /// 500: the stored object cannot be read.
    StoreReadError,
    /// 504: the request's own time is over.
    Timeout,
    /// 429.
    TooManyRequests,
    /// 400.
    BadRequest,
    /// 405.
    MethodNotAllowed,
    /// 406: no encoding that the client accepts is served.
    NotAcceptable,
    /// 413.
    RequestEntityTooLarge,
    /// 415.
    UnsupportedMediaType,
    /// 500.
    InternalError,
    /// 410: the resourceVersion or continue token is too old.
    Expired,
    /// 503.
    ServiceUnavailable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Unknown,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::Gone,
        Self::Invalid,
        Self::ServerTimeout,
        Self::StoreReadError,
        Self::Timeout,
        Self::TooManyRequests,
        Self::BadRequest,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::RequestEntityTooLarge,
        Self::UnsupportedMediaType,
        Self::InternalError,
        Self::Expired,
        Self::ServiceUnavailable,
    ];

    /// The HTTP status code that upstream sends with it; 500 where there is no reason.
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::Unknown | Self::ServerTimeout | Self::StoreReadError | Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// As a Status has it; empty for [`Reason::Unknown`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            // Upstream's constant is StatusReasonStoreReadError, its text this.
            Self::StoreReadError => "StorageReadError",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::BadRequest => "BadRequest",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::InternalError => "InternalError",
            Self::Expired => "Expired",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self::ALL.into_iter().find(|one| one.as_str() == text).unwrap_or_default()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The cause, in a Status' details, of a create in a namespace that is being deleted.
pub const CAUSE_NAMESPACE_TERMINATING: &str = "NamespaceTerminating";
/// The cause of an apply that takes a field from another manager.
pub const CAUSE_FIELD_MANAGER_CONFLICT: &str = "FieldManagerConflict";
/// The cause of a read at a revision that is not there yet.
pub const CAUSE_RESOURCE_VERSION_TOO_LARGE: &str = "ResourceVersionTooLarge";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_is_read_back_from_its_text() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from(reason.as_str()), reason);
            assert!((400..600).contains(&reason.code()), "{reason:?}");
        }
        assert_eq!(HashSet::from(Reason::ALL).len(), Reason::ALL.len());
    }

    #[test]
    fn a_reason_of_another_server_is_unknown() {
        for text in ["PodInitializing", "notfound", "NotFound ", ""] {
            assert_eq!(Reason::from(text), Reason::Unknown, "{text}");
        }
    }
}
