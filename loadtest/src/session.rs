//! One session of a run: opens a room, joins everybody, says each sentence at its time, and tells
//! what became of it.

use std::ops::{AddAssign, Sub};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use futures::stream::FuturesUnordered;
use signaling::wire::CreateRoom;
use tokio::sync::{mpsc, watch};

use crate::api::Api;
use crate::caller::{Caller, JoinOptions, SpokenSpan};
use crate::detour::Detour;
use crate::events::EventStream;
use crate::outcome::Said;
use crate::recording::Keep;
use crate::report::Outcome;
use crate::schedule::SessionPlan;
use crate::utterances::Ledger;

/// How often pending sentences are judged.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the packets are told.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How long before its time a sentence is handed to the microphone.
const AHEAD: Duration = Duration::from_millis(500);

/// What all sessions of a run share.
pub(crate) struct Stage {
    pub(crate) office: Api,
    /// When the run began.
    pub(crate) origin: Instant,
    /// When its plan ends; sessions stay at least that long.
    pub(crate) end: Instant,
    pub(crate) timeout: Duration,
    /// Whether what is heard is kept until the end.
    pub(crate) listen_back: bool,
    pub(crate) detour: Option<Arc<Detour>>,
    pub(crate) told: mpsc::Sender<Told>,
    /// True once the run is to end at once.
    pub(crate) stop: watch::Receiver<bool>,
}

impl Stage {
    async fn tell(&self, told: Told) {
        // Nobody listens only when the run has ended.
        let _ = self.told.send(told).await;
    }
}

/// Packets to listeners. Of those that are lost or concealed there may be fewer than none: some that
/// were given up came after all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Packets {
    pub(crate) arrived: i64,
    pub(crate) lost: i64,
    pub(crate) concealed: i64,
}

impl AddAssign for Packets {
    fn add_assign(&mut self, more: Self) {
        self.arrived += more.arrived;
        self.lost += more.lost;
        self.concealed += more.concealed;
    }
}

impl Sub for Packets {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            arrived: self.arrived - before.arrived,
            lost: self.lost - before.lost,
            concealed: self.concealed - before.concealed,
        }
    }
}

/// What a session tells of itself.
#[derive(Debug)]
pub(crate) enum Told {
    /// Everybody has joined; how long each took.
    Joined { session: usize, took: Vec<Duration> },
    /// Packets to its listeners since it told last.
    Packets(Packets),
    /// What became of a sentence for one listener.
    Judged { session: usize, turn: usize, listener: usize, outcome: Box<Outcome> },
    /// It broke off.
    Failed { session: usize, at: Instant, what: String },
    /// It is over.
    Over,
}

/// Holds a session and tells of it until it is over.
pub(crate) async fn hold(stage: Arc<Stage>, plan: SessionPlan) {
    let mut stop = stage.stop.clone();
    let join_at = stage.origin + plan.join_at;
    tokio::select! {
        () = tokio::time::sleep_until(join_at.into()) => {}
        _ = stop.wait_for(|stop| *stop) => return,
    }
    if let Err(error) = in_room(&stage, &plan).await {
        let (session, at) = (plan.index, Instant::now());
        stage.tell(Told::Failed { session, at, what: format!("{error:#}") }).await;
    }
    stage.tell(Told::Over).await;
}

async fn in_room(stage: &Stage, plan: &SessionPlan) -> anyhow::Result<()> {
    let mut languages = plan.cast.speakers.clone();
    languages.extend(plan.cast.listeners.iter().cloned());
    languages.sort_unstable();
    languages.dedup();
    let request = CreateRoom {
        kind: plan.cast.kind,
        languages,
        // Only what is interpreted is to be heard, and a measurement is nobody's meeting.
        original_gain: Some(0.0),
        keep_transcript: Some(false),
        ..CreateRoom::default()
    };
    let room = stage.office.create_room(&request).await.context("no room was made")?.name;
    let outcome = with_people(stage, plan, &room).await;
    if let Err(error) = stage.office.delete_room(&room).await {
        tracing::debug!(%error, room, "the room was left behind");
    }
    outcome
}

async fn with_people(stage: &Stage, plan: &SessionPlan, room: &str) -> anyhow::Result<()> {
    let server = stage.office.server();
    let speakers = plan.cast.speakers.iter().enumerate();
    let listeners = plan.cast.listeners.iter().enumerate();
    let people: Vec<(String, &str)> = speakers
        .map(|(index, language)| (speaker_name(index), language.as_str()))
        .chain(listeners.map(|(index, language)| (listener_name(index), language.as_str())))
        .collect();
    let tokens =
        people.iter().map(|(identity, language)| stage.office.admit(room, identity, language));
    let tokens = try_join_all(tokens).await.context("no tokens were minted")?;
    let first = tokens.first().context("nobody takes part in the session")?;
    let events = EventStream::open(server, room, first).await.context("the events are not told")?;
    let joined = try_join_all(tokens.iter().map(|token| async {
        let options = JoinOptions {
            keep: if stage.listen_back { Keep::Packets } else { Keep::Nothing },
            detour: stage.detour.clone(),
            ..JoinOptions::new(server, room, token)
        };
        let begun = Instant::now();
        Caller::join(options).await.map(|caller| (caller, begun.elapsed()))
    }))
    .await
    .context("not everybody could join")?;
    let (mut callers, took): (Vec<Caller>, Vec<Duration>) = joined.into_iter().unzip();
    stage.tell(Told::Joined { session: plan.index, took }).await;
    let listeners = callers.split_off(plan.cast.speakers.len());
    let outcome =
        Talk { stage, plan, speakers: &callers, listeners: &listeners }.hold(events).await;
    for goodbye in join_all(callers.into_iter().chain(listeners).map(Caller::leave)).await {
        if let Err(error) = goodbye {
            tracing::debug!(%error, "a caller left without a goodbye");
        }
    }
    outcome
}

