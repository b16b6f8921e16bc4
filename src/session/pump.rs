//! Bytes between a client and a command, recorded on the way.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_util::task::AbortOnDropHandle;

use crate::clock;
use crate::launch::{Control, Input, Output};
use crate::messages::{ClientEvent, SessionEvent};
use crate::recording::{HELD, OnRecord, OpenRecording, RecordingError, Stream};

/// Most bytes in one event: the link to a client bounds their number.
const PACKET: usize = 32 * 1024;
/// Pieces that are read while one is recorded and sent.
const AHEAD: usize = 1;

/// Why the bytes stopped before the command did.
#[derive(Debug)]
pub(super) enum Stopped {
    /// They could not be recorded: nothing runs unrecorded.
    Unrecorded(RecordingError),
    /// The client went away.
    ClientGone,
}

impl From<RecordingError> for Stopped {
    fn from(error: RecordingError) -> Self {
        Self::Unrecorded(error)
    }
}

/// Carries output to the client until the command closes it. What cannot be recorded is not shown.
///
/// The next piece is read while the last one is recorded and sent: a terminal holds 4 KiB and its command waits
/// whenever nobody takes them.
pub(super) async fn output(
    from: Output,
    stream: Stream,
    recording: &OpenRecording,
    to: &mpsc::Sender<SessionEvent>,
) -> Result<(), Stopped> {
    let (ahead, mut pieces) = mpsc::channel(AHEAD);
    // On a task of its own: the kernel has a reader of a terminal wait for its own work.
    let _reading = AbortOnDropHandle::new(tokio::spawn(read(from, ahead)));
    while let Some(bytes) = pieces.recv().await {
        match recording.output_so_far(stream, &bytes).await? {
            OnRecord::Whole => show(stream, bytes, to).await?,
            OnRecord::InPart => {
                let recorded = rest(stream, bytes, &mut pieces, recording).await?;
                for bytes in recorded {
                    show(stream, bytes, to).await?;
                }
            }
        }
    }
    Ok(())
}

/// Waits for what follows on output whose end may be part of a credential, but not long.
async fn rest(
    stream: Stream,
    first: Bytes,
    pieces: &mut mpsc::Receiver<Bytes>,
    recording: &OpenRecording,
) -> Result<Vec<Bytes>, RecordingError> {
    let mut recorded = vec![first];
    let until = clock::monotonic() + HELD;
    while let Ok(Some(bytes)) = timeout_at(until, pieces.recv()).await {
        let on_record = recording.output_so_far(stream, &bytes).await?;
        recorded.push(bytes);
        if on_record == OnRecord::Whole {
            return Ok(recorded);
        }
    }
    recording.settle(stream).await?;
    Ok(recorded)
}

async fn show(
    stream: Stream,
    mut bytes: Bytes,
    to: &mpsc::Sender<SessionEvent>,
) -> Result<(), Stopped> {
    while !bytes.is_empty() {
        let packet = bytes.split_to(bytes.len().min(PACKET));
        let event = match stream {
            Stream::Stdout => SessionEvent::Stdout(packet),
            Stream::Stderr => SessionEvent::Stderr(packet),
        };
        to.send(event).await.map_err(|_| Stopped::ClientGone)?;
    }
    Ok(())
}

/// Reads until the command closes its output, or nobody wants it any more.
async fn read(mut from: Output, ahead: mpsc::Sender<Bytes>) {
    loop {
        match from.read().await {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => {
                if ahead.send(bytes).await.is_err() {
                    return;
                }
            }
            Err(error) => return tracing::warn!("reading a command's output: {error}"),
        }
    }
}

/// Carries what the client does to the command, until the client is gone.
pub(super) async fn input(
    from: &mut mpsc::Receiver<ClientEvent>,
    mut into: Input,
    control: &Control,
    recording: &OpenRecording,
) -> Stopped {
    loop {
        let done = match from.recv().await {
            Some(ClientEvent::Data(bytes)) => match recording.input(&bytes).await {
                Ok(()) => {
                    into.write(&bytes).await;
                    Ok(())
                }
                failed => failed,
            },
            Some(ClientEvent::Eof) => {
                let recorded = recording.input_end().await;
                into.end().await;
                recorded
            }
            Some(ClientEvent::Resize(size)) => {
                into.resize(size);
                recording.resize(size).await
            }
            Some(ClientEvent::Signal(name)) => {
                control.signal(&name);
                Ok(())
            }
            None => return Stopped::ClientGone,
        };
        if let Err(error) = done {
            return Stopped::Unrecorded(error);
        }
    }
}
