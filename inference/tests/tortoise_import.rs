//! Imports of whole folders of checkpoints, made here in the shapes of small networks.

#[path = "tortoise_support/pickling.rs"]
mod pickling;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use inference::store::Digest;
use inference::tortoise::import::convert::{Part, convert};
use inference::tortoise::import::sizes::{
    AutoregressiveSizes, ClvpSizes, DiffusionSizes, HifiganSizes, RandomVoiceSizes, Shapes,
    UnivnetSizes,
};
use inference::tortoise::import::{
    ImportError, Imported, PartError, Progress, Weights, import, verified, verified_in_full,
};

fn autoregressive() -> AutoregressiveSizes {
    AutoregressiveSizes {
        layers: 2,
        width: 64,
        heads: 1,
        text_tokens: 40,
        mel_codes: 34,
        text_positions: 22,
        mel_positions: 44,
        start_text_token: 39,
        stop_text_token: 0,
        start_mel_code: 32,
        stop_mel_code: 33,
        mel_bands: 80,
        voice_layers: 2,
    }
}

fn diffusion() -> DiffusionSizes {
    DiffusionSizes {
        width: 32,
        layers: 1,
        last_layers: 3,
        time_layers: 3,
        latent_layers: 2,
        voice_layers: 2,
        heads: 4,
        latent_width: 64,
        mel_bands: 20,
        outputs: 40,
    }
}

fn clvp() -> ClvpSizes {
    ClvpSizes {
        text_tokens: 40,
        speech_codes: 34,
        text_width: 32,
        speech_width: 16,
        latent_width: 8,
        text_layers: 2,
        speech_layers: 1,
        text_heads: 1,
        speech_heads: 2,
        text_inner: 64,
        speech_inner: 32,
        rotary_angles: 16,
    }
}

fn univnet() -> UnivnetSizes {
    UnivnetSizes {
        noise: 8,
        channels: 4,
        strides: vec![8, 4],
        dilations: vec![1, 3],
        mel_bands: 20,
        hidden: 16,
    }
}

fn hifigan() -> HifiganSizes {
    HifiganSizes {
        latent_width: 64,
        voice_width: 64,
        channels: 16,
        strides: vec![4, 2],
        stride_kernels: vec![8, 4],
        kernels: vec![3, 5],
        dilations: vec![1, 3],
    }
}

/// Tensors as a checkpoint has them.
type Saved = Vec<(String, Vec<usize>, Vec<f32>)>;

/// What is converted to these shapes, with numbers that are all different.
fn saved(part: Part, shapes: &Shapes) -> Saved {
    let mut saved = Saved::new();
    let mut add = |name: String, shape: Vec<usize>| {
        let first = saved.len() as f32;
        let count: usize = shape.iter().product();
        let numbers = (0..count).map(|index| (first + index as f32 / 7.0).sin() + 1.5);
        saved.push((name, shape, numbers.collect()));
    };
    for (name, shape) in shapes {
        let is_projection =
            part == Part::Autoregressive && name.starts_with("gpt.h.") && shape.len() == 2;
        let has_norm = matches!(part, Part::Univnet | Part::Hifigan)
            && shape.len() == 3
            && name != "cond_layer.weight";
        if is_projection {
            add(name.clone(), shape.iter().rev().copied().collect());
        } else if has_norm {
            add(name.replace(".weight", ".weight_g"), vec![shape[0], 1, 1]);
            add(name.replace(".weight", ".weight_v"), shape.clone());
        } else {
            add(name.clone(), shape.clone());
        }
    }
    saved
}

/// A folder of checkpoints, each of which may be changed or left out before it is written.
struct House {
    folder: tempfile::TempDir,
    checkpoints: HashMap<&'static str, Saved>,
}

