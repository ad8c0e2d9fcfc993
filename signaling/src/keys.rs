//! The server's secrets: the API key that opens the administration, and the key that signs tokens.
//!
//! A development key is recognisable by its prefix and refused outside development mode, so that a
//! key that was printed to a terminal can never guard a real server. Neither type shows its secret
//! in `Debug`, and neither implements `Display`.

use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every development key begins with.
pub const DEVELOPMENT_PREFIX: &str = "dev_";

/// Fewest characters of a key that an operator chooses: 32 hexadecimal digits are 128 bits.
pub const MIN_KEY_LENGTH: usize = 32;

/// Most characters of a key; it has to fit a header comfortably.
pub const MAX_KEY_LENGTH: usize = 512;

/// Most keys of a server: a token that names none of them is tried under each.
pub const MAX_KEYS: usize = 16;

/// Names the purpose of the derived key (RFC 5869 §3.2), so that no other use of the API key can
/// ever yield the same bytes.
const TOKEN_KEY_INFO: &[u8] = b"dragoman participant tokens v1";

/// Why a key is refused. No variant carries the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A development key where a real one is needed.
    #[error(
        "a development key ({DEVELOPMENT_PREFIX}…) is refused outside development mode: make a key with `openssl rand -hex 32`"
    )]
    DevelopmentKey,
    /// Too short to resist guessing.
    #[error(
        "the {what} has {length} characters, fewer than {MIN_KEY_LENGTH}: make one with `openssl rand -hex 32`"
    )]
    TooShort {
        /// Which secret.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// Too long for a header.
    #[error("the {what} has {length} characters, more than {MAX_KEY_LENGTH}")]
    TooLong {
        /// Which secret.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// Cannot be sent in an `Authorization` header.
    #[error(
        "the API key holds a space or a character outside printable ASCII: use letters and digits"
    )]
    BadCharacter,
    /// A key's name cannot be used.
    #[error(
        "the API key's name {0:?} cannot be used: take 1 to 64 of A-Z, a-z, 0-9, _ and -, but not \"dragoman\""
    )]
    BadName(String),
    /// Two keys have one name.
    #[error("two API keys are named {0:?}: each needs a name of its own")]
    SameName(String),
    /// None, or more than [`MAX_KEYS`].
    #[error("{0} API keys are configured: between 1 and {MAX_KEYS} are possible")]
    Count(usize),
}

/// The server's API key: whoever holds it may administer rooms and mint tokens.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// Checks a key from the configuration.
    ///
    /// # Errors
    /// [`KeyError::DevelopmentKey`] for a key with the development prefix while `development` is
    /// false; the other variants for a key that is too short, too long or cannot stand in a header.
    pub fn parse(key: &str, development: bool) -> Result<Self, KeyError> {
        if key.starts_with(DEVELOPMENT_PREFIX) && !development {
            return Err(KeyError::DevelopmentKey);
        }
        check_length("API key", key)?;
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::BadCharacter);
        }
        Ok(Self(key.to_owned()))
    }

    /// Makes a random key of 256 bits that only development mode accepts.
    #[must_use]
    pub fn generate_development() -> Self {
        let random: [u8; 32] = rand::random();
        let mut key = String::from(DEVELOPMENT_PREFIX);
        for byte in random {
            key.push_str(&format!("{byte:02x}"));
        }
        Self(key)
    }

    /// True for a key with the development prefix.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.0.starts_with(DEVELOPMENT_PREFIX)
    }

    /// The key itself, to print it once or to hand it to a client. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that depends on neither the content nor the length of either key: what
    /// is compared are digests.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        let ours = Sha256::digest(self.0.as_bytes());
        let theirs = Sha256::digest(presented.as_bytes());
        ours.ct_eq(&theirs).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

/// The secret that signs and checks participant tokens.
#[derive(Clone)]
pub struct TokenKey {
    secret: Vec<u8>,
    /// Which of a server's keys it belongs to: the `kid` of the tokens that it signs.
    id: Option<String>,
}

