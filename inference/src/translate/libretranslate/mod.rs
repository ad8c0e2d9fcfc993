//! A translator that asks a LibreTranslate server.
//!
//! Requests go through a few threads that each hold a connection. What waits for one direction while
//! they are busy leaves as one request with an array of texts. A caller waits at most for the
//! timeout and can be cancelled at any time; a server that fails is left alone for a while
//! ([`breaker`]), and the ladder goes on to its next rung meanwhile. What the server translates is
//! read from its `/languages`, at the start and, as long as that failed, now and then.

mod breaker;
mod client;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::{Mutex, RwLock};

use super::{TranslateError, TranslateRequest, Translation, Translator};
use crate::{CancelToken, Language};

use breaker::Breaker;
use client::{Client, ClientError, Pairs};

/// The translator's name in configurations and traces.
pub const NAME: &str = "libretranslate";

/// Threads that ask, and so requests at a time.
const WORKERS: usize = 2;
/// Texts that may wait for a thread; more are refused, and the next rung takes them.
const QUEUE: usize = 64;
/// Most texts in one request.
const MAX_BATCH: usize = 16;
/// How often a waiting caller looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(20);
/// How often the languages are asked for again when they are not known.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Which server, and how patiently.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LibreTranslateConfig {
    /// Address of the server, such as `http://127.0.0.1:5000`; needed when `libretranslate` is one
    /// of the translators.
    pub url: Option<String>,
    /// Its API key, where it wants one.
    pub api_key: Option<String>,
    /// Milliseconds that a request may take as a whole.
    pub timeout_ms: u64,
}

impl Default for LibreTranslateConfig {
    fn default() -> Self {
        Self { url: None, api_key: None, timeout_ms: 3_000 }
    }
}

impl LibreTranslateConfig {
    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.max(1))
    }
}

impl std::fmt::Debug for LibreTranslateConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let api_key = self.api_key.as_ref().map(|_| "…");
        formatter
            .debug_struct("LibreTranslateConfig")
            .field("url", &self.url)
            .field("api_key", &api_key)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

/// There is no address to ask: set `models.libretranslate.url`, or take `libretranslate` out of the
/// translators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the translator libretranslate needs an address: set models.libretranslate.url")]
pub struct NoAddress;

/// One text on its way to the server.
struct Job {
    text: String,
    from: Language,
    to: Language,
    cancel: CancelToken,
    answer: Sender<Result<String, Arc<ClientError>>>,
}

/// What is known of the server's languages.
#[derive(Default)]
struct Known {
    pairs: Option<Pairs>,
    asked: Option<Instant>,
}

struct Shared {
    client: Client,
    breaker: Mutex<Breaker>,
    known: RwLock<Known>,
}

/// See the module's description. Its threads end with it.
pub struct LibreTranslate {
    shared: Arc<Shared>,
    /// Full: the caller is refused at once.
    jobs: Sender<Job>,
    timeout: Duration,
}

impl LibreTranslate {
    /// Asks the server for its languages; one that does not answer is asked again later.
    ///
    /// # Errors
    /// [`NoAddress`].
    pub fn new(config: &LibreTranslateConfig) -> Result<Self, NoAddress> {
        let url = config.url.as_deref().filter(|url| !url.is_empty()).ok_or(NoAddress)?;
        let shared = Arc::new(Shared {
            client: Client::new(config, url),
            breaker: Mutex::new(Breaker::new()),
            known: RwLock::default(),
        });
        let (jobs, waiting) = bounded(QUEUE);
        for index in 0..WORKERS {
            let (shared, waiting) = (Arc::clone(&shared), waiting.clone());
            spawn(format!("{NAME}-{index}"), move || shared.work(&waiting));
        }
        shared.ask_languages();
        Ok(Self { shared, jobs, timeout: config.timeout() })
    }

    /// Reads the languages if they are not known yet, without waiting for them.
    fn ask_again(&self) {
        let due = |known: &Known| {
            known.pairs.is_none() && known.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN)
        };
        if !due(&self.shared.known.read()) {
            return;
        }
        let mut known = self.shared.known.write();
        if due(&known) {
            known.asked = Some(Instant::now());
            let shared = Arc::clone(&self.shared);
            spawn(format!("{NAME}-languages"), move || shared.ask_languages());
        }
    }

    fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TranslateError {
        TranslateError::Failed { translator: NAME.to_owned(), source: source.into() }
    }
}

