//! Other people's words, without the values of Secrets: the one way from a runtime's error, a
//! program's output or a termination message to an event, a status or a log.
//!
//! ```text
//! runtime, exec output, message files ──Foreign──▶ Redactor::redact ──String──▶ event, status, log
//!                                                     ▲ values: environment, snapshot, volumes
//! ```
//!
//! A [`Foreign`] text has neither `Display` nor a getter, so that code which forgets the redactor
//! does not compile. A value is found as it stands and in every spelling that [`haystack`] knows how to
//! undo (quoted by Go, JSON or a shell, percent-encoded, hex, base64), whole or in part. A value of
//! fewer than four characters is in every text: a text that has one is withheld as a whole. Not found
//! is what a program encodes in a way of its own.

mod haystack;
mod runtime_words;
#[cfg(test)]
pub(crate) mod tests;
mod values;

use std::borrow::Cow;
use std::fmt;

use zeroize::Zeroizing;

use self::haystack::Haystack;
pub(crate) use self::runtime_words::RuntimeWords;

/// What is looked at of a text. A message that anyone reads is much shorter.
const FOREIGN_BYTES_MAX: usize = 16 * 1024;
/// What is left of one: a status or an event has several, and the API limits both.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Values beyond this are not searched for one by one: the text is withheld.
const VALUES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Shorter values cannot be replaced without destroying the text.
const EXACT_LEN_MIN: usize = 4;
/// As many bytes in a row of a longer value are taken for a part of it.
const PART_LEN: usize = 8;
/// Of a value up to this long, each word counts as a value.
const PHRASE_LEN_MAX: usize = 128;
/// Marked places this close to each other are one: what is between is of the same value.
const GAP_MAX: usize = 3;

pub(crate) const REDACTED: &str = "<redacted>";
/// Instead of a text that cannot be redacted.
pub(crate) const WITHHELD: &str =
    "<withheld: the text has, or may have, a value of a Secret that is too short to be redacted>";
/// Instead of a text of a pod whose values are not known any more.
pub(crate) const UNKNOWN: &str = "<withheld: the values of the pod's Secrets are not at hand>";

/// A text that another wrote: the container runtime, a program in a container, a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    bytes: Vec<u8>,
    /// It is known to be the end, or the beginning, of a longer text.
    is_tail: bool,
    is_head: bool,
}

impl Foreign {
    /// A text from its beginning.
    pub(crate) fn new(text: impl Into<Vec<u8>>) -> Self {
        let mut bytes: Vec<u8> = text.into();
        let is_head = bytes.len() > FOREIGN_BYTES_MAX;
        bytes.truncate(FOREIGN_BYTES_MAX);
        Self { bytes, is_tail: false, is_head }
    }

    /// The end of a text; `is_cut` says that there was more before it.
    pub(crate) fn tail(mut bytes: Vec<u8>, is_cut: bool) -> Self {
        let excess = bytes.len().saturating_sub(FOREIGN_BYTES_MAX);
        bytes.drain(..excess);
        Self { bytes, is_tail: is_cut || excess > 0, is_head: false }
    }

    /// How much may be worth reading of a text.
    pub(crate) const fn len_max() -> usize {
        FOREIGN_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Another text made of this one.
    pub(crate) fn map(self, make: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        Self { bytes: make(&self.bytes), ..self }
    }
}

/// Only how long it is.
impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Foreign({} bytes)", self.bytes.len())
    }
}

impl From<&str> for Foreign {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Foreign {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// The values that must not come through.
#[derive(Default)]
pub(crate) struct Redactor {
    values: Vec<Zeroizing<Vec<u8>>>,
    bytes: usize,
    /// Why every text is withheld.
    withhold: Option<&'static str>,
}

impl Redactor {
    /// For texts about no pod: of the runtime's own state, say.
    pub(crate) fn without_values() -> Self {
        Self::default()
    }

