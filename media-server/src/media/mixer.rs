//! Mixes what one listener hears: the interpretation, and the originals below it.
//!
//! Every level moves along a ramp, because a jump of level is a click. An original plays at its
//! route's gain; while an interpretation plays, routes that duck go down to [`DUCKED`] of it.

use super::PeerId;
use super::frames::PLAYOUT_SAMPLES;

/// Factor of a ducked original while an interpretation plays (-9 dB).
pub const DUCKED: f32 = 0.35;
/// Samples (48 kHz) that a change of level from 0 to 1 takes: 80 ms.
pub const RAMP_SAMPLES: usize = 3_840;
/// Ticks of 20 ms that originals stay ducked across a pause within an utterance.
const HOLD_TICKS: u32 = 15;
/// Routes that need no new memory.
const USUAL_ROUTES: usize = 8;
/// From here on the sum is bent so that it never passes 1.
const KNEE: f32 = 0.8;

/// A level that moves towards its target sample by sample.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    level: f32,
    target: f32,
}

impl Ramp {
    const STEP: f32 = 1.0 / RAMP_SAMPLES as f32;

    fn next(&mut self) -> f32 {
        let distance = self.target - self.level;
        self.level += distance.clamp(-Self::STEP, Self::STEP);
        self.level
    }
}

#[derive(Clone, Copy, Debug)]
struct Route {
    source: PeerId,
    gain: Ramp,
    duck: bool,
    /// Fading out, to be dropped when silent.
    is_leaving: bool,
}

/// The mixer of one listener.
#[derive(Debug)]
pub struct Mixer {
    routes: Vec<Route>,
    /// Of the interpretation.
    voice: Ramp,
    duck: Ramp,
    /// Ticks for which originals stay ducked.
    hold: u32,
}

impl Default for Mixer {
    fn default() -> Self {
        let full = Ramp { level: 1.0, target: 1.0 };
        Self { routes: Vec::with_capacity(USUAL_ROUTES), voice: full, duck: full, hold: 0 }
    }
}

impl Mixer {
    /// The listener hears `source` at `gain` from now on, ducked under interpretations or not.
    pub fn set_route(&mut self, source: PeerId, gain: f32, duck: bool) {
        let gain = if gain.is_finite() { gain.clamp(0.0, 4.0) } else { 0.0 };
        if let Some(route) = self.routes.iter_mut().find(|route| route.source == source) {
            route.gain.target = gain;
            route.duck = duck;
            route.is_leaving = false;
        } else {
            let gain = Ramp { level: 0.0, target: gain };
            self.routes.push(Route { source, gain, duck, is_leaving: false });
        }
    }

    /// The listener hears `source` no more, after a short fade.
    pub fn clear_route(&mut self, source: PeerId) {
        if let Some(route) = self.routes.iter_mut().find(|route| route.source == source) {
            route.gain.target = 0.0;
            route.is_leaving = true;
        }
    }

    /// The listener hears these sources from now on and no others, each with its gain and whether it
    /// is ducked.
    pub fn follow(&mut self, sources: impl Iterator<Item = (PeerId, f32, bool)> + Clone) {
        for route in &mut self.routes {
            if !sources.clone().any(|(source, ..)| source == route.source) {
                route.gain.target = 0.0;
                route.is_leaving = true;
            }
        }
        for (source, gain, duck) in sources {
            self.set_route(source, gain, duck);
        }
    }

    /// Somebody whose sound is one of the routes interprets in this tick: what ducks is ducked.
    pub fn duck(&mut self) {
        self.hold = HOLD_TICKS;
    }

    /// The listener hears interpretations at `gain` from now on: less than 1 while they speak
    /// themselves, so that the voice does not talk over them.
    pub fn set_voice_gain(&mut self, gain: f32) {
        self.voice.target = if gain.is_finite() { gain.clamp(0.0, 1.0) } else { 1.0 };
    }

