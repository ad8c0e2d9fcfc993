//! Who goes first.

use std::cmp::Ordering;
use std::time::Instant;

/// What a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody waits for it.
    #[default]
    Committed,
    /// It may turn out to be useless; it yields to everything that is not.
    Speculative,
}

/// Order among requests: committed ones before speculative ones, then the nearest deadline. The
/// smaller urgency goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    /// What it is for.
    pub class: Class,
    /// When its result is worth nothing anymore; without one it comes after those that have one.
    pub deadline: Option<Instant>,
}

impl Urgency {
    /// A request that somebody waits for until `deadline`.
    pub fn by(deadline: Instant) -> Self {
        Self { class: Class::Committed, deadline: Some(deadline) }
    }

    /// A guess that is worth something until `deadline`.
    pub fn guess(deadline: Instant) -> Self {
        Self { class: Class::Speculative, deadline: Some(deadline) }
    }

    /// Whether it is not to be begun anymore: a guess beyond its deadline. What somebody waits for is
    /// done even if it is late.
    pub fn has_lapsed(&self, now: Instant) -> bool {
        self.class == Class::Speculative && self.deadline.is_some_and(|deadline| deadline < now)
    }
}

impl Ord for Urgency {
    fn cmp(&self, other: &Self) -> Ordering {
        self.class.cmp(&other.class).then_with(|| match (self.deadline, other.deadline) {
            (Some(own), Some(other)) => own.cmp(&other),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        })
    }
}

impl PartialOrd for Urgency {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn committed_goes_before_speculative_and_the_nearest_deadline_first() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut order = [
            Urgency::guess(now),
            Urgency::default(),
            Urgency::by(later),
            Urgency::guess(later),
            Urgency::by(now),
        ];
        order.sort();
        let expected = [
            Urgency::by(now),
            Urgency::by(later),
            Urgency::default(),
            Urgency::guess(now),
            Urgency::guess(later),
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn only_a_guess_lapses() {
        let deadline = Instant::now();
        let after = deadline + Duration::from_millis(1);
        assert!(Urgency::guess(deadline).has_lapsed(after));
        assert!(!Urgency::guess(deadline).has_lapsed(deadline));
        assert!(!Urgency::by(deadline).has_lapsed(after));
    }
}
