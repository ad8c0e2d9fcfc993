//! A browser's sending side: Opus of 20 ms with in-band FEC, without DTX, as RTP packets.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_server::transport::RtpIn;
use opus::{Application, Bitrate, Channels, Encoder};

/// One packet.
pub const FRAME: Duration = Duration::from_millis(20);
const SAMPLES: usize = 960;
/// What browsers choose for mono speech.
const BITRATE: i32 = 32_000;
/// The microphone is open before somebody speaks and after.
const LEAD_FRAMES: usize = 25;
const TAIL_FRAMES: usize = 60;

/// The packets of a recording (48 kHz mono), each with when it is sent. `told_loss` is the loss in
/// percent that the receiver has reported, to which browsers tune the encoder. The instant of
/// arrival is for the network to set.
pub fn packets(samples_48k: &[f32], told_loss: i32) -> Vec<(Duration, RtpIn)> {
    let mut encoder = Encoder::new(48_000, Channels::Mono, Application::Voip).expect("an encoder");
    encoder.set_bitrate(Bitrate::Bits(BITRATE)).expect("a bit rate");
    encoder.set_inband_fec(true).expect("fec");
    encoder.set_packet_loss_perc(told_loss).expect("a percentage");
    encoder.set_dtx(false).expect("no dtx");
    let silence = vec![0.0; LEAD_FRAMES * SAMPLES];
    let tail = vec![0.0; TAIL_FRAMES * SAMPLES];
    let arrived = Instant::now();
    let mut at = Duration::ZERO;
    // Both counters wrap on the way.
    let (mut sequence, mut timestamp) = (u16::MAX - 40, u32::MAX - 40_000);
    [&silence, samples_48k, &tail]
        .concat()
        .chunks_exact(SAMPLES)
        .map(|frame| {
            let payload = Bytes::from(encoder.encode_vec_float(frame, 1_276).expect("encoded"));
            let packet = (at, RtpIn { arrived, sequence, timestamp, payload });
            at += FRAME;
            sequence = sequence.wrapping_add(1);
            timestamp = timestamp.wrapping_add(960);
            packet
        })
        .collect()
}
