//! The autoregressive model held to the reference implementation, and its batch to itself.

mod tortoise_support;

use std::sync::Arc;

use candle_core::{DType, Device, IndexOp, Tensor};
use crossbeam_channel::{Receiver, bounded};
use inference::CancelToken;
use inference::batch::{Batch, Request, StepLimits};
use inference::tortoise::autoregressive::{
    Autoregressive, AutoregressiveConfig, End, Row, Sampler, Sampling, Slots, Speaking, Spoken,
    fix_codes,
};
use inference::tortoise::import::convert::Part;
use tortoise_support::{Fixture, assert_close};

/// Sizes of the fixture's network, by the reference's names.
fn sizes(fixture: &Fixture) -> AutoregressiveConfig {
    let number = |name: &str| fixture.config()[name].as_u64().expect("a size") as usize;
    AutoregressiveConfig {
        layers: number("layers"),
        width: number("model_dim"),
        heads: number("heads"),
        text_positions: number("max_text_tokens") + 2,
        mel_positions: number("max_mel_tokens") + 2 + number("max_conditioning_inputs"),
        mel_codes: number("number_mel_codes"),
        start_mel: number("start_mel_token") as u32,
        stop_mel: number("stop_mel_token") as u32,
        ..AutoregressiveConfig::default()
    }
}

fn model() -> (Fixture, Arc<Autoregressive>) {
    let fixture = Fixture::load("autoregressive");
    let weights = fixture.weights(Part::Autoregressive);
    let model = Autoregressive::load(&sizes(&fixture), &weights).expect("the fixture's model");
    (fixture, Arc::new(model))
}

fn ids(tensor: &Tensor) -> Vec<u32> {
    let tensor = tensor.to_dtype(DType::U32).and_then(|tensor| tensor.flatten_all());
    tensor.and_then(|tensor| tensor.to_vec1()).expect("ids")
}

/// The fixture's text as it was given to the reference, without the stop that is added here.
fn text(fixture: &Fixture) -> Vec<u32> {
    let mut text = ids(fixture.value("text_ids"));
    assert_eq!(text.pop(), Some(0));
    text
}

fn greedy() -> Sampling {
    Sampling { repetition_penalty: 1.0, ..Sampling::greedy() }
}

/// Everything that is said of the text, with a batch of its own.
fn speak(slots: usize, model: &Arc<Autoregressive>, speakings: Vec<Speaking>) -> Vec<Speaking> {
    let make = || Slots::new(Arc::clone(model), slots).expect("room");
    let limits = StepLimits { prompt_piece: 512, drafts: 0 };
    let mut batch = Batch::new(make, limits);
    let mut done: Vec<Option<Speaking>> = speakings.iter().map(|_| None).collect();
    for (tag, sequence) in speakings.into_iter().enumerate() {
        let request = Request { sequence, cancel: CancelToken::new() };
        assert!(batch.enter(request, tag).is_none(), "it enters");
        // The others are in the middle of a sentence when one begins.
        for finished in batch.step().finished {
            done[finished.tag] = Some(finished.outcome.expect("spoken"));
        }
    }
    while batch.active() > 0 {
        for finished in batch.step().finished {
            done[finished.tag] = Some(finished.outcome.expect("spoken"));
        }
    }
    done.into_iter().map(|done| done.expect("everybody ended")).collect()
}

fn speaking(
    model: &Autoregressive,
    (voice, text): (&Tensor, &[u32]),
    how: (Sampling, u64),
    most: usize,
) -> (Speaking, Receiver<Spoken>) {
    let (out, spoken) = bounded(most);
    (Speaking::new(model.config(), voice.clone(), text, how, most, out), spoken)
}

fn latents(spoken: &Receiver<Spoken>) -> Tensor {
    let latents: Vec<Tensor> = spoken.try_iter().map(|spoken| spoken.latent).collect();
    Tensor::cat(&latents, 0).expect("latents")
}

#[test]
fn a_voice_is_that_of_the_reference() {
    let (fixture, model) = model();
    let mel = fixture.value("cond_mel");
    let clips: Vec<Tensor> =
        (0..mel.dim(1).expect("clips")).map(|clip| mel.i((.., clip)).expect("a clip")).collect();
    let encoder = model.conditioning();
    let first = encoder.encode(&clips[0]).expect("encoded");
    assert_close("the first clip", &first, fixture.value("cond_enc_clip0"));
    let voice = encoder.voice(&clips).expect("a voice");
    assert_close("the voice", &voice, fixture.value("cond_latent"));
    assert!(encoder.voice(&[]).is_err());
}