impl House {
    fn new() -> Self {
        let random = |width| RandomVoiceSizes { width, layers: 3 }.tensors();
        let mut checkpoints = HashMap::from([
            ("autoregressive.pth", saved(Part::Autoregressive, &autoregressive().tensors())),
            ("diffusion_decoder.pth", saved(Part::Diffusion, &diffusion().tensors())),
            ("clvp2.pth", saved(Part::Clvp, &clvp().tensors())),
            ("vocoder.pth", saved(Part::Univnet, &univnet().tensors())),
            ("hifidecoder.pth", saved(Part::Hifigan, &hifigan().tensors())),
            ("rlg_auto.pth", saved(Part::RandomVoice, &random(64))),
            ("rlg_diffuser.pth", saved(Part::RandomVoice, &random(64))),
        ]);
        // What published checkpoints hold beside their networks.
        let one = |name: &str| (name.to_owned(), vec![1], vec![1.0]);
        let mut add = |file, name| checkpoints.get_mut(file).expect("listed").push(one(name));
        add("autoregressive.pth", "gpt.h.0.attn.bias");
        add("autoregressive.pth", "gpt.h.0.attn.masked_bias");
        add("diffusion_decoder.pth", "code_embedding.weight");
        Self { folder: tempfile::tempdir().expect("a folder"), checkpoints }
    }

    fn without(mut self, files: &[&str]) -> Self {
        self.checkpoints.retain(|file, _| !files.contains(file));
        self
    }

    fn change(mut self, file: &str, change: impl FnOnce(&mut Saved)) -> Self {
        change(self.checkpoints.get_mut(file).expect("listed"));
        self
    }

    fn from(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("models/tortoise")
    }

    fn write(&self) {
        fs::create_dir_all(self.from()).expect("a folder");
        for (file, tensors) in &self.checkpoints {
            let within = (*file == "vocoder.pth").then_some("model_g");
            pickling::save(&self.from().join(file), within, tensors);
        }
    }

    fn import(&self) -> Result<Imported, ImportError> {
        self.write();
        import(&self.from(), &self.to(), &mut |_| {})
    }

    /// The import fails, and nothing is left of it.
    #[track_caller]
    fn fails(&self) -> ImportError {
        let error = self.import().expect_err("an error");
        let models = self.to().parent().expect("a parent").to_owned();
        let left = fs::read_dir(models).map_or(0, Iterator::count);
        assert_eq!(left, 0, "something is left after {error}");
        error
    }
}

/// The reason that one checkpoint was not taken.
#[track_caller]
fn reason(error: &ImportError, file: &str) -> String {
    let ImportError::Checkpoint { path, error } = error else { panic!("{error}") };
    assert!(path.ends_with(file), "{} for {file}", path.display());
    error.to_string()
}

#[test]
fn a_whole_folder_is_imported_as_its_networks_load_it() {
    let house = House::new();
    house.write();
    fs::write(house.from().join("cvvp.pth"), b"whatever").unwrap();
    fs::write(house.from().join("readme.txt"), b"whatever").unwrap();
    let mut written = Vec::new();
    let imported = import(&house.from(), &house.to(), &mut |event| match event {
        Progress::Writing { done, all, .. } => assert!(done <= all),
        Progress::Written { file, .. } => written.push(file.to_owned()),
        _ => {}
    })
    .unwrap();

    let sizes = imported.sizes();
    assert_eq!(sizes.autoregressive, autoregressive());
    assert_eq!(sizes.diffusion, Some(diffusion()));
    assert_eq!(sizes.clvp, Some(clvp()));
    assert_eq!(sizes.univnet, Some(univnet()));
    assert_eq!(sizes.hifigan, Some(hifigan()));
    assert!(sizes.has_streaming_path() && sizes.has_quality_path());
    assert_eq!(written.len(), 7);
    for weights in Weights::ALL {
        let path = imported.weights(weights).unwrap();
        assert_eq!(path, house.to().join(weights.file()));
        assert!(written.contains(&weights.file().to_owned()));
        let found = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let saved = house.checkpoints[weights.checkpoint()].iter();
        let saved = saved.map(|(name, shape, numbers)| {
            (name.clone(), Tensor::from_slice(numbers, shape.as_slice(), &Device::Cpu).unwrap())
        });
        let expected = convert(weights.part(), saved.collect()).unwrap();
        assert_eq!(found.len(), expected.len());
        for (name, expected) in expected {
            let found = &found[&name];
            assert_eq!(found.dims(), expected.dims(), "{name}");
            let numbers =
                |tensor: &Tensor| -> Vec<f32> { tensor.flatten_all().unwrap().to_vec1().unwrap() };
            assert_eq!(numbers(found), numbers(&expected), "{name}");
        }
    }
    let [skipped] = imported.skipped() else { panic!("{:?}", imported.skipped()) };
    assert_eq!(skipped.name, "cvvp.pth");
    assert_eq!(imported.sources().len(), 7);
    for source in imported.sources() {
        let bytes = fs::read(house.from().join(&source.name)).unwrap();
        assert_eq!((source.size, source.sha256), (bytes.len() as u64, Digest::of(&bytes)));
    }
    assert_eq!(imported.tokenizer(), None);
    assert_eq!(verified(&house.to()).unwrap(), imported);
    assert_eq!(verified_in_full(&house.to()).unwrap(), imported);
}

