//! Code that outlives what it runs.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Something panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked: {0}")]
pub struct Panicked(String);

/// Runs what may panic. What it leaves half done must belong to the request alone, or be made anew.
///
/// # Errors
/// [`Panicked`], with the message of the panic.
pub fn catching<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Panicked(text.unwrap_or("without a message").to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        assert_eq!(catching(|| 7), Ok(7));
        let error = catching(|| panic!("at {}", 9)).expect_err("it panicked");
        assert_eq!(error.to_string(), "it panicked: at 9");
    }
}
