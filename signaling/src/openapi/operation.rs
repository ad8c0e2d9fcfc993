//! What the document says of one operation. What all have in common (the limits, the id of a
//! request, what goes wrong with any body) is added here and not said again at each.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::link::Link;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{
    AllOfBuilder, ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type,
};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    Content, ContentBuilder, Header, Ref, RefOr, Required, Response, ResponseBuilder,
};

use super::shapes::{Identity, LearnedVoiceName, RoomName, SessionId};
use crate::problem::{Kind, PROBLEM_JSON};
use crate::wire::Problem;

/// Schemas by their names.
pub(crate) type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Anybody, as often as they like.
    Health,
    /// Anybody.
    Nobody,
    /// The API key, an admin token, or the token of a service.
    Key,
    /// Those, or the token of a participant.
    KeyOrToken,
    /// The token of a participant.
    Token,
    /// As [`Asks::KeyOrToken`], and the token may stand in the address.
    KeyOrTokenInAddress,
}

/// One operation.
pub(crate) struct Doc {
    operation: OperationBuilder,
    kinds: BTreeSet<Kind>,
    answers: Vec<(u16, ResponseBuilder)>,
    body: Option<RequestBodyBuilder>,
    media_types: Vec<&'static str>,
    schemas: Schemas,
}

/// What an operation answers when all is well.
pub(crate) struct Answer {
    status: u16,
    response: ResponseBuilder,
    schemas: Schemas,
}

impl Doc {
    /// `id` names it in clients that are made from the document.
    pub(crate) fn new(id: &str, tag: &str, summary: &str, about: &str, asks: Asks) -> Self {
        let operation = OperationBuilder::new()
            .operation_id(Some(id))
            .tag(tag)
            .summary(Some(summary))
            .description(Some(about));
        let mut kinds = BTreeSet::from([Kind::Internal, Kind::TooManyRequests]);
        let mut schemes: Vec<&str> = Vec::new();
        match asks {
            Asks::Health => {
                kinds.clear();
            }
            Asks::Nobody => {}
            Asks::Key => schemes.push("key"),
            Asks::KeyOrToken => schemes.extend(["key", "token"]),
            Asks::Token => schemes.push("token"),
            Asks::KeyOrTokenInAddress => schemes.extend(["key", "token", "address"]),
        }
        if !schemes.is_empty() {
            kinds.extend([
                Kind::MissingCredentials,
                Kind::InvalidToken,
                Kind::TokenRevoked,
                Kind::Forbidden,
            ]);
        }
        let securities =
            schemes.iter().map(|name| SecurityRequirement::new(*name, std::iter::empty::<&str>()));
        let operation = operation.securities(Some(securities));
        let (answers, body, media_types, schemas) = Default::default();
        Self { operation, kinds, answers, body, media_types, schemas }
    }

    /// A parameter behind the question mark, of a named shape.
    pub(crate) fn query<T: ToSchema>(self, name: &str, about: &str) -> Self {
        let schema = reference::<T>();
        let mut with = self.query_as(name, about, schema);
        collect::<T>(&mut with.schemas);
        with
    }

    /// A parameter behind the question mark.
    pub(crate) fn query_as(
        self,
        name: &str,
        about: &str,
        schema: impl Into<RefOr<Schema>>,
    ) -> Self {
        self.parameter(ParameterIn::Query, name, about, schema, Required::False)
    }

    /// A header of the request.
    pub(crate) fn header(self, name: &str, about: &str, required: Required) -> Self {
        self.parameter(ParameterIn::Header, name, about, string(), required)
    }

    fn parameter(
        mut self,
        place: ParameterIn,
        name: &str,
        about: &str,
        schema: impl Into<RefOr<Schema>>,
        required: Required,
    ) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .description(Some(about))
            .required(required)
            .schema(Some(schema));
        self.operation = self.operation.parameter(parameter);
        self
    }

    /// A JSON body.
    pub(crate) fn takes<T: ToSchema>(mut self, example: Value) -> Self {
        collect::<T>(&mut self.schemas);
        let content =
            ContentBuilder::new().schema(Some(reference::<T>())).example(Some(example)).build();
        self.kinds.extend([Kind::BadJson, Kind::InvalidField]);
        self.body("application/json", content)
    }

    /// A body that is text.
    pub(crate) fn takes_text(self, media_type: &'static str, example: &str) -> Self {
        let schema = string().min_length(Some(1)).build();
        let content =
            ContentBuilder::new().schema(Some(schema)).example(Some(example.into())).build();
        self.body(media_type, content)
    }

    /// A body that is a form; files stand in the example as curl takes them, `@name`.
    pub(crate) fn takes_form<T: ToSchema>(mut self, example: Value) -> Self {
        collect::<T>(&mut self.schemas);
        let content =
            ContentBuilder::new().schema(Some(reference::<T>())).example(Some(example)).build();
        self.kinds.insert(Kind::InvalidField);
        self.body("multipart/form-data", content)
    }

    fn body(mut self, media_type: &'static str, content: Content) -> Self {
        self.kinds.extend([
            Kind::BadRequest,
            Kind::BodyTooLarge,
            Kind::RequestTimeout,
            Kind::UnsupportedMediaType,
        ]);
        let body = self.body.take().unwrap_or_default().required(Some(Required::True));
        self.body = Some(body.content(media_type, content));
        self.media_types.push(media_type);
        self
    }

    /// What it answers when all is well.
    pub(crate) fn answers(mut self, answer: Answer) -> Self {
        self.schemas.extend(answer.schemas);
        self.answers.push((answer.status, answer.response));
        self
    }

    /// What else may go wrong.
    pub(crate) fn problems(mut self, kinds: &[Kind]) -> Self {
        self.kinds.extend(kinds);
        self
    }

    /// Media types of the body.
    pub(super) fn media_types(&self) -> &[&'static str] {
        &self.media_types
    }

    /// The operation at `path`, and the schemas that it refers to.
    pub(super) fn finish(mut self, path: &str) -> (OperationBuilder, Schemas) {
        for name in names_in(path) {
            let (schema, about, kind) = match name {
                "room" => {
                    (shape::<RoomName>(&mut self.schemas), "Name of the room.", Kind::NoSuchRoom)
                }
                "session" => (
                    shape::<SessionId>(&mut self.schemas),
                    "Id of the session.",
                    Kind::NoSuchSession,
                ),
                "voice" => (
                    shape::<LearnedVoiceName>(&mut self.schemas),
                    "Name of the voice.",
                    Kind::NoSuchVoice,
                ),
                _ => (
                    shape::<Identity>(&mut self.schemas),
                    "Identity of the participant.",
                    Kind::NoSuchParticipant,
                ),
            };
            self.kinds.insert(kind);
            self = self.parameter(ParameterIn::Path, name, about, schema, Required::True);
        }
        collect::<Problem>(&mut self.schemas);
        let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
        for kind in &self.kinds {
            by_status.entry(kind.describe().0.as_u16()).or_default().push(*kind);
        }
        let mut operation = self.operation;
        for (status, response) in self.answers {
            operation = operation.response(status.to_string(), everywhere(response));
        }
        for (status, kinds) in by_status {
            operation = operation.response(status.to_string(), problem(status, &kinds));
        }
        (operation.request_body(self.body.map(Into::into)), self.schemas)
    }
}

