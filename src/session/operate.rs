//! An operator's shell or command, from the decision to the seal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use crate::audit::{Ended, Event};
use crate::config::SessionKind;
use crate::launch::{ExitStatus, Launch, Running};
use crate::messages::{Command, Open, SessionEvent};
use crate::mint::{Lease, Minter};
use crate::monitor::Monitor;
use crate::policy::Grant;
use crate::recording::{Ending, OpenRecording, Stream};

use super::client::Client;
use super::live::{LiveSession, Place};
use super::pump::{self, Stopped};
use super::steps::{self, Refusal};
use super::{Caller, SessionId};

/// What a command gets to say goodbye when its client is gone or its time is over.
const GOODBYE: Duration = Duration::from_secs(1);
/// A renewal under way when a session ends is waited for, so that its token is on record.
const RENEWAL: Duration = Duration::from_secs(10);
/// When an operator at a terminal is told how much time is left, in minutes before the end.
const WARNINGS: [u64; 2] = [5, 1];
/// The exit status of a session that we ended.
const CUT: u32 = 255;

/// Decides, records, mints, runs, seals, releases.
pub(super) async fn run(
    monitor: &Monitor,
    caller: &Caller,
    open: Open,
    kind: SessionKind,
    id: SessionId,
    client: Client,
) -> Result<(), Refusal> {
    let grant = match steps::decide(monitor, caller, kind, open.terminal.is_some(), id).await {
        Ok(grant) => grant,
        Err(sentence) => return Err(Refusal { sentence, client }),
    };
    let recording = match steps::record(monitor, caller, &grant, &open, id).await {
        Ok(recording) => recording,
        Err(sentence) => return Err(Refusal { sentence, client }),
    };
    let lease = match steps::mint(monitor, caller, &grant, id).await {
        Ok(lease) => lease,
        Err(sentence) => {
            let ended = Ended::Cut {
                reason: sentence.clone(),
            };
            close(monitor, caller, id, &recording, ended).await;
            return Err(Refusal { sentence, client });
        }
    };
    Session::open(grant, recording, lease)
        .run(monitor, caller, open, client)
        .await
}

/// Everything that a running session has. There is no other way to one.
struct Session {
    grant: Grant,
    recording: OpenRecording,
    lease: Lease,
}

impl Session {
    fn open(grant: Grant, recording: OpenRecording, lease: Lease) -> Self {
        Self {
            grant,
            recording,
            lease,
        }
    }

    async fn run(
        mut self,
        monitor: &Monitor,
        caller: &Caller,
        open: Open,
        mut client: Client,
    ) -> Result<(), Refusal> {
        let id = self.recording.id();
        let mut place = monitor.live.enter(
            self.told(id, caller),
            caller.identity.clone(),
            self.grant.clone(),
        );
        let ended = match self.start(monitor, caller, &open).await {
            Ok(running) => Ok(self.attend(monitor, running, &mut client, &mut place).await),
            Err(sentence) => Err(sentence),
        };
        let (ended, refused) = match ended {
            Ok(ended) => (ended, None),
            Err(sentence) => (
                Ended::Cut {
                    reason: sentence.clone(),
                },
                Some(sentence),
            ),
        };
        tokio::join!(
            steps::release(monitor, self.lease),
            close(monitor, caller, id, &self.recording, ended.clone()),
        );
        if let Some(sentence) = refused {
            return Err(Refusal { sentence, client });
        }
        // Last, so that whoever sees the end of a session finds it sealed and its credential gone.
        say_goodbye(&client, id, ended).await;
        Ok(())
    }

