//! Token buckets, one for each key, in bounded memory.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A) keeps one instant for each key: when its
//! bucket will be full again. A key whose instant has passed is as good as unknown, so forgetting it
//! costs nothing. The crates for this neither look into a bucket without taking from it nor bound
//! their memory, and both are needed here.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How often full buckets are swept out at most while there is no room for new ones.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How fast a bucket fills, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Time until the next token.
    pub(crate) interval: Duration,
    /// Tokens of a full bucket, at least 1.
    pub(crate) burst: u32,
}

impl Rate {
    /// `None` when there is no limit.
    pub(crate) fn new(tokens: u32, per: Duration, burst: u32) -> Option<Self> {
        (tokens > 0).then(|| Self { interval: per / tokens, burst: burst.max(1) })
    }
}

/// The buckets. `None` of a rate never refuses.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Option<Rate>,
    capacity: usize,
    /// When each bucket is full again.
    full_at: HashMap<K, Instant>,
    /// The bucket that new keys share while there is no room for one of their own.
    shared: Option<Instant>,
    swept: Option<Instant>,
}

impl<K: Hash + Eq> Buckets<K> {
    pub(crate) fn new(rate: Option<Rate>, capacity: usize) -> Self {
        Self { rate, capacity, full_at: HashMap::new(), shared: None, swept: None }
    }

    /// Whether a token is left, without taking it; otherwise the time until there is one.
    pub(crate) fn peek(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let known = self.full_at.get(key).copied();
        let full_at =
            if self.full_at.len() < self.capacity { known } else { known.or(self.shared) };
        after(rate, full_at, now).map(drop)
    }

    /// Takes a token; otherwise the time until there is one.
    pub(crate) fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        if let Some(full_at) = self.full_at.get_mut(&key) {
            *full_at = after(rate, Some(*full_at), now)?;
            return Ok(());
        }
        self.make_room(now);
        if self.full_at.len() >= self.capacity {
            self.shared = Some(after(rate, self.shared, now)?);
        } else {
            self.full_at.insert(key, after(rate, None, now)?);
        }
        Ok(())
    }

    fn make_room(&mut self, now: Instant) {
        let may_sweep = self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP_EVERY);
        if self.full_at.len() >= self.capacity && may_sweep {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept = Some(now);
        }
    }
}

/// When a bucket is full again once a token is taken from it now.
fn after(rate: Rate, full_at: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
    let filled = full_at.map_or(now, |full_at| full_at.max(now)) + rate.interval;
    let missing = filled.duration_since(now).saturating_sub(rate.interval * rate.burst);
    if missing.is_zero() { Ok(filled) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn per_second(tokens: u32, burst: u32, capacity: usize) -> Buckets<u32> {
        Buckets::new(Rate::new(tokens, Duration::from_secs(1), burst), capacity)
    }

    #[test]
    fn a_burst_passes_and_then_one_for_each_interval() {
        let mut buckets = per_second(10, 3, 8);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(buckets.take(1, start), Ok(()));
        }
        assert_eq!(buckets.peek(&1, start), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(1, start), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(2, start), Ok(()), "another key has a bucket of its own");
        let later = start + Duration::from_millis(100);
        assert_eq!(buckets.peek(&1, later), Ok(()), "looking takes nothing");
        assert_eq!(buckets.take(1, later), Ok(()));
        assert_eq!(buckets.take(1, later), Err(Duration::from_millis(100)));
    }

    #[test]
    fn zero_tokens_mean_no_limit() {
        let mut buckets = per_second(0, 1, 8);
        let now = Instant::now();
        assert!((0..1_000).all(|_| buckets.take(1, now).is_ok()));
    }

    #[test]
    fn keys_beyond_the_capacity_share_a_bucket_until_others_are_full() {
        let mut buckets = per_second(1, 1, 2);
        let start = Instant::now();
        assert_eq!(buckets.take(1, start), Ok(()));
        assert_eq!(buckets.take(2, start), Ok(()));
        assert_eq!(buckets.take(3, start), Ok(()));
        assert!(buckets.take(4, start).is_err(), "3 took the shared token");
        assert!(buckets.peek(&5, start).is_err());
        assert_eq!(buckets.full_at.len(), 2);
        let later = start + Duration::from_secs(2);
        assert_eq!(buckets.take(4, later), Ok(()));
        assert_eq!(buckets.full_at.keys().collect::<Vec<_>>(), [&4]);
    }

    proptest! {
        #[test]
        fn no_key_gets_more_than_its_burst_and_its_rate(
            tokens in 1u32..50,
            burst in 1u32..20,
            steps in proptest::collection::vec((0u64..200, 0u32..4), 1..400),
        ) {
            let mut buckets = per_second(tokens, burst, 3);
            let start = Instant::now();
            let mut now = start;
            let mut taken = [0u32; 4];
            for (ms, key) in steps {
                now += Duration::from_millis(ms);
                let has_its_own = buckets.full_at.contains_key(&key);
                let before = buckets.peek(&key, now);
                let took = buckets.take(key, now);
                if has_its_own {
                    prop_assert_eq!(before.is_ok(), took.is_ok());
                }
                if took.is_ok() {
                    taken[key as usize] += 1;
                }
                prop_assert!(buckets.full_at.len() <= 3);
            }
            let most = f64::from(burst) + now.duration_since(start).as_secs_f64() * f64::from(tokens);
            // A key that was forgotten while its bucket was full may have used the shared one too.
            for count in taken {
                prop_assert!(f64::from(count) <= 2.0 * most + 2.0, "{count} of {most}");
            }
        }
    }
}
