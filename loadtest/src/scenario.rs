//! A scenario as it is written, in a file or as flags: who meets, how the load grows, what has to
//! hold. Flags come before the file, and the file before the defaults.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use signaling::wire::RoomKind;

use crate::impairment::Preset;
use crate::objective::{self, Objective};
use crate::run::TIMEOUT;
use crate::schedule::{Cast, Load};

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read the scenario {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not of the expected form.
    #[error("{} is no scenario", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Something does not fit.
    #[error("{0}")]
    Unfit(String),
}

/// What a run needs to know, apart from who meets.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Address of the server [default: http://127.0.0.1:8080].
    #[arg(long)]
    pub server: Option<String>,
    /// Folder of recordings with their list, corpus.json [default: the one that
    /// `make loadtest-corpus` fetches].
    #[arg(long)]
    pub corpus: Option<PathBuf>,
    /// Recordings of each language to use, the first ones of the list [default: 40].
    #[arg(long)]
    pub sentences: Option<usize>,
    /// Sessions at once [default: 1].
    #[arg(long, conflicts_with = "ramp")]
    pub sessions: Option<usize>,
    /// Sessions at once, growing, such as 1..32.
    #[arg(long, value_name = "FROM..TO")]
    pub ramp: Option<Bounds<usize>>,
    /// Sessions that each level of a ramp adds [default: 1].
    #[arg(long)]
    pub step: Option<usize>,
    /// How long each level is held [default: 60s].
    #[arg(long, visible_alias = "duration")]
    pub hold: Option<Span>,
    /// Time between one session's joining and the next one's [default: 500ms].
    #[arg(long)]
    pub join_every: Option<Span>,
    /// Quiet between two sentences of a session; drawn evenly [default: 3s..7s].
    #[arg(long, value_name = "FROM..TO")]
    pub think: Option<Bounds<Span>>,
    /// Time after the end of a sentence in which its interpretation has to be heard. A missing one
    /// is counted with this time [default: 10s].
    #[arg(long)]
    pub timeout: Option<Span>,
    /// What has to hold, such as lag_p95<2.5s,loss<1%.
    #[arg(long, long_help = objective::HELP)]
    pub slo: Option<Objective>,
    /// Grow until the objective does not hold any more, go back by halves to the largest number of
    /// sessions that holds it, and tell that [default: 1..32].
    #[arg(long)]
    pub find_capacity: bool,
    /// After the run, have the server write down what was heard, at most 40 interpretations, and
    /// hold it against the translations.
    #[arg(long)]
    pub listen_back: bool,
    /// A bad network between the callers and the server, by a relay of our own [default: none].
    #[arg(long, value_enum)]
    pub network: Option<Preset>,
    /// The same seed gives the same sentences at the same times [default: 1].
    #[arg(long)]
    pub seed: Option<u64>,
}

/// A scenario file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    /// Who meets; sessions take these in turn.
    #[serde(default)]
    session: Vec<Meeting>,
    #[serde(default)]
    load: Settings,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meeting {
    kind: RoomKind,
    speakers: Vec<String>,
    listeners: Vec<String>,
}

/// A scenario with everything in it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Address of the server.
    pub server: String,
    /// Folder of recordings, when one was named.
    pub corpus: Option<PathBuf>,
    /// Recordings of each language.
    pub sentences: usize,
    /// Who meets.
    pub casts: Vec<Cast>,
    /// How the load grows.
    pub load: Load,
    /// How long after the end of the speech an answer counts.
    pub timeout: Duration,
    /// What the network does.
    pub network: Option<Preset>,
    /// What has to hold.
    pub objective: Objective,
    /// Whether to stop at the first level that does not hold it.
    pub find_capacity: bool,
    /// Whether the server is to write down what was heard.
    pub listen_back: bool,
}

/// A time, written `30s`, `1500ms` or `2m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// From one value to another, written `FROM..TO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds<T> {
    /// The lower one.
    pub from: T,
    /// The upper one.
    pub to: T,
}

