//! The contract of the audio part of OpenAI's interface. The end-to-end tests hold it with the
//! official client.
#![allow(clippy::unwrap_used)]

mod fake_studio;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use fake_studio::{FakeStudio, Reply, send};
use serde_json::{Value, json};
use signaling::studio::SpeechFormat;
use signaling::wire::{CreateToken, Grants};
use signaling::{ApiConfig, mint_token, openai};

const API_KEY: &str = "0123456789abcdef0123456789abcdef";

struct Face {
    studio: Arc<FakeStudio>,
    router: Router,
    config: ApiConfig,
}

impl Face {
    fn new() -> Self {
        let studio = Arc::new(FakeStudio::default());
        let config = ApiConfig::new(API_KEY, None, false).unwrap();
        Self { router: openai::router(Arc::clone(&studio), config.clone()), studio, config }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<Body>,
    ) -> Reply {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {API_KEY}"));
        send(&self.router, request.header("content-type", kind).body(body.into()).unwrap()).await
    }

    async fn upload(&self, path: &str, file: &[u8], fields: &[(&str, &str)]) -> Reply {
        let body = form(file, fields);
        self.request(Method::POST, path, "multipart/form-data; boundary=b", body).await
    }

    async fn transcribe(&self, fields: &[(&str, &str)]) -> Reply {
        self.upload("/v1/audio/transcriptions", b"RIFF", fields).await
    }

    async fn speak(&self, body: Value) -> Reply {
        let body = body.to_string();
        self.request(Method::POST, "/v1/audio/speech", "application/json", body).await
    }
}

fn form(file: &[u8], fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend_from_slice(
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .as_bytes(),
        );
    }
    let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../a b.wav\"\r\n\
                Content-Type: audio/wav\r\n\r\n";
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--b--\r\n");
    body
}

