//! Numbers of pods that are given as they are or as a percentage: `2` or `25%`. Deployments and disruption
//! budgets have them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field::{Error, ErrorList, Path};
use crate::names;

/// What becomes of a part of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// It counts as a whole one.
    Up,
    /// It does not count.
    Down,
}

/// The number of pods that `share` is of `of` pods. A percentage that is malformed is refused by
/// validation, and is 0 here.
pub fn scaled(share: &IntOrString, of: i32, rounding: Rounding) -> i32 {
    let percent = match share {
        IntOrString::Int(number) => return *number,
        IntOrString::String(text) => i64::from(percent(text).unwrap_or_default()),
    };
    let hundredths = i64::from(of) * percent;
    let whole = match rounding {
        Rounding::Up => (hundredths + 99).div_euclid(100),
        Rounding::Down => hundredths.div_euclid(100),
    };
    i32::try_from(whole).unwrap_or(if whole < 0 { i32::MIN } else { i32::MAX })
}

/// The number in a percentage, the largest there is where it has more digits; `None` for any other text.
pub(crate) fn percent(text: &str) -> Option<i32> {
    if !names::percent(text).is_empty() {
        return None;
    }
    let digits = text.strip_suffix('%')?;
    Some(digits.parse().unwrap_or(i32::MAX))
}

/// Refuses negative numbers, and texts that are not a percentage.
pub(crate) fn validate(share: &IntOrString, path: &Path) -> ErrorList {
    match share {
        IntOrString::Int(number) if *number < 0 => {
            vec![Error::invalid(path, *number, "must be greater than or equal to 0")]
        }
        IntOrString::Int(_) => ErrorList::new(),
        IntOrString::String(text) => {
            let wrong = names::percent(text).into_iter();
            wrong.map(|detail| Error::invalid(path, text, detail)).collect()
        }
    }
}

/// Refuses more than all.
pub(crate) fn validate_part(share: &IntOrString, path: &Path) -> Option<Error> {
    let IntOrString::String(text) = share else { return None };
    let is_more = percent(text).is_some_and(|percent| percent > 100);
    is_more.then(|| Error::invalid(path, text, "must not be greater than 100%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    #[test]
    fn a_percentage_is_scaled_and_rounded_and_a_number_is_not() {
        for (share, of, up, down) in [
            (text("25%"), 10, 3, 2),
            (text("25%"), 0, 0, 0),
            (text("0%"), 7, 0, 0),
            (text("100%"), 7, 7, 7),
            (IntOrString::Int(9), 3, 9, 9),
            (text("many"), 3, 0, 0),
            (text("99999999999999999999%"), 7, 150_323_856, 150_323_855),
            (text("9223372036854775807%"), i32::MAX, i32::MAX, i32::MAX),
        ] {
            assert_eq!(scaled(&share, of, Rounding::Up), up, "{share:?} of {of}");
            assert_eq!(scaled(&share, of, Rounding::Down), down, "{share:?} of {of}");
        }
    }

    #[test]
    fn a_percentage_of_any_length_over_100_is_more_than_all() {
        let path = Path::new("x");
        for (share, is_more) in [
            ("100%", false),
            ("101%", true),
            ("99999999999999999999%", true),
            ("101", false),
            ("-1%", false),
        ] {
            assert_eq!(validate_part(&text(share), &path).is_some(), is_more, "{share}");
        }
        assert!(validate_part(&IntOrString::Int(1000), &path).is_none());
    }
}
