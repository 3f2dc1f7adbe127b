//! What Go says of text that is not base64.

/// Text that Go's `StdEncoding` does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data at input byte {at}")]
pub struct CorruptBase64 {
    /// Where Go says that it is wrong.
    pub at: usize,
}
