//! Names as segments of a URL path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is escaped: all but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as one segment of a path, percent-encoded. Names of some kinds, such as disruption budgets, roles and
/// events, may contain any character but `/` and `%`, and a reference to an object any at all; kube puts the
/// name that it is given into the URL as it is.
pub fn segment(name: &str) -> String {
    utf8_percent_encode(name, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_and_ordinary_ones_stay_as_they_are() {
        for (name, shown) in [
            ("web-1.example", "web-1.example"),
            ("system:node", "system%3Anode"),
            ("a?b#c d", "a%3Fb%23c%20d"),
            ("../a/status?watch=1", "..%2Fa%2Fstatus%3Fwatch%3D1"),
            ("50%", "50%25"),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(segment(name), shown);
        }
    }
}
