//! Listening back: what was heard is written down by the server's own recogniser
//! (`POST /v1/audio/transcriptions`), after the run, and held against the translation that it
//! should have said. A voice that cannot be understood is found by nothing else.

use std::io::Cursor;

use anyhow::Context as _;
use opus::{Channels, Decoder};

use crate::api::Api;
use crate::recording::MAX_PACKET;
use crate::report::{Listened, Outcome};
use crate::wav;
use crate::word_error::word_errors;
use crate::{FRAME, SAMPLE_RATE};

/// Most interpretations of a run that are listened back to, evenly drawn: each costs the server a
/// recognition.
const MOST: usize = 40;

/// Listens back to some of what was heard; tells after each how many are done, and of how many.
///
/// # Errors
/// What the server said to the first one that it did not write down.
pub(crate) async fn listen_back(
    office: &Api,
    outcomes: &mut [Outcome],
    mut told: impl FnMut(usize, usize),
) -> anyhow::Result<()> {
    let heard = outcomes.iter_mut().filter(|outcome| {
        outcome.translation.is_some() && outcome.missing.is_none() && !outcome.heard.is_empty()
    });
    let mut heard: Vec<&mut Outcome> = heard.collect();
    let (all, count) = (heard.len(), heard.len().min(MOST));
    for done in 0..count {
        let outcome = &mut heard[done * all / count];
        let samples = decode(&outcome.heard).context("what was heard is no Opus")?;
        let mut recording = Cursor::new(Vec::new());
        wav::write_48k_to(&mut recording, &samples).context("what was heard is too long")?;
        let text = office.transcribe(recording.into_inner(), &outcome.to).await?;
        let said = outcome.translation.as_deref().unwrap_or_default();
        let (wrong_words, words) = word_errors(said, &text);
        outcome.listened = Some(Listened { text, words, wrong_words });
        told(done + 1, count);
    }
    Ok(())
}

/// The samples of packets that follow each other.
fn decode(packets: &[bytes::Bytes]) -> Result<Vec<f32>, opus::Error> {
    let mut decoder = Decoder::new(SAMPLE_RATE, Channels::Mono)?;
    let mut scratch = vec![0.0; MAX_PACKET];
    let mut samples = Vec::with_capacity(packets.len() * FRAME);
    for packet in packets {
        let decoded = decoder.decode_float(packet, &mut scratch, false)?;
        samples.extend_from_slice(&scratch[..decoded]);
    }
    Ok(samples)
}
