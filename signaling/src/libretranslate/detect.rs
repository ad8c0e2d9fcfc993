//! `POST /detect`, and detection for `/translate`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::answers::{self, Refusal};
use super::fields::{Query, code_out};
use super::{Face, Read};
use crate::studio::Studio;

/// What is said of a text in no known language.
const DEFAULT: &str = "en";

/// A language as the interface shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Detection {
    /// 0 to 100, a whole number.
    pub(super) confidence: f64,
    /// Code, in the interface's form.
    pub(super) language: String,
}

/// `POST /detect`.
pub(super) async fn detect<S: Studio>(
    State(face): State<Arc<Face<S>>>,
    Extension(fields): Read,
) -> Result<Response, Refusal> {
    let found = candidates(&*face.studio, &fields.query()?);
    let shown: Vec<Detection> = found
        .into_iter()
        .map(|found| Detection { language: code_out(&found.language), ..found })
        .collect();
    Ok(answers::json(&shown))
}

/// The languages of a query, likeliest first and never none; codes in the models' form. Several texts
/// vote: the mean confidence of a language, and the characters that speak for it.
pub(super) fn candidates(studio: &impl Studio, query: &Query) -> Vec<Detection> {
    let mut votes: Vec<(String, Vec<(f64, usize)>)> = Vec::new();
    for text in query.texts() {
        let characters = text.chars().count();
        let mut found = studio.detect_text(text);
        if found.is_empty() {
            let nothing = crate::studio::DetectedLanguage { code: DEFAULT.into(), confidence: 0.0 };
            found.push(nothing);
        }
        for language in found {
            let vote = (f64::from(language.confidence * 100.0).round(), characters);
            match votes.iter_mut().find(|(code, _)| *code == language.code) {
                Some((_, of_language)) => of_language.push(vote),
                None => votes.push((language.code, vec![vote])),
            }
        }
    }
    let mut weighed: Vec<(f64, Detection)> = votes
        .into_iter()
        .map(|(language, votes)| {
            let mean = votes.iter().map(|vote| vote.0).sum::<f64>() / votes.len() as f64;
            let characters = votes.iter().map(|vote| vote.1).sum::<usize>() as f64;
            (mean * characters, Detection { confidence: mean, language })
        })
        .collect();
    weighed.sort_by(|a, b| b.0.total_cmp(&a.0));
    weighed.into_iter().map(|(_, detection)| detection).collect()
}
