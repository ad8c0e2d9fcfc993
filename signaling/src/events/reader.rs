//! What one client gets of a room's events, in which order: what it missed, and then what happens,
//! each event once.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::filter::Filter;
use crate::house::Feed;
use crate::stats::Stats;
use crate::wire::{Event, EventKind};

/// The next thing that a client is told.
#[derive(Debug)]
pub(super) enum Next {
    /// An event that it wants.
    Event(Box<Event>),
    /// Events of the past that are kept no more; those that are kept follow.
    Lost(u64),
    /// It fell so far behind that it missed events: the stream ends, and it may come back.
    Lagged(u64),
    /// The room is over.
    Ended,
}

/// Reads a feed to its end. It holds its place among the server's streams meanwhile.
#[derive(Debug)]
pub(super) struct Reader {
    lost: u64,
    past: std::vec::IntoIter<Event>,
    live: Receiver<Event>,
    filter: Filter,
    /// The latest event that was read.
    seen: Option<u64>,
    ended: bool,
    stats: Arc<Stats>,
    _slot: OwnedSemaphorePermit,
}

impl Reader {
    pub(super) fn new(
        feed: Feed,
        filter: Filter,
        slot: OwnedSemaphorePermit,
        stats: Arc<Stats>,
    ) -> Self {
        let Feed { lost, past, live } = feed;
        let past = past.into_iter();
        Self { lost, past, live, filter, seen: None, ended: false, stats, _slot: slot }
    }

    /// Waits for it. Nothing is lost when the wait is given up. After [`Next::Lagged`] and
    /// [`Next::Ended`] nothing comes.
    pub(super) async fn next(&mut self) -> Next {
        if self.lost > 0 {
            return Next::Lost(std::mem::take(&mut self.lost));
        }
        while !self.ended {
            let event = match self.past.next() {
                Some(event) => event,
                None => match self.live.recv().await {
                    Ok(event) => event,
                    Err(RecvError::Lagged(missed)) => {
                        self.stats.streams_lagged.add(1);
                        return Next::Lagged(missed);
                    }
                    Err(RecvError::Closed) => break,
                },
            };
            // The house may have subscribed before it read the past.
            if self.seen.is_some_and(|seen| event.seq <= seen) {
                continue;
            }
            self.seen = Some(event.seq);
            self.ended = matches!(event.kind, EventKind::RoomEnded { .. });
            if self.filter.takes(&event) {
                return Next::Event(Box::new(event));
            }
        }
        Next::Ended
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::{Semaphore, broadcast};

    use super::*;
    use crate::wire::UtteranceRef;

    fn event(seq: u64, last: bool) -> Event {
        let utterance = UtteranceRef { utterance: format!("utt-{seq}"), speaker: "a".to_owned() };
        let kind = if last {
            EventKind::RoomEnded { reason: "deleted".to_owned() }
        } else {
            EventKind::UtteranceStarted { utterance }
        };
        Event { seq, time_ms: seq, room: "r".to_owned(), kind }
    }

    /// All that a client is told by a stream that ends.
    fn read(feed: Feed) -> (u64, Vec<u64>) {
        let slots = Arc::new(Semaphore::new(1));
        let slot = slots.try_acquire_owned().unwrap();
        let mut reader = Reader::new(feed, Filter::default(), slot, Arc::default());
        let (mut lost, mut seen) = (0, Vec::new());
        futures::executor::block_on(async {
            loop {
                match reader.next().await {
                    Next::Event(event) => seen.push(event.seq),
                    Next::Lost(count) => {
                        assert!(seen.is_empty(), "what is lost is told first");
                        lost = count;
                    }
                    Next::Lagged(missed) => panic!("missed {missed}"),
                    Next::Ended => return (lost, seen),
                }
            }
        })
    }

    proptest! {
        #[test]
        fn no_event_comes_twice_and_none_is_missing(
            after in 0u64..30,
            kept_from in 1u64..30,
            past_to in 0u64..30,
            subscribed_at in 0u64..30,
            total in 1u64..30,
        ) {
            let past_to = past_to.min(total);
            // Subscribed before the past was read.
            let subscribed_at = subscribed_at.min(past_to);
            let first = kept_from.max(after + 1);
            let past: Vec<Event> = (first..=past_to).map(|seq| event(seq, seq == total)).collect();
            let (events, live) = broadcast::channel(64);
            for seq in subscribed_at + 1..=total {
                if seq > after {
                    events.send(event(seq, seq == total)).unwrap();
                }
            }
            drop(events);
            let lost = kept_from.saturating_sub(after + 1);
            let expected: Vec<u64> = (after + 1..=total)
                .filter(|seq| *seq >= first && *seq <= past_to || *seq > subscribed_at)
                .collect();
            let (told, seen) = read(Feed { lost, past, live });
            prop_assert_eq!(told, lost);
            prop_assert!(seen.is_sorted_by(|one, next| one < next), "{:?}", seen);
            if past_to >= first {
                prop_assert_eq!(seen, (first..=total).collect::<Vec<_>>());
            } else {
                prop_assert_eq!(seen, expected);
            }
        }
    }

    #[test]
    fn the_end_of_the_room_ends_the_stream_although_its_channel_is_open() {
        let (events, live) = broadcast::channel(8);
        events.send(event(2, true)).unwrap();
        events.send(event(3, false)).unwrap();
        let past = vec![event(1, false)];
        assert_eq!(read(Feed { lost: 0, past, live }), (0, vec![1, 2]));
    }
}