    /// One that lets nothing through: the values are not known.
    pub(crate) fn blind() -> Self {
        Self { withhold: Some(UNKNOWN), ..Self::default() }
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, value: &[u8]) {
        let value = value.trim_ascii();
        if value.is_empty() {
            return;
        }
        self.bytes += value.len();
        if self.bytes > VALUES_BYTES_MAX {
            self.withhold = Some(WITHHELD);
            return;
        }
        self.values.push(Zeroizing::new(value.to_vec()));
    }

    /// The text without the values, and no longer than a message may be.
    pub(crate) fn redact(&self, text: &Foreign) -> String {
        let clean = self.clean(text);
        cut(clean, MESSAGE_BYTES_MAX)
    }

    /// As [`Self::redact`], the first `max` bytes of it.
    pub(crate) fn redact_head(&self, text: &Foreign, max: usize) -> String {
        cut(self.clean(text), max)
    }

    /// As [`Self::redact`], the last `max` bytes of it.
    pub(crate) fn redact_tail(&self, text: &Foreign, max: usize) -> String {
        let mut clean = self.clean(text);
        let at = clean.ceil_char_boundary(clean.len().saturating_sub(max));
        clean.split_off(at)
    }

    /// An error of the runtime's about a container, of which only known words are left: none of them
    /// is there because of a value.
    pub(crate) fn redact_error(&self, text: &Foreign, words: &RuntimeWords<'_>) -> String {
        let known = words.only(text);
        cut(self.marked(&known, false).unwrap_or_default(), MESSAGE_BYTES_MAX)
    }

    fn clean(&self, text: &Foreign) -> String {
        if text.is_empty() {
            return String::new();
        }
        match self.withhold {
            Some(why) => why.to_owned(),
            None => self.marked(text, true).unwrap_or_else(|| WITHHELD.to_owned()),
        }
    }

    /// The text without the values; `None` if it has one that is too short.
    fn marked(&self, text: &Foreign, short_too: bool) -> Option<String> {
        if self.values.is_empty() {
            return Some(String::from_utf8_lossy(&text.bytes).into_owned());
        }
        let mut haystack = Haystack::of(&text.bytes);
        let mut marks = vec![false; text.bytes.len()];
        for value in &self.values {
            if value.len() < EXACT_LEN_MIN {
                if short_too && haystack.has_short(value) {
                    return None;
                }
                continue;
            }
            haystack.mark(value, &mut marks);
            haystack.mark_cut(value, text.is_tail, &mut marks);
            for part in fragments(value) {
                haystack.mark(&part, &mut marks);
            }
        }
        Some(replaced(&text.bytes, &marks))
    }
}

/// A text of which only the words are left that errors of runtimes and pulls have of their own.
pub fn known_words(text: &str) -> String {
    Redactor::without_values().redact_error(&text.into(), &RuntimeWords::new([]))
}

/// What else of a value counts as it: its short lines, and the short words of a short one. Longer ones
/// are found as parts.
fn fragments(value: &[u8]) -> impl Iterator<Item = Zeroizing<Vec<u8>>> {
    let lines = value.split(|byte| matches!(byte, b'\n' | b'\r' | 0));
    let words = (value.len() <= PHRASE_LEN_MAX).then(|| value.split(u8::is_ascii_whitespace));
    lines
        .chain(words.into_iter().flatten())
        .map(<[u8]>::trim_ascii)
        .filter(|part| (EXACT_LEN_MIN..PART_LEN).contains(&part.len()))
        .map(|part| Zeroizing::new(part.to_vec()))
}

fn replaced(bytes: &[u8], marks: &[bool]) -> String {
    let mut clean = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if !marks[at] {
            clean.push(bytes[at]);
            at += 1;
            continue;
        }
        clean.extend_from_slice(REDACTED.as_bytes());
        let mut end = at;
        while let Some(next) = (end..bytes.len().min(end + GAP_MAX + 1)).find(|i| marks[*i]) {
            end = next + 1;
        }
        at = end;
    }
    match String::from_utf8_lossy(&clean) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}
