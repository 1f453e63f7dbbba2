//! AES-256-GCM under data keys, which are wrapped by the keys of a provider.
//!
//! Sealed data is, in this order: `BSL1`; one byte of length and the name of the provider's key; two bytes of length (little
//! endian) and the wrapped data key; 12 bytes of nonce; the encrypted bytes; 16 bytes of tag. The tag covers all of it and
//! the context behind it; the header says its own lengths, so no header and context can be taken for others.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aes_gcm::aead::rand_core::RngCore;
use aes_gcm::aead::{AeadInPlace, KeyInit, OsRng};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use super::{SealError, Sealer};
use crate::error::Error;

const MAGIC: &[u8; 4] = b"BSL1";
const NONCE: usize = 12;
const TAG: usize = 16;

/// How often one data key is used. Nonces are drawn by chance, and after this many the odds that two are equal are
/// 2⁻⁴⁹ (the standard, NIST SP 800-38D, stops at 2⁻³²).
const SEALS_PER_KEY: u32 = 1 << 24;

/// How many unwrapped data keys are remembered for opening.
const KEYS_REMEMBERED: usize = 64;

/// 32 secret bytes: wiped when dropped, and never shown.
pub struct SecretKey(Box<[u8; 32]>);

impl SecretKey {
    /// A new key, drawn from the operating system.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn generate() -> Result<Self, Error> {
        let mut key = Self(Box::default());
        random(&mut *key.0)?;
        Ok(key)
    }

    /// A key from its bytes, which are to be random: a password is no key.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self(Box::new(bytes));
        bytes.zeroize();
        key
    }

    /// A key from base64, as files and environment variables hold it; white space around it is allowed.
    ///
    /// # Errors
    /// [`Error::Validation`], which does not quote the text, if it is not 32 bytes in base64.
    pub fn from_base64(text: &str) -> Result<Self, Error> {
        let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
        let mut key = Self(Box::default());
        match bytes {
            Ok(bytes) if bytes.len() == key.0.len() => key.0.copy_from_slice(&bytes),
            _ => return Err(Error::validation("a key must be 32 bytes in base64")),
        }
        Ok(key)
    }

    /// The bytes, for a provider that sends them to where they are wrapped.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// A data key as it may be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Name of the key that it is wrapped by, 1–255 bytes. Not secret.
    pub key_id: String,
    /// The wrapped key, 1–65,535 bytes.
    pub ciphertext: Vec<u8>,
}

/// Something that has keys and does not give them away: a file of keys, a key management service.
///
/// # Contract
/// A wrapped key is unwrapped as long as the key of its name is kept, also when newer keys are used for wrapping. What was
/// changed, in the name too, is [`SealError::Tampered`] or [`SealError::UnknownKey`].
///
/// `testing::check_key_provider` (features `testing` and `seal`) checks what can be checked from outside.
pub trait KeyProvider: Send + Sync {
    /// Encrypts a data key with the key that is current.
    ///
    /// # Errors
    /// Whatever keeps the provider from it.
    fn wrap_key(&self, key: &SecretKey) -> Result<WrappedKey, Error>;

    /// Decrypts a data key.
    ///
    /// # Errors
    /// [`SealError::UnknownKey`], [`SealError::Tampered`], and whatever keeps the provider from it.
    fn unwrap_key(&self, wrapped: &WrappedKey) -> Result<SecretKey, Error>;
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<T: KeyProvider + ?Sized> KeyProvider for $pointer<T> {
            fn wrap_key(&self, key: &SecretKey) -> Result<WrappedKey, Error> {
                (**self).wrap_key(key)
            }
            fn unwrap_key(&self, wrapped: &WrappedKey) -> Result<SecretKey, Error> {
                (**self).unwrap_key(wrapped)
            }
        }
    )*};
}
forward!(Arc, Box);

/// Keys in this process, by name: one that is current, and older ones that still open what was sealed with them.
#[derive(Debug)]
pub struct KeyRing {
    current: String,
    keys: BTreeMap<String, SecretKey>,
}

impl KeyRing {
    /// A ring with one key. Its name, 1–255 bytes, stands readable in everything that is sealed.
    ///
    /// # Errors
    /// [`Error::Validation`] for a name that is empty or too long.
    pub fn new(key_id: impl Into<String>, key: SecretKey) -> Result<Self, Error> {
        let current = key_id.into();
        Self { current: current.clone(), keys: BTreeMap::new() }.retired(current, key)
    }

