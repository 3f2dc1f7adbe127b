//! Bodies in Kubernetes' protobuf, which say themselves what they are.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    match coffer_api::protobuf::decode(data) {
        Ok(document) => coffer_fuzz::object(&document, None),
        Err(error) => drop(error.to_string()),
    }
});
