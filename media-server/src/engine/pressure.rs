//! How far behind the engine is, and what it leaves out to catch up.
//!
//! The pressure is the age of the oldest utterance that nobody has heard anything of, as a share of
//! its deadline. When it stays high the engine steps down a [`Tier`], and again if that was not
//! enough; when it has been low for long, it steps up. The two bounds lie apart and the way up is
//! slow, so that it does not swing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use inference::Language;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::UtteranceId;

/// What the engine leaves out, in the order in which it does so.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Nothing.
    #[default]
    Full,
    /// Recognition on speculation.
    NoSpeculation,
    /// The better of the voices of a language.
    CheaperVoice,
    /// The better of the translators of a pair.
    CheaperTranslator,
    /// Speech: what is said is captioned.
    CaptionsOnly,
}

impl Tier {
    const ALL: [Self; 5] = [
        Self::Full,
        Self::NoSpeculation,
        Self::CheaperVoice,
        Self::CheaperTranslator,
        Self::CaptionsOnly,
    ];

    /// The label on the wire and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoSpeculation => "no_speculation",
            Self::CheaperVoice => "cheaper_voice",
            Self::CheaperTranslator => "cheaper_translator",
            Self::CaptionsOnly => "captions_only",
        }
    }

    /// How many tiers lie above it.
    pub fn depth(self) -> u8 {
        self as u8
    }

    fn step(self, by: isize) -> Option<Self> {
        let index = usize::from(self.depth()).checked_add_signed(by)?;
        Self::ALL.get(index).copied()
    }
}

/// When the engine steps down and up, and when the house takes nobody in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OverloadConfig {
    /// Share of its deadline at which the oldest utterance makes the engine step down.
    pub step_down_at: f64,
    /// Share below which it may step up.
    pub step_up_at: f64,
    /// How long the pressure has to be high before each step down.
    pub high_ms: u64,
    /// How long it has to be low before each step up.
    pub low_ms: u64,
    /// From this tier on nobody new is let in who would speak.
    pub refuse_from: Tier,
    /// Keeps the engine in a tier, whatever the pressure.
    pub pin: Option<Tier>,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        Self {
            step_down_at: 0.7,
            step_up_at: 0.35,
            high_ms: 500,
            low_ms: 10_000,
            refuse_from: Tier::CheaperTranslator,
            pin: None,
        }
    }
}

/// Decides on the tier. Time is an argument.
#[derive(Debug)]
pub(super) struct Controller {
    config: OverloadConfig,
    tier: Tier,
    /// Since when the pressure is high, or low; from the last step on at most.
    since: Option<(Level, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    High,
    Low,
}

impl Controller {
    pub(super) fn new(config: OverloadConfig) -> Self {
        let tier = config.pin.unwrap_or_default();
        Self { config, tier, since: None }
    }

    /// Takes a measurement. The new tier if that changes it.
    pub(super) fn observe(&mut self, pressure: f64, now: Instant) -> Option<Tier> {
        if self.config.pin.is_some() {
            return None;
        }
        let level = if pressure >= self.config.step_down_at {
            Level::High
        } else if pressure <= self.config.step_up_at {
            Level::Low
        } else {
            self.since = None;
            return None;
        };
        let since = match self.since {
            Some((before, since)) if before == level => since,
            _ => {
                self.since = Some((level, now));
                now
            }
        };
        let (hold_ms, by) = match level {
            Level::High => (self.config.high_ms, 1),
            Level::Low => (self.config.low_ms, -1),
        };
        if now.saturating_duration_since(since) < Duration::from_millis(hold_ms) {
            return None;
        }
        let next = self.tier.step(by)?;
        self.tier = next;
        self.since = Some((level, now));
        Some(next)
    }
}

/// The utterances that nobody has heard anything of yet.
#[derive(Debug, Default)]
pub(super) struct Unheard(Mutex<HashMap<(UtteranceId, Option<Language>), Due>>);

#[derive(Clone, Copy, Debug)]
struct Due {
    said: Instant,
    deadline: Duration,
}

impl Unheard {
    /// Somebody waits for an utterance, or for its speech in a language.
    pub(super) fn waits(
        &self,
        utterance: UtteranceId,
        language: Option<Language>,
        said: Instant,
        deadline: Duration,
    ) {
        self.0.lock().insert((utterance, language), Due { said, deadline });
    }

