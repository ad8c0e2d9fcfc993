//! From checkpoints in a folder to speech in a learned voice.

#[path = "tortoise_support/pickling.rs"]
mod pickling;
mod tortoise_support;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use inference::Language;
use inference::device::DeviceName;
use inference::tortoise::import::import;
use inference::tortoise::{LoadError, Preset, Tortoise, TortoiseConfig};
use inference::voice::{Recording, SpeakRequest, Voice, VoiceError};
use tortoise_support::Fixture;

/// The fixture's networks as a folder of checkpoints, imported.
fn imported(folder: &Path) -> std::path::PathBuf {
    let checkpoints = folder.join("checkpoints");
    fs::create_dir_all(&checkpoints).expect("a folder");
    for (network, file) in
        [("autoregressive", "autoregressive.pth"), ("hifigan", "hifidecoder.pth")]
    {
        let tensors: Vec<_> = Fixture::load(network)
            .checkpoint()
            .iter()
            .map(|(name, tensor)| {
                let numbers = tensor.flatten_all().and_then(|flat| flat.to_vec1::<f32>());
                (name.clone(), tensor.dims().to_vec(), numbers.expect("numbers"))
            })
            .collect();
        pickling::save(&checkpoints.join(file), None, &tensors);
    }
    let model = folder.join("tortoise");
    import(&checkpoints, &model, &mut |_| {}).expect("imported");
    model
}

fn voice() -> Recording {
    let sample = |index: usize| {
        let time = index as f32 / 24_000.0;
        0.4 * (time * 12.0).sin().max(0.02) * (time * 900.0).sin()
    };
    Recording { samples: (0..8 * 24_000).map(sample).collect(), rate_hz: 24_000 }
}

fn load(model: &Path, preset: Preset) -> Result<Tortoise, LoadError> {
    let device = DeviceName::Cpu;
    let config = TortoiseConfig { preset, device, ..TortoiseConfig::default() };
    Tortoise::load(model, &config)
}

fn speak(engine: &Tortoise, voice: Option<&str>) -> Result<Vec<f32>, VoiceError> {
    let request = SpeakRequest {
        voice: voice.map(str::to_owned),
        ..SpeakRequest::new("Good morning, Dr. Smith: it is 8 o'clock.", Language::EN)
    };
    let mut samples = Vec::new();
    engine.speak(&request, &mut |chunk| {
        samples.extend_from_slice(chunk);
        ControlFlow::Continue(())
    })?;
    Ok(samples)
}

#[test]
fn an_imported_model_speaks_in_a_voice_that_it_has_learned_and_recalls_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = imported(folder.path());
    let engine = load(&model, Preset::Streaming).expect("it loads");
    assert!(engine.supports(Language::EN));
    // Without random voices it has none of its own.
    assert!(matches!(speak(&engine, None), Err(VoiceError::UnsupportedLanguage { .. })));
    let bytes = engine.learn("ada", &[voice()]).expect("learned");
    let samples = speak(&engine, Some("ada")).expect("spoken");
    assert!(samples.len() > 5_000, "{} samples", samples.len());
    assert!(samples.iter().all(|sample| sample.abs() <= 1.0));

    let again = load(&model, Preset::Streaming).expect("it loads again");
    again.recall("ada", &bytes).expect("recalled");
    let same = speak(&again, Some("ada")).expect("spoken");
    assert_eq!(same.len(), samples.len(), "the same seed says the same");
}

#[test]
fn a_model_that_lacks_a_network_or_was_cut_short_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = imported(folder.path());
    let said = |error: LoadError| format!("{:#}", anyhow::Error::from(error));
    let error = said(load(&model, Preset::Fast).err().expect("refused"));
    assert!(error.contains("diffusion_decoder.pth"), "{error}");
    let error = said(load(folder.path(), Preset::Streaming).err().expect("refused"));
    assert!(error.contains("import"), "{error}");

    let weights = model.join("hifigan.safetensors");
    let whole = fs::read(&weights).expect("weights");
    fs::write(&weights, &whole[..whole.len() / 2]).expect("room");
    let error = said(load(&model, Preset::Streaming).err().expect("refused"));
    assert!(error.contains("hifigan.safetensors"), "{error}");
}
