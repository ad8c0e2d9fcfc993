//! The ladder: per language pair an order of translators from the best to the quickest. The first
//! that gives a usable translation wins; under overload the climb starts lower.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Language;
use crate::batch::BatchStats;

use super::{
    TranslateError, TranslateRequest, Translation, Translator, apertium, language_model,
    libretranslate, mend,
};

/// A direction of translation, written `en-es`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direction {
    /// Language of the text.
    pub from: Language,
    /// Language wanted.
    pub to: Language,
}

impl FromStr for Direction {
    type Err = LadderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .split_once('-')
            .and_then(|(from, to)| Some(Self { from: from.parse().ok()?, to: to.parse().ok()? }));
        parsed.ok_or_else(|| LadderError::Direction(text.to_owned()))
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.from, self.to)
    }
}

impl<'de> serde::Deserialize<'de> for Direction {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Which translators to try, best first.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LadderConfig {
    /// Names in order, for every pair that `pairs` does not mention.
    pub order: Vec<String>,
    /// Orders of single pairs, such as `en-gl = ["apertium"]`; an empty order takes a pair away.
    pub pairs: BTreeMap<Direction, Vec<String>>,
}

impl Default for LadderConfig {
    fn default() -> Self {
        let order = vec![language_model::NAME.to_owned(), apertium::NAME.to_owned()];
        Self { order, pairs: BTreeMap::new() }
    }
}

/// The configuration of the ladder does not hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LadderError {
    /// A name in the configuration belongs to no translator: correct it.
    #[error("unknown translator {name:?}: expected one of {known}")]
    UnknownTranslator {
        /// The name.
        name: String,
        /// Names that would do.
        known: String,
    },
    /// A pair is not written as two language codes.
    #[error("unknown language pair {0:?}: expected two codes such as en-es")]
    Direction(String),
}

/// Every name a configuration may use.
const NAMES: &[&str] = &[language_model::NAME, libretranslate::NAME, apertium::NAME];

/// Translators in the order of the configuration; itself a [`Translator`].
///
/// Text is [mended](mend::mend) here, once, before any rung reads it. Text whose two languages are
/// the same passes through as it is.
pub struct Ladder {
    order: Vec<Arc<dyn Translator>>,
    pairs: BTreeMap<Direction, Vec<Arc<dyn Translator>>>,
}

impl Ladder {
    /// Orders `available` as the configuration says. A translator that the configuration names but
    /// this machine lacks is left out with a warning.
    ///
    /// # Errors
    /// The configuration has a name that no translator ever has.
    pub fn new(
        config: &LadderConfig,
        available: &[Arc<dyn Translator>],
    ) -> Result<Self, LadderError> {
        let order = rungs(&config.order, available)?;
        let pairs = config
            .pairs
            .iter()
            .map(|(direction, names)| Ok((*direction, rungs(names, available)?)))
            .collect::<Result<_, _>>()?;
        Ok(Self { order, pairs })
    }

    /// The rungs of a pair that know it, best first.
    pub fn rungs(&self, from: Language, to: Language) -> Vec<&Arc<dyn Translator>> {
        let rungs = self.pairs.get(&Direction { from, to }).unwrap_or(&self.order);
        rungs.iter().filter(|rung| rung.supports(from, to)).collect()
    }

    /// What the batchers of its translators have done so far, by the translator's name.
    pub fn batch_stats(&self) -> BTreeMap<String, BatchStats> {
        let all = self.pairs.values().flatten().chain(&self.order);
        all.filter_map(|rung| Some((rung.name().to_owned(), rung.batch_stats()?))).collect()
    }

