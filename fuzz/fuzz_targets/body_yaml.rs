//! Bodies in YAML.
#![no_main]

use coffer_api::schema::read::{Budget, Unknown};
use coffer_api::schema::strict::Findings;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, text)) = data.split_first() else { return };
    let _ = coffer_api::yaml::parse(text);
    let (mut budget, mut findings) = (Budget::of_body(text.len()), Findings::default());
    let _ = coffer_api::yaml::read_last_wins_strict(
        text,
        None,
        Unknown::Keep,
        &mut budget,
        &mut findings,
    );
    drop(findings.into_errors());
    let mut budget = Budget::of_body(text.len());
    match coffer_api::yaml::read_last_wins(text, None, Unknown::Keep, &mut budget) {
        Ok(document) => coffer_fuzz::body(*first, text, document),
        Err(error) => drop(error.to_string()),
    }
    let _ = coffer_api::yaml::parse_all(text);
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = coffer_api::yaml::missing_closers(text);
    }
});
