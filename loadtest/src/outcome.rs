//! Judges one sentence: was its interpretation heard in time, and how late was it?
//!
//! All times count from when the packets were due, not from when they left: a generator that is
//! late makes its measurements longer, never shorter.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::SAMPLE_RATE;
use crate::microphone::SpokenSpan;
use crate::recording::{ReceivedPacket, Recording};
use crate::report::Outcome;
use crate::schedule::Turn;
use crate::utterances::{Ledger, Utterance};
use crate::word_error::{chrf, word_errors};

/// Quiet after which what is heard counts as finished.
const SETTLE: Duration = Duration::from_millis(1500);

/// Samples that may be lost at the beginning of an interpretation that is heard all the same.
const MAX_LOST: i32 = SAMPLE_RATE as i32 / 2;

/// A sentence that was said, and who should hear it.
#[derive(Debug)]
pub struct Said<'a> {
    /// The plan for it.
    pub turn: &'a Turn,
    /// When it was really said.
    pub span: &'a SpokenSpan,
    /// When the same speaker says the next one; what comes later is no part of this one.
    pub next_due: Option<Instant>,
    /// Identity of who said it.
    pub speaker: &'a str,
    /// Identity of who should hear it.
    pub listener: &'a str,
    /// Language of who should hear it.
    pub to: &'a str,
    /// How long after the end of the speech an answer counts.
    pub timeout: Duration,
}

