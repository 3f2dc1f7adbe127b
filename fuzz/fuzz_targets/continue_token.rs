//! Continue tokens that were not made here.
#![no_main]

use coffer_api::continue_token::Token;

const COLLECTION: &str = "/registry/secrets/n/";

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Token::decode(text) {
        Ok(token) => {
            let after = token.after(COLLECTION);
            assert!(after.starts_with(COLLECTION) && !after.contains("/../"), "{after}");
            let again = token.expired().continue_.expect("there is a way on");
            assert_eq!(Token::decode(&again).expect("it was made here").after(COLLECTION), after);
        }
        Err(failure) => assert_eq!(failure.code, 400),
    }
});
