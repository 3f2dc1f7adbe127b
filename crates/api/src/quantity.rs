//! Amounts of resources: `100m`, `1.5Gi`, `12e6`. Parsed, written, compared and added exactly as
//! upstream's `resource.Quantity` does, without floating point.
//!
//! API types carry quantities as text; defaulting rewrites that text in canonical form, so that
//! equal text and equal amount are mostly one. Arithmetic goes through [`Quantity`].

use std::cmp::Ordering;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// Why a text is not a quantity; worded as upstream words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form number and suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is malformed or has more digits than any real amount.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is not one of the known ones.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// Which family of suffixes an amount is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    Binary,
    /// `12M`
    Decimal,
}

/// An exact amount: `value * 10^exponent`.
#[derive(Clone, Debug)]
pub struct Quantity {
    value: i128,
    exponent: i32,
    format: Format,
    /// The text it was parsed from, where upstream keeps that too.
    text: Option<String>,
}

const NANO: i32 = -9;
const MILLI: i32 = -3;
/// Sums count no amount as more than `10^24` units: a hundred billion such amounts, in thousandths, fit into
/// an `i128`.
const SUMMED_MAX_EXPONENT: i32 = 24;
/// All that a number of 64 bits may have: their product with one of 64 bits fits into a `u128`.
const LEADING_DIGITS: u32 = 19;
const BINARY_MAX: i128 = i64::MAX as i128;
const DECIMAL_SUFFIXES: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The text cut into its parts.
struct Parts<'a> {
    negative: bool,
    /// Digits before and after the point, leading zeros of the former stripped.
    digits: String,
    fraction_len: usize,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn cut(text: &'a str) -> Result<Self, QuantityError> {
        let negative = text.starts_with('-');
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let nonzero = unsigned.trim_start_matches('0');
        let (whole, rest) = split_digits(nonzero);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        let letters = suffix.trim_start_matches(|found| "eEinumkKMGTP".contains(found));
        let number = letters.strip_prefix(['-', '+']).unwrap_or(letters);
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        let whole = if whole.is_empty() { "0" } else { whole };
        Ok(Self {
            negative,
            digits: format!("{whole}{fraction}"),
            fraction_len: fraction.len(),
            suffix,
        })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// Base two or ten, and the power of it that the suffix stands for.
fn interpret(suffix: &str) -> Result<(Format, i32), QuantityError> {
    if let Some((_, exponent)) = DECIMAL_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::Decimal, *exponent));
    }
    if let Some(at) = BINARY_SUFFIXES.iter().position(|name| *name == suffix) {
        return Ok((Format::Binary, 10 * at as i32));
    }
    match suffix.strip_prefix(['e', 'E']).map(str::parse::<i16>) {
        Some(Ok(exponent)) => Ok((Format::DecimalExponent, exponent.into())),
        _ => Err(QuantityError::Suffix),
    }
}

impl Quantity {
    /// No amount at all.
    pub const ZERO: Self = Self { value: 0, exponent: 0, format: Format::Decimal, text: None };

    /// A whole number, written in decimal.
    pub fn whole(value: i64) -> Self {
        Self { value: value.into(), ..Self::ZERO }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    /// Upstream's three, see [`QuantityError`].
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let parts = Parts::cut(text)?;
        let (format, power) = interpret(parts.suffix)?;
        let number: i128 = parts.digits.parse().map_err(|_| QuantityError::Numeric)?;
        let fraction = i32::try_from(parts.fraction_len).map_err(|_| QuantityError::Numeric)?;
        let (value, exponent) = match format {
            // A product beyond the range is far beyond the cap as well.
            Format::Binary => (number.saturating_mul(1 << power), -fraction),
            _ => (number, power.saturating_sub(fraction)),
        };
        let mut quantity = Self { value, exponent, format, text: None };
        quantity.round_up_to(NANO);
        quantity.cap_binary();
        if parts.negative {
            quantity.value = -quantity.value;
        }
        if quantity.exponent == exponent && keeps_text(&parts, format, power, exponent) {
            quantity.text = Some(text.to_owned());
        }
        Ok(quantity)
    }

    /// Reads the text form that API types carry.
    ///
    /// # Errors
    /// As [`Quantity::parse`].
    pub fn of(text: &Text) -> Result<Self, QuantityError> {
        Self::parse(text.0.trim())
    }

