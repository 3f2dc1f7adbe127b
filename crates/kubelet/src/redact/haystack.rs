//! A text and every reading of it: with its escapes undone, percent-, hex- and base64-decoded. A
//! value that is found in a reading marks the bytes of the text that the reading came from. Pure.
//!
//! Decoding the text instead of encoding the value finds every spelling: `\u0022` and `\"`, upper and
//! lower case, each alignment of base64.

use std::collections::HashMap;

use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};
use zeroize::Zeroize as _;

use super::{EXACT_LEN_MIN, PART_LEN};

/// Quoted text in quoted text: runc's error in a shim's in containerd's.
const UNESCAPES_MAX: usize = 3;
/// Fewer characters of base64 or hex are fewer than four bytes.
const BASE64_LEN_MIN: usize = 6;
const HEX_LEN_MIN: usize = 8;
/// Numbers in a row that may be bytes.
const NUMBERS_MIN: usize = 4;
/// Where else than at its end a text may have been cut by its writer.
const ELLIPSES: [&[u8]; 2] = [b"...", "\u{2026}".as_bytes()];
const CUTS_MAX: usize = 32;
/// A value longer than this is a file: indentations and lines of dashes are not what is secret in it.
const LARGE_LEN_MIN: usize = 64;

/// A reading: bytes, and for each where in the text it came from.
#[derive(Clone, Default)]
struct Reading {
    bytes: Vec<u8>,
    from: Vec<(u32, u32)>,
}

impl Reading {
    fn push(&mut self, byte: u8, from: (u32, u32)) {
        self.bytes.push(byte);
        self.from.push(from);
    }

