//! Load on a server: what clients do, how many of them, and the secrets that most of it is about.

pub(crate) mod clients;
mod run;
pub(crate) mod secrets;
pub(crate) mod watchers;

pub(crate) use run::{Failed, Work, in_row, run};