    /// Mixes 20 ms into `out` (48 kHz mono): `voice` is the interpretation, if one plays in this
    /// tick, `is_mid_utterance` whether more of it is to come, and `original` gives a source's
    /// samples, `None` when it is silent. Returns false when all of `out` is digital silence.
    pub fn mix<'a>(
        &mut self,
        out: &mut [f32; PLAYOUT_SAMPLES],
        voice: Option<&[f32; PLAYOUT_SAMPLES]>,
        is_mid_utterance: bool,
        original: impl Fn(PeerId) -> Option<&'a [f32; PLAYOUT_SAMPLES]>,
    ) -> bool {
        match voice {
            Some(voice) => {
                for (sum, sample) in out.iter_mut().zip(voice) {
                    *sum = sample * self.voice.next();
                }
            }
            None => {
                out.fill(0.0);
                self.voice.level = self.voice.target;
            }
        }
        self.hold = match (voice, is_mid_utterance) {
            (Some(_), true) => HOLD_TICKS,
            (Some(_), false) => 1,
            (None, _) => self.hold.saturating_sub(1),
        };
        self.duck.target = if self.hold > 0 { DUCKED } else { 1.0 };

        let mut is_sounding = voice.is_some();
        let duck_before = self.duck;
        for route in &mut self.routes {
            let Some(samples) = original(route.source) else {
                // Silent: the level may go where it should at once.
                route.gain.level = route.gain.target;
                continue;
            };
            is_sounding = true;
            let mut duck = duck_before;
            for (sum, sample) in out.iter_mut().zip(samples) {
                let ducking = duck.next();
                let level = route.gain.next() * if route.duck { ducking } else { 1.0 };
                *sum += sample * level;
            }
        }
        for _ in 0..PLAYOUT_SAMPLES {
            self.duck.next();
        }
        self.routes.retain(|route| !(route.is_leaving && route.gain.level <= 0.0));
        for sample in out.iter_mut() {
            *sample = bend(*sample);
        }
        is_sounding
    }
}

