//! `bastion-audit replay`.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::export::{Export, Format, export};
use bastion_audit::replay::{self, Key, KeyParser, Play, PlayError, ReplayArgs};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::reading;

/// Play a session in this terminal, as it was seen
///
/// Where output or input is no terminal, its text is printed at once. What could harm a terminal is left out
/// either way; `export` has all of it.
///
/// Keys: space stops and goes on, `.` steps, the arrow keys jump 5 seconds, Home begins again, + and - change the
/// speed, q ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    state: super::StatePath,
    #[command(flatten)]
    keys: reading::Keys,
    #[command(flatten)]
    how: ReplayArgs,
}

/// Keys typed ahead.
const KEYS: usize = 16;

impl Replay {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let opened = self.state.store(false)?;
        let live = reading::live_sessions(&opened.state_dir)?;
        let recordings = reading::recordings(&opened, &self.keys)?;
        reading::block_on(async {
            let summary =
                replay::resolve(&recordings, &self.how.id, &live.sessions, |_| true).await?;
            let at = self.how.begin(summary.session.opened, SystemClock.now())?;
            let mut out = reading::stdout()?;
            let result = match reading::terminal().filter(|_| std::io::stdin().is_terminal()) {
                Some(terminal) => {
                    let play = Play {
                        speed: self.how.speed,
                        idle_limit: self.how.idle_limit,
                        at,
                        requests: self.how.requests,
                        terminal,
                    };
                    let _raw = RawMode::enter()?;
                    let mut keys = keys()?;
                    replay::play(&recordings, summary.id(), &mut out, &mut keys, play).await
                }
                None => {
                    let text = Export {
                        format: Format::Text,
                        stream: None,
                        timestamps: false,
                        requests: self.how.requests,
                        from: at,
                    };
                    export(&recordings, summary.id(), text, &mut out).await
                }
            };
            match result {
                Err(PlayError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    Ok(())
                }
                result => Ok(result?),
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The terminal gives every key at once, until this is dropped: also when the program panics.
#[derive(Debug)]
struct RawMode(Termios);

impl RawMode {
    fn enter() -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        let mode = Self(before);
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(mode)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // What was typed and not read is not meant for the shell.
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0).unwrap_or(());
    }
}

/// What is typed; a signal that ends the program ends the replay instead, so that the terminal is left in order.
fn keys() -> anyhow::Result<mpsc::Receiver<Key>> {
    let (press, pressed) = mpsc::channel(KEYS);
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ] {
        let mut signals = signal(kind)?;
        let press = press.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && press.send(Key::Quit).await.is_ok() {}
        });
    }
    // A thread, for a read of the terminal cannot be cancelled; it ends with the process.
    std::thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || {
            let mut parser = KeyParser::default();
            for byte in std::io::stdin().lock().bytes() {
                let Ok(byte) = byte else { return };
                if let Some(key) = parser.feed(byte)
                    && press.blocking_send(key).is_err()
                {
                    return;
                }
            }
        })?;
    Ok(pressed)
}