    /// Translates beginning with rung `tier`, 0 being the best; a tier below the last rung means the
    /// last. A rung that fails or is rejected before anything was released hands on to the next.
    ///
    /// # Errors
    /// Those of the last rung tried; [`TranslateError::UnsupportedPair`] when there is none.
    pub fn translate_from(
        &self,
        tier: usize,
        request: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        let (from, to) = (request.from, request.to);
        if from == to {
            on_text(&request.text);
            let text = request.text.trim().to_owned();
            return Ok(Translation { text, translator: PASS_THROUGH.to_owned() });
        }
        let rungs = self.rungs(from, to);
        let unsupported = TranslateError::UnsupportedPair { from, to };
        let Some(last) = rungs.len().checked_sub(1) else { return Err(unsupported) };
        let mended = TranslateRequest { text: mend::mend(&request.text, from), ..request.clone() };
        if mended.text.is_empty() {
            return Ok(Translation { text: String::new(), translator: PASS_THROUGH.to_owned() });
        }
        let mut released = false;
        let mut outcome = Err(unsupported);
        for rung in &rungs[tier.min(last)..] {
            if request.cancel.is_cancelled() {
                return Err(TranslateError::Cancelled);
            }
            outcome = rung.translate(&mended, &mut |text| {
                released = true;
                on_text(text);
            });
            match &outcome {
                Err(error @ (TranslateError::Rejected { .. } | TranslateError::Failed { .. }))
                    if !released =>
                {
                    tracing::warn!(%error, pair = %Direction { from, to }, "a translator gave up");
                }
                _ => break,
            }
        }
        outcome
    }
}

/// Name of the translator where there is nothing to translate.
pub const PASS_THROUGH: &str = "pass-through";

fn rungs(
    names: &[String],
    available: &[Arc<dyn Translator>],
) -> Result<Vec<Arc<dyn Translator>>, LadderError> {
    let mut rungs = Vec::new();
    for name in names {
        match available.iter().find(|translator| translator.name() == name) {
            Some(translator) => rungs.push(translator.clone()),
            None if NAMES.contains(&name.as_str()) => {
                tracing::warn!(translator = name, "a configured translator is not available");
            }
            None => {
                let known = NAMES.join(", ");
                return Err(LadderError::UnknownTranslator { name: name.clone(), known });
            }
        }
    }
    Ok(rungs)
}

impl Translator for Ladder {
    fn name(&self) -> &str {
        "ladder"
    }

    fn supports(&self, from: Language, to: Language) -> bool {
        from == to || !self.rungs(from, to).is_empty()
    }