    /// Nobody waits anymore: it is heard, or it never will be.
    pub(super) fn settled(&self, utterance: UtteranceId, language: Option<Language>) {
        self.0.lock().remove(&(utterance, language));
    }

    /// Age of the oldest as a share of its deadline; 0 when nobody waits.
    pub(super) fn pressure(&self, now: Instant) -> f64 {
        let ages = self.0.lock();
        let shares = ages.values().map(|due| {
            let age = now.saturating_duration_since(due.said).as_secs_f64();
            age / due.deadline.as_secs_f64().max(f64::EPSILON)
        });
        shares.fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observes a pressure every 100 ms for a time; returns the tiers entered.
    fn hold(
        controller: &mut Controller,
        clock: &mut Instant,
        pressure: f64,
        seconds: f64,
    ) -> Vec<Tier> {
        let steps = (seconds * 10.0) as usize;
        let mut entered = Vec::new();
        for _ in 0..steps {
            *clock += Duration::from_millis(100);
            entered.extend(controller.observe(pressure, *clock));
        }
        entered
    }

    #[test]
    fn a_peak_changes_nothing_and_lasting_pressure_goes_down_tier_by_tier() {
        let mut controller = Controller::new(OverloadConfig::default());
        let mut clock = Instant::now();
        assert_eq!(hold(&mut controller, &mut clock, 0.9, 0.4), []);
        assert_eq!(hold(&mut controller, &mut clock, 0.5, 0.1), []);
        assert_eq!(hold(&mut controller, &mut clock, 0.9, 0.4), [], "it was counted anew");
        let down = hold(&mut controller, &mut clock, 0.9, 5.0);
        assert_eq!(down, Tier::ALL[1..], "each once, and there is none below the last");
    }

    #[test]
    fn the_way_up_takes_long_and_a_middling_pressure_keeps_the_tier() {
        let mut controller = Controller::new(OverloadConfig::default());
        let mut clock = Instant::now();
        hold(&mut controller, &mut clock, 1.0, 1.1);
        assert_eq!(controller.tier, Tier::CheaperVoice);
        assert_eq!(hold(&mut controller, &mut clock, 0.5, 60.0), []);
        assert_eq!(hold(&mut controller, &mut clock, 0.1, 9.9), []);
        assert_eq!(hold(&mut controller, &mut clock, 0.5, 0.1), []);
        assert_eq!(hold(&mut controller, &mut clock, 0.1, 9.9), [], "it was counted anew");
        let up = hold(&mut controller, &mut clock, 0.1, 30.0);
        assert_eq!(up, [Tier::NoSpeculation, Tier::Full]);
    }

    #[test]
    fn a_pinned_tier_stays() {
        let pin = Some(Tier::CheaperVoice);
        let mut controller = Controller::new(OverloadConfig { pin, ..OverloadConfig::default() });
        let mut clock = Instant::now();
        assert_eq!(hold(&mut controller, &mut clock, 1.0, 60.0), []);
        assert_eq!(hold(&mut controller, &mut clock, 0.0, 60.0), []);
    }

    #[test]
    fn pressure_is_the_oldest_share_of_a_deadline() {
        let unheard = Unheard::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(3);
        assert!(unheard.pressure(later) < f64::EPSILON);
        let (call, conference) = (Duration::from_secs(6), Duration::from_secs(10));
        unheard.waits(UtteranceId(1), None, start, conference);
        assert!((unheard.pressure(later) - 0.3).abs() < 1e-9);
        unheard.waits(UtteranceId(2), Some(Language::ES), start, call);
        unheard.waits(UtteranceId(2), Some(Language::EN), later, call);
        assert!((unheard.pressure(later) - 0.5).abs() < 1e-9);
        unheard.settled(UtteranceId(2), Some(Language::ES));
        assert!((unheard.pressure(later) - 0.3).abs() < 1e-9);
    }

    #[test]
    fn a_deadline_that_never_comes_gives_no_pressure() {
        let unheard = Unheard::default();
        let start = Instant::now();
        unheard.waits(UtteranceId(1), None, start, Duration::MAX);
        assert!(unheard.pressure(start + Duration::from_secs(3600)) < 1e-9);
    }
}
