//! RTP counters wrap; this extends them to 64 bits so that the rest never thinks about it.

/// Extends a wrapping counter of `BITS` bits (RFC 3550 appendix A.1: 16 for sequence numbers, 32
/// for timestamps).
///
/// The first value is put one full turn above zero, so that subtracting a little never goes below
/// it; the low bits stay those of the wire.
#[derive(Clone, Debug, Default)]
pub struct Extender<const BITS: u32> {
    highest: Option<u64>,
}

impl<const BITS: u32> Extender<BITS> {
    const TURN: u64 = 1 << BITS;

    /// The extended value nearest to the highest one seen.
    pub fn extend(&mut self, wire: u64) -> u64 {
        let Some(highest) = self.highest else {
            let first = Self::TURN + wire;
            self.highest = Some(first);
            return first;
        };
        let ahead = wire.wrapping_sub(highest) & (Self::TURN - 1);
        let extended = if ahead < Self::TURN / 2 {
            highest + ahead
        } else {
            (highest + ahead).saturating_sub(Self::TURN)
        };
        self.highest = Some(highest.max(extended));
        extended
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wrap_goes_on_upwards_and_a_late_value_downwards() {
        let mut sequence = Extender::<16>::default();
        assert_eq!(sequence.extend(65_534), 65_536 + 65_534);
        assert_eq!(sequence.extend(1), 2 * 65_536 + 1);
        assert_eq!(sequence.extend(65_535), 65_536 + 65_535);
        assert_eq!(sequence.extend(2), 2 * 65_536 + 2);
    }

    proptest! {
        #[test]
        fn steps_shorter_than_half_a_turn_are_followed_exactly(
            start in any::<u16>(),
            steps in prop::collection::vec(-3_000i64..3_000, 1..200),
        ) {
            let mut extender = Extender::<16>::default();
            let mut truth = i64::try_from(extender.extend(u64::from(start))).unwrap();
            let mut highest = truth;
            for step in steps {
                truth = (highest + step).max(0);
                let wire = u64::try_from(truth).unwrap() & 0xffff;
                prop_assert_eq!(i64::try_from(extender.extend(wire)).unwrap(), truth);
                highest = highest.max(truth);
            }
        }
    }
}
