//! The query syntax of label selectors: a scanner and a parser by descent, with upstream's
//! messages about what was found and what was expected.

use std::collections::BTreeSet;
use std::fmt;

use super::SelectorError;
use super::labels::{LabelSelector, Operator, Requirement, check_key};
use crate::field::Path;

/// A word or symbol of the query syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    End,
    Comma,
    Open,
    Close,
    Not,
    /// An operator that is a symbol.
    Symbol(Operator),
    /// An identifier, or `in` and `notin` where no operator can stand.
    Word(String),
    /// Symbols that make no sense together; the message about them.
    Nonsense(String),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::End => "",
            Self::Comma => ",",
            Self::Open => "(",
            Self::Close => ")",
            Self::Not => "!",
            Self::Symbol(Operator::Equals) => "=",
            Self::Symbol(Operator::DoubleEquals) => "==",
            Self::Symbol(Operator::NotEquals) => "!=",
            Self::Symbol(Operator::GreaterThan) => ">",
            Self::Symbol(_) => "<",
            Self::Word(word) | Self::Nonsense(word) => word,
        })
    }
}

impl LabelSelector {
    /// Reads the query parameter's syntax.
    ///
    /// # Errors
    /// With upstream's text, which says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser::new(text).parse().map(Self::of)
    }
}

struct Parser {
    tokens: std::vec::IntoIter<Token>,
}

impl Parser {
    fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        // A NUL byte ends the text for upstream's scanner.
        let mut rest = text.split('\0').next().unwrap_or_default();
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
            if rest.is_empty() {
                break;
            }
            let (token, length) = scan(rest);
            tokens.push(token);
            rest = &rest[length..];
        }
        Self { tokens: tokens.into_iter() }
    }

    fn peek(&self) -> Token {
        self.tokens.as_slice().first().cloned().unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token {
        self.tokens.next().unwrap_or(Token::End)
    }

    fn parse(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Not => {}
                Token::End => return Ok(requirements),
                other => {
                    let expected = "expected: !, identifier, or 'end of string'";
                    return Err(found(&other, expected));
                }
            }
            let requirement = self
                .requirement()
                .map_err(|error| SelectorError(format!("unable to parse requirement: {error}")))?;
            requirements.push(requirement);
            super::check_terms(requirements.len())?;
            match self.take() {
                Token::End => return Ok(requirements),
                Token::Comma => match self.peek() {
                    Token::Word(_) | Token::Not => {}
                    other => return Err(found(&other, "expected: identifier after ','")),
                },
                other => return Err(found(&other, "expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut token = self.take();
        let negated = token == Token::Not;
        if negated {
            token = self.take();
        }
        let Token::Word(key) = token else {
            return Err(found(&token, "expected: identifier"));
        };
        if let Some(error) = check_key(&key, &Path::default()) {
            return Err(SelectorError(error.to_string()));
        }
        if negated && matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::DoesNotExist, []);
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Requirement::new(&key, Operator::Exists, []);
        }
        if negated {
            // Upstream has decided by now, and stumbles over what follows.
            return Requirement::new(&key, Operator::DoesNotExist, []);
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        Requirement::new(&key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        match self.take() {
            Token::Symbol(operator) => Ok(operator),
            Token::Word(word) if word == "in" => Ok(Operator::In),
            Token::Word(word) if word == "notin" => Ok(Operator::NotIn),
            other => Err(found(&other, "expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.peek() {
            Token::End | Token::Comma => Ok([String::new()].into()),
            Token::Word(word) => {
                self.take();
                Ok([word].into())
            }
            other => Err(found(&other, "expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.take() {
            Token::Open => {}
            other => return Err(SelectorError(format!("found '{other}' expected: '('"))),
        }
        match self.peek() {
            Token::Word(_) | Token::Comma => self.value_list(),
            Token::Close => {
                self.take();
                Ok([String::new()].into())
            }
            other => Err(found(&other, "expected: ',', ')' or identifier")),
        }
    }

    /// Up to and including the closing bracket; two commas in a row stand for an empty value.
    fn value_list(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            match self.take() {
                Token::Word(word) => {
                    values.insert(word);
                    super::check_values(values.len())?;
                    match self.peek() {
                        Token::Comma => {}
                        Token::Close => break,
                        other => return Err(found(&other, "expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.peek() {
                        Token::Close => {
                            values.insert(String::new());
                            break;
                        }
                        Token::Comma => {
                            self.take();
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                other => return Err(found(&other, "expected: ',', or identifier")),
            }
        }
        self.take();
        Ok(values)
    }
}

fn found(token: &Token, expected: &str) -> SelectorError {
    SelectorError(format!("found '{token}', {expected}"))
}

/// The first token of a text that does not start with white space, and its length.
fn scan(text: &str) -> (Token, usize) {
    let symbol = |found: char| "=!(),><".contains(found);
    let end =
        text.find(|found: char| symbol(found) || " \t\r\n".contains(found)).unwrap_or(text.len());
    if end > 0 {
        return (Token::Word(text[..end].to_owned()), end);
    }
    let symbols: [(&str, Token); 9] = [
        ("==", Token::Symbol(Operator::DoubleEquals)),
        ("=", Token::Symbol(Operator::Equals)),
        ("!=", Token::Symbol(Operator::NotEquals)),
        ("!", Token::Not),
        (">", Token::Symbol(Operator::GreaterThan)),
        ("<", Token::Symbol(Operator::LessThan)),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    for (literal, token) in symbols {
        if text.starts_with(literal) {
            return (token, literal.len());
        }
    }
    (Token::Nonsense(format!("error expected: keyword found '{text}'")), text.len())
}
