//! The daemon's own notary: its key and its log.

use std::sync::Arc;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::log::{EvidenceLog, Leaf};
use crate::recording::{Entered, Entry, Notary, NotaryError};
use crate::signing::{Digest, NoteKind, SignedNote, Signing};

/// Signs with the daemon's key, and enters into its log.
#[derive(Debug)]
pub struct DaemonNotary {
    signing: Signing,
    log: EvidenceLog,
    clock: Arc<dyn Clock>,
}

impl DaemonNotary {
    /// One of both.
    pub fn new(signing: Signing, log: EvidenceLog, clock: Arc<dyn Clock>) -> Self {
        Self {
            signing,
            log,
            clock,
        }
    }
}

#[async_trait]
impl Notary for DaemonNotary {
    async fn sign(&self, statement: String) -> Result<String, NotaryError> {
        let first = self.signing.first_line(NoteKind::Recording);
        let signed = self.signing.sign(format!("{first}\n{statement}")).await;
        signed
            .map(|note| note.as_str().to_owned())
            .map_err(|error| NotaryError::Sign(Box::new(error)))
    }

    async fn enter(&self, entry: Entry) -> Result<(), NotaryError> {
        let Entry {
            session,
            note,
            what,
        } = entry;
        let note = Digest::parse(&note).map_err(|error| NotaryError::Log(Box::new(error)))?;
        let at = self.clock.now();
        let leaf = match what {
            Entered::Opened { parent } => Leaf::Opened {
                session,
                at,
                parent,
                note,
            },
            Entered::Sealed => Leaf::Sealed { session, at, note },
            Entered::Interrupted { reason } => Leaf::Interrupted {
                session,
                at,
                note: Some(note),
                reason,
            },
            Entered::Packed => Leaf::Packed { session, at, note },
        };
        self.log
            .append(leaf)
            .await
            .map(drop)
            .map_err(|error| NotaryError::Log(Box::new(error)))
    }

    fn head(&self) -> String {
        self.log.checkpoint().note().as_str().to_owned()
    }

    fn is_ours(&self, note: &str) -> bool {
        SignedNote::verify(note.as_bytes(), self.signing.keys())
            .is_ok_and(|note| note.kind() == Some(NoteKind::Recording))
    }
}
