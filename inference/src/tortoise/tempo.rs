//! Faster or slower speech: latents are read at another pace before they become sound, which leaves
//! the pitch where it was.

use candle_core::{Result, Tensor};

/// Latents come in one after the other, and others go out, each between two of them.
#[derive(Debug)]
pub(super) struct Tempo {
    /// Latents that pass for each that goes out.
    pace: f64,
    /// How many have come.
    came: usize,
    /// How many have gone.
    went: usize,
    last: Option<Tensor>,
}

impl Tempo {
    /// At `pace` 1 they go out as they come, at 2 every other one.
    pub(super) fn new(pace: f64) -> Self {
        Self { pace, came: 0, went: 0, last: None }
    }

    /// The latents, `[1, width]` each, that can go out now that `latent` has come.
    pub(super) fn push(&mut self, latent: &Tensor) -> Result<Vec<Tensor>> {
        self.came += 1;
        if self.pace == 1.0 {
            return Ok(vec![latent.clone()]);
        }
        let mut out = Vec::new();
        // Between the one before and this one.
        let newest = (self.came - 1) as f64;
        loop {
            let place = self.went as f64 * self.pace;
            if place > newest {
                break;
            }
            let back = newest - place;
            out.push(match &self.last {
                Some(last) if back > 0.0 => ((latent * (1.0 - back))? + (last * back)?)?,
                _ => latent.clone(),
            });
            self.went += 1;
        }
        self.last = Some(latent.clone());
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn read(pace: f64, count: usize) -> Vec<f32> {
        let mut tempo = Tempo::new(pace);
        let mut out = Vec::new();
        for value in 0..count {
            let latent = Tensor::new(&[[value as f32]], &Device::Cpu).expect("a latent");
            for latent in tempo.push(&latent).expect("pushed") {
                out.extend(
                    latent.flatten_all().and_then(|latent| latent.to_vec1::<f32>()).expect("one"),
                );
            }
        }
        out
    }

    #[test]
    fn latents_pass_at_their_pace() {
        assert_eq!(read(1.0, 4), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(read(2.0, 5), [0.0, 2.0, 4.0]);
        assert_eq!(read(0.5, 3), [0.0, 0.5, 1.0, 1.5, 2.0]);
        let slow = read(0.8, 5);
        assert_eq!(slow.len(), 6);
        assert!(slow.iter().enumerate().all(|(at, value)| (value - 0.8 * at as f32).abs() < 1e-6));
    }
}
