//! Upstream's own table of texts and what becomes of them, and the arithmetic.

use proptest::prelude::*;

use super::*;

fn canonical(text: &str) -> String {
    let mut quantity = Quantity::parse(text).unwrap();
    quantity.text = None;
    quantity.to_string()
}

#[test]
fn texts_become_their_canonical_form() {
    for (text, expected) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("1", "1"),
        ("1Ki", "1Ki"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("1.5", "1500m"),
        ("0.5Mi", "512Ki"),
        ("0.05Gi", "53687091200m"),
        ("100.035k", "100035"),
        ("1e3", "1e3"),
        ("1.2E3", "1200"),
        ("1.3E+6", "1300e3"),
        ("1E-3", "1e-3"),
        ("0.001", "1m"),
        ("3.001n", "4n"),
        ("0.0000000001", "1n"),
        ("1.1E-9", "2e-9"),
        ("0.000000000001Ki", "2n"),
        (".001", "1m"),
        ("1.", "1"),
        ("1.G", "1G"),
        ("12E", "12E"),
        ("1000E", "1000E"),
        ("9Ei", "9223372036854775807"),
        ("9223372036854775807Ki", "9223372036854775807"),
        ("-1.5", "-1500m"),
        ("-1Ki", "-1Ki"),
        ("512Ki", "512Ki"),
        ("1000", "1k"),
        ("1023", "1023"),
        (".", "0"),
        ("1e100", "10e99"),
    ] {
        assert_eq!(canonical(text), expected, "{text}");
    }
}

#[test]
fn what_upstream_writes_as_it_was_read_is_kept() {
    for kept in ["1.500", "100m", "+5", "1E3", "007", "5Ki"] {
        assert_eq!(Quantity::parse(kept).unwrap().to_string(), kept);
    }
    for (text, written) in [("1000", "1k"), ("8Ki", "8Ki"), ("0.5", "500m"), ("1024Ki", "1Mi")] {
        assert_eq!(Quantity::parse(text).unwrap().to_string(), written);
    }
}

#[test]
fn malformed_texts_have_upstreams_errors() {
    for (text, error) in [
        ("", QuantityError::Format),
        ("1.1.M", QuantityError::Format),
        ("12z", QuantityError::Format),
        ("1 Mi", QuantityError::Format),
        ("1+1.0M", QuantityError::Format),
        ("0.1mi", QuantityError::Suffix),
        ("12Mk", QuantityError::Suffix),
        ("1e", QuantityError::Suffix),
        ("1Kii", QuantityError::Suffix),
        ("--1", QuantityError::Suffix),
        ("1e99999", QuantityError::Suffix),
        (&"9".repeat(60), QuantityError::Numeric),
    ] {
        assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text}");
    }
}

#[test]
fn amounts_compare_across_suffixes() {
    let ordered = ["-1Ki", "-1", "0", "1n", "1m", "0.5", "1", "1k", "1Ki", "1e6", "1Mi", "1e100"];
    for pair in ordered.windows(2) {
        let (less, more) = (Quantity::parse(pair[0]).unwrap(), Quantity::parse(pair[1]).unwrap());
        assert!(less < more, "{pair:?}");
    }
    assert_eq!(Quantity::parse("1000m").unwrap(), Quantity::parse("1").unwrap());
    assert_eq!(Quantity::parse("1Ki").unwrap(), Quantity::parse("1.024k").unwrap());
}

#[test]
fn sums_keep_the_first_suffix_or_the_only_one() {
    let sum = |left: &str, right: &str| {
        let mut sum = Quantity::parse(left).unwrap();
        sum.add(&Quantity::parse(right).unwrap());
        sum.to_string()
    };
    assert_eq!(sum("0", "1Gi"), "1Gi");
    assert_eq!(sum("100m", "1"), "1100m");
    assert_eq!(sum("1Gi", "512Mi"), "1536Mi");
    let mut rest = Quantity::parse("1Gi").unwrap();
    rest.sub(&Quantity::parse("1Gi").unwrap());
    assert!(rest.is_zero());
}

#[test]
fn whole_units_are_rounded_away_from_zero() {
    assert_eq!(Quantity::parse("1500m").unwrap().units(), 2);
    assert_eq!(Quantity::parse("-1500m").unwrap().units(), -2);
    assert_eq!(Quantity::parse("0.1").unwrap().milli(), 100);
    assert_eq!(Quantity::parse("1e100").unwrap().units(), i64::MAX);
    let mut fine = Quantity::parse("1.0001").unwrap();
    fine.round_up_to(-3);
    assert_eq!(fine.to_string(), "1001m");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".*") {
        let _ = Quantity::parse(&text);
    }

    #[test]
    fn writing_loses_nothing(text in "[+-]?[0-9]{0,20}(\\.[0-9]{0,12})?(|n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,3})") {
        if let Ok(quantity) = Quantity::parse(&text) {
            for written in [quantity.to_string(), quantity.written(), quantity.decimal()] {
                prop_assert_eq!(&Quantity::parse(&written).unwrap(), &quantity, "{}", written);
            }
            let again = Quantity::parse(&quantity.written()).unwrap();
            prop_assert_eq!(again.written(), quantity.written());
        }
    }

    #[test]
    fn comparison_agrees_with_subtraction(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000, suffix in "(n|m|k|Ki|e2)") {
        let left = Quantity::parse(&format!("{a}m")).unwrap();
        let right = Quantity::parse(&format!("{b}{suffix}")).unwrap();
        let mut rest = left.clone();
        rest.sub(&right);
        prop_assert_eq!(left.cmp(&right), rest.cmp(&Quantity::ZERO));
    }
}

#[test]
fn an_amount_is_held_against_a_share_of_another_one_however_large_both_are() {
    let of = |text: &str| Quantity::parse(text).unwrap();
    for (own, thousandths, other, exceeds) in [
        ("2", 2000, "1", false),
        ("2001m", 2000, "1", true),
        ("1500m", 1500, "1", false),
        ("8Ei", 1000, "8Ei", false),
        ("3e25", 2000, "1e25", true),
        ("2e25", 2000, "1e25", false),
        ("170e36", 2000, "100e36", false),
        ("17000000000000000000000000000000000000", 2000, "1e36", true),
        ("99999999999999999999999999999999999999", 2000, "1n", true),
        ("1n", i64::MAX, "99999999999999999999999999999999999999", false),
        ("1", 0, "1", true),
        ("1", 1000, "0", true),
    ] {
        assert_eq!(
            of(own).exceeds(thousandths, &of(other)),
            exceeds,
            "{own} {thousandths} {other}"
        );
    }
}

#[test]
fn amounts_are_bounded_so_that_sums_of_them_are_exact() {
    for (text, bounded) in [
        ("-1", "0"),
        ("-170e36", "0"),
        ("0", "0"),
        ("1500m", "1500m"),
        ("1n", "1m"),
        ("8Ei", "9223372036854775807"),
        ("1e24", "1e24"),
        ("1e25", "1e24"),
        ("1e32000", "1e24"),
    ] {
        assert_eq!(Quantity::parse(text).unwrap().bounded().to_string(), bounded, "{text}");
    }
}
