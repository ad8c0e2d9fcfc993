use proptest::prelude::*;
use regex::Regex;
use utoipa::PartialSchema;

use super::shapes::{
    Channel, DisplayName, Identity, LanguageTag, LearnedVoiceName, RoomName, VoiceName,
};
use crate::validate;

/// Whether a shape of the document takes a value, by its pattern and its length.
fn takes<T: PartialSchema>(value: &str) -> bool {
    let shape = serde_json::to_value(T::schema()).expect("a shape is JSON");
    // The document has patterns of ECMA-262, which writes a code point otherwise.
    let pattern = shape["pattern"].as_str().expect("a pattern").replace("\\u00", "\\x");
    let pattern = Regex::new(&pattern).expect("a regular expression");
    let length = value.chars().count() as u64;
    let bound = |name: &str| shape[name].as_u64().expect("a number");
    pattern.is_match(value) && (bound("minLength")..=bound("maxLength")).contains(&length)
}

proptest! {
    #[test]
    fn the_shapes_of_the_document_are_those_that_are_checked(
        value in prop_oneof![
            "[A-Za-z0-9_.@ -]{0,70}",
            "[a-zA-Z]{1,9}(-[A-Za-z0-9]{1,9}){0,5}",
            "\\PC{0,3}",
            "[\\x00-\\xff]{0,3}",
            "[!-~]{60,70}",
            "ä{120,135}",
        ],
    ) {
        prop_assert_eq!(takes::<RoomName>(&value), validate::room_name(&value).is_ok());
        prop_assert_eq!(takes::<Identity>(&value), validate::identity(&value).is_ok());
        prop_assert_eq!(takes::<DisplayName>(&value), validate::display_name(&value).is_ok());
        prop_assert_eq!(takes::<LanguageTag>(&value), validate::language(&value).is_ok());
        prop_assert_eq!(takes::<Channel>(&value), validate::channel(&value).is_ok());
        prop_assert_eq!(takes::<VoiceName>(&value), validate::voice_name(&value).is_ok());
        let learned = validate::learned_voice_name(&value).is_ok();
        prop_assert_eq!(takes::<LearnedVoiceName>(&value) && value != "own", learned);
    }
}
