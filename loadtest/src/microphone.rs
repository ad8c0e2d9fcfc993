//! A microphone that never stops: one Opus packet every 20 ms, silence included, as a browser
//! sends it. Packets leave at absolute deadlines, so a late wake-up does not shift the ones after
//! it, and the RTP timestamps run on without a gap.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtp;
use tokio::sync::{mpsc, oneshot};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use crate::clip::Clip;
use crate::{FRAME, PACKET_TIME, SAMPLE_RATE};

/// When a piece of speech was sent.
#[derive(Clone, Debug)]
pub struct SpokenSpan {
    /// When its first packet was due. Each further one was due 20 ms after the one before it,
    /// whatever held the sender up.
    pub due: Instant,
    /// When its first packet was handed to the network.
    pub first_packet_at: Instant,
    /// When its last packet was handed to the network.
    pub last_packet_at: Instant,
    /// RTP timestamp of its first packet.
    pub first_rtp_timestamp: u32,
    /// When each packet was handed to the network, 20 ms of speech each.
    pub packets: Vec<Instant>,
}

impl SpokenSpan {
    /// How far into the speech the sample with this RTP timestamp ends. `None` for a timestamp that
    /// belongs to something else: before the speech begins, or more than a second after its end.
    #[must_use]
    pub fn offset_of(&self, rtp_timestamp: u32) -> Option<Duration> {
        // The counter wraps (RFC 3550 §5.1): distances are taken in its own arithmetic.
        let samples = rtp_timestamp.wrapping_sub(self.first_rtp_timestamp).cast_signed();
        let samples = u32::try_from(samples).ok()?;
        let end = u32::try_from(self.packets.len() * FRAME).ok()?;
        if samples >= end + SAMPLE_RATE {
            return None;
        }
        Some(Duration::from_secs_f64(f64::from(samples + 1) / f64::from(SAMPLE_RATE)))
    }

    /// When the packet was due that holds the last sample before `offset` into the speech.
    #[must_use]
    pub fn due_by(&self, offset: Duration) -> Instant {
        self.due + PACKET_TIME * u32::try_from(packet_of(offset)).unwrap_or(u32::MAX)
    }

    /// When the packet left that holds the last sample before `offset` into the speech.
    #[must_use]
    pub fn sent_by(&self, offset: Duration) -> Instant {
        self.packets.get(packet_of(offset)).copied().unwrap_or(self.last_packet_at)
    }
}

/// The packet that holds the last sample before an offset.
fn packet_of(offset: Duration) -> usize {
    let sample = (offset.as_secs_f64() * f64::from(SAMPLE_RATE)).round() as usize;
    sample.saturating_sub(1) / FRAME
}

/// Speech that waits to be said.
pub(crate) struct Speech {
    pub(crate) clip: Clip,
    /// It begins with the first packet that is due at or after this instant.
    pub(crate) at: Instant,
    pub(crate) said: oneshot::Sender<SpokenSpan>,
}

/// The speech that is being said.
struct Saying {
    speech: Speech,
    due: Instant,
    first_rtp_timestamp: u32,
    packets: Vec<Instant>,
}

/// The sending half of a caller.
pub(crate) struct Microphone {
    track: Arc<TrackLocalStaticRTP>,
    silence: Bytes,
    ssrc: u32,
    payload_type: u8,
    sequence_number: u16,
    rtp_timestamp: u32,
}

impl Microphone {
    pub(crate) fn new(
        track: Arc<TrackLocalStaticRTP>,
        ssrc: u32,
        payload_type: u8,
    ) -> Result<Self, opus::Error> {
        let silence = Clip::silence()?;
        // RFC 3550 §5.1: both counters start at random values.
        let (sequence_number, rtp_timestamp) = (rand::random(), rand::random());
        Ok(Self { track, silence, ssrc, payload_type, sequence_number, rtp_timestamp })
    }

