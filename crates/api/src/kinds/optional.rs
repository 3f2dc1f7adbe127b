//! Absent and empty are one thing in most of the API; these say so in one word.

/// The text, or `""`.
pub(super) fn text(option: &Option<String>) -> &str {
    option.as_deref().unwrap_or_default()
}

/// The items, or none.
pub(super) fn list<T>(option: &Option<Vec<T>>) -> &[T] {
    option.as_deref().unwrap_or_default()
}

/// The items to change in place, or none.
pub(super) fn list_mut<T>(option: &mut Option<Vec<T>>) -> &mut [T] {
    option.as_deref_mut().unwrap_or_default()
}

/// Fills in a text that is absent or empty.
pub(super) fn default_text(option: &mut Option<String>, value: &str) {
    if text(option).is_empty() {
        *option = Some(value.to_owned());
    }
}

/// Fills in a number that is absent or zero.
pub(super) fn default_number(option: &mut Option<i32>, value: i32) {
    if option.unwrap_or_default() == 0 {
        *option = Some(value);
    }
}
