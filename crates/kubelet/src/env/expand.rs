//! `$(NAME)` in commands, arguments and values. Pure.
//!
//! A reference to a variable that there is not stays as it is; `$$` is a dollar sign. What comes of it is
//! measured before it is made, and made only if it fits.

/// The longest string that a program can be given, with the NUL at its end: the kernel's
/// `MAX_ARG_STRLEN`, 32 pages of 4 KiB.
pub(crate) const STRING_BYTES_MAX: usize = 128 * 1024;
/// The longest path with the NUL at its end: the kernel's `PATH_MAX`.
pub(crate) const PATH_BYTES_MAX: usize = 4096;

/// The expanded text would be longer than it may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Expands all references in `text` to no more than `max` bytes. The result is made in one piece: a
/// buffer that grows leaves copies of what may be secret behind.
pub(crate) fn expand<'a>(
    text: &str,
    max: usize,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, TooLong> {
    let mut length: usize = 0;
    pieces(text, &lookup, |piece| {
        length = length.saturating_add(piece.len());
        length <= max
    });
    if length > max {
        return Err(TooLong);
    }
    let mut expanded = String::with_capacity(length);
    pieces(text, &lookup, |piece| {
        expanded.push_str(piece);
        true
    });
    Ok(expanded)
}

/// Tells the pieces that the expanded text consists of, in their order, until it is stopped.
fn pieces<'a>(
    text: &str,
    lookup: &impl Fn(&str) -> Option<&'a str>,
    mut tell: impl FnMut(&str) -> bool,
) {
    // Behind the last one no reference is looked for: each search would go to the end of the text.
    let last_close = text.rfind(')').unwrap_or(0);
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        if !tell(&rest[..at]) {
            return;
        }
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            if !tell("$") {
                return;
            }
            rest = escaped;
            continue;
        }
        let may_close = text.len() - after.len() < last_close;
        let reference = after.strip_prefix('(').filter(|_| may_close);
        let goes_on = match reference.and_then(|inner| inner.split_once(')')) {
            Some((name, tail)) => {
                rest = tail;
                match lookup(name) {
                    Some(value) => tell(value),
                    None => ["$(", name, ")"].into_iter().all(&mut tell),
                }
            }
            None => {
                rest = after;
                tell("$")
            }
        };
        if !goes_on {
            return;
        }
    }
    tell(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_upstream_expands_them() {
        let lookup = |name: &str| match name {
            "VAR_A" => Some("A"),
            "VAR_EMPTY" => Some(""),
            _ => None,
        };
        for (text, expected) in [
            ("$(VAR_A)", "A"),
            ("___$(VAR_A)___", "___A___"),
            ("$(VAR_A)$(VAR_A)", "AA"),
            ("$$(VAR_A)", "$(VAR_A)"),
            ("$$$(VAR_A)", "$A"),
            ("$$$$(VAR_A)", "$$(VAR_A)"),
            ("$(VAR_NONE)", "$(VAR_NONE)"),
            ("f$(VAR_EMPTY)o", "fo"),
            ("$(VAR_A", "$(VAR_A"),
            ("$VAR_A", "$VAR_A"),
            ("$", "$"),
            ("$(", "$("),
            ("$()", "$()"),
            ("a$", "a$"),
        ] {
            assert_eq!(expand(text, 100, lookup).as_deref(), Ok(expected), "{text}");
        }
    }
    #[test]
    fn a_text_that_would_be_too_long_is_not_made() {
        let value = "x".repeat(1000);
        let lookup = |name: &str| (name == "A").then_some(value.as_str());
        assert_eq!(expand("$(A)", 1000, lookup).map(|text| text.len()), Ok(1000));
        assert_eq!(expand("$(A)", 999, lookup), Err(TooLong));
        assert_eq!(expand(&"$(A)".repeat(1_000_000), 100_000, lookup), Err(TooLong));
    }

    /// Each opening used to be looked for to the end of the text.
    #[test]
    fn references_that_are_never_closed_cost_one_pass() {
        let text = "$(".repeat(1_000_000);
        assert_eq!(expand(&text, text.len(), |_| None).as_ref(), Ok(&text));
        let closed = format!("{text})");
        assert_eq!(expand(&closed, closed.len(), |_| None).as_ref(), Ok(&closed));
    }
}
