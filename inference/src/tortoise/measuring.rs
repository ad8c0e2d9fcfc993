//! A model with random weights, for measurements and for tests that need sizes and not speech: what
//! is computed, and what it costs, is the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Shape, Tensor, bail};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use crossbeam_channel::bounded;

use super::TortoiseSizes;
use super::autoregressive::{Autoregressive, Sampling, Slots, Speaking};
use super::clvp::Clvp;
use super::diffusion::DiffusionDecoder;
use super::hifigan::Hifigan;
use super::import::Weights;
use super::random::Random;
use super::univnet::{SILENT_FRAMES, Univnet};
use crate::batch::{Sequence, SlotDecoder, Span};

/// Draws each tensor when it is asked for, always the same for its name.
struct Drawn {
    network: &'static str,
    stop_code: usize,
}

impl SimpleBackend for Drawn {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        kind: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let seed =
            self.network.bytes().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3u64)
            });
        let mut random = Random::new(seed);
        let dims = shape.dims().to_vec();
        // Of a size that neither fades nor grows from layer to layer.
        let (centre, spread) = match dims.as_slice() {
            [_] if name.ends_with("weight") || name.ends_with(".g") => (1.0, 0.1),
            [_] | [] => (0.0, 0.05),
            [first, others @ ..] => {
                let inputs = others.iter().product::<usize>().max(1) as f64;
                (0.0, (3.0 / inputs.max(*first as f64 / 8.0)).sqrt())
            }
        };
        let number = |_| (centre + spread * (2.0 * random.next_unit() - 1.0)) as f32;
        let mut numbers: Vec<f32> = (0..shape.elem_count()).map(number).collect();
        if name == "mel_head.bias"
            && let Some(stop) = numbers.get_mut(self.stop_code)
        {
            // It says as much as it is allowed to.
            *stop = -100.0;
        }
        Tensor::from_vec(numbers, shape, device)?.to_dtype(kind)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("{name} has no shape to be drawn in")
    }

    /// All but what follows from the sizes.
    fn contains_tensor(&self, name: &str) -> bool {
        !name.ends_with("inv_freq")
    }
}

/// Random weights of all networks; the code that ends a sentence, `stop_code`, never comes.
pub fn random_weights(
    stop_code: u32,
    device: &Device,
) -> impl Fn(Weights, DType) -> Result<VarBuilder<'static>> {
    let device = device.clone();
    move |network, kind| {
        let drawn = Drawn { network: network.file(), stop_code: stop_code as usize };
        Ok(VarBuilder::from_backend(Box::new(drawn), kind, device.clone()))
    }
}

/// What a part of the model takes.
#[derive(Clone, Debug)]
pub struct PartCost {
    /// Which part, and how much of it.
    pub name: String,
    /// The median of some runs.
    pub took: Duration,
}

/// Runs after one that does not count.
const RUNS: usize = 5;
/// Ids of a text and codes of about four seconds.
const TEXT_IDS: usize = 60;
const CODES: usize = 90;
/// Readings that are ranked together.
const CANDIDATES: usize = 16;

