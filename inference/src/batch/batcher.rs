//! A batch on a thread of its own, with a queue before it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::schedule::Stepped;
use super::{
    Batch, BatchError, BatchStats, Finished, PriorityQueue, Request, SlotDecoder, StepLimits,
    Urgency, Waited,
};
use crate::CancelToken;

/// Tokens of a prompt that are read in one step.
const PROMPT_PIECE: usize = 32;
/// Tokens that are drafted for a step. A product with two rows takes hardly longer than with one, since
/// the weights have to be read for either; with three and more, one core or two are busy computing.
const DRAFTS: usize = 1;

/// How a batch is formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// Sequences that may wait for a slot. Full: [`BatchError::Full`].
    pub queue: usize,
    /// How long a batch that begins waits for company, counted from its first request, unless all
    /// slots are taken before. Who comes later joins at the next step in any case, so this pays only
    /// where the first step of a sequence is expensive and shared.
    pub gather: Duration,
    /// What one step may read.
    pub limits: StepLimits,
}

impl Default for BatchConfig {
    /// Room for 64, no waiting, pieces of 32 tokens, drafts of one.
    fn default() -> Self {
        let limits = StepLimits { prompt_piece: PROMPT_PIECE, drafts: DRAFTS };
        Self { queue: 64, gather: Duration::ZERO, limits }
    }
}

/// A sequence on its way.
#[derive(Debug)]
pub struct Pending<S>(Receiver<Result<S, BatchError>>);

impl<S> Pending<S> {
    /// Waits until it is complete.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn wait(self) -> Result<S, BatchError> {
        self.0.recv().unwrap_or(Err(BatchError::Ended))
    }
}

type Reply<S> = Sender<Result<S, BatchError>>;
type Entry<S> = (Request<S>, Reply<S>);

struct Shared<S> {
    queue: PriorityQueue<Entry<S>>,
    stats: Mutex<BatchStats>,
}

/// The thread ends when this is dropped; what is under way then is decoded to its end.
pub struct Batcher<S> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: super::Sequence + Send + 'static> Batcher<S> {
    /// Starts a thread that decodes on what `make` makes, also after a loss.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub fn start<D, F>(name: &str, make: F, config: &BatchConfig) -> std::io::Result<Self>
    where
        D: SlotDecoder<Sequence = S>,
        F: FnMut() -> D + Send + 'static,
    {
        let shared =
            Arc::new(Shared { queue: PriorityQueue::new(config.queue), stats: Mutex::default() });
        let (worker, config) = (Arc::clone(&shared), config.clone());
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&worker, make, &config))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Decodes a sequence together with whatever else is being decoded; waits for its end.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn decode(
        &self,
        sequence: S,
        urgency: Urgency,
        cancel: &CancelToken,
    ) -> Result<S, BatchError> {
        self.submit(sequence, urgency, cancel)?.wait()
    }

    /// As [`decode`](Self::decode) without waiting.
    ///
    /// # Errors
    /// [`BatchError::Full`].
    pub fn submit(
        &self,
        sequence: S,
        urgency: Urgency,
        cancel: &CancelToken,
    ) -> Result<Pending<S>, BatchError> {
        let (reply, answer) = bounded(1);
        let entry = (Request { sequence, cancel: cancel.clone() }, reply);
        self.shared.queue.try_push(urgency, entry).map_err(|_| BatchError::Full)?;
        Ok(Pending(answer))
    }

    /// What it has done so far.
    pub fn stats(&self) -> BatchStats {
        BatchStats { waiting: self.shared.queue.len(), ..self.shared.stats.lock().clone() }
    }
}

impl<S> Drop for Batcher<S> {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of a batch had panicked");
        }
    }
}

/// However the thread ends, nobody waits for it any longer.
struct Ending<'a, S>(&'a PriorityQueue<Entry<S>>);

impl<S> Drop for Ending<'_, S> {
    fn drop(&mut self) {
        self.0.close();
        // With an entry its reply goes, and whoever waits for that is told.
        while self.0.try_pop().is_some() {}
    }
}

fn run<D, F>(shared: &Shared<D::Sequence>, make: F, config: &BatchConfig)
where
    D: SlotDecoder,
    F: FnMut() -> D,
{
    let _ending = Ending(&shared.queue);
    let mut batch = Batch::new(make, config.limits);
    loop {
        if batch.active() == 0 {
            let Some(first) = shared.queue.pop() else { return };
            let until = first.since + config.gather;
            enter(shared, &mut batch, first);
            while batch.has_room()
                && !config.gather.is_zero()
                && let Some(next) = shared.queue.pop_until(until)
            {
                enter(shared, &mut batch, next);
            }
        }
        while batch.has_room()
            && let Some(next) = shared.queue.try_pop()
        {
            enter(shared, &mut batch, next);
        }
        let began = Instant::now();
        let stepped = batch.step();
        note(shared, &stepped, began.elapsed(), batch.active());
        stepped.finished.into_iter().for_each(answer);
    }
}

