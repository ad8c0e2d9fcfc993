//! The frames that cross between a media worker and the rest of the house, and their rings.
//!
//! Both directions are single-producer, single-consumer rings of fixed-size frames: a push or a pop
//! copies one frame, takes no lock and allocates nothing.

use std::time::Instant;

use ringbuf::HeapRb;
use ringbuf::traits::Split;
use ringbuf::{HeapCons, HeapProd};

/// Samples of 20 ms at 16 kHz mono.
pub const HEARD_SAMPLES: usize = 320;
/// Samples of 20 ms at 48 kHz mono.
pub const PLAYOUT_SAMPLES: usize = 960;
/// RTP clock ticks (48 kHz) in one frame of 20 ms.
pub const TICKS_PER_FRAME: u64 = 960;

/// 20 ms of a peer's decoded speech, 16 kHz mono, for the recogniser.
#[derive(Clone, Copy, Debug)]
pub struct HeardFrame {
    /// Extended RTP timestamp (48 kHz ticks) of the first sample; consecutive frames differ by
    /// [`TICKS_PER_FRAME`] unless the sender paused (DTX) or packets were lost beyond concealment.
    pub rtp_time: u64,
    /// When the packet that completed this frame arrived.
    pub arrived: Instant,
    /// Whether the samples were concealed rather than received.
    pub concealed: bool,
    /// The samples, -1 to 1.
    pub samples: [f32; HEARD_SAMPLES],
}

/// 20 ms of synthesised speech, 48 kHz mono, for one listener.
#[derive(Clone, Copy, Debug)]
pub struct PlayoutFrame {
    /// Utterance it belongs to; a worker reports the first packet of each utterance it sends.
    pub utterance: u64,
    /// Whether this is the utterance's last frame.
    pub last: bool,
    /// The samples, -1 to 1.
    pub samples: [f32; PLAYOUT_SAMPLES],
}

/// Writing end of a peer's heard ring; the media worker owns it. When it is full the newest frame
/// is dropped and counted: the recogniser is then more than the ring's length behind.
pub type HeardWriter = HeapProd<HeardFrame>;
/// Reading end of a peer's heard ring; the listener thread owns it.
pub type HeardReader = HeapCons<HeardFrame>;
/// Writing end of a listener's playout ring; the speaker thread owns it and waits when it is full.
pub type PlayoutWriter = HeapProd<PlayoutFrame>;
/// Reading end of a listener's playout ring; the media worker owns it.
pub type PlayoutReader = HeapCons<PlayoutFrame>;

/// A ring of decoded speech that holds `frames` frames of 20 ms.
pub fn heard_ring(frames: usize) -> (HeardWriter, HeardReader) {
    HeapRb::new(frames).split()
}

/// A ring of synthesised speech that holds `frames` frames of 20 ms.
pub fn playout_ring(frames: usize) -> (PlayoutWriter, PlayoutReader) {
    HeapRb::new(frames).split()
}