    fn translate(
        &self,
        request: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        self.translate_from(0, request, on_text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases some text, then succeeds or fails as told.
    struct Fake {
        name: &'static str,
        releases: &'static str,
        error: Option<fn() -> TranslateError>,
        pair: (Language, Language),
    }

    impl Translator for Fake {
        fn name(&self) -> &str {
            self.name
        }

        fn supports(&self, from: Language, to: Language) -> bool {
            self.pair == (from, to)
        }

        fn translate(
            &self,
            request: &TranslateRequest,
            on_text: &mut dyn FnMut(&str),
        ) -> Result<Translation, TranslateError> {
            if !self.releases.is_empty() {
                on_text(self.releases);
            }
            match self.error {
                Some(error) => Err(error()),
                None => Ok(Translation {
                    text: format!("{}: {}", self.name, request.text),
                    translator: self.name.to_owned(),
                }),
            }
        }
    }

    const EN_ES: (Language, Language) = (Language::EN, Language::ES);

    fn rejected() -> TranslateError {
        TranslateError::Rejected { translator: "fake".to_owned(), reason: "because".to_owned() }
    }

    fn failed() -> TranslateError {
        TranslateError::Failed { translator: "fake".to_owned(), source: "because".into() }
    }

    fn works(name: &'static str) -> Arc<dyn Translator> {
        Arc::new(Fake { name, releases: "text", error: None, pair: EN_ES })
    }

    fn gives_up(releases: &'static str, error: fn() -> TranslateError) -> Arc<dyn Translator> {
        let name = language_model::NAME;
        Arc::new(Fake { name, releases, error: Some(error), pair: EN_ES })
    }

    fn ladder(translators: &[Arc<dyn Translator>]) -> Ladder {
        Ladder::new(&LadderConfig::default(), translators).expect("known names")
    }

    fn request(text: &str, (from, to): (Language, Language)) -> TranslateRequest {
        TranslateRequest::new(text, from, to)
    }

    #[test]
    fn the_first_rung_that_works_wins_and_reads_mended_text() {
        let ladder = ladder(&[works(apertium::NAME), works(language_model::NAME)]);
        let translation = ladder.translate(&request("i agree", EN_ES), &mut |_| {});
        assert_eq!(translation.expect("a translation").text, "language-model: I agree.");
    }

    #[test]
    fn a_rung_that_gives_up_in_silence_hands_on() {
        for error in [rejected, failed] {
            let ladder = ladder(&[gives_up("", error), works(apertium::NAME)]);
            let translation = ladder.translate(&request("Yes.", EN_ES), &mut |_| {});
            assert_eq!(translation.expect("a translation").translator, apertium::NAME);
        }
    }

    #[test]
    fn a_rung_that_spoke_before_it_failed_is_not_spoken_over() {
        let ladder = ladder(&[gives_up("half", failed), works(apertium::NAME)]);
        let mut pieces = Vec::new();
        let outcome =
            ladder.translate(&request("Yes.", EN_ES), &mut |piece| pieces.push(piece.to_owned()));
        assert!(matches!(outcome, Err(TranslateError::Failed { .. })));
        assert_eq!(pieces, ["half"]);
    }

    #[test]
    fn a_lower_tier_begins_lower_and_the_lowest_is_the_last() {
        let ladder = ladder(&[works(language_model::NAME), works(apertium::NAME)]);
        for (tier, name) in [(0, language_model::NAME), (1, apertium::NAME), (9, apertium::NAME)] {
            let outcome = ladder.translate_from(tier, &request("Yes.", EN_ES), &mut |_| {});
            assert_eq!(outcome.expect("a translation").translator, name);
        }
    }

    #[test]
    fn the_last_error_is_reported_when_nobody_can() {
        let ladder = ladder(&[gives_up("", rejected)]);
        let outcome = ladder.translate(&request("Yes.", EN_ES), &mut |_| {});
        assert!(matches!(outcome, Err(TranslateError::Rejected { .. })));
    }

    #[test]
    fn a_pair_nobody_knows_is_unsupported_and_the_same_language_passes_through() {
        let ladder = ladder(&[works(apertium::NAME)]);
        let backwards = (Language::ES, Language::EN);
        assert!(!ladder.supports(backwards.0, backwards.1));
        let outcome = ladder.translate(&request("Sí.", backwards), &mut |_| {});
        assert!(matches!(outcome, Err(TranslateError::UnsupportedPair { .. })));
        let same = ladder.translate(&request("hm ok", (Language::ES, Language::ES)), &mut |_| {});
        assert_eq!(same.expect("a translation").text, "hm ok");
    }

    #[test]
    fn a_cancelled_request_climbs_no_further() {
        let ladder = ladder(&[works(apertium::NAME)]);
        let request = request("Yes.", EN_ES);
        request.cancel.cancel();
        let outcome = ladder.translate(&request, &mut |_| {});
        assert!(matches!(outcome, Err(TranslateError::Cancelled)));
    }

    #[test]
    fn the_configuration_may_order_single_pairs() {
        let config: LadderConfig =
            toml::from_str("[pairs]\nen-es = [\"apertium\"]").expect("a valid configuration");
        let available = [works(language_model::NAME), works(apertium::NAME)];
        let ladder = Ladder::new(&config, &available).expect("known names");
        let names: Vec<_> =
            ladder.rungs(EN_ES.0, EN_ES.1).iter().map(|rung| rung.name().to_owned()).collect();
        assert_eq!(names, [apertium::NAME]);
    }

    #[test]
    fn wrong_names_in_the_configuration_are_named() {
        let config = LadderConfig { order: vec!["babelfish".to_owned()], ..Default::default() };
        let error = Ladder::new(&config, &[]).err().expect("an unknown name");
        assert!(error.to_string().contains("babelfish"));
        assert!(toml::from_str::<LadderConfig>("[pairs]\nen = []").is_err());
    }
}
