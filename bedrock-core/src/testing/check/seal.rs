//! The laws of sealers and of key providers.

use crate::error::Error;
use crate::seal::Sealer;
#[cfg(feature = "seal")]
use crate::seal::{KeyProvider, SecretKey, WrappedKey};

fn is_refused(result: &Result<Vec<u8>, Error>) -> bool {
    matches!(result, Err(Error::Seal(_)))
}

/// Checks a sealer.
///
/// Laws: what was sealed is opened, whatever its length, and sealed anew; it does not stand in the sealed data; it is opened
/// under its own context alone; data that differs in any bit, is cut anywhere, goes on, or was never sealed is refused.
///
/// # Panics
/// If a law is broken.
pub fn check_sealer(sealer: &dyn Sealer) {
    let open = |sealed: &[u8], context: &[u8]| sealer.open(sealed, context).expect("what was sealed is opened");
    for length in [0, 1, 15, 16, 17, 1000, 70_000] {
        let plaintext: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let sealed = sealer.seal(&plaintext, b"check").expect("bytes are sealed");
        assert_eq!(open(&sealed, b"check"), plaintext, "what was sealed is opened, {length} bytes");
        let again = sealer.reseal(&sealed, b"check").expect("what was sealed is sealed anew");
        assert_eq!(open(&again, b"check"), plaintext, "what was sealed anew is opened, {length} bytes");
    }

    let plaintext = b"an account number";
    let sealed = sealer.seal(plaintext, b"record 1").expect("bytes are sealed");
    assert!(!sealed.windows(8).any(|window| plaintext.windows(8).any(|part| part == window)), "it can't be read");
    for context in [&b""[..], b"record 2", b"record 1 ", b"record", b"\0record 1"] {
        assert!(is_refused(&sealer.open(&sealed, context)), "another context is refused: {context:?}");
    }
    let mut changed = sealed.clone();
    for place in 0..sealed.len() {
        for bit in 0..8 {
            changed[place] ^= 1 << bit;
            let result = sealer.open(&changed, b"record 1");
            assert!(is_refused(&result), "bit {bit} of byte {place} is noticed: {result:?}");
            changed[place] ^= 1 << bit;
        }
        let result = sealer.open(&sealed[..place], b"record 1");
        assert!(is_refused(&result), "what is cut after {place} bytes is refused: {result:?}");
    }
    let longer = [&sealed[..], b"\0"].concat();
    assert!(is_refused(&sealer.open(&longer, b"record 1")), "what goes on is refused");
    assert!(is_refused(&sealer.open(plaintext, b"record 1")), "what was never sealed is refused");
    assert_eq!(open(&sealed, b"record 1"), plaintext, "nothing lingers");
}

/// Checks a provider of keys.
///
/// Laws: what it wraps it unwraps; the key does not stand in the wrapped one; names and wrapped keys fit in a header; what
/// differs in any bit, is cut anywhere or has another name is refused.
///
/// # Panics
/// If a law is broken.
#[cfg(feature = "seal")]
pub fn check_key_provider(provider: &dyn KeyProvider) {
    let key = SecretKey::generate().expect("a key is drawn");
    let wrapped = provider.wrap_key(&key).expect("a key is wrapped");
    assert!((1..=255).contains(&wrapped.key_id.len()), "a name fits: {:?}", wrapped.key_id);
    assert!((1..=65_535).contains(&wrapped.ciphertext.len()), "a wrapped key fits");
    assert!(!wrapped.ciphertext.windows(8).any(|window| window == &key.expose()[..8]), "the key can't be read");
    let unwrapped = provider.unwrap_key(&wrapped).expect("what was wrapped is unwrapped");
    assert!(unwrapped.expose() == key.expose(), "what was wrapped is unwrapped");

    let refused = |wrapped: &WrappedKey| matches!(provider.unwrap_key(wrapped), Err(Error::Seal(_)));
    let mut changed = wrapped.clone();
    for place in 0..wrapped.ciphertext.len() {
        for bit in 0..8 {
            changed.ciphertext[place] ^= 1 << bit;
            assert!(refused(&changed), "bit {bit} of byte {place} is noticed");
            changed.ciphertext[place] ^= 1 << bit;
        }
        let cut = WrappedKey { ciphertext: wrapped.ciphertext[..place].to_vec(), ..wrapped.clone() };
        assert!(refused(&cut), "what is cut after {place} bytes is refused");
    }
    let renamed = WrappedKey { key_id: format!("{}-never", wrapped.key_id), ..wrapped };
    assert!(refused(&renamed), "another name is refused");
}

#[cfg(test)]
mod tests {
    use super::super::tests::fails;
    use super::*;
    use crate::testing::ChecksumSealer;

    #[test]
    fn the_double_keeps_to_the_laws() {
        check_sealer(&ChecksumSealer);
    }

    /// Forgets what the data is for, or writes it as it is.
    struct Careless {
        context: bool,
        hidden: bool,
    }

    impl Sealer for Careless {
        fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
            let sealed = ChecksumSealer.seal(plaintext, if self.context { context } else { b"" })?;
            Ok(if self.hidden { sealed } else { [&sealed[..], plaintext].concat() })
        }
        fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
            let end = if self.hidden { sealed.len() } else { sealed.len().saturating_sub(12) / 2 + 12 };
            ChecksumSealer.open(&sealed[..end.min(sealed.len())], if self.context { context } else { b"" })
        }
    }

    #[test]
    fn a_broken_sealer_is_found() {
        fails(|| check_sealer(&Careless { context: false, hidden: true }), "another context is refused");
        fails(|| check_sealer(&Careless { context: true, hidden: false }), "it can't be read");
    }
}
