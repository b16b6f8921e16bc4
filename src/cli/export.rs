//! `bastion-audit export`.

use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use bastion_audit::export::{self, Format};
use bastion_audit::recording::Stream;
use bastion_audit::replay::{self, PlayError};
use clap::ValueEnum;

use super::reading;

/// Write a session in another shape: for asciinema 3 or 2, as text, or as the bytes that it wrote
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    state: super::StatePath,
    #[command(flatten)]
    keys: reading::Keys,
    /// The session: its id, the beginning of it, or `latest`
    #[arg(value_name = "ID")]
    id: String,
    /// The shape
    #[arg(long = "as", value_name = "SHAPE", default_value = "asciicast-v3")]
    format: Format,
    /// Of text and raw: only this stream
    #[arg(long, value_name = "STREAM")]
    stream: Option<WhichStream>,
    /// Of text: begin each line with the time that it came
    #[arg(long)]
    timestamps: bool,
    /// Write to this file, which must not exist yet, instead of to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhichStream {
    Stdout,
    Stderr,
}

impl Export {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        self.check()?;
        let opened = self.state.store(false)?;
        let live = reading::live_sessions(&opened.state_dir)?;
        let recordings = reading::recordings(&opened, &self.keys)?;
        let what = export::Export {
            format: self.format,
            stream: self.stream.map(|stream| match stream {
                WhichStream::Stdout => Stream::Stdout,
                WhichStream::Stderr => Stream::Stderr,
            }),
            timestamps: self.timestamps,
            requests: false,
            from: Duration::ZERO,
        };
        reading::block_on(async {
            let id = replay::resolve(&recordings, &self.id, &live.sessions, |_| true)
                .await?
                .id();
            let Some(path) = &self.output else {
                return match export::export(&recordings, id, what, &mut reading::stdout()?).await {
                    Err(PlayError::Write(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                    result => Ok(result?),
                };
            };
            // As private as the recording itself.
            let file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("creating {}", path.display()))?;
            let mut file = tokio::fs::File::from_std(file);
            export::export(&recordings, id, what, &mut file).await?;
            Ok(file.sync_all().await?)
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn check(&self) -> anyhow::Result<()> {
        let streams_apart = matches!(self.format, Format::Text | Format::Raw);
        if self.stream.is_some() && !streams_apart {
            anyhow::bail!(
                "--stream goes with --as text or --as raw; an asciicast has both streams"
            );
        }
        if self.timestamps && self.format != Format::Text {
            anyhow::bail!("--timestamps goes with --as text; an asciicast has times already");
        }
        if self.format == Format::Raw && self.output.is_none() && reading::terminal().is_some() {
            anyhow::bail!(
                "raw bytes may harm this terminal: give -o FILE or a pipe; `replay` and --as text are safe to look at"
            );
        }
        Ok(())
    }
}
