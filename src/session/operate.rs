//! An operator's shell or command, from the decision to the seal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::audit::{Ended, Event};
use crate::clock;
use crate::config::SessionKind;
use crate::egress::Egress;
use crate::launch::{ExitStatus, Launch, Running};
use crate::messages::{Command, Open, SessionEvent};
use crate::mint::Lease;
use crate::monitor::Monitor;
use crate::policy::{self, Grant};
use crate::recording::{Ending, OpenRecording, RecordingError, Stream};

use super::api::Api;
use super::client::Client;
use super::deadline::{self, time_over};
use super::inside;
use super::live::{LiveSession, Place};
use super::proxied::Proxied;
use super::pump::{self, Stopped};
use super::renewal::renewals;
use super::steps::{self, Refusal};
use super::{Caller, SessionId};

/// What a command gets to say goodbye when its client is gone or its time is over.
const GOODBYE: Duration = Duration::from_secs(1);
/// From killing a sandbox to its last process being gone.
const LAST_PROCESS: Duration = Duration::from_secs(5);
/// A renewal under way when a session ends is waited for, so that its token is on record.
const RENEWAL: Duration = Duration::from_secs(10);
const NO_SANDBOX: &str =
    "this bastion cannot run commands: its sandbox does not work; tell your administrator";
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
    if let Err(error) = &monitor.launcher {
        // Known before anything is minted for a command that will not run.
        steps::fail(monitor, caller, id, "launch", error).await;
        let sentence = NO_SANDBOX.to_owned();
        return Err(Refusal { sentence, client });
    }
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
            LiveSession::of(id, caller, &self.grant),
            caller.identity.clone(),
            self.grant.clone(),
        );
        let ended = match self.start(monitor, caller, &open).await {
            Ok((running, api)) => Ok(self
                .attend(monitor, caller, running, api, &mut client, &mut place)
                .await),
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
        // A client that takes nothing more holds no place by that.
        drop(place);
        // Last, so that whoever sees the end of a session finds it sealed and its credential gone.
        say_goodbye(&client, id, ended).await;
        Ok(())
    }

    /// Starts the command, and opens its way to the cluster. Everything about it is on record before it runs.
    async fn start(
        &mut self,
        monitor: &Monitor,
        caller: &Caller,
        open: &Open,
    ) -> Result<(Running, Api), String> {
        let id = self.recording.id();
        steps::still_stands(monitor, caller, &self.grant, id).await?;
        let api = Api::open(monitor, &self.grant, &self.recording, &self.lease, open).await?;
        let failed = "the sandbox for your command could not be started; tell your administrator";
        let config = monitor.config();
        let launcher = monitor
            .launcher
            .as_ref()
            .map_err(|_| NO_SANDBOX.to_owned())?;
        let launch = Launch {
            session: id,
            identity: self.grant.identity(),
            role: self.grant.role(),
            cluster: self.grant.cluster(),
            command: match &open.command {
                Command::Exec(line) => Some(line.clone()),
                Command::Shell | Command::Tunnel(_) | Command::Subsystem(_) => None,
            },
            terminal: open.terminal.as_ref(),
            tools: config.tools_of(self.grant.role()),
            egress: policy::has_egress(&config, self.grant.role()),
            gateway_ca: monitor.gateway.ca_pem(),
        };
        match launcher.launch(launch).await {
            Ok(running) => Ok((running, api)),
            Err(error) => {
                steps::fail(monitor, caller, id, "launch", &error).await;
                Err(failed.to_owned())
            }
        }
    }

    /// Carries bytes and requests until the command ends, or something ends it.
    async fn attend(
        &mut self,
        monitor: &Monitor,
        caller: &Caller,
        running: Running,
        mut api: Api,
        client: &mut Client,
        place: &mut Place,
    ) -> Ended {
        let recording = &self.recording;
        if let Err(error) = self.greet(client).await {
            return unrecorded(&error);
        }
        let renewing = AtomicBool::new(false);
        let Running {
            input,
            stdout,
            stderr,
            control,
            mut exit,
            api: listener,
            words,
            proxy,
            end,
        } = running;
        let proxied = self.proxied(monitor, proxy);
        let requests = api.serve(&monitor.gateway, listener);
        let to = client.to.clone();
        let ends = place.ends();
        let terminal = client.terminal.then_some(&to);
        let warn = |minutes| async move {
            if let Some(terminal) = terminal {
                let instead = inside::instead(monitor, caller, recording.id());
                deadline::tell(minutes, instead, recording, terminal).await;
            }
        };
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
                Ok(_) => Ok(exit.wait().await),
                Err(stopped) => Err(stopped),
            }
        };
        let mut renewals = std::pin::pin!(renewals(
            monitor,
            &mut self.lease,
            &api.in_use,
            recording,
            &renewing,
            self.grant.ttl(),
        ));
        let ended = tokio::select! {
            // In this order: whoever ends a session ends its connection next, and the record must say why.
            biased;
            reason = place.cut() => Ended::Cut { reason },
            worked = work => match worked {
                Ok(status) => outcome(status),
                Err(Stopped::ClientGone) => client_gone(),
                Err(Stopped::Unrecorded(error)) => unrecorded(&error),
            },
            stopped = pump::input(&mut client.from, input, &control, recording) => match stopped {
                Stopped::ClientGone => client_gone(),
                Stopped::Unrecorded(error) => unrecorded(&error),
            },
            // A command that does not read its input must not hide that its client is gone.
            () = to.closed() => client_gone(),
            Some(error) = api.unrecorded.recv() => unrecorded(&error),
            reason = renewals.as_mut() => Ended::Cut { reason },
            never = inside::answer(monitor, caller, recording, &words) => match never {},
            reason = time_over(ends, monitor.clock.as_ref(), warn) => Ended::Cut { reason },
        };
        // First of all: whoever is cut gets nothing more out of the cluster while the command says goodbye.
        api.end();
        proxied.end();
        if matches!(ended, Ended::Cut { .. }) {
            control.signal("HUP");
            drop(tokio::time::timeout(GOODBYE, exit.wait()).await);
        }
        drop(end);
        // What is sealed has ended: nothing of it runs on.
        if tokio::time::timeout(LAST_PROCESS, exit.wait())
            .await
            .is_err()
        {
            tracing::error!("session {}: its sandbox does not end", recording.id());
        }
        // Before the seal, so that what became of each request is in it.
        requests.ended().await;
        proxied.ended().await;
        if renewing.load(Ordering::Relaxed) {
            drop(tokio::time::timeout(RENEWAL, renewals).await);
        }
        ended
    }

    /// The way to other hosts, if the role has one.
    fn proxied(&self, monitor: &Monitor, listener: Option<TcpListener>) -> Proxied {
        Proxied::serve(
            listener,
            Egress {
                session: self.recording.id(),
                grant: self.grant.clone(),
                config: monitor.config.clone(),
                audit: monitor.audit.clone(),
            },
        )
    }

    /// Tells an operator at a shell who they are here, and that this is on record.
    async fn greet(&self, client: &Client) -> Result<(), RecordingError> {
        let grant = &self.grant;
        if grant.kind() != SessionKind::Shell || !client.terminal {
            return Ok(());
        }
        let text = format!(
            "You are {} as {} on {}. This session is recorded; it ends by {}.\r\n",
            grant.identity(),
            grant.role(),
            grant.cluster(),
            clock::to_the_second(grant.ends()),
        );
        self.recording
            .output(Stream::Stdout, text.as_bytes())
            .await?;
        if client
            .send(SessionEvent::Stdout(text.into()))
            .await
            .is_err()
        {
            tracing::debug!("the client left before its greeting");
        }
        Ok(())
    }
}

/// Seals the recording and says so in the audit log.
pub(super) async fn close(
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
        checkpoint_sha256: sealed.map(|sealed| sealed.checkpoint.as_str()),
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

fn outcome(status: Option<ExitStatus>) -> Ended {
    match status {
        Some(ExitStatus::Code(code)) => Ended::Exit {
            status: code.into(),
        },
        Some(ExitStatus::Signal { name, .. }) => Ended::Signal { name },
        Some(ExitStatus::OutOfMemory) => Ended::Cut {
            reason: "it used more memory than one session may".into(),
        },
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

pub(super) fn unrecorded(error: &RecordingError) -> Ended {
    let reason = match error {
        // That is on record as what it is, once for all sessions.
        RecordingError::NoRoom { .. } => format!("{error}, and nothing runs unrecorded"),
        RecordingError::Quota { .. } => error.to_string(),
        error => {
            tracing::error!("{error}");
            format!("it could not be recorded ({error}), and nothing runs unrecorded")
        }
    };
    Ended::Cut { reason }
}
