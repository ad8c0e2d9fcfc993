//! The diffusion decoder of Tortoise, held to reference values of a tiny network with random weights.

mod tortoise_support;

use std::ops::ControlFlow;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use inference::tortoise::diffusion::{
    Conditioning, ContextualEmbedder, DiffusionConfig, DiffusionDecoder, LatentConditioner, Noise,
    Process, Sampler, SamplingConfig, Schedule, denormalised, frames, sample, sinusoids,
};
use inference::tortoise::import::convert::Part;
use inference::tortoise::layers::Distances;
use inference::tortoise::random::Random;
use tortoise_support::{Fixture, assert_close};

const CPU: &Device = &Device::Cpu;
/// Of the trained steps, those that the reference gave the network's output for.
const TIMES: [u32; 3] = [0, 1234, 3999];
/// Steps of the reference's trajectories.
const STEPS: usize = 6;
/// As the tolerance elsewhere, for each step from where the reference was, and for several in a row:
/// one of the reference's frequencies is a rounding off, which the first step multiplies by 3999, and
/// guidance makes small differences grow.
const STEP_TOLERANCE: f32 = 1e-4;
const STEPS_TOLERANCE: f32 = 5e-4;

fn tiny() -> DiffusionConfig {
    DiffusionConfig { channels: 64, layers: 2, heads: 4, mel_bands: 20, latent_channels: 64 }
}

struct Reference {
    fixture: Fixture,
    decoder: DiffusionDecoder,
}

impl Reference {
    fn load() -> Self {
        let fixture = Fixture::load("diffusion");
        let decoder = DiffusionDecoder::load(&tiny(), &fixture.weights(Part::Diffusion));
        Self { fixture, decoder: decoder.expect("the decoder loads") }
    }

    fn value(&self, name: &str) -> &Tensor {
        self.fixture.value(name)
    }

    fn vb(&self) -> VarBuilder<'static> {
        self.fixture.weights(Part::Diffusion)
    }

    fn conditioning(&self, guided: bool) -> Conditioning {
        let (latents, voice) = (self.value("latents"), self.value("cond_latent"));
        self.decoder.conditioning(latents, voice, guided).expect("a conditioning")
    }

    /// The output for the reference's noise at each of [`TIMES`].
    fn outputs(&self, conditioning: &Conditioning) -> Vec<Tensor> {
        let modulations = self.decoder.modulations(&TIMES).expect("modulations");
        let output = |index| {
            let step = modulations.at(index)?;
            self.decoder.forward(self.value("x"), conditioning, &step)
        };
        (0..TIMES.len()).map(output).collect::<Result<_>>().expect("outputs")
    }
}

/// Recorded noise, played back in order.
struct Recorded(Vec<Tensor>);

impl Noise for Recorded {
    fn draw(&mut self, _: (usize, usize, usize), _: &Device) -> Result<Tensor> {
        Ok(self.0.remove(0))
    }
}

fn config(sampler: Sampler, guidance: Option<f64>) -> SamplingConfig {
    SamplingConfig { steps: STEPS, sampler, guidance, temperature: 1.0 }
}

fn integers(tensor: &Tensor) -> Vec<i64> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("integers")
}

fn on(_: usize, _: usize) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[track_caller]
fn assert_within(tolerance: f32, what: &str, actual: &Tensor, expected: &Tensor) {
    let largest = |tensor: &Tensor| tensor.abs()?.max_all()?.to_scalar::<f32>();
    let apart = (actual - expected).and_then(|apart| largest(&apart)).expect("equal shapes");
    let most = tolerance * largest(expected).expect("numbers");
    assert!(apart <= most, "{what} is off by {apart}, more than {most}");
}

#[test]
fn schedules_are_those_of_the_reference() {
    let fixture = Fixture::load("diffusion");
    for count in [10, 30, 80, 200, 400] {
        let schedule = Schedule::new(count).expect("a schedule");
        let times: Vec<i64> = schedule.steps().iter().map(|step| i64::from(step.time)).collect();
        assert_eq!(times, integers(fixture.value(&format!("sched{count}_map"))));
        let betas: Vec<f64> = fixture
            .value(&format!("sched{count}_betas"))
            .to_vec1()
            .expect("numbers in double precision");
        for (step, beta) in schedule.steps().iter().zip(betas) {
            assert!((step.beta - beta).abs() < 1e-12, "{} is not {beta}", step.beta);
        }
    }
}

