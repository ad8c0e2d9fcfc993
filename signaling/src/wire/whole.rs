//! Whole numbers as JSON has them: `60.0` is one too, and what some clients write for 60.

use std::fmt;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Above it, not every whole number is one that a float can hold.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a whole number from 0 on, or null.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let number = deserializer.deserialize_any(Whole)?;
    let too_large = |number| D::Error::invalid_value(Unexpected::Unsigned(number), &Whole);
    number.map(|number| T::try_from(number).map_err(|_| too_large(number))).transpose()
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = Option<u64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a whole number from 0 on")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        if number.fract() == 0.0 && (0.0..=MAX_EXACT).contains(&number) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is whole and within the range that was just checked"
            )]
            return Ok(Some(number as u64));
        }
        Err(E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        let read = |json: &str| whole::<_, u32>(&mut serde_json::Deserializer::from_str(json));
        for (json, number) in [
            ("60", Some(60)),
            ("60.0", Some(60)),
            ("6e1", Some(60)),
            ("-0.0", Some(0)),
            ("null", None),
        ] {
            assert_eq!(read(json).unwrap(), number, "{json}");
        }
        for json in ["60.5", "-1", "-1.0", "4294967296", "4294967296.0", "1e300", "\"60\"", "[60]"]
        {
            assert!(read(json).unwrap_err().to_string().contains("whole number"), "{json}");
        }
    }
}
