//! The events of a room: numbered, told to whoever listens, and kept a while for those who come
//! back.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use signaling::house::Feed;
use signaling::wire::{Event, EventKind};
use tokio::sync::broadcast;

/// Events that may wait for a slow subscriber before it is told that it missed some.
pub(super) const EVENT_QUEUE: usize = 1024;
/// Events of a room that are kept for subscribers who come back.
const EVENTS_KEPT: usize = 1024;

/// The events of one room.
pub(super) struct Events {
    room: String,
    here: broadcast::Sender<Event>,
    /// Events of every room.
    all: broadcast::Sender<Event>,
    past: VecDeque<Event>,
    seq: u64,
}

impl Events {
    pub(super) fn new(room: String, all: broadcast::Sender<Event>) -> Self {
        let here = broadcast::channel(EVENT_QUEUE).0;
        Self { room, here, all, past: VecDeque::new(), seq: 0 }
    }

    /// What happened after event `after`, as far as it is kept, and what happens from now on.
    pub(super) fn feed(&self, after: Option<u64>) -> Feed {
        // A number that is still to come is of an earlier room of this name: all of this one is new.
        let after = after.map_or(self.seq, |after| if after > self.seq { 0 } else { after });
        let oldest = self.past.front().map_or(self.seq + 1, |event| event.seq);
        Feed {
            lost: oldest.saturating_sub(after.saturating_add(1)),
            past: self.past.iter().filter(|event| event.seq > after).cloned().collect(),
            live: self.here.subscribe(),
        }
    }

    /// Numbers an event and sends it to whoever listens now.
    pub(super) fn emit(&mut self, kind: EventKind) {
        self.seq += 1;
        let event = Event { seq: self.seq, time_ms: now_ms(), room: self.room.clone(), kind };
        if self.past.len() == EVENTS_KEPT {
            self.past.pop_front();
        }
        self.past.push_back(event.clone());
        // Nobody listening is no error.
        let _ = self.all.send(event.clone());
        let _ = self.here.send(event);
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_goes_on_after_what_was_seen_and_says_what_is_lost() {
        let mut events = Events::new("r".to_owned(), broadcast::channel(EVENT_QUEUE).0);
        let total = EVENTS_KEPT as u64 + 10;
        while events.seq < total {
            events.emit(EventKind::ParticipantMuted { identity: "anna".to_owned(), muted: true });
        }
        let seen = |after| {
            let feed = events.feed(after);
            (feed.lost, feed.past.first().map(|event| event.seq), feed.past.len())
        };
        assert_eq!(seen(None), (0, None, 0));
        assert_eq!(seen(Some(total)), (0, None, 0));
        assert_eq!(seen(Some(total - 2)), (0, Some(total - 1), 2));
        assert_eq!(seen(Some(10)), (0, Some(11), EVENTS_KEPT));
        assert_eq!(seen(Some(0)), (10, Some(11), EVENTS_KEPT));
        assert_eq!(seen(Some(total + 1)), (10, Some(11), EVENTS_KEPT), "another room's number");
    }
}
