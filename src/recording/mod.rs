//! What happened in a session, as an asciicast v3. The format is docs/RECORDING-FORMAT.md.
//!
//! [`OpenRecording`] writes, [`Reader`] reads; what closes a recording is its [`Manifest`].

mod carrying;
pub mod check;
mod decode;
mod encode;
mod error;
mod escape;
mod event;
mod header;
mod interval;
mod link;
mod manifest;
mod masked;
mod masking;
mod moved;
mod notary;
mod open;
mod pack;
mod reader;
mod recipients;
mod recorder;
pub mod requests;
#[cfg(test)]
pub(crate) mod roundtrip;
mod split;
mod spool;
pub(crate) mod statement;
mod stored;
mod survivors;
#[cfg(test)]
pub(crate) mod testing;
mod writing;

use serde::{Deserialize, Serialize};

pub(crate) use check::MAX_MANIFEST;
pub use error::{ReadError, RecordingError, RecoverError};
pub use event::{Event, Happening, Shown};
pub use header::{Bastion, Header, Kind, Metadata, TermSize};
pub(crate) use interval::write_seconds;
pub(crate) use link::Link;
pub use manifest::{CastSummary, Coverage, Covered, Ending, LeaseRecord, Manifest, State, Totals};
pub use masking::{HELD, Masked, MaskedStream, OnRecord, Secrets};
pub use notary::{Entered, Entry, Notary, NotaryError};
pub use open::OpenRecording;
pub(crate) use pack::{Keyframe, find as find_keyframe};
pub use pack::{PackError, Packer, ToPack};
pub(crate) use reader::WholeLines;
pub use reader::{Line, LineReader, Reader};
pub use recipients::{NotARecipient, Recipient, Recipients};
pub use recorder::{Keeping, Recorder};
pub(crate) use spool::whole_records;
pub use statement::{Checkpoint, Checkpoints, Encrypted, Extent, Standing, Statement};
pub use stored::{Identities, Recordings, Stored};
pub(crate) use survivors::Survivors;
pub use writing::Sealed;
pub(crate) use writing::hex;

/// Which output stream bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As recordings write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The codes of events: the first five are asciicast's, the others ours.
pub(crate) mod code {
    pub(crate) const OUTPUT: char = 'o';
    pub(crate) const INPUT: char = 'i';
    pub(crate) const RESIZE: char = 'r';
    pub(crate) const MARKER: char = 'm';
    pub(crate) const EXIT: char = 'x';
    /// From which stream the following output is.
    pub(crate) const FROM: char = 'f';
    /// Output bytes that are not shown, base64.
    pub(crate) const BINARY: char = 'b';
    /// The exact bytes of which the next `o` is only a rendering, base64.
    pub(crate) const EXACT: char = 'B';
    /// The beginning of a character, base64: the next output of the stream begins with it again.
    pub(crate) const PARTIAL: char = 'p';
    /// Input bytes that are not text, base64.
    pub(crate) const BINARY_INPUT: char = 'j';
    /// No more input.
    pub(crate) const INPUT_END: char = 'e';
    /// Length and digest of an input that is not kept.
    pub(crate) const INPUT_DIGEST: char = 'd';
    /// A credential was issued.
    pub(crate) const LEASE: char = 'k';
    /// A request to the cluster, about to be forwarded.
    pub(crate) const REQUEST: char = 'q';
    /// Something about a request that goes on.
    pub(crate) const NOTE: char = 'n';
    /// What came of a request.
    pub(crate) const ANSWER: char = 'a';
    /// Something that is not on record, because it is part of a credential.
    pub(crate) const MASKED: char = 'h';
    /// How the session ended, where an exit status does not say it.
    pub(crate) const ENDING: char = 'z';
}
