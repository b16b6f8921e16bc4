//! What a session asks of the daemon from inside: `bastion WORD`.

use std::convert::Infallible;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::words::{answer_inside, may_extend};
use super::{Caller, SessionId};
use crate::launch::inside::{LONGEST, Piece};
use crate::monitor::Monitor;
use crate::recording::OpenRecording;

/// From a connection to its answer having been taken. One is answered after the other, so who is slow keeps only the rest of
/// the same session waiting.
const EACH: Duration = Duration::from_secs(5);
/// After an accept that failed: what it lacked (descriptors, memory) does not come back at once.
const BREATH: Duration = Duration::from_millis(100);
/// Between two answers. Each is an event in the audit log, which a loop in a session must not fill.
const PACE: Duration = Duration::from_millis(100);
/// Most bytes in one piece.
const PIECE: usize = 32 * 1024;

/// Answers what connects at `listener`, for as long as it is polled.
pub(super) async fn answer(
    monitor: &Monitor,
    caller: &Caller,
    recording: &OpenRecording,
    listener: &TcpListener,
) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answered = timeout(EACH, answer_one(monitor, caller, recording, stream)).await;
                if !matches!(answered, Ok(Ok(()))) {
                    tracing::debug!(
                        "session {}: a question from inside was not answered",
                        recording.id()
                    );
                }
                sleep(PACE).await;
            }
            Err(error) => {
                tracing::warn!("accepting from a sandbox: {error}");
                sleep(BREATH).await;
            }
        }
    }
}

/// For a warning that the time runs out: what can be done about it.
pub(super) fn instead(monitor: &Monitor, caller: &Caller, session: SessionId) -> &'static str {
    match may_extend(monitor, caller, session) {
        Some(_) => " (bastion extend)",
        None => "",
    }
}

async fn answer_one(
    monitor: &Monitor,
    caller: &Caller,
    recording: &OpenRecording,
    mut stream: TcpStream,
) -> std::io::Result<()> {
    let line = line(&mut stream).await?;
    let told = answer_inside(monitor, caller, recording, &line).await;
    let kind = match told.status {
        0 => Piece::Stdout,
        _ => Piece::Stderr,
    };
    for piece in told.text.as_bytes().chunks(PIECE) {
        stream.write_all(&kind.encoded(piece)).await?;
    }
    stream
        .write_all(&Piece::Exit.encoded(&[told.status]))
        .await?;
    stream.shutdown().await
}

/// The first line. Of a longer one than there may be, one byte too many, so that it is refused as that.
async fn line(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    while !line.contains(&b'\n') && line.len() <= LONGEST {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            break;
        }
        line.extend(buffer.iter().take(n));
    }
    let end = line.iter().position(|byte| *byte == b'\n');
    line.truncate(end.unwrap_or(line.len()).min(LONGEST + 1));
    Ok(String::from_utf8_lossy(&line).into_owned())
}
