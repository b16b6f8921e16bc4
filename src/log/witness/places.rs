//! Where checkpoints are kept.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::webhook::Caller;
use super::{WitnessError, WitnessKind};
use crate::clock::Clock;
use crate::log::Head;

/// `authpriv.info`: most hosts keep it where only root reads.
const PRIORITY: u8 = 10 * 8 + 6;
/// The program that it is by, for filters.
const TAG: &str = "bastion-audit-head";
/// A syslog daemon that does not read holds up nobody.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) enum Place {
    File(PathBuf),
    DaemonLog,
    Syslog {
        socket: PathBuf,
        clock: Arc<dyn Clock>,
    },
    Webhook(Caller),
}

impl Place {
    pub(super) fn kind(&self) -> WitnessKind {
        match self {
            Self::File(_) => WitnessKind::File,
            Self::DaemonLog => WitnessKind::DaemonLog,
            Self::Syslog { .. } => WitnessKind::Syslog,
            Self::Webhook(_) => WitnessKind::Webhook,
        }
    }

    pub(super) async fn keep(&self, head: &Arc<Head>) -> Result<(), WitnessError> {
        let note = head.note().as_str();
        match self {
            Self::File(path) => {
                let (path, note) = (path.clone(), format!("{note}\n"));
                in_background(move || append(&path, &note)).await
            }
            Self::DaemonLog => {
                tracing::info!(target: "bastion_audit::checkpoint", size = head.size(), note, "the log's head");
                Ok(())
            }
            Self::Syslog { socket, clock } => {
                let (socket, message) = (socket.clone(), syslog_message(note, &**clock));
                in_background(move || send(&socket, message.as_bytes())).await
            }
            Self::Webhook(caller) => caller.post(note).await,
        }
    }

    /// Whether it could be used, without writing anything. Blocks.
    pub(super) fn check(&self) -> Result<String, WitnessError> {
        match self {
            Self::File(path) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                parent
                    .read_dir()
                    .map_err(WitnessError::io(parent, "reading"))?;
                Ok(format!("{}, not written", path.display()))
            }
            Self::DaemonLog => Ok("under bastion_audit::checkpoint".to_owned()),
            Self::Syslog { socket, .. } => {
                let io = WitnessError::io(socket, "looking for a socket");
                let found = socket.metadata().map_err(&io)?;
                match found.file_type().is_socket() {
                    true => Ok(format!("{}, not written", socket.display())),
                    false => Err(io(std::io::ErrorKind::NotFound.into())),
                }
            }
            Self::Webhook(caller) => {
                caller.request("")?;
                caller.client()?;
                Ok(format!("{}, not asked", caller.server()))
            }
        }
    }
}

/// A share may hang; that must hold up nobody else.
pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WitnessError> + Send + 'static,
) -> Result<T, WitnessError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| WitnessError::Thread)?
}

fn append(path: &Path, note: &str) -> Result<(), WitnessError> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(WitnessError::io(path, "opening"))?;
    file.write_all(note.as_bytes())
        .and_then(|()| file.sync_data())
        .map_err(WitnessError::io(path, "writing"))
}

/// As syslog(3) writes to its local daemon, so that every one of them reads it. The note is a JSON string, because a message is
/// one line, and of ASCII, because some change what is not.
fn syslog_message(note: &str, clock: &dyn Clock) -> String {
    let at = clock.now().to_zoned(TimeZone::system());
    let at = at.strftime("%b %e %H:%M:%S");
    let note = serde_json::Value::from(note).to_string();
    let note = note.replace('\u{2014}', "\\u2014");
    format!("<{PRIORITY}>{at} {TAG}: {note}")
}

fn send(path: &Path, message: &[u8]) -> Result<(), WitnessError> {
    let io = WitnessError::io(path, "sending");
    let socket = UnixDatagram::unbound().map_err(&io)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(&io)?;
    socket
        .connect(path)
        .map_err(WitnessError::io(path, "connecting"))?;
    socket.send(message).map(drop).map_err(io)
}