impl TokenKey {
    /// A secret of its own, from the configuration.
    ///
    /// # Errors
    /// [`KeyError::TooShort`] or [`KeyError::TooLong`].
    pub fn from_secret(secret: &str) -> Result<Self, KeyError> {
        check_length("token secret", secret)?;
        Ok(Self { secret: secret.as_bytes().to_vec(), id: None })
    }

    /// Derives the secret from the API key with HKDF-SHA-256 (RFC 5869), for servers that
    /// configure one secret only. Who learns the derived key learns nothing about the API key.
    #[must_use]
    pub fn derive(api_key: &ApiKey) -> Self {
        let mut secret = vec![0; 32];
        Hkdf::<Sha256>::new(None, api_key.0.as_bytes())
            .expand(TOKEN_KEY_INFO, &mut secret)
            .expect("HKDF-SHA-256 yields up to 8160 bytes");
        Self { secret, id: None }
    }

    /// Says which key of a server it is.
    pub(crate) fn with_id(self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self }
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenKey(…)")
    }
}

fn check_length(what: &'static str, key: &str) -> Result<(), KeyError> {
    let length = key.chars().count();
    if length < MIN_KEY_LENGTH {
        return Err(KeyError::TooShort { what, length });
    }
    if length > MAX_KEY_LENGTH {
        return Err(KeyError::TooLong { what, length });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const REAL_KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_development_key_is_refused_outside_development_mode() {
        let key = ApiKey::generate_development();
        assert!(key.is_development());
        assert_eq!(ApiKey::parse(key.expose(), false).unwrap_err(), KeyError::DevelopmentKey);
        assert!(ApiKey::parse(key.expose(), true).unwrap().is_development());
    }

    #[test]
    fn development_keys_differ_and_are_long() {
        let one = ApiKey::generate_development();
        let other = ApiKey::generate_development();
        assert_ne!(one.expose(), other.expose());
        assert_eq!(one.expose().len(), DEVELOPMENT_PREFIX.len() + 64);
    }

    #[test]
    fn weak_keys_are_refused_with_the_remedy() {
        for (key, text) in [
            ("", "fewer than 32"),
            ("secret", "openssl rand"),
            ("a key with spaces that is long enough", "printable ASCII"),
            ("schlüsselschlüsselschlüsselschlüssel", "printable ASCII"),
        ] {
            let error = ApiKey::parse(key, true).unwrap_err().to_string();
            assert!(error.contains(text), "{key:?}: {error}");
        }
        assert!(ApiKey::parse(&"x".repeat(513), false).is_err());
        assert!(ApiKey::parse(REAL_KEY, false).is_ok());
    }

    #[test]
    fn only_the_same_key_matches() {
        let key = ApiKey::parse(REAL_KEY, false).unwrap();
        assert!(key.matches(REAL_KEY));
        assert!(!key.matches(""));
        assert!(!key.matches(&REAL_KEY[1..]));
        assert!(!key.matches(&REAL_KEY.to_uppercase()));
    }

    #[test]
    fn the_derived_secret_depends_on_the_key_alone() {
        let key = ApiKey::parse(REAL_KEY, false).unwrap();
        let other = ApiKey::generate_development();
        assert_eq!(TokenKey::derive(&key).bytes(), TokenKey::derive(&key).bytes());
        assert_ne!(TokenKey::derive(&key).bytes(), TokenKey::derive(&other).bytes());
        assert_ne!(TokenKey::derive(&key).bytes(), REAL_KEY.as_bytes());
        assert_eq!(TokenKey::derive(&key).bytes().len(), 32);
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let key = ApiKey::parse(REAL_KEY, false).unwrap();
        let shown = format!("{key:?} {:?}", TokenKey::from_secret(REAL_KEY).unwrap());
        assert_eq!(shown, "ApiKey(…) TokenKey(…)");
    }
}