#[test]
fn buckets_of_distances_are_those_of_the_reference() {
    let expected = integers(Fixture::load("diffusion").value("rel_bucket"));
    let middle = expected.len() as i64 / 2;
    for (index, expected) in (0..).zip(expected) {
        assert_eq!(i64::from(Distances::bucket(index - middle)), expected);
    }
}

#[test]
fn the_voice_is_that_of_the_reference() {
    let reference = Reference::load();
    let embedder = ContextualEmbedder::load(&tiny(), &reference.vb()).expect("the embedder loads");
    let clips = reference.value("cond_mel").squeeze(0).expect("clips");
    let first = clips.narrow(0, 0, 1).and_then(|clip| embedder.embedded(&clip));
    assert_close("the first clip", &first.expect("a clip"), reference.value("ctx_clip0"));
    let voice = embedder.forward(&clips).and_then(|voice| voice.unsqueeze(0)).expect("a voice");
    assert_close("the voice", &voice, reference.value("cond_latent"));
}

#[test]
fn the_conditioning_is_that_of_the_reference() {
    let reference = Reference::load();
    let latents = reference.value("latents");
    let conditioner = LatentConditioner::load(&tiny(), &reference.vb()).expect("it loads");
    let related = conditioner.related(latents).expect("related");
    assert_close("latent_conditioner", &related, reference.value("latent_conditioner"));
    let count = frames(latents.dims()[1]).expect("frames");
    assert_eq!(count as i64, integers(reference.value("out_len"))[0]);
    let aligned = reference.decoder.aligned(latents, reference.value("cond_latent"), count);
    assert_close("aligned_emb", &aligned.expect("aligned"), reference.value("aligned_emb"));
}

#[test]
fn the_embedding_of_steps_is_that_of_the_reference() {
    let reference = Reference::load();
    let channels = tiny().channels;
    for time in TIMES {
        let actual = Tensor::from_vec(sinusoids(&[time], channels), (1, channels), CPU);
        assert_close("temb", &actual.expect("a tensor"), reference.value(&format!("temb_{time}")));
    }
    let embedded = reference.decoder.times().embedded(&TIMES[1..2]).expect("embedded");
    assert_close("time_embed", &embedded, reference.value("time_embed_1234"));
}

#[test]
fn layers_give_what_those_of_the_reference_do() {
    let reference = Reference::load();
    let decoder = &reference.decoder;
    let conditioning = reference.conditioning(false);
    let step = decoder.modulations(&[1234]).and_then(|all| all.at(0)).expect("a step");
    let integrated = decoder.integrated(&conditioning, &step).expect("integrated");
    let expected = reference.value("cti_1234");
    assert_close("conditioning_timestep_integrator", &integrated, expected);
    let layers = decoder.layers();
    for (name, layer) in [("layer0", 0), ("reslayer_last", layers.len() - 1)] {
        let actual = layers[layer].forward(expected, &step, conditioning.distances());
        assert_close(name, &actual.expect("a layer"), reference.value(&format!("{name}_1234")));
    }
}

#[test]
fn outputs_with_the_conditioning_and_without_are_those_of_the_reference() {
    let reference = Reference::load();
    let guided = reference.outputs(&reference.conditioning(true));
    let alone = reference.outputs(&reference.conditioning(false));
    for ((time, guided), alone) in TIMES.into_iter().zip(guided).zip(alone) {
        let row = |index| guided.narrow(0, index, 1).expect("a row");
        let expected = reference.value(&format!("out_cond_{time}"));
        assert_close("out_cond", &row(0), expected);
        assert_close("out_cond alone", &alone, expected);
        assert_close("out_free", &row(1), reference.value(&format!("out_free_{time}")));
    }
}

#[test]
fn a_batch_of_two_is_the_two_alone() {
    let reference = Reference::load();
    let decoder = &reference.decoder;
    let (bands, count) = (tiny().mel_bands, frames(7).expect("frames"));
    let mut random = Random::new(5);
    let mut drawn = |shape: (usize, usize, usize)| random.draw(shape, CPU).expect("noise");
    let (latents, x) = (drawn((2, 7, tiny().latent_channels)), drawn((2, bands, count)));
    let voices = drawn((2, 1, 2 * tiny().channels)).squeeze(1).expect("voices");
    let step = decoder.modulations(&[70]).and_then(|all| all.at(0)).expect("a step");
    for guided in [false, true] {
        let forward = |first: usize, rows: usize| -> Result<Tensor> {
            let of = |tensor: &Tensor| tensor.narrow(0, first, rows)?.contiguous();
            let conditioning = decoder.conditioning(&of(&latents)?, &of(&voices)?, guided)?;
            assert_eq!((conditioning.batch(), conditioning.frames()), (rows, count));
            decoder.forward(&of(&x)?, &conditioning, &step)
        };
        let together = forward(0, 2).expect("both");
        for row in 0..2 {
            let alone = forward(row, 1).expect("one");
            // Rows without the conditioning come after all others.
            for index in 0..alone.dims()[0] {
                let together = together.narrow(0, 2 * index + row, 1).expect("a row");
                assert_close("a row", &together, &alone.narrow(0, index, 1).expect("a row"));
            }
        }
    }
}

