//! Signed heads of the chain, made by a thread of their own: neither a disk that hangs nor a signer that is slow holds up
//! the events.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, mpsc};

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::AuditError;
use super::chain::Link;
use crate::signing::{Digest, KeyName, NoteKind, SignedNote, Signing, SigningError};

/// A head that is signed: everything up to `over` is on stable storage.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) over: Link,
    pub(super) at: Timestamp,
    pub(super) note: SignedNote,
}

struct Order {
    file: Arc<File>,
    over: Link,
    at: Timestamp,
    done: oneshot::Sender<Result<Signed, SigningError>>,
}

/// The way to that thread. At most one head is under way.
#[derive(Debug)]
pub(super) struct Heads {
    orders: mpsc::Sender<Order>,
    under_way: Option<oneshot::Receiver<Result<Signed, SigningError>>>,
    signed: watch::Sender<Option<Link>>,
}

impl Heads {
    pub(super) fn start(
        signing: Signing,
        path: &Path,
    ) -> Result<(Self, watch::Receiver<Option<Link>>), AuditError> {
        let (orders, queue) = mpsc::channel::<Order>();
        let path = path.to_owned();
        let log = path.clone();
        std::thread::Builder::new()
            .name("audit-heads".into())
            .spawn(move || {
                for order in queue {
                    let signed = sign(&signing, &order, &log);
                    // A writer that is gone needs no head.
                    drop(order.done.send(signed));
                }
            })
            .map_err(|error| AuditError::write(&path, &error))?;
        let (signed, receiver) = watch::channel(None);
        let heads = Self {
            orders,
            under_way: None,
            signed,
        };
        Ok((heads, receiver))
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Asks for a head over the line `over`, which is in `file`.
    pub(super) fn ask(&mut self, file: Arc<File>, over: Link, at: Timestamp) {
        let (done, answer) = oneshot::channel();
        let order = Order {
            file,
            over,
            at,
            done,
        };
        // A thread that died is told by the answer that does not come.
        drop(self.orders.send(order));
        self.under_way = Some(answer);
    }

    /// The head that was asked for, once it is there.
    pub(super) fn poll(&mut self) -> Option<Result<Signed, SigningError>> {
        let answer = match self.under_way.as_mut()?.try_recv() {
            Ok(answer) => answer,
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Err(oneshot::error::TryRecvError::Closed) => Err(SigningError::Closed),
        };
        self.under_way = None;
        Some(answer)
    }

    /// A head is on record.
    pub(super) fn tell(&self, over: Link) {
        self.signed.send_replace(Some(over));
    }
}

fn sign(signing: &Signing, order: &Order, path: &Path) -> Result<Signed, SigningError> {
    order.file.sync_data().map_err(|error| SigningError::Io {
        path: path.to_owned(),
        doing: "syncing",
        source: Arc::new(error),
    })?;
    let note = signing.sign_blocking(&text(signing.key().name(), order.over, order.at))?;
    Ok(Signed {
        over: order.over,
        at: order.at,
        note,
    })
}

/// What is signed: the note's kind, the line's number, its SHA-256, and when.
fn text(name: &KeyName, over: Link, at: Timestamp) -> String {
    let first = NoteKind::Audit.first_line(name);
    format!("{first}\n{}\n{}\n{at}\n", over.seq, over.hash)
}

/// What a head says, if it is written as ours are.
pub(super) fn parse(note: &SignedNote) -> Option<(KeyName, Link, Timestamp)> {
    let name = note.by().first()?.name();
    let mut lines = note.text().lines().skip(1);
    let seq = lines.next()?.parse().ok()?;
    let hash = Digest::parse(lines.next()?).ok()?;
    let at = lines.next()?.parse().ok()?;
    let over = Link { seq, hash };
    (text(name, over, at) == note.text()).then(|| (name.clone(), over, at))
}
