//! Access tokens: as they come, and with any payload under our own signature.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use signaling::TokenKey;
use signaling::tokens::verify_signed;

static KEY: LazyLock<TokenKey> = LazyLock::new(|| {
    TokenKey::from_secret("0123456789abcdef0123456789abcdef").expect("a good secret")
});

fuzz_target!(|data: &[u8]| {
    let Ok(payload) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    if let Ok((identity, _)) = verify_signed(&KEY, &payload) {
        assert_eq!(Some(identity.as_str()), payload["sub"].as_str());
        assert_eq!(payload["iss"].as_str(), Some("dragoman"));
        assert!(payload["exp"].as_f64() > Some(0.0) && payload["nbf"].is_number());
    }
});
