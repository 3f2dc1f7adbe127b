//! `$(NAME)` in commands, arguments and values. Pure.
//!
//! A reference to a variable that there is not stays as it is; `$$` is a dollar sign.

/// Expands all references in `text`. The answer is made in one piece: a buffer that grows leaves
/// copies of what may be secret behind.
pub(crate) fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut length = 0;
    pieces(text, &lookup, |piece| length += piece.len());
    let mut expanded = String::with_capacity(length);
    pieces(text, &lookup, |piece| expanded.push_str(piece));
    expanded
}

/// Tells the pieces that the expanded text consists of, in their order.
fn pieces<'a>(text: &str, lookup: &impl Fn(&str) -> Option<&'a str>, mut tell: impl FnMut(&str)) {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        tell(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            tell("$");
            rest = escaped;
            continue;
        }
        match after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            Some((name, tail)) => {
                match lookup(name) {
                    Some(value) => tell(value),
                    None => ["$(", name, ")"].into_iter().for_each(&mut tell),
                }
                rest = tail;
            }
            None => {
                tell("$");
                rest = after;
            }
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
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
