//! What an authorizer says of a request, and how several reasons become one text.

use std::collections::HashSet;

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow,
    /// Not allowed by this one; why, where it knows.
    NoOpinion(String),
}

impl Decision {
    pub(super) fn no_opinion() -> Self {
        Self::NoOpinion(String::new())
    }

    pub(super) fn denied(reason: impl Into<String>) -> Self {
        Self::NoOpinion(reason.into())
    }
}

/// Several errors as Go's aggregate prints them: one bare, more in brackets, each once.
pub(crate) fn aggregate<E: std::fmt::Display>(errors: &[E]) -> String {
    let (mut texts, mut seen): (Vec<String>, HashSet<String>) = Default::default();
    for text in errors.iter().map(ToString::to_string) {
        if seen.insert(text.clone()) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [only] => only.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}
