//! Authorization. [`Authorizer::check`] takes an [`Identity`](crate::identity::Identity) and yields a [`Permit`]; what
//! handles a request starts from the permit and cannot be reached without one.
//!
//! The chain is upstream's: `system:masters`, then the Node authorizer, then RBAC; the first that
//! allows decides, and where none does, the denial has the reasons of all.

pub(crate) mod attributes;
mod authorizer;
mod decision;
pub(crate) mod node;
pub(crate) mod rbac;
mod recheck;

pub(crate) use self::authorizer::{Authorizer, InternalPermit, Permit};
pub(crate) use self::decision::{Decision, aggregate};
pub(crate) use self::recheck::AccessRecheck;
