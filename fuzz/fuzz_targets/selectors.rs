//! Label and field selectors, and text in the errors about them.
#![no_main]

use std::collections::BTreeMap;

use coffer_api::selector::{FieldSelector, LabelSelector};

libfuzzer_sys::fuzz_target!(|text: &str| {
    coffer_fuzz::quoted(text);
    match LabelSelector::parse(text) {
        Ok(selector) => {
            let shown = selector.to_string();
            assert_eq!(LabelSelector::parse(&shown).as_ref(), Ok(&selector), "{shown}");
            selector.matches(&BTreeMap::from([("a".to_owned(), "1".to_owned())]));
        }
        Err(error) => drop(error.to_string()),
    }
    match FieldSelector::parse(text) {
        Ok(selector) => drop(selector.matches(|_| "a")),
        Err(error) => drop(error.to_string()),
    }
});