#[test]
fn latents_are_those_of_the_reference() {
    let (fixture, model) = model();
    let voice = fixture.value("cond_latent");
    // The reference was given two zeros too: one of its caller's, one of its own.
    let latents =
        model.latents(voice, &text(&fixture), &ids(fixture.value("mel_codes"))).expect("latents");
    assert_close("latents", &latents, fixture.value("latents"));
}

#[test]
fn greedy_codes_and_their_scores_are_those_of_contiguous_positions() {
    let (fixture, model) = model();
    let voice = fixture.value("cond_latent");
    let text = text(&fixture);
    let expected = ids(fixture.value("greedy_kv0"));
    let (sequence, spoken) = speaking(&model, (voice, &text), (greedy(), 0), expected.len());
    let done = speak(2, &model, vec![sequence]);
    assert_eq!(done[0].codes(), expected);
    let latents = latents(&spoken);
    let steps = fixture.value("step_logits_kv0");
    let count = steps.dim(1).expect("steps");
    let scores = model.scores(&latents.narrow(0, 0, count).expect("states")).expect("scores");
    assert_close("scores", &scores, &steps.squeeze(0).expect("one text"));
    // The reference's cache skips a position; that its scores differ shows that the test can tell.
    let skipping = fixture.value("step_logits_kv1").squeeze(0).expect("one text");
    let apart = (scores - skipping).and_then(|apart| apart.abs()?.max_all()?.to_scalar::<f32>());
    assert!(apart.expect("a number") > 0.1);
}

#[test]
fn shares_are_those_of_the_reference() {
    let (fixture, model) = model();
    let scores = fixture.value("samp_logits");
    let history = fixture.value("samp_hist").to_dtype(DType::U32).expect("ids");
    let history = history.to_vec2::<u32>().expect("ids");
    let (slots, codes) = scores.dims2().expect("rows");
    let start = model.config().start_mel;
    let mut sampler = Sampler::new(slots, codes, start);
    let mut rows = Vec::new();
    for (slot, codes) in history.iter().enumerate() {
        sampler.restart(slot).expect("a slot");
        for code in codes {
            sampler.note(slot, *code).expect("noted");
        }
        rows.push(Row { slot, sampling: Sampling::default(), unit: 0.0 });
    }
    let shares = sampler.shares(scores, &rows).expect("shares");
    assert_close("shares", &shares, fixture.value("samp_probs"));
}

#[test]
fn whole_sentences_are_drawn_as_the_reference_draws_them() {
    let (fixture, model) = model();
    for index in 0..3 {
        let value = |name: &str| fixture.value(&format!("seq{index}_{name}"));
        let (drawn, codes) = (ids(value("ids")), ids(value("codes")));
        let mut text = ids(value("text"));
        assert_eq!(text.pop(), Some(0), "the stop that the caller adds");
        let latents = model.latents(value("voice"), &text, &codes).expect("latents");
        assert_close("latents", &latents, value("latents"));

        // The state after the last code is asked for by the stop that comes then, where one comes.
        let states = model.latents(value("voice"), &text, &drawn).expect("latents");
        let scores = model.scores(&states.squeeze(0).expect("one")).expect("scores");
        let expected = value("logits").squeeze(0).expect("one");
        assert_close("scores", &scores, &expected);
        let probs = value("probs").squeeze(0).expect("one");
        let mut sampler = Sampler::new(1, model.config().mel_codes, model.config().start_mel);
        sampler.restart(0).expect("a slot");
        let units = value("uniforms").to_dtype(DType::F64).and_then(|units| units.to_vec1::<f64>());
        for (step, unit) in units.expect("numbers").into_iter().enumerate() {
            let row = Row { slot: 0, sampling: Sampling::default(), unit };
            let scores = scores.narrow(0, step, 1).expect("a step");
            let shares = sampler.shares(&scores, std::slice::from_ref(&row)).expect("shares");
            assert_close(
                "shares",
                &shares.squeeze(0).expect("one"),
                &probs.i(step).expect("a step"),
            );
            let code = sampler.draw(&scores, &[row]).expect("drawn")[0];
            assert_eq!(code, Some(drawn[step]), "sentence {index}, step {step}");
            sampler.note(0, drawn[step]).expect("noted");
        }
    }
}