    fn span(&self, start: usize, end: usize) -> (u32, u32) {
        (self.from[start].0, self.from[end - 1].1)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Where in the text each run of as many bytes stands.
type Index = HashMap<[u8; PART_LEN], Vec<(u32, u32)>>;

/// All readings of a text, with indices of what is in them. Looking up takes the same time whatever
/// the text and however often a value repeats: what was marked once is not looked for again.
pub(super) struct Haystack {
    /// The text itself first.
    readings: Vec<Reading>,
    /// How many of them are text as it stands or unescaped, and not decoded guesses.
    plain: usize,
    /// By length, made when it is asked for.
    runs: [Option<Index>; PART_LEN + 1],
    /// What stands where the text was cut, and at its beginning.
    before_cuts: Index,
    beginnings: Index,
}

impl Haystack {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut first = Reading::default();
        for (at, byte) in (0..).zip(text) {
            first.push(*byte, (at, at + 1));
        }
        let mut readings = vec![first];
        for level in 0..UNESCAPES_MAX {
            match unescaped(&readings[level]) {
                Some(next) => readings.push(next),
                None => break,
            }
        }
        let shell: Vec<_> = readings.iter().filter_map(shell_unquoted).collect();
        let percent: Vec<_> = readings.iter().filter_map(percent_decoded).collect();
        readings.extend(shell);
        readings.extend(percent);
        let mut guesses = Vec::new();
        for reading in &readings {
            base64_decoded(reading, &mut guesses);
            hex_decoded(reading, &mut guesses);
            numbers(reading, &mut guesses);
        }
        let plain = readings.len();
        readings.extend(guesses);
        let (mut before_cuts, mut beginnings) = (Index::new(), Index::new());
        for reading in &readings[..plain] {
            for length in EXACT_LEN_MIN..PART_LEN.min(reading.bytes.len() + 1) {
                let start = &reading.bytes[..length];
                beginnings.entry(key(start)).or_default().push(reading.span(0, length));
                for end in cuts(&reading.bytes).filter(|end| *end >= length) {
                    let part = &reading.bytes[end - length..end];
                    let span = reading.span(end - length, end);
                    before_cuts.entry(key(part)).or_default().push(span);
                }
            }
        }
        Self { readings, plain, runs: Default::default(), before_cuts, beginnings }
    }

    fn index(&mut self, length: usize) -> &mut Index {
        let readings = match length {
            0..EXACT_LEN_MIN => &self.readings[..self.plain],
            _ => &self.readings[..],
        };
        self.runs[length].get_or_insert_with(|| {
            let mut index = Index::new();
            for reading in readings {
                for (at, run) in reading.bytes.windows(length).enumerate() {
                    index.entry(key(run)).or_default().push(reading.span(at, at + length));
                }
            }
            index
        })
    }

    /// Marks the value, and each part of it that is long enough.
    pub(super) fn mark(&mut self, value: &[u8], marks: &mut [bool]) {
        let length = value.len().min(PART_LEN);
        let is_large = value.len() > LARGE_LEN_MIN;
        let index = self.index(length);
        for part in value.windows(length) {
            if !is_large || says_something(part) {
                take(index, part, marks);
            }
        }
    }

    /// Marks a value's beginning where the text was cut, and its end where a cut text begins.
    pub(super) fn mark_cut(&mut self, value: &[u8], is_tail: bool, marks: &mut [bool]) {
        for length in EXACT_LEN_MIN..PART_LEN.min(value.len()) {
            take(&mut self.before_cuts, &value[..length], marks);
            if is_tail {
                take(&mut self.beginnings, &value[value.len() - length..], marks);
            }
        }
    }

    /// Whether a value of fewer than four bytes is anywhere: as it stands, or encoded. In a decoded
    /// guess it would be by chance.
    pub(super) fn has_short(&mut self, value: &[u8]) -> bool {
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(value);
        let hex = data_encoding::HEXLOWER.encode(value);
        let spelled = [encoded.as_bytes(), hex.as_bytes()];
        let long_enough = spelled.into_iter().filter(|text| text.len() >= EXACT_LEN_MIN);
        let mut all = long_enough.chain([value]);
        all.any(|text| self.index(text.len()).contains_key(&key(text)))
    }
}

fn key(run: &[u8]) -> [u8; PART_LEN] {
    let mut key = [0; PART_LEN];
    key[..run.len()].copy_from_slice(run);
    key
}

fn take(index: &mut Index, run: &[u8], marks: &mut [bool]) {
    for (start, end) in index.remove(&key(run)).into_iter().flatten() {
        marks[start as usize..end as usize].fill(true);
    }
}

/// Whether a part tells anything of what it is from: not of a line or an indentation.
fn says_something(part: &[u8]) -> bool {
    let letters = part.iter().filter(|byte| byte.is_ascii_alphanumeric() || **byte >= 0x80).count();
    let distinct = part.iter().collect::<std::collections::BTreeSet<_>>().len();
    letters >= 4 || distinct >= 5
}

/// Where a text ends or was cut.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let cut = move |at: &usize| ELLIPSES.iter().any(|dots| bytes[*at..].starts_with(dots));
    let end = bytes.trim_ascii_end().len();
    let quoted = bytes.trim_ascii_end().strip_suffix(b"\"").map(<[u8]>::len);
    (0..bytes.len()).filter(cut).take(CUTS_MAX).chain([bytes.len(), end]).chain(quoted)
}

/// Backslash escapes as Go, JSON, C and shells write them.
fn unescaped(reading: &Reading) -> Option<Reading> {
    if !reading.bytes.contains(&b'\\') {
        return None;
    }
    replaced(reading, |rest| match rest {
        [b'\\', rest @ ..] => escape(rest),
        rest => (vec![rest[0]], 1),
    })
}

/// A shell's two ways to a single quote within single quotes.
fn shell_unquoted(reading: &Reading) -> Option<Reading> {
    if !reading.bytes.contains(&b'\'') {
        return None;
    }
    replaced(reading, |rest| match rest {
        [b'\'', b'\\', b'\'', b'\'', ..] => (vec![b'\''], 4),
        [b'\'', b'"', b'\'', b'"', b'\'', ..] => (vec![b'\''], 5),
        rest => (vec![rest[0]], 1),
    })
}