/// Checks the form of an error and gives its message.
fn refused(reply: &Reply, status: u16, param: Value, code: Value) -> String {
    let body = reply.json();
    let error = &body["error"];
    let seen = (reply.status.as_u16(), error["param"].clone(), error["code"].clone());
    assert_eq!(seen, (status, param, code), "{body}");
    assert!(error["type"].is_string());
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_recording_is_written_down_and_its_file_is_removed() {
    let face = Face::new();
    let reply = face.transcribe(&[("model", "whisper-1"), ("prompt", "ignored")]).await;
    assert_eq!(
        reply.json(),
        json!({ "text": "Hola. ¿Qué tal?", "usage": { "type": "duration", "seconds": 5 } })
    );
    assert_eq!(*face.studio.recording.lock().unwrap(), b"RIFF");
    let asked = face.studio.transcribed.lock().unwrap().clone().unwrap();
    assert_eq!((asked.language, asked.translate_to, asked.temperature), (None, None, 0.0));
    assert_eq!(asked.path.extension().unwrap(), "wav");
    assert!(!asked.path.exists(), "{} is left over", asked.path.display());
}

#[tokio::test]
async fn verbose_json_tells_segments_in_seconds() {
    let face = Face::new();
    let reply = face
        .transcribe(&[
            ("model", "whisper-tiny"),
            ("response_format", "verbose_json"),
            ("timestamp_granularities[]", "segment"),
            ("language", "es"),
            ("temperature", "0.4"),
        ])
        .await;
    let body = reply.json();
    assert_eq!(
        (&body["task"], &body["language"], &body["duration"]),
        (&json!("transcribe"), &json!("spanish"), &json!(4.25))
    );
    assert_eq!(
        body["segments"][1],
        json!({
            "id": 1, "seek": 200, "start": 2.0, "end": 4.0, "text": "¿Qué tal?", "tokens": [7, 8],
            "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.5,
            "no_speech_prob": 0.125,
        })
    );
    let asked = face.studio.transcribed.lock().unwrap().clone().unwrap();
    assert_eq!((asked.language.as_deref(), asked.temperature), (Some("es"), 0.4));
}

#[tokio::test]
async fn text_and_subtitles_are_plain_text() {
    let face = Face::new();
    for (format, expected) in [
        ("text", "Hola. ¿Qué tal?\n"),
        (
            "srt",
            "1\n00:00:00,250 --> 00:00:01,500\nHola.\n\n\
             2\n00:00:02,000 --> 00:00:04,000\n¿Qué tal?\n\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.250 --> 00:00:01.500\nHola.\n\n\
             00:00:02.000 --> 00:00:04.000\n¿Qué tal?\n\n",
        ),
    ] {
        let reply = face.transcribe(&[("model", "whisper-1"), ("response_format", format)]).await;
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(reply.text(), expected);
    }
}

#[tokio::test]
async fn a_translation_is_asked_for_in_english() {
    let face = Face::new();
    let fields = [("model", "whisper-1"), ("response_format", "verbose_json")];
    let reply = face.upload("/v1/audio/translations", b"RIFF", &fields).await;
    assert_eq!(reply.json()["task"], "translate");
    let asked = face.studio.transcribed.lock().unwrap().clone().unwrap();
    assert_eq!(asked.translate_to.as_deref(), Some("en"));
}

#[tokio::test]
async fn what_a_form_lacks_or_has_wrong_is_named() {
    let face = Face::new();
    let model = ("model", "whisper-1");
    for (fields, param) in [
        (vec![], "model"),
        (vec![model, ("response_format", "xml")], "response_format"),
        (vec![model, ("temperature", "2")], "temperature"),
        (vec![model, ("language", "xx")], "language"),
        (
            vec![
                model,
                ("timestamp_granularities[]", "segment"),
                ("timestamp_granularities[]", "word"),
            ],
            "timestamp_granularities",
        ),
    ] {
        refused(&face.transcribe(&fields).await, 400, json!(param), Value::Null);
    }
    let unknown = face.transcribe(&[("model", "voice")]).await;
    refused(&unknown, 404, json!("model"), json!("model_not_found"));
    let kind = "multipart/form-data; boundary=b";
    let path = "/v1/audio/transcriptions";
    let without = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx\r\n--b--\r\n";
    let reply = face.request(Method::POST, path, kind, without).await;
    refused(&reply, 400, json!("file"), Value::Null);
    let reply = face.request(Method::POST, path, kind, "--b\r\nbroken").await;
    refused(&reply, 400, Value::Null, Value::Null);
    let reply = face.request(Method::POST, path, "application/json", "{}").await;
    refused(&reply, 400, Value::Null, Value::Null);
    for file in [b"".as_slice(), b"not audio at all"] {
        refused(&face.upload(path, file, &[model]).await, 400, json!("file"), Value::Null);
    }
}

#[tokio::test]
async fn a_recording_above_25_mb_is_refused_in_the_originals_words() {
    let face = Face::new();
    let limit = 25 << 20;
    let path = "/v1/audio/transcriptions";
    let reply = face.upload(path, &vec![0; limit + 1], &[("model", "whisper-1")]).await;
    let message = refused(&reply, 413, Value::Null, Value::Null);
    assert_eq!(message, "Maximum content size limit (26214400) exceeded (26214401 bytes read)");
    let announced = Request::post(path)
        .header("authorization", format!("Bearer {API_KEY}"))
        .header("content-type", "multipart/form-data; boundary=b")
        .header("content-length", "30000000")
        .body(Body::empty());
    let reply = send(&face.router, announced.unwrap()).await;
    refused(&reply, 413, Value::Null, Value::Null);
    assert!(face.studio.transcribed.lock().unwrap().is_none());
    let reply = face.upload(path, &vec![0; limit], &[("model", "whisper-1")]).await;
    assert_eq!(reply.status, 200, "exactly the limit is allowed");
}

#[tokio::test]
async fn speech_is_streamed_in_the_format_asked_for() {
    let face = Face::new();
    for (format, content_type, expected) in [
        (json!("wav"), "audio/wav", SpeechFormat::Wav),
        (json!("pcm"), "audio/pcm", SpeechFormat::Pcm),
        (json!("opus"), "audio/opus", SpeechFormat::OggOpus),
        (Value::Null, "audio/wav", SpeechFormat::Wav),
    ] {
        let asked = json!({
            "model": "tts-1", "input": "Hola.", "voice": "alloy", "response_format": format,
            "speed": 1.5, "instructions": "ignored"
        });
        let reply = face.speak(asked).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, content_type));
        assert_eq!(reply.body, [1, 2, 3]);
        let spoken = face.studio.spoken.lock().unwrap().clone().unwrap();
        assert_eq!((spoken.format, spoken.voice, spoken.speed), (expected, None, 1.5));
    }
    let asked = json!({
        "model": "voice", "input": "Hola.", "voice": { "id": "ef_dora" }, "language": "es"
    });
    assert_eq!(face.speak(asked).await.status, 200);
    let spoken = face.studio.spoken.lock().unwrap().clone().unwrap();
    assert_eq!(
        (spoken.voice.as_deref(), spoken.language.as_deref()),
        (Some("ef_dora"), Some("es"))
    );
}

