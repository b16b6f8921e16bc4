//! The files of a recording.

/// A file of a recording, by what it is. Which of them a recording has says in which form it lies: *spooled* while its
/// session goes on and until somebody packs it, *packed* afterwards; in clear, or encrypted to recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The cast as it is written, in clear.
    Cast,
    /// The request index as it is written, in clear.
    Requests,
    /// The cast as it is written, encrypted record by record.
    CastSpool,
    /// The request index as it is written, encrypted record by record.
    RequestsSpool,
    /// The key of both spools, encrypted to the recipients.
    SpoolKey,
    /// The packed cast.
    CastPacked,
    /// The packed request index.
    RequestsPacked,
    /// Where in the packed cast which moment is, and what the terminal showed then.
    Keyframes,
    /// The packed cast, encrypted to the recipients.
    CastEncrypted,
    /// The packed request index, encrypted to the recipients.
    RequestsEncrypted,
    /// The encrypted keyframes.
    KeyframesEncrypted,
    /// Signed statements of what the other files hold. Always in clear.
    Checkpoints,
    /// The last word. Always in clear; a recording that has one is closed.
    Manifest,
}

impl Part {
    /// All of them. The manifest is the last: who has that of a copy, has all of it.
    pub const ALL: [Self; 13] = [
        Self::Cast,
        Self::Requests,
        Self::CastSpool,
        Self::RequestsSpool,
        Self::SpoolKey,
        Self::CastPacked,
        Self::RequestsPacked,
        Self::Keyframes,
        Self::CastEncrypted,
        Self::RequestsEncrypted,
        Self::KeyframesEncrypted,
        Self::Checkpoints,
        Self::Manifest,
    ];

    /// Its file's name. What packs and decrypts it can be read off it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cast => "session.cast",
            Self::Requests => "requests.jsonl",
            Self::CastSpool => "session.spool",
            Self::RequestsSpool => "requests.spool",
            Self::SpoolKey => "spool.key.age",
            Self::CastPacked => "session.cast.zst",
            Self::RequestsPacked => "requests.jsonl.zst",
            Self::Keyframes => "keyframes.jsonl.zst",
            Self::CastEncrypted => "session.cast.zst.age",
            Self::RequestsEncrypted => "requests.jsonl.zst.age",
            Self::KeyframesEncrypted => "keyframes.jsonl.zst.age",
            Self::Checkpoints => "checkpoints",
            Self::Manifest => "manifest.json",
        }
    }

    /// The part with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}