fn speaker_name(index: usize) -> String {
    format!("speaker-{index}")
}

fn listener_name(index: usize) -> String {
    format!("listener-{index}")
}

struct Talk<'a> {
    stage: &'a Stage,
    plan: &'a SessionPlan,
    speakers: &'a [Caller],
    listeners: &'a [Caller],
}

/// A sentence that was said and is not yet judged for all.
struct Pending {
    turn: usize,
    span: SpokenSpan,
    listeners: Vec<usize>,
}

/// What had arrived at a time at all listeners together.
#[derive(Clone, Copy)]
struct Counted {
    at: Instant,
    packets: Packets,
}

impl Talk<'_> {
    async fn hold(&self, mut events: EventStream) -> anyhow::Result<()> {
        let mut stop = self.stage.stop.clone();
        let mut ledger = Ledger::default();
        let mut saying = FuturesUnordered::new();
        let mut pending: Vec<Pending> = Vec::new();
        let mut turns = self.plan.turns.iter().enumerate().peekable();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut counted = Counted { at: Instant::now(), packets: Packets::default() };
        let mut lost = std::pin::pin!(self.disconnected());
        loop {
            tokio::select! {
                arrived = events.next() => {
                    let arrived = arrived.context("the events stopped")?;
                    ledger.note(&arrived.event, arrived.at);
                    continue;
                }
                Some((turn, span)) = saying.next() => {
                    let span = Result::context(span, "a sentence could not be said")?;
                    let listeners = (0..self.listeners.len()).collect();
                    pending.push(Pending { turn, span, listeners });
                    continue;
                }
                () = &mut lost => anyhow::bail!("the media connection was lost"),
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                _ = look.tick() => {}
            }
            let now = Instant::now();
            while let Some((index, turn)) =
                turns.next_if(|(_, turn)| self.stage.origin + turn.at < now + AHEAD)
            {
                let caller = &self.speakers[turn.speaker];
                let (clip, at) = (turn.sentence.clip.clone(), self.stage.origin + turn.at);
                saying.push(async move { (index, caller.say(clip, at).await) });
            }
            for judged in self.judge(&mut pending, &ledger, now) {
                self.stage.tell(judged).await;
            }
            if counted.at.elapsed() >= COUNT_EVERY {
                counted = self.count(counted).await;
            }
            let is_done = turns.peek().is_none() && saying.is_empty() && pending.is_empty();
            if is_done && now >= self.stage.end {
                self.count(counted).await;
                return Ok(());
            }
        }
    }

    /// Resolves when anybody's connection is gone.
    async fn disconnected(&self) {
        let everybody = self.speakers.iter().chain(self.listeners);
        let mut lost: FuturesUnordered<_> = everybody.map(Caller::disconnected).collect();
        lost.next().await;
    }

    fn judge(&self, pending: &mut Vec<Pending>, ledger: &Ledger, now: Instant) -> Vec<Told> {
        let mut judged = Vec::new();
        let next_due: Vec<Option<Instant>> =
            pending.iter().map(|it| self.next_of_same_speaker(it.turn)).collect();
        for (pending, next_due) in pending.iter_mut().zip(next_due) {
            let turn = &self.plan.turns[pending.turn];
            pending.listeners.retain(|&listener| {
                let said = Said {
                    turn,
                    span: &pending.span,
                    next_due,
                    speaker: &speaker_name(turn.speaker),
                    listener: &listener_name(listener),
                    to: &self.plan.cast.listeners[listener],
                    timeout: self.stage.timeout,
                };
                let judge = |heard: &_| said.judge(ledger, heard, now);
                let Some(mut outcome) = self.listeners[listener].with_recording(judge) else {
                    return true;
                };
                outcome.session = self.plan.index;
                outcome.due_ms = 1000.0
                    * pending.span.due.saturating_duration_since(self.stage.origin).as_secs_f64();
                judged.push(Told::Judged {
                    session: self.plan.index,
                    turn: pending.turn,
                    listener,
                    outcome: Box::new(outcome),
                });
                false
            });
        }
        pending.retain(|pending| !pending.listeners.is_empty());
        judged
    }

    fn next_of_same_speaker(&self, turn: usize) -> Option<Instant> {
        let speaker = self.plan.turns[turn].speaker;
        let next = self.plan.turns[turn + 1..].iter().find(|next| next.speaker == speaker);
        next.map(|next| self.stage.origin + next.at)
    }

    /// Tells what arrived since the counts were as given, and gives the counts.
    async fn count(&self, before: Counted) -> Counted {
        let mut now = Counted { at: Instant::now(), packets: Packets::default() };
        for listener in self.listeners {
            listener.with_recording(|heard| {
                now.packets += Packets {
                    arrived: heard.packets.len() as i64,
                    lost: heard.lost.cast_signed(),
                    concealed: heard.concealed.cast_signed(),
                };
            });
        }
        self.stage.tell(Told::Packets(now.packets - before.packets)).await;
        now
    }
}