    /// Starts the command. Everything about it is on record before it runs.
    async fn start(
        &mut self,
        monitor: &Monitor,
        caller: &Caller,
        open: &Open,
    ) -> Result<Running, String> {
        let id = self.recording.id();
        let unrecorded = |_| "this session cannot be recorded, so it ends".to_owned();
        let lease = &self.lease;
        self.recording
            .lease(lease.jti(), lease.audit_id(), lease.expires())
            .await
            .map_err(unrecorded)?;
        let command = steps::command_shown(open);
        let event = Event::SessionOpened {
            session: id,
            identity: self.grant.identity(),
            role: self.grant.role(),
            cluster: self.grant.cluster(),
            kind: self.grant.kind(),
            command: command.as_deref(),
        };
        steps::on_record(monitor, event).await?;
        let failed = "the sandbox for your command could not be started; tell your administrator";
        let launcher = monitor.launcher.as_ref().map_err(|_| {
            "this bastion cannot run commands: its sandbox does not work; tell your administrator".to_owned()
        })?;
        let api_server = monitor
            .leases
            .endpoint(self.grant.cluster())
            .await
            .map_err(|error| error.for_operator())?;
        let launch = Launch {
            session: id,
            identity: self.grant.identity(),
            role: self.grant.role(),
            cluster: self.grant.cluster(),
            command: match &open.command {
                Command::Exec(line) => Some(line.clone()),
                Command::Shell | Command::Subsystem(_) => None,
            },
            terminal: open.terminal.as_ref(),
            api_server: &api_server,
            credential: lease.credential(),
        };
        match launcher.launch(launch).await {
            Ok(running) => Ok(running),
            Err(error) => {
                steps::fail(monitor, caller, id, "launch", &error).await;
                Err(failed.to_owned())
            }
        }
    }

    /// Carries bytes until the command ends, or something ends it.
    async fn attend(
        &mut self,
        monitor: &Monitor,
        running: Running,
        client: &mut Client,
        place: &mut Place,
    ) -> Ended {
        let recording = &self.recording;
        let remaining = remaining(self.grant.ends(), monitor.clock.now());
        let renewing = AtomicBool::new(false);
        let Running {
            input,
            stdout,
            stderr,
            control,
            mut exit,
            credentials,
            end,
        } = running;
        let to = client.to.clone();
        let streams = async {
            let stderr = async {
                match stderr {
                    Some(stderr) => pump::output(stderr, Stream::Stderr, recording, &to).await,
                    None => Ok(()),
                }
            };
            tokio::try_join!(pump::output(stdout, Stream::Stdout, recording, &to), stderr)
        };
        let work = async {
            match streams.await {
                Ok(_) => Ok((&mut exit).await),
                Err(stopped) => Err(stopped),
            }
        };
        let mut renewals = std::pin::pin!(renewals(
            monitor,
            &mut self.lease,
            &credentials,
            recording,
            &renewing
        ));
        let ended = tokio::select! {
            worked = work => match worked {
                Ok(status) => told(status.ok()),
                Err(Stopped::ClientGone) => client_gone(),
                Err(Stopped::Unrecorded(error)) => unrecorded(&error),
            },
            stopped = pump::input(&mut client.from, input, &control, recording) => match stopped {
                Stopped::ClientGone => client_gone(),
                Stopped::Unrecorded(error) => unrecorded(&error),
            },
            // A command that does not read its input must not hide that its client is gone.
            () = to.closed() => client_gone(),
            reason = place.cut() => Ended::Cut { reason },
            reason = renewals.as_mut() => Ended::Cut { reason },
            reason = time_over(remaining, client.terminal, recording, &to) => Ended::Cut { reason },
        };
        if matches!(ended, Ended::Cut { .. }) {
            control.signal("HUP");
            drop(tokio::time::timeout(GOODBYE, &mut exit).await);
        }
        drop(end);
        if renewing.load(Ordering::Relaxed) {
            drop(tokio::time::timeout(RENEWAL, renewals).await);
        }
        ended
    }

    fn told(&self, session: SessionId, caller: &Caller) -> LiveSession {
        LiveSession {
            session,
            identity: self.grant.identity().clone(),
            role: self.grant.role().clone(),
            cluster: self.grant.cluster().clone(),
            kind: self.grant.kind(),
            client: caller.peer.clone(),
            opened: session.opened(),
            ends: self.grant.ends(),
        }
    }
}

/// Seals the recording and says so in the audit log.
async fn close(
    monitor: &Monitor,
    caller: &Caller,
    session: SessionId,
    recording: &OpenRecording,
    ended: Ended,
) {
    let ending = match &ended {
        Ended::Exit { status } => Ending::Exit(*status),
        Ended::Signal { name } => Ending::Signal(name.clone()),
        Ended::Cut { reason } => Ending::Cut {
            reason: reason.clone(),
        },
    };
    let sealed = match recording.seal(ending).await {
        Ok(sealed) => Some(sealed),
        Err(error) => {
            steps::fail(monitor, caller, session, "recording", &error).await;
            None
        }
    };
    let sealed = sealed.as_ref();
    let event = Event::SessionClosed {
        session,
        identity: caller.identity.name(),
        ended,
        cast_bytes: sealed.map(|sealed| sealed.cast_bytes),
        recording_sha256: sealed.map(|sealed| sealed.sha256.as_str()),
        output_bytes: sealed.map(|sealed| sealed.output_bytes),
        input_bytes: sealed.map(|sealed| sealed.input_bytes),
    };
    monitor.audit.tell(event).await;
}

