//! The name of an object within its kind.

use std::fmt::{self, Write as _};

use kube::Resource;

/// Namespace and name; the namespace is empty for cluster-scoped objects. Ordered by namespace first, so that
/// the objects of a namespace are a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectKey {
    /// Namespace, or empty.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
}

impl ObjectKey {
    /// A key from its parts.
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

/// For logs and messages: names of some kinds may have any character but a slash, so that control characters
/// and line separators are escaped.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            escaped(f, &self.namespace)?;
            f.write_char('/')?;
        }
        escaped(f, &self.name)
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !name.contains(breaks) {
        return f.write_str(name);
    }
    name.chars().try_for_each(|character| match character {
        _ if breaks(character) => write!(f, "{}", character.escape_default()),
        _ => f.write_char(character),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_control_characters_is_shown_on_one_line() {
        let shown = |namespace, name| ObjectKey::new(namespace, name).to_string();
        assert_eq!(shown("ns", "pdb \u{e9}?#"), "ns/pdb \u{e9}?#");
        assert_eq!(shown("", "a\nERROR forged\r\t\u{1b}[31m"), r"a\nERROR forged\r\t\u{1b}[31m");
        assert_eq!(shown("ns", "a\u{85}b\u{2028}c"), r"ns/a\u{85}b\u{2028}c");
    }
}