    /// Sends until the caller is dropped or the connection is gone.
    pub(crate) async fn run(mut self, mut speeches: mpsc::Receiver<Speech>) {
        let mut next: Option<Speech> = None;
        let mut saying: Option<Saying> = None;
        let mut deadline = Instant::now();
        loop {
            if next.is_none() {
                match speeches.try_recv() {
                    Ok(speech) => next = Some(speech),
                    Err(mpsc::error::TryRecvError::Empty) => {}
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            if saying.is_none()
                && let Some(speech) = next.take_if(|speech| speech.at <= deadline)
            {
                saying = Some(self.begin(speech, deadline));
            }
            let payload = match &saying {
                Some(saying) => saying.speech.clip.packets()[saying.packets.len()].clone(),
                None => self.silence.clone(),
            };
            tokio::time::sleep_until(deadline.into()).await;
            deadline += PACKET_TIME;
            let sent_at = Instant::now();
            if let Err(error) = self.send(payload).await {
                tracing::debug!(%error, "the microphone stops");
                return;
            }
            if let Some(mut said) = saying.take() {
                said.packets.push(sent_at);
                if said.packets.len() < said.speech.clip.packets().len() {
                    saying = Some(said);
                } else {
                    said.finish();
                }
            }
        }
    }

    fn begin(&self, speech: Speech, deadline: Instant) -> Saying {
        // A speech that was handed over late was due on the same grid all the same.
        let late = deadline.saturating_duration_since(speech.at);
        let late_packets = late.as_millis() / PACKET_TIME.as_millis();
        Saying {
            packets: Vec::with_capacity(speech.clip.packets().len()),
            due: deadline - PACKET_TIME * u32::try_from(late_packets).unwrap_or_default(),
            speech,
            first_rtp_timestamp: self.rtp_timestamp,
        }
    }

    async fn send(&mut self, payload: Bytes) -> anyhow::Result<()> {
        let packet = rtp::Packet {
            header: rtp::header::Header {
                version: 2,
                payload_type: self.payload_type,
                sequence_number: self.sequence_number,
                timestamp: self.rtp_timestamp,
                ssrc: self.ssrc,
                ..rtp::header::Header::default()
            },
            payload,
        };
        self.sequence_number = self.sequence_number.wrapping_add(1);
        self.rtp_timestamp = self.rtp_timestamp.wrapping_add(FRAME as u32);
        self.track.write_rtp(packet).await?;
        Ok(())
    }
}

impl Saying {
    fn finish(self) {
        let Self { speech, due, first_rtp_timestamp, packets } = self;
        let (Some(&first_packet_at), Some(&last_packet_at)) = (packets.first(), packets.last())
        else {
            return;
        };
        // Whoever asked may have stopped waiting.
        let _ = speech.said.send(SpokenSpan {
            due,
            first_packet_at,
            last_packet_at,
            first_rtp_timestamp,
            packets,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_belongs_to_the_packet_that_holds_the_sample_before_it() {
        let start = Instant::now();
        let packets: Vec<Instant> = (0..10).map(|n| start + PACKET_TIME * n).collect();
        let span = SpokenSpan {
            due: start,
            first_packet_at: start,
            last_packet_at: packets[9],
            first_rtp_timestamp: 0,
            packets: packets.clone(),
        };
        let sent_by = |ms| span.sent_by(Duration::from_millis(ms));
        assert_eq!(sent_by(0), packets[0]);
        assert_eq!(sent_by(20), packets[0]);
        assert_eq!(sent_by(21), packets[1]);
        assert_eq!(sent_by(200), packets[9]);
        assert_eq!(sent_by(5000), packets[9]);
        assert_eq!(span.due_by(Duration::from_millis(21)), start + PACKET_TIME);
    }

    #[test]
    fn an_rtp_timestamp_has_its_place_in_the_speech_across_a_wrap() {
        let now = Instant::now();
        let span = SpokenSpan {
            due: now,
            first_packet_at: now,
            last_packet_at: now,
            first_rtp_timestamp: u32::MAX - 9,
            packets: vec![now],
        };
        assert_eq!(span.offset_of(u32::MAX - 10), None);
        assert_eq!(span.offset_of(u32::MAX - 9), Some(Duration::from_secs_f64(1.0 / 48_000.0)));
        assert_eq!(span.offset_of(47_989), Some(Duration::from_secs(1)));
        // One packet, and the second after it.
        assert_eq!(span.offset_of(48_949), Some(Duration::from_millis(1020)));
        assert_eq!(span.offset_of(48_950), None);
        assert_eq!(span.offset_of(1 << 31), None);
    }
}
