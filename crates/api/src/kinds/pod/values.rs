//! Values that several parts of a pod have: one of a few words, relative paths.

use crate::field::{Error, ErrorList, Path};

/// A relative path that stays below where it starts.
pub(super) fn descending_path(target: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if target.starts_with('/') {
        errors.push(Error::invalid(path, target, "must be a relative path"));
    }
    errors.extend(no_backsteps(target, path));
    errors
}

pub(super) fn no_backsteps(target: &str, path: &Path) -> Option<Error> {
    let steps_back = target.split('/').any(|part| part == "..");
    steps_back.then(|| Error::invalid(path, target, "must not contain '..'"))
}

/// A text that must be there and be one of a few.
pub(super) fn one_of(value: &str, supported: &[&str], path: &Path) -> Option<Error> {
    if value.is_empty() {
        return Some(Error::required(path, ""));
    }
    let known = supported.contains(&value);
    (!known).then(|| Error::not_supported(path, value, supported))
}