/// The reference's steps from `trajectory`, each from where its own last one came to and all in a row.
#[track_caller]
fn assert_steps(reference: &Reference, sampler: Sampler, trajectory: &str) {
    let conditioning = reference.conditioning(true);
    let config = config(sampler, Some(2.0));
    let process = Process::new(&reference.decoder, &conditioning, &config).expect("a process");
    let (start, trajectory) = (reference.value("loop_noise0"), reference.value(trajectory));
    let noises = reference.value("loop_noises");
    let (mut before, mut x) = (start.clone(), start.clone());
    for taken in 0..STEPS {
        let index = STEPS - 1 - taken;
        let noise = || Recorded(vec![noises.get(taken).expect("noise")]);
        let expected = trajectory.get(taken).expect("a step");
        let single = process.step(index, &before, &mut noise()).expect("a step");
        assert_within(STEP_TOLERANCE, &format!("step {taken}"), &single, &expected);
        x = process.step(index, &x, &mut noise()).expect("a step");
        assert_within(STEPS_TOLERANCE, &format!("{} steps", taken + 1), &x, &expected);
        before = expected;
    }
}

#[test]
fn ancestral_steps_are_those_of_the_reference() {
    assert_steps(&Reference::load(), Sampler::Ancestral, "loop_traj");
}

#[test]
fn implicit_steps_are_those_of_the_reference() {
    assert_steps(&Reference::load(), Sampler::Ddim, "ddim_traj");
}

#[test]
fn whole_samplings_end_where_those_of_the_reference_do() {
    let reference = Reference::load();
    let last = |name: &str| reference.value(name).get(STEPS - 1).expect("the last step");
    for (sampler, guidance, expected) in [
        (Sampler::Ancestral, Some(2.0), last("loop_traj")),
        (Sampler::Ddim, Some(2.0), last("ddim_traj")),
        (Sampler::Ancestral, None, reference.value("loop_nofree_final").clone()),
    ] {
        let conditioning = reference.conditioning(guidance.is_some());
        let mut noises = vec![reference.value("loop_noise0").clone()];
        let recorded = reference.value("loop_noises");
        noises.extend((0..STEPS).map(|index| recorded.get(index).expect("noise")));
        let mut told = Vec::new();
        let mut progress = |done, all| {
            told.push((done, all));
            ControlFlow::Continue(())
        };
        let config = config(sampler, guidance);
        let (decoder, mut noise) = (&reference.decoder, Recorded(noises));
        let mel = sample(decoder, &conditioning, &config, &mut noise, &mut progress);
        let mel = mel.expect("a sampling").expect("a spectrogram");
        assert_within(STEPS_TOLERANCE, &format!("{sampler:?}, {guidance:?}"), &mel, &expected);
        assert_eq!(told, (0..STEPS).map(|done| (done, STEPS)).collect::<Vec<_>>());
    }
}

#[test]
fn a_seed_decides_the_spectrogram_and_the_temperature_scales_the_beginning() {
    let reference = Reference::load();
    let conditioning = reference.conditioning(true);
    let sampled = |seed, temperature| {
        let config = SamplingConfig { temperature, ..config(Sampler::Ddim, Some(1.0)) };
        let mut random = Random::new(seed);
        let mel = sample(&reference.decoder, &conditioning, &config, &mut random, &mut on);
        let mel = mel.expect("a sampling").expect("a spectrogram");
        mel.flatten_all().and_then(|mel| mel.to_vec1::<f32>()).expect("numbers")
    };
    let one = sampled(1, 1.0);
    assert!(one.iter().all(|value| value.abs() <= 1.0));
    assert_eq!(one, sampled(1, 1.0));
    assert_ne!(one, sampled(2, 1.0));
    assert_ne!(one, sampled(1, 0.5));
    assert_eq!(sampled(1, 0.0), sampled(2, 0.0));
}

