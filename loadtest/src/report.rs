//! What a run found: one outcome for every sentence that was due, the levels of load in sequence,
//! and the verdicts. It is written as JSON and read back for comparisons.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::distribution::{Distribution, Summary};

/// The version of the JSON format; another one is refused.
pub const FORMAT: u32 = 1;

/// A whole run. Times are milliseconds from its beginning unless a name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of this program.
    pub version: String,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// How long it took, seconds.
    pub took_s: f64,
    /// Address of the server.
    pub server: String,
    /// What was asked for, one line a person can read.
    pub scenario: String,
    /// Time after which an answer counts as missing; missing answers are counted with it.
    pub timeout_ms: f64,
    /// The levels of load, in the sequence in which they were held.
    pub levels: Vec<Level>,
    /// All levels together.
    pub total: Figures,
    /// How late the generator itself was.
    pub generator: Generator,
    /// The objective's conditions, over all levels together; empty when none was given.
    pub verdicts: Vec<Verdict>,
    /// Largest number of sessions that held the objective, when it was searched for.
    pub capacity: Option<usize>,
    /// Every sentence that was due.
    pub outcomes: Vec<Outcome>,
    /// What went wrong, in sequence.
    pub errors: Vec<Failure>,
    /// Why the run ended before its time, when it did.
    pub cut_short: Option<String>,
}

/// A number of sessions that was held for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Sessions at once.
    pub sessions: usize,
    /// Beginning of the level.
    pub begin_ms: f64,
    /// End of the level.
    pub end_ms: f64,
    /// What was found in it.
    pub figures: Figures,
    /// The objective's conditions in this level; empty when none was given.
    pub verdicts: Vec<Verdict>,
    /// How long each join in it took.
    #[serde(default)]
    pub joins_ms: Vec<f64>,
}

/// What was found in a piece of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Sentences that were due.
    pub sentences: usize,
    /// Sentences whose interpretation was not heard in time.
    pub missing: usize,
    /// End of speech to first translated audio: the headline. Missing ones count as the timeout.
    pub lag: Summary,
    /// Beginning of speech to first translated audio. Missing ones count as the timeout.
    pub start: Summary,
    /// End of speech to last translated audio. Missing ones count as the timeout.
    pub finish: Summary,
    /// End of speech to the transcript of its last words. Those without are left out.
    pub caption: Summary,
    /// The stages that follow each other between end of speech and first translated audio, as the
    /// server traced them, in sequence.
    pub stages: Vec<Stage>,
    /// How far the lag by the server's trace and by the client's clock are apart.
    pub unexplained: Summary,
    /// How far the packets of translated audio stray from their rhythm (RFC 3550 §6.4.1).
    pub jitter: Summary,
    /// Time to join: from the request to a connected peer.
    pub join: Summary,
    /// Packets that reached the listeners.
    pub packets: u64,
    /// Packets that did not.
    pub lost: u64,
    /// Packets that a listener had to conceal: those that did not arrive, and those that came more
    /// than 100 ms after the quickest would have.
    #[serde(default)]
    pub concealed: u64,
    /// Words that were said in sentences with a transcript.
    pub words: usize,
    /// Words of them that came back wrong.
    pub wrong_words: usize,
    /// Mean chrF of the translations that have a reference, 0 to 100.
    pub chrf: Option<f64>,
    /// Interpretations that were listened back to.
    #[serde(default)]
    pub listened: usize,
    /// Words of their translations.
    #[serde(default)]
    pub listened_words: usize,
    /// Words of them that were understood otherwise, or not.
    #[serde(default)]
    pub listened_wrong_words: usize,
}

/// One stage of the server's trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Its name: endpoint, queue, transcribe, translate, speak or playout.
    pub name: String,
    /// How long it took.
    pub time: Summary,
}

/// How well the load generator kept its own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// How late a timer of the generator was.
    pub late: Summary,
    /// Whether its 99th percentile is below one packet's time: if not, the run says nothing.
    pub valid: bool,
    /// CPU time of the generator, cores.
    pub cores: f64,
    /// Whether it had real-time priority.
    pub real_time: bool,
}

/// One condition of an objective and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The condition as it was written.
    pub condition: String,
    /// What was measured, in the condition's own unit.
    pub measured: String,
    /// Whether it holds.
    pub met: bool,
}

