//! Posts what waits for one receiver.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::sync::{Notify, watch};

use super::message::{Message, Secret};
use super::queue::{Next, Queue};
use super::{WebhooksConfig, WebhooksError};
use crate::stats::Stats;

/// A client that follows no redirection: what is signed for one receiver is for no other.
pub(super) fn client(limit: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .timeout(limit)
        .redirect(Policy::none())
        .user_agent(concat!("dragoman/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// What waits for one receiver.
#[derive(Debug)]
pub(super) struct Outbox {
    url: Url,
    client: Client,
    secret: Arc<Secret>,
    stats: Arc<Stats>,
    queue: Mutex<Queue>,
    news: Notify,
}

/// How an attempt went.
enum Outcome {
    Taken,
    /// The receiver wants this one never (410), so says the standard.
    Unwanted,
    Failed(String),
}

impl Outbox {
    pub(super) fn new(
        url: &str,
        config: &WebhooksConfig,
        client: &Client,
        secret: &Arc<Secret>,
        stats: &Arc<Stats>,
    ) -> Result<Self, WebhooksError> {
        let parsed = Url::parse(url)
            .ok()
            .filter(|parsed| matches!(parsed.scheme(), "http" | "https") && parsed.has_host());
        let first_pause = Duration::from_millis(config.retry_ms);
        Ok(Self {
            url: parsed.ok_or_else(|| WebhooksError::BadUrl(url.to_owned()))?,
            client: client.clone(),
            secret: Arc::clone(secret),
            stats: Arc::clone(stats),
            queue: Mutex::new(Queue::new(config.queue, config.attempts, first_pause)),
            news: Notify::new(),
        })
    }

    /// Never waits.
    pub(super) fn put(&self, message: Arc<Message>) {
        let dropped = self.lock().put(message, Instant::now());
        if let Some(dropped) = dropped {
            self.stats.webhooks_lost.add(1);
            tracing::error!(
                to = self.host(),
                room = dropped.room,
                id = dropped.id,
                "a webhook is dropped: too many wait for their receiver"
            );
        }
        self.news.notify_one();
    }

    async fn post(&self, message: &Message) -> Outcome {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", self.secret.sign(message, now))
            .body(message.body.clone());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Outcome::Taken,
            Ok(answer) if answer.status() == StatusCode::GONE => Outcome::Unwanted,
            Ok(answer) => Outcome::Failed(format!("it answered {}", answer.status())),
            // The address may hold a secret of the receiver's.
            Err(error) => Outcome::Failed(error.without_url().to_string()),
        }
    }

    fn settle(&self, message: &Message, outcome: Outcome) {
        let (to, room, id) = (self.host(), &message.room, &message.id);
        match outcome {
            Outcome::Taken => {
                self.lock().done(message);
                self.stats.webhooks_delivered.add(1);
            }
            Outcome::Unwanted => {
                self.lock().done(message);
                self.stats.webhooks_lost.add(1);
                tracing::warn!(to, room, id, "a webhook is not wanted by its receiver");
            }
            Outcome::Failed(reason) => {
                self.stats.webhooks_failed.add(1);
                if self.lock().failed(message, Instant::now(), rand::random()) {
                    tracing::info!(to, room, id, reason, "a webhook was not taken; trying again");
                } else {
                    self.stats.webhooks_lost.add(1);
                    tracing::error!(to, room, id, reason, "a webhook is given up");
                }
            }
        }
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Posts until `finished` is closed and nothing waits.
pub(super) async fn run(outbox: Arc<Outbox>, mut finished: watch::Receiver<()>) {
    loop {
        let next = outbox.lock().next(Instant::now());
        match next {
            Next::Post(message) => {
                let outcome = outbox.post(&message).await;
                outbox.settle(&message, outcome);
            }
            Next::At(due) => {
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()) => {}
                    () = outbox.news.notified() => {}
                }
            }
            Next::Nothing => {
                tokio::select! {
                    biased;
                    () = outbox.news.notified() => {}
                    // Nothing is ever sent: it is closed, and nothing more comes.
                    _ = finished.changed() => return,
                }
            }
        }
    }
}