    /// Back to the text form, canonical.
    pub fn to_text(&self) -> Text {
        Text(self.to_string())
    }

    /// Binary amounts stop at 2^63-1; those below one are written in decimal.
    fn cap_binary(&mut self) {
        if self.format != Format::Binary {
            return;
        }
        if self.compare_to(BINARY_MAX, 0) == Ordering::Greater {
            (self.value, self.exponent) = (BINARY_MAX, 0);
        }
        if self.value > 0 && self.compare_to(1, 0) == Ordering::Less {
            self.format = Format::Decimal;
        }
    }

    /// Drops digits below `10^exponent`, away from zero: a caller that wants some, gets some.
    pub fn round_up_to(&mut self, exponent: i32) {
        if self.exponent >= exponent {
            return;
        }
        let (mut value, mut exact) = (self.value, true);
        for _ in self.exponent..exponent {
            exact &= value % 10 == 0;
            value /= 10;
            if value == 0 {
                exact &= self.value == 0;
                break;
            }
        }
        if !exact {
            value += self.value.signum();
        }
        (self.value, self.exponent, self.text) = (value, exponent, None);
    }

    /// The amount as sums count it: nothing where it is negative, thousandths at the finest, and at most
    /// `10^24` units. A sum of such amounts does not saturate, so that what was added can be taken away.
    pub fn bounded(mut self) -> Self {
        if self.is_negative() {
            return Self { format: self.format, ..Self::ZERO };
        }
        if self.compare_to(1, SUMMED_MAX_EXPONENT) == Ordering::Greater {
            (self.value, self.exponent, self.text) = (1, SUMMED_MAX_EXPONENT, None);
        }
        self.round_up_to(MILLI);
        self
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.value == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.value < 0
    }

    /// The amount in whole units, rounded away from zero, at the ends of `i64` if it is beyond.
    pub fn units(&self) -> i64 {
        self.scaled(0)
    }

    /// The amount in thousandths, as processors are counted; rounded and bounded as `units`.
    pub fn milli(&self) -> i64 {
        self.scaled(-3)
    }

    fn scaled(&self, exponent: i32) -> i64 {
        let mut rounded = self.clone();
        rounded.round_up_to(exponent);
        let mut value = rounded.value;
        for _ in exponent..rounded.exponent {
            value = value.saturating_mul(10);
            if value == 0 || value == i128::MAX || value == i128::MIN {
                break;
            }
        }
        i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        let mut rounded = self.clone();
        rounded.round_up_to(0);
        rounded == *self
    }

    /// Adds another amount; the sum is written as `self` is, or as `other` if `self` is zero.
    pub fn add(&mut self, other: &Self) {
        self.text = None;
        if self.is_zero() {
            self.format = other.format;
        }
        let exponent = match (self.value, other.value) {
            (_, 0) => return,
            (0, _) => other.exponent,
            _ => self.exponent.min(other.exponent),
        };
        let sum = self.at(exponent).saturating_add(other.at(exponent));
        (self.value, self.exponent) = (sum, exponent);
    }

    /// Takes another amount away.
    pub fn sub(&mut self, other: &Self) {
        self.add(&Self { value: -other.value, text: None, ..*other });
    }

    /// The value in units of `10^exponent`, which is no larger than its own; saturating.
    fn at(&self, exponent: i32) -> i128 {
        let mut value = self.value;
        for _ in exponent..self.exponent {
            if value == 0 || value == i128::MAX || value == i128::MIN {
                break;
            }
            value = value.saturating_mul(10);
        }
        value
    }

    /// Whether a positive amount is more than so many thousandths of another one. Amounts of more than 19 digits
    /// are cut to these, this one upwards and the other one downwards.
    pub fn exceeds(&self, thousandths: i64, other: &Self) -> bool {
        let (mut own, mut others) = (self.leading_digits(true), other.leading_digits(false));
        own.0 *= 1000;
        others.0 *= u128::try_from(thousandths).unwrap_or(0);
        others.0 == 0 || compare_magnitudes(own, others) == Ordering::Greater
    }

    /// The first 19 digits of a magnitude, and the power of ten that they are of.
    fn leading_digits(&self, up: bool) -> (u128, i32) {
        let (mut value, mut exponent) = (self.value.unsigned_abs(), self.exponent);
        let mut exact = true;
        while value >= 10_u128.pow(LEADING_DIGITS) {
            exact &= value % 10 == 0;
            value /= 10;
            exponent += 1;
        }
        (value + u128::from(up && !exact), exponent)
    }