/// What the parts of a model of these sizes take on a device: a code, alone and beside others, and a
/// step of diffusion among them. Each network is there only while it is measured.
///
/// # Errors
/// The device fails or is out of memory.
pub fn parts(sizes: &TortoiseSizes, device: &Device) -> Result<Vec<PartCost>> {
    let weights = random_weights(sizes.autoregressive.stop_mel, device);
    let half = if device.is_cuda() { DType::BF16 } else { DType::F32 };
    let mut costs = codes(sizes, &weights(Weights::Autoregressive, half)?)?;
    let noise = |shape: &[usize]| {
        let count = shape.iter().product();
        Tensor::from_vec(Random::new(1).normals(count), shape, device)
    };
    let ids = |rows: usize, columns: usize| {
        let ids: Vec<u32> = (0..rows * columns).map(|index| (index % 100) as u32).collect();
        Tensor::from_vec(ids, (rows, columns), device)
    };
    let whole = |network| weights(network, DType::F32);
    let mut add = |name: String, run: &mut dyn FnMut() -> Result<Tensor>| -> Result<()> {
        costs.push(PartCost { name, took: median(device, run)? });
        Ok(())
    };
    if let Some(config) = &sizes.hifigan {
        let hifigan = Hifigan::load(config, &whole(Weights::Hifigan)?)?;
        let voice = noise(&[1, config.voice])?;
        for codes in [29, CODES] {
            let latents = noise(&[1, codes, config.latent])?;
            add(format!("HiFi-GAN, {codes} codes"), &mut || hifigan.decode(&latents, &voice))?;
        }
    }
    if let Some(config) = &sizes.clvp {
        let clvp = Clvp::load(config, &whole(Weights::Clvp)?)?;
        let (text, codes) = (ids(1, TEXT_IDS)?, ids(CANDIDATES, CODES)?);
        add(format!("CLVP, {CANDIDATES} readings of {CODES} codes"), &mut || {
            clvp.scores(&text, &codes)
        })?;
    }
    if let Some(config) = &sizes.diffusion {
        let decoder = DiffusionDecoder::load(config, &whole(Weights::Diffusion)?)?;
        let latents = noise(&[1, CODES, config.latent_channels])?;
        let voice = noise(&[1, 2 * config.channels])?;
        let x = noise(&[1, config.mel_bands, super::diffusion::frames(CODES)?])?;
        let step = decoder.modulations(&[1000])?.at(0)?;
        for guided in [false, true] {
            let conditioning = decoder.conditioning(&latents, &voice, guided)?;
            let with = if guided { "with" } else { "without" };
            let name = format!("diffusion, a step of {CODES} codes {with} guidance");
            add(name, &mut || decoder.forward(&x, &conditioning, &step))?;
        }
    }
    if let Some(config) = &sizes.univnet {
        let univnet = Univnet::load(config, &whole(Weights::Univnet)?)?;
        let frames = super::diffusion::frames(CODES)?;
        let mel = noise(&[1, config.bands, frames])?;
        let noise = noise(&[1, config.noise, frames + SILENT_FRAMES])?;
        add(format!("UnivNet, {CODES} codes"), &mut || univnet.speak(&mel, &noise))?;
    }
    Ok(costs)
}

/// The autoregressive model: a prompt, and a code of so many sentences at a time.
fn codes(sizes: &TortoiseSizes, weights: &VarBuilder<'static>) -> Result<Vec<PartCost>> {
    let config = &sizes.autoregressive;
    let model = Arc::new(Autoregressive::load(config, weights)?);
    let device = model.device();
    let together = if device.is_cpu() { [1, 4, 8] } else { [1, 8, 32] };
    let mut costs = Vec::new();
    for count in together {
        let mut slots = Slots::new(Arc::clone(&model), count)?;
        let mut prompts = Vec::new();
        for slot in 0..count {
            let (out, _) = bounded(1);
            let voice = Tensor::zeros((1, config.width), DType::F32, device)?;
            let how = (Sampling::default(), slot as u64);
            let text = [42; TEXT_IDS];
            let speaking = Speaking::new(config, voice, &text, how, CODES, out);
            let tokens = speaking.tokens();
            let span = |last| Span { slot, tokens: &tokens, first: false, last };
            slots.enter(slot, &speaking)?;
            let began = Instant::now();
            slots.step(&[span(1)])?;
            prompts.push(began.elapsed());
        }
        prompts.sort();
        if count == together[1] {
            let name = format!("a prompt of {TEXT_IDS} ids");
            costs.push(PartCost { name, took: prompts[prompts.len() / 2] });
        }
        let spans: Vec<Span<'_>> =
            (0..count).map(|slot| Span { slot, tokens: &[7], first: false, last: 1 }).collect();
        let mut took: Vec<Duration> = (0..=RUNS)
            .map(|_| {
                let began = Instant::now();
                slots.step(&spans).map(|_| began.elapsed())
            })
            .collect::<Result<_>>()?;
        took.remove(0);
        took.sort();
        let name = format!("a code of {count} sentences");
        costs.push(PartCost { name, took: took[took.len() / 2] });
    }
    Ok(costs)
}

fn median(device: &Device, run: &mut dyn FnMut() -> Result<Tensor>) -> Result<Duration> {
    let mut took = Vec::with_capacity(RUNS);
    for index in 0..=RUNS {
        let began = Instant::now();
        run()?;
        device.synchronize()?;
        if index > 0 {
            took.push(began.elapsed());
        }
    }
    took.sort();
    Ok(took[RUNS / 2])
}
