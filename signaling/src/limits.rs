//! Rate limits: how much one address and one credential may ask, and how often an address may be
//! refused before it has to wait.
//!
//! A credential counts only once it was accepted, so that guesses take no memory; somebody who holds
//! a good one is not shut out by others at the same address who guess.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::buckets::{Buckets, Rate};
use crate::client::network_of;

/// Addresses and credentials that are told apart at a time; more of them share a bucket.
const CAPACITY: usize = 65_536;
/// How long a credential that was accepted is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);

/// `[http.limits]`. A rate of 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests per second from one address, in the long run.
    pub address_per_s: u32,
    /// Requests that one address may send at once.
    pub address_burst: u32,
    /// Requests per second with one credential, in the long run.
    pub key_per_s: u32,
    /// Requests that may come at once with one credential.
    pub key_burst: u32,
    /// Answers of 401 per minute to one address, in the long run.
    pub refused_per_min: u32,
    /// Answers of 401 that one address may get at once.
    pub refused_burst: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            address_per_s: 100,
            address_burst: 1_000,
            key_per_s: 100,
            key_burst: 1_000,
            refused_per_min: 60,
            refused_burst: 120,
        }
    }
}

/// The buckets of one server.
#[derive(Debug)]
pub(crate) struct Limits {
    buckets: Mutex<All>,
    hasher: RandomState,
}

#[derive(Debug)]
struct All {
    addresses: Buckets<IpAddr>,
    credentials: Buckets<u64>,
    refused: Buckets<IpAddr>,
    /// Credentials that were accepted, until when they are remembered, by a keyed hash: no secret
    /// is kept here.
    accepted: HashMap<u64, Instant>,
    capacity: usize,
}

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        Self::with_capacity(config, CAPACITY)
    }

    fn with_capacity(config: &LimitsConfig, capacity: usize) -> Self {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let rate = Rate::new;
        let all = All {
            addresses: Buckets::new(
                rate(config.address_per_s, second, config.address_burst),
                capacity,
            ),
            credentials: Buckets::new(rate(config.key_per_s, second, config.key_burst), capacity),
            refused: Buckets::new(
                rate(config.refused_per_min, minute, config.refused_burst),
                capacity,
            ),
            accepted: HashMap::new(),
            capacity,
        };
        Self { buckets: Mutex::new(all), hasher: RandomState::new() }
    }

    /// Whether a request may go on; otherwise how long its sender has to wait. No address is known
    /// of a request that came over no socket.
    pub(crate) fn admit(
        &self,
        address: Option<IpAddr>,
        credential: Option<&str>,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut all = self.lock();
        let key = credential.map(|credential| self.hasher.hash_one(credential));
        let accepted = key.filter(|key| all.accepted.get(key).is_some_and(|until| *until > now));
        if let Some(address) = address.map(network_of) {
            if accepted.is_none() {
                all.refused.peek(&address, now)?;
            }
            all.addresses.take(address, now)?;
        }
        accepted.map_or(Ok(()), |key| all.credentials.take(key, now))
    }

    /// The request's credential was accepted.
    pub(crate) fn accepted(&self, credential: &str, now: Instant) {
        let key = self.hasher.hash_one(credential);
        let all = &mut *self.lock();
        let until = now + REMEMBERED;
        if let Some(known) = all.accepted.get_mut(&key)
            && *known > now
        {
            *known = until;
            return;
        }
        // `admit` did not know it yet. The first of a burst is never too much.
        let _ = all.credentials.take(key, now);
        if all.accepted.len() >= all.capacity {
            all.accepted.retain(|_, until| *until > now);
        }
        if all.accepted.len() < all.capacity {
            all.accepted.insert(key, until);
        }
    }

    /// The request was answered with 401.
    pub(crate) fn refused(&self, address: IpAddr, now: Instant) {
        // An empty bucket has its effect on the next request.
        let _ = self.lock().refused.take(network_of(address), now);
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: LimitsConfig = LimitsConfig {
        address_per_s: 10,
        address_burst: 5,
        key_per_s: 1,
        key_burst: 2,
        refused_per_min: 60,
        refused_burst: 2,
    };

    #[test]
    fn an_address_that_was_refused_too_often_waits_unless_it_brings_a_good_credential() {
        let limits = Limits::new(&STRICT);
        let now = Instant::now();
        let address = IpAddr::from([192, 0, 2, 1]);
        let office = Some(address);
        limits.accepted("good", now);
        for guess in ["a", "b"] {
            assert_eq!(limits.admit(office, Some(guess), now), Ok(()));
            limits.refused(address, now);
        }
        assert_eq!(limits.admit(office, Some("c"), now), Err(Duration::from_secs(1)));
        assert_eq!(limits.admit(office, None, now), Err(Duration::from_secs(1)));
        assert_eq!(limits.admit(office, Some("good"), now), Ok(()));
        let elsewhere = Some(IpAddr::from([192, 0, 2, 2]));
        assert_eq!(limits.admit(elsewhere, Some("c"), now), Ok(()));
        let later = now + Duration::from_secs(1);
        assert_eq!(limits.admit(office, Some("c"), later), Ok(()));
    }

    #[test]
    fn a_credential_is_limited_wherever_it_is_used() {
        let limits = Limits::new(&STRICT);
        let now = Instant::now();
        let from = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        assert_eq!(limits.admit(from(1), Some("key"), now), Ok(()));
        limits.accepted("key", now);
        assert_eq!(limits.admit(from(2), Some("key"), now), Ok(()));
        assert_eq!(limits.admit(from(3), Some("key"), now), Err(Duration::from_secs(1)));
        assert_eq!(limits.admit(None, Some("key"), now), Err(Duration::from_secs(1)));
    }

    #[test]
    fn the_addresses_of_an_ipv6_network_are_limited_together() {
        let limits = Limits::new(&STRICT);
        let now = Instant::now();
        let from = |last: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
        for last in 0..5 {
            assert_eq!(limits.admit(from(last), None, now), Ok(()));
        }
        assert_eq!(limits.admit(from(9), None, now), Err(Duration::from_millis(100)));
    }

    #[test]
    fn guesses_take_no_memory_and_good_credentials_little() {
        let limits = Limits::with_capacity(&STRICT, 4);
        let now = Instant::now();
        for guess in 0..1_000 {
            let _ = limits.admit(None, Some(&format!("guess {guess}")), now);
        }
        assert!(limits.lock().accepted.is_empty());
        for good in 0..1_000 {
            limits.accepted(&format!("good {good}"), now);
        }
        assert_eq!(limits.lock().accepted.len(), 4);
    }
}