    /// The same with an older key, which opens and does not seal.
    ///
    /// # Errors
    /// [`Error::Validation`] for a name that is empty, too long or taken.
    pub fn retired(mut self, key_id: impl Into<String>, key: SecretKey) -> Result<Self, Error> {
        let key_id = key_id.into();
        if !(1..=255).contains(&key_id.len()) {
            return Err(Error::validation(format!(
                "the name of a key has {} bytes; it must have 1 to 255",
                key_id.len()
            )));
        }
        if self.keys.contains_key(&key_id) {
            return Err(Error::validation(format!("two keys have the name {key_id:?}")));
        }
        self.keys.insert(key_id, key);
        Ok(self)
    }

    fn key(&self, key_id: &str) -> Result<&SecretKey, Error> {
        self.keys.get(key_id).ok_or_else(|| SealError::UnknownKey { key_id: key_id.to_owned() }.into())
    }
}

/// What a wrapped key is bound to, so that it can't be taken for sealed data or for one of another name.
fn wrapping_context(key_id: &str) -> Vec<u8> {
    [b"bedrock data key of ", key_id.as_bytes()].concat()
}

impl KeyProvider for KeyRing {
    fn wrap_key(&self, key: &SecretKey) -> Result<WrappedKey, Error> {
        let mut ciphertext = Vec::with_capacity(NONCE + 32 + TAG);
        encrypt(self.key(&self.current)?, &mut ciphertext, key.expose(), &wrapping_context(&self.current))?;
        Ok(WrappedKey { key_id: self.current.clone(), ciphertext })
    }

    fn unwrap_key(&self, wrapped: &WrappedKey) -> Result<SecretKey, Error> {
        let key = self.key(&wrapped.key_id)?;
        let context = wrapping_context(&wrapped.key_id);
        let plaintext = Zeroizing::new(decrypt(key, &wrapped.ciphertext, 0, &context)?);
        let mut data_key = SecretKey(Box::default());
        if plaintext.len() != data_key.0.len() {
            return Err(SealError::Tampered.into());
        }
        data_key.0.copy_from_slice(&plaintext);
        Ok(data_key)
    }
}

/// Encrypts with AES-256-GCM, under data keys that are made here, used for many records and stored with each of them, wrapped
/// by the provider's key.
///
/// Costs about 100 bytes a record, and no call of the provider but the first and one for each other data key that is met.
///
/// ```
/// use bedrock_core::{AesGcmSealer, KeyRing, Sealer, SecretKey};
///
/// let old = AesGcmSealer::new(KeyRing::new("2026", SecretKey::from_bytes([7; 32]))?);
/// let sealed = old.seal(b"what was said", b"session:42")?;
/// assert!(old.open(&sealed, b"session:43").is_err());
///
/// // A new key: the old one still opens, and each record that is resealed needs it no more.
/// let keys = KeyRing::new("2027", SecretKey::generate()?)?.retired("2026", SecretKey::from_bytes([7; 32]))?;
/// let new = AesGcmSealer::new(keys);
/// let resealed = new.reseal(&sealed, b"session:42")?;
/// assert_eq!(new.open(&resealed, b"session:42")?, b"what was said");
/// assert_eq!(AesGcmSealer::<KeyRing>::key_id(&resealed)?, "2027");
/// # Ok::<(), bedrock_core::Error>(())
/// ```
pub struct AesGcmSealer<P> {
    provider: P,
    sealing: Mutex<Option<DataKey>>,
    /// Most recently used last.
    opening: Mutex<VecDeque<(WrappedKey, Arc<SecretKey>)>>,
}

struct DataKey {
    key: Arc<SecretKey>,
    wrapped: WrappedKey,
    seals: u32,
}

impl<P> fmt::Debug for AesGcmSealer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AesGcmSealer").finish_non_exhaustive()
    }
}

impl<P> AesGcmSealer<P> {
    /// A sealer with the keys of this provider.
    pub fn new(provider: P) -> Self {
        Self { provider, sealing: Mutex::default(), opening: Mutex::default() }
    }

    /// Forgets all data keys. The next call asks the provider: after its current key was changed, or one withdrawn.
    pub fn rotate(&self) {
        *self.sealing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.opening.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Name of the provider's key that sealed data needs. Not proved until the data is opened.
    ///
    /// # Errors
    /// [`Error::Seal`] if it is no sealed data.
    pub fn key_id(sealed: &[u8]) -> Result<String, Error> {
        Ok(Header::read(sealed)?.wrapped.key_id)
    }
}

impl<P: KeyProvider> AesGcmSealer<P> {
    fn key_to_seal(&self) -> Result<(Arc<SecretKey>, WrappedKey), Error> {
        let mut sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        if sealing.as_ref().is_none_or(|key| key.seals >= SEALS_PER_KEY) {
            let key = SecretKey::generate()?;
            let wrapped = self.provider.wrap_key(&key)?;
            let (name, length) = (wrapped.key_id.len(), wrapped.ciphertext.len());
            if !(1..=255).contains(&name) || !(1..=65_535).contains(&length) {
                return Err(SealError::WrappedKey { name, length }.into());
            }
            let key = Arc::new(key);
            self.remember(&wrapped, &key);
            *sealing = Some(DataKey { key, wrapped, seals: 0 });
        }
        let Some(current) = sealing.as_mut() else { unreachable!("it was set above") };
        current.seals += 1;
        Ok((current.key.clone(), current.wrapped.clone()))
    }

