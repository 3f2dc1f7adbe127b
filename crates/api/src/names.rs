//! What may stand where a name stands: object names, label keys and values, payload keys,
//! environment variables, ports. Messages are `k8s.io/apimachinery`'s, byte for byte.
//!
//! Every check returns a list of messages, empty when the text is fine; the caller knows the
//! field and makes `field::Error`s of them.

/// Messages about one value; empty is good.
pub type Messages = Vec<String>;

/// The rule a kind's object names follow. `prefix` is true for `generateName`, to which a suffix
/// will be appended, so that a trailing dash is fine.
pub type NameRule = fn(name: &str, prefix: bool) -> Messages;

/// Longest DNS label (RFC 1123 and 1035).
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS subdomain, which is also the longest payload key.
pub const SUBDOMAIN_BYTES_MAX: usize = 253;
/// Keys and values of all annotations of an object, together.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_REGEX: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const QUALIFIED_TEXT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// `msg (e.g. 'a',  or 'b', regex used for validation is 'r')`, with upstream's two spaces.
pub fn regex_message(message: &str, regex: &str, examples: &[&str]) -> String {
    let mut text = format!("{message} (");
    for (at, example) in examples.iter().enumerate() {
        text.push_str(if at == 0 { "e.g. " } else { " or " });
        text.push_str(&format!("'{example}', "));
    }
    text.push_str(&format!("regex used for validation is '{regex}')"));
    text
}

/// `must be no more than N characters`.
pub fn max_length_message(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// `must be between LO and HI, inclusive`.
pub fn range_message(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether the whole text is one or more bytes, inner ones in `inner`, first and last in their sets.
fn shaped(text: &str, first: fn(u8) -> bool, inner: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [] => false,
        // A single byte is first and last immediately, and the regexes ask only for the first.
        [only] => first(*only),
        [start, middle @ .., end] => {
            first(*start) && middle.iter().all(|byte| inner(*byte)) && last(*end)
        }
    }
}

fn is_label_shaped(text: &str) -> bool {
    shaped(text, lower_alnum, |byte| lower_alnum(byte) || byte == b'-', lower_alnum)
}

fn is_subdomain_shaped(text: &str) -> bool {
    text.split('.').all(is_label_shaped)
}

/// A label of a DNS name (RFC 1123).
pub fn dns1123_label(text: &str) -> Messages {
    let mut messages = Messages::new();
    if text.len() > LABEL_BYTES_MAX {
        messages.push(max_length_message(LABEL_BYTES_MAX));
    }
    if !is_label_shaped(text) {
        messages.push(if is_subdomain_shaped(text) {
            "must not contain dots".to_owned()
        } else {
            regex_message(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL_REGEX,
                &["my-name", "123-abc"],
            )
        });
    }
    messages
}

/// A DNS name in lower case (RFC 1123).
pub fn dns1123_subdomain(text: &str) -> Messages {
    let mut messages = Messages::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        messages.push(max_length_message(SUBDOMAIN_BYTES_MAX));
    }
    if !is_subdomain_shaped(text) {
        messages.push(regex_message(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_REGEX,
            &["example.com"],
        ));
    }
    messages
}

