//! A signing process: `bastion-audit signer`, `bastion-audit issuer signer`.
//!
//! It holds a key apart from the daemon. Whoever can reach it can have signed what the key is for, and nothing else: by the instance's
//! own key its notes, and not a TLS handshake, an SSH login or a note by another name.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::asking::{LONGEST_SENTENCE, REFUSED, SIGNED};
use super::{FileSigner, LONGEST_TEXT, NoteKind, Signer as _, SigningError, note};

/// Connections at once. A daemon keeps one.
const AT_ONCE: usize = 16;
/// How long a connection may be silent between two requests.
const IDLE: Duration = Duration::from_secs(600);
/// From the first byte of a request to the last of its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is signed: a text's signature, or the sentence that says why not.
pub type Sign = Arc<dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync>;

/// Signs the notes of the instance that the key is named after.
pub fn notes(signer: FileSigner) -> Sign {
    Arc::new(move |text| {
        let text = std::str::from_utf8(text).map_err(|_| SigningError::NotAText.to_string())?;
        let name = signer.public_key().name();
        note::check_text(text, |first| NoteKind::of(first, name).is_some())
            .and_then(|()| signer.sign(text.as_bytes()))
            .map(Vec::from)
            .map_err(|error| error.to_string())
    })
}

/// A bound socket and what is signed behind it. The socket's file goes when this is dropped.
pub struct SignerSocket {
    listener: UnixListener,
    path: PathBuf,
    sign: Sign,
    peer: u32,
}

impl SignerSocket {
    /// Binds the socket for one OS user (and root): our own, mode 0600, or another one, mode 0666, of whom the peer
    /// credentials are asked all the same. A socket that is there and that nobody answers at is replaced.
    pub fn bind(path: &Path, sign: Sign, peer: Option<u32>) -> std::io::Result<Self> {
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
            sign,
            peer,
        })
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
            let (sign, peer) = (Arc::clone(&self.sign), self.peer);
            while clients.try_join_next().is_some() {}
            clients.spawn(async move {
                let _place = place;
                if let Err(error) = converse(stream, &sign, peer).await {
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

async fn converse(mut stream: UnixStream, sign: &Sign, peer: u32) -> std::io::Result<()> {
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
            stream.write_all(&answer(sign, &text)).await?;
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

fn answer(sign: &Sign, text: &[u8]) -> Vec<u8> {
    match sign(text) {
        Ok(signature) => [&[SIGNED][..], &signature].concat(),
        Err(reason) => {
            tracing::warn!("refused: {reason}");
            refusal(&reason)
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
