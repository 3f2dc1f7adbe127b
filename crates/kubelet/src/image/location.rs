//! Where a credential is good: a host (each label may be a glob), a port, a path prefix. Pure.
//!
//! The rules are upstream's `URLsMatch`: the port must be the same, the host must have as many
//! labels, each of which matches by itself (`*.r.io` does not match `a.b.r.io`), and the path must
//! be a prefix, byte for byte. A scheme is dropped, as is a leading `/v1` or `/v2`, which old
//! clients wrote into their files.

use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::str::Chars;

/// A host, perhaps with port and path, perhaps with globs in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Location {
    host: String,
    path: String,
}

impl Location {
    /// The key of a docker config's entry. `None` where it is not a URL; upstream skips it, too.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let location = Self::schemeless(rest.unwrap_or(text))?;
        let path = &location.path;
        let versioned = path.starts_with("/v1/") || path.starts_with("/v2/");
        let path = if versioned { path[3..].to_owned() } else { path.clone() };
        let path = if path == "/" { String::new() } else { path };
        Some(Self { path, ..location })
    }

    /// A pattern of a credential provider's `matchImages`, which has no scheme.
    pub(super) fn schemeless(text: &str) -> Option<Self> {
        let text = &text[..text.find(['?', '#']).unwrap_or(text.len())];
        let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let printable = |c: char| !c.is_control() && !c.is_whitespace();
        let plain = |c: char| c.is_ascii_alphanumeric() || "!$&'()*+,;=:[]<>\"-._~".contains(c);
        let port_is_number = split_port(host).1.bytes().all(|byte| byte.is_ascii_digit());
        let valid = host.chars().all(|c| plain(c) || !c.is_ascii()) && path.chars().all(printable);
        (valid && port_is_number).then(|| Self { host: host.to_owned(), path: path.to_owned() })
    }

    /// Host and path: what a keyring orders by.
    pub(super) fn key(&self) -> String {
        format!("{}{}", self.host, self.path)
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it covers an image, by its repository's full name: `r.io/team/app`.
    pub(super) fn covers(&self, repository: &str) -> bool {
        let at = repository.find('/').unwrap_or(repository.len());
        let (target_host, target_path) = repository.split_at(at);
        let (glob, glob_port) = split_port(&self.host);
        let (target, target_port) = split_port(target_host);
        let labels: Vec<_> = glob.split('.').collect();
        let target_labels: Vec<_> = target.split('.').collect();
        glob_port == target_port
            && labels.len() == target_labels.len()
            && target_path.starts_with(&self.path)
            && labels.iter().zip(target_labels).all(|(glob, label)| glob_matches(glob, label))
    }
}

/// Host and port; a colon inside of brackets is an address's.
fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if name.starts_with('[') && name.ends_with(']') => {
            (&name[1..name.len() - 1], port)
        }
        Some((name, port)) if !name.contains([':', '[', ']']) => (name, port),
        _ => (host, ""),
    }
}

/// Go's `filepath.Match` on one label, as far as a host can spell it: `*` and `[a-z]`. What is
/// malformed matches nothing.
fn glob_matches(glob: &str, label: &str) -> bool {
    let Some(tokens) = tokens(glob) else { return false };
    let label: Vec<char> = label.chars().collect();
    // Where to go on when what follows the last star does not fit: one more character for the star.
    let mut star: Option<(usize, usize)> = None;
    let (mut at_token, mut at_label) = (0, 0);
    while at_label < label.len() {
        match tokens.get(at_token) {
            Some(Token::Star) => {
                star = Some((at_token, at_label));
                at_token += 1;
            }
            Some(Token::OneOf(ranges)) if takes(ranges, label[at_label]) => {
                at_token += 1;
                at_label += 1;
            }
            _ => {
                let Some((token, begun)) = star else { return false };
                star = Some((token, begun + 1));
                (at_token, at_label) = (token + 1, begun + 1);
            }
        }
    }
    tokens[at_token..].iter().all(|token| matches!(token, Token::Star))
}

type Range = RangeInclusive<char>;

enum Token {
    Star,
    OneOf(Vec<Range>),
}

fn takes(ranges: &[Range], c: char) -> bool {
    ranges.iter().any(|range| range.contains(&c))
}

fn tokens(glob: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = glob.chars().peekable();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '[' => Token::OneOf(class(&mut rest)?),
            c => Token::OneOf(vec![c..=c]),
        });
    }
    Some(tokens)
}

