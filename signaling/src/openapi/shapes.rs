//! The shapes of names and values in the document, made from the constants that [`crate::validate`]
//! goes by. Each is a type without values, so that the fields of [`crate::wire`] can name it.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::bodies::MAX_SESSION_ID;
use crate::validate::{
    LANGUAGE_PATTERN, MAX_DISPLAY_NAME, MAX_IDENTITY, MAX_LANGUAGE, MAX_LANGUAGES,
    MAX_PARTICIPANTS, MAX_ROOM_NAME, MAX_TIMEOUT_S, MAX_TTL_S, MAX_VOICE, MIN_TTL_S,
};
use crate::wire::FLOOR;

macro_rules! shapes {
    ($($(#[doc = $about:literal])+ $name:ident = $schema:expr;)*) => {$(
        $(#[doc = $about])+
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let about = concat!($($about),+).trim();
                Schema::from($schema.description(Some(about))).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

shapes! {
    /// Name of a room.
    RoomName = text(MAX_ROOM_NAME, "^[A-Za-z0-9_-]+$").examples(["desk"]);
    /// Name of a participant, unique in the room.
    Identity = text(MAX_IDENTITY, "^[A-Za-z0-9_.@-]+$").examples(["ana"]);
    /// Name that people see; without control characters.
    DisplayName = text(MAX_DISPLAY_NAME, r"^[^\u0000-\u001f\u007f-\u009f]+$").examples(["Ana"]);
    /// Tag of a language (BCP 47), one of `GET /v1/languages`.
    LanguageTag = text(MAX_LANGUAGE, LANGUAGE_PATTERN).examples(["es"]);
    /// Channel of a conference: the tag of a language, or `floor` for the original sound.
    Channel = text(MAX_LANGUAGE, LANGUAGE_PATTERN).examples(["es", FLOOR]);
    /// Name of a voice, one of `GET /v1/voices`.
    VoiceName = text(MAX_VOICE, "^[!-~]+$");
    /// Name of a voice that was learned; not `own`.
    LearnedVoiceName = text(MAX_VOICE, "^[A-Za-z0-9][A-Za-z0-9_.-]*$").examples(["ana"]);
    /// Recordings of one person, and that they have agreed.
    NewVoice = ObjectBuilder::new()
        .property("name", Ref::from_schema_name(LearnedVoiceName::name()))
        .required("name")
        .property("consent", string().enum_values(Some(["true"])).description(Some(
            "States that the person whose voice it is has agreed to its being learned, and to its \
             being spoken with.",
        )))
        .required("consent")
        .property("clip", ArrayBuilder::new().items(recording()).min_items(Some(1)).description(
            Some("WAV, FLAC, MP3, or Ogg with Opus or Vorbis: their speech and nobody else's, without \
                  noise or music. Three of six seconds are enough."),
        ))
        .required("clip")
        .property("language", Ref::from_schema_name(LanguageTag::name()));
    /// Id of a session, as its `Location` holds it.
    SessionId = text(MAX_SESSION_ID, "^[!-~]+$");
    /// Gain of the original under the interpretation: 0 is silent, 1 is as loud as it was.
    Gain = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Number))
        .minimum(Some(0))
        .maximum(Some(1))
        .examples([0.2]);
    /// Most participants at a time.
    Places = whole(1, MAX_PARTICIPANTS as u64);
    /// Lifetime of a token, seconds.
    Lifetime = whole(MIN_TTL_S, MAX_TTL_S);
    /// Seconds after which an empty room ends; 0 keeps it.
    Timeout = whole(0, MAX_TIMEOUT_S);
    /// Tags of languages.
    Languages = few(LanguageTag::name());
    /// Channels of a conference.
    Channels = few(Channel::name());
    /// Tags of languages, and of the languages from which these are interpreted.
    Relays = ObjectBuilder::new()
        .property_names(Some(text(MAX_LANGUAGE, LANGUAGE_PATTERN)))
        .additional_properties(Some(Ref::from_schema_name(LanguageTag::name())))
        .max_properties(Some(MAX_LANGUAGES));
}

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

fn recording() -> ObjectBuilder {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
}

fn text(longest: usize, pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .min_length(Some(1))
        .max_length(Some(longest))
        .pattern(Some(pattern))
}

fn whole(least: u64, most: u64) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .minimum(Some(least as f64))
        .maximum(Some(most as f64))
}

fn few(item: Cow<'static, str>) -> ArrayBuilder {
    ArrayBuilder::new().items(Ref::from_schema_name(item)).max_items(Some(MAX_LANGUAGES))
}
