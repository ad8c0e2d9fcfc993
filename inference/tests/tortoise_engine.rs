//! Tortoise as a voice: tiny networks with random weights say no words, but all else is as it is.

use std::ops::ControlFlow;
use std::time::Duration;

use inference::CancelToken;
use inference::Language;
use inference::device;
use inference::tortoise::autoregressive::AutoregressiveConfig;
use inference::tortoise::clvp::ClvpConfig;
use inference::tortoise::diffusion::{DiffusionConfig, Sampler};
use inference::tortoise::hifigan::HifiganConfig;
use inference::tortoise::text::Tokenizer;
use inference::tortoise::univnet::UnivnetConfig;
use inference::tortoise::{Preset, Tortoise, TortoiseConfig, TortoiseSizes, random_weights};
use inference::voice::{Recording, SpeakRequest, Voice, VoiceError};

/// Samples of one code at 24 kHz.
const CODE_SAMPLES: f64 = 1024.0 * 24_000.0 / 22_050.0;

/// What tells the model from others.
const MODEL: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn sizes() -> TortoiseSizes {
    TortoiseSizes {
        autoregressive: AutoregressiveConfig {
            layers: 2,
            width: 32,
            heads: 2,
            conditioning_blocks: 1,
            ..AutoregressiveConfig::default()
        },
        hifigan: Some(HifiganConfig {
            latent: 32,
            voice: 32,
            channels: 32,
            ..HifiganConfig::default()
        }),
        diffusion: Some(DiffusionConfig {
            channels: 32,
            layers: 1,
            heads: 2,
            mel_bands: 100,
            latent_channels: 32,
        }),
        univnet: Some(UnivnetConfig {
            channels: 4,
            noise: 8,
            dilations: vec![1, 3],
            ..UnivnetConfig::default()
        }),
        clvp: Some(ClvpConfig {
            width: 64,
            depth: 1,
            heads: 1,
            latent: 64,
            ..ClvpConfig::default()
        }),
        random_voices: true,
        random_voices_of_diffusion: true,
    }
}

fn engine(config: &TortoiseConfig) -> Tortoise {
    engine_of(&sizes(), config)
}

fn engine_of(sizes: &TortoiseSizes, config: &TortoiseConfig) -> Tortoise {
    let device = device::cpu();
    let weights = random_weights(sizes.autoregressive.stop_mel, &device);
    let tokenizer = Tokenizer::english();
    Tortoise::build(sizes, config, &device, tokenizer, MODEL.to_owned(), &weights)
        .expect("an engine")
}

fn streaming(slots: usize) -> Tortoise {
    engine(&TortoiseConfig { slots, ..TortoiseConfig::default() })
}

fn request(text: &str) -> SpeakRequest {
    SpeakRequest::new(text, Language::EN)
}

