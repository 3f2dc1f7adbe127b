//! What Go's standard library does, where clients have come to know it by its words: how it quotes
//! text, what it takes for base64, what it says of JSON that ends too soon.

use zeroize::Zeroizing;

use crate::redact;

pub(crate) mod corrupt;
pub mod duration;

pub use corrupt::CorruptBase64;

/// Text as Go's `%q` writes it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\0'..' ' | '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if printable(c) => out.push(c),
            '\0'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// What Go's `ParseBool` makes of a text; `None` for what it refuses.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Letters, marks, numbers, punctuation, symbols and the space. Behind another character, so that a
/// mark counts as well.
fn printable(c: char) -> bool {
    let shown = ['x', c].iter().collect::<String>();
    c.is_ascii() || shown.escape_debug().count() == 2
}

/// The bytes that base64 stands for: line ends count for nothing, nor do the bits behind the last
/// byte.
///
/// # Errors
/// [`CorruptBase64`]. What was decoded by then is erased.
pub fn base64(text: &str) -> Result<Vec<u8>, CorruptBase64> {
    let text = text.as_bytes();
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() / 4 * 3 + 3));
    let mut at = 0;
    loop {
        let Quantum { sextets, digits, ended } = quantum(text, &mut at)?;
        let bits = sextets.iter().fold(0, |bits, sextet| bits << 6 | u32::from(*sextet)) << 8;
        out.extend_from_slice(&bits.to_be_bytes()[..digits.saturating_sub(1)]);
        if ended {
            return Ok(std::mem::take(&mut *out));
        }
    }
}

/// Up to four digits.
struct Quantum {
    sextets: [u8; 4],
    digits: usize,
    /// Nothing follows.
    ended: bool,
}

fn quantum(text: &[u8], at: &mut usize) -> Result<Quantum, CorruptBase64> {
    let wrong = |at| Err(CorruptBase64 { at });
    let (mut sextets, mut digits) = ([0; 4], 0);
    while digits < 4 {
        let Some(byte) = text.get(*at) else {
            return if digits == 0 {
                Ok(Quantum { sextets, digits, ended: true })
            } else {
                wrong(*at - digits)
            };
        };
        *at += 1;
        match byte {
            b'\n' | b'\r' => {}
            b'=' => {
                if digits < 2 {
                    return wrong(*at - 1);
                }
                if digits == 2 {
                    skip_line_ends(text, at);
                    match text.get(*at) {
                        None => return wrong(text.len()),
                        Some(b'=') => *at += 1,
                        Some(_) => return wrong(*at - 1),
                    }
                }
                skip_line_ends(text, at);
                let ended = *at == text.len();
                return if ended { Ok(Quantum { sextets, digits, ended }) } else { wrong(*at) };
            }
            _ => {
                let Some(sextet) = sextet(*byte) else { return wrong(*at - 1) };
                sextets[digits] = sextet;
                digits += 1;
            }
        }
    }
    Ok(Quantum { sextets, digits, ended: false })
}

fn skip_line_ends(text: &[u8], at: &mut usize) {
    while matches!(text.get(*at), Some(b'\n' | b'\r')) {
        *at += 1;
    }
}

fn sextet(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// What is wrong with JSON, without any of it: Go's words where it ends too soon, a place where Go
/// would quote a character.
pub fn json_error(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected end of JSON input".to_owned() } else { redact::json(error) }
}

/// Whether a JSON scalar is the zero of its type.
pub(crate) fn is_zero(scalar: &serde_json::Value) -> bool {
    match scalar {
        serde_json::Value::String(text) => text.is_empty(),
        serde_json::Value::Bool(value) => !value,
        serde_json::Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        for (text, shown) in [
            ("plain it's", r#""plain it's""#),
            ("\"\\", r#""\"\\""#),
            ("\u{7}\u{8}\t\n\u{b}\u{c}\r", r#""\a\b\t\n\v\f\r""#),
            ("\u{0}\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
            ("é日\u{301}", "\"é日\u{301}\""),
            ("\u{a0}\u{200b}\u{feff}", r#""\u00a0\u200b\ufeff""#),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quoted(text), shown);
        }
    }

    #[test]
    fn a_bool_is_what_go_parses_as_one() {
        for (text, parsed) in [
            ("true", Some(true)),
            ("T", Some(true)),
            ("1", Some(true)),
            ("False", Some(false)),
            ("0", Some(false)),
            ("", None),
            ("yes", None),
            ("tRUE", None),
        ] {
            assert_eq!(parse_bool(text), parsed, "{text:?}");
        }
    }

    #[test]
    fn base64_errors_have_gos_offset() {
        for (text, at) in [
            ("d", 0),
            ("dg", 0),
            ("dg=", 3),
            ("dg=x", 2),
            ("=", 0),
            ("d===", 1),
            ("dg==x", 4),
            ("dmFsdWU*", 7),
            ("dmFsdWU", 4),
            ("dm Fs", 2),
            ("dmFs-_", 4),
        ] {
            assert_eq!(base64(text), Err(CorruptBase64 { at }), "{text}");
        }
        for (text, bytes) in
            [("", ""), ("dg==", "v"), ("dh==", "v"), ("dm\nFs\r\ndWU=\n", "value"), ("\n", "")]
        {
            assert_eq!(base64(text), Ok(bytes.as_bytes().to_vec()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(base64(&STANDARD.encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn no_text_makes_decoding_panic(text in "[A-Za-z=\n*é]{0,12}") {
            if let Err(CorruptBase64 { at }) = base64(&text) {
                prop_assert!(at <= text.len());
            }
        }
    }
}