async fn say_goodbye(client: &Client, session: SessionId, ended: Ended) {
    let event = match ended {
        Ended::Exit { status } => SessionEvent::Exit(status),
        Ended::Signal { name } => SessionEvent::Killed {
            signal: name,
            core_dumped: false,
        },
        Ended::Cut { reason } => {
            let words = format!("bastion-audit: session {session} was ended: {reason}");
            return client.last_words(&words, CUT).await;
        }
    };
    if client.send(event).await.is_err() {
        tracing::debug!("the client left before it was told the exit status");
    }
}

/// Renews the lease while the session is open. Ends only when that has failed for good, with the reason.
async fn renewals(
    monitor: &Monitor,
    lease: &mut Lease,
    credentials: &crate::launch::SessionDir,
    recording: &OpenRecording,
    renewing: &AtomicBool,
) -> String {
    loop {
        sleep(until_renewal(lease.expires(), monitor.clock.now())).await;
        renewing.store(true, Ordering::Relaxed);
        let renewed = renew(monitor, lease, credentials, recording).await;
        renewing.store(false, Ordering::Relaxed);
        match renewed {
            Ok(()) => {}
            Err(reason) if lease.expires() <= monitor.clock.now() => return reason,
            Err(reason) => tracing::warn!("session {}: {reason}; trying again", lease.session()),
        }
    }
}

async fn renew(
    monitor: &Monitor,
    lease: &mut Lease,
    credentials: &crate::launch::SessionDir,
    recording: &OpenRecording,
) -> Result<(), String> {
    monitor.leases.renew(lease).await.map_err(|error| {
        format!(
            "its credential could not be renewed: {}",
            error.for_operator()
        )
    })?;
    let (session, jti, audit_id, expires) = (
        lease.session(),
        lease.jti(),
        lease.audit_id(),
        lease.expires(),
    );
    steps::on_record(
        monitor,
        Event::LeaseRenewed {
            session,
            jti,
            audit_id,
            expires,
        },
    )
    .await?;
    recording
        .lease(jti, audit_id, expires)
        .await
        .map_err(|error| error.to_string())?;
    credentials
        .renew(lease.credential())
        .map_err(|error| error.to_string())
}

/// Two thirds through a token's remaining life, but not more often than every five seconds.
fn until_renewal(expires: Timestamp, now: Timestamp) -> Duration {
    (remaining(expires, now) * 2 / 3).max(Duration::from_secs(5))
}

fn remaining(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// Warns an operator at a terminal, then says that the time is over.
async fn time_over(
    total: Duration,
    terminal: bool,
    recording: &OpenRecording,
    to: &tokio::sync::mpsc::Sender<SessionEvent>,
) -> String {
    let mut left = total;
    for minutes in WARNINGS.into_iter().filter(|_| terminal) {
        let warn_at = Duration::from_secs(minutes * 60);
        if let Some(wait) = left.checked_sub(warn_at) {
            sleep(wait).await;
            left = warn_at;
            let plural = if minutes == 1 { "" } else { "s" };
            let text =
                format!("\r\nbastion-audit: this session ends in {minutes} minute{plural}\r\n");
            if recording.notice(text.trim()).await.is_ok()
                && recording
                    .output(Stream::Stdout, text.as_bytes())
                    .await
                    .is_ok()
            {
                // A client that does not read needs no warning.
                drop(to.try_send(SessionEvent::Stdout(text.into())));
            }
        }
    }
    sleep(left).await;
    "its time is over".to_owned()
}

fn told(status: Option<ExitStatus>) -> Ended {
    match status {
        Some(ExitStatus::Code(code)) => Ended::Exit {
            status: code.into(),
        },
        Some(ExitStatus::Signal { name, .. }) => Ended::Signal { name },
        None => Ended::Cut {
            reason: "its sandbox was lost".into(),
        },
    }
}

fn client_gone() -> Ended {
    Ended::Cut {
        reason: "the client went away".into(),
    }
}

fn unrecorded(error: &crate::recording::RecordingError) -> Ended {
    tracing::error!("{error}");
    Ended::Cut {
        reason: format!("it could not be recorded ({error}), and nothing runs unrecorded"),
    }
}
