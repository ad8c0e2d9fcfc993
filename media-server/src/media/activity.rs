//! Whether a source has something to say: the level of its decoded packets, with hysteresis.
//!
//! It decides who is mixed and who is forwarded, packet by packet and for next to nothing; where a
//! segment begins and ends is the voice activity detector's matter alone.

/// Mean power from which a packet is loud: -48 dBFS, between a quiet room and a quiet voice.
const LOUD_POWER: f32 = 1.6e-5;
/// Loud samples (48 kHz) in a row from which a source speaks: 40 ms. A click is shorter.
const ATTACK: usize = 1_920;
/// Ticks of 20 ms that a source still speaks after its last loud packet: 600 ms, so that a pause
/// between two words is none.
const HOLD_TICKS: u32 = 30;

/// What a source does at the moment.
#[derive(Debug, Default)]
pub struct Activity {
    /// Loud samples in a row.
    loud: usize,
    /// Ticks for which it still speaks.
    hold: u32,
}

impl Activity {
    /// Takes a decoded packet, 48 kHz mono.
    pub fn packet(&mut self, samples: &[f32]) {
        let energy: f32 = samples.iter().map(|sample| sample * sample).sum();
        #[expect(clippy::cast_precision_loss, reason = "120 ms at most")]
        let is_loud = energy > LOUD_POWER * samples.len() as f32;
        self.loud = if is_loud { self.loud.saturating_add(samples.len()) } else { 0 };
        if self.loud >= ATTACK {
            self.hold = HOLD_TICKS;
        }
    }

    /// 20 ms went by.
    pub fn tick(&mut self) {
        self.hold = self.hold.saturating_sub(1);
    }

    /// Whether it speaks, short pauses included.
    #[must_use]
    pub fn is_speaking(&self) -> bool {
        self.hold > 0
    }

    /// Whether its last packet was silence: the moment to switch unheard.
    #[must_use]
    pub fn is_pausing(&self) -> bool {
        self.loud == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 960;

    #[test]
    fn a_voice_counts_after_40_ms_and_for_600_ms_more_and_a_click_never() {
        let mut activity = Activity::default();
        activity.packet(&[0.1; FRAME]);
        assert!(!activity.is_speaking(), "it may be a click");
        activity.packet(&[0.0; FRAME]);
        activity.packet(&[0.1; FRAME]);
        assert!(!activity.is_speaking());
        activity.packet(&[0.1; FRAME]);
        assert!(activity.is_speaking() && !activity.is_pausing());
        for tick in 0..30 {
            assert!(activity.is_speaking(), "after {tick} ticks");
            activity.packet(&[0.000_5; FRAME]);
            activity.tick();
        }
        assert!(!activity.is_speaking() && activity.is_pausing());
    }
}
