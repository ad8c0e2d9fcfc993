//! When each thing happened to one utterance: the one source of truth for "how late, and where".

use std::time::{Duration, Instant};

use signaling::wire::Trace;

/// Instants of one utterance on its way to one target language. The first three are known when it
/// is born; each stage fills in its own.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Arrival of the first voiced sample.
    pub first_voiced: Instant,
    /// Arrival of the last voiced sample.
    pub last_voiced: Instant,
    /// The segmenter decided that the utterance had ended.
    pub ended: Instant,
    /// Recognition that was over before the decision, or the part of it that was.
    pub hidden: Duration,
    /// Recognition began, or the rest of it after the decision.
    pub transcribing: Option<Instant>,
    /// The transcript is there.
    pub transcribed: Option<Instant>,
    /// The first translated clause is there.
    pub first_clause: Option<Instant>,
    /// The whole translation is there.
    pub translated: Option<Instant>,
    /// The first synthesised samples are there.
    pub first_samples: Option<Instant>,
    /// The last synthesised samples are there.
    pub last_samples: Option<Instant>,
    /// The first translated packet left.
    pub sent: Option<Instant>,
}

impl Times {
    /// The times of an utterance that just ended.
    pub fn new(first_voiced: Instant, last_voiced: Instant, ended: Instant) -> Self {
        Self {
            first_voiced,
            last_voiced,
            ended,
            hidden: Duration::ZERO,
            transcribing: None,
            transcribed: None,
            first_clause: None,
            translated: None,
            first_samples: None,
            last_samples: None,
            sent: None,
        }
    }

    /// Notes when the words were recognised. What of it was done on speculation, before it was decided
    /// that the utterance had ended, is hidden: it is no part of the lag.
    pub fn recognised(&mut self, began: Instant, finished: Instant) {
        self.hidden = self.ended.min(finished).saturating_duration_since(began);
        self.transcribing = Some(began.max(self.ended));
        self.transcribed = Some(finished.max(self.ended));
    }

    /// Where the time went so far, for the wire. Stages that have not happened are missing.
    pub fn trace(&self) -> Trace {
        Trace {
            speech_ms: ms(self.last_voiced.saturating_duration_since(self.first_voiced)),
            endpoint_ms: between(Some(self.last_voiced), Some(self.ended)),
            hidden_ms: self.transcribed.map(|_| ms(self.hidden)),
            queue_ms: between(Some(self.ended), self.transcribing),
            transcribe_ms: between(self.transcribing, self.transcribed),
            translate_ms: between(self.transcribed, self.first_clause),
            speak_ms: between(self.first_clause, self.first_samples),
            playout_ms: between(self.first_samples, self.sent),
            lag_ms: between(Some(self.last_voiced), self.sent),
            translate_total_ms: between(self.transcribed, self.translated),
            speak_total_ms: between(self.first_clause, self.last_samples),
        }
    }
}

fn between(from: Option<Instant>, to: Option<Instant>) -> Option<f64> {
    Some(ms(to?.saturating_duration_since(from?)))
}

/// Milliseconds with a resolution of a microsecond: finer digits are noise on the wire.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_follow_each_other_so_their_sum_is_the_lag() {
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let mut times = Times::new(at(0), at(2000), at(2500));
        times.transcribing = Some(at(2510));
        times.transcribed = Some(at(2830));
        times.first_clause = Some(at(3600));
        times.translated = Some(at(3900));
        times.first_samples = Some(at(4200));
        times.last_samples = Some(at(4800));
        times.sent = Some(at(4216));

        let trace = times.trace();
        let stages = [
            trace.endpoint_ms,
            trace.queue_ms,
            trace.transcribe_ms,
            trace.translate_ms,
            trace.speak_ms,
            trace.playout_ms,
        ];
        let sum: f64 = stages.into_iter().map(|stage| stage.expect("every stage happened")).sum();
        assert_eq!(Some(sum), trace.lag_ms);
        assert_eq!(trace.lag_ms, Some(2216.0));
        assert_eq!(trace.speech_ms, 2000.0);
        assert_eq!(trace.translate_total_ms, Some(1070.0));
    }

    #[test]
    fn recognition_in_the_pause_is_hidden_and_no_part_of_the_lag() {
        let start = Instant::now();
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        let recognised = |began, finished| {
            let mut times = Times::new(at(0), at(2000), at(2500));
            times.recognised(at(began), at(finished));
            let trace = times.trace();
            (trace.hidden_ms, trace.queue_ms, trace.transcribe_ms)
        };
        assert_eq!(recognised(2220, 2480), (Some(260.0), Some(0.0), Some(0.0)));
        assert_eq!(recognised(2220, 2560), (Some(280.0), Some(0.0), Some(60.0)));
        assert_eq!(recognised(2510, 2800), (Some(0.0), Some(10.0), Some(290.0)));
    }

    #[test]
    fn a_stage_that_has_not_happened_is_missing_from_the_trace() {
        let now = Instant::now();
        let trace = Times::new(now, now, now).trace();
        assert_eq!(trace.endpoint_ms, Some(0.0));
        assert_eq!(trace.transcribe_ms, None);
        assert_eq!(trace.lag_ms, None);
    }
}
