//! The log files that runtimes write, in CRI's format. Pure.
//!
//! ```text
//! 2026-01-02T03:04:05.123456789Z stdout F the line
//! 2026-01-02T03:04:05.123456789Z stderr P the beginning of a long line
//! ```

use k8s_openapi::jiff::Timestamp;

/// One line of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) timestamp: &'a str,
    pub(crate) stream: Stream,
    /// Whether the line goes on in the next one.
    pub(crate) is_partial: bool,
    pub(crate) content: &'a [u8],
}

/// Which of the container's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl<'a> Line<'a> {
    /// Reads a line without its newline; `None` for what is not one.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let timestamp = std::str::from_utf8(parts.next()?).ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // Tags are separated by colons; the first says whether the line is whole.
        let is_partial = match parts.next()?.split(|byte| *byte == b':').next()? {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Self { timestamp, stream, is_partial, content: parts.next().unwrap_or_default() })
    }

    /// When the line was written.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.timestamp.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_everything_that_is_in_them() {
        let line =
            Line::parse(b"2026-01-02T03:04:05.000000006Z stderr P:x a b \xff").expect("a line");
        assert_eq!((line.stream, line.is_partial), (Stream::Stderr, true));
        assert_eq!(line.content, b"a b \xff");
        assert_eq!(line.at().map(|at| at.subsec_nanosecond()), Some(6));
        let empty = Line::parse(b"2026-01-02T03:04:05Z stdout F").expect("an empty line");
        assert_eq!(empty.content, b"");
        for wrong in [&b""[..], b"x", b"t stdin F x", b"t stdout Q x", b"\xff stdout F x"] {
            assert_eq!(Line::parse(wrong), None);
        }
    }
}