/// A reading with each piece that `decode` takes from the front replaced; `None` if that is the same.
fn replaced(reading: &Reading, decode: impl Fn(&[u8]) -> (Vec<u8>, usize)) -> Option<Reading> {
    let mut out = Reading::default();
    let mut at = 0;
    while at < reading.bytes.len() {
        let (decoded, length) = decode(&reading.bytes[at..]);
        for byte in decoded {
            out.push(byte, reading.span(at, at + length));
        }
        at += length;
    }
    (out.bytes != reading.bytes).then_some(out)
}

/// What stands behind a backslash, and how long the whole is.
fn escape(rest: &[u8]) -> (Vec<u8>, usize) {
    let Some(&kind) = rest.first() else { return (vec![b'\\'], 1) };
    let simple = match kind {
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'v' => Some(11),
        b'e' => Some(27),
        _ => None,
    };
    if let Some(byte) = simple {
        return (vec![byte], 2);
    }
    let number = |digits: usize, radix: u32| {
        let digits = rest.get(1..=digits)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
    };
    match kind {
        b'x' => {
            if let Some(byte) = number(2, 16).and_then(|byte| u8::try_from(byte).ok()) {
                return (vec![byte], 4);
            }
        }
        b'u' => {
            if let Some((text, length)) = number(4, 16).and_then(|unit| utf16(unit, rest)) {
                return (text, length);
            }
        }
        b'U' => {
            if let Some(text) = number(8, 16).and_then(char::from_u32) {
                return (text.to_string().into_bytes(), 10);
            }
        }
        b'0'..=b'7' => {
            let digits = rest.iter().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            let text = std::str::from_utf8(&rest[..digits]).unwrap_or_default();
            if let Ok(byte) = u8::from_str_radix(text, 8) {
                return (vec![byte], digits + 1);
            }
        }
        _ => {}
    }
    (vec![kind], 2)
}

/// `\uXXXX`, of which two may be one character.
fn utf16(unit: u32, rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    if let Some(text) = char::from_u32(unit) {
        return Some((text.to_string().into_bytes(), 6));
    }
    let low = rest.get(5..11)?.strip_prefix(b"\\u")?;
    let low = u16::from_str_radix(std::str::from_utf8(low).ok()?, 16).ok()?;
    let text = String::from_utf16(&[u16::try_from(unit).ok()?, low]).ok()?;
    Some((text.into_bytes(), 12))
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn percent_decoded(reading: &Reading) -> Option<Reading> {
    let bytes = &reading.bytes;
    if !bytes.contains(&b'%') && !bytes.contains(&b'+') && !bytes.contains(&b'&') {
        return None;
    }
    const ENTITIES: [(&[u8], u8); 7] = [
        (b"&amp;", b'&'),
        (b"&lt;", b'<'),
        (b"&gt;", b'>'),
        (b"&quot;", b'"'),
        (b"&#34;", b'"'),
        (b"&#39;", b'\''),
        (b"&apos;", b'\''),
    ];
    let mut out = Reading::default();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let entity = ENTITIES.iter().find(|(name, _)| rest.starts_with(name));
        let (byte, length) = match (rest, entity) {
            (_, Some((name, byte))) => (*byte, name.len()),
            ([b'%', high, low, ..], _) => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (b'%', 1),
            },
            ([b'+', ..], _) => (b' ', 1),
            _ => (rest[0], 1),
        };
        out.push(byte, reading.span(at, at + length));
        at += length;
    }
    Some(out)
}

/// The stretches of bytes that `is_part` takes, with what lies between them left out by `is_gap`.
fn stretches(
    reading: &Reading,
    is_part: impl Fn(u8) -> bool,
    is_gap: impl Fn(u8) -> bool,
) -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    let mut current = Vec::new();
    for (at, byte) in reading.bytes.iter().enumerate() {
        if is_part(*byte) {
            current.push(at);
        } else if !is_gap(*byte) || current.is_empty() {
            all.push(std::mem::take(&mut current));
        }
    }
    all.push(current);
    all
}

