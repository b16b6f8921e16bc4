//! `bastion-audit signer`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bastion_audit::signing::FileSigner;
use bastion_audit::signing::serve::SignerSocket;
use tokio::signal::unix::{SignalKind, signal};

/// Hold the signing key apart from the daemon, and sign its checkpoints over a unix socket
///
/// Signs nothing but notes of the instance that the key is named after. Name the socket as spec.signing.socket, and the
/// public key that this prints as spec.signing.publicKey.
#[derive(Debug, clap::Args)]
pub(crate) struct Signer {
    /// The key file, as 'bastion-audit log new-key' makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The socket to make
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The OS user that may ask, besides root; by default the one that this runs as
    #[arg(long, value_name = "UID")]
    peer_uid: Option<u32>,
}

impl Signer {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        super::logging::to_stderr(false);
        let key = FileSigner::open(&self.key)?;
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?
            .block_on(async {
                let socket = SignerSocket::bind(&self.socket, key, self.peer_uid)
                    .with_context(|| self.socket.display().to_string())?;
                // The first line on stdout is for scripts that wait for us.
                writeln!(
                    std::io::stdout(),
                    "bastion-audit: signing with {}",
                    socket.public_key().vkey()
                )?;
                let mut term = signal(SignalKind::terminate())?;
                let mut int = signal(SignalKind::interrupt())?;
                tokio::select! {
                    () = socket.serve() => {}
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                }
                Ok(ExitCode::SUCCESS)
            })
    }
}