    fn key_to_open(&self, wrapped: &WrappedKey) -> Result<Arc<SecretKey>, Error> {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = opening.iter().position(|(known, _)| known == wrapped)
            && let Some((wrapped, key)) = opening.remove(index)
        {
            opening.push_back((wrapped, key.clone()));
            return Ok(key);
        }
        // Not while others wait: a provider may be far away.
        drop(opening);
        let key = Arc::new(self.provider.unwrap_key(wrapped)?);
        self.remember(wrapped, &key);
        Ok(key)
    }

    fn remember(&self, wrapped: &WrappedKey, key: &Arc<SecretKey>) {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if opening.len() >= KEYS_REMEMBERED {
            opening.pop_front();
        }
        opening.push_back((wrapped.clone(), key.clone()));
    }
}

impl<P: KeyProvider> Sealer for AesGcmSealer<P> {
    fn seal(&self, plaintext: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
        let (key, wrapped) = self.key_to_seal()?;
        let header = 4 + 1 + wrapped.key_id.len() + 2 + wrapped.ciphertext.len();
        let mut sealed = Vec::with_capacity(header + NONCE + plaintext.len() + TAG);
        sealed.extend(MAGIC);
        // Both fit: `key_to_seal` looked.
        sealed.push(wrapped.key_id.len() as u8);
        sealed.extend(wrapped.key_id.as_bytes());
        sealed.extend((wrapped.ciphertext.len() as u16).to_le_bytes());
        sealed.extend(&wrapped.ciphertext);
        encrypt(&key, &mut sealed, plaintext, context)?;
        Ok(sealed)
    }

    fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, Error> {
        let header = Header::read(sealed)?;
        let key = self.key_to_open(&header.wrapped)?;
        decrypt(&key, sealed, header.length, context)
    }
}

struct Header {
    wrapped: WrappedKey,
    /// In bytes.
    length: usize,
}

impl Header {
    fn read(sealed: &[u8]) -> Result<Self, SealError> {
        let truncated = || SealError::Truncated { length: sealed.len() };
        let rest = sealed.strip_prefix(MAGIC).ok_or(SealError::NotSealed { length: sealed.len() })?;
        let (&length, rest) = rest.split_first().ok_or_else(truncated)?;
        let (key_id, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(truncated)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(truncated)?;
        let (ciphertext, rest) =
            rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or_else(truncated)?;
        if rest.len() < NONCE + TAG {
            return Err(truncated());
        }
        let key_id = std::str::from_utf8(key_id).map_err(|_| SealError::Tampered)?.to_owned();
        let wrapped = WrappedKey { key_id, ciphertext: ciphertext.to_vec() };
        Ok(Self { wrapped, length: sealed.len() - rest.len() })
    }
}

fn cipher(key: &SecretKey) -> Aes256Gcm {
    Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(key.expose()))
}

/// Appends nonce, encrypted bytes and tag to what is in `sealed`, all of which is authenticated with the context.
fn encrypt(key: &SecretKey, sealed: &mut Vec<u8>, plaintext: &[u8], context: &[u8]) -> Result<(), Error> {
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    let associated = [sealed, context].concat();
    sealed.extend(nonce);
    let begin = sealed.len();
    sealed.extend(plaintext);
    let tag = cipher(key)
        .encrypt_in_place_detached(Nonce::from_slice(&nonce), &associated, &mut sealed[begin..])
        .map_err(|_| SealError::TooLarge { length: plaintext.len() })?;
    sealed.extend(tag);
    Ok(())
}

/// Undoes [`encrypt`] of bytes that begin with `header` others.
fn decrypt(key: &SecretKey, sealed: &[u8], header: usize, context: &[u8]) -> Result<Vec<u8>, Error> {
    let truncated = SealError::Truncated { length: sealed.len() };
    let (header, rest) = sealed.split_at_checked(header).ok_or_else(|| truncated.clone())?;
    let (nonce, rest) = rest.split_at_checked(NONCE).ok_or_else(|| truncated.clone())?;
    let length = rest.len().checked_sub(TAG).ok_or(truncated)?;
    let (ciphertext, tag) = rest.split_at(length);
    let mut plaintext = ciphertext.to_vec();
    cipher(key)
        .decrypt_in_place_detached(
            Nonce::from_slice(nonce),
            &[header, context].concat(),
            &mut plaintext,
            Tag::from_slice(tag),
        )
        .map_err(|_| SealError::Tampered)?;
    Ok(plaintext)
}

fn random(bytes: &mut [u8]) -> Result<(), Error> {
    OsRng.try_fill_bytes(bytes).map_err(|error| SealError::NoRandomness { reason: error.to_string() }.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{check_key_provider, check_sealer};

    fn ring(id: &str, byte: u8) -> KeyRing {
        KeyRing::new(id, SecretKey::from_bytes([byte; 32])).unwrap()
    }

    fn why(result: Result<Vec<u8>, Error>) -> SealError {
        match result {
            Err(Error::Seal(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_sealer_and_its_keys_keep_to_the_laws() {
        let keys: Arc<dyn KeyProvider> = Arc::new(Box::new(ring("a", 1)));
        check_key_provider(&keys);
        let sealer: Box<dyn Sealer> = Box::new(Arc::new(AesGcmSealer::new(keys)));
        check_sealer(&sealer);
    }

    #[test]
    fn what_the_first_version_sealed_is_opened() {
        let sealed = STANDARD.decode(SEALED).unwrap();
        assert_eq!(AesGcmSealer::new(ring("first", 7)).open(&sealed, b"context").unwrap(), b"Hello, world.");
    }
    /// Made by another implementation (Python's `cryptography`) from the description of the format: data key 0…31, nonces
    /// 100…111 and 200…211.
    const SEALED: &str = concat!(
        "QlNMMQVmaXJzdDwAZGVmZ2hpamtsbW5v5MjqDl3dRpCAMwS+5297SACVLegJHQlmAbkubhr/97gb",
        "72Hu1fo7vreEaYRe0rwoyMnKy8zNzs/Q0dLTWR0Nt+ng21cbTnPaMPp56m1+hGjR+V4dOYyPZSk=",
    );

    #[test]
    fn keys_are_never_shown() {
        let keys = ring("name", 0xab).retired("older", SecretKey::from_bytes([0xcd; 32])).unwrap();
        let shown = format!("{:?} {:?} {keys:#?} {:?}", SecretKey::from_bytes([0xab; 32]), keys, AesGcmSealer::new(()));
        assert!(shown.contains("older"), "{shown}");
        for secret in ["171", "ab", "AB", "q6ur", "205", "cd", "zc3N"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        let text = STANDARD.encode([0xab; 31]);
        let error = SecretKey::from_base64(&text).unwrap_err();
        assert!(!error.to_string().contains("q6ur"), "{error}");
    }

    #[test]
    fn a_key_is_read_from_base64() {
        let text = format!(" {}\n", STANDARD.encode([5; 32]));
        assert_eq!(SecretKey::from_base64(&text).unwrap().expose(), &[5; 32]);
        for bad in ["", "BQ==", "*", &STANDARD.encode([5; 33])] {
            assert!(matches!(SecretKey::from_base64(bad), Err(Error::Validation { .. })), "{bad}");
        }
        let (a, b) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        assert!(a.expose() != b.expose() && a.expose() != &[0; 32], "keys are drawn by chance");
    }

    #[test]
    fn keys_are_changed_without_losing_what_was_sealed() {
        let old = AesGcmSealer::new(ring("old", 1));
        let sealed = old.seal(b"text", b"c").unwrap();
        let new = AesGcmSealer::new(ring("new", 2).retired("old", SecretKey::from_bytes([1; 32])).unwrap());
        let resealed = new.reseal(&sealed, b"c").unwrap();
        assert_eq!(AesGcmSealer::<()>::key_id(&sealed).unwrap(), "old");
        assert_eq!(AesGcmSealer::<()>::key_id(&resealed).unwrap(), "new");
        assert_eq!(AesGcmSealer::new(ring("new", 2)).open(&resealed, b"c").unwrap(), b"text");
        assert_eq!(why(old.open(&resealed, b"c")), SealError::UnknownKey { key_id: "new".into() });
        // Another key of the same name.
        assert_eq!(why(AesGcmSealer::new(ring("new", 3)).open(&resealed, b"c")), SealError::Tampered);
    }

    /// Counts what is asked of a ring.
    struct Counting(KeyRing, AtomicUsize, AtomicUsize);

    impl KeyProvider for Counting {
        fn wrap_key(&self, key: &SecretKey) -> Result<WrappedKey, Error> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.wrap_key(key)
        }
        fn unwrap_key(&self, wrapped: &WrappedKey) -> Result<SecretKey, Error> {
            self.2.fetch_add(1, Ordering::SeqCst);
            self.0.unwrap_key(wrapped)
        }
    }

    #[test]
    fn the_provider_is_asked_once_a_data_key() {
        let keys = Arc::new(Counting(ring("a", 1), AtomicUsize::new(0), AtomicUsize::new(0)));
        let asked = |keys: &Counting| (keys.1.load(Ordering::SeqCst), keys.2.load(Ordering::SeqCst));
        let writer = AesGcmSealer::new(keys.clone());
        let sealed: Vec<_> = (0..10).map(|_| writer.seal(b"text", b"").unwrap()).collect();
        writer.open(&sealed[3], b"").unwrap();
        assert_eq!(asked(&keys), (1, 0), "what was sealed here is opened without asking");
        let reader = AesGcmSealer::new(keys.clone());
        for sealed in &sealed {
            reader.open(sealed, b"").unwrap();
        }
        assert_eq!(asked(&keys), (1, 1));
        writer.rotate();
        writer.open(&sealed[0], b"").unwrap();
        writer.seal(b"text", b"").unwrap();
        assert_eq!(asked(&keys), (2, 2), "after a rotation it is asked again");

        // A data key that was used up, and more of them than are remembered.
        for _ in 0..2 * KEYS_REMEMBERED {
            writer.sealing.lock().unwrap().as_mut().unwrap().seals = SEALS_PER_KEY;
            writer.seal(b"text", b"").unwrap();
        }
        assert_eq!(asked(&keys), (2 + 2 * KEYS_REMEMBERED, 2));
        assert_eq!(writer.opening.lock().unwrap().len(), KEYS_REMEMBERED);
        assert_eq!(writer.open(&sealed[0], b"").unwrap(), b"text", "what is forgotten is asked for");
    }

    #[test]
    fn names_of_keys_fit_in_a_header() {
        let key = || SecretKey::from_bytes([1; 32]);
        for bad in ["", &"x".repeat(256)] {
            assert!(matches!(KeyRing::new(bad, key()), Err(Error::Validation { .. })), "{bad:?}");
        }
        assert!(matches!(ring("a", 1).retired("a", key()), Err(Error::Validation { .. })));
        check_sealer(&AesGcmSealer::new(ring("x", 1)));
        let long = AesGcmSealer::new(ring(&"x".repeat(255), 1));
        assert_eq!(long.open(&long.seal(b"text", b"").unwrap(), b"").unwrap(), b"text");

        struct Large;
        impl KeyProvider for Large {
            fn wrap_key(&self, _: &SecretKey) -> Result<WrappedKey, Error> {
                Ok(WrappedKey { key_id: "large".into(), ciphertext: vec![0; 65_536] })
            }
            fn unwrap_key(&self, _: &WrappedKey) -> Result<SecretKey, Error> {
                SecretKey::generate()
            }
        }
        let error = why(AesGcmSealer::new(Large).seal(b"", b""));
        assert_eq!(error, SealError::WrappedKey { name: 5, length: 65_536 });
    }

    #[test]
    fn a_context_is_no_part_of_the_header() {
        let sealer = AesGcmSealer::new(ring("a", 1));
        let sealed = sealer.seal(b"text", b"ab").unwrap();
        for context in [&b""[..], b"a", b"abc", b"b", b"ab\0"] {
            assert_eq!(why(sealer.open(&sealed, context)), SealError::Tampered, "{context:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_and_no_bit_may_change(
            plaintext in prop::collection::vec(any::<u8>(), 0..200),
            context in prop::collection::vec(any::<u8>(), 0..40),
            place in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let sealer = AesGcmSealer::new(ring("key", 9));
            let mut sealed = sealer.seal(&plaintext, &context).unwrap();
            prop_assert_eq!(&sealer.open(&sealed, &context).unwrap(), &plaintext);
            let place = place.index(sealed.len());
            sealed[place] ^= 1 << bit;
            prop_assert!(matches!(sealer.open(&sealed, &context), Err(Error::Seal(_))), "bit {} of byte {}", bit, place);
            sealed[place] ^= 1 << bit;
            prop_assert!(matches!(sealer.open(&sealed[..place], &context), Err(Error::Seal(_))), "cut at {}", place);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), magic in any::<bool>()) {
            let sealed = if magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            prop_assert!(AesGcmSealer::new(ring("key", 9)).open(&sealed, b"").is_err());
        }
    }
}
