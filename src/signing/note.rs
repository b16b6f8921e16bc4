//! Signed notes: c2sp.org/signed-note, by the crate `signed_note`, with the primitives that everything else here uses.

use signed_note::{Note, NoteError, Signature, VerificationError, Verifier as _, Verifiers};

use super::file::FileSigner;
use super::{Digest, KeyName, LONGEST_TEXT, NotAKey, PublicKey, Signer as _, SigningError};

/// What an instance signs. Each kind has a first line of its own, so that no note can be taken for one of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// The head of the log: [tlog-checkpoint](https://c2sp.org/tlog-checkpoint), the first line being the origin.
    Log,
    /// A checkpoint of a recording.
    Recording,
    /// The head of the chain of audit events.
    Audit,
    /// One key giving way to another.
    Key,
}

impl NoteKind {
    const ALL: [Self; 4] = [Self::Log, Self::Recording, Self::Audit, Self::Key];

    /// The first line of a note of this kind, without its line feed.
    pub fn first_line(self, name: &KeyName) -> String {
        let kind = match self {
            Self::Log => "",
            Self::Recording => "/recording",
            Self::Audit => "/audit",
            Self::Key => "/key",
        };
        format!("{name}{kind}")
    }

    /// Which kind of note of `name` begins with this line.
    pub fn of(first_line: &str, name: &KeyName) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.first_line(name) == first_line)
    }
}

/// Whether `text` can be signed: as the crate has it, and of a kind that `known` knows by its first line.
pub(super) fn check_text(text: &str, known: impl Fn(&str) -> bool) -> Result<(), SigningError> {
    // A blank line at its end would be where the signatures begin.
    if text.len() > LONGEST_TEXT || !text.ends_with('\n') || text.ends_with("\n\n") {
        return Err(SigningError::NotAText);
    }
    if text
        .bytes()
        .any(|byte| byte != b'\n' && byte.is_ascii_control())
    {
        return Err(SigningError::NotAText);
    }
    let first = text.lines().next().unwrap_or_default();
    if known(first) {
        Ok(())
    } else {
        Err(SigningError::NotOurs(super::asking::printable(first)))
    }
}

/// Keys whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<PublicKey>);

impl Keys {
    /// These, each once.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut all: Vec<PublicKey> = Vec::new();
        for key in keys {
            if !all.contains(&key) {
                all.push(key);
            }
        }
        Self(all)
    }

    /// A file of keys: a vkey a line; empty lines and those that begin with `#` say nothing.
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<_>, _> = lines.map(PublicKey::parse).collect();
        Ok(Self::new(keys?))
    }

    /// In the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    fn of(&self, signature: &Signature) -> Option<&PublicKey> {
        let mut all = self.0.iter();
        all.find(|key| key.name().as_str() == signature.name() && key.key_id() == signature.id())
    }
}

impl Verifiers for Keys {
    fn verifier(
        &self,
        name: &str,
        id: u32,
    ) -> Result<&dyn signed_note::Verifier, VerificationError> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.name().as_str() == name && key.key_id() == id);
        let name = || name.to_owned();
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            // Ids have 32 bits: two keys of one id are made on purpose.
            (Some(_), Some(_)) => Err(VerificationError::AmbiguousKey { name: name(), id }),
            (None, _) => Err(VerificationError::UnknownKey { name: name(), id }),
        }
    }
}

/// A text with at least one signature that was verified.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedNote {
    whole: String,
    /// Length of the text in it.
    text: usize,
    by: Vec<PublicKey>,
}

impl SignedNote {
    /// Reads a note and verifies what known keys signed. Signatures by others (witnesses that countersigned) are passed
    /// over; one by a known key that is wrong is an error.
    pub fn verify(note: &[u8], keys: &Keys) -> Result<Self, SigningError> {
        let whole = std::str::from_utf8(note).map_err(|_| SigningError::NotANote)?;
        let note = Note::from_bytes(note).map_err(|_| SigningError::NotANote)?;
        // One note has one way of being written.
        if note.to_bytes() != whole.as_bytes() {
            return Err(SigningError::NotANote);
        }
        let text = note.text().len();
        let (verified, _) = note.verify(keys).map_err(|error| match error {
            NoteError::InvalidSignature { name, id } => SigningError::False {
                by: format!("{name}+{id:08x}"),
            },
            NoteError::UnverifiedNote => SigningError::Unknown {
                by: said_by(whole, text),
            },
            _ => SigningError::NotANote,
        })?;
        let by = verified.iter().filter_map(|it| keys.of(it).cloned());
        Ok(Self {
            whole: whole.to_owned(),
            text,
            by: by.collect(),
        })
    }

    /// A new note, if this is a signature of its text by this key.
    pub(super) fn made_by(
        key: &PublicKey,
        text: &str,
        signature: [u8; 64],
    ) -> Result<Self, SigningError> {
        if !key.verify(text.as_bytes(), &signature) {
            return Err(SigningError::Lied { by: key.label() });
        }
        let signatures = [signature_line(key, signature)?];
        let note = Note::new(text.as_bytes(), &signatures).map_err(|_| SigningError::NotAText)?;
        Self::of(&note, vec![key.clone()])
    }

    /// The same with one more signature.
    pub(super) fn countersigned(self, signer: &FileSigner) -> Result<Self, SigningError> {
        let key = signer.public_key();
        let signature = signer.sign(self.text().as_bytes())?;
        let mut signatures = signatures_of(&self.whole, self.text);
        signatures.push(signature_line(key, signature)?);
        let note =
            Note::new(self.text().as_bytes(), &signatures).map_err(|_| SigningError::NotANote)?;
        let by = self.by.into_iter().chain([key.clone()]);
        Self::of(&note, by.collect())
    }

    fn of(note: &Note, by: Vec<PublicKey>) -> Result<Self, SigningError> {
        let whole = String::from_utf8(note.to_bytes()).map_err(|_| SigningError::NotANote)?;
        let text = note.text().len();
        Ok(Self { whole, text, by })
    }

    /// What was signed: lines, each with its line feed.
    pub fn text(&self) -> &str {
        self.whole.get(..self.text).unwrap_or_default()
    }

    /// All of it, as it is kept and sent.
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// The keys whose signatures were verified; at least one.
    pub fn by(&self) -> &[PublicKey] {
        &self.by
    }

    /// Which kind of note it is, of the first key that signed it.
    pub fn kind(&self) -> Option<NoteKind> {
        NoteKind::of(self.text().lines().next()?, self.by.first()?.name())
    }

    /// SHA-256 of all of it: what leaves of the log name a note by.
    pub fn digest(&self) -> Digest {
        Digest::of(self.whole.as_bytes())
    }
}

impl std::fmt::Debug for SignedNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SignedNote({:?})", self.whole)
    }
}

fn signature_line(key: &PublicKey, signature: [u8; 64]) -> Result<Signature, SigningError> {
    Signature::new(key.name().to_string(), key.key_id(), signature.to_vec())
        .map_err(|_| SigningError::NotANote)
}

/// The signatures that follow the text.
fn signatures_of(whole: &str, text: usize) -> Vec<Signature> {
    let lines = whole.get(text..).unwrap_or_default().lines();
    lines
        .filter_map(|line| Signature::from_bytes(line.as_bytes()).ok())
        .collect()
}

/// Who a note's signature lines name.
fn said_by(whole: &str, text: usize) -> String {
    let names = signatures_of(whole, text)
        .into_iter()
        .map(|signature| format!("{}+{:08x}", signature.name(), signature.id()));
    super::asking::printable(&names.collect::<Vec<_>>().join(", "))
}
