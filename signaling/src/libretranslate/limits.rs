//! Requests of each caller within the last minute, in a moving window.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The window.
const MINUTE: Duration = Duration::from_secs(60);
/// Callers that are told apart. When there are more, those that come later share one window, so that
/// nobody escapes by bringing many addresses.
const MOST_CALLERS: usize = 10_000;

/// Who is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Caller {
    /// By address; `None` where the transport knows none.
    Address(Option<IpAddr>),
    /// By key: its place in the configuration.
    Key(usize),
}

impl Caller {
    /// A subscriber has a /64 of IPv6 to choose addresses from.
    fn counted(self) -> Self {
        match self {
            Self::Address(Some(IpAddr::V6(address))) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Self::Address(Some(IpAddr::V6(network.into())))
            }
            other => other,
        }
    }
}

/// The windows of all callers.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    windows: Mutex<HashMap<Caller, Window>>,
}

/// When requests were, and for how many each counts. A caller is refused before it has more entries
/// than its limit.
type Window = VecDeque<(Instant, usize)>;

impl Limiter {
    /// Whether the caller has made fewer than `limit` requests in the minute before `now`.
    pub(super) fn allows(&self, caller: Caller, limit: usize, now: Instant) -> bool {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = place(&windows, caller.counted());
        let Some(window) = windows.get_mut(&caller) else { return limit > 0 };
        forget(window, now);
        window.iter().map(|(_, cost)| cost).sum::<usize>() < limit
    }

    /// Counts a request at `now` as `cost` requests.
    pub(super) fn count(&self, caller: Caller, cost: usize, now: Instant) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST_CALLERS {
            windows.retain(|_, window| {
                forget(window, now);
                !window.is_empty()
            });
        }
        let caller = place(&windows, caller.counted());
        windows.entry(caller).or_default().push_back((now, cost));
    }
}

/// The window that a caller is counted in.
fn place(windows: &HashMap<Caller, Window>, caller: Caller) -> Caller {
    let is_known = windows.contains_key(&caller);
    if is_known || windows.len() < MOST_CALLERS { caller } else { Caller::Address(None) }
}

fn forget(window: &mut Window, now: Instant) {
    while window.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= MINUTE) {
        window.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Caller {
        Caller::Address(Some(text.parse().expect("an address")))
    }

    #[test]
    fn the_window_moves_with_the_clock_and_a_batch_counts_for_its_texts() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let caller = address("192.0.2.1");
        limiter.count(caller, 1, at(0));
        limiter.count(caller, 2, at(30));
        assert!(!limiter.allows(caller, 3, at(59)));
        assert!(limiter.allows(caller, 3, at(60)), "the first is a minute old");
        assert!(limiter.allows(address("192.0.2.2"), 3, at(59)), "somebody else");
        assert!(limiter.allows(Caller::Key(0), 3, at(59)));
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_counted_together() {
        let limiter = Limiter::default();
        let now = Instant::now();
        limiter.count(address("2001:db8::1"), 1, now);
        assert!(!limiter.allows(address("2001:db8::ffff:2"), 1, now));
        assert!(limiter.allows(address("2001:db8:0:1::1"), 1, now));
    }

    #[test]
    fn more_callers_than_are_told_apart_share_a_window_until_others_fall_silent() {
        let limiter = Limiter::default();
        let now = Instant::now();
        for index in 0..MOST_CALLERS as u32 + 50 {
            limiter.count(Caller::Address(Some(IpAddr::V4(index.into()))), 1, now);
        }
        let kept = |limiter: &Limiter| limiter.windows.lock().expect("not poisoned").len();
        assert!(kept(&limiter) <= MOST_CALLERS + 1);
        assert!(!limiter.allows(address("203.0.113.1"), 50, now));
        limiter.count(address("203.0.113.1"), 1, now + MINUTE);
        assert_eq!(kept(&limiter), 1);
    }
}
