//! Sealed bytes of any kind are opened or refused; nothing that was not sealed with the key is opened.
#![no_main]

use bedrock_core::{AesGcmSealer, KeyRing, Sealer, SecretKey};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let ring = KeyRing::new("k", SecretKey::from_bytes([7; 32])).expect("the name is valid");
    let sealer = AesGcmSealer::new(ring);
    let _ = AesGcmSealer::<KeyRing>::key_id(bytes);
    assert!(sealer.open(bytes, b"context").is_err());
    let sealed = sealer.seal(bytes, b"context").expect("anything is sealed");
    assert_eq!(sealer.open(&sealed, b"context").expect("it was sealed"), bytes);
});
