//! `dragoman models verify tortoise --listen`: whether a voice is understood.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use inference::store::Store;
use inference::tortoise::import::FOLDER;
use inference::tortoise::{Tortoise, TortoiseConfig};
use inference::voice::{Recording, SpeakRequest, Voice};
use inference::whisper::{SAMPLE_RATE_HZ, TranscribeOptions, Whisper, WhisperConfig};
use inference::{CancelToken, Language};
use loadtest::word_error::word_error_rate;

use crate::audio_file::{self, AudioFile};
use crate::resample::resample_all;

/// Short enough for the recogniser, and without words that are spelled in several ways.
const SENTENCES: [&str; 3] = [
    "The ship came into the harbour before sunrise, and nobody was there to meet it.",
    "Please tell your sister that the train leaves in twenty minutes.",
    "We walked along the river until the rain stopped.",
];
/// More than this share of wrong words is no speech.
const WORD_ERROR_LIMIT: f64 = 0.2;
const VOICE: &str = "heard";
/// At which clips are read: more than the networks hear.
const CLIP_RATE_HZ: u32 = 24_000;

/// What `--listen` takes.
#[derive(clap::Args, Debug, Default)]
pub(super) struct ListenArgs {
    /// Speak some sentences with Tortoise, recognise them, and fail if the words differ
    #[arg(long)]
    listen: bool,
    /// Recording of the voice to speak in, 6 s or more; may be given several times [default: the
    /// model's own first voice]
    #[arg(long, value_name = "FILE", requires = "listen")]
    clip: Vec<PathBuf>,
    /// Where the sentences are written, as WAV
    #[arg(long, value_name = "FILE", requires = "listen")]
    out: Option<PathBuf>,
}

impl ListenArgs {
    pub(super) fn is_wanted(&self) -> bool {
        self.listen
    }

    /// Speaks, recognises and compares.
    ///
    /// # Errors
    /// Another model than Tortoise is named, one is missing or damaged, a clip cannot be used, or the
    /// words are not the same.
    pub(super) fn run(
        &self,
        store: &Store,
        names: &[String],
        output: &mut dyn Write,
    ) -> anyhow::Result<()> {
        if names != [FOLDER] {
            bail!("only {FOLDER} can be listened to: dragoman models verify {FOLDER} --listen");
        }
        listen(store, &store.root().join(FOLDER), self, output)
    }
}

fn listen(
    store: &Store,
    folder: &Path,
    args: &ListenArgs,
    output: &mut dyn Write,
) -> anyhow::Result<()> {
    let recogniser = Whisper::load(&store.require("whisper-base")?, &WhisperConfig::default())?;
    let engine = Tortoise::load(folder, &TortoiseConfig::default())?;
    let voice = learned(&engine, &args.clip)?;
    let mut spoken = Vec::new();
    let mut heard = Vec::new();
    for sentence in SENTENCES {
        let began = Instant::now();
        let samples = speak(&engine, sentence, voice.as_deref())?;
        let took = began.elapsed().as_secs_f64();
        let text = recognise(&recogniser, &samples)?;
        let seconds = samples.len() as f64 / f64::from(engine.sample_rate_hz());
        writeln!(
            output,
            "said:  {sentence}\nheard: {text}\n       {seconds:.1} s, in {took:.1} s"
        )?;
        spoken.extend(samples);
        heard.push(text);
    }
    if let Some(path) = &args.out {
        audio_file::write_wav(path, &spoken, engine.sample_rate_hz())
            .with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(output, "written to {}", path.display())?;
    }
    let wrong = word_error_rate(&SENTENCES.join(" "), &heard.join(" "));
    writeln!(output, "{:.0} % of the words differ", 100.0 * wrong)?;
    if wrong > WORD_ERROR_LIMIT {
        bail!(
            "more than {:.0} % of the words differ: these weights do not speak",
            100.0 * WORD_ERROR_LIMIT
        );
    }
    Ok(())
}

/// The name of the voice that the clips are of; none without a clip.
fn learned(engine: &Tortoise, clips: &[PathBuf]) -> anyhow::Result<Option<String>> {
    if clips.is_empty() {
        if engine.voices().is_empty() {
            bail!("the model has no voice of its own: name a recording of one with --clip");
        }
        return Ok(None);
    }
    let recordings = clips.iter().map(|path| {
        let mut samples = Vec::new();
        for block in AudioFile::open_at(path, CLIP_RATE_HZ)? {
            samples.extend(block?);
        }
        Ok(Recording { samples, rate_hz: CLIP_RATE_HZ })
    });
    engine.learn(VOICE, &recordings.collect::<anyhow::Result<Vec<_>>>()?)?;
    Ok(Some(VOICE.to_owned()))
}

fn speak(engine: &Tortoise, text: &str, voice: Option<&str>) -> anyhow::Result<Vec<f32>> {
    let request =
        SpeakRequest { voice: voice.map(str::to_owned), ..SpeakRequest::new(text, Language::EN) };
    let mut samples = Vec::new();
    engine.speak(&request, &mut |chunk| {
        samples.extend_from_slice(chunk);
        ControlFlow::Continue(())
    })?;
    Ok(samples)
}

fn recognise(recogniser: &Whisper, samples_24k: &[f32]) -> anyhow::Result<String> {
    let samples_16k = resample_all(samples_24k, 24_000, SAMPLE_RATE_HZ)?;
    let options =
        TranscribeOptions { language: Some(Language::EN), ..TranscribeOptions::default() };
    let transcript = recogniser.transcribe(&samples_16k, &options, &CancelToken::new())?;
    Ok(transcript.text)
}