/// The chunks that come out.
fn chunks(engine: &Tortoise, request: &SpeakRequest) -> Result<Vec<Vec<f32>>, VoiceError> {
    let mut chunks = Vec::new();
    engine.speak(request, &mut |chunk| {
        chunks.push(chunk.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(chunks)
}

fn spoken(engine: &Tortoise, request: &SpeakRequest) -> Vec<f32> {
    chunks(engine, request).expect("spoken").concat()
}

/// Somebody speaks, or at least something with the loudness and pauses of speech.
fn recording(seconds: usize, rate_hz: u32) -> Recording {
    let count = seconds * rate_hz as usize;
    let sample = |index: usize| {
        let time = index as f32 / rate_hz as f32;
        let syllable = (time * 4.0 * std::f32::consts::PI).sin().max(0.02);
        let pitch = (time * 150.0 * std::f32::consts::TAU).sin();
        let formant = (time * 900.0 * std::f32::consts::TAU).sin();
        0.4 * syllable * (0.6 * pitch + 0.4 * formant)
    };
    Recording { samples: (0..count).map(sample).collect(), rate_hz }
}

#[test]
fn sound_is_as_long_as_its_codes() {
    let engine = streaming(1);
    assert_eq!((engine.name(), engine.sample_rate_hz()), ("tortoise", 24_000));
    let samples = spoken(&engine, &request("Hello there."));
    // The random model never stops by itself, so it says as much as it may.
    let codes = samples.len() as f64 / CODE_SAMPLES;
    assert!((codes - codes.round()).abs() < 0.3, "{codes} codes");
    assert!(samples.iter().all(|sample| sample.abs() <= 1.0));
    assert!(samples.iter().any(|sample| sample.abs() > 1e-4));
}

#[test]
fn many_who_speak_at_a_time_each_hear_what_they_hear_alone() {
    let texts = ["Hello.", "How are you today?", "It rains.", "Nobody knows that."];
    let alone = streaming(4);
    let expected: Vec<_> = texts.iter().map(|text| spoken(&alone, &request(text))).collect();
    let together = &streaming(4);
    let actual: Vec<_> = std::thread::scope(|scope| {
        let speaking: Vec<_> = texts
            .iter()
            .map(|text| scope.spawn(move || spoken(together, &request(text))))
            .collect();
        speaking.into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    assert!(together.batch_stats().expect("a batch").mean_size() > 1.5, "they share steps");
    for (actual, expected) in actual.iter().zip(&expected) {
        assert_eq!(actual.len(), expected.len());
        // Where sound is cut into windows depends on when codes come; the codes do not.
        let apart = actual.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-3, "off by {apart}");
    }
}

#[test]
fn a_cancelled_request_ends_and_one_that_nobody_hears_too() {
    let engine = streaming(1);
    let cancelled = request("This will not be said.");
    cancelled.cancel.cancel();
    assert!(matches!(chunks(&engine, &cancelled), Err(VoiceError::Cancelled)));

    let request = request("A rather long text that somebody breaks off in the middle of it.");
    let cancel = request.cancel.clone();
    let mut heard = 0;
    let outcome = engine.speak(&request, &mut |_| {
        heard += 1;
        cancel.cancel();
        // The next step sees it.
        std::thread::sleep(Duration::from_millis(50));
        ControlFlow::Continue(())
    });
    assert!(matches!(outcome, Err(VoiceError::Cancelled)), "{outcome:?}");

    let uncancelled = SpeakRequest { cancel: CancelToken::new(), ..request };
    let mut heard = 0;
    let outcome = engine.speak(&uncancelled, &mut |_| {
        heard += 1;
        ControlFlow::Break(())
    });
    assert!(outcome.is_ok());
    assert_eq!(heard, 1);
    assert!(!spoken(&engine, &self::request("It goes on.")).is_empty());
}

#[test]
fn the_quality_path_makes_sound_of_the_best_of_several_readings() {
    let config =
        TortoiseConfig { preset: Preset::UltraFast, slots: 8, ..TortoiseConfig::default() };
    let ddim = engine(&TortoiseConfig { diffusion: Sampler::Ddim, ..config.clone() });
    let engine = engine(&config);
    let samples = spoken(&engine, &request("Yes."));
    let otherwise = spoken(&ddim, &request("Yes."));
    assert_eq!(otherwise.len(), samples.len(), "the same codes");
    assert_ne!(otherwise, samples, "and another way from the noise");
    let seconds = samples.len() as f64 / 24_000.0;
    assert!((0.5..5.0).contains(&seconds), "{seconds} s");
    assert!(samples.iter().all(|sample| sample.is_finite() && sample.abs() <= 1.0));
    assert_eq!(samples, spoken(&engine, &request("Yes.")), "the same seed says the same");
    assert_eq!(engine.batch_stats().expect("a batch").entered, 2 * 16);
}

#[test]
fn without_anything_to_rank_readings_a_few_are_enough() {
    let config = TortoiseConfig { preset: Preset::UltraFast, ..TortoiseConfig::default() };
    let engine = engine_of(&TortoiseSizes { clvp: None, ..sizes() }, &config);
    assert!(!spoken(&engine, &request("Yes.")).is_empty());
    assert_eq!(engine.batch_stats().expect("a batch").entered, 3);
}

#[test]
fn streaming_needs_one_network_for_voices_of_its_own_and_quality_two() {
    let half = TortoiseSizes { random_voices_of_diffusion: false, ..sizes() };
    let own = |preset| {
        let config = TortoiseConfig { preset, ..TortoiseConfig::default() };
        engine_of(&half, &config).voices().len()
    };
    assert_eq!((own(Preset::Streaming), own(Preset::UltraFast)), (4, 0));
}

#[test]
fn a_preset_whose_networks_are_missing_is_refused() {
    let device = device::cpu();
    let sizes = TortoiseSizes { diffusion: None, ..sizes() };
    let weights = random_weights(sizes.autoregressive.stop_mel, &device);
    let config = TortoiseConfig { preset: Preset::Fast, ..TortoiseConfig::default() };
    let tokenizer = Tokenizer::english();
    let built = Tortoise::build(&sizes, &config, &device, tokenizer, MODEL.to_owned(), &weights);
    let error = built.err().expect("refused").to_string();
    assert!(error.contains("diffusion_decoder.pth"), "{error}");
}

#[test]
fn slower_speech_takes_longer() {
    let engine = streaming(1);
    let natural = spoken(&engine, &request("Hello."));
    let slow = spoken(&engine, &SpeakRequest { speed: 0.5, ..request("Hello.") });
    let ratio = slow.len() as f64 / natural.len() as f64;
    assert!((1.9..2.05).contains(&ratio), "{ratio} times as long");
}

#[test]
fn voices_are_listed_named_learned_recalled_and_forgotten() {
    for preset in [Preset::Streaming, Preset::UltraFast] {
        let config = TortoiseConfig { preset, ..TortoiseConfig::default() };
        let engine = engine(&config);
        assert!(engine.can_learn());
        let own = engine.voices();
        assert_eq!(own.len(), 4);
        assert!(own.iter().all(|voice| !voice.learned && voice.language == Language::EN));

        let bytes = engine.learn("ada", &[recording(8, 22_050), recording(4, 48_000)]);
        let bytes = bytes.expect("learned");
        assert!(engine.voices().iter().any(|voice| voice.learned && voice.name == "ada"));
        let taken = engine.learn("ada", &[recording(8, 22_050)]);
        assert!(matches!(taken, Err(VoiceError::NameTaken { .. })), "{taken:?}");
        assert!(matches!(engine.recall("tortoise_1", &bytes), Err(VoiceError::NameTaken { .. })));
        engine.recall("bob", &bytes).expect("recalled under another name");
        if preset == Preset::Streaming {
            let voiced =
                |name: &str| SpeakRequest { voice: Some(name.to_owned()), ..request("Hello.") };
            let ada = spoken(&engine, &voiced("ada"));
            assert_eq!(ada, spoken(&engine, &voiced("bob")));
            assert_ne!(ada, spoken(&engine, &request("Hello.")));
        }
        assert!(engine.forget("ada"));
        assert!(!engine.forget("ada"), "it is forgotten");
        assert!(!engine.forget("tortoise_1"), "the model's own stay");
        let unknown = SpeakRequest { voice: Some("ada".to_owned()), ..request("Hello.") };
        assert!(matches!(chunks(&engine, &unknown), Err(VoiceError::UnknownVoice { .. })));
    }
}

#[test]
fn recordings_and_latents_that_cannot_be_used_are_refused() {
    let engine = streaming(1);
    let silence = Recording { samples: vec![0.0; 100_000], rate_hz: 22_050 };
    let clipped = Recording {
        samples: recording(8, 22_050)
            .samples
            .iter()
            .map(|sample| (sample * 50.0).clamp(-1.0, 1.0))
            .collect(),
        rate_hz: 22_050,
    };
    let short =
        Recording { samples: recording(8, 22_050).samples[..2000].to_vec(), rate_hz: 22_050 };
    let telephone = Recording { rate_hz: 4000, ..recording(8, 22_050) };
    for recording in [silence, clipped, short, telephone] {
        let refused = engine.learn("ada", std::slice::from_ref(&recording));
        assert!(matches!(refused, Err(VoiceError::UnusableRecording { .. })), "{refused:?}");
    }
    assert!(matches!(engine.learn("ada", &[]), Err(VoiceError::UnusableRecording { .. })));
    let bytes = engine.learn("ada", &[recording(8, 22_050)]).expect("learned");
    for damaged in [&bytes[..bytes.len() / 2], &[], b"not a voice"] {
        assert!(matches!(engine.recall("bob", damaged), Err(VoiceError::Failed { .. })));
    }
    // Of another model.
    let device = device::cpu();
    let sizes = sizes();
    let weights = random_weights(sizes.autoregressive.stop_mel, &device);
    let config = TortoiseConfig::default();
    let other =
        Tortoise::build(&sizes, &config, &device, Tokenizer::english(), "f".repeat(64), &weights);
    let other = other.expect("an engine");
    assert!(matches!(other.recall("ada", &bytes), Err(VoiceError::Failed { .. })));
}

#[test]
fn only_english_is_spoken_and_a_long_text_is_said_in_pieces() {
    let engine = streaming(2);
    assert!(engine.supports(Language::EN) && !engine.supports(Language::ES));
    let spanish = SpeakRequest { language: Language::ES, ..request("Hola.") };
    assert!(matches!(chunks(&engine, &spanish), Err(VoiceError::UnsupportedLanguage { .. })));
    let sentence = "The quick brown fox jumps over the lazy dog, and nobody minds. ";
    let short = spoken(&engine, &request(sentence)).len();
    let long = spoken(&engine, &request(&sentence.repeat(6))).len();
    assert!(long > 3 * short, "{long} samples of six, {short} of one");
    assert!(chunks(&engine, &request("")).expect("nothing").is_empty());
}
