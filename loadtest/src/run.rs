//! A whole run: everybody's plan is drawn, the sessions are held, and what they tell becomes a
//! report. A run that is stopped, or whose server dies, gives the report of what it saw.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cpu_time::ProcessTime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::api::{Api, ApiError};
use crate::canary::{self, Canary};
use crate::corpus::Corpus;
use crate::detour::Detour;
use crate::distribution::{Distribution, Summary};
use crate::impairment::Conditions;
use crate::listening::listen_back;
use crate::objective::Objective;
use crate::report::{FORMAT, Failure, Figures, Generator, Level, Outcome, Report};
use crate::schedule::{Cast, Load, Plan, plan};
use crate::session::{Packets, Stage, Told, hold};

/// How often progress is told and the levels are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Time from an answer's last chance to its being judged, and for goodbyes.
const GRACE: Duration = Duration::from_secs(5);

/// What sessions have told and nobody has noted yet; more makes them wait.
const WAITING: usize = 1024;

/// How long after the end of the speech an answer counts, unless something else is asked for.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What to do.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Address of the server, such as `http://127.0.0.1:8080`.
    pub server: String,
    /// The server's API key, or an admin token.
    pub api_key: String,
    /// Who meets; sessions take these in turn.
    pub casts: Vec<Cast>,
    /// How the load grows.
    pub load: Load,
    /// What is said.
    pub corpus: Corpus,
    /// How long after the end of the speech an answer counts.
    pub timeout: Duration,
    /// What the network between the callers and the server does, when it is to do anything.
    pub network: Option<Conditions>,
    /// What has to hold.
    pub objective: Objective,
    /// Whether to stop at the first level that does not hold the objective.
    pub find_capacity: bool,
    /// Whether the server's recogniser listens to what was heard, after the run.
    pub listen_back: bool,
    /// Whether the callers' threads have real-time priority.
    pub real_time: bool,
    /// The scenario in words, for the report.
    pub scenario: String,
}

impl RunOptions {
    /// A run over the network as it is, without an objective; answers count for [`TIMEOUT`].
    #[must_use]
    pub fn new(server: &str, api_key: &str, casts: Vec<Cast>, load: Load, corpus: Corpus) -> Self {
        Self {
            server: server.to_owned(),
            api_key: api_key.to_owned(),
            casts,
            load,
            corpus,
            timeout: TIMEOUT,
            network: None,
            objective: Objective::default(),
            find_capacity: false,
            listen_back: false,
            real_time: false,
            scenario: String::new(),
        }
    }
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The server is not there, not ready, or refuses the credentials.
    #[error("the run could not begin")]
    Server(#[from] ApiError),
    /// There is nothing to say.
    #[error(
        "nobody says anything in this scenario: it needs at least one session with a speaker, and \
         levels that are held for longer than its sentences"
    )]
    Empty,
}

/// How far a run is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Time since the beginning.
    pub elapsed: Duration,
    /// When the plan ends.
    pub end: Duration,
    /// The level that is being held, from 1.
    pub level: usize,
    /// Number of levels.
    pub levels: usize,
    /// Sessions that are held.
    pub sessions: usize,
    /// Sentences judged so far.
    pub sentences: usize,
    /// Sentences of them that were not answered in time.
    pub missing: usize,
    /// Lag so far.
    pub lag: Summary,
    /// Lateness of the generator, 99th percentile, ms.
    pub late_p99_ms: f64,
    /// What went wrong so far.
    pub errors: usize,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Interpretations that were listened back to, and how many are to be.
    pub listened: Option<(usize, usize)>,
}

