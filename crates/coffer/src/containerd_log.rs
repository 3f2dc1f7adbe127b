//! `coffer containerd-log`: filters containerd's log for as long as containerd runs.
//!
//! containerd logs why a pull failed, including the response of the registry or of its token server, and a
//! hostile or careless one repeats the password that it got. Of a line about a pull, only the image's name
//! and the words of containerd's own errors are kept.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _, Write};

use anyhow::Result;
use coffer_kubelet::known_words;
use zeroize::Zeroizing;

use crate::hardening;

/// Longer lines are split.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Lines with one of these, in lower case, are about pulls.
const ABOUT_PULLS: &[&str] =
    &["pull", "resolv", "fetch", "registr", "token", "auth", "host=", "url=", "http", "manifest"];

/// Copies until containerd, and all that has its standard error, has ended.
pub(crate) fn run() -> Result<()> {
    hardening::apply()?;
    Ok(copy(io::stdin().lock(), io::stdout().lock())?)
}

fn copy(mut from: impl BufRead, mut to: impl Write) -> io::Result<()> {
    loop {
        let mut line = Zeroizing::new(Vec::new());
        if from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let clean = filtered(text.trim_end_matches('\n'));
        // A full disk must not stop the reading: containerd would block.
        let _ = to.write_all(format!("{clean}\n").as_bytes());
        let _ = to.flush();
    }
}

fn filtered(line: &str) -> Cow<'_, str> {
    let lower = line.to_ascii_lowercase();
    if !ABOUT_PULLS.iter().any(|word| lower.contains(word)) {
        return Cow::Borrowed(line);
    }
    if !line.starts_with("time=") {
        return Cow::Owned(known_words(line));
    }
    let shown: Vec<String> = fields(line).map(|(key, value)| field(key, value)).collect();
    Cow::Owned(shown.join(" "))
}

fn field(key: &str, value: &str) -> String {
    let is_own = match key {
        "time" | "level" => true,
        // The image's name comes from the kubelet.
        "msg" => value.starts_with("\"PullImage \\\"") && value.ends_with("\\\" failed\""),
        _ => false,
    };
    if is_own {
        return format!("{key}={value}");
    }
    let text = value.trim_matches('"').replace("\\\"", "\"");
    format!("{}={:?}", known_words(key), known_words(&text))
}

/// `key=value`, where the value may be quoted as in Go.
fn fields(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(' ');
        if rest.is_empty() {
            return None;
        }
        let (key, after) = rest.split_once('=').unwrap_or((rest, ""));
        let length = match after.strip_prefix('"') {
            Some(quoted) => quoted_len(quoted) + 1,
            None => after.find(' ').unwrap_or(after.len()),
        };
        let (value, left) = after.split_at(length);
        rest = left;
        Some((key, value))
    })
}

/// The length up to and including the closing quotation mark.
fn quoted_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_failed_pull_only_the_name_and_known_words_are_kept() {
        let line = r#"time="2026-01-02T03:04:05Z" level=error msg="PullImage \"r.io/a:1\" failed" error="rpc error: code = Unknown desc = failed to pull and unpack image \"r.io/a:1\": failed to resolve reference \"r.io/a:1\": failed to authorize: failed to fetch oauth token: unexpected status: 401 canary#1 dTpjYW5hcnkjMQ=="#;
        let clean = filtered(line);
        assert!(!clean.contains("canary") && !clean.contains("dTpj"), "{clean}");
        let start = r#"time="2026-01-02T03:04:05Z" level=error msg="PullImage \"r.io/a:1\" failed" error="rpc error: code = Unknown desc = failed to pull and unpack image"#;
        assert!(clean.starts_with(start), "{clean}");
        assert!(clean.contains("failed to fetch oauth token: unexpected status: 401"), "{clean}");
    }

    #[test]
    fn lines_about_other_things_are_unchanged() {
        for line in [
            r#"time="2026-01-02T03:04:05Z" level=warning msg="cleanup warnings" id=abc"#,
            "goroutine 1 [running]:",
            "",
        ] {
            assert_eq!(filtered(line), line);
        }
    }

    #[test]
    fn text_after_a_closed_quote_is_filtered() {
        let line = r#"time="t" level=error msg="PullImage \"a\" failed: x" error="y" canary="canary" host=canary.io"#;
        let clean = filtered(line);
        assert!(!clean.contains("canary"), "{clean}");
        let mut out = Vec::new();
        copy(format!("{line}\n{line}").as_bytes(), &mut out).unwrap();
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}
