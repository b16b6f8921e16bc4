//! Bytes between a client and a command, recorded on the way.

use crate::launch::{Control, Input, Output};
use crate::messages::{ClientEvent, SessionEvent};
use crate::recording::{OpenRecording, RecordingError, Stream};
use tokio::sync::mpsc;

/// Most bytes in one event: the link to a client bounds their number.
const PACKET: usize = 32 * 1024;

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
pub(super) async fn output(
    mut from: Output,
    stream: Stream,
    recording: &OpenRecording,
    to: &mpsc::Sender<SessionEvent>,
) -> Result<(), Stopped> {
    loop {
        let mut bytes = match from.read().await {
            Ok(bytes) if !bytes.is_empty() => bytes,
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::warn!("reading a command's output: {error}");
                return Ok(());
            }
        };
        recording.output(stream, &bytes).await?;
        while !bytes.is_empty() {
            let packet = bytes.split_to(bytes.len().min(PACKET));
            let event = match stream {
                Stream::Stdout => SessionEvent::Stdout(packet),
                Stream::Stderr => SessionEvent::Stderr(packet),
            };
            to.send(event).await.map_err(|_| Stopped::ClientGone)?;
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
