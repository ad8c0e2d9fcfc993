//! How a server ends: nothing new is taken, what was being said is finished, whoever is left is
//! told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::house::House;

/// How often the house is asked whether it is idle.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long it has to be idle: between two stages an utterance is in nobody's hands for a moment,
/// and what was sent last has to arrive.
const IDLE_FOR: Duration = Duration::from_millis(400);
/// The reason of `room.ended`.
const REASON: &str = "shutdown";

/// Takes nothing new, waits at most `grace` until what was being said is finished, and ends every
/// room. The HTTP face goes on meanwhile: it answers 503 where something new is asked for.
pub async fn drain<H: House>(house: &Arc<H>, grace: Duration) {
    house.drain();
    let started = Instant::now();
    let mut idle_since: Option<Instant> = None;
    while started.elapsed() < grace {
        let now = Instant::now();
        let asked = Arc::clone(house);
        // A house that cannot answer is not waited for.
        let is_idle = tokio::task::spawn_blocking(move || asked.is_idle()).await.unwrap_or(true);
        idle_since = is_idle.then(|| idle_since.unwrap_or(now));
        if idle_since.is_some_and(|since| now.duration_since(since) >= IDLE_FOR) {
            break;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    let waited_ms = started.elapsed().as_millis();
    if idle_since.is_some() {
        tracing::info!(waited_ms, "everything that was said is finished");
    } else {
        tracing::warn!(waited_ms, "ending in the middle of what was said: the time is up");
    }
    house.end_all(REASON);
}