#[test]
fn one_decoder_is_enough_and_what_is_of_no_use_alone_is_left_out() {
    let streaming = House::new().without(&["diffusion_decoder.pth", "clvp2.pth"]);
    let imported = streaming.import().unwrap();
    assert!(imported.sizes().has_streaming_path() && !imported.sizes().has_quality_path());
    let skipped: Vec<_> = imported.skipped().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(skipped, ["vocoder.pth", "rlg_diffuser.pth"]);
    assert!(!streaming.to().join("univnet.safetensors").exists());
    assert_eq!(imported.weights(Weights::Univnet), None);

    let quality = House::new().without(&["hifidecoder.pth", "rlg_auto.pth"]);
    let imported = quality.import().unwrap();
    assert!(!imported.sizes().has_streaming_path() && imported.sizes().has_quality_path());
    assert!(imported.skipped().is_empty());
}

#[test]
fn what_is_needed_and_missing_is_named() {
    let all = ["diffusion_decoder.pth", "vocoder.pth", "hifidecoder.pth"];
    for (without, missing) in [
        (&["autoregressive.pth"][..], "has no autoregressive.pth"),
        (&all[..], "has no decoder"),
        (&all[1..], "has no vocoder.pth and no hifidecoder.pth"),
        (&["diffusion_decoder.pth", "hifidecoder.pth"], "has no diffusion_decoder.pth and no"),
    ] {
        let error = House::new().without(without).fails();
        assert!(error.to_string().contains(missing), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let error = import(&nowhere, &folder.path().join("to"), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert!(!folder.path().join("to").exists());
}

#[test]
fn a_checkpoint_of_another_network_is_told_by_its_tensors() {
    let house = House::new().change("clvp2.pth", |saved| {
        saved.retain(|(name, ..)| name != "temperature");
    });
    assert!(reason(&house.fails(), "clvp2.pth").contains("it has no temperature"));
    let house = House::new().change("vocoder.pth", |saved| {
        saved.push(("mpd.weight".to_owned(), vec![1], vec![1.0]));
    });
    assert!(reason(&house.fails(), "vocoder.pth").contains("it has mpd.weight, and 0 more"));
    let house = House::new().change("vocoder.pth", |saved| {
        saved.retain(|(name, ..)| name != "conv_pre.weight_g");
    });
    assert!(reason(&house.fails(), "vocoder.pth").contains("conv_pre.weight_v is half"));
    let house = House::new().change("rlg_auto.pth", |saved| saved[0].1 = vec![8, 8]);
    assert!(matches!(house.fails(), ImportError::Checkpoint { .. }));
}

#[test]
fn numbers_that_are_none_are_told_by_their_tensor() {
    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let house = House::new().change("hifidecoder.pth", |saved| {
            let bias = saved.iter_mut().find(|(name, ..)| name == "ups.0.bias").unwrap();
            bias.2[3] = odd;
        });
        assert!(reason(&house.fails(), "hifidecoder.pth").contains("ups.0.bias"));
    }
    // A direction of no length has no direction.
    let house = House::new().change("hifidecoder.pth", |saved| {
        let (.., numbers) =
            saved.iter_mut().find(|(name, ..)| name == "conv_pre.weight_v").unwrap();
        numbers.fill(0.0);
    });
    assert!(reason(&house.fails(), "hifidecoder.pth").contains("conv_pre.weight"));
}

#[test]
fn networks_that_do_not_fit_together_are_named() {
    let mut house = House::new();
    let sizes = HifiganSizes { latent_width: 32, ..hifigan() };
    house.checkpoints.insert("hifidecoder.pth", saved(Part::Hifigan, &sizes.tensors()));
    let error = house.fails().to_string();
    assert!(error.contains("autoregressive.pth and hifidecoder.pth do not fit"), "{error}");
    let mut house = House::new();
    let sizes = UnivnetSizes { mel_bands: 21, ..univnet() };
    house.checkpoints.insert("vocoder.pth", saved(Part::Univnet, &sizes.tensors()));
    let error = house.fails().to_string();
    assert!(error.contains("the number of mel bands is 20 and 21"), "{error}");
}

#[test]
fn a_vocabulary_that_the_ranking_does_not_know_costs_the_ranking_only() {
    let mut house = House::new();
    let sizes = ClvpSizes { text_tokens: 30, ..clvp() };
    house.checkpoints.insert("clvp2.pth", saved(Part::Clvp, &sizes.tensors()));
    let imported = house.import().unwrap();
    assert_eq!(imported.sizes().clvp, None);
    let [skipped] = imported.skipped() else { panic!("{:?}", imported.skipped()) };
    assert_eq!(skipped.name, "clvp2.pth");
    assert!(skipped.reason.contains("30 text tokens"), "{}", skipped.reason);
    assert!(!house.to().join("clvp.safetensors").exists());
}

fn tokenizer(tokens: usize) -> String {
    let vocabulary: Vec<_> = (0..tokens).map(|token| format!("\"t{token}\":{token}")).collect();
    format!(
        r#"{{"version":"1.0","added_tokens":[],"model":{{"type":"WordLevel","vocab":{{{}}},"unk_token":"t0"}}}}"#,
        vocabulary.join(",")
    )
}

#[test]
fn the_tokenizer_beside_the_checkpoints_is_taken_if_the_model_knows_its_tokens() {
    let house = House::new();
    house.write();
    let path = house.from().join("tokenizer.json");
    for (content, reason) in
        [(tokenizer(40), "its tokens go up to 39"), ("{".to_owned(), "no tokenizer")]
    {
        fs::write(&path, content).unwrap();
        let error = house.fails().to_string();
        assert!(error.contains(reason), "{error}");
    }
    fs::write(&path, tokenizer(39)).unwrap();
    let imported = house.import().unwrap();
    let copied = imported.tokenizer().unwrap();
    assert_eq!(fs::read(copied).unwrap(), fs::read(path).unwrap());
}

#[test]
fn code_in_a_checkpoint_is_refused_by_its_name_and_not_run() {
    let house = House::new();
    house.write();
    let mark = house.folder.path().join("ran");
    let pickle = pickling::Pickler::new()
        .raw(b"}")
        .text("a")
        .global("os", "system")
        .text(&format!("touch {}", mark.display()))
        .raw(b"\x85Rs")
        .stop();
    pickling::archive(&house.from().join("rlg_auto.pth"), &[("data.pkl", &pickle)]);
    let error = import(&house.from(), &house.to(), &mut |_| {}).unwrap_err();
    assert!(reason(&error, "rlg_auto.pth").contains("it asks for os.system"), "{error}");
    assert!(!mark.exists() && !house.to().exists());
}

#[test]
fn what_is_there_is_not_overwritten() {
    let house = House::new();
    house.import().unwrap();
    assert!(matches!(house.import(), Err(ImportError::Exists(path)) if path == house.to()));
    verified(&house.to()).unwrap();
    // An empty folder is as good as none.
    let other = House::new();
    fs::create_dir_all(other.to()).unwrap();
    other.import().unwrap();
}

#[test]
fn files_that_changed_after_the_import_are_found_before_they_are_loaded() {
    let house = House::new();
    house.import().unwrap();
    let path = house.to().join("hifigan.safetensors");
    let sound = fs::read(&path).unwrap();

    let mut flipped = sound.clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(&path, &flipped).unwrap();
    let later =
        fs::metadata(&path).unwrap().modified().unwrap() + std::time::Duration::from_secs(2);
    fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert!(matches!(verified(&house.to()), Err(ImportError::Damaged(_))));
    fs::write(&path, &sound[1..]).unwrap();
    let error = verified(&house.to()).unwrap_err().to_string();
    assert!(error.contains("hifigan.safetensors has ") && error.contains("import"), "{error}");
    fs::remove_file(&path).unwrap();
    assert!(matches!(verified(&house.to()), Err(ImportError::Damaged(_))));
    fs::write(&path, &sound).unwrap();
    verified(&house.to()).unwrap();
}

#[test]
fn a_list_that_no_import_wrote_is_not_believed() {
    let house = House::new();
    house.import().unwrap();
    let path = house.to().join("manifest.json");
    let sound = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("hifigan.safetensors", "../hifigan.safetensors"),
        ("\"skipped\": []", "\"skipped\": [], \"more\": 1"),
        ("\"files\"", "\"file\""),
    ] {
        assert!(sound.contains(from), "{from}");
        fs::write(&path, sound.replace(from, to)).unwrap();
        let error = verified(&house.to()).unwrap_err();
        assert!(matches!(error, ImportError::NotImported { .. }), "{from}: {error}");
    }
    assert!(matches!(verified(Path::new("/nowhere")), Err(ImportError::NotImported { .. })));
    fs::write(&path, sound).unwrap();
    verified(&house.to()).unwrap();
}

#[test]
fn half_precision_stays_half_precision() {
    let house = House::new().without(&["diffusion_decoder.pth", "vocoder.pth", "clvp2.pth"]);
    house.write();
    // The same checkpoint with every storage of half precision.
    let path = house.from().join("rlg_auto.pth");
    let sizes = RandomVoiceSizes { width: 64, layers: 1 };
    let mut pickler = pickling::Pickler::new().raw(b"}(");
    let mut members = Vec::new();
    for (index, (name, shape)) in sizes.tensors().into_iter().enumerate() {
        let count: usize = shape.iter().product();
        let shape: Vec<_> = shape.iter().map(|size| *size as i64).collect();
        let strides: &[i64] = if shape.len() == 2 { &[64, 1] } else { &[1] };
        let key = index.to_string();
        let storage = ("HalfStorage", key.as_str(), count as i64);
        pickler = pickler.text(&name).tensor(storage, 0, &shape, strides);
        members
            .push((format!("data/{key}"), half::f16::from_f32(0.25).to_le_bytes().repeat(count)));
    }
    let pickle = pickler.raw(b"u").stop();
    let mut all: Vec<(&str, &[u8])> = vec![("data.pkl", &pickle)];
    all.extend(members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    pickling::archive(&path, &all);
    let imported = import(&house.from(), &house.to(), &mut |_| {}).unwrap();
    let file = imported.weights(Weights::RandomVoiceAutoregressive).unwrap();
    let found = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    assert_eq!(found["layers.0.weight"].dtype(), DType::F16);
    let sum = found["layers.0.weight"].to_dtype(DType::F32).unwrap().sum_all().unwrap();
    assert_eq!(sum.to_scalar::<f32>().unwrap(), 1024.0);
}

#[test]
fn a_checkpoint_of_whole_numbers_has_no_weights() {
    let house = House::new();
    house.write();
    let pickle = pickling::Pickler::new().raw(b"}").text("layers.0.bias");
    let pickle = pickle.tensor(("LongStorage", "0", 1), 0, &[1], &[1]).raw(b"s").stop();
    let path = house.from().join("rlg_auto.pth");
    pickling::archive(&path, &[("data.pkl", &pickle), ("data/0", &[0; 8])]);
    let error = import(&house.from(), &house.to(), &mut |_| {}).unwrap_err();
    let ImportError::Checkpoint { error: PartError::NotNumbers(name), .. } = error else {
        panic!("{error}")
    };
    assert_eq!(name, "layers.0.bias");
}
