//! The DTLS certificate of this process: one self-signed ECDSA P-256 key, made at first use.
//!
//! A fresh key per process is what browsers do per connection (RFC 8827 section 6.5); sharing it
//! between the peers of one process saves a key generation per call and tells nobody anything,
//! since all of them talk to the same server anyway.

use std::sync::OnceLock;

use rtc::crypto::SignatureScheme;
use rtc::peer_connection::certificate::{CertificateParams, RTCCertificate};

use super::TransportError;

/// The certificate all peers of this process present.
pub(super) fn process_certificate() -> Result<RTCCertificate, TransportError> {
    static CERTIFICATE: OnceLock<RTCCertificate> = OnceLock::new();
    if let Some(certificate) = CERTIFICATE.get() {
        return Ok(certificate.clone());
    }
    let certificate = generate()?;
    Ok(CERTIFICATE.get_or_init(|| certificate).clone())
}

fn generate() -> Result<RTCCertificate, TransportError> {
    let provider = rtc::crypto::default_provider()
        .map_err(|error| TransportError::Stack(error.to_string()))?;
    let params = CertificateParams::new(vec!["dragoman".to_owned()])
        .map_err(|error| TransportError::Stack(error.to_string()))?;
    RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params)
        .map_err(|error| TransportError::Stack(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_of_the_process_presents_the_same_certificate() {
        assert!(process_certificate().unwrap() == process_certificate().unwrap());
    }
}
