//! What decoders say of a document with a secret in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| coffer_fuzz::redact::planted(data));