/// Holds a run to its end, or until `stop` resolves with the reason for it.
///
/// # Errors
/// [`RunError`] when it could not begin. What goes wrong later is in the report.
pub async fn run(
    options: RunOptions,
    mut progress: impl FnMut(&Progress),
    stop: impl Future<Output = String>,
) -> Result<Report, RunError> {
    let office = Api::new(&options.server, &options.api_key);
    office.ready().await?;
    office.rooms().await?;
    let plan = plan(&options.load, &options.casts, &options.corpus);
    if plan.sessions.iter().all(|session| session.turns.is_empty()) {
        return Err(RunError::Empty);
    }
    let (told, telling) = mpsc::channel(WAITING);
    let (stop_all, stopping) = watch::channel(false);
    let canary = Canary::start();
    let (started, cpu, origin) = (SystemTime::now(), ProcessTime::now(), Instant::now());
    let stage = Stage {
        office: office.clone(),
        origin,
        end: origin + plan.end(),
        timeout: options.timeout,
        listen_back: options.listen_back,
        detour: options
            .network
            .map(|conditions| Arc::new(Detour::new(conditions, options.load.seed))),
        told,
        stop: stopping,
    };
    let stage = Arc::new(stage);
    let mut tasks = JoinSet::new();
    for session in &plan.sessions {
        tasks.spawn(hold(Arc::clone(&stage), session.clone()));
    }
    // The channel ends with the last session.
    drop(stage);
    let mut book = Book::new(&options, &plan, origin);
    let mut stop = pin!(stop);
    book.listen(telling, &canary, &mut progress, stop.as_mut()).await;
    let ended = Instant::now();
    let _ = stop_all.send(true);
    let goodbye = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, goodbye).await;
    tasks.abort_all();
    let lateness = canary.lateness();
    let took = ended - origin;
    let generator = Generator {
        late: lateness.summary(),
        valid: canary::is_valid(&lateness),
        cores: cpu.elapsed().as_secs_f64() / origin.elapsed().as_secs_f64().max(0.001),
        real_time: options.real_time,
    };
    if options.listen_back && book.cut_short.is_none() {
        book.listen_back(&office, took, &canary, &mut progress, stop).await;
    }
    Ok(book.close(started, took, generator))
}

/// What became known of a run.
struct Book<'a> {
    options: &'a RunOptions,
    plan: &'a Plan,
    origin: Instant,
    outcomes: Vec<Outcome>,
    /// Session, turn and listener of each outcome.
    judged: HashSet<(usize, usize, usize)>,
    /// Level and time of each join.
    joins: Vec<(usize, Duration)>,
    /// Packets by level.
    packets: Vec<Packets>,
    errors: Vec<Failure>,
    lag: Distribution,
    missing: usize,
    held: usize,
    over: usize,
    /// Levels that are complete.
    complete: usize,
    capacity: Option<usize>,
    cut_short: Option<String>,
}

impl<'a> Book<'a> {
    fn new(options: &'a RunOptions, plan: &'a Plan, origin: Instant) -> Self {
        Self {
            options,
            plan,
            origin,
            outcomes: Vec::new(),
            judged: HashSet::new(),
            joins: Vec::new(),
            packets: vec![Packets::default(); plan.levels.len()],
            errors: Vec::new(),
            lag: Distribution::default(),
            missing: 0,
            held: 0,
            over: 0,
            complete: 0,
            capacity: None,
            cut_short: None,
        }
    }

