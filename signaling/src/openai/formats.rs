//! What a transcription is shown as.

use std::fmt::Write as _;
use std::time::Duration;

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::studio::Transcription;

/// The formats that may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// The text in an object.
    Json,
    /// The text alone.
    Text,
    /// SubRip.
    Srt,
    /// WebVTT.
    Vtt,
    /// The text, its language, and its segments.
    VerboseJson,
}

/// Languages that are written without spaces between sentences.
const WITHOUT_SPACES: &[&str] = &["zh", "ja", "yue", "th", "lo", "my", "km", "bo"];

#[derive(Serialize)]
struct Usage {
    #[serde(rename = "type")]
    kind: &'static str,
    seconds: u64,
}

#[derive(Serialize)]
struct Brief {
    text: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Verbose<'a> {
    task: &'static str,
    language: String,
    duration: f64,
    text: String,
    segments: Vec<Segment<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
struct Segment<'a> {
    id: usize,
    /// Offset of the window that it was found in: hundredths of a second.
    seek: u64,
    start: f64,
    end: f64,
    text: &'a str,
    tokens: &'a [u32],
    temperature: f32,
    avg_logprob: f32,
    compression_ratio: f32,
    no_speech_prob: f32,
}

/// The answer. `task` is `transcribe` or `translate`; `written` is the language of the text.
pub(super) fn answer(
    format: TextFormat,
    task: &'static str,
    written: Option<&str>,
    transcription: &Transcription,
) -> Response {
    let usage =
        Usage { kind: "duration", seconds: transcription.duration.as_secs_f64().ceil() as u64 };
    match format {
        TextFormat::Json => {
            Json(Brief { text: text(written, transcription), usage }).into_response()
        }
        TextFormat::Text => plain(&(text(written, transcription) + "\n")),
        TextFormat::Srt => plain(&srt(transcription)),
        TextFormat::Vtt => plain(&vtt(transcription)),
        TextFormat::VerboseJson => Json(Verbose {
            task,
            language: transcription.language_name.to_lowercase(),
            duration: seconds(transcription.duration),
            text: text(written, transcription),
            segments: segments(transcription),
            usage,
        })
        .into_response(),
    }
}

fn plain(text: &str) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text.to_owned()).into_response()
}

fn text(written: Option<&str>, transcription: &Transcription) -> String {
    let is_unspaced = written.is_some_and(|language| WITHOUT_SPACES.contains(&language));
    let texts: Vec<&str> =
        transcription.segments.iter().map(|segment| segment.text.as_str()).collect();
    texts.join(if is_unspaced { "" } else { " " })
}

fn segments(transcription: &Transcription) -> Vec<Segment<'_>> {
    let segments = transcription.segments.iter().enumerate();
    segments
        .map(|(id, segment)| Segment {
            id,
            seek: segment.start.as_millis() as u64 / 10,
            start: seconds(segment.start),
            end: seconds(segment.end),
            text: &segment.text,
            tokens: &segment.tokens,
            temperature: segment.temperature,
            avg_logprob: segment.average_log_probability,
            compression_ratio: segment.compression_ratio,
            no_speech_prob: segment.no_speech_probability,
        })
        .collect()
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

fn srt(transcription: &Transcription) -> String {
    let mut text = String::new();
    for (index, segment) in transcription.segments.iter().enumerate() {
        let (start, end) = (clock(segment.start, ','), clock(segment.end, ','));
        let words = on_one_line(&segment.text);
        let _ = write!(text, "{}\n{start} --> {end}\n{words}\n\n", index + 1);
    }
    text
}

fn vtt(transcription: &Transcription) -> String {
    let mut text = String::from("WEBVTT\n\n");
    for segment in &transcription.segments {
        let (start, end) = (clock(segment.start, '.'), clock(segment.end, '.'));
        // In WebVTT these two begin markup.
        let words = on_one_line(&segment.text).replace('&', "&amp;").replace('<', "&lt;");
        let _ = write!(text, "{start} --> {end}\n{words}\n\n");
    }
    text
}

/// An arrow would be taken for a time, an empty line for the end of the cue.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace("-->", "->")
}

fn clock(time: Duration, before_milliseconds: char) -> String {
    let ms = time.as_millis();
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}{before_milliseconds}{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::TranscribedSegment;

    fn said(start_ms: u64, end_ms: u64, text: &str) -> TranscribedSegment {
        TranscribedSegment {
            start: Duration::from_millis(start_ms),
            end: Duration::from_millis(end_ms),
            text: text.to_owned(),
            ..TranscribedSegment::default()
        }
    }

    fn two() -> Transcription {
        Transcription {
            segments: vec![
                said(0, 1500, "Hello there."),
                said(3_661_005, 3_662_000, "a < b --> c\n\nd"),
            ],
            ..Transcription::default()
        }
    }

    #[test]
    fn subrip_counts_from_one_and_writes_commas() {
        assert_eq!(
            srt(&two()),
            "1\n00:00:00,000 --> 00:00:01,500\nHello there.\n\n\
             2\n01:01:01,005 --> 01:01:02,000\na < b -> c d\n\n"
        );
    }

    #[test]
    fn webvtt_escapes_what_would_be_markup() {
        assert_eq!(
            vtt(&two()),
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello there.\n\n\
             01:01:01.005 --> 01:01:02.000\na &lt; b -> c d\n\n"
        );
    }

    #[test]
    fn a_language_without_spaces_is_joined_without_them() {
        let two = Transcription {
            segments: vec![said(0, 1, "大家好。"), said(2, 3, "请坐。")],
            ..Transcription::default()
        };
        assert_eq!(text(Some("zh"), &two), "大家好。请坐。");
        assert_eq!(text(Some("en"), &two), "大家好。 请坐。");
    }
}