impl Said<'_> {
    /// When the voice ended, or should have.
    #[must_use]
    pub fn ended(&self) -> Instant {
        self.span.due_by(self.turn.sentence.last_voiced)
    }

    fn began(&self) -> Instant {
        self.span.due_by(self.turn.sentence.first_voiced)
    }

    /// The utterances that the server made of it, in the order in which they began.
    fn utterances<'l>(&'l self, ledger: &'l Ledger) -> Vec<&'l Utterance> {
        let is_part = |utterance: &&Utterance| match &utterance.transcript {
            Some(transcript) => self.span.offset_of(transcript.last_voiced_rtp).is_some(),
            // Without a transcript only the time tells.
            None => {
                utterance.began >= self.span.due
                    && self.next_due.is_none_or(|next| utterance.began < next)
            }
        };
        ledger.of(self.speaker).filter(is_part).collect()
    }

    /// Where the interpretation of the next utterance begins for this listener.
    fn next_spoken(&self, ledger: &Ledger, mine: &[&Utterance], first: u32) -> Option<u32> {
        let is_mine = |utterance: &Utterance| mine.iter().any(|known| known.id == utterance.id);
        let others = ledger.all().filter(|utterance| !is_mine(utterance));
        let begins = others.filter_map(|utterance| utterance.spoken.get(self.listener));
        let after = begins.map(|spoken| spoken.rtp_timestamp.wrapping_sub(first));
        let nearest = after.filter(|&samples| samples < u32::MAX / 2).min()?;
        Some(first.wrapping_add(nearest))
    }

    /// What became of it at `now`, or `None` while more may come.
    #[must_use]
    pub fn judge(&self, ledger: &Ledger, heard: &Recording, now: Instant) -> Option<Outcome> {
        if self.to == self.turn.sentence.language {
            return self.judge_original(heard, now);
        }
        let utterances = self.utterances(ledger);
        let is_late = now.saturating_duration_since(self.ended()) > self.timeout;
        let spoken: Vec<u32> = utterances
            .iter()
            .filter_map(|utterance| utterance.spoken.get(self.listener))
            .map(|spoken| spoken.rtp_timestamp)
            .collect();
        let next = spoken.first().and_then(|&first| self.next_spoken(ledger, &utterances, first));
        let span = spoken.first().map_or(0..0, |&first| heard.span_between(first, next));
        let sounding = &heard.packets[span.clone()];
        if !is_late {
            let is_over = !utterances.is_empty()
                && utterances.iter().all(|utterance| utterance.is_over_for(self.listener));
            let moved = heard.last_sound_at.into_iter().chain(ledger.last_at());
            let moved = moved.chain([self.span.last_packet_at]).max().unwrap_or(now);
            let is_quiet = now.saturating_duration_since(moved) > SETTLE;
            // What is said next interrupts the quiet: then the interpretation itself has to be over.
            let is_next = self.next_due.is_some_and(|next| now > next + SETTLE);
            let last = sounding.iter().rev().find(|packet| packet.sounds).or(sounding.first());
            let is_said = spoken.is_empty()
                || next.is_some()
                || last.is_some_and(|last| now > last.arrival + SETTLE);
            if !is_over || !(is_quiet || is_next && is_said) {
                return None;
            }
        }
        let arrivals: Vec<Option<Instant>> =
            spoken.iter().map(|&rtp| heard.arrival_from(rtp)).collect();
        let missing = self.missing(&utterances, &arrivals, sounding);
        let outcome = self.outcome(&utterances, &arrivals, sounding, missing);
        // What is silent at its end says nothing.
        let length = sounding.iter().rposition(|packet| packet.sounds).map_or(0, |last| last + 1);
        let payloads = heard.payloads.get(span).unwrap_or_default();
        Some(Outcome { heard: payloads.iter().take(length).cloned().collect(), ..outcome })
    }

    /// Who speaks the speaker's language hears the original, and its sound is all there is to judge.
    fn judge_original(&self, heard: &Recording, now: Instant) -> Option<Outcome> {
        if now < self.ended() + SETTLE {
            return None;
        }
        let end = self.next_due.map_or(now, |next| next.min(now));
        let is_part = |packet: &&ReceivedPacket| {
            packet.sounds && packet.arrival >= self.span.due && packet.arrival < end
        };
        let mut sounding = heard.packets.iter().filter(is_part);
        let first = sounding.next().map(|packet| packet.arrival);
        let last = sounding.next_back().map(|packet| packet.arrival).or(first);
        let missing = first.is_none().then(|| "the original was not heard".to_owned());
        let timeout = 1000.0 * self.timeout.as_secs_f64();
        let since = |from: Instant, at: Option<Instant>| {
            at.map_or(timeout, |at| signed_ms(from, at).max(0.0))
        };
        Some(Outcome {
            level: self.turn.level,
            late_ms: signed_ms(self.span.due, self.span.first_packet_at),
            sentence: self.turn.sentence.name.clone(),
            from: self.turn.sentence.language.clone(),
            to: self.to.to_owned(),
            missing,
            lag_ms: since(self.ended(), last),
            start_ms: since(self.began(), first),
            finish_ms: since(self.ended(), last),
            ..Outcome::default()
        })
    }

    fn missing(
        &self,
        utterances: &[&Utterance],
        arrivals: &[Option<Instant>],
        sounding: &[ReceivedPacket],
    ) -> Option<String> {
        let within = format!("within {} s", self.timeout.as_secs_f64());
        let Some(last) = utterances.last() else {
            return Some(format!("the server heard nothing of it {within}"));
        };
        // A breath that was taken for an utterance is no loss.
        let dropped = utterances.iter().filter_map(|utterance| utterance.dropped.as_ref());
        let dropped: Vec<_> = dropped.filter(|(reason, _)| reason != "no_speech").collect();
        if let Some((reason, detail)) = dropped.first() {
            return Some(format!("dropped ({reason}: {detail})"));
        }
        let Some(arrival) = arrivals.last() else {
            return Some(match last {
                Utterance { dropped: Some((_, detail)), .. } => {
                    format!("taken for no speech ({detail})")
                }
                Utterance { transcript: None, .. } => format!("not transcribed {within}"),
                Utterance { translations, .. } if !translations.contains_key(self.to) => {
                    format!("not translated {within}")
                }
                _ => format!("not spoken {within}"),
            });
        };
        let Some(arrival) = arrival else {
            return Some("the translated packets were lost".to_owned());
        };
        if arrival.saturating_duration_since(self.ended()) > self.timeout {
            return Some(format!("not heard {within}"));
        }
        let sounds = sounding.iter().any(|packet| packet.sounds);
        (!sounds).then(|| "the translated packets are silent".to_owned())
    }

    fn outcome(
        &self,
        utterances: &[&Utterance],
        arrivals: &[Option<Instant>],
        sounding: &[ReceivedPacket],
        missing: Option<String>,
    ) -> Outcome {
        let Turn { level, sentence, .. } = self.turn;
        let timeout = 1000.0 * self.timeout.as_secs_f64();
        let since = |from: Instant, at: Option<Instant>| {
            let at = at.filter(|_| missing.is_none());
            at.map_or(timeout, |at| signed_ms(from, at))
        };
        let first = arrivals.first().copied().flatten();
        let last = arrivals.last().copied().flatten();
        let ending = sounding.iter().rev().find(|packet| packet.sounds);
        let join = |texts: Vec<&str>| (!texts.is_empty()).then(|| texts.join(" "));
        let mut transcripts =
            utterances.iter().filter_map(|utterance| utterance.transcript.as_ref());
        let transcript = join(transcripts.clone().map(|known| known.text.as_str()).collect());
        let translations = utterances.iter().filter_map(|it| it.translations.get(self.to));
        let translation = join(translations.map(|(text, _)| text.as_str()).collect());
        let (wrong_words, words) =
            word_errors(&sentence.transcript, transcript.as_deref().unwrap_or_default());
        let reference = sentence.translations.get(self.to);
        let scored = translation.as_ref().zip(reference);
        let spoken = utterances.iter().rev().find(|it| it.spoken.contains_key(self.listener));
        let trace = spoken.and_then(|it| it.spoken.get(self.listener)).map(|spoken| spoken.trace);
        // Where the server found the end of the speech.
        let found = spoken.and_then(|it| it.transcript.as_ref());
        let found = found.and_then(|known| self.span.offset_of(known.last_voiced_rtp));
        let stages = trace.iter().flat_map(signaling::wire::Trace::stages);
        Outcome {
            session: 0,
            level: *level,
            due_ms: 0.0,
            late_ms: signed_ms(self.span.due, self.span.first_packet_at),
            sentence: sentence.name.clone(),
            from: sentence.language.clone(),
            to: self.to.to_owned(),
            lag_ms: since(self.ended(), last),
            start_ms: since(self.began(), first),
            finish_ms: since(self.ended(), ending.map(|packet| packet.arrival)),
            caption_ms: transcripts.next_back().map(|known| signed_ms(self.ended(), known.at)),
            stages: stages.filter_map(|(name, ms)| Some((name.to_owned(), ms?))).collect(),
            traced_lag_ms: trace.and_then(|trace| trace.lag_ms),
            heard_lag_ms: found.zip(last).map(|(found, at)| signed_ms(self.span.due_by(found), at)),
            jitter_ms: jitter_ms(sounding),
            transcript,
            words,
            wrong_words,
            chrf: scored.map(|(translation, reference)| chrf(reference, translation)),
            translation,
            missing,
            ..Outcome::default()
        }
    }
}