#[tokio::test]
async fn what_a_speech_lacks_or_has_wrong_is_named() {
    let face = Face::new();
    let good = json!({ "model": "tts-1", "input": "Hola.", "voice": "alloy" });
    for (field, value) in [
        ("model", Value::Null),
        ("input", json!("  ")),
        ("input", json!("x".repeat(4097))),
        ("voice", Value::Null),
        ("voice", json!("nobody")),
        ("speed", json!(9)),
        ("response_format", json!("mp3")),
        ("response_format", json!("flac")),
        ("stream_format", json!("sse")),
    ] {
        let mut asked = good.clone();
        asked[field] = value;
        let message = refused(&face.speak(asked).await, 400, json!(field), Value::Null);
        if field == "response_format" {
            assert!(message.contains("wav, opus or pcm"), "{message}");
        }
    }
    let mut unknown = good.clone();
    unknown["model"] = json!("whisper-1");
    refused(&face.speak(unknown).await, 404, json!("model"), json!("model_not_found"));
    for body in ["{", "[]", "{\"input\": 7}"] {
        let reply = face.request(Method::POST, "/v1/audio/speech", "application/json", body).await;
        refused(&reply, 400, Value::Null, Value::Null);
    }
}

#[tokio::test]
async fn a_voice_that_fails_at_once_is_an_error_and_later_a_broken_stream() {
    let face = Face::new();
    let ask = |text: &str| json!({ "model": "tts-1", "input": text, "voice": "alloy" });
    let message = refused(&face.speak(ask("fail")).await, 500, Value::Null, Value::Null);
    assert!(!message.contains("secret"), "{message}");
    face.studio.breaks_off.store(true, Ordering::Relaxed);
    let reply = face.speak(ask("Hola.")).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0), "the body broke off");
}

#[tokio::test]
async fn a_full_studio_says_when_to_come_back() {
    let face = Face::new();
    face.studio.overloaded.store(true, Ordering::Relaxed);
    let transcription = face.transcribe(&[("model", "whisper-1")]).await;
    let speech = face.speak(json!({ "model": "tts-1", "input": "a", "voice": "alloy" })).await;
    for reply in [transcription, speech] {
        refused(&reply, 503, Value::Null, json!("overloaded"));
        assert_eq!(reply.header("retry-after"), "7");
    }
}

#[tokio::test]
async fn only_the_servers_key_and_admin_tokens_open_the_models() {
    let face = Face::new();
    let ask = async |authorization: Option<String>| {
        let mut request = Request::get("/v1/models");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        send(&face.router, request.body(Body::empty()).unwrap()).await
    };
    let missing = ask(None).await;
    refused(&missing, 401, Value::Null, Value::Null);
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    refused(&ask(Some("Bearer wrong".into())).await, 401, Value::Null, json!("invalid_api_key"));
    let participant = CreateToken {
        identity: "ana".to_owned(),
        name: None,
        language: "es".to_owned(),
        hear: None,
        voice: None,
        grants: Grants::default(),
        ttl_s: Some(60),
    };
    let token = mint_token(face.config.token_key(), "desk", &participant).unwrap().token;
    let reply = ask(Some(format!("Bearer {token}"))).await;
    refused(&reply, 403, Value::Null, json!("insufficient_permissions"));
}

#[tokio::test]
async fn models_are_listed_with_the_names_that_programs_ask_for() {
    let face = Face::new();
    let listed = face.request(Method::GET, "/v1/models", "", "").await.json();
    let names: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    for name in ["whisper-1", "whisper-tiny", "tts-1", "voice"] {
        assert!(names.contains(&json!(name)), "{names:?}");
    }
    let one = face.request(Method::GET, "/v1/models/whisper-1", "", "").await.json();
    assert_eq!(
        one,
        json!({ "id": "whisper-1", "object": "model", "created": 0, "owned_by": "dragoman" })
    );
    let none = face.request(Method::GET, "/v1/models/gpt", "", "").await;
    refused(&none, 404, json!("model"), json!("model_not_found"));
}

#[tokio::test]
async fn another_method_is_an_error_in_the_same_form() {
    let face = Face::new();
    let reply = face.request(Method::GET, "/v1/audio/speech", "", "").await;
    refused(&reply, 405, Value::Null, json!("method_not_supported"));
    let preflight = Request::builder().method(Method::OPTIONS).uri("/v1/audio/speech");
    let reply = send(&face.router, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (200, "POST, OPTIONS"));
}
