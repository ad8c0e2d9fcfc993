//! A small client of the HTTP face: what a back office (rooms, tokens) and a caller (sessions)
//! need. Problems (RFC 9457) come back as errors that say what the server said.

use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use signaling::wire::{CreateRoom, CreateToken, Grants, Problem, Room, Token};

/// Longest piece of an unexpected answer that is quoted.
const MAX_QUOTE: usize = 200;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answers at the address, or the connection broke.
    #[error("cannot reach {address}: is the server running there?")]
    Unreachable {
        /// What was asked, without its parameters.
        address: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server refused, and said why.
    #[error("the server refused ({}, {}): {}", .0.status, .0.kind, .0.detail)]
    Refused(Problem),
    /// The answer is not what Dragoman answers.
    #[error("{address} answered {status} with {quote:?}: is it a Dragoman server?")]
    Unexpected {
        /// What was asked.
        address: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        quote: String,
    },
}

impl ApiError {
    /// The problem's slug (`no-such-room`), when the server refused.
    #[must_use]
    pub fn slug(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => problem.kind.strip_prefix("/problems/"),
            _ => None,
        }
    }
}

/// A session as the server answered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The SDP answer.
    pub answer_sdp: String,
    /// Path of the session, from `Location`.
    pub location: String,
    /// Entity tag, as it stood in the header.
    pub etag: Option<String>,
}

/// A client with one set of credentials.
#[derive(Clone)]
pub struct Api {
    server: String,
    credential: String,
    http: reqwest::Client,
}

impl Api {
    /// `server` is an address such as `http://127.0.0.1:8080`; `credential` is the API key, an
    /// admin token or a participant's token.
    #[must_use]
    pub fn new(server: &str, credential: &str) -> Self {
        Self {
            server: server.trim_end_matches('/').to_owned(),
            credential: credential.to_owned(),
            http: reqwest::Client::new(),
        }
    }

    /// The address it was made with, without a slash at its end.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// `POST /v1/rooms`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn create_room(&self, request: &CreateRoom) -> Result<Room, ApiError> {
        self.post_json("/v1/rooms", request).await
    }

    /// `GET /v1/rooms`: tells as well whether the credentials are any good.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn rooms(&self) -> Result<Vec<Room>, ApiError> {
        let response = self.send("/v1/rooms", self.request(Method::GET, "/v1/rooms")).await?;
        self.read_json("/v1/rooms", response).await
    }

    /// `GET /v1/rooms/{room}`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn room(&self, room: &str) -> Result<Room, ApiError> {
        let path = format!("/v1/rooms/{room}");
        let response = self.send(&path, self.request(Method::GET, &path)).await?;
        self.read_json(&path, response).await
    }

    /// `DELETE /v1/rooms/{room}`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn delete_room(&self, room: &str) -> Result<(), ApiError> {
        let path = format!("/v1/rooms/{room}");
        self.send(&path, self.request(Method::DELETE, &path)).await.map(drop)
    }

    /// `POST /v1/rooms/{room}/tokens`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn mint_token(&self, room: &str, request: &CreateToken) -> Result<Token, ApiError> {
        self.post_json(&format!("/v1/rooms/{room}/tokens"), request).await
    }

    /// A token for a participant who speaks and hears one language, good for a day.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn admit(
        &self,
        room: &str,
        identity: &str,
        language: &str,
    ) -> Result<String, ApiError> {
        let request = CreateToken {
            identity: identity.to_owned(),
            name: None,
            language: language.to_owned(),
            hear: None,
            voice: None,
            grants: Grants::default(),
            ttl_s: Some(24 * 3600),
        };
        Ok(self.mint_token(room, &request).await?.token)
    }

    /// `GET /readyz`: an error ([`ApiError::Refused`], `not-ready`) while models load.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn ready(&self) -> Result<(), ApiError> {
        self.send("/readyz", self.request(Method::GET, "/readyz")).await.map(drop)
    }

    /// `POST /v1/audio/transcriptions`: what is said in a WAV file.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn transcribe(&self, wav: Vec<u8>, language: &str) -> Result<String, ApiError> {
        #[derive(serde::Deserialize)]
        struct Transcription {
            text: String,
        }
        let path = "/v1/audio/transcriptions";
        let form = Form::new()
            .text("model", "whisper-1")
            .text("language", language.to_owned())
            .part("file", Part::bytes(wav).file_name("heard.wav"));
        let response = self.send(path, self.request(Method::POST, path).multipart(form)).await?;
        let transcription: Transcription = self.read_json(path, response).await?;
        Ok(transcription.text)
    }

    /// `POST /v1/rooms/{room}/sessions` with an SDP offer.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn open_session(&self, room: &str, offer_sdp: String) -> Result<Session, ApiError> {
        let path = format!("/v1/rooms/{room}/sessions");
        let request = self
            .request(Method::POST, &path)
            .header(header::CONTENT_TYPE, "application/sdp")
            .body(offer_sdp);
        let response = self.send(&path, request).await?;
        let status = response.status();
        let text_of = |name: header::HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (location, etag) = (text_of(header::LOCATION), text_of(header::ETAG));
        let answer_sdp = response.text().await.map_err(|source| self.unreachable(&path, source))?;
        match location {
            Some(location) if status == StatusCode::CREATED => {
                Ok(Session { answer_sdp, location, etag })
            }
            _ => Err(self.unexpected(&path, status, &answer_sdp)),
        }
    }

    /// `DELETE` on a session's location.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn close_session(&self, location: &str) -> Result<(), ApiError> {
        self.send(location, self.request(Method::DELETE, location)).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.address(path)).bearer_auth(&self.credential)
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let response = self.send(path, self.request(Method::POST, path).json(body)).await?;
        self.read_json(path, response).await
    }

    /// Sends, and turns every status that is not a success into an error.
    async fn send(&self, path: &str, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = request.send().await.map_err(|source| self.unreachable(path, source))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.map_err(|source| self.unreachable(path, source))?;
        match serde_json::from_str::<Problem>(&body) {
            Ok(problem) => Err(ApiError::Refused(problem)),
            Err(_) => Err(self.unexpected(path, status, &body)),
        }
    }

    async fn read_json<T: DeserializeOwned>(
        &self,
        path: &str,
        response: Response,
    ) -> Result<T, ApiError> {
        let status = response.status();
        let body = response.text().await.map_err(|source| self.unreachable(path, source))?;
        serde_json::from_str(&body).map_err(|_| self.unexpected(path, status, &body))
    }

    fn unreachable(&self, path: &str, source: reqwest::Error) -> ApiError {
        ApiError::Unreachable { address: self.address(path), source: source.without_url() }
    }

    fn unexpected(&self, path: &str, status: StatusCode, body: &str) -> ApiError {
        let quote = body.chars().take(MAX_QUOTE).collect();
        ApiError::Unexpected { address: self.address(path), status: status.as_u16(), quote }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Api").field("server", &self.server).finish_non_exhaustive()
    }
}