/// What follows `[`, to its `]`. At least one range must be there.
fn class(rest: &mut Peekable<Chars<'_>>) -> Option<Vec<Range>> {
    let mut ranges = Vec::new();
    while ranges.is_empty() || *rest.peek()? != ']' {
        let from = bound(rest)?;
        let to = if rest.next_if_eq(&'-').is_some() { bound(rest)? } else { from };
        ranges.push(from..=to);
    }
    rest.next();
    Some(ranges)
}

fn bound(rest: &mut Peekable<Chars<'_>>) -> Option<char> {
    rest.next().filter(|c| !matches!(c, '-' | ']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        Location::parse(text).map(|location| location.key())
    }

    #[test]
    fn keys_lose_scheme_user_and_api_version() {
        for (text, expected) in [
            ("https://index.docker.io/v1/", "index.docker.io"),
            ("index.docker.io/v1/", "index.docker.io"),
            ("http://r.io/v2/team", "r.io/team"),
            ("r.io", "r.io"),
            ("https://r.io/", "r.io"),
            ("https://r.io:5000/a/b", "r.io:5000/a/b"),
            ("https://user:password@r.io/x", "r.io/x"),
            ("https://r.io/x?token=1#f", "r.io/x"),
            ("*.r.io/x", "*.r.io/x"),
            ("[::1]:5000", "[::1]:5000"),
            // No trailing slash: upstream takes it for a path.
            ("https://index.docker.io/v1", "index.docker.io/v1"),
        ] {
            assert_eq!(key(text).as_deref(), Some(expected), "{text}");
        }
        for wrong in ["r.io:port/x", "a b", "https://r.io:80x", "r{}.io", "r\\.io"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    /// Each line is a leak, or a pull that fails for no reason, if it is wrong.
    #[test]
    fn what_covers_what() {
        let covers = [
            ("r.io", "r.io/app"),
            ("r.io/team", "r.io/team/app"),
            ("r.io/te", "r.io/team/app"),
            ("r.io:5000", "r.io:5000/app"),
            ("*.r.io", "eu.r.io/app"),
            ("*.*.r.io", "a.b.r.io/app"),
            ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-1.amazonaws.com/app"),
            ("eu-*.r.io", "eu-west.r.io/app"),
            ("*-*-3.r.io", "a-b-c-3.r.io/app"),
            ("reg[0-9].r.io", "reg7.r.io/app"),
            ("reg[0-9a-f].r.io", "rege.r.io/app"),
            ("*", "localhost/app"),
            ("127.0.0.1:5000", "127.0.0.1:5000/app"),
            ("[::1]:5000", "[::1]:5000/app"),
        ];
        for (location, image) in covers {
            assert!(Location::parse(location).expect(location).covers(image), "{location} {image}");
        }
        let not = [
            ("r.io", "evil-r.io/app"),
            ("r.io", "r.io.evil.com/app"),
            ("r.io", "a.r.io/app"),
            ("r.io", "r.io:5000/app"),
            ("r.io:5000", "r.io/app"),
            ("r.io:5000", "r.io:5001/app"),
            ("*.r.io", "r.io/app"),
            ("*.r.io", "a.b.r.io/app"),
            ("*.r.io", "a.r.io.evil.com/app"),
            ("r.io/team/app", "r.io/team"),
            ("r.io/a", "r.io/b/a"),
            ("reg[0-9].r.io", "regx.r.io/app"),
            ("reg[.r.io", "reg[.r.io/app"),
            ("a*b.r.io", "acc.r.io/app"),
            ("127.0.0.1:5000", "127.0.0.1:5001/app"),
        ];
        for (location, image) in not {
            let covers = Location::parse(location).is_some_and(|location| location.covers(image));
            assert!(!covers, "{location} {image}");
        }
    }

    proptest::proptest! {
        /// Keys come from who may write a secret; names from who may write a pod.
        #[test]
        fn no_text_makes_a_panic(key in "\\PC{0,20}", host in "[a-z*\\[\\]:.@/-]{0,20}") {
            for text in [&key, &host] {
                if let Some(location) = Location::parse(text) {
                    location.covers(&host);
                    location.covers(&key);
                }
            }
        }

        /// A name without globs covers its own host and no longer one.
        #[test]
        fn a_plain_host_covers_itself_only(host in "[a-z]{1,5}(\\.[a-z]{1,5}){0,3}", more in "[a-z]") {
            let location = Location::parse(&host).expect("a host");
            let own = format!("{host}/app");
            proptest::prop_assert!(location.covers(&own));
            for other in [
                format!("{more}{own}"),
                format!("{host}{more}/app"),
                format!("{more}.{own}"),
                format!("{host}.{more}/app"),
                format!("{host}:1/app"),
            ] {
                proptest::prop_assert!(!location.covers(&other), "{}", other);
            }
        }
    }
}
