//! `POST /translate`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::answers::{self, Refusal};
use super::detect::{self, Detection};
use super::fields::{Query, code_out};
use super::html::{self, Part};
use super::{Allowance, Cost, Face, Read};
use crate::studio::{Studio, StudioError, TranslateTexts, TranslatedText};
use crate::wire::LanguageInfo;

/// A regional variety that we may lack, and the language that it is one of.
const VARIETIES: &[(&str, &str)] = &[("pb", "pt"), ("zt", "zh")];

/// Fields in the order of the alphabet, as LibreTranslate has them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<OneOrMany<Vec<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detected_language: Option<OneOrMany<Detection>>,
    translated_text: OneOrMany<String>,
}

/// One thing for one text, an array of them for an array.
#[derive(Serialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Default> OneOrMany<T> {
    fn like(query: &Query, items: Vec<T>) -> Self {
        match query {
            Query::One(_) => Self::One(items.into_iter().next().unwrap_or_default()),
            Query::Many(_) => Self::Many(items),
        }
    }
}

/// `POST /translate`. The checks stand in LibreTranslate's order, which decides what a request with
/// several faults is told.
pub(super) async fn translate<S: Studio>(
    State(face): State<Arc<Face<S>>>,
    Extension(allowance): Extension<Allowance>,
    Extension(fields): Read,
) -> Result<Response, Refusal> {
    // In JSON a value that is no number breaks the original before it looks at anything else.
    let alternatives = match fields.alternatives() {
        Err(Refusal::Internal) => return Err(Refusal::Internal),
        alternatives => alternatives,
    };
    let query = fields.query()?;
    let source = fields.language("source")?;
    let target = fields.language("target")?;
    let alternatives = alternatives?;
    let limit = face.config.alternatives_limit;
    if limit > 0 && alternatives > limit {
        return Err(Refusal::TooManyAlternatives { limit });
    }
    check_sizes(&query, face.config.batch_limit, allowance.char_limit)?;

    let languages = face.studio.text_languages();
    let is_translatable = query.texts().iter().any(|text| text.chars().any(char::is_alphanumeric));
    let detection = match (is_translatable, source.as_str()) {
        (false, _) => Detection { confidence: 0.0, language: "en".to_owned() },
        (true, "auto") => detect::candidates(&*face.studio, &query).swap_remove(0),
        (true, _) => Detection { confidence: 100.0, language: source.clone() },
    };
    let from = known(&languages, &detection.language);
    let from = from.ok_or_else(|| Refusal::UnsupportedLanguage(source.clone()))?;
    let to = known(&languages, &target);
    let to = to.ok_or_else(|| Refusal::UnsupportedLanguage(target.clone()))?;
    let format = fields.format();
    if format != "text" && format != "html" {
        return Err(Refusal::UnsupportedFormat(format));
    }
    if from.code != to.code && !from.targets.contains(&to.code) {
        return Err(Refusal::NoSuchPair {
            target: (to.name.clone(), to.code.clone()),
            source: (from.name.clone(), from.code.clone()),
        });
    }

    let job = TranslateTexts {
        texts: query.texts().to_vec(),
        from: from.code.clone(),
        to: to.code.clone(),
        alternatives,
    };
    let translated = if format == "html" {
        translate_html(&*face.studio, job).await
    } else if is_translatable {
        face.studio.translate(job).await
    } else {
        Ok(job.texts.into_iter().map(untouched).collect())
    }?;

    let count = translated.len();
    let detected = Detection { language: code_out(&detection.language), ..detection };
    let (texts, others): (Vec<_>, Vec<_>) =
        translated.into_iter().map(|text| (text.text, text.alternatives)).unzip();
    let answer = Answer {
        alternatives: (alternatives > 0).then(|| OneOrMany::like(&query, others)),
        detected_language: (source == "auto").then(|| match &query {
            Query::One(_) => OneOrMany::One(detected),
            Query::Many(_) => OneOrMany::Many(vec![detected; count]),
        }),
        translated_text: OneOrMany::like(&query, texts),
    };
    let mut response = answers::json(&answer);
    response.extensions_mut().insert(Cost(count.max(1)));
    Ok(response)
}

fn check_sizes(query: &Query, batch_limit: usize, char_limit: usize) -> Result<(), Refusal> {
    let check = |size: usize, limit: usize| match limit {
        0 => Ok(()),
        limit if size <= limit => Ok(()),
        limit => Err(Refusal::TooLong { size, limit }),
    };
    if let Query::Many(texts) = query {
        check(texts.len(), batch_limit)?;
    }
    query.texts().iter().try_for_each(|text| check(text.chars().count(), char_limit))
}

/// The language of a code, or that of which it is a variety.
fn known<'a>(languages: &'a [LanguageInfo], code: &str) -> Option<&'a LanguageInfo> {
    let find = |code: &str| languages.iter().find(|language| language.code == code);
    find(code).or_else(|| {
        let (_, language) = VARIETIES.iter().find(|(variety, _)| *variety == code)?;
        find(language)
    })
}

fn untouched(text: String) -> TranslatedText {
    TranslatedText { text, alternatives: Vec::new() }
}

/// Translates what stands between the tags, all of it in one go.
async fn translate_html(
    studio: &impl Studio,
    job: TranslateTexts,
) -> Result<Vec<TranslatedText>, StudioError> {
    let sources: Vec<Vec<Part<'_>>> = job.texts.iter().map(|text| html::parts(text)).collect();
    let texts: Vec<String> = sources
        .iter()
        .flatten()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Markup(_) => None,
        })
        .collect();
    let (from, to) = (job.from.clone(), job.to.clone());
    let translated = if texts.is_empty() {
        Vec::new()
    } else {
        studio.translate(TranslateTexts { texts, from, to, alternatives: 0 }).await?
    };
    let mut translated = translated.into_iter();
    let mut put_together = |parts: &Vec<Part<'_>>| -> String {
        parts
            .iter()
            .map(|part| match part {
                Part::Markup(markup) => (*markup).to_owned(),
                Part::Text(text) => {
                    html::escape(translated.next().as_ref().map_or(text, |done| &done.text))
                }
            })
            .collect()
    };
    Ok(sources.iter().map(|parts| untouched(put_together(parts))).collect())
}
