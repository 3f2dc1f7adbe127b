//! What the default roles may do with a kind: its part of upstream's bootstrap policy.

/// The default roles of a namespace; each has what the one before has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads what is not secret.
    View,
    /// Also reads secrets, and writes.
    Edit,
    /// Also gives rights within the namespace.
    Admin,
}

/// Verbs that read.
pub const READ: &[&str] = &["get", "list", "watch"];
/// Verbs that write.
pub const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
/// Both.
pub const READ_WRITE: &[&str] =
    &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Verbs of one role on a kind's resource and on some of its subresources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who may.
    pub role: Role,
    /// What.
    pub verbs: &'static [&'static str],
    /// On what: `""` for the resource itself, `"/scale"` for a subresource.
    pub of: &'static [&'static str],
}

impl Grant {
    /// `view` reads these.
    pub const fn view(of: &'static [&'static str]) -> Self {
        Self { role: Role::View, verbs: READ, of }
    }

    /// `edit` writes these.
    pub const fn edit(of: &'static [&'static str]) -> Self {
        Self { role: Role::Edit, verbs: WRITE, of }
    }
}
