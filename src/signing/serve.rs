//! The signing process: `bastion-audit signer`.
//!
//! It holds a key apart from the daemon. Whoever can reach it can have the instance's notes signed, and nothing else:
//! not a TLS handshake, not an SSH login, not a note by another name.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::socket::{LONGEST_SENTENCE, REFUSED, SIGNED};
use super::{FileSigner, LONGEST_TEXT, NoteKind, PublicKey, Signer as _, SigningError, note};

/// Connections at once. A daemon keeps one.
const AT_ONCE: usize = 16;
/// How long a connection may be silent between two requests.
const IDLE: Duration = Duration::from_secs(600);
/// From the first byte of a request to the last of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A bound socket and the key behind it. The socket's file goes when this is dropped.
#[derive(Debug)]
pub struct SignerSocket {
    listener: UnixListener,
    path: PathBuf,
    signer: Arc<FileSigner>,
    peer: u32,
}

impl SignerSocket {
    /// Binds the socket for one OS user (and root): our own, mode 0600, or another one, mode 0666, of whom the peer
    /// credentials are asked all the same. A socket that is there and that nobody answers at is replaced.
    pub fn bind(path: &Path, signer: FileSigner, peer: Option<u32>) -> std::io::Result<Self> {
        if let Err(error) = std::os::unix::net::UnixStream::connect(path)
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            std::fs::remove_file(path)?;
        }
        let own = rustix::process::geteuid().as_raw();
        let peer = peer.unwrap_or(own);
        let listener = UnixListener::bind(path)?;
        let mode = if peer == own { 0o600 } else { 0o666 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            signer: Arc::new(signer),
            peer,
        })
    }

    /// The key that it signs with.
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// Signs until it is dropped.
    pub async fn serve(self) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        // Ends with this: nothing is signed any more once it is dropped.
        let mut clients = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the signer's socket: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (signer, peer) = (Arc::clone(&self.signer), self.peer);
            while clients.try_join_next().is_some() {}
            clients.spawn(async move {
                let _place = place;
                if let Err(error) = converse(stream, &signer, peer).await {
                    tracing::warn!("a client of the signer: {error}");
                }
            });
        }
    }
}

impl Drop for SignerSocket {
    fn drop(&mut self) {
        // The next one replaces a socket that stays.
        drop(std::fs::remove_file(&self.path));
    }
}

async fn converse(mut stream: UnixStream, signer: &FileSigner, peer: u32) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != peer && uid != 0 {
        let reason = format!("only uid {peer} and root may ask, and this is uid {uid}");
        tracing::warn!("refused: {reason}");
        return stream.write_all(&refusal(&reason)).await;
    }
    loop {
        let mut length = [0; 4];
        match tokio::time::timeout(IDLE, stream.readable()).await {
            Ok(ready) => ready?,
            Err(_) => return Ok(()),
        }
        let request = async {
            match stream.read_exact(&mut length).await {
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Ok(false);
                }
                read => read?,
            };
            let length = u32::from_be_bytes(length) as usize;
            if length > LONGEST_TEXT {
                stream.write_all(&refusal("this is too long")).await?;
                return Ok(false);
            }
            let mut text = vec![0; length];
            stream.read_exact(&mut text).await?;
            stream.write_all(&answer(signer, &text)).await?;
            Ok(true)
        };
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
        }
    }
}

fn answer(signer: &FileSigner, text: &[u8]) -> Vec<u8> {
    let signed = std::str::from_utf8(text)
        .map_err(|_| SigningError::NotAText)
        .and_then(|text| {
            let name = signer.public_key().name();
            note::check_text(text, |first| NoteKind::of(first, name).is_some())?;
            signer.sign(text.as_bytes())
        });
    match signed {
        Ok(signature) => {
            let mut answer = vec![SIGNED];
            answer.extend_from_slice(&signature);
            answer
        }
        Err(error) => {
            tracing::warn!("refused: {error}");
            refusal(&error.to_string())
        }
    }
}

fn refusal(reason: &str) -> Vec<u8> {
    let reason = reason.as_bytes();
    let reason = reason.get(..LONGEST_SENTENCE).unwrap_or(reason);
    let length = u16::try_from(reason.len()).unwrap_or(0);
    let mut answer = vec![REFUSED];
    answer.extend_from_slice(&length.to_be_bytes());
    answer.extend_from_slice(reason);
    answer
}