#[test]
fn a_sampling_that_is_broken_off_gives_nothing() {
    let reference = Reference::load();
    let conditioning = reference.conditioning(false);
    let mut told = 0;
    let mut progress = |done, _| {
        told += 1;
        if done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let config = config(Sampler::Ancestral, None);
    let mut random = Random::new(1);
    let mel = sample(&reference.decoder, &conditioning, &config, &mut random, &mut progress);
    assert!(mel.expect("no error").is_none());
    assert_eq!(told, 3);
}

#[test]
fn conditionings_that_cannot_be_are_refused() {
    let DiffusionConfig { channels, latent_channels, .. } = tiny();
    let decoder = Reference::load().decoder;
    let numbers = |shape: &[usize], value: f32| Tensor::full(value, shape, CPU).expect("a tensor");
    let voice = numbers(&[1, 2 * channels], 0.5);
    let latents = |codes, width| numbers(&[1, codes, width], 0.5);
    let result = |latents: &Tensor, voice: &Tensor| decoder.conditioning(latents, voice, true);
    assert!(result(&latents(1, latent_channels), &voice).is_ok());
    assert!(result(&latents(0, latent_channels), &voice).is_err());
    assert!(result(&numbers(&[0, 3, latent_channels], 0.0), &voice).is_err());
    assert!(result(&latents(2000, latent_channels), &voice).is_err());
    assert!(result(&latents(3, latent_channels - 1), &voice).is_err());
    assert!(result(&latents(3, latent_channels), &numbers(&[1, channels], 0.5)).is_err());
    assert!(result(&latents(3, latent_channels), &numbers(&[2, 2 * channels], 0.5)).is_err());
    let wild = numbers(&[1, 3, latent_channels], f32::NAN);
    assert!(result(&wild, &voice).is_err());
    let wild = numbers(&[1, 2 * channels], f32::INFINITY);
    assert!(result(&latents(3, latent_channels), &wild).is_err());
    assert!(decoder.aligned(&latents(3, latent_channels), &voice, 0).is_err());
    assert!(decoder.aligned(&latents(3, latent_channels), &voice, usize::MAX).is_err());
    assert!(decoder.modulations(&[]).is_err());
}

#[test]
fn recordings_of_a_voice_that_cannot_be_are_refused() {
    let embedder = ContextualEmbedder::load(&tiny(), &Reference::load().vb()).expect("it loads");
    let clips = |shape: (usize, usize, usize)| {
        embedder.forward(&Tensor::zeros(shape, DType::F32, CPU).expect("clips"))
    };
    let bands = tiny().mel_bands;
    assert!(clips((1, bands, 1)).is_ok());
    assert!(clips((0, bands, 8)).is_err());
    assert!(clips((1, bands, 0)).is_err());
    assert!(clips((1, bands + 1, 8)).is_err());
}

#[test]
fn samplings_that_cannot_be_are_refused() {
    let reference = Reference::load();
    let (with, without) = (reference.conditioning(true), reference.conditioning(false));
    let result = |conditioning: &Conditioning, config: &SamplingConfig| {
        sample(&reference.decoder, conditioning, config, &mut Random::new(1), &mut on)
    };
    let good = config(Sampler::Ddim, Some(2.0));
    assert!(result(&with, &good).is_ok());
    assert!(result(&without, &good).is_err());
    assert!(result(&with, &SamplingConfig { guidance: None, ..good.clone() }).is_err());
    for steps in [0, 1, 4001, usize::MAX] {
        assert!(result(&with, &SamplingConfig { steps, ..good.clone() }).is_err());
    }
    for wild in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(result(&with, &SamplingConfig { temperature: wild, ..good.clone() }).is_err());
        assert!(result(&with, &SamplingConfig { guidance: Some(wild), ..good.clone() }).is_err());
    }
    let process = Process::new(&reference.decoder, &with, &good).expect("a process");
    let mut random = Random::new(1);
    assert!(process.step(STEPS, reference.value("x"), &mut random).is_err());
    let short = reference.value("x").narrow(2, 0, 5).expect("a piece");
    assert!(process.step(0, &short, &mut random).is_err());
    assert!(process.start(&mut Recorded(vec![short])).is_err());
}

#[test]
fn logarithms_of_magnitudes_are_those_of_the_reference() {
    let fixture = Fixture::load("mel");
    let actual = denormalised(fixture.value("denorm_in")).expect("logarithms");
    assert_close("denorm", &actual, fixture.value("denorm_out"));
}