fn enter<D, F>(
    shared: &Shared<D::Sequence>,
    batch: &mut Batch<D, Reply<D::Sequence>, F>,
    Waited { item: (request, reply), urgency, since }: Waited<Entry<D::Sequence>>,
) where
    D: SlotDecoder,
    F: FnMut() -> D,
{
    let now = Instant::now();
    {
        let mut stats = shared.stats.lock();
        stats.entered += 1;
        stats.waited += now.saturating_duration_since(since);
    }
    if urgency.has_lapsed(now) {
        answer(Finished { tag: reply, outcome: Err(BatchError::Cancelled) });
        return;
    }
    if let Some(refused) = batch.enter(request, reply) {
        answer(refused);
    }
}

fn answer<S>(finished: Finished<S, Reply<S>>) {
    // Whoever asked may have gone.
    let _ = finished.tag.send(finished.outcome);
}

fn note<S, T>(shared: &Shared<S>, stepped: &Stepped<S, T>, computed: Duration, active: usize) {
    let mut stats = shared.stats.lock();
    stats.step(stepped.slots, stepped.tokens_read, computed);
    stats.tokens_chosen += stepped.tokens_chosen as u64;
    stats.tokens_drafted += stepped.tokens_drafted as u64;
    stats.drafts_chosen += stepped.drafts_chosen as u64;
    stats.restarts += u64::from(stepped.restarted);
    stats.active = active;
    if stepped.restarted {
        tracing::error!("a decoder was lost and made anew; its requests go on");
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Counting, Trouble, Until};
    use super::*;

    fn batcher(slots: usize, trouble: &Trouble, config: &BatchConfig) -> Batcher<Until> {
        let trouble = trouble.clone();
        Batcher::start("batch", move || Counting::new(slots, trouble.clone()), config)
            .expect("a thread")
    }

    fn decode(batcher: &Batcher<Until>, prompt: u32) -> Result<Vec<u32>, BatchError> {
        let sequence = Until::new(&[prompt], 50);
        let decoded = batcher.decode(sequence, Urgency::default(), &CancelToken::new());
        decoded.map(|sequence| sequence.chosen)
    }

    #[test]
    fn requests_from_many_threads_share_steps_and_get_their_own_answers() {
        let gather = BatchConfig { gather: Duration::from_millis(500), ..BatchConfig::default() };
        let batcher = batcher(4, &Trouble::default(), &gather);
        let alone: Vec<_> = (1..=4).map(|prompt| decode(&batcher, prompt)).collect();
        let before = batcher.stats();
        assert_eq!(before.sizes, [4 * 50]);
        let shared = &batcher;
        let together: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> =
                (1..=4).map(|prompt| scope.spawn(move || decode(shared, prompt))).collect();
            asking.into_iter().map(|asking| asking.join().expect("no panic")).collect()
        });
        assert_eq!(together, alone);
        let after = batcher.stats();
        assert_eq!(after.sizes, [4 * 50, 0, 0, 50], "all four in every step");
        assert_eq!((after.entered, after.tokens_chosen, after.active), (8, 400, 0));
        assert!((after.mean_size() - 400.0 / 250.0).abs() < 1e-9);
    }

    #[test]
    fn a_lapsed_guess_is_not_begun() {
        let batcher = batcher(1, &Trouble::default(), &BatchConfig::default());
        let past = Instant::now().checked_sub(Duration::from_secs(1)).expect("a past");
        let guess = batcher.decode(Until::new(&[1], 5), Urgency::guess(past), &CancelToken::new());
        assert_eq!(guess.expect_err("it is void"), BatchError::Cancelled);
        assert_eq!(batcher.stats().steps(), 0);
    }

    #[test]
    fn a_loss_is_counted_and_costs_no_request() {
        let trouble = Trouble::default();
        let batcher = batcher(2, &trouble, &BatchConfig::default());
        let whole = decode(&batcher, 3).expect("decoded");
        trouble.lose_next();
        assert_eq!(decode(&batcher, 3).expect("decoded"), whole);
        assert_eq!(batcher.stats().restarts, 1);
    }

    #[test]
    fn whoever_asks_a_batcher_whose_thread_has_died_is_told() {
        let mut made = 0;
        let make = move || {
            made += 1;
            assert!(made < 2, "there is no second device");
            Counting::new(1, Trouble { poison: Some(666), ..Trouble::default() })
        };
        let batcher = Batcher::start("batch", make, &BatchConfig::default()).expect("a thread");
        assert_eq!(decode(&batcher, 666), Err(BatchError::Ended));
        let refused = decode(&batcher, 1);
        assert!(matches!(refused, Err(BatchError::Ended | BatchError::Full)), "{refused:?}");
    }
}
