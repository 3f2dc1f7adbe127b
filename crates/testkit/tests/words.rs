//! The words of messages, help, names and documents: each has a meaning that people of this field know.
//!
//! The test reads every source file and document and compares its words with [`TABLE`]. It checks string
//! literals, comments (help texts are doc comments) and the names of functions, types, constants and modules.
//! It does not check text in backquotes, which is code.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A word or phrase that is not used.
struct Entry {
    phrase: &'static str,
    /// The words to use.
    instead: &'static str,
    /// It is ordinary English after one of these, …
    unless_after: &'static [&'static str],
    /// … and before one of these.
    unless_before: &'static [&'static str],
}

const fn entry(phrase: &'static str, instead: &'static str) -> Entry {
    Entry { phrase, instead, unless_after: &[], unless_before: &[] }
}

const RENEW: &str = "renew (a certificate), rotate (a key), replace";
const RESPONSE: &str = "returns, responds; response, result";
const SOMEONE: &str = "a user, a client, the caller, another process";
const NO_ONE: &str = "no user, no client, only …";
const GIVEN: &str = "is given, gets, is shown, is logged, is configured";
const FIX: &str = "fix, repair, reconcile";
const ENDPOINT: &str = "endpoint, subresource";
const ALLOW: &str = "allow, admit, accept";
const CONFLICT: &str = "conflicts with, blocks";
const CREATED: &str = "recreate, create again, renew, restart";
const INVALID: &str = "is not a …, is invalid";
const MORE: &[&str] =
    &["longer", "more", "worse", "one", "one's", "less", "greater", "larger", "fewer"];

const TABLE: &[Entry] = &[
    entry("exchange", RENEW),
    entry("exchanges", RENEW),
    entry("exchanged", RENEW),
    entry("exchanging", RENEW),
    entry("answers", RESPONSE),
    entry("answered", RESPONSE),
    entry("answering", RESPONSE),
    entry("somebody", SOMEONE),
    entry("anybody", SOMEONE),
    entry("whoever", SOMEONE),
    entry("nobody", NO_ONE),
    entry("told", GIVEN),
    entry("mend", FIX),
    entry("mends", FIX),
    entry("mended", FIX),
    entry("mending", FIX),
    entry("door", ENDPOINT),
    entry("doors", ENDPOINT),
    entry("let in", ALLOW),
    entry("lets in", ALLOW),
    entry("let those in", ALLOW),
    entry("in the way", CONFLICT),
    entry("in its way", CONFLICT),
    entry("would not end", "failed to stop"),
    entry("anew", CREATED),
    entry("at once", "immediately; at the same time, concurrently"),
    entry("beside", "next to, in addition to, concurrently with"),
    entry("gone", "removed, deleted, ended, no longer exists"),
    entry("in the place of", "instead of"),
    entry("in runc's place", "instead of runc"),
    entry("looks whether", "checks whether"),
    entry("look whether", "check whether"),
    entry("looked whether", "checked whether"),
    entry("to be had", "cannot fetch, is not available"),
    entry("of no use", "cannot be used because …"),
    entry("put aside", "rotated (a log), set aside"),
    entry("puts aside", "rotates (a log), sets aside"),
    entry("stand in for", "be a placeholder for"),
    entry("stands in for", "is a placeholder for"),
    entry("stand-in", "placeholder"),
    entry("stand-ins", "placeholders"),
    entry("what must have signed", "CA bundle"),
    entry("worth a word", "logged, reported"),
    Entry { unless_after: &["there"], ..entry("is none", INVALID) },
    Entry { unless_after: &["there"], ..entry("are none", INVALID) },
    Entry { unless_after: &["there"], unless_before: MORE, ..entry("is no", INVALID) },
    Entry { unless_after: &["there"], unless_before: MORE, ..entry("are no", INVALID) },
];

/// Places where a phrase of the table is right: the end of the path, the phrase, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("crates/testkit/tests/words.rs", "", "the table itself"),
    ("docs/secrets-user-guide.md", "", "the specification, as it was given"),
    ("crates/testkit/src/images.rs", "nobody", "the user `nobody` of /etc/passwd"),
    ("crates/kubelet/src/runtime/security.rs", "nobody", "the user `nobody` of an image"),
    ("crates/api/src/kinds/pod/containers.rs", "is none", "upstream's text: mountPropagation None"),
    ("crates/api/src/kinds/pod/spec.rs", "is none", "upstream's text: dnsPolicy None"),
    ("crates/api/src/kinds/pod/tests/placement.rs", "is none", "the same"),
    ("crates/api/src/kinds/pod/tests/rarities.rs", "is none", "the same"),
    ("crates/api/src/reason.rs", "gone", "the reason Gone, HTTP 410"),
    ("crates/bench", "gone", "the last state of a pod in tables: created, running, deleted, gone"),
    ("docs/performance.md", "gone", "the same"),
];