impl Settings {
    /// These, and where they say nothing, others.
    #[must_use]
    fn or(self, other: Self) -> Self {
        // A number and a ramp exclude each other: what is said first is not completed.
        let (sessions, ramp) = match (self.sessions, self.ramp) {
            (None, None) => (other.sessions, other.ramp),
            said => said,
        };
        Self {
            server: self.server.or(other.server),
            corpus: self.corpus.or(other.corpus),
            sentences: self.sentences.or(other.sentences),
            sessions,
            ramp,
            step: self.step.or(other.step),
            hold: self.hold.or(other.hold),
            join_every: self.join_every.or(other.join_every),
            think: self.think.or(other.think),
            timeout: self.timeout.or(other.timeout),
            slo: self.slo.or(other.slo),
            network: self.network.or(other.network),
            find_capacity: self.find_capacity || other.find_capacity,
            listen_back: self.listen_back || other.listen_back,
            seed: self.seed.or(other.seed),
        }
    }

    /// The steps of the load.
    fn steps(&self) -> Result<Vec<usize>, ScenarioError> {
        let single = |sessions| Bounds { from: sessions, to: sessions };
        let Bounds { from, to } = match (self.ramp, self.sessions) {
            (Some(ramp), _) => ramp,
            (None, Some(sessions)) => single(sessions),
            (None, None) if self.find_capacity => Bounds { from: 1, to: 32 },
            (None, None) => single(1),
        };
        let step = self.step.unwrap_or(1);
        if from == 0 || step == 0 {
            let text = "at least one session is needed, and at least one more with each level";
            return Err(ScenarioError::Unfit(text.to_owned()));
        }
        Ok((from..=to).step_by(step).collect())
    }
}

impl Scenario {
    /// Sessions with a given cast.
    ///
    /// # Errors
    /// [`ScenarioError::Unfit`].
    pub fn new(casts: Vec<Cast>, settings: Settings) -> Result<Self, ScenarioError> {
        if settings.find_capacity && settings.slo.is_none() {
            let text = "a capacity is searched for with an objective: add --slo lag_p95<2.5s";
            return Err(ScenarioError::Unfit(text.to_owned()));
        }
        let seconds = |span: Option<Span>, default| span.map_or(default, |span| span.0);
        let think = settings.think.map(|bounds| (bounds.from.0, bounds.to.0));
        Ok(Self {
            load: Load {
                steps: settings.steps()?,
                hold: seconds(settings.hold, Duration::from_secs(60)),
                join_every: seconds(settings.join_every, Duration::from_millis(500)),
                think: think.unwrap_or((Duration::from_secs(3), Duration::from_secs(7))),
                seed: settings.seed.unwrap_or(1),
            },
            casts,
            server: settings.server.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned()),
            corpus: settings.corpus,
            sentences: settings.sentences.unwrap_or(40),
            timeout: seconds(settings.timeout, TIMEOUT),
            network: settings.network,
            objective: settings.slo.unwrap_or_default(),
            find_capacity: settings.find_capacity,
            listen_back: settings.listen_back,
        })
    }

    /// A scenario from a file, with settings that come before it.
    ///
    /// # Errors
    /// [`ScenarioError`] names the file and the line.
    pub fn read(path: &Path, settings: Settings) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        let file: File = toml::from_str(&text).map_err(|source| ScenarioError::Form {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let casts = file.session.into_iter().map(|meeting| Cast {
            kind: meeting.kind,
            speakers: meeting.speakers,
            listeners: meeting.listeners,
        });
        Self::new(casts.collect(), settings.or(file.load))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Load { steps, hold, join_every, think, seed } = &self.load;
        let casts: Vec<String> = self.casts.iter().map(Cast::to_string).collect();
        let steps: Vec<String> = steps.iter().map(usize::to_string).collect();
        let time = |span: Duration| humantime::format_duration(span).to_string();
        write!(
            formatter,
            "{}; {} sessions, {} each, one joining every {}; {} to {} between sentences; answers \
             within {}; seed {seed}",
            casts.join(" and "),
            steps.join(", "),
            time(*hold),
            time(*join_every),
            time(think.0),
            time(think.1),
            time(self.timeout),
        )?;
        if let Some(network) = self.network {
            write!(formatter, "; network {network}")?;
        }
        if self.objective.is_empty() {
            return Ok(());
        }
        write!(formatter, "; objective {}", self.objective)
    }
}

impl fmt::Display for Cast {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RoomKind::Call => "call",
            RoomKind::Conference => "conference",
        };
        write!(formatter, "{kind} {}→{}", tally(&self.speakers), tally(&self.listeners))
    }
}

