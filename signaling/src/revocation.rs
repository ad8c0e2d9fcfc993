//! Whose tokens are refused before they expire: those of participants who were removed.
//!
//! A token lives for [`MAX_TTL_S`] at most, so an entry is needed no longer than that. The table
//! holds [`MAX_ENTRIES`]; when it is full the oldest entry makes room, and the log says so. It
//! lives in memory: after a restart the rooms are gone too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::validate::MAX_TTL_S;

/// Most participants whose tokens are refused at a time: about 2 MiB.
const MAX_ENTRIES: usize = 10_000;

/// Room and identity.
type Holder = (String, String);

/// Participants who were removed, and when: tokens issued up to then are refused.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    removed_at_s: Mutex<HashMap<Holder, u64>>,
}

impl Revocations {
    /// Refuses what was issued up to `now_s` (Unix time). Gives what undoes it.
    pub(crate) fn revoke(&self, room: &str, identity: &str, now_s: u64) -> Undo {
        let holder = (room.to_owned(), identity.to_owned());
        let mut removed = self.lock();
        removed.retain(|_, at_s| at_s.saturating_add(MAX_TTL_S) >= now_s);
        if removed.len() >= MAX_ENTRIES && !removed.contains_key(&holder) {
            let oldest = removed.iter().min_by_key(|(_, at_s)| **at_s).map(|(who, _)| who.clone());
            if let Some(oldest) = oldest {
                removed.remove(&oldest);
                tracing::warn!(
                    room = oldest.0,
                    identity = oldest.1,
                    "too many participants were removed: tokens of this one are taken again"
                );
            }
        }
        let before = removed.insert(holder.clone(), now_s);
        Undo { holder, before }
    }

    /// For a removal that turned out to be none.
    pub(crate) fn undo(&self, undo: Undo) {
        let mut removed = self.lock();
        match undo.before {
            Some(at_s) => removed.insert(undo.holder, at_s),
            None => removed.remove(&undo.holder),
        };
    }

    /// Whether a token issued at `issued_at_s` (Unix time) is refused.
    pub(crate) fn covers(&self, room: &str, identity: &str, issued_at_s: u64) -> bool {
        self.removed_at(room, identity).is_some_and(|at_s| issued_at_s <= at_s)
    }

    /// The issue time of a token that is made at `now_s`: after the removal, even in its second.
    pub(crate) fn issue_time(&self, room: &str, identity: &str, now_s: u64) -> u64 {
        self.removed_at(room, identity).map_or(now_s, |at_s| now_s.max(at_s + 1))
    }

    fn removed_at(&self, room: &str, identity: &str) -> Option<u64> {
        let removed = self.lock();
        // Rarely is anybody removed, and then the key is not worth a type of its own.
        if removed.is_empty() {
            return None;
        }
        removed.get(&(room.to_owned(), identity.to_owned())).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Holder, u64>> {
        // No panic leaves the map in a state that means anything else.
        self.removed_at_s.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a revocation replaced.
#[derive(Debug)]
#[must_use]
pub(crate) struct Undo {
    holder: Holder,
    before: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_up_to_the_removal_are_refused_and_later_ones_are_not() {
        let revocations = Revocations::default();
        let _ = revocations.revoke("lobby", "ana", 100);
        assert!(revocations.covers("lobby", "ana", 99) && revocations.covers("lobby", "ana", 100));
        assert!(!revocations.covers("lobby", "ana", 101));
        assert!(!revocations.covers("lobby", "ben", 99) && !revocations.covers("other", "ana", 99));
        assert_eq!(revocations.issue_time("lobby", "ana", 100), 101);
        assert_eq!(revocations.issue_time("lobby", "ana", 200), 200);
        assert_eq!(revocations.issue_time("lobby", "ben", 100), 100);
    }

    #[test]
    fn undoing_restores_what_was_before() {
        let revocations = Revocations::default();
        let first = revocations.revoke("lobby", "ana", 100);
        let second = revocations.revoke("lobby", "ana", 200);
        revocations.undo(second);
        assert!(revocations.covers("lobby", "ana", 100));
        assert!(!revocations.covers("lobby", "ana", 200));
        revocations.undo(first);
        assert!(!revocations.covers("lobby", "ana", 100));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_no_token_can_outlive() {
        let revocations = Revocations::default();
        for index in 0..=MAX_ENTRIES as u64 {
            let _ = revocations.revoke("lobby", &format!("guest-{index}"), index);
        }
        assert_eq!(revocations.lock().len(), MAX_ENTRIES);
        assert!(!revocations.covers("lobby", "guest-0", 0), "the oldest made room");
        assert!(revocations.covers("lobby", "guest-1", 1));
        let _ = revocations.revoke("lobby", "late", 2 * MAX_TTL_S);
        assert_eq!(revocations.lock().len(), 1);
    }
}
