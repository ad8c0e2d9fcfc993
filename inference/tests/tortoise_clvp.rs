//! The networks that rank candidates and draw random voices, held to the reference implementation.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod tortoise_support;

use candle_core::{DType, Device, Tensor};
use inference::tortoise::clvp::{Clvp, ClvpConfig};
use inference::tortoise::import::convert::Part;
use inference::tortoise::random_voice::RandomVoice;
use tortoise_support::{Fixture, assert_close};

fn tiny() -> ClvpConfig {
    ClvpConfig { width: 64, depth: 2, heads: 2, latent: 64, text_ids: 256, codes: 256 }
}

fn clvp() -> (Fixture, Clvp) {
    let fixture = Fixture::load("clvp");
    let clvp = Clvp::load(&tiny(), &fixture.weights(Part::Clvp)).expect("the network loads");
    (fixture, clvp)
}

#[test]
fn a_layer_is_that_of_the_reference() {
    let (fixture, clvp) = clvp();
    let text = fixture.value("text").narrow(0, 0, 1).unwrap();
    let encoder = clvp.text();
    let layer = &encoder.layers()[0];
    let normalised = layer.normalised(&encoder.embed(&text).unwrap()).unwrap();
    assert_close("rms0", &normalised, fixture.value("rms0"));
    let turns = encoder.turns(text.dim(1).unwrap(), DType::F32, &Device::Cpu).unwrap();
    assert_close("attn0", &layer.attend(&normalised, &turns).unwrap(), fixture.value("attn0"));
    assert_close("ff0", &layer.feed(&normalised).unwrap(), fixture.value("ff0"));
}

#[test]
fn texts_and_codes_are_encoded_and_scored_as_by_the_reference() {
    let (fixture, clvp) = clvp();
    let (text, codes) = (fixture.value("text"), fixture.value("speech"));
    assert_close("text_enc", &clvp.text().encode(text).unwrap(), fixture.value("text_enc"));
    assert_close("speech_enc", &clvp.speech().encode(codes).unwrap(), fixture.value("speech_enc"));
    assert_close("score", &clvp.scores(text, codes).unwrap(), fixture.value("score"));
    // All candidates have the same text.
    let one = text.narrow(0, 0, 1).unwrap();
    assert_close("score", &clvp.scores(&one, codes).unwrap(), fixture.value("score"));
}

#[test]
fn many_candidates_are_scored_as_one_by_one() {
    let (fixture, clvp) = clvp();
    let text = fixture.value("text").narrow(0, 0, 1).unwrap();
    let codes = fixture.value("speech").repeat((14, 1)).unwrap();
    let scores = clvp.scores(&text, &codes).unwrap();
    let texts = text.repeat((42, 1)).unwrap();
    assert_close("a text for each", &clvp.scores(&texts, &codes).unwrap(), &scores);
    for index in [0, 1, 31, 32, 41] {
        let one = clvp.scores(&text, &codes.narrow(0, index, 1).unwrap()).unwrap();
        assert_close("one", &one, &scores.narrow(0, index, 1).unwrap());
    }
}

#[test]
fn the_turns_are_computed_where_they_are_not_stored() {
    let (fixture, clvp) = clvp();
    let vb = fixture.weights(Part::Clvp);
    let vb = vb.rename_f(|name| name.replace("inv_freq", "absent"));
    let computed = Clvp::load(&tiny(), &vb).unwrap();
    let (text, codes) = (fixture.value("text"), fixture.value("speech"));
    let scores = computed.scores(text, codes).unwrap();
    assert_close("score", &scores, &clvp.scores(text, codes).unwrap());
}

#[test]
fn what_cannot_be_scored_is_an_error() {
    let (fixture, clvp) = clvp();
    let ids = |shape: (usize, usize)| Tensor::zeros(shape, DType::U32, &Device::Cpu).unwrap();
    assert!(clvp.scores(&ids((1, 5)), &ids((3, 4))).is_ok());
    for (text, codes) in
        [((1, 0), (3, 4)), ((0, 5), (3, 4)), ((1, 5), (3, 0)), ((1, 5), (0, 4)), ((2, 5), (3, 4))]
    {
        assert!(clvp.scores(&ids(text), &ids(codes)).is_err(), "{text:?} {codes:?}");
    }
    assert!(clvp.scores(&ids((1, 5)), &(ids((3, 4)) + 256.0).unwrap()).is_err(), "no such code");
    assert!(clvp.scores(fixture.value("rms0"), &ids((3, 4))).is_err(), "no ids");
    let wide = ClvpConfig { width: 128, ..tiny() };
    assert!(Clvp::load(&wide, &fixture.weights(Part::Clvp)).is_err());
    let empty = ClvpConfig { heads: 0, ..tiny() };
    assert!(Clvp::load(&empty, &fixture.weights(Part::Clvp)).is_err());
}

#[test]
fn a_random_voice_is_that_of_the_reference() {
    let fixture = Fixture::load("rlg");
    let noise = fixture.value("r");
    let channels = noise.dim(1).unwrap();
    let network = RandomVoice::load(channels, &fixture.weights(Part::RandomVoice)).unwrap();
    assert_close("y", &network.latent(noise).unwrap(), fixture.value("y"));
    assert!(network.latent(&noise.narrow(1, 0, channels - 1).unwrap()).is_err());
    assert!(RandomVoice::load(channels + 1, &fixture.weights(Part::RandomVoice)).is_err());
    assert!(RandomVoice::load(0, &fixture.weights(Part::RandomVoice)).is_err());
}