/// A thread that the system refuses is missed by nobody who can wait: requests time out, and the
/// ladder goes on.
fn spawn(name: String, body: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name).spawn(body) {
        tracing::error!(%error, "no thread for a LibreTranslate server");
    }
}

impl Shared {
    fn ask_languages(&self) {
        let outcome = self.client.languages();
        let mut known = self.known.write();
        known.asked = Some(Instant::now());
        match outcome {
            Ok(pairs) => {
                tracing::info!(languages = pairs.len(), "a LibreTranslate server is there");
                known.pairs = Some(pairs);
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "a LibreTranslate server does not answer");
            }
        }
    }

    fn work(&self, waiting: &Receiver<Job>) {
        let mut next: Option<Job> = None;
        loop {
            let Some(first) = next.take().or_else(|| waiting.recv().ok()) else { return };
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH
                && let Ok(job) = waiting.try_recv()
            {
                if (job.from, job.to) == (batch[0].from, batch[0].to) {
                    batch.push(job);
                } else {
                    // It leads the next request.
                    next = Some(job);
                    break;
                }
            }
            batch.retain(|job| !job.cancel.is_cancelled());
            self.send(batch);
        }
    }

    fn send(&self, batch: Vec<Job>) {
        let Some(first) = batch.first() else { return };
        if !self.breaker.lock().allows(Instant::now()) {
            let refused = Arc::new(ClientError::Resting);
            batch.into_iter().for_each(|job| drop(job.answer.try_send(Err(refused.clone()))));
            return;
        }
        let texts: Vec<String> = batch.iter().map(|job| job.text.clone()).collect();
        let outcome = self.client.translate(&texts, first.from, first.to);
        self.note(&outcome);
        match outcome {
            Ok(translations) => {
                for (job, translation) in batch.into_iter().zip(translations) {
                    // Whoever was cancelled meanwhile does not listen any more.
                    let _ = job.answer.try_send(Ok(translation));
                }
            }
            // A limit that a batch exceeds may hold for each of its texts.
            Err(error) if error.is_about_the_request() && batch.len() > 1 => {
                batch.into_iter().for_each(|job| self.send(vec![job]));
            }
            Err(error) => {
                let error = Arc::new(error);
                batch.into_iter().for_each(|job| drop(job.answer.try_send(Err(error.clone()))));
            }
        }
    }

    fn note(&self, outcome: &Result<Vec<String>, ClientError>) {
        let mut breaker = self.breaker.lock();
        match outcome {
            Err(error) if !error.is_about_the_request() => {
                if breaker.failed(Instant::now()) {
                    let error = chain(error);
                    tracing::warn!(error, "a LibreTranslate server fails and is left alone");
                }
            }
            _ => {
                if breaker.succeeded() {
                    tracing::info!("a LibreTranslate server is back");
                }
            }
        }
    }
}

impl Translator for LibreTranslate {
    fn name(&self) -> &str {
        NAME
    }

    fn supports(&self, from: Language, to: Language) -> bool {
        self.ask_again();
        let known = self.shared.known.read();
        let targets = known.pairs.as_ref().and_then(|pairs| pairs.get(&from));
        from != to && targets.is_some_and(|targets| targets.contains(&to))
    }

    fn translate(
        &self,
        request: &TranslateRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Translation, TranslateError> {
        let (from, to) = (request.from, request.to);
        let (answer, answered) = bounded(1);
        let (text, cancel) = (request.text.clone(), request.cancel.clone());
        if self.jobs.try_send(Job { text, from, to, cancel, answer }).is_err() {
            return Err(Self::failed("too many texts wait for the server"));
        }
        // Twice: what is sent first may wait for what is being sent.
        let give_up = Instant::now() + 2 * self.timeout;
        let outcome = loop {
            match answered.recv_timeout(LOOK) {
                Ok(outcome) => break outcome,
                Err(_) if request.cancel.is_cancelled() => return Err(TranslateError::Cancelled),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Self::failed("the thread that asks the server is gone"));
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() >= give_up => {
                    return Err(Self::failed("the server is too busy"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        let text = outcome.map_err(Self::failed)?.trim().to_owned();
        if text.is_empty() {
            let reason = "it has no words".to_owned();
            return Err(TranslateError::Rejected { translator: NAME.to_owned(), reason });
        }
        on_text(&text);
        Ok(Translation { text, translator: NAME.to_owned() })
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        cause = inner.source();
    }
    line
}
