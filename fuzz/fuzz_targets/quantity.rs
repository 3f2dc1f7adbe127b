//! Quantities: what is read is written so that it is read the same.
#![no_main]

use coffer_api::quantity::Quantity;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(quantity) = Quantity::parse(text) {
        let shown = quantity.to_string();
        let again = Quantity::parse(&shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert_eq!(again.to_string(), shown);
    }
});