/// What became of one sentence. It was due at its time whatever the server did, and all is counted
/// from when it was due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Number of the session.
    pub session: usize,
    /// Index of the level in which it was due.
    pub level: usize,
    /// When its first sample was due.
    pub due_ms: f64,
    /// How much later it left.
    pub late_ms: f64,
    /// Name of the recording.
    pub sentence: String,
    /// Language spoken.
    pub from: String,
    /// Language heard.
    pub to: String,
    /// Why no interpretation was heard in time; `None` when one was.
    pub missing: Option<String>,
    /// End of speech to first translated audio; the timeout when missing.
    pub lag_ms: f64,
    /// Beginning of speech to first translated audio; the timeout when missing.
    pub start_ms: f64,
    /// End of speech to last translated audio; the timeout when missing.
    pub finish_ms: f64,
    /// End of speech to the transcript of its last words.
    pub caption_ms: Option<f64>,
    /// The stages of the server's trace, milliseconds, in sequence.
    pub stages: Vec<(String, f64)>,
    /// The lag as the server traced it.
    pub traced_lag_ms: Option<f64>,
    /// The same lag by the client's clock: from where the server found the end of the speech, which
    /// may be another place than where the corpus says it is, to the first translated packet.
    pub heard_lag_ms: Option<f64>,
    /// Jitter of the translated packets (RFC 3550 §6.4.1).
    pub jitter_ms: Option<f64>,
    /// What the server understood.
    pub transcript: Option<String>,
    /// Words that were said.
    pub words: usize,
    /// Words of them that came back wrong.
    pub wrong_words: usize,
    /// What it became.
    pub translation: Option<String>,
    /// chrF of the translation, when there is a reference, 0 to 100.
    pub chrf: Option<f64>,
    /// What a recogniser understood of what was heard, when it was listened back to.
    #[serde(default)]
    pub listened: Option<Listened>,
    /// Opus packets of what was heard, when they are kept; in no file.
    #[serde(skip)]
    pub heard: Vec<Bytes>,
}

/// What was understood of an interpretation, held against the translation that was to be said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listened {
    /// What was understood.
    pub text: String,
    /// Words of the translation.
    pub words: usize,
    /// Words of them that were understood otherwise, or not.
    pub wrong_words: usize,
}

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at_ms: f64,
    /// In which session.
    pub session: usize,
    /// What.
    pub what: String,
}

/// Names of the stages, in sequence.
pub const STAGES: [&str; 6] = ["endpoint", "queue", "transcribe", "translate", "speak", "playout"];

impl Outcome {
    /// The time of one stage.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<f64> {
        self.stages.iter().find(|(stage, _)| stage == name).map(|(_, ms)| *ms)
    }

    /// What the client measured beyond the server's own trace.
    #[must_use]
    pub fn unexplained_ms(&self) -> Option<f64> {
        self.heard_lag_ms.zip(self.traced_lag_ms).map(|(heard, traced)| heard - traced)
    }
}

impl Figures {
    /// Of outcomes; joins and packets are added by who knows them.
    #[must_use]
    pub fn of(outcomes: &[&Outcome]) -> Self {
        let outcomes = outcomes.iter().copied();
        let summary = |value: fn(&Outcome) -> Option<f64>| {
            outcomes.clone().filter_map(value).collect::<Distribution>().summary()
        };
        let stages = STAGES.iter().filter_map(|name| {
            let times = outcomes.clone().filter_map(|outcome| outcome.stage(name));
            let time = times.collect::<Distribution>().summary();
            (time.count > 0).then(|| Stage { name: (*name).to_owned(), time })
        });
        let scores: Vec<f64> = outcomes.clone().filter_map(|outcome| outcome.chrf).collect();
        let listened = outcomes.clone().filter_map(|outcome| outcome.listened.as_ref());
        let transcribed = outcomes.clone().filter(|outcome| outcome.transcript.is_some());
        Self {
            sentences: outcomes.clone().count(),
            missing: outcomes.clone().filter(|outcome| outcome.missing.is_some()).count(),
            lag: summary(|outcome| Some(outcome.lag_ms)),
            start: summary(|outcome| Some(outcome.start_ms)),
            finish: summary(|outcome| Some(outcome.finish_ms)),
            caption: summary(|outcome| outcome.caption_ms),
            stages: stages.collect(),
            unexplained: summary(|outcome| outcome.unexplained_ms().map(f64::abs)),
            jitter: summary(|outcome| outcome.jitter_ms),
            join: Summary::default(),
            packets: 0,
            lost: 0,
            concealed: 0,
            words: transcribed.clone().map(|outcome| outcome.words).sum(),
            wrong_words: transcribed.map(|outcome| outcome.wrong_words).sum(),
            listened: listened.clone().count(),
            listened_words: listened.clone().map(|listened| listened.words).sum(),
            listened_wrong_words: listened.map(|listened| listened.wrong_words).sum(),
            chrf: (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
        }
    }

    /// Share of sentences that were not answered in time.
    #[must_use]
    pub fn missing_share(&self) -> f64 {
        share(self.missing as f64, self.sentences as f64)
    }

    /// Share of packets that did not arrive.
    #[must_use]
    pub fn loss(&self) -> f64 {
        share(self.lost as f64, (self.packets + self.lost) as f64)
    }

    /// Share of packets that had to be concealed.
    #[must_use]
    pub fn concealment(&self) -> f64 {
        share(self.concealed as f64, (self.packets + self.lost) as f64)
    }

    /// Word error rate of the transcripts.
    #[must_use]
    pub fn word_error_rate(&self) -> f64 {
        share(self.wrong_words as f64, self.words as f64)
    }

    /// Word error rate of what was understood of the interpretations, against their translations.
    #[must_use]
    pub fn listened_error_rate(&self) -> f64 {
        share(self.listened_wrong_words as f64, self.listened_words as f64)
    }
}

impl Report {
    /// The levels by their number of sessions.
    #[must_use]
    pub fn levels_by_load(&self) -> Vec<&Level> {
        let mut levels: Vec<&Level> = self.levels.iter().collect();
        levels.sort_by_key(|level| level.sessions);
        levels
    }

    /// Whether every condition of the objective holds.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.met)
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