impl Recording {
    /// Indices of the packets from the one with this RTP timestamp on, up to another one.
    fn span_between(&self, from: u32, to: Option<u32>) -> Range<usize> {
        let end = to.and_then(|to| self.heard_from(to)).unwrap_or(self.packets.len());
        let begin = self.heard_from(from).unwrap_or(end);
        begin.min(end)..end
    }

    /// When that one arrived.
    fn arrival_from(&self, rtp_timestamp: u32) -> Option<Instant> {
        self.heard_from(rtp_timestamp).map(|index| self.packets[index].arrival)
    }

    /// Index of the packet with this RTP timestamp, or where that one was lost, of the first one
    /// that came after it.
    fn heard_from(&self, rtp_timestamp: u32) -> Option<usize> {
        let since = |packet: &ReceivedPacket| {
            packet.rtp_timestamp.wrapping_sub(rtp_timestamp).cast_signed()
        };
        let is_over = |packet: &ReceivedPacket| since(packet) + packet.samples as i32 <= 0;
        let index = self.packets.iter().rposition(is_over).map_or(0, |index| index + 1);
        let packet = self.packets.get(index)?;
        (since(packet) < MAX_LOST).then_some(index)
    }
}

/// Interarrival jitter after RFC 3550 §6.4.1, in milliseconds; `None` of fewer than two packets.
fn jitter_ms(packets: &[ReceivedPacket]) -> Option<f64> {
    let mut jitter = 0.0;
    for pair in packets.windows(2) {
        let sent = f64::from(pair[1].rtp_timestamp.wrapping_sub(pair[0].rtp_timestamp));
        let sent_ms = 1000.0 * sent / f64::from(SAMPLE_RATE);
        let came_ms = signed_ms(pair[0].arrival, pair[1].arrival);
        jitter += ((came_ms - sent_ms).abs() - jitter) / 16.0;
    }
    (packets.len() > 1).then_some(jitter)
}