    fn compare_to(&self, value: i128, exponent: i32) -> Ordering {
        let signs = self.value.signum().cmp(&value.signum());
        if signs != Ordering::Equal || value == 0 {
            return signs;
        }
        let (left, right) = (self.value.unsigned_abs(), value.unsigned_abs());
        let order = compare_magnitudes((left, self.exponent), (right, exponent));
        if value < 0 { order.reverse() } else { order }
    }

    /// The amount in decimal, whatever its suffix: equal amounts give equal text.
    pub fn decimal(&self) -> String {
        if self.is_zero() { "0".to_owned() } else { self.written_decimal(Format::Decimal) }
    }

    fn written(&self) -> String {
        if self.value == 0 {
            return "0".to_owned();
        }
        let small = self.compare_to(1024, 0) == Ordering::Less
            && self.compare_to(-1024, 0) == Ordering::Greater;
        match self.format {
            Format::Binary if !small && self.is_whole() => self.written_binary(),
            Format::DecimalExponent => self.written_decimal(Format::DecimalExponent),
            _ => self.written_decimal(Format::Decimal),
        }
    }

    fn written_binary(&self) -> String {
        let mut whole = self.clone();
        whole.round_up_to(0);
        let (mut value, mut power) = (whole.at(0), 0);
        while value % 1024 == 0 && power + 1 < BINARY_SUFFIXES.len() {
            value /= 1024;
            power += 1;
        }
        format!("{value}{}", BINARY_SUFFIXES[power])
    }

    /// The largest exponent that is a multiple of three and leaves no fraction.
    fn written_decimal(&self, format: Format) -> String {
        let (mut value, mut exponent) = (self.value, self.exponent);
        while value % 10 == 0 {
            value /= 10;
            exponent += 1;
        }
        let largest = if format == Format::Decimal { 18 } else { i32::MAX };
        while (exponent.rem_euclid(3) != 0 || exponent > largest) && value.abs() < i128::MAX / 10 {
            value *= 10;
            exponent -= 1;
        }
        match DECIMAL_SUFFIXES.iter().find(|(_, known)| *known == exponent) {
            Some((suffix, _)) if format == Format::Decimal => format!("{value}{suffix}"),
            _ if exponent == 0 => value.to_string(),
            _ => format!("{value}e{exponent}"),
        }
    }
}

/// Whether upstream writes the text it read instead of the canonical form: where a cheap look at
/// the digits finds nothing to canonicalise. `1.500` and `+5` are kept because of it.
fn keeps_text(parts: &Parts<'_>, format: Format, power: i32, exponent: i32) -> bool {
    let digits = parts.digits.as_str();
    let number = match digits.parse::<i64>() {
        Ok(number) if exponent >= NANO => number,
        _ => return false,
    };
    let length = digits.len() as i32;
    match format {
        Format::Binary => {
            parts.fraction_len == 0 && 15 - length - power * 3 / 10 > 0 && number & 7 != 0
        }
        _ => {
            length <= 18
                && exponent % 3 == 0
                && !digits.ends_with("000")
                && !digits.starts_with('0')
        }
    }
}

fn compare_magnitudes(left: (u128, i32), right: (u128, i32)) -> Ordering {
    let length = |(value, exponent): (u128, i32)| i64::from(value.ilog10()) + i64::from(exponent);
    let by_length = length(left).cmp(&length(right));
    if by_length != Ordering::Equal {
        return by_length;
    }
    // The lengths agree, so the exponents differ by less than the digits of a u128.
    let up =
        |value: u128, places: i32| 10u128.checked_pow(places.unsigned_abs())?.checked_mul(value);
    let (larger, smaller) = (left.1 > right.1, left.1 - right.1);
    let aligned = if larger {
        (up(left.0, smaller), Some(right.0))
    } else {
        (Some(left.0), up(right.0, smaller))
    };
    match aligned {
        (None, _) => Ordering::Greater,
        (_, None) => Ordering::Less,
        (left, right) => left.cmp(&right),
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compare_to(other.value, other.exponent)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.written()),
        }
    }
}

#[cfg(test)]
mod tests;