/// A DNS name in which labels may start with, and contain, underscores: search paths.
pub fn dns1123_subdomain_with_underscore(text: &str) -> Messages {
    let mut messages = Messages::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        messages.push(max_length_message(SUBDOMAIN_BYTES_MAX));
    }
    let inner = |byte: u8| lower_alnum(byte) || matches!(byte, b'-' | b'_');
    let label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        shaped(rest, lower_alnum, inner, lower_alnum)
    };
    if !text.split('.').all(label) {
        messages.push(regex_message(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    messages
}

/// Object names that are DNS subdomains: most kinds.
pub fn subdomain_name(name: &str, prefix: bool) -> Messages {
    dns1123_subdomain(&masked(name, prefix))
}

/// Object names that are DNS labels: namespaces.
pub fn label_name(name: &str, prefix: bool) -> Messages {
    dns1123_label(&masked(name, prefix))
}

/// Object names that are one path segment and nothing more: RBAC kinds and events.
pub fn path_segment_name(name: &str, prefix: bool) -> Messages {
    if prefix { path_segment_characters(name) } else { path_segment(name) }
}

/// A name that can be one segment of a URL path.
pub fn path_segment(name: &str) -> Messages {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => path_segment_characters(name),
    }
}

fn path_segment_characters(name: &str) -> Messages {
    ['/', '%']
        .into_iter()
        .filter(|illegal| name.contains(*illegal))
        .map(|illegal| format!("may not contain '{illegal}'"))
        .collect()
}

/// A trailing dash of a `generateName` counts as a letter, since a suffix will follow. Upstream
/// replaces the last *two* bytes by one letter; what it accepts because of that, so do we.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && name.len() > 1 => {
            let mut kept = rest.to_owned();
            kept.pop();
            kept.push('a');
            kept.into()
        }
        _ => name.into(),
    }
}

