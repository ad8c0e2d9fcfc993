//! Who joins when and says what when, drawn from a seed before a run begins. The plan is open loop:
//! nothing in it depends on how quickly the server answers, so a slow server cannot thin out the
//! load that makes it slow.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use signaling::wire::RoomKind;

use crate::corpus::{Corpus, Sentence};

/// Who meets in one room.
#[derive(Clone, Debug, PartialEq)]
pub struct Cast {
    /// What kind of room.
    pub kind: RoomKind,
    /// Languages of those who speak, one each (BCP 47). They take turns.
    pub speakers: Vec<String>,
    /// Languages of those who listen, one each (BCP 47).
    pub listeners: Vec<String>,
}

/// How the load grows and how the talk goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Number of sessions of each level, growing.
    pub steps: Vec<usize>,
    /// How long a level is held after its sessions have joined.
    pub hold: Duration,
    /// Time between one session's joining and the next one's.
    pub join_every: Duration,
    /// Shortest and longest quiet between two sentences of a session.
    pub think: (Duration, Duration),
    /// The same seed gives the same plan.
    pub seed: u64,
}

/// One sentence that somebody says.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Index of the level in which it begins.
    pub level: usize,
    /// When it begins, from the beginning of the run.
    pub at: Duration,
    /// Index of the speaker in the cast.
    pub speaker: usize,
    /// What is said.
    pub sentence: Arc<Sentence>,
}

/// One session's part of the plan.
#[derive(Clone, Debug)]
pub struct SessionPlan {
    /// Its number, in the order of joining.
    pub index: usize,
    /// Index of the level in which it joins.
    pub level: usize,
    /// When it joins, from the beginning of the run.
    pub join_at: Duration,
    /// Who meets.
    pub cast: Cast,
    /// What is said, in sequence.
    pub turns: Vec<Turn>,
}

/// A level's part of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelPlan {
    /// Sessions at once.
    pub sessions: usize,
    /// When the first of its sessions joins.
    pub begin: Duration,
    /// When it ends.
    pub end: Duration,
}

/// A whole run, before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The levels, in sequence.
    pub levels: Vec<LevelPlan>,
    /// The sessions, in the order of joining. All stay until the end.
    pub sessions: Vec<SessionPlan>,
}

/// Nobody speaks with the first packet of a call.
const LEAD_IN: Duration = Duration::from_secs(2);

/// Draws a plan. The sessions take the casts in turn.
///
/// Every speaker's language has to be in the corpus; a cast whose speakers' languages are not says
/// nothing.
#[must_use]
pub fn plan(load: &Load, casts: &[Cast], corpus: &Corpus) -> Plan {
    let mut levels = Vec::new();
    let mut joins: Vec<(usize, Duration)> = Vec::new();
    let mut begin = Duration::ZERO;
    for (level, &sessions) in load.steps.iter().enumerate() {
        let new = sessions.saturating_sub(joins.len());
        joins.extend((0..new).map(|n| (level, begin + load.join_every * n as u32)));
        let end = begin + load.join_every * new.saturating_sub(1) as u32 + LEAD_IN + load.hold;
        levels.push(LevelPlan { sessions, begin, end });
        begin = end;
    }
    let end = begin;
    let sessions = joins
        .into_iter()
        .zip(casts.iter().cycle())
        .enumerate()
        .map(|(index, ((level, join_at), cast))| {
            let mut random = StdRng::seed_from_u64(load.seed.wrapping_add(index as u64));
            let turns = turns(load, cast, corpus, &levels, join_at, end, &mut random);
            SessionPlan { index, level, join_at, cast: cast.clone(), turns }
        })
        .collect();
    Plan { levels, sessions }
}

fn turns(
    load: &Load,
    cast: &Cast,
    corpus: &Corpus,
    levels: &[LevelPlan],
    join_at: Duration,
    end: Duration,
    random: &mut StdRng,
) -> Vec<Turn> {
    let mut turns = Vec::new();
    let (shortest, longest) = load.think;
    // Sessions that join together should not speak together for ever.
    let mut at = join_at + LEAD_IN + longest.mul_f64(random.random::<f64>());
    for speaker in (0..cast.speakers.len()).cycle() {
        let sentences = corpus.in_language(&cast.speakers[speaker]);
        if sentences.is_empty() {
            break;
        }
        let sentence = Arc::clone(&sentences[random.random_range(0..sentences.len())]);
        let over = at + sentence.duration();
        if over > end {
            break;
        }
        let level = levels.iter().take_while(|level| level.end <= at).count();
        turns.push(Turn { level, at, speaker, sentence });
        at = over + shortest + longest.saturating_sub(shortest).mul_f64(random.random::<f64>());
    }
    turns
}

