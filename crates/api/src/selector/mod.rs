//! Which objects a request means: selectors over labels and over fields, in the syntax of query
//! parameters and in that of `matchLabels` and `matchExpressions`.

mod fields;
mod labels;
mod parse;

pub use fields::FieldSelector;
pub use labels::{LabelSelector, Operator, Requirement};

/// Why a selector cannot be understood; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

#[cfg(test)]
mod tests;