impl Answer {
    /// Without a body, until one is named.
    pub(crate) fn new(status: u16, about: &str) -> Self {
        Self {
            status,
            response: ResponseBuilder::new().description(about),
            schemas: Schemas::new(),
        }
    }

    /// A JSON body.
    pub(crate) fn json<T: ToSchema>(mut self) -> Self {
        collect::<T>(&mut self.schemas);
        self.content("application/json", reference::<T>())
    }

    /// A JSON array.
    pub(crate) fn list<T: ToSchema>(mut self) -> Self {
        collect::<T>(&mut self.schemas);
        let list = ArrayBuilder::new().items(reference::<T>()).build();
        self.content("application/json", Schema::from(list))
    }

    /// A body of another type.
    pub(crate) fn content(mut self, media_type: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.response = self.response.content(media_type, Content::new(Some(schema)));
        self
    }

    /// A schema that its text refers to.
    pub(crate) fn speaks_of<T: ToSchema>(mut self) -> Self {
        collect::<T>(&mut self.schemas);
        self
    }

    /// A header of the answer.
    pub(crate) fn header(mut self, name: &str, about: &str) -> Self {
        self.response = self.response.header(name, text_header(about));
        self
    }

    /// What can be done next.
    pub(crate) fn link(mut self, name: &str, link: Link) -> Self {
        self.response = self.response.link(name, link);
        self
    }
}

/// A string, to be narrowed.
pub(crate) fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String))
}

/// One of these words.
pub(crate) fn one_of<W: Into<Value>>(words: impl IntoIterator<Item = W>) -> ObjectBuilder {
    string().enum_values(Some(words))
}

/// The names in braces.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

fn shape<T: ToSchema>(schemas: &mut Schemas) -> RefOr<Schema> {
    collect::<T>(schemas);
    reference::<T>()
}

fn collect<T: ToSchema>(schemas: &mut Schemas) {
    let mut inner = Vec::new();
    T::schemas(&mut inner);
    schemas.extend(inner);
    schemas.insert(T::name().into_owned(), T::schema());
}

fn text_header(about: &str) -> Header {
    HeaderBuilder::new().schema(string()).description(Some(about)).build()
}

/// What every answer carries.
fn everywhere(response: ResponseBuilder) -> Response {
    response.header("X-Request-Id", text_header("Names the request in the server's log.")).build()
}

/// The problems of one status.
fn problem(status: u16, kinds: &[Kind]) -> Response {
    let references = kinds.iter().map(|kind| kind.reference());
    let narrowed = ObjectBuilder::new().property("type", one_of(references)).property(
        "status",
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .enum_values(Some([status])),
    );
    let schema = AllOfBuilder::new().item(reference::<Problem>()).item(narrowed).build();
    let example = kinds.first().map(|kind| {
        json!({
            "type": kind.reference(), "title": kind.describe().2, "status": status,
            "detail": "What happened here, and what to do about it.",
        })
    });
    let content = ContentBuilder::new().schema(Some(Schema::from(schema))).example(example).build();
    let lines = kinds.iter().map(|kind| {
        let (_, slug, title) = kind.describe();
        format!("`{slug}`: {title}.")
    });
    let mut response = ResponseBuilder::new()
        .description(lines.collect::<Vec<_>>().join("\n\n"))
        .content(PROBLEM_JSON, content);
    let header: Option<(&str, Cow<'_, str>)> = match status {
        401 => Some(("WWW-Authenticate", "`Bearer`, with an error code (RFC 6750 §3).".into())),
        429 | 503 => Some(("Retry-After", "Seconds to wait before the next request.".into())),
        _ => None,
    };
    if let Some((name, about)) = header {
        response = response.header(name, text_header(&about));
    }
    everywhere(response)
}