/// Negative when `later` came first.
pub(crate) fn signed_ms(earlier: Instant, later: Instant) -> f64 {
    let ms = |duration: Duration| 1000.0 * duration.as_secs_f64();
    later.checked_duration_since(earlier).map_or_else(|| -ms(earlier - later), ms)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use signaling::wire::{Event, EventKind, Trace, UtteranceRef};

    use super::*;
    use crate::FRAME;
    use crate::corpus::Sentence;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    struct Scene {
        start: Instant,
        turn: Turn,
        span: SpokenSpan,
        ledger: Ledger,
        heard: Recording,
    }

    /// A second of voice in two seconds, said 100 ms late, and 12 s of quiet packets heard.
    fn scene() -> Scene {
        let start = Instant::now();
        let tone = (0..96_000).map(|n| {
            if (24_000..72_000).contains(&n) { 0.3 * (n as f32 * 0.04).sin() } else { 0.0 }
        });
        let tone: Vec<f32> = tone.collect();
        let sentence = Sentence::new(Path::new("a.wav"), "en", "Hello there.", &tone, None);
        let late = start + MS(100);
        let packets: Vec<Instant> = (0..100).map(|n| late + MS(20) * n).collect();
        let span = SpokenSpan {
            due: start,
            first_packet_at: late,
            last_packet_at: packets[99],
            first_rtp_timestamp: 48_000,
            packets,
        };
        let packet = |n: u32| ReceivedPacket {
            rtp_timestamp: n * FRAME as u32,
            sequence_number: n as u16,
            arrival: start + MS(20) * n,
            position: 0,
            samples: FRAME,
            sounds: (130..180).contains(&n),
        };
        let heard = Recording {
            packets: (0..600).map(packet).collect(),
            last_sound_at: Some(start + MS(20 * 179)),
            ..Recording::default()
        };
        let sentence = Arc::new(sentence.unwrap());
        let turn = Turn { level: 0, at: Duration::ZERO, speaker: 0, sentence };
        Scene { start, turn, span, ledger: Ledger::default(), heard }
    }

    impl Scene {
        fn said(&self) -> Said<'_> {
            Said {
                turn: &self.turn,
                span: &self.span,
                next_due: Some(self.start + MS(8000)),
                speaker: "s",
                listener: "l",
                to: "es",
                timeout: MS(5000),
            }
        }

        fn note(&mut self, at_ms: u64, kind: EventKind) {
            let event = Event { seq: 1, time_ms: 0, room: "r".to_owned(), kind };
            self.ledger.note(&event, self.start + MS(at_ms));
        }

        fn understood(&mut self) {
            let trace = Trace::default();
            let (language, text) = ("en".to_owned(), "hello dear".to_owned());
            // The voice ends 1.5 s after the speech began.
            let (first_voiced_rtp, last_voiced_rtp) = (72_000, 119_999);
            self.note(
                1900,
                EventKind::UtteranceTranscript {
                    utterance: utterance(),
                    language,
                    text,
                    first_voiced_rtp,
                    last_voiced_rtp,
                    trace,
                },
            );
        }

        fn spoken(&mut self) {
            let trace =
                Trace { endpoint_ms: Some(300.0), lag_ms: Some(1000.0), ..Trace::default() };
            let (language, listener) = ("es".to_owned(), "l".to_owned());
            let (track, rtp_timestamp) = ("0".to_owned(), 130 * FRAME as u32);
            self.note(
                2600,
                EventKind::UtteranceSpoken {
                    utterance: utterance(),
                    language,
                    listener,
                    track,
                    rtp_timestamp,
                    trace,
                },
            );
        }

        fn judge(&self, at_ms: u64) -> Option<Outcome> {
            self.said().judge(&self.ledger, &self.heard, self.start + MS(at_ms))
        }
    }

    fn utterance() -> UtteranceRef {
        UtteranceRef { utterance: "u".to_owned(), speaker: "s".to_owned() }
    }

    #[test]
    fn an_interpretation_counts_from_when_the_words_were_due() {
        let mut scene = scene();
        scene.understood();
        scene.spoken();
        assert_eq!(scene.judge(4000), None, "more may come");
        let outcome = scene.judge(5200).unwrap();
        // Due at 1480 (the packet in which the voice ends), heard at 2600, until 3580.
        assert_eq!(outcome.missing, None);
        assert!((outcome.lag_ms - 1120.0).abs() < 0.1, "{outcome:?}");
        assert!((outcome.start_ms - 2120.0).abs() <= 20.0, "{outcome:?}");
        assert!((outcome.finish_ms - 2100.0).abs() < 0.1, "{outcome:?}");
        assert!((outcome.caption_ms.unwrap() - 420.0).abs() < 0.1, "{outcome:?}");
        assert!((outcome.late_ms - 100.0).abs() < 0.1, "{outcome:?}");
        assert_eq!((outcome.wrong_words, outcome.words), (1, 2));
        assert_eq!(outcome.stages, [("endpoint".to_owned(), 300.0)]);
        assert!((outcome.unexplained_ms().unwrap() - 120.0).abs() < 0.1);
        assert!(outcome.jitter_ms.unwrap() < 0.01);
    }

    #[test]
    fn what_never_comes_counts_as_the_timeout_and_says_how_far_it_came() {
        let mut scene = scene();
        assert_eq!(scene.judge(6000), None);
        let outcome = scene.judge(6600).unwrap();
        assert_eq!((outcome.lag_ms, outcome.finish_ms), (5000.0, 5000.0));
        assert_eq!(outcome.missing.unwrap(), "the server heard nothing of it within 5 s");
        scene.note(700, EventKind::UtteranceStarted { utterance: utterance() });
        assert_eq!(scene.judge(6600).unwrap().missing.unwrap(), "not transcribed within 5 s");
        scene.understood();
        assert_eq!(scene.judge(6600).unwrap().missing.unwrap(), "not translated within 5 s");
    }

    #[test]
    fn what_was_dropped_says_why_although_it_was_never_understood() {
        let mut scene = scene();
        let (reason, detail) = ("overloaded".to_owned(), "no room".to_owned());
        scene.note(700, EventKind::UtteranceStarted { utterance: utterance() });
        scene.note(1900, EventKind::UtteranceDropped { utterance: utterance(), reason, detail });
        let outcome = scene.judge(5200).unwrap();
        assert_eq!(outcome.missing.as_deref(), Some("dropped (overloaded: no room)"));
        assert_eq!(outcome.lag_ms, 5000.0);
    }

    #[test]
    fn the_next_sentence_does_not_cut_an_interpretation_short() {
        let mut scene = scene();
        scene.understood();
        scene.spoken();
        let judge = |scene: &Scene, at_ms: u64| {
            let now = scene.start + MS(at_ms);
            let mut heard = scene.heard.clone();
            heard.packets.retain(|packet| packet.arrival <= now);
            let last = heard.packets.iter().rev().find(|packet| packet.sounds);
            heard.last_sound_at = last.map(|packet| packet.arrival);
            let said = Said { next_due: Some(scene.start + MS(1000)), ..scene.said() };
            said.judge(&scene.ledger, &heard, now)
        };
        // It is announced; has been heard for a moment; is in its middle; is just over.
        for at_ms in [2590, 2610, 3200, 4900] {
            assert_eq!(judge(&scene, at_ms), None, "{at_ms}");
        }
        let outcome = judge(&scene, 5200).unwrap();
        assert_eq!(outcome.missing, None);
        assert!((outcome.finish_ms - 2100.0).abs() < 0.1, "{outcome:?}");
    }

    #[test]
    fn the_original_is_judged_by_its_sound() {
        let mut scene = scene();
        for (n, packet) in scene.heard.packets.iter_mut().enumerate() {
            // The voice, 60 ms later.
            packet.sounds = (28..78).contains(&n);
        }
        let judge = |scene: &Scene, at_ms| {
            let said = Said { to: "en", ..scene.said() };
            said.judge(&scene.ledger, &scene.heard, scene.start + MS(at_ms))
        };
        assert_eq!(judge(&scene, 2000), None);
        let outcome = judge(&scene, 3000).unwrap();
        assert_eq!(outcome.missing, None);
        assert!((outcome.lag_ms - 60.0).abs() < 0.1, "{outcome:?}");
        assert!((outcome.start_ms - 60.0).abs() <= 25.0, "{outcome:?}");
        scene.heard.packets.iter_mut().for_each(|packet| packet.sounds = false);
        let outcome = judge(&scene, 3000).unwrap();
        assert_eq!(outcome.missing.as_deref(), Some("the original was not heard"));
    }

    #[test]
    fn an_interpretation_whose_first_packet_was_lost_begins_with_the_next() {
        let mut scene = scene();
        scene.understood();
        scene.spoken();
        scene.heard.packets.drain(130..132);
        let outcome = scene.judge(5200).unwrap();
        assert_eq!(outcome.missing, None);
        assert!((outcome.lag_ms - 1160.0).abs() < 0.1, "{outcome:?}");
        scene.heard.packets.drain(130..180);
        let missing = scene.judge(5200).unwrap().missing;
        assert_eq!(missing.as_deref(), Some("the translated packets were lost"));
    }

    #[test]
    fn announced_silence_is_no_interpretation() {
        let mut scene = scene();
        scene.understood();
        scene.spoken();
        scene.heard.packets.iter_mut().for_each(|packet| packet.sounds = false);
        let missing = scene.judge(5200).unwrap().missing;
        assert_eq!(missing.as_deref(), Some("the translated packets are silent"));
    }
}
