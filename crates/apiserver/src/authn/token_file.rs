//! Static tokens: `--token-auth-file`, a CSV of token, user, uid and groups.
//!
//! Only hashes are kept, and they are compared in constant time, all of them with every request.

use ring::digest::{SHA256, digest};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::identity::{AUTHENTICATED, Identity};

/// A token file that cannot be used. No text of it is quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFileError {
    /// Fewer than three columns, or quotes that do not close.
    #[error("token file: line {0} must have at least 3 columns (token, user name, user uid)")]
    Columns(usize),
    /// A line without a token.
    #[error("token file: line {0} has an empty token")]
    Empty(usize),
}

/// Whose tokens are known by a file.
#[derive(Default)]
pub struct TokenFile(Vec<([u8; 32], Identity)>);

impl std::fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenFile({} tokens)", self.0.len())
    }
}

impl TokenFile {
    /// Reads the file's text.
    ///
    /// # Errors
    /// [`TokenFileError`], with the line.
    pub fn parse(text: &str) -> Result<Self, TokenFileError> {
        let mut all = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let columns = columns(line).ok_or(TokenFileError::Columns(at + 1))?;
            let [token, user, uid, rest @ ..] = columns.as_slice() else {
                return Err(TokenFileError::Columns(at + 1));
            };
            if token.is_empty() {
                return Err(TokenFileError::Empty(at + 1));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let mut groups: Vec<String> = groups
                .split(',')
                .map(|group| group.trim().to_owned())
                .filter(|group| !group.is_empty())
                .collect();
            groups.push(AUTHENTICATED.to_owned());
            let (user, uid) = (user.clone(), uid.clone());
            all.push((hash(token), Identity { user, uid, groups, ..Identity::default() }));
        }
        Ok(Self(all))
    }

    /// Whose token this is.
    pub(super) fn owner(&self, token: &str) -> Option<Identity> {
        let wanted = hash(token);
        let mut found = u32::MAX;
        for (at, (own, _)) in (0..).zip(&self.0) {
            let same: Choice = own.ct_eq(&wanted);
            found.conditional_assign(&at, same);
        }
        self.0.get(usize::try_from(found).ok()?).map(|(_, identity)| identity.clone())
    }
}

fn hash(token: &str) -> [u8; 32] {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The columns of a CSV line; quoted ones may hold commas and doubled quotes.
fn columns(line: &str) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    let (mut quoted, mut characters) = (false, line.chars().peekable());
    while let Some(found) = characters.next() {
        let column = all.last_mut()?;
        match found {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                column.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(String::new()),
            other => column.push(other),
        }
    }
    (!quoted).then(|| all.into_iter().map(|column| column.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_line_and_no_other() {
        let file = TokenFile::parse(
            "# for the build machines\n\
             t0ken-a,alice,1,\"ops,dev\"\n\
             \n\
             t0ken-b,bob,2\n",
        )
        .unwrap();
        let alice = file.owner("t0ken-a").unwrap();
        assert_eq!((alice.user.as_str(), alice.uid.as_str()), ("alice", "1"));
        assert_eq!(alice.groups, ["ops", "dev", "system:authenticated"]);
        assert_eq!(file.owner("t0ken-b").unwrap().user, "bob");
        assert_eq!(file.owner("t0ken-c"), None);
        assert_eq!(file.owner(""), None);
        assert_eq!(format!("{file:?}"), "TokenFile(2 tokens)");
    }

    #[test]
    fn a_bad_line_is_reported_by_number_only() {
        let error = TokenFile::parse("t0ken-a,alice,1\ns3cret,bob").unwrap_err();
        assert_eq!(error, TokenFileError::Columns(2));
        assert!(!error.to_string().contains("s3cret"));
        assert_eq!(TokenFile::parse(",alice,1").unwrap_err(), TokenFileError::Empty(1));
    }
}
