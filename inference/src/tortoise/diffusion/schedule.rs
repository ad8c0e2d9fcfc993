//! How much noise there is at each step of the diffusion: a linear schedule (Ho et al., "Denoising
//! Diffusion Probabilistic Models", 2020) of which some steps are taken, with what is between two of
//! them added up (Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models", 2021).
//! Everything is in double precision.

use candle_core::{Result, bail};

/// Steps that the network was trained with.
pub const TRAINED_STEPS: usize = 4000;
const FIRST_BETA: f64 = 2.5e-5;
const LAST_BETA: f64 = 5e-3;

/// One step, from more noise to less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Which of the trained steps it is, what the network is told.
    pub time: u32,
    /// Variance of the noise that is added here on the way there.
    pub beta: f64,
    /// What is left of the signal's variance with this step's noise.
    pub alpha_bar: f64,
    /// What is left of it without.
    pub previous_alpha_bar: f64,
    /// Logarithms of the least and the largest variance that noise may have on the way back.
    pub log_variances: (f64, f64),
}

impl Step {
    /// Factors of the noisy signal and of the noise whose difference is the signal.
    pub fn signal(&self) -> (f64, f64) {
        (self.alpha_bar.recip().sqrt(), (self.alpha_bar.recip() - 1.0).sqrt())
    }

    /// Factors of the signal and of the noisy signal whose sum is the mean of what comes before, given
    /// both.
    pub fn posterior_mean(&self) -> (f64, f64) {
        let noise = 1.0 - self.alpha_bar;
        (
            self.beta * self.previous_alpha_bar.sqrt() / noise,
            (1.0 - self.previous_alpha_bar) * (1.0 - self.beta).sqrt() / noise,
        )
    }

    /// As [`posterior_mean`](Self::posterior_mean), where the noise stays the same and there is less of
    /// it (Song et al., "Denoising Diffusion Implicit Models", 2021, equation 12 without fresh noise).
    pub fn implicit(&self) -> (f64, f64) {
        let (noisy, noise) = self.signal();
        let less = (1.0 - self.previous_alpha_bar).sqrt();
        (self.previous_alpha_bar.sqrt() - less / noise, less * noisy / noise)
    }
}

/// The steps that are taken, the one with the least noise first.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    steps: Vec<Step>,
}

impl Schedule {
    /// `count` steps, spread evenly over the trained ones.
    ///
    /// # Errors
    /// There are less than two steps, or more than were trained.
    pub fn new(count: usize) -> Result<Self> {
        if !(2..=TRAINED_STEPS).contains(&count) {
            bail!("{count} steps of diffusion are not between 2 and {TRAINED_STEPS}")
        }
        let trained = trained_alpha_bars();
        let mut steps = Vec::with_capacity(count);
        let mut previous = 1.0;
        let mut left = 1.0;
        for time in spread(count) {
            let beta = 1.0 - trained[time] / previous;
            previous = trained[time];
            let previous_alpha_bar = left;
            left *= 1.0 - beta;
            let least = beta * (1.0 - previous_alpha_bar) / (1.0 - left);
            steps.push(Step {
                time: time as u32,
                beta,
                alpha_bar: left,
                previous_alpha_bar,
                log_variances: (least.ln(), beta.ln()),
            });
        }
        // Nothing is left to vary at the end, and nought has no logarithm: the next one's is taken.
        steps[0].log_variances.0 = steps[1].log_variances.0;
        Ok(Self { steps })
    }

    /// The steps, the one with the least noise first: the last to be taken.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// What is left of the signal's variance after each of the trained steps.
fn trained_alpha_bars() -> Vec<f64> {
    let rise = (LAST_BETA - FIRST_BETA) / (TRAINED_STEPS - 1) as f64;
    (0..TRAINED_STEPS)
        .scan(1.0, |left, step| {
            *left *= 1.0 - (FIRST_BETA + rise * step as f64);
            Some(*left)
        })
        .collect()
}

/// `count` of the trained steps, the first and the last among them.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let stride = (TRAINED_STEPS - 1) as f64 / (count - 1) as f64;
    // Added up as where the network was trained: a product rounds differently.
    (0..count).scan(0.0f64, move |place, _| {
        let time = place.round_ties_even() as usize;
        *place += stride;
        Some(time)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_trained_steps_are_the_linear_schedule() {
        let schedule = Schedule::new(TRAINED_STEPS).expect("a schedule");
        for (index, step) in schedule.steps().iter().enumerate() {
            assert_eq!(step.time as usize, index);
        }
        let (first, last) = (schedule.steps()[0], schedule.steps()[TRAINED_STEPS - 1]);
        assert!((first.beta - FIRST_BETA).abs() < 1e-12);
        assert!((last.beta - LAST_BETA).abs() < 1e-12);
        assert!((first.previous_alpha_bar - 1.0).abs() < f64::EPSILON);
        assert!(last.alpha_bar > 0.0 && last.alpha_bar < 1e-4);
    }

    #[test]
    fn every_number_of_steps_begins_and_ends_with_the_trained_ones_and_only_rises() {
        for count in (2..=200).chain([400, 999, 1000, 2000, 2666, 3998, 3999]) {
            let schedule = Schedule::new(count).expect("a schedule");
            let times: Vec<u32> = schedule.steps().iter().map(|step| step.time).collect();
            assert_eq!((times[0], times[count - 1]), (0, 3999), "{count} steps");
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{count} steps");
            for step in schedule.steps() {
                let (least, largest) = step.log_variances;
                assert!(least.is_finite() && largest.is_finite() && step.beta > 0.0);
            }
        }
    }

    #[test]
    fn the_least_noise_goes_wholly_in_the_last_step() {
        let step = Schedule::new(10).expect("a schedule").steps()[0];
        for (signal, noisy) in [step.posterior_mean(), step.implicit()] {
            assert!((signal - 1.0).abs() < 1e-9 && noisy.abs() < 1e-9);
        }
    }

    #[test]
    fn a_signal_without_noise_stays_what_it_is() {
        // Of a noisy signal without its noise, either way back gives the signal with less of it left.
        for step in Schedule::new(30).expect("a schedule").steps() {
            let clean = step.alpha_bar.sqrt();
            for (signal, noisy) in [step.posterior_mean(), step.implicit()] {
                let back = signal + noisy * clean;
                assert!((back - step.previous_alpha_bar.sqrt()).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn a_number_of_steps_that_cannot_be_is_refused() {
        for count in [0, 1, TRAINED_STEPS + 1, usize::MAX] {
            assert!(Schedule::new(count).is_err());
        }
    }
}