#[test]
fn each_session_of_a_batch_gets_what_it_gets_alone() {
    let (fixture, model) = model();
    let voice = fixture.value("cond_latent");
    let other = (voice * -0.7).expect("another voice");
    let texts: [&[u32]; 3] = [&[42, 7, 200, 2, 19, 88, 3], &[9, 30], &[100, 101, 102, 5, 6]];
    let voices = [voice, &other, voice];
    let make = |index: usize| {
        speaking(
            &model,
            (voices[index], texts[index]),
            (Sampling::default(), 40 + index as u64),
            30,
        )
    };
    let alone: Vec<_> = (0..3)
        .map(|index| {
            let (sequence, spoken) = make(index);
            let done = speak(4, &model, vec![sequence]).remove(0);
            (done.codes().to_vec(), done.end(), latents(&spoken))
        })
        .collect();
    assert_ne!(alone[0].0, alone[2].0, "seeds and texts matter");
    for order in [[0, 1, 2], [2, 0, 1]] {
        let (sequences, spoken): (Vec<_>, Vec<_>) = order.iter().map(|index| make(*index)).unzip();
        let together = speak(4, &model, sequences);
        for ((index, done), spoken) in order.iter().zip(&together).zip(&spoken) {
            let (codes, end, expected) = &alone[*index];
            assert_eq!((done.codes(), done.end()), (codes.as_slice(), *end));
            let (actual, expected) = (latents(spoken), expected);
            let apart = (&actual - expected).and_then(|apart| apart.abs()?.max_all());
            let apart = apart.and_then(|apart| apart.to_scalar::<f32>()).expect("a number");
            assert!(apart == 0.0, "the latents of {index} differ by {apart}");
        }
    }
}

#[test]
fn a_prompt_that_is_read_in_pieces_gives_the_same_codes() {
    let (fixture, model) = model();
    let voice = fixture.value("cond_latent");
    let run = |piece: usize| {
        let (sequence, _spoken) = speaking(&model, (voice, &text(&fixture)), (greedy(), 0), 12);
        let make = || Slots::new(Arc::clone(&model), 1).expect("room");
        let mut batch = Batch::new(make, StepLimits { prompt_piece: piece, drafts: 0 });
        let request = Request { sequence, cancel: CancelToken::new() };
        assert!(batch.enter(request, ()).is_none());
        loop {
            if let Some(finished) = batch.step().finished.pop() {
                return finished.outcome.expect("spoken").codes().to_vec();
            }
        }
    };
    assert_eq!(run(3), run(512));
    assert_eq!(run(1), run(512));
}

#[test]
fn a_sentence_that_never_ends_is_ended_and_one_that_is_cancelled_leaves() {
    let (fixture, model) = model();
    let voice = fixture.value("cond_latent");
    let (sequence, spoken) = speaking(&model, (voice, &[5, 6]), (Sampling::default(), 3), 43);
    let done = speak(1, &model, vec![sequence]).remove(0);
    assert!(matches!(done.end(), End::Runaway | End::Natural | End::Calm));
    assert_eq!(done.codes().len(), spoken.try_iter().count());
    assert!(done.codes().len() <= 43);

    let (sequence, _spoken) = speaking(&model, (voice, &[5, 6]), (Sampling::default(), 3), 43);
    let make = || Slots::new(Arc::clone(&model), 1).expect("room");
    let mut batch = Batch::new(make, StepLimits { prompt_piece: 512, drafts: 0 });
    let cancel = CancelToken::new();
    assert!(batch.enter(Request { sequence, cancel: cancel.clone() }, ()).is_none());
    assert!(batch.step().finished.is_empty());
    cancel.cancel();
    assert!(batch.step().finished.remove(0).outcome.is_err());
}

#[test]
fn what_the_model_cannot_read_is_an_error_of_that_sentence() {
    let (fixture, model) = model();
    let voice = fixture.value("cond_latent");
    let narrow = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).expect("a tensor");
    let long = vec![5; 100];
    let bad: [(&Tensor, &[u32]); 4] =
        [(voice, &[]), (voice, &long), (voice, &[999]), (&narrow, &[5])];
    for (voice, text) in bad {
        let (sequence, _spoken) = speaking(&model, (voice, text), (greedy(), 0), 10);
        let make = || Slots::new(Arc::clone(&model), 1).expect("room");
        let mut batch = Batch::new(make, StepLimits { prompt_piece: 512, drafts: 0 });
        let refused = batch.enter(Request { sequence, cancel: CancelToken::new() }, ());
        assert!(refused.is_some_and(|refused| refused.outcome.is_err()), "{text:?}");
    }
}

#[test]
fn codes_are_ended_as_the_reference_ends_them() {
    let fixture = Fixture::load("autoregressive");
    let config = sizes(&fixture);
    let mut cases = 0;
    while fixture.has(&format!("fixup{cases}_codes")) {
        let given = ids(fixture.value(&format!("fixup{cases}_codes")));
        let expected = ids(fixture.value(&format!("fixup{cases}_fixed")));
        assert_eq!(fix_codes(&given, given.len(), &config), expected);
        cases += 1;
    }
    assert!(cases > 2, "there are cases");
}
