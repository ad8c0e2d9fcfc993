//! The parameters of an address (`?channel=es&original_gain=0.2`). Each may stand once and has to be
//! known, since one that was misspelt would silently not be followed; what is wrong with one is told
//! with its name.

use std::borrow::Cow;

use crate::problem::{ApiError, Kind};

/// Parameters that are known, each at most once.
#[derive(Debug)]
pub(crate) struct Parameters<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    /// Reads what follows the question mark (`application/x-www-form-urlencoded`).
    pub(crate) fn read(query: Option<&'a str>, known: &[&str]) -> Result<Self, ApiError> {
        let mut read = Vec::with_capacity(known.len());
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(invalid(&name, &format!("not known here, known: {known}")));
            }
            if read.iter().any(|(other, _)| *other == name) {
                return Err(invalid(&name, "stands here more than once"));
            }
            read.push((name, value));
        }
        Ok(Self(read))
    }

    /// The value of one, parsed; `None` when it is missing.
    pub(crate) fn get<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ApiError> {
        let found = self.0.iter().find(|(other, _)| other == name);
        let Some((_, value)) = found else { return Ok(None) };
        parse(value).map(Some).map_err(|detail| invalid(name, &detail))
    }
}

/// 400, and which parameter it is about.
pub(crate) fn invalid(name: &str, detail: &str) -> ApiError {
    ApiError::new(Kind::InvalidParameter, format!("{name}: {detail}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &str) -> Result<String, String> {
        Ok(value.to_owned())
    }

    #[test]
    fn each_parameter_is_decoded_and_found_by_its_name() {
        let query = Some("channel=pt-BR&name=a%20b+c%C3%A4");
        let read = Parameters::read(query, &["channel", "name", "other"]).unwrap();
        assert_eq!(read.get("channel", text).unwrap().unwrap(), "pt-BR");
        assert_eq!(read.get("name", text).unwrap().unwrap(), "a b cä");
        assert_eq!(read.get("other", text).unwrap(), None);
        assert!(Parameters::read(None, &[]).is_ok() && Parameters::read(Some(""), &[]).is_ok());
    }

    #[test]
    fn unknown_repeated_and_unusable_ones_are_named() {
        for query in ["chanel=es", "channel=es&channel=fr", "=", "channel=es&x"] {
            let error = Parameters::read(Some(query), &["channel"]).unwrap_err();
            assert!(format!("{error:?}").contains("InvalidParameter"), "{error:?}");
        }
        let read = Parameters::read(Some("gain=x"), &["gain"]).unwrap();
        let error = read.get::<u8>("gain", |_| Err("no number".to_owned())).unwrap_err();
        assert!(format!("{error:?}").contains("gain: no number"), "{error:?}");
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_read_back(value in "\\PC{0,20}", other in "\\PC{0,20}") {
            let mut encoder = form_urlencoded::Serializer::new(String::new());
            let query = encoder.append_pair("a", &value).append_pair("b", &other).finish();
            let read = Parameters::read(Some(&query), &["a", "b"]).unwrap();
            prop_assert_eq!(read.get("a", text).unwrap().unwrap(), value);
            prop_assert_eq!(read.get("b", text).unwrap().unwrap(), other);
        }

        #[test]
        fn nothing_that_is_read_is_unknown_or_there_twice(query in "[ab=&%+0-9]{0,30}") {
            if let Ok(read) = Parameters::read(Some(&query), &["a", "b"]) {
                prop_assert!(read.0.len() <= 2);
                prop_assert!(read.0.iter().all(|(name, _)| name == "a" || name == "b"));
            }
        }
    }
}