    /// Listens to the sessions until the last one is over, or there is no more to learn.
    async fn listen(
        &mut self,
        mut telling: mpsc::Receiver<Told>,
        canary: &Canary,
        progress: &mut impl FnMut(&Progress),
        stop: impl Future<Output = String>,
    ) {
        let mut stop = pin!(stop);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                told = telling.recv() => match told {
                    Some(told) => self.note(told),
                    None => {
                        self.is_settled();
                        break;
                    }
                },
                why = &mut stop => {
                    self.cut_short = Some(why);
                    break;
                }
                _ = look.tick() => {
                    progress(&self.progress(canary));
                    if self.is_settled() {
                        break;
                    }
                }
            }
        }
    }

    /// Has what was heard written down, until `stop` resolves. Whether that works is no part of the
    /// objective: a failure is told among the errors.
    async fn listen_back(
        &mut self,
        office: &Api,
        took: Duration,
        canary: &Canary,
        progress: &mut impl FnMut(&Progress),
        stop: impl Future<Output = String>,
    ) {
        let shown = self.progress(canary);
        let told = |done, count| {
            progress(&Progress { listened: Some((done, count)), ..shown.clone() });
        };
        let outcome = tokio::select! {
            outcome = listen_back(office, &mut self.outcomes, told) => outcome,
            why = stop => {
                self.cut_short = Some(why);
                return;
            }
        };
        if let Err(error) = outcome {
            let what = format!("listening back: {error:#}");
            let at_ms = 1000.0 * took.as_secs_f64();
            self.errors.push(Failure { at_ms, session: 0, what });
        }
    }

    fn note(&mut self, told: Told) {
        match told {
            Told::Joined { session, took } => {
                self.held += 1;
                let level = self.plan.sessions[session].level;
                self.joins.extend(took.into_iter().map(|took| (level, took)));
            }
            Told::Packets(packets) => {
                let level = self.level_at(self.origin.elapsed());
                if let Some(counted) = self.packets.get_mut(level) {
                    *counted += packets;
                }
            }
            Told::Judged { session, turn, listener, outcome } => {
                self.judged.insert((session, turn, listener));
                self.enter(*outcome);
            }
            Told::Failed { session, at, what } => {
                let at_ms = 1000.0 * at.saturating_duration_since(self.origin).as_secs_f64();
                self.errors.push(Failure { at_ms, session, what });
            }
            Told::Over => self.over += 1,
        }
    }

    fn enter(&mut self, outcome: Outcome) {
        self.lag.record_ms(outcome.lag_ms);
        self.missing += usize::from(outcome.missing.is_some());
        self.outcomes.push(outcome);
    }

    /// The level that is held at a time; the last one after the end.
    fn level_at(&self, elapsed: Duration) -> usize {
        let ended = self.plan.levels.iter().take_while(|level| level.end <= elapsed).count();
        ended.min(self.plan.levels.len().saturating_sub(1))
    }

    /// Whether the run has nothing more to learn: the server is gone, or the objective is lost.
    /// On the way, completes the levels that are.
    fn is_settled(&mut self) -> bool {
        let elapsed = self.origin.elapsed();
        self.notice_failure();
        if self.cut_short.is_some() {
            return true;
        }
        while let Some(level) = self.plan.levels.get(self.complete) {
            if elapsed < level.end || !(self.is_judged(self.complete) || self.is_late(elapsed)) {
                break;
            }
            self.fill(self.complete, elapsed);
            let verdicts = self.options.objective.judge(&self.figures(Some(self.complete)));
            self.complete += 1;
            if !self.options.find_capacity {
                continue;
            }
            if verdicts.iter().all(|verdict| verdict.met) {
                self.capacity = Some(level.sessions);
            } else {
                self.capacity = self.capacity.or(Some(0));
                return true;
            }
        }
        self.complete == self.plan.levels.len()
    }

    /// When every session that should be there has failed, so has the run.
    fn notice_failure(&mut self) {
        let elapsed = self.origin.elapsed();
        let joined = self.plan.sessions.iter().filter(|session| session.join_at <= elapsed).count();
        if let Some(last) = self.errors.last()
            && self.errors.len() >= joined
        {
            self.cut_short = Some(format!("every session failed; the last one: {}", last.what));
        }
    }

    /// Whether the first level that is not complete has had all the time there is.
    fn is_late(&self, elapsed: Duration) -> bool {
        let level = self.plan.levels.get(self.complete);
        level.is_some_and(|level| elapsed > level.end + self.options.timeout + GRACE)
    }

    fn is_judged(&self, level: usize) -> bool {
        self.due(level).all(|key| self.judged.contains(&key))
    }

    /// Session, turn and listener of everything that is due in a level.
    fn due(&self, level: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        self.plan.sessions.iter().flat_map(move |session| {
            let turns = session.turns.iter().enumerate();
            let of_level = turns.filter(move |(_, turn)| turn.level == level);
            of_level.flat_map(move |(turn, _)| {
                (0..session.cast.listeners.len()).map(move |hearing| (session.index, turn, hearing))
            })
        })
    }

    /// Counts everything in a level that was due by now, and that nobody judged, as missing.
    fn fill(&mut self, level: usize, now: Duration) {
        let due: Vec<_> = self.due(level).filter(|key| !self.judged.contains(key)).collect();
        for key in due {
            let (index, turn, listener) = key;
            let session = &self.plan.sessions[index];
            let turn = &session.turns[turn];
            let deadline = turn.at + turn.sentence.last_voiced + self.options.timeout;
            let failure = self.errors.iter().find(|failure| failure.session == index);
            // What was under way when the run was cut short is no loss.
            if turn.at > now || (failure.is_none() && deadline > now) {
                continue;
            }
            let why = failure.map_or_else(
                || "nobody was there to hear it".to_owned(),
                |failure| format!("the session had failed: {}", failure.what),
            );
            let timeout_ms = 1000.0 * self.options.timeout.as_secs_f64();
            let outcome = Outcome {
                session: index,
                level,
                due_ms: 1000.0 * turn.at.as_secs_f64(),
                sentence: turn.sentence.name.clone(),
                from: turn.sentence.language.clone(),
                to: session.cast.listeners[listener].clone(),
                missing: Some(why),
                lag_ms: timeout_ms,
                start_ms: timeout_ms,
                finish_ms: timeout_ms,
                ..Outcome::default()
            };
            self.judged.insert(key);
            self.enter(outcome);
        }
    }

    /// What was found in a level, or in all of them.
    fn figures(&self, level: Option<usize>) -> Figures {
        let is_in = |of: usize| level.is_none_or(|level| level == of);
        let outcomes: Vec<&Outcome> =
            self.outcomes.iter().filter(|outcome| is_in(outcome.level)).collect();
        let mut join = Distribution::default();
        let joins = self.joins.iter().filter(|(level, _)| is_in(*level));
        joins.for_each(|(_, took)| join.record(*took));
        let mut packets = Packets::default();
        let counted = self.packets.iter().enumerate().filter(|(level, _)| is_in(*level));
        counted.for_each(|(_, counted)| packets += *counted);
        let count = |packets: i64| u64::try_from(packets).unwrap_or_default();
        Figures {
            join: join.summary(),
            packets: count(packets.arrived),
            lost: count(packets.lost),
            concealed: count(packets.concealed),
            ..Figures::of(&outcomes)
        }
    }

    fn progress(&self, canary: &Canary) -> Progress {
        let elapsed = self.origin.elapsed();
        Progress {
            elapsed,
            end: self.plan.end(),
            level: self.level_at(elapsed) + 1,
            levels: self.plan.levels.len(),
            sessions: self.held.saturating_sub(self.over),
            sentences: self.outcomes.len(),
            missing: self.missing,
            lag: self.lag.summary(),
            late_p99_ms: canary.lateness().quantile_ms(0.99),
            errors: self.errors.len(),
            last_error: self.errors.last().map(|failure| failure.what.clone()),
            listened: None,
        }
    }

    fn close(mut self, started: SystemTime, took: Duration, generator: Generator) -> Report {
        if self.capacity.is_some() && self.cut_short.is_none() {
            // The search was over when the next level had just begun: that one was never held.
            let complete = self.complete;
            self.outcomes.retain(|outcome| outcome.level < complete);
            self.joins.retain(|(level, _)| *level < complete);
            self.packets.truncate(complete);
        } else {
            for level in self.complete..self.plan.levels.len() {
                self.fill(level, took);
            }
        }
        self.outcomes.sort_by(|one, other| one.due_ms.total_cmp(&other.due_ms));
        let levels = self.plan.levels.iter().enumerate();
        let begun = levels.take(self.packets.len()).take_while(|(_, level)| level.begin < took);
        let levels = begun.map(|(index, level)| {
            let figures = self.figures(Some(index));
            let joins = self.joins.iter().filter(|(level, _)| *level == index);
            Level {
                joins_ms: joins.map(|(_, took)| 1000.0 * took.as_secs_f64()).collect(),
                sessions: level.sessions,
                begin_ms: 1000.0 * level.begin.as_secs_f64(),
                end_ms: 1000.0 * level.end.min(took).as_secs_f64(),
                verdicts: self.options.objective.judge(&figures),
                figures,
            }
        });
        let levels = levels.collect();
        let total = self.figures(None);
        Report {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: humantime::format_rfc3339_seconds(started).to_string(),
            took_s: took.as_secs_f64(),
            server: self.options.server.clone(),
            scenario: self.options.scenario.clone(),
            timeout_ms: 1000.0 * self.options.timeout.as_secs_f64(),
            levels,
            verdicts: self.options.objective.judge(&total),
            total,
            generator,
            capacity: self.capacity,
            outcomes: self.outcomes,
            errors: self.errors,
            cut_short: self.cut_short,
        }
    }
}
