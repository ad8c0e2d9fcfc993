//! When a packet comes too late to be heard, as a listener's jitter buffer would find.
//!
//! The listener plays at the pace of the RTP timestamps, [`BUFFER`] behind the quickest packet. What
//! is not there by then is concealed, like what never comes.

use std::time::{Duration, Instant};

use crate::SAMPLE_RATE;

/// How far a listener plays behind the quickest packet.
pub const BUFFER: Duration = Duration::from_millis(100);

/// Share of the time by which the clocks of sender and listener may drift apart.
const DRIFT: f64 = 0.001;
/// A timestamp that is this far from where its arrival would put it begins a new timeline, seconds.
const NEW_TIMELINE_S: f64 = 10.0;

/// A listener's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Playout {
    quickest: Option<Quickest>,
}

/// The quickest packet's timestamp and arrival, followed by as much drift as there may be since.
#[derive(Clone, Copy, Debug)]
struct Quickest {
    rtp_timestamp: u32,
    arrival: Instant,
}

impl Playout {
    /// Whether the packet with this timestamp comes after it should have been played.
    pub(crate) fn is_too_late(&mut self, rtp_timestamp: u32, arrival: Instant) -> bool {
        let behind = self.quickest.map_or(0.0, |quickest| {
            let media = rtp_timestamp.wrapping_sub(quickest.rtp_timestamp).cast_signed();
            let elapsed = arrival.saturating_duration_since(quickest.arrival).as_secs_f64();
            elapsed * (1.0 - DRIFT) - f64::from(media) / f64::from(SAMPLE_RATE)
        });
        if behind <= 0.0 || behind > NEW_TIMELINE_S {
            self.quickest = Some(Quickest { rtp_timestamp, arrival });
            return false;
        }
        behind > BUFFER.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_MS: u64 = 20;

    /// Packets with these delays, in milliseconds; which of them are too late.
    fn too_late(delays_ms: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let (mut playout, start) = (Playout::default(), Instant::now());
        let late = delays_ms.into_iter().enumerate().filter(|&(index, delay_ms)| {
            let arrival = start + Duration::from_millis(FRAME_MS * index as u64 + delay_ms);
            // The timestamps wrap on the way.
            let rtp_timestamp = (u32::MAX - 9_600).wrapping_add(960 * index as u32);
            playout.is_too_late(rtp_timestamp, arrival)
        });
        late.map(|(index, _)| index).collect()
    }

    #[test]
    fn what_comes_later_than_the_buffer_lasts_is_too_late() {
        assert_eq!(too_late([50; 40]), [0; 0]);
        assert_eq!(too_late([50, 50, 149, 152, 50, 700, 50]), [3, 5]);
    }

    #[test]
    fn the_quickest_packet_sets_the_pace_also_when_it_comes_later() {
        let slow_start = [200; 10].into_iter().chain([30; 10]).chain([200]);
        assert_eq!(too_late(slow_start), [20]);
    }

    #[test]
    fn a_clock_that_drifts_a_little_makes_nobody_late() {
        // 300 ppm over ten minutes: 180 ms.
        assert_eq!(too_late((0..30_000).map(|n| n * 20 * 3 / 10_000)), [0; 0]);
    }

    #[test]
    fn a_new_timeline_is_followed() {
        let (mut playout, start) = (Playout::default(), Instant::now());
        assert!(!playout.is_too_late(4_000_000, start));
        let later = start + Duration::from_secs(1);
        assert!(!playout.is_too_late(960, later), "the timestamps began anew");
        assert!(playout.is_too_late(1_920, later + Duration::from_millis(140)));
    }
}
