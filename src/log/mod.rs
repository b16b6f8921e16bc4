//! The evidence log: one append-only transparency log for each daemon instance (docs/EVIDENCE-LOG.md).
//!
//! It says which recordings were begun, closed and deleted, in an order that cannot be changed any more once a checkpoint
//! of it is somewhere else. The tree is that of RFC 6962, its files are c2sp.org/tlog-tiles, its heads are
//! c2sp.org/tlog-checkpoint.

mod disk;
mod error;
mod head;
mod layout;
mod leaf;
mod reader;
mod scan;
mod tail;
#[cfg(test)]
mod tests;
mod tree;
mod witness;
mod writer;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

pub use error::LogError;
pub use head::Head;
pub use leaf::{LONGEST_LEAF, Leaf, Position};
pub use reader::LogReader;
pub use witness::{
    Failing, Standing, Webhook, Witness, WitnessError, WitnessKind, Witnesses, witness_notes,
};

use crate::clock::Clock;
use crate::lane::{self, lane};
use crate::signing::{Keys, Signing};
use crate::store::room::Room;
use disk::Disk;
use writer::{Ask, MOST_AT_ONCE, Writer};

/// The log's directory in the state directory.
pub const DIRECTORY: &str = "log";

/// A handle to the log. Cheap to clone; the thread behind it ends with the last one.
#[derive(Clone, Debug)]
pub struct EvidenceLog {
    asks: lane::Sender<Ask>,
    heads: watch::Receiver<Arc<Head>>,
}

impl EvidenceLog {
    /// Opens the log in `directory`, or begins one there if nothing is there yet. Reads all of it: what a signed
    /// checkpoint covers must be there. What a crash left unfinished is cut off, what it left unsigned is signed, and
    /// where another key signs than before, a leaf says so. What finds no space gets some of `room`. Blocks.
    pub fn open(
        directory: &Path,
        signing: Signing,
        clock: &dyn Clock,
        room: Room,
    ) -> Result<Self, LogError> {
        Self::start(Writer::open(
            directory,
            signing,
            clock,
            Disk::with_room(room),
        )?)
    }

    fn start(writer: Writer) -> Result<Self, LogError> {
        let (asks, queue) = lane(MOST_AT_ONCE);
        let heads = writer.heads();
        std::thread::Builder::new()
            .name("evidence-log".into())
            .spawn(move || writer.run(&queue))
            .map_err(LogError::io(Path::new(DIRECTORY), "starting its thread"))?;
        Ok(Self { asks, heads })
    }

    /// Adds a leaf. When this returns it is on stable storage and [`EvidenceLog::checkpoint`] covers it. After an error it
    /// may be in the log all the same, and then the next head covers it.
    pub async fn append(&self, leaf: Leaf) -> Result<Position, LogError> {
        let leaf = leaf.to_bytes()?;
        let (done, written) = oneshot::channel();
        self.asks
            .send(Ask::Append { leaf, done })
            .await
            .map_err(|_| LogError::Closed)?;
        written.await.map_err(|_| LogError::Closed)?
    }

    /// The newest signed head.
    pub fn checkpoint(&self) -> Arc<Head> {
        Arc::clone(&self.heads.borrow())
    }

    /// The newest signed head, and each one after it (or the last of several).
    pub fn checkpoints(&self) -> watch::Receiver<Arc<Head>> {
        self.heads.clone()
    }

    /// Ends the log in good order. Nothing can be appended any more, by whatever handle.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.asks.send(Ask::Close { done }).await.is_ok() {
            // A thread that died has nothing more to do.
            drop(closed.await);
        }
    }
}

/// How many leaves `checkpoint` covers, if it can be read.
fn published_size(directory: &Path, keys: &Keys) -> Option<u64> {
    let note = std::fs::read(directory.join(layout::CHECKPOINT)).ok()?;
    let head = Head::read(directory, layout::CHECKPOINT, &note, keys);
    head.ok().map(|head| head.size())
}
