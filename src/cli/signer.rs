//! `bastion-audit signer`, and what it has in common with `bastion-audit issuer signer`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bastion_audit::signing::serve::{Sign, SignerSocket, notes};
use bastion_audit::signing::{FileSigner, Signer as _};
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
    #[command(flatten)]
    behind: Behind,
}

/// Where a key is asked for its signatures.
#[derive(Debug, clap::Args)]
pub(super) struct Behind {
    /// The socket to make
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The OS user that may ask, besides root; by default the one that this runs as
    #[arg(long, value_name = "UID")]
    peer_uid: Option<u32>,
}

impl Signer {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let signer = FileSigner::open(&self.key)?;
        let public = signer.public_key().vkey();
        self.behind.serve(notes(signer), &public)
    }
}

impl Behind {
    /// Signs until it is told to end. The first line on stdout has the public key, and is for scripts that wait for us.
    pub(super) fn serve(self, sign: Sign, public: &str) -> anyhow::Result<ExitCode> {
        super::logging::to_stderr(false);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?
            .block_on(async {
                let socket = SignerSocket::bind(&self.socket, sign, self.peer_uid)
                    .with_context(|| self.socket.display().to_string())?;
                writeln!(std::io::stdout(), "bastion-audit: signing with {public}")?;
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
