//! Why a request failed, for programs: `metav1.StatusReason`, with the HTTP code that goes with each.

text_enum! {
    /// The reason of a Status.
    ///
    /// Every text converts to one: what another server says and this list does not know is
    /// [`Reason::Unknown`], which no caller compares with, so that it is handled as any failure is.
    #[derive(Default)]
    pub enum Reason {
        /// None is given: upstream's `StatusReasonUnknown`, an empty text.
        #[default]
        Unknown = "",
        /// 401: the caller did not authenticate.
        Unauthorized = "Unauthorized",
        /// 403.
        Forbidden = "Forbidden",
        /// 404.
        NotFound = "NotFound",
        /// 409: the name is taken.
        AlreadyExists = "AlreadyExists",
        /// 409: a precondition or the resourceVersion does not hold.
        Conflict = "Conflict",
        /// 410: the object is no longer there and will not return.
        Gone = "Gone",
        /// 422: the object breaks a rule of its kind.
        Invalid = "Invalid",
        /// 500: the server could not complete the request in time; try again.
        ServerTimeout = "ServerTimeout",
        /// 500: the stored object cannot be read.
        StoreReadError = "StorageReadError",
        /// 504: the request's own time is over.
        Timeout = "Timeout",
        /// 429.
        TooManyRequests = "TooManyRequests",
        /// 400.
        BadRequest = "BadRequest",
        /// 405.
        MethodNotAllowed = "MethodNotAllowed",
        /// 406: no encoding that the client accepts is served.
        NotAcceptable = "NotAcceptable",
        /// 413.
        RequestEntityTooLarge = "RequestEntityTooLarge",
        /// 415.
        UnsupportedMediaType = "UnsupportedMediaType",
        /// 500.
        InternalError = "InternalError",
        /// 410: the resourceVersion or continue token is too old.
        Expired = "Expired",
        /// 503.
        ServiceUnavailable = "ServiceUnavailable",
    }
}

impl Reason {
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
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
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
    use super::*;

    #[test]
    fn every_reason_is_read_back_from_its_text() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from(reason.as_str()), reason);
            assert!((400..600).contains(&reason.code()), "{reason:?}");
        }
    }

    #[test]
    fn a_reason_of_another_server_is_unknown() {
        for text in ["PodInitializing", "notfound", "NotFound ", ""] {
            assert_eq!(Reason::from(text), Reason::Unknown, "{text}");
        }
    }
}
