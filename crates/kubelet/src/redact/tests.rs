//! Values in every spelling that a runtime, a shell or a program gives them, and texts around them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

fn redactor(values: &[&[u8]]) -> Redactor {
    let mut redactor = Redactor::default();
    values.iter().for_each(|value| redactor.add(value));
    redactor
}

/// As Go's `%q`.
fn go_quoted(value: &str) -> String {
    let mut quoted = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

fn octal(value: &[u8]) -> String {
    value.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

fn url_encoded(value: &[u8]) -> String {
    percent_encoding::percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Every spelling of a value that is looked for.
pub(crate) fn spellings(value: &str) -> Vec<(&'static str, String)> {
    let bytes = value.as_bytes();
    let json = serde_json::Value::from(value).to_string();
    let shell = format!("'{}'", value.replace('\'', r"'\''"));
    let double = format!("'{}'", value.replace('\'', r#"'"'"'"#));
    let backslashed: String = value.chars().flat_map(|c| ['\\', c]).collect();
    let form: String = form_urlencoded::byte_serialize(bytes).collect();
    let aligned = |skip: usize| STANDARD.encode([&b"xyz"[..skip], bytes].concat());
    let number = |byte: &u8| byte.to_string();
    let list = format!("[{}]", bytes.iter().map(number).collect::<Vec<_>>().join(", "));
    let pairs = |separator: &str| {
        let all: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        all.join(separator)
    };
    let mut all = vec![
        ("as it is", value.to_owned()),
        ("Go", go_quoted(value)),
        ("Go in Go", go_quoted(&go_quoted(value))),
        ("JSON", json.clone()),
        ("JSON in JSON", serde_json::Value::from(json).to_string()),
        ("shell", shell),
        ("shell by double quotes", double),
        ("octal", octal(bytes)),
        ("URL", url_encoded(bytes)),
        ("form", form),
        ("base64", aligned(0)),
        ("base64 at 1", aligned(1)),
        ("base64 at 2", aligned(2)),
        ("base64 for URLs", URL_SAFE.encode(bytes)),
        ("hex", pairs("")),
        ("HEX", pairs("").to_uppercase()),
        ("hex with colons", pairs(":")),
        ("list", list),
    ];
    // Of a letter it is an escape that means another.
    if !value.contains(|c: char| c.is_ascii_alphanumeric()) {
        all.push(("backslashes", backslashed));
    }
    all
}

/// Whether a text has the value, or enough of it, in some spelling.
fn shows(text: &str, value: &str) -> bool {
    spellings(value).iter().any(|(_, spelled)| {
        let spelled = spelled.trim_matches('"').trim_matches('\'').trim_end_matches('=');
        text.contains(spelled)
    })
}

#[test]
fn a_foreign_text_is_not_printed_by_accident() {
    assert_eq!(format!("{:?}", Foreign::from("canary")), "Foreign(6 bytes)");
}

#[test]
fn text_without_values_is_unchanged() {
    let redactor = redactor(&[b"value-1-canary"]);
    for text in ["dial tcp 10.0.0.1:80: connect: connection refused", "äöü \u{1f512}", "", "x"] {
        assert_eq!(redactor.redact(&text.into()), text);
    }
}

#[test]
fn parts_of_a_value_go_too_where_a_text_was_cut() {
    let redactor = redactor(&[b"correct-horse-battery-staple"]);
    for (text, expected) in [
        ("login correct-horse-batt...", "login <redacted>..."),
        ("login corr...", "login <redacted>..."),
        ("login corre", "login <redacted>"),
        ("wrote horse-batt of it", "wrote <redacted> of it"),
        ("exec: \"correct-h\u{2026}\"", "exec: \"<redacted>\u{2026}\""),
    ] {
        assert_eq!(redactor.redact(&text.into()), expected);
    }
    let tail = Foreign::tail(b"aple: no such user".to_vec(), true);
    assert_eq!(redactor.redact(&tail), "<redacted>: no such user");
}

#[test]
fn lines_and_words_of_a_value_are_values() {
    let redactor = redactor(&[b"user: adm1n\npass: s3cr\n", b"open sesame"]);
    let text = "sh: adm1n s3cr: pass: s3cr: not found; sesame";
    let clean = redactor.redact(&text.into());
    for part in ["adm1n", "s3cr", "sesame"] {
        assert!(!clean.contains(part), "{clean}");
    }
}

/// It cannot be replaced: what is missing would tell it.
#[test]
fn a_text_with_a_value_of_three_characters_or_fewer_is_withheld() {
    let redactor = redactor(&[b"471", b"x"]);
    for text in ["exec: \"471\"", "pin4711", "NDcx", "343731", "exit"] {
        assert_eq!(redactor.redact(&text.into()), WITHHELD, "{text}");
    }
    assert_eq!(redactor.redact(&"dial tcp: refused".into()), "dial tcp: refused");
}

#[test]
fn what_is_too_much_to_search_for_withholds_every_text() {
    let mut large = Redactor::default();
    (0..17).for_each(|_| large.add(&vec![b'x'; 1 << 20]));
    assert_eq!(large.redact(&"anything".into()), WITHHELD);
    assert_eq!(Redactor::blind().redact(&"anything".into()), UNKNOWN);
}

/// Values and texts that repeat themselves used to cost their product.
#[test]
fn many_values_that_are_everywhere_in_a_long_text_are_found() {
    let mut redactor = Redactor::default();
    redactor.add(&vec![b'a'; 1 << 20]);
    (0..50_000).for_each(|n| redactor.add(format!("aaaa{n}").as_bytes()));
    let clean = redactor.redact(&"a".repeat(FOREIGN_BYTES_MAX).into());
    assert_eq!(clean, REDACTED);
}

#[test]
fn a_runtimes_error_keeps_its_words_and_what_is_said_in_the_open() {
    let words = RuntimeWords::new(["/etc/app.conf", "nosuch"]);
    let redactor = redactor(&[b"471"]);
    for (text, expected) in [
        (
            "failed to create containerd task: failed to create shim task: OCI runtime create \
             failed: runc create failed: unable to start container process: exec: \"471\": \
             executable file not found in $PATH: unknown",
            "failed to create containerd task: failed to create shim task: OCI runtime create \
             failed: runc create failed: unable to start container process: exec: \"<redacted>\": \
             executable file not found in $PATH: unknown",
        ),
        ("exec: \"nosuch\": not found", "exec: \"nosuch\": not found"),
        ("error mounting /etc/app.conf: file exists", "error mounting /etc/app.conf: file exists"),
        ("exec /bin/s3cret: permission denied", "exec <redacted>: permission denied"),
        ("exec: \"a\\\" permission\": x", "exec: \"<redacted>\": <redacted>"),
        ("value=hunter2, hunter3 hunter4", "value=<redacted>, "),
    ] {
        let told = redactor.redact_error(&text.into(), &words);
        assert_eq!(told.trim_end(), expected.trim_end());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_value_comes_through_in_any_spelling(
        value in "\\PC{4,40}|[ -~\n\t]{4,60}|[\\x00-\\x1f\"'%$*?\\\\]{1,8}[a-z0-9]{3,20}",
        before in "[a-z :]{0,20}",
        after in "[a-z :]{0,20}",
    ) {
        let value = value.trim_ascii();
        prop_assume!(value.len() >= EXACT_LEN_MIN);
        let redactor = redactor(&[value.as_bytes()]);
        for (spelling, spelled) in spellings(value) {
            let text = format!("{before} {spelled} {after}");
            let clean = redactor.redact(&text.clone().into());
            prop_assert!(!shows(&clean, value), "{}: {:?} of {:?}", spelling, clean, text);
        }
    }

    /// Nothing that a program prints makes the kubelet fail.
    #[test]
    fn any_bytes_are_redacted_by_any_values(
        text in prop::collection::vec(any::<u8>(), 0..300),
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5),
        is_cut in any::<bool>(),
    ) {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let redactor = redactor(&values);
        for text in [Foreign::new(text.clone()), Foreign::tail(text, is_cut)] {
            redactor.redact(&text);
            redactor.redact_head(&text, 7);
            redactor.redact_tail(&text, 7);
            redactor.redact_error(&text, &RuntimeWords::new(["a"]));
        }
    }
}