/// Leaves samples up to the knee alone and bends louder ones smoothly below 1.
fn bend(sample: f32) -> f32 {
    let loudness = sample.abs();
    if loudness <= KNEE {
        sample
    } else if loudness.is_nan() {
        0.0
    } else {
        let room = 1.0 - KNEE;
        (KNEE + room * ((loudness - KNEE) / room).tanh()).copysign(sample)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SPEAKER: PeerId = PeerId(1);
    const ONES: [f32; PLAYOUT_SAMPLES] = [0.5; PLAYOUT_SAMPLES];
    const SILENT_VOICE: [f32; PLAYOUT_SAMPLES] = [0.0; PLAYOUT_SAMPLES];

    fn ticks(
        mixer: &mut Mixer,
        count: usize,
        voice: Option<&[f32; PLAYOUT_SAMPLES]>,
        mid: bool,
    ) -> Vec<f32> {
        let mut heard = Vec::new();
        let mut out = [0.0; PLAYOUT_SAMPLES];
        for _ in 0..count {
            mixer.mix(&mut out, voice, mid, |source| (source == SPEAKER).then_some(&ONES));
            heard.extend_from_slice(&out);
        }
        heard
    }

    fn largest_step(samples: &[f32]) -> f32 {
        samples.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn without_route_and_voice_there_is_digital_silence() {
        let mut out = [1.0; PLAYOUT_SAMPLES];
        assert!(!Mixer::default().mix(&mut out, None, false, |_| Some(&ONES)));
        assert_eq!(out, [0.0; PLAYOUT_SAMPLES]);
    }

    #[test]
    fn an_original_comes_in_over_a_ramp_and_settles_at_its_gain() {
        let mut mixer = Mixer::default();
        mixer.set_route(SPEAKER, 0.6, true);
        let heard = ticks(&mut mixer, 10, None, false);
        assert!(heard[0] < 0.001);
        assert!((heard[heard.len() - 1] - 0.3).abs() < 1e-4);
        assert!(largest_step(&heard) < 0.001);
    }

    #[test]
    fn it_is_ducked_while_an_interpretation_plays_and_comes_back_without_clicks() {
        let mut mixer = Mixer::default();
        mixer.set_route(SPEAKER, 0.6, true);
        let mut heard = ticks(&mut mixer, 10, None, false);
        heard.extend(ticks(&mut mixer, 10, Some(&SILENT_VOICE), true));
        assert!((heard[heard.len() - 1] - 0.3 * DUCKED).abs() < 1e-4);
        let pause = ticks(&mut mixer, 5, None, true);
        assert!((pause[pause.len() - 1] - 0.3 * DUCKED).abs() < 1e-4, "held in a pause");
        heard.extend(pause);
        heard.extend(ticks(&mut mixer, 1, Some(&SILENT_VOICE), false));
        heard.extend(ticks(&mut mixer, 10, None, false));
        assert!((heard[heard.len() - 1] - 0.3).abs() < 1e-4);
        assert!(largest_step(&heard) < 0.001);
    }

    #[test]
    fn an_interpretation_goes_down_while_its_listener_speaks_and_comes_back_without_clicks() {
        let mut mixer = Mixer::default();
        let mut heard = ticks(&mut mixer, 5, Some(&ONES), true);
        assert!(heard.iter().all(|sample| *sample == 0.5));
        mixer.set_voice_gain(0.35);
        heard.extend(ticks(&mut mixer, 5, Some(&ONES), true));
        assert!((heard[heard.len() - 1] - 0.175).abs() < 1e-4);
        mixer.set_voice_gain(1.0);
        heard.extend(ticks(&mut mixer, 5, Some(&ONES), true));
        assert!((heard[heard.len() - 1] - 0.5).abs() < 1e-4);
        assert!(largest_step(&heard) < 0.001);
    }

    #[test]
    fn a_route_that_does_not_duck_keeps_its_level() {
        let mut mixer = Mixer::default();
        mixer.set_route(SPEAKER, 1.0, false);
        ticks(&mut mixer, 10, None, false);
        let heard = ticks(&mut mixer, 10, Some(&SILENT_VOICE), true);
        assert!(heard.iter().all(|sample| (sample - 0.5).abs() < 1e-4));
    }

    #[test]
    fn a_cleared_route_fades_out_and_is_gone() {
        let mut mixer = Mixer::default();
        mixer.set_route(SPEAKER, 1.0, false);
        ticks(&mut mixer, 10, None, false);
        mixer.clear_route(SPEAKER);
        let heard = ticks(&mut mixer, 10, None, false);
        assert!(largest_step(&heard) < 0.001);
        assert!(mixer.routes.is_empty());
    }

    #[test]
    fn who_is_followed_no_more_fades_out_and_a_human_interpreter_ducks_the_floor() {
        const INTERPRETER: PeerId = PeerId(2);
        let mut mixer = Mixer::default();
        mixer.follow([(SPEAKER, 0.6, true), (INTERPRETER, 1.0, false)].into_iter());
        let mut heard = ticks(&mut mixer, 10, None, false);
        assert!((heard[heard.len() - 1] - 0.3).abs() < 1e-4);
        for _ in 0..10 {
            mixer.duck();
            heard.extend(ticks(&mut mixer, 1, None, false));
        }
        assert!((heard[heard.len() - 1] - 0.3 * DUCKED).abs() < 1e-4);
        mixer.follow([(INTERPRETER, 1.0, false)].into_iter());
        heard.extend(ticks(&mut mixer, 10, None, false));
        assert_eq!(heard[heard.len() - 1], 0.0);
        assert!(largest_step(&heard) < 0.001);
        assert_eq!(mixer.routes.len(), 1);
    }

    proptest! {
        #[test]
        fn no_sum_leaves_the_range(voice in -3.0f32..3.0, gain in 0.0f32..10.0, loud in -3.0f32..3.0) {
            let mut mixer = Mixer::default();
            mixer.set_route(SPEAKER, gain, false);
            let voice = [voice; PLAYOUT_SAMPLES];
            let original = [loud; PLAYOUT_SAMPLES];
            let mut out = [0.0; PLAYOUT_SAMPLES];
            for _ in 0..6 {
                mixer.mix(&mut out, Some(&voice), true, |_| Some(&original));
                prop_assert!(out.iter().all(|sample| sample.abs() <= 1.0));
            }
        }
    }
}
