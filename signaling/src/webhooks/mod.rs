//! Webhooks: what happens to rooms and participants is posted to other services of the operator.
//!
//! The body is the event as `GET /v1/rooms/{room}/events` has it; `transcript.ready`, which only
//! webhooks have, names the transcript of a room that has ended. Headers and signature are those of
//! the Standard Webhooks specification (standard-webhooks, spec/standard-webhooks.md), so that its
//! libraries check them.
//!
//! Nothing here is waited for by the house: a task reads its events and puts them into a bounded
//! queue for each receiver, and a task for each receiver empties it.

mod deliver;
mod message;
mod queue;

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::deliver::Outbox;
use self::message::{Message, Secret};
use crate::house::House;
use crate::stats::Stats;
use crate::wire::{Event, EventKind};

/// `[webhooks]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhooksConfig {
    /// Where everything is posted to.
    pub urls: Vec<String>,
    /// What it is signed with: `whsec_` and 24 to 64 bytes in Base64.
    pub secret: Option<String>,
    /// Seconds that a receiver has to answer.
    pub timeout_s: u64,
    /// How often one message is tried.
    pub attempts: u32,
    /// Milliseconds until the second attempt; each one that follows waits twice as long, up to five
    /// minutes, less up to half of it by chance.
    pub retry_ms: u64,
    /// Messages that may wait for one receiver; the oldest makes room.
    pub queue: usize,
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            secret: None,
            timeout_s: 10,
            attempts: 10,
            retry_ms: 1_000,
            queue: 1_000,
        }
    }
}

/// Why there can be no webhooks.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// Receivers without a secret could be lied to by anybody.
    #[error(
        "webhooks.secret is missing: make one with `echo whsec_$(openssl rand -base64 32)` and give \
         it to the receivers too"
    )]
    NoSecret,
    /// It is no secret of the standard's form. The text does not show it.
    #[error("webhooks.secret is not `whsec_` and 24 to 64 bytes in Base64")]
    BadSecret,
    /// It cannot be posted to.
    #[error("webhooks.urls: {0:?} is no address of HTTP")]
    BadUrl(String),
    /// The client that posts cannot be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The running tasks. They end when it is dropped.
#[derive(Debug)]
pub struct Webhooks {
    tasks: JoinSet<()>,
    stop: watch::Sender<()>,
}

impl Webhooks {
    /// Starts to tell what happens in the house. Without receivers nothing runs. Needs the runtime.
    ///
    /// # Errors
    /// See [`WebhooksError`].
    pub fn start<H: House>(
        house: &Arc<H>,
        config: &WebhooksConfig,
        stats: &Arc<Stats>,
    ) -> Result<Self, WebhooksError> {
        let mut tasks = JoinSet::new();
        let (stop, stopped) = watch::channel(());
        if config.urls.is_empty() {
            return Ok(Self { tasks, stop });
        }
        let secret = config.secret.as_deref().ok_or(WebhooksError::NoSecret)?;
        let secret = Arc::new(Secret::parse(secret).ok_or(WebhooksError::BadSecret)?);
        let client = deliver::client(Duration::from_secs(config.timeout_s.max(1)))?;
        let (done, finished) = watch::channel(());
        let mut outboxes = Vec::new();
        for url in &config.urls {
            let outbox = Arc::new(Outbox::new(url, config, &client, &secret, stats)?);
            tasks.spawn(deliver::run(Arc::clone(&outbox), finished.clone()));
            outboxes.push(outbox);
        }
        let dispatcher = Dispatcher {
            house: Arc::downgrade(house),
            outboxes,
            with_transcript: HashSet::new(),
            _done: done,
        };
        tasks.spawn(dispatcher.run(house.all_events(), stopped));
        Ok(Self { tasks, stop })
    }

    /// Posts what waits, for `limit` at most, and ends. What happened before the call is among it.
    pub async fn finish(mut self, limit: Duration) {
        drop(self.stop);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            tracing::warn!("webhooks that were not delivered are lost");
        }
    }
}

/// Turns events into messages.
struct Dispatcher<H> {
    house: Weak<H>,
    outboxes: Vec<Arc<Outbox>>,
    /// Rooms that keep a transcript. Bounded by the rooms there are.
    with_transcript: HashSet<String>,
    /// Closes when this is dropped, which tells the outboxes that nothing more comes.
    _done: watch::Sender<()>,
}

impl<H: House> Dispatcher<H> {
    async fn run(mut self, mut events: Receiver<Event>, mut stopped: watch::Receiver<()>) {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                // Nothing is ever sent: it is closed.
                _ = stopped.changed() => {
                    while let Ok(event) = events.try_recv() {
                        self.take(&event);
                    }
                    return;
                }
            };
            match event {
                Ok(event) => self.take(&event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::error!(missed, "too many events at once: webhooks may be missing");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RoomStarted { .. } => {
                let house = self.house.upgrade();
                let room = house.and_then(|house| house.room(&event.room).ok());
                if room.is_some_and(|room| room.keep_transcript) {
                    self.with_transcript.insert(event.room.clone());
                }
                self.post(Message::event(event));
            }
            EventKind::ParticipantJoined { .. } | EventKind::ParticipantLeft { .. } => {
                self.post(Message::event(event));
            }
            EventKind::RoomEnded { .. } => {
                self.post(Message::event(event));
                if self.with_transcript.remove(&event.room) {
                    self.post(Message::transcript_ready(event));
                }
            }
            _ => {}
        }
    }

    fn post(&self, message: Message) {
        let message = Arc::new(message);
        for outbox in &self.outboxes {
            outbox.put(Arc::clone(&message));
        }
    }
}
