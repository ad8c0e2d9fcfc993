//! Files of every kind, whole and broken, made by ffmpeg and hound.

use std::f32::consts::TAU;
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Two seconds of two tones, one for each channel if there are two.
fn tones(rate: u32, channels: u16) -> Vec<i16> {
    (0..2 * rate)
        .flat_map(|n| (0..channels).map(move |channel| (n, channel)))
        .map(|(n, channel)| {
            let hz = if channel == 0 { 440.0 } else { 1_200.0 };
            ((TAU * hz * n as f32 / rate as f32).sin() * 10_000.0) as i16
        })
        .collect()
}

fn wav(folder: &TempDir, rate: u32, channels: u16) -> PathBuf {
    let path = folder.path().join(format!("{rate}-{channels}.wav"));
    let spec = hound::WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for sample in tones(rate, channels) {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    path
}

fn ffmpeg(from: &Path, to: &Path, options: &[&str]) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(from)
        .args(options)
        .arg(to)
        .output()
        .expect("ffmpeg runs: install it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Amplitude of the component at `hz` in 16 kHz samples.
fn level_at(samples: &[f32], hz: f32) -> f32 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let phase = TAU * ((hz * n as f32 / 16_000.0) % 1.0);
        re += sample * phase.cos();
        im += sample * phase.sin();
    }
    2.0 * f32::hypot(re, im) / samples.len() as f32
}

const LEVEL: f32 = 10_000.0 / 32_768.0;

fn assert_tone(path: &Path, length_tolerance: usize) {
    let samples = read_16k(path).unwrap();
    let name = path.display();
    assert!(samples.len().abs_diff(32_000) <= length_tolerance, "{name}: {}", samples.len());
    let level = level_at(&samples[1_600..30_400], 440.0);
    assert!((level / LEVEL - 1.0).abs() < 0.1, "{name}: level {level}");
}

#[test]
fn wav_of_every_rate_becomes_16_khz() {
    let folder = TempDir::new().unwrap();
    for rate in [8_000, 16_000, 22_050, 44_100, 48_000] {
        assert_tone(&wav(&folder, rate, 1), 0);
    }
}

#[test]
fn stereo_is_averaged() {
    let folder = TempDir::new().unwrap();
    let samples = read_16k(&wav(&folder, 44_100, 2)).unwrap();
    assert_eq!(samples.len(), 32_000);
    for hz in [440.0, 1_200.0] {
        let level = level_at(&samples[1_600..30_400], hz);
        assert!((level / LEVEL - 0.5).abs() < 0.03, "{hz} Hz: {level}");
    }
}

#[test]
fn every_format_is_decoded() {
    let folder = TempDir::new().unwrap();
    let source = wav(&folder, 44_100, 1);
    let formats: [(&str, &[&str], usize); 6] = [
        ("a.flac", &[], 0),
        ("b.mp3", &["-b:a", "128k"], 1_200),
        ("c.ogg", &["-c:a", "libvorbis"], 600),
        ("d.opus", &["-c:a", "libopus", "-b:a", "48k"], 1_000),
        ("e.ogg", &["-c:a", "libopus", "-af", "pan=stereo|c0=c0|c1=c0"], 1_000),
        ("g.wav", &["-c:a", "pcm_f32le", "-ar", "48000"], 16),
    ];
    for (name, options, tolerance) in formats {
        let path = folder.path().join(name);
        ffmpeg(&source, &path, options);
        assert_tone(&path, tolerance);
    }
}

#[test]
fn blocks_join_to_the_whole() {
    let folder = TempDir::new().unwrap();
    let path = wav(&folder, 48_000, 1);
    let blocks: Vec<Vec<f32>> = AudioFile::open(&path).unwrap().map(Result::unwrap).collect();
    assert!(blocks.len() > 10);
    assert_eq!(blocks.concat(), read_16k(&path).unwrap());
}

#[test]
fn a_file_that_was_cut_off_gives_what_is_there() {
    let folder = TempDir::new().unwrap();
    let source = wav(&folder, 16_000, 1);
    let flac = folder.path().join("whole.flac");
    ffmpeg(&source, &flac, &[]);
    for whole in [source, flac] {
        let bytes = std::fs::read(&whole).unwrap();
        let path = folder.path().join("cut").with_extension(whole.extension().unwrap());
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let samples = read_16k(&path).unwrap();
        // A flac file begins with some kilobytes of padding.
        assert!((6_000..22_000).contains(&samples.len()), "{}", samples.len());
    }
}

#[test]
fn what_is_no_audio_is_named() {
    let folder = TempDir::new().unwrap();
    let error = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = read_16k(&path).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        error
    };
    assert!(matches!(error("empty.wav", b""), AudioFileError::Empty(_)));
    let text = error("letter.wav", b"Dear Sir or Madam,\nno sound here.\n");
    assert!(matches!(text, AudioFileError::NotAudio { .. }));
    assert!(text.to_string().contains("Dear Sir"), "{text}");
    let header = std::fs::read(wav(&folder, 16_000, 1)).unwrap()[..44].to_vec();
    let silent = error("header.wav", &header);
    assert!(matches!(silent, AudioFileError::Damaged { .. }), "{silent}");
    assert!(matches!(error("stub.wav", &header[..20]), AudioFileError::NotAudio { .. }));
    let missing = read_16k(&folder.path().join("missing.wav")).unwrap_err();
    assert!(matches!(missing, AudioFileError::Read { .. }));
    let folder_error = read_16k(folder.path()).unwrap_err();
    assert!(matches!(folder_error, AudioFileError::Read { .. }), "{folder_error}");
}

#[test]
fn a_written_file_reads_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.wav");
    let samples = [0.0, 0.5, -0.5, 1.5, -1.5];
    write_wav(&path, &samples, 16_000).unwrap();
    let read = read_16k(&path).unwrap();
    for (got, want) in read.iter().zip([0.0, 0.5, -0.5, 1.0, -1.0]) {
        assert!((got - want).abs() < 1e-4, "{got} {want}");
    }
    let error = write_wav(&folder.path().join("no/out.wav"), &samples, 16_000).unwrap_err();
    assert!(matches!(error, AudioFileError::Write { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_floats_a_file_holds_it_reads_as_sound(
        bits in prop::collection::vec(
            prop_oneof![any::<u32>(), Just(f32::NAN.to_bits()), Just(f32::INFINITY.to_bits())],
            2_000..3_000,
        ),
        channels in 1u16..3,
        rate in prop::sample::select(&[8_000, 16_000, 44_100, 48_000][..]),
    ) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("wild.wav");
        let spec = hound::WavSpec {
            channels,
            sample_rate: rate,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for sample in &bits[..bits.len() / 2 * 2] {
            writer.write_sample(f32::from_bits(*sample)).unwrap();
        }
        writer.finalize().unwrap();
        let samples = read_16k(&path).unwrap();
        prop_assert!(samples.iter().all(|sample| sample.abs() < 4.0));
    }

    #[test]
    fn a_damaged_header_never_panics(at in 0usize..60, value in any::<u8>()) {
        let folder = TempDir::new().unwrap();
        let path = wav(&folder, 8_000, 1);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] = value;
        std::fs::write(&path, bytes).unwrap();
        if let Ok(samples) = read_16k(&path) {
            // A header that claims 1 kHz stretches the 16,000 samples by 16.
            prop_assert!(samples.len() <= 16 * 33_000);
        }
    }
}
