//! The head of a WAV stream from a pipe: the sizes in it are not to be trusted (the writer did not
//! know them), and the samples follow while they are made.

use std::io::{self, Read};

/// More than any sensible header chunk; a larger one is skipped in pieces anyway.
const MAX_FORMAT_BYTES: u32 = 1024;

/// The stream is not 16-bit mono PCM.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// The stream ended or broke inside the head.
    #[error("the wav header is cut short")]
    CutShort(#[source] io::Error),
    /// It is something else.
    #[error("not a wav stream of 16-bit mono pcm: {0}")]
    Unsupported(String),
}

/// Reads up to the first sample and returns the sample rate in Hz. What follows is little-endian
/// 16-bit mono PCM up to the end of the stream.
pub fn read_head(stream: &mut impl Read) -> Result<u32, WavError> {
    let riff: [u8; 12] = read_array(stream)?;
    if &riff[..4] != b"RIFF" || &riff[8..] != b"WAVE" {
        return Err(WavError::Unsupported("no RIFF/WAVE mark".to_owned()));
    }
    let mut sample_rate_hz = None;
    loop {
        let head: [u8; 8] = read_array(stream)?;
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        match &head[..4] {
            b"fmt " if (16..=MAX_FORMAT_BYTES).contains(&size) => {
                let mut format = vec![0; size as usize];
                stream.read_exact(&mut format).map_err(WavError::CutShort)?;
                let short = |at: usize| u16::from_le_bytes([format[at], format[at + 1]]);
                let (encoding, channels, bits) = (short(0), short(2), short(14));
                let rate = u32::from_le_bytes([format[4], format[5], format[6], format[7]]);
                if (encoding, channels, bits) != (1, 1, 16) || rate == 0 {
                    let what =
                        format!("encoding {encoding}, {channels} channels, {bits} bits, {rate} Hz");
                    return Err(WavError::Unsupported(what));
                }
                sample_rate_hz = Some(rate);
                skip(stream, size % 2)?;
            }
            b"fmt " => {
                return Err(WavError::Unsupported(format!("a format chunk of {size} bytes")));
            }
            b"data" => {
                return sample_rate_hz
                    .ok_or_else(|| WavError::Unsupported("samples before the format".to_owned()));
            }
            // Chunks are padded to even lengths.
            _ => skip(stream, size.saturating_add(size % 2))?,
        }
    }
}

fn read_array<const N: usize>(stream: &mut impl Read) -> Result<[u8; N], WavError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(WavError::CutShort)?;
    Ok(bytes)
}

fn skip(stream: &mut impl Read, bytes: u32) -> Result<(), WavError> {
    let skipped = io::copy(&mut stream.take(u64::from(bytes)), &mut io::sink())
        .map_err(WavError::CutShort)?;
    if skipped == u64::from(bytes) {
        Ok(())
    } else {
        Err(WavError::CutShort(io::ErrorKind::UnexpectedEof.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wav(channels: u16, data_size: u32, extra: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\xff\xff\xff\x7fWAVE".to_vec();
        bytes.extend(extra);
        bytes.extend(b"fmt \x10\0\0\0\x01\0");
        bytes.extend(channels.to_le_bytes());
        bytes.extend(22_050u32.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(b"\x02\0\x10\0data");
        bytes.extend(data_size.to_le_bytes());
        bytes
    }

    #[test]
    fn unknown_chunks_and_wrong_sizes_do_not_matter() {
        let bytes = wav(1, 0x7fff_f000, b"LIST\x03\0\0\0abc\0");
        assert_eq!(read_head(&mut bytes.as_slice()).expect("a head"), 22_050);
    }

    #[test]
    fn stereo_and_cut_heads_are_refused() {
        assert!(matches!(read_head(&mut wav(2, 0, b"").as_slice()), Err(WavError::Unsupported(_))));
        let bytes = wav(1, 0, b"");
        for len in 0..bytes.len() {
            assert!(read_head(&mut &bytes[..len]).is_err(), "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_stream_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_head(&mut bytes.as_slice());
            let mut framed = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
            framed.extend(bytes);
            let _ = read_head(&mut framed.as_slice());
        }
    }
}