impl Plan {
    /// When the last level ends.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.levels.last().map_or(Duration::ZERO, |level| level.end)
    }
}

impl Cast {
    /// Two parties, one of whom speaks.
    #[must_use]
    pub fn call(from: &str, to: &str) -> Self {
        Self {
            kind: RoomKind::Call,
            speakers: vec![from.to_owned()],
            listeners: vec![to.to_owned()],
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    fn corpus() -> Corpus {
        let tone: Vec<f32> = (0..72_000).map(|n| 0.3 * (n as f32 * 0.04).sin()).collect();
        Corpus::of(
            ["one.wav", "two.wav"]
                .map(|name| Sentence::new(Path::new(name), "en", "hello", &tone, None).unwrap()),
        )
    }

    fn load() -> Load {
        Load {
            steps: vec![1, 2, 4],
            hold: Duration::from_secs(60),
            join_every: Duration::from_millis(500),
            think: (Duration::from_secs(2), Duration::from_secs(6)),
            seed: 7,
        }
    }

    #[test]
    fn levels_follow_each_other_and_sessions_stay() {
        let plan = plan(&load(), &[Cast::call("en", "es")], &corpus());
        let seconds: Vec<_> = plan
            .levels
            .iter()
            .map(|level| (level.sessions, level.begin.as_secs_f64(), level.end.as_secs_f64()))
            .collect();
        assert_eq!(seconds, [(1, 0.0, 62.0), (2, 62.0, 124.0), (4, 124.0, 186.5)]);
        let joins: Vec<f64> = plan.sessions.iter().map(|it| it.join_at.as_secs_f64()).collect();
        assert_eq!(joins, [0.0, 62.0, 124.0, 124.5]);
        // The first session speaks in every level.
        let levels: Vec<usize> = plan.sessions[0].turns.iter().map(|turn| turn.level).collect();
        assert!(levels.is_sorted() && (0..3).all(|level| levels.contains(&level)), "{levels:?}");
    }

    #[test]
    fn sentences_keep_their_distance_and_end_with_the_run() {
        let plan = plan(&load(), &[Cast::call("en", "es")], &corpus());
        for session in &plan.sessions {
            let first = session.turns[0].at - session.join_at;
            assert!((2.0..8.0).contains(&first.as_secs_f64()), "{first:?}");
            for pair in session.turns.windows(2) {
                let quiet = pair[1].at - pair[0].at - pair[0].sentence.duration();
                assert!((2.0..=6.0).contains(&quiet.as_secs_f64()), "{quiet:?}");
            }
            let last = session.turns.last().unwrap();
            assert!(last.at + last.sentence.duration() <= plan.end());
        }
    }

    #[test]
    fn a_seed_gives_one_plan_and_casts_take_turns() {
        let meeting = Cast {
            kind: RoomKind::Conference,
            speakers: vec!["en".to_owned(), "en".to_owned()],
            listeners: vec!["es".to_owned(); 3],
        };
        let casts = [Cast::call("en", "es"), meeting.clone()];
        let told = |seed| {
            let plan = plan(&Load { seed, ..load() }, &casts, &corpus());
            plan.sessions
                .iter()
                .flat_map(|session| &session.turns)
                .map(|turn| (turn.at, turn.sentence.name.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(1), told(1));
        assert_ne!(told(1), told(2));
        let plan = plan(&load(), &casts, &corpus());
        assert_eq!(plan.sessions[2].cast, casts[0]);
        assert_eq!(plan.sessions[3].cast, meeting);
        let speakers: Vec<usize> =
            plan.sessions[1].turns.iter().map(|turn| turn.speaker).take(4).collect();
        assert_eq!(speakers, [0, 1, 0, 1]);
    }
}