fn base64_decoded(reading: &Reading, into: &mut Vec<Reading>) {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&alphabet::STANDARD, lenient);
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    let mut readings = vec![Reading::default(); 4];
    // Encoders break lines.
    for stretch in stretches(reading, is_part, |byte| matches!(byte, b'\n' | b'\r')) {
        if stretch.len() < BASE64_LEN_MIN {
            continue;
        }
        for (skipped, out) in readings.iter_mut().enumerate() {
            let mut digits: Vec<u8> = stretch[skipped..]
                .iter()
                .map(|at| match reading.bytes[*at] {
                    b'-' => b'+',
                    b'_' => b'/',
                    byte => byte,
                })
                .collect();
            if digits.len() % 4 == 1 {
                digits.pop();
            }
            let mut decoded = engine.decode(&digits).unwrap_or_default();
            // The rest of what was encoded together (a user's name, say) goes along.
            let end = stretch[stretch.len() - 1] + 1;
            let padding = reading.bytes[end..].iter().take_while(|byte| **byte == b'=').count();
            let span = reading.span(stretch[0], end + padding);
            decoded.iter().for_each(|byte| out.push(*byte, span));
            // No value reaches from one stretch into the next.
            (0..PART_LEN).for_each(|_| out.push(0, (0, 0)));
            digits.zeroize();
            decoded.zeroize();
        }
    }
    into.extend(readings.into_iter().filter(|reading| !reading.bytes.is_empty()));
}

fn hex_decoded(reading: &Reading, into: &mut Vec<Reading>) {
    let is_part = |byte: u8| byte.is_ascii_hexdigit();
    let is_gap = |byte: u8| matches!(byte, b' ' | b':' | b'\n' | b'-' | b',');
    let mut readings = vec![Reading::default(); 4];
    let solid = stretches(reading, is_part, |_| false);
    let loose = stretches(reading, is_part, is_gap);
    for (kind, all) in [solid, loose].iter().enumerate() {
        for stretch in all.iter().filter(|stretch| stretch.len() >= HEX_LEN_MIN) {
            for skipped in 0..2 {
                for pair in stretch[skipped..].chunks_exact(2) {
                    let digit = |at: usize| hex_digit(reading.bytes[at]).unwrap_or_default();
                    let byte = digit(pair[0]) << 4 | digit(pair[1]);
                    readings[kind * 2 + skipped].push(byte, reading.span(pair[0], pair[1] + 1));
                }
            }
        }
    }
    into.extend(readings.into_iter().filter(|reading| !reading.bytes.is_empty()));
}

/// Lists of bytes as programs print them: `[112, 97]`, `0x70, 0x61`.
fn numbers(reading: &Reading, into: &mut Vec<Reading>) {
    let mut decimal = Reading::default();
    let mut hexadecimal = Reading::default();
    let mut count = 0;
    let mut at = 0;
    while at < reading.bytes.len() {
        let length = reading.bytes[at..].iter().take_while(|b| b.is_ascii_alphanumeric()).count();
        if length == 0 {
            at += 1;
            continue;
        }
        let word = std::str::from_utf8(&reading.bytes[at..at + length]).unwrap_or_default();
        let span = reading.span(at, at + length);
        if let Ok(byte) = word.parse::<u8>() {
            decimal.push(byte, span);
            count += 1;
        }
        let digits = word.strip_prefix("0x").or(word.strip_prefix("0X"));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            hexadecimal.push(byte, span);
            count += 1;
        }
        at += length;
    }
    if count >= NUMBERS_MIN {
        into.extend([decimal, hexadecimal].into_iter().filter(|found| !found.bytes.is_empty()));
    }
}