/// Crates and documents whose texts are not adapted yet.
const EXEMPT: &[&str] = &[];

/// A piece of text, with the line that it begins at. Line breaks in it count.
struct Piece {
    line: usize,
    text: String,
}

#[test]
fn messages_help_names_and_documents_use_the_words_of_the_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("root");
    let mut files = Vec::new();
    for place in ["crates", "fuzz", "docs", "scripts"] {
        collect(&root.join(place), &mut files);
    }
    for entry in root.read_dir().expect("root") {
        let path = entry.expect("entry").path();
        if is_document(&path) || path.file_name().is_some_and(|name| name == "Makefile") {
            files.push(path);
        }
    }
    assert!(files.len() > 400, "only {} files are found", files.len());
    let mut table: HashMap<&str, Vec<(&Entry, Vec<&str>)>> = HashMap::new();
    for entry in TABLE {
        let phrase: Vec<&str> = entry.phrase.split(' ').collect();
        table.entry(phrase[0]).or_default().push((entry, phrase));
    }
    let mut found = Vec::new();
    for path in files {
        let shown = path.strip_prefix(&root).expect("below the root").display().to_string();
        let text = std::fs::read_to_string(&path).expect("the source is text");
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        let pieces = if is_source { source(&text) } else { paragraphs(&text) };
        for piece in pieces {
            for (line, entry) in check(&piece, &table) {
                let is_here = |path: &str| shown.starts_with(path) || shown.ends_with(path);
                let allows = |(path, phrase, _): &(&str, &str, &str)| {
                    is_here(path) && (phrase.is_empty() || *phrase == entry.phrase)
                };
                if !EXEMPT.iter().any(|path| is_here(path)) && !ALLOWED.iter().any(allows) {
                    let Entry { phrase, instead, .. } = entry;
                    found.push(format!("{shown}:{line}: {phrase:?}; say: {instead}"));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{} words to replace:\n{}", found.len(), found.join("\n"));
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// The sources, documents and scripts below a directory.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in directory.read_dir().expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default();
            if !["target", "corpus", "artifacts"].iter().any(|skipped| name == *skipped) {
                collect(&path, files);
            }
        } else if is_document(&path)
            || path.extension().is_some_and(|extension| extension == "rs")
            || path.parent().is_some_and(|parent| parent.ends_with("scripts"))
        {
            files.push(path);
        }
    }
}

/// The paragraphs of a document.
fn paragraphs(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut is_open = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            // A code block may have empty lines; its backquotes belong together.
            is_open &= pieces.last().is_some_and(|it| it.text.matches("```").count() % 2 == 1);
        } else if !is_open {
            pieces.push(Piece { line: at + 1, text: String::new() });
            is_open = true;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.text.push_str(line);
            piece.text.push('\n');
        }
    }
    pieces
}

