//! A studio without models, for the tests of the compatible faces.
#![allow(dead_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use signaling::studio::{
    DetectedLanguage, ModelKind, SpeakText, Speech, Studio, StudioError, StudioModel,
    TranscribeFile, TranscribedSegment, Transcription, TranslateTexts, TranslatedText,
};
use signaling::wire::{LanguageInfo, VoiceInfo};
use tower::ServiceExt;

/// Translates `hola` into `[en] hola`, and hears two sentences in every recording.
#[derive(Default)]
pub struct FakeStudio {
    pub overloaded: AtomicBool,
    pub breaks_off: AtomicBool,
    /// What was asked last.
    pub transcribed: Mutex<Option<TranscribeFile>>,
    pub recording: Mutex<Vec<u8>>,
    pub spoken: Mutex<Option<SpeakText>>,
}

impl FakeStudio {
    fn admit(&self) -> Result<(), StudioError> {
        if self.overloaded.load(Ordering::Relaxed) {
            return Err(StudioError::Overloaded { retry_after_s: 7 });
        }
        Ok(())
    }
}

fn language(code: &str, name: &str, targets: &[&str]) -> LanguageInfo {
    let targets = targets.iter().map(ToString::to_string).collect();
    LanguageInfo { code: code.to_owned(), name: name.to_owned(), targets, own_voice: Vec::new() }
}

impl Studio for FakeStudio {
    fn text_languages(&self) -> Vec<LanguageInfo> {
        vec![
            language("en", "English", &["zh", "es"]),
            language("es", "Spanish", &["en"]),
            language("pt", "Portuguese", &["en"]),
            language("zh", "Chinese", &["en"]),
        ]
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        Vec::new()
    }

    fn models(&self) -> Vec<StudioModel> {
        vec![
            StudioModel { name: "whisper-tiny".to_owned(), kind: ModelKind::Recogniser },
            StudioModel { name: "voice".to_owned(), kind: ModelKind::Voice },
        ]
    }

    fn detect_text(&self, text: &str) -> Vec<DetectedLanguage> {
        let found = |code: &str, confidence| DetectedLanguage { code: code.to_owned(), confidence };
        if text.contains("hola") {
            vec![found("es", 0.904), found("pt", 0.05)]
        } else if text.contains("你好") {
            vec![found("zh", 1.0)]
        } else if text.contains(char::is_alphabetic) {
            vec![found("en", 0.8)]
        } else {
            Vec::new()
        }
    }

    async fn translate(&self, request: TranslateTexts) -> Result<Vec<TranslatedText>, StudioError> {
        self.admit()?;
        let to = request.to;
        let translated = |text: String| match text.as_str() {
            "break" => Err(StudioError::Internal("a secret path".to_owned())),
            "panic" => panic!("a defect that knows a secret"),
            _ => Ok(TranslatedText {
                alternatives: (1..=request.alternatives.min(1))
                    .map(|number| format!("[{to}.{number}] {text}"))
                    .collect(),
                text: format!("[{to}] {text}"),
            }),
        };
        request.texts.into_iter().map(translated).collect()
    }

    async fn transcribe(&self, request: TranscribeFile) -> Result<Transcription, StudioError> {
        self.admit()?;
        *self.recording.lock().unwrap() = std::fs::read(&request.path).unwrap();
        let language = request.language.clone().unwrap_or_else(|| "es".to_owned());
        *self.transcribed.lock().unwrap() = Some(request);
        if language == "xx" {
            let detail = "unknown language".to_owned();
            return Err(StudioError::Invalid { field: "language", detail });
        }
        if self.recording.lock().unwrap().starts_with(b"not audio") {
            return Err(StudioError::BadRecording("Invalid file format.".to_owned()));
        }
        let segment = |start: u64, end: u64, text: &str| TranscribedSegment {
            start: Duration::from_millis(start),
            end: Duration::from_millis(end),
            text: text.to_owned(),
            tokens: vec![7, 8],
            temperature: 0.0,
            average_log_probability: -0.25,
            compression_ratio: 1.5,
            no_speech_probability: 0.125,
        };
        Ok(Transcription {
            language: Some(language),
            language_name: "Spanish".to_owned(),
            duration: Duration::from_millis(4250),
            segments: vec![segment(250, 1500, "Hola."), segment(2000, 4000, "¿Qué tal?")],
        })
    }

    async fn speak(&self, request: SpeakText) -> Result<Speech, StudioError> {
        self.admit()?;
        if request.voice.as_deref() == Some("nobody") {
            let detail = "there is no voice \"nobody\"".to_owned();
            return Err(StudioError::Invalid { field: "voice", detail });
        }
        let (chunks, speech) = tokio::sync::mpsc::channel(4);
        let failed = || StudioError::Internal("a secret path".to_owned());
        if request.text != "fail" {
            chunks.try_send(Ok(vec![1, 2])).unwrap();
        }
        let broken = self.breaks_off.load(Ordering::Relaxed) || request.text == "fail";
        chunks.try_send(if broken { Err(failed()) } else { Ok(vec![3]) }).unwrap();
        *self.spoken.lock().unwrap() = Some(request);
        Ok(speech)
    }
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

pub async fn send(router: &Router, request: Request<Body>) -> Reply {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default().to_vec();
    Reply { status: parts.status, headers: parts.headers, body }
}
