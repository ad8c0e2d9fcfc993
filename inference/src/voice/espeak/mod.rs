//! espeak-ng: a formant synthesiser that speaks more than a hundred languages, none of them
//! prettily. It runs as a child process (it is licensed under the GPL) and covers the languages
//! that no better engine speaks. [`phonemizer`] uses the same program to turn text into phonemes.

pub mod phonemizer;
mod wav;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{SpeakRequest, Voice, VoiceError, VoiceInfo, text};
use crate::Language;

pub use wav::WavError;
#[doc(hidden)]
pub use wav::read_head as read_wav_head;

pub(super) const PROGRAM: &str = "espeak-ng";
const ENGINE: &str = "espeak-ng";
/// espeak-ng's own rate for every voice that is not a recording.
const SAMPLE_RATE_HZ: u32 = 22_050;
/// Words per minute at speed one.
const WORDS_PER_MINUTE: f32 = 165.0;
/// A tenth of a second.
const CHUNK_SAMPLES: usize = SAMPLE_RATE_HZ as usize / 10;

/// Languages whose code differs between us and espeak-ng, and the variant to prefer.
const VOICES: &[(&str, &str)] =
    &[("en", "en-us"), ("fr", "fr-fr"), ("pt", "pt-br"), ("zh", "cmn"), ("no", "nb"), ("nn", "nb")];

/// espeak-ng did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EspeakError {
    /// The program cannot be started.
    #[error("cannot start espeak-ng: install the package espeak-ng")]
    Start(#[source] io::Error),
    /// The process ended early; the next request starts another.
    #[error("the espeak-ng process died")]
    Died,
    /// The process did not answer.
    #[error("espeak-ng did not answer within {0:?}")]
    Timeout(Duration),
    /// What it wrote is not the expected audio.
    #[error("espeak-ng wrote no usable audio")]
    Audio(#[source] WavError),
    /// The pipe broke.
    #[error("cannot talk to espeak-ng")]
    Pipe(#[source] io::Error),
    /// The installed data lacks the language.
    #[error("espeak-ng lists no voices: reinstall the package espeak-ng-data")]
    NoVoices,
}

/// The espeak-ng engine. Each request is a process of its own, so requests run in parallel.
pub struct Espeak {
    /// Pairs of language and espeak-ng's name for it.
    voices: Vec<(Language, String)>,
}

impl Espeak {
    /// Asks the installed espeak-ng which languages it speaks.
    ///
    /// # Errors
    /// [`VoiceError::Failed`] if the program is not installed or lists nothing.
    pub fn new() -> Result<Self, VoiceError> {
        let output = Command::new(PROGRAM)
            .arg("--voices")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| failed(EspeakError::Start(error)))?;
        let known = listed_languages(&String::from_utf8_lossy(&output.stdout));
        let voices: Vec<(Language, String)> = Language::all()
            .filter_map(|language| {
                let name = espeak_name(language);
                known.contains(name).then(|| (language, name.to_owned()))
            })
            .collect();
        if voices.is_empty() { Err(failed(EspeakError::NoVoices)) } else { Ok(Self { voices }) }
    }

    fn voice_for(&self, request: &SpeakRequest) -> Result<&str, VoiceError> {
        let (_, default) =
            self.voices.iter().find(|(language, _)| *language == request.language).ok_or_else(
                || VoiceError::UnsupportedLanguage {
                    engine: ENGINE.to_owned(),
                    language: request.language,
                },
            )?;
        match &request.voice {
            Some(wanted) if wanted != default => {
                Err(VoiceError::UnknownVoice { voice: wanted.clone(), known: default.clone() })
            }
            _ => Ok(default),
        }
    }
}

fn espeak_name(language: Language) -> &'static str {
    let code = language.code();
    VOICES.iter().find(|(ours, _)| *ours == code).map_or(code, |(_, theirs)| theirs)
}

/// The second column of `espeak-ng --voices`, with the header left out.
fn listed_languages(listing: &str) -> BTreeSet<String> {
    listing
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(str::to_owned)
        .collect()
}

fn failed(error: EspeakError) -> VoiceError {
    VoiceError::Failed { engine: ENGINE.to_owned(), source: Box::new(error) }
}

impl Voice for Espeak {
    fn name(&self) -> &str {
        ENGINE
    }

    fn supports(&self, language: Language) -> bool {
        self.voices.iter().any(|(known, _)| *known == language)
    }

    fn sample_rate_hz(&self) -> u32 {
        SAMPLE_RATE_HZ
    }

    fn voices(&self) -> Vec<VoiceInfo> {
        self.voices
            .iter()
            .map(|(language, name)| VoiceInfo {
                engine: ENGINE.to_owned(),
                name: name.clone(),
                language: *language,
                learned: false,
            })
            .collect()
    }

    fn speak(
        &self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError> {
        let voice = self.voice_for(request)?;
        let text = text::speakable(&request.text);
        if request.cancel.is_cancelled() {
            return Err(VoiceError::Cancelled);
        }
        if text.is_empty() {
            return Ok(());
        }
        let mut process = Speaking::start(voice, request.speed, &text).map_err(failed)?;
        process.stream(request, on_chunk)
    }
}

/// A running synthesis; dropping it ends the process.
struct Speaking {
    child: Child,
}

impl Speaking {
    fn start(voice: &str, speed: f32, text: &str) -> Result<Self, EspeakError> {
        let rate = (WORDS_PER_MINUTE * super::clamped_speed(speed)).round().to_string();
        let mut child = Command::new(PROGRAM)
            .args(["-b", "1", "-s", &rate, "-v", voice, "--stdin", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(EspeakError::Start)?;
        let input = child.stdin.take();
        let speaking = Self { child };
        let mut input = input.ok_or(EspeakError::Died)?;
        // It reads everything before it speaks, so this cannot wait for its output.
        input.write_all(text.as_bytes()).map_err(EspeakError::Pipe)?;
        Ok(speaking)
    }

    fn stream(
        &mut self,
        request: &SpeakRequest,
        on_chunk: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), VoiceError> {
        let mut output = self.child.stdout.take().ok_or_else(|| failed(EspeakError::Died))?;
        let rate =
            wav::read_head(&mut output).map_err(|error| failed(EspeakError::Audio(error)))?;
        if rate != SAMPLE_RATE_HZ {
            let what = WavError::Unsupported(format!("{rate} Hz instead of {SAMPLE_RATE_HZ}"));
            return Err(failed(EspeakError::Audio(what)));
        }
        let mut bytes = vec![0u8; 2 * CHUNK_SAMPLES];
        let mut samples = Vec::with_capacity(CHUNK_SAMPLES);
        loop {
            let filled =
                fill(&mut output, &mut bytes).map_err(|error| failed(EspeakError::Pipe(error)))?;
            if request.cancel.is_cancelled() {
                return Err(VoiceError::Cancelled);
            }
            let (pairs, _) = bytes[..filled].as_chunks();
            samples.clear();
            samples
                .extend(pairs.iter().map(|pair| f32::from(i16::from_le_bytes(*pair)) / 32_768.0));
            if samples.is_empty() {
                break;
            }
            if on_chunk(&samples).is_break() {
                return Ok(());
            }
        }
        let status = self.child.wait().map_err(|error| failed(EspeakError::Pipe(error)))?;
        if status.success() { Ok(()) } else { Err(failed(EspeakError::Died)) }
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads until `buffer` is full or the stream ends.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