/// The string literals, comments and names of a source file. Comments on consecutive lines are one piece.
fn source(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut rest, mut line) = (text, 1);
    // The line of the last comment, to join the next one with it.
    let mut commented = 0;
    let mut names_follow = false;
    while let Some(first) = rest.chars().next() {
        let length = if let Some(comment) = rest.strip_prefix("//") {
            let end = comment.find('\n').unwrap_or(comment.len());
            let words = comment[..end].trim_start_matches(['/', '!']);
            match pieces.last_mut().filter(|_| commented + 1 == line) {
                Some(piece) => piece.text.extend(["\n", words]),
                None => pieces.push(Piece { line, text: words.to_owned() }),
            }
            commented = line;
            end + 2
        } else if let Some((content, length)) = literal(rest) {
            pieces.push(Piece { line, text: content });
            commented = 0;
            length
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let word = &rest[..end];
            if names_follow {
                pieces.push(Piece { line, text: name_words(word) });
                commented = 0;
            }
            let keywords = ["fn", "struct", "enum", "trait", "mod", "type", "const", "static"];
            names_follow = keywords.contains(&word);
            end
        } else {
            names_follow &= first.is_whitespace();
            first.len_utf8()
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    pieces
}

/// The content of the string or character literal at the beginning of a text, and its length in the source.
fn literal(text: &str) -> Option<(String, usize)> {
    let prefix = text.find(|c: char| !"bcr".contains(c)).filter(|at| *at <= 2)?;
    let is_raw = text[..prefix].contains('r');
    let hashes = text[prefix..].len() - text[prefix..].trim_start_matches('#').len();
    let open = prefix + if is_raw { hashes } else { 0 };
    let body = text[open..].strip_prefix('"');
    if let (true, Some(body)) = (is_raw, body) {
        let close = format!("\"{}", "#".repeat(hashes));
        let end = body.find(&close)?;
        return Some((body[..end].to_owned(), open + 1 + end + close.len()));
    }
    if let Some(body) = body {
        let mut escaped = false;
        let end = body.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let content = body[..end].replace("\\n", "  ").replace('\\', " ");
        return Some((content, open + 1 + end + 1));
    }
    // A character literal, which may be a quotation mark; a lifetime has no closing apostrophe.
    let body = text[prefix..].strip_prefix('\'')?;
    let content = if body.starts_with('\\') { 2 } else { body.chars().next()?.len_utf8() };
    let end = content + body.get(content..)?.find('\'')?;
    let is_literal = body.starts_with('\\') || end == content;
    is_literal.then(|| (String::new(), prefix + 1 + end + 1))
}

/// The words of a name in snake or camel case.
fn name_words(name: &str) -> String {
    let mut words = String::new();
    let mut was_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && was_lower {
            words.push(' ');
        }
        was_lower = c.is_lowercase();
        words.push(if c == '_' { ' ' } else { c });
    }
    words
}

/// The entries of the table that a piece of text contains, with their lines.
fn check<'a>(
    piece: &Piece,
    table: &HashMap<&str, Vec<(&'a Entry, Vec<&str>)>>,
) -> Vec<(usize, &'a Entry)> {
    let mut words: Vec<(String, usize)> = Vec::new();
    let mut line = piece.line;
    for (part, text) in piece.text.split('`').enumerate() {
        if part % 2 == 1 {
            // Code is a word that matches nothing.
            words.push((String::new(), line));
            line += text.matches('\n').count();
            continue;
        }
        for (at, text) in text.split('\n').enumerate() {
            line += usize::from(at > 0);
            let is_part = |c: char| c.is_alphanumeric() || "_'-".contains(c);
            let found = text.split(|c| !is_part(c)).map(|word| word.trim_matches(['-', '\'']));
            words.extend(
                found.filter(|word| !word.is_empty()).map(|word| (word.to_lowercase(), line)),
            );
        }
    }
    let word = |at: usize| words.get(at).map_or("", |(word, _)| word);
    let mut found = Vec::new();
    for (at, (first, line)) in words.iter().enumerate() {
        for (entry, phrase) in table.get(first.as_str()).into_iter().flatten() {
            let after = at.checked_sub(1).map_or("", word);
            let before = word(at + phrase.len());
            if phrase.iter().enumerate().all(|(offset, it)| word(at + offset) == *it)
                && !entry.unless_after.contains(&after)
                && !entry.unless_before.contains(&before)
            {
                found.push((*line, *entry));
            }
        }
    }
    found
}

#[test]
fn words_are_found_in_literals_comments_and_names_but_not_in_code() {
    let text = r##"
//! The server is told
//! at
//! once, and `nobody` else.
fn whoever_asks<'a>() { let beside = '"'; }
const RAW: &str = r#"the "door""#; // there is none
struct LetIn; // that is no longer so
let message = "gone \"anew\" \
    is no URL";
"##;
    let table = TABLE.iter().map(|entry| {
        let phrase: Vec<&str> = entry.phrase.split(' ').collect();
        (phrase[0], vec![(entry, phrase)])
    });
    let mut by_first: HashMap<&str, Vec<_>> = HashMap::new();
    for (first, entries) in table {
        by_first.entry(first).or_default().extend(entries);
    }
    let found: Vec<(usize, &str)> = source(text)
        .iter()
        .flat_map(|piece| check(piece, &by_first))
        .map(|(line, entry)| (line, entry.phrase))
        .collect();
    let expected = [
        (2, "told"),
        (3, "at once"),
        (5, "whoever"),
        (6, "door"),
        (7, "let in"),
        (8, "gone"),
        (8, "anew"),
        (9, "is no"),
    ];
    assert_eq!(found, expected);
}
