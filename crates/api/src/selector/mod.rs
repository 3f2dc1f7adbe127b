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

/// Terms of a selector. Upstream has no bound but that of a request's headers; each object of a
/// collection is held against each term.
pub const TERMS_MAX: usize = 1000;
/// Values of one term.
pub const VALUES_MAX: usize = 10_000;

fn check_terms(count: usize) -> Result<(), SelectorError> {
    if count <= TERMS_MAX {
        return Ok(());
    }
    Err(SelectorError(format!("a selector may have at most {TERMS_MAX} terms")))
}

fn check_values(count: usize) -> Result<(), SelectorError> {
    if count <= VALUES_MAX {
        return Ok(());
    }
    Err(SelectorError(format!("a term of a selector may have at most {VALUES_MAX} values")))
}

#[cfg(test)]
mod tests;
