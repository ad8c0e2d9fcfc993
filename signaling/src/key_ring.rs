//! The keys that a server takes at a time: several while one is replaced by another.
//!
//! To rotate, name the new key first and keep the old one after it until the tokens that it signed
//! have expired; clients that hold the old key itself go on meanwhile.

use std::fmt;

use crate::keys::{ApiKey, KeyError, MAX_KEYS, TokenKey};
use crate::tokens::ISSUER;

/// The name of a key that was given none.
pub const DEFAULT_NAME: &str = "default";

/// An API key with its name. The name is no secret: tokens carry it as `kid`, and as `iss` those
/// that another program mints with LiveKit's claims.
#[derive(Clone)]
pub struct NamedKey {
    name: String,
    api_key: ApiKey,
    token_key: TokenKey,
}

impl NamedKey {
    /// Names a key, and derives from it the secret that signs tokens.
    ///
    /// # Errors
    /// [`KeyError::BadName`].
    pub fn new(name: &str, api_key: ApiKey) -> Result<Self, KeyError> {
        let token_key = TokenKey::derive(&api_key);
        Self::with_token_key(name, api_key, token_key)
    }

    /// Names a key whose tokens are signed with a secret of their own.
    ///
    /// # Errors
    /// [`KeyError::BadName`].
    pub fn with_token_key(
        name: &str,
        api_key: ApiKey,
        token_key: TokenKey,
    ) -> Result<Self, KeyError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let well_formed = (1..=64).contains(&name.len()) && name.chars().all(allowed);
        // The issuer of the server's own tokens is told from those by their name alone.
        if !well_formed || name == ISSUER {
            return Err(KeyError::BadName(name.to_owned()));
        }
        let token_key = token_key.with_id(name);
        Ok(Self { name: name.to_owned(), api_key, token_key })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    #[must_use]
    pub fn api_key(&self) -> &ApiKey {
        &self.api_key
    }

    pub(crate) fn token_key(&self) -> &TokenKey {
        &self.token_key
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "NamedKey({}, …)", self.name)
    }
}

/// One to [`MAX_KEYS`] keys of different names. The first signs, all are accepted.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing(Vec<NamedKey>);

impl KeyRing {
    pub(crate) fn new(keys: Vec<NamedKey>) -> Result<Self, KeyError> {
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(KeyError::Count(keys.len()));
        }
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].iter().any(|other| other.name == key.name) {
                return Err(KeyError::SameName(key.name.clone()));
            }
        }
        Ok(Self(keys))
    }

    /// The key that signs.
    pub(crate) fn first(&self) -> &NamedKey {
        self.0.first().expect("a ring is made with one key at least")
    }

    /// The key of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&NamedKey> {
        self.0.iter().find(|key| key.name == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &NamedKey> {
        self.0.iter()
    }

    /// Whether it is one of the API keys. Every key is compared, so that the time does not tell
    /// which one it was.
    pub(crate) fn matches(&self, presented: &str) -> bool {
        self.0.iter().fold(false, |found, key| key.api_key.matches(presented) | found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn key(name: &str, letter: &str) -> NamedKey {
        NamedKey::new(name, ApiKey::parse(&letter.repeat(32), false).unwrap()).unwrap()
    }

    #[test]
    fn a_ring_takes_each_of_its_keys_and_signs_with_the_first() {
        let ring = KeyRing::new(vec![key("new", "n"), key("old", "o")]).unwrap();
        assert!(ring.matches(&"n".repeat(32)) && ring.matches(&"o".repeat(32)));
        assert!(!ring.matches(&"x".repeat(32)));
        assert_eq!(ring.first().token_key().id(), Some("new"));
        assert_eq!(ring.named("old").unwrap().name(), "old");
        assert!(ring.named("older").is_none());
    }

    #[test]
    fn names_are_well_formed_and_different() {
        let api_key = ApiKey::parse(&"n".repeat(32), false).unwrap();
        for name in ["", "a b", "dragoman", "ä", &"x".repeat(65)] {
            let error = NamedKey::new(name, api_key.clone()).unwrap_err();
            assert_eq!(error, KeyError::BadName(name.to_owned()));
        }
        let twice = KeyRing::new(vec![key("a", "n"), key("a", "o")]).unwrap_err();
        assert_eq!(twice, KeyError::SameName("a".to_owned()));
        assert_eq!(KeyRing::new(Vec::new()).unwrap_err(), KeyError::Count(0));
        let many = (0..17).map(|index| key(&format!("k{index}"), "n")).collect();
        assert_eq!(KeyRing::new(many).unwrap_err(), KeyError::Count(17));
    }

    #[test]
    fn debug_output_shows_the_name_alone() {
        assert_eq!(format!("{:?}", key("a", "n")), "NamedKey(a, …)");
    }
}
