//! Parsing returns for any input.

use proptest::prelude::*;

use super::{FieldSelector, LabelSelector};

proptest! {
    #[test]
    fn no_text_makes_the_label_parser_panic(text in ".*") {
        let _ = LabelSelector::parse(&text);
    }

    #[test]
    fn what_parses_is_written_so_that_it_parses_to_the_same(
        text in "(!?[a-c](|=[a-c]?|==[a-c]|!=[a-c]| in \\([a-c](,[a-c])?\\)| notin \\([a-c]?\\)|>[0-9]),?){0,3}",
    ) {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }

    #[test]
    fn no_text_makes_the_field_parser_panic(text in ".*") {
        let _ = FieldSelector::parse(&text);
    }

    #[test]
    fn no_run_of_symbols_makes_a_parser_panic(text in "[a-b =!<>(),\\\\]{0,20}") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }
}