/// A qualified name: `name` or `dns.prefix/name`. Label keys, finalizers, resource names.
pub fn qualified_name(text: &str) -> Messages {
    let shape =
        || regex_message(QUALIFIED_TEXT, QUALIFIED_REGEX, &["MyName", "my.name", "123-abc"]);
    let mut messages = Messages::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                let found = dns1123_subdomain(prefix);
                messages.extend(found.into_iter().map(|text| format!("prefix part {text}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                shape()
            )];
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_BYTES_MAX {
        messages.push(format!("name part {}", max_length_message(LABEL_BYTES_MAX)));
    }
    if !is_qualified_shaped(name) {
        messages.push(format!("name part {}", shape()));
    }
    messages
}

fn is_qualified_shaped(text: &str) -> bool {
    let ends = |byte: u8| byte.is_ascii_alphanumeric();
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    shaped(text, ends, inner, ends)
}

/// A label's value: empty, or like the name part of a qualified name.
pub fn label_value(text: &str) -> Messages {
    let mut messages = Messages::new();
    if text.len() > LABEL_BYTES_MAX {
        messages.push(max_length_message(LABEL_BYTES_MAX));
    }
    if !text.is_empty() && !is_qualified_shaped(text) {
        messages.push(regex_message(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({QUALIFIED_REGEX})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    messages
}

/// A key of a Secret's or ConfigMap's data, which becomes a file name.
pub fn config_map_key(text: &str) -> Messages {
    let mut messages = Messages::new();
    if text.len() > SUBDOMAIN_BYTES_MAX {
        messages.push(max_length_message(SUBDOMAIN_BYTES_MAX));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(fits) {
        messages.push(regex_message(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    messages.extend(parent_directory(text));
    messages
}

fn parent_directory(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// An environment variable's name. Since 1.34 any printable ASCII but `=` will do.
pub fn env_var_name(text: &str) -> Messages {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=') {
        return Messages::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// A port number.
pub fn port_number(port: i64) -> Messages {
    if (1..=65535).contains(&port) { Messages::new() } else { vec![range_message(1, 65535)] }
}

/// A port's name (RFC 6335, lower case only).
pub fn port_name(text: &str) -> Messages {
    let mut messages = Messages::new();
    let mut unless = |fine: bool, message: &str| {
        if !fine {
            messages.push(message.to_owned());
        }
    };
    unless(text.len() <= 15, &max_length_message(15));
    unless(
        !text.is_empty() && text.bytes().all(|byte| lower_alnum(byte) || byte == b'-'),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    unless(
        text.bytes().any(|byte| byte.is_ascii_lowercase()),
        "must contain at least one letter (a-z)",
    );
    unless(!text.contains("--"), "must not contain consecutive hyphens");
    unless(!text.starts_with('-') && !text.ends_with('-'), "must not begin or end with a hyphen");
    messages
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Messages {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Messages::new();
    }
    vec![regex_message(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A percentage: `25%`.
pub fn percent(text: &str) -> Messages {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Messages::new();
    }
    vec![regex_message(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// The reason of a condition: `MinimumReplicasAvailable`.
pub fn condition_reason(text: &str) -> Messages {
    fn word(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || byte == b'_'
    }
    let inner = |byte: u8| word(byte) || matches!(byte, b',' | b':');
    if shaped(text, |byte| byte.is_ascii_alphabetic(), inner, word) {
        return Messages::new();
    }
    vec![regex_message(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )]
}

/// The letters of a generated suffix: no vowels and no digits that look like letters, so that no
/// word appears by chance.
const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;

/// A name for an object that asked for `generateName`: the base, cut so that the result is no
/// longer than 63 bytes, and five letters. `random(n)` returns a number below `n`.
pub fn generate_name(base: &str, mut random: impl FnMut(usize) -> usize) -> String {
    let mut end = base.len().min(LABEL_BYTES_MAX - SUFFIX_LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    for _ in 0..SUFFIX_LENGTH {
        let at = random(SUFFIX_ALPHABET.len()) % SUFFIX_ALPHABET.len();
        name.push(char::from(SUFFIX_ALPHABET[at]));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subdomain_message_is_upstreams() {
        assert_eq!(
            dns1123_subdomain("My_Secret"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        for good in ["a", "0", "a-b.c", "1.2.3", &"a".repeat(253)] {
            assert!(dns1123_subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "é"] {
            assert_eq!(dns1123_subdomain(bad).len(), 1, "{bad}");
        }
        assert_eq!(dns1123_subdomain(&"a".repeat(254)), ["must be no more than 253 characters"]);
    }

    #[test]
    fn a_label_with_dots_gets_upstreams_message() {
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert!(dns1123_label("a.")[0].ends_with(
            "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        ));
    }

    #[test]
    fn a_generated_name_prefix_may_end_in_a_dash() {
        assert!(subdomain_name("web-", true).is_empty());
        assert!(!subdomain_name("web-", false).is_empty());
        assert!(!subdomain_name("-", true).is_empty());
    }

    #[test]
    fn payload_keys_allow_leading_dots_but_no_way_up() {
        for good in [".dockercfg", "a", "A_b-c.d", ".a..b", "..."] {
            let expected = usize::from(good == "...");
            assert_eq!(config_map_key(good).len(), expected, "{good}");
        }
        assert_eq!(config_map_key("."), ["must not be '.'"]);
        assert_eq!(config_map_key(".."), ["must not be '..'"]);
        assert_eq!(config_map_key("..x"), ["must not start with '..'"]);
        assert_eq!(
            config_map_key("a/b"),
            [
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            ]
        );
        assert_eq!(config_map_key(&"k".repeat(254)), ["must be no more than 253 characters"]);
    }

    #[test]
    fn port_names_are_short_and_have_a_letter() {
        for (name, message) in [
            ("a--b", "must not contain consecutive hyphens"),
            ("-ab", "must not begin or end with a hyphen"),
            ("80", "must contain at least one letter (a-z)"),
            ("A1b", "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"),
        ] {
            assert_eq!(port_name(name), [message], "{name}");
        }
        assert!(port_name("web-1").is_empty());
    }

    #[test]
    fn qualified_names_complain_by_part() {
        assert!(qualified_name("example.com/Some.Name_x").is_empty());
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("")[0], "name part must be non-empty");
        assert!(qualified_name("UPPER/x")[0].starts_with("prefix part a lowercase RFC 1123"));
        assert!(qualified_name("a/b/c")[0].ends_with(
            "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ));
    }

    #[test]
    fn ports_and_variables() {
        assert!(port_name("http-2").is_empty());
        assert_eq!(port_name("12"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert!(env_var_name("1 odd-name.but$printable").is_empty());
        assert_eq!(env_var_name("a=b").len(), 1);
        assert_eq!(env_var_name(""), ["environment variable name must be non-empty"]);
    }

    #[test]
    fn generated_names_have_five_letters_and_fit_a_label() {
        assert_eq!(generate_name("web-", |_| 0), "web-bbbbb");
        let long = generate_name(&"x".repeat(80), |n| n - 1);
        assert_eq!(long.len(), 63);
        assert!(long.ends_with("99999"));
    }
}
