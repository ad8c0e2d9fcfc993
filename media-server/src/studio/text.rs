//! Written text through the ladder of translators, sentence by sentence.

use inference::translate::sentences::{self, Piece};
use inference::translate::{Ladder, TranslateError, TranslateRequest};
use inference::{CancelToken, Language};
use signaling::studio::{StudioError, TranslatedText};

use super::manners;

/// The translation of a text, and up to `alternatives` others: what the lower rungs say.
pub(super) fn translate(
    ladder: &Ladder,
    text: &str,
    from: Language,
    to: Language,
    alternatives: usize,
    cancel: &CancelToken,
) -> Result<TranslatedText, StudioError> {
    if from == to {
        return Ok(TranslatedText { text: text.to_owned(), alternatives: Vec::new() });
    }
    let whole = |tier: usize| -> Result<String, TranslateError> {
        let mut whole = String::new();
        for piece in sentences::pieces(text) {
            match piece {
                Piece::Between(space) => whole.push_str(space),
                Piece::Sentence(sentence) => {
                    let request = TranslateRequest {
                        cancel: cancel.clone(),
                        ..TranslateRequest::new(sentence, from, to)
                    };
                    let translation = ladder.translate_from(tier, &request, &mut |_| {})?;
                    whole.push_str(&manners::follow(sentence, &translation.text));
                }
            }
        }
        Ok(whole)
    };
    let best = whole(0).map_err(refusal)?;
    let mut others: Vec<String> = Vec::new();
    for tier in 1..ladder.rungs(from, to).len() {
        if others.len() == alternatives {
            break;
        }
        match whole(tier) {
            Ok(other) if other != best && !others.contains(&other) => others.push(other),
            Ok(_) => {}
            Err(TranslateError::Cancelled) => return Err(refusal(TranslateError::Cancelled)),
            Err(error) => tracing::debug!(%error, tier, "no alternative"),
        }
    }
    Ok(TranslatedText { text: best, alternatives: others })
}

pub(super) fn refusal(error: TranslateError) -> StudioError {
    match error {
        TranslateError::UnsupportedPair { from, to } => {
            StudioError::UnsupportedPair { from: from.to_string(), to: to.to_string() }
        }
        error => StudioError::Internal(error.to_string()),
    }
}
