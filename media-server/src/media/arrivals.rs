//! Packets of one source on their way to listeners who get them as they came.
//!
//! Their bytes stand one after the other in a buffer that is made once, so that nothing is allocated
//! for a packet. It holds what a network delivers at once after a stall of more than half a second;
//! when it is full the newest packet is dropped, and is a lost one for those who listen.

/// Packets that are held.
const PACKETS: usize = 32;
/// Bytes that are held: as many packets at 100 kbit/s.
const BYTES: usize = 8_192;

/// A packet as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// Its sequence number.
    pub sequence: u16,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Its length in samples (48 kHz).
    pub samples: u32,
    /// The Opus packet.
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    sequence: u16,
    timestamp: u32,
    samples: u32,
    length: usize,
    /// Ticks that it has waited.
    age: u32,
}

/// Packets in the order in which they came.
#[derive(Debug)]
pub struct Arrivals {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { entries: Vec::with_capacity(PACKETS), bytes: Vec::with_capacity(BYTES) }
    }
}

impl Arrivals {
    /// Takes a packet; drops it when there is no room.
    pub fn push(&mut self, packet: Arrival<'_>) {
        let Arrival { sequence, timestamp, samples, payload } = packet;
        if self.entries.len() == PACKETS || self.bytes.len() + payload.len() > BYTES {
            return;
        }
        self.bytes.extend_from_slice(payload);
        self.entries.push(Entry { sequence, timestamp, samples, length: payload.len(), age: 0 });
    }

    /// Takes what another holds.
    pub fn extend(&mut self, other: &Self) {
        other.iter().for_each(|packet| self.push(packet));
    }

    /// Lets a tick of 20 ms pass and forgets what has waited for more than `ticks` of them.
    pub fn grow_older(&mut self, ticks: u32) {
        for entry in &mut self.entries {
            entry.age += 1;
        }
        let stale = self.entries.iter().take_while(|entry| entry.age > ticks).count();
        let bytes: usize = self.entries.drain(..stale).map(|entry| entry.length).sum();
        self.bytes.drain(..bytes);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The packets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Arrival<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let end = start + entry.length;
            let payload = &self.bytes[start..end];
            start = end;
            let Entry { sequence, timestamp, samples, .. } = *entry;
            Arrival { sequence, timestamp, samples, payload }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(arrivals: &mut Arrivals, sequence: u16, length: usize) {
        let payload = vec![sequence as u8; length];
        let timestamp = u32::from(sequence) * 960;
        arrivals.push(Arrival { sequence, timestamp, samples: 960, payload: &payload });
    }

    fn held(arrivals: &Arrivals) -> Vec<(u16, usize)> {
        let is_whole = |packet: &Arrival<'_>| {
            packet.payload.iter().all(|byte| u16::from(*byte) == packet.sequence)
        };
        assert!(arrivals.iter().all(|packet| is_whole(&packet)));
        arrivals.iter().map(|packet| (packet.sequence, packet.payload.len())).collect()
    }

    #[test]
    fn packets_keep_their_order_and_their_bytes_and_the_old_go_first() {
        let mut arrivals = Arrivals::default();
        push(&mut arrivals, 1, 10);
        push(&mut arrivals, 2, 0);
        arrivals.grow_older(1);
        push(&mut arrivals, 3, 7);
        assert_eq!(held(&arrivals), [(1, 10), (2, 0), (3, 7)]);
        arrivals.grow_older(1);
        assert_eq!(held(&arrivals), [(3, 7)]);
        let mut other = Arrivals::default();
        push(&mut other, 9, 1);
        other.extend(&arrivals);
        assert_eq!(held(&other), [(9, 1), (3, 7)]);
        other.clear();
        assert!(other.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_nothing_grows() {
        let mut arrivals = Arrivals::default();
        for sequence in 0..100 {
            push(&mut arrivals, sequence, 100);
        }
        assert_eq!(held(&arrivals).len(), PACKETS);
        arrivals.clear();
        for sequence in 0..100 {
            push(&mut arrivals, sequence, 1_276);
        }
        assert_eq!(held(&arrivals).len(), BYTES / 1_276);
        assert_eq!(arrivals.entries.capacity(), PACKETS);
        assert_eq!(arrivals.bytes.capacity(), BYTES);
    }
}