/// `en×2,es`: languages with how often they occur.
fn tally(languages: &[String]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for language in languages {
        match counts.iter_mut().find(|(known, _)| known == language) {
            Some((_, count)) => *count += 1,
            None => counts.push((language, 1)),
        }
    }
    let told = counts.into_iter().map(|(language, count)| match count {
        1 => language.to_owned(),
        _ => format!("{language}×{count}"),
    });
    told.collect::<Vec<_>>().join(",")
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| format!("{text:?} is no duration: write 30s, 1500ms or 2m"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl<T: FromStr<Err: fmt::Display> + Ordered> FromStr for Bounds<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) =
            text.split_once("..").ok_or_else(|| format!("{text:?} is no range: write 1..32"))?;
        let part = |text: &str| text.trim().parse().map_err(|error: T::Err| error.to_string());
        let bounds = Self { from: part(from)?, to: part(to)? };
        if bounds.from.is_after(&bounds.to) {
            return Err(format!("{text:?} runs backwards"));
        }
        Ok(bounds)
    }
}

/// What a range can be of.
pub trait Ordered {
    /// Whether it comes after another one.
    fn is_after(&self, other: &Self) -> bool;
}

impl Ordered for usize {
    fn is_after(&self, other: &Self) -> bool {
        self > other
    }
}

impl Ordered for Span {
    fn is_after(&self, other: &Self) -> bool {
        self.0 > other.0
    }
}

impl<'de, T> Deserialize<'de> for Bounds<T>
where
    Self: FromStr<Err = String>,
{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Objective {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str, settings: Settings) -> Result<Scenario, ScenarioError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evening.toml");
        std::fs::write(&path, text).unwrap();
        Scenario::read(&path, settings)
    }

    const EXAMPLE: &str = include_str!("../scenarios/mixed.toml");

    const MIXED: &str = r#"
        [load]
        ramp = "2..8"
        step = 3
        think = "1s..1500ms"
        slo = "lag_p95<3s"

        [[session]]
        kind = "call"
        speakers = ["en"]
        listeners = ["es"]

        [[session]]
        kind = "conference"
        speakers = ["en", "en"]
        listeners = ["es", "es", "fr"]
    "#;

    #[test]
    fn flags_come_before_the_file_and_the_file_before_the_defaults() {
        let settings = Settings { step: Some(2), seed: Some(9), ..Settings::default() };
        let scenario = read(MIXED, settings).unwrap();
        assert_eq!(scenario.load.steps, [2, 4, 6, 8]);
        assert_eq!(scenario.load.seed, 9);
        assert_eq!(scenario.load.think.1, Duration::from_millis(1500));
        assert_eq!(scenario.timeout, Duration::from_secs(10));
        assert_eq!(scenario.casts[0], Cast::call("en", "es"));
        assert_eq!(
            scenario.to_string(),
            "call en→es and conference en×2→es×2,fr; 2, 4, 6, 8 sessions, 1m each, one joining \
             every 500ms; 1s to 1s 500ms between sentences; answers within 10s; seed 9; objective \
             lag_p95<3s"
        );
        let alone = Settings { sessions: Some(5), ..Settings::default() };
        assert_eq!(read(MIXED, alone).unwrap().load.steps, [5]);
    }

    #[test]
    fn the_example_is_a_scenario() {
        let scenario = read(EXAMPLE, Settings::default()).unwrap();
        assert_eq!(scenario.load.steps, [3, 6, 9]);
        assert_eq!(scenario.casts.len(), 3);
        assert!(!scenario.objective.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let message = |text: &str| {
            let error = read(text, Settings::default()).unwrap_err();
            format!("{:#}", anyhow::Error::new(error))
        };
        assert!(message("[load]\nsped = 1").contains("sped"), "{}", message("[load]\nsped = 1"));
        assert!(message("[load]\nramp = \"8..2\"").contains("runs backwards"));
        assert!(message("[load]\nhold = \"soon\"").contains("write 30s"));
        assert!(message("[load]\nsessions = 0").contains("at least one session"));
        assert!(message("[load]\nfind-capacity = true").contains("--slo"));
        let nowhere = Scenario::read(Path::new("/nowhere.toml"), Settings::default()).unwrap_err();
        assert!(nowhere.to_string().contains("/nowhere.toml"));
    }
}
