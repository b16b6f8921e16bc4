//! Ed25519 keys, in the forms of the note ecosystem: `vkey` for the public half, `PRIVATE+KEY+...` for the private one.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::SigningError;
use crate::config::Name;

/// Ed25519, as [signed-note](https://c2sp.org/signed-note#signature-types) numbers it.
const ALGORITHM: u8 = 1;
/// What every name of a key of ours begins with.
const PREFIX: &str = "bastion-audit/";
const PRIVATE: &str = "PRIVATE+KEY+";

/// The name of an instance's keys and the origin of its log: `bastion-audit/INSTANCE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// That of an instance (`metadata.name` of the Bastion).
    pub fn of(instance: &Name) -> Self {
        Self(format!("{PREFIX}{instance}"))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The instance's own name.
    pub fn instance(&self) -> &str {
        self.0.strip_prefix(PREFIX).unwrap_or_default()
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let name = Name::new(text.strip_prefix(PREFIX)?).ok()?;
        Some(Self::of(&name))
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no key of ours. Never holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAKey {
    /// Not a vkey.
    #[error("this is no public key: NAME+ID+BASE64, as 'bastion-audit log key' prints it")]
    Public,
    /// Not a private key.
    #[error(
        "this is no signing key: one line that begins with {PRIVATE}; make one with: bastion-audit log new-key FILE"
    )]
    Private,
    /// The name is none of an instance of ours.
    #[error("the key's name is not {PREFIX}INSTANCE")]
    Name,
    /// Another kind of key.
    #[error("the key is not an Ed25519 key")]
    Algorithm,
    /// The id does not belong to the rest.
    #[error("the key's id does not fit its name and bytes: a part of it was changed or lost")]
    Id,
}

/// The public half of a signing key.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    name: KeyName,
    bytes: [u8; 32],
}

impl PublicKey {
    /// Parses a vkey: `bastion-audit/INSTANCE+ID+BASE64`.
    pub fn parse(vkey: &str) -> Result<Self, NotAKey> {
        let (name, rest) = vkey.split_once('+').ok_or(NotAKey::Public)?;
        let (id, key) = rest.split_once('+').ok_or(NotAKey::Public)?;
        let key = STANDARD.decode(key).map_err(|_| NotAKey::Public)?;
        let name = KeyName::parse(name).ok_or(NotAKey::Name)?;
        let (algorithm, bytes) = key.split_first().ok_or(NotAKey::Public)?;
        if *algorithm != ALGORITHM {
            return Err(NotAKey::Algorithm);
        }
        let bytes = bytes.try_into().map_err(|_| NotAKey::Public)?;
        let key = Self { name, bytes };
        if id == key.id_text() {
            Ok(key)
        } else {
            Err(NotAKey::Id)
        }
    }

    /// As it is printed, kept and given to verifiers.
    pub fn vkey(&self) -> String {
        let key = STANDARD.encode(self.tagged());
        format!("{}+{}+{key}", self.name, self.id_text())
    }

    /// Whose it is.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Name and id, for messages.
    pub fn label(&self) -> String {
        format!("{}+{}", self.name, self.id_text())
    }

    fn id_text(&self) -> String {
        format!("{:08x}", signed_note::Verifier::key_id(self))
    }

    fn tagged(&self) -> [u8; 33] {
        let mut tagged = [ALGORITHM; 33];
        for (to, from) in tagged.iter_mut().skip(1).zip(self.bytes) {
            *to = from;
        }
        tagged
    }
}

impl signed_note::Verifier for PublicKey {
    fn name(&self) -> &str {
        self.name.as_str()
    }

    fn key_id(&self) -> u32 {
        signed_note::key_id(self.name.as_str(), &self.tagged())
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.bytes)
            .verify(text, signature)
            .is_ok()
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.vkey())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = NotAKey;
    fn try_from(vkey: String) -> Result<Self, NotAKey> {
        Self::parse(&vkey)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.vkey()
    }
}

/// The private half. Secret: no Clone, Display or Serialize.
pub(super) struct SecretKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SecretKey {
    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn sign(&self, text: &[u8]) -> Option<[u8; 64]> {
        self.pair.sign(text).as_ref().try_into().ok()
    }

    /// Parses the one line of a key file.
    pub(super) fn parse(text: &[u8]) -> Result<Self, NotAKey> {
        let text = std::str::from_utf8(text).map_err(|_| NotAKey::Private)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let rest = text.strip_prefix(PRIVATE).ok_or(NotAKey::Private)?;
        let (name, rest) = rest.split_once('+').ok_or(NotAKey::Private)?;
        let (id, seed) = rest.split_once('+').ok_or(NotAKey::Private)?;
        let seed = Zeroizing::new(STANDARD.decode(seed).map_err(|_| NotAKey::Private)?);
        let name = KeyName::parse(name).ok_or(NotAKey::Name)?;
        let (algorithm, seed) = seed.split_first().ok_or(NotAKey::Private)?;
        if *algorithm != ALGORITHM {
            return Err(NotAKey::Algorithm);
        }
        let key = Self::from_seed(name, seed)?;
        if id == key.public.id_text() {
            Ok(key)
        } else {
            Err(NotAKey::Id)
        }
    }

    fn from_seed(name: KeyName, seed: &[u8]) -> Result<Self, NotAKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NotAKey::Private)?;
        let bytes = pair.public_key().as_ref();
        let bytes = bytes.try_into().map_err(|_| NotAKey::Private)?;
        let public = PublicKey { name, bytes };
        Ok(Self { pair, public })
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKey({})", self.public.label())
    }
}

/// A new key as the line of a key file. Wiped when dropped.
pub struct KeyText {
    private: Zeroizing<String>,
    public: PublicKey,
}

impl KeyText {
    /// A new key by this name.
    pub fn generate(name: &KeyName) -> Result<Self, SigningError> {
        let mut tagged = Zeroizing::new([ALGORITHM; 33]);
        let (_, seed) = tagged.split_first_mut().ok_or(SigningError::NoRandomness)?;
        aws_lc_rs::rand::fill(seed).map_err(|_| SigningError::NoRandomness)?;
        let key =
            SecretKey::from_seed(name.clone(), seed).map_err(|_| SigningError::NoRandomness)?;
        let encoded = Zeroizing::new(STANDARD.encode(*tagged));
        let id = key.public.id_text();
        Ok(Self {
            private: Zeroizing::new(format!("{PRIVATE}{name}+{id}+{}\n", *encoded)),
            public: key.public,
        })
    }

    /// The key file's content. Secret.
    pub fn private(&self) -> &str {
        &self.private
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyText({})", self.public.label())
    }
}
