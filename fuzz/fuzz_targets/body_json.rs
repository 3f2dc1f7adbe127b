//! Bodies in JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((first, text)) = data.split_first() else { return };
    let Some(document) = coffer_fuzz::json(text) else { return };
    coffer_fuzz::body(*first, text, document);
});
