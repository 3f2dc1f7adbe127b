//! An error as one line for standard error.

/// An error with its causes. A cause that its parent already quotes is not repeated.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_printed_as_one_line_without_repetitions() {
        let cause = std::io::Error::other("disk is full");
        let error =
            anyhow::Error::new(cause).context("store: disk is full").context("cannot\nstart");
        assert_eq!(one_line(&error), "cannot start: store: disk is full");
    }
}
