//! The sandbox: bubblewrap with a root of its own.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::cgroup::Cgroups;
use super::handover::Listeners;
use super::init::GO;
use super::session_dir::SessionDir;
use super::supervise::{First, Supervised};
use super::uids::{Uid, Uids};
use super::{
    Control, Exit, Input, Launch, LaunchError, Launcher, Output, Running, arguments, handover,
};
use crate::config::Sandbox;
use crate::messages::Terminal;
use crate::spawning::on_lasting_thread;

/// From spawning bubblewrap to its init having handed its socket over.
const START: Duration = Duration::from_secs(10);
/// Signals under way to one command.
const SIGNALS: usize = 8;
/// Runs commands under bubblewrap, each under an OS uid of its own when the daemon is root.
#[derive(Debug)]
pub struct BubblewrapLauncher {
    sandbox: Sandbox,
    run_dir: PathBuf,
    init: PathBuf,
    uids: Option<Uids>,
    cgroups: Option<Cgroups>,
}

impl BubblewrapLauncher {
    /// Prepares `stateDir/run` (what an earlier run left there is removed) with a copy of `program`, which
    /// must answer to `sandbox-init`; checks every path; proves by a run of `true` that bubblewrap works here.
    pub async fn prepare(
        sandbox: Sandbox,
        state_dir: &Path,
        program: &Path,
    ) -> Result<Self, LaunchError> {
        let run_dir = state_dir.join("run");
        let init = prepare_run_dir(&run_dir, program)?;
        let uids = rustix::process::geteuid()
            .is_root()
            .then(|| Uids::new(sandbox.uid_start, sandbox.uid_count.saturating_sub(1)));
        let system = sandbox.system_paths.iter().flatten();
        for path in sandbox
            .tools
            .iter()
            .chain(&sandbox.read_only_paths)
            .chain(system)
            .chain(&sandbox.skeleton)
        {
            check_path(path, uids.is_some())?;
        }
        let launcher = Self {
            cgroups: Cgroups::open(&sandbox)?,
            sandbox,
            run_dir,
            init,
            uids,
        };
        launcher.probe().await?;
        Ok(launcher)
    }

    /// One run of `true` in an empty sandbox, and one of the init in one that is confined, so that a refusal is known before
    /// the first operator comes.
    async fn probe(&self) -> Result<(), LaunchError> {
        let args = arguments::of_probe(&self.sandbox);
        self.try_out(args, |stderr| LaunchError::Refused { stderr })
            .await?;
        let args = arguments::of_confined_probe(&self.sandbox, &self.init);
        self.try_out(args, |stderr| LaunchError::Unconfined { stderr })
            .await
    }

    async fn try_out(
        &self,
        args: Vec<OsString>,
        refused: impl Fn(String) -> LaunchError,
    ) -> Result<(), LaunchError> {
        let uid = self.take_uid()?;
        let mut command = tokio::process::Command::new(&self.sandbox.bubblewrap);
        command
            .args(args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(uid) = &uid {
            command.uid(uid.uid).gid(uid.uid);
        }
        let child = started(move || command.spawn()).await;
        let child = child.map_err(|source| self.cannot_run(source))?;
        let output = match tokio::time::timeout(START, child.wait_with_output()).await {
            Ok(output) => output.map_err(|source| self.cannot_run(source))?,
            Err(_) => return Err(refused("no answer within 10 s".into())),
        };
        match output.status.success() {
            true => Ok(()),
            false => Err(refused(first_line(&output.stderr))),
        }
    }

    fn take_uid(&self) -> Result<Option<Uid>, LaunchError> {
        self.uids.as_ref().map(Uids::take).transpose()
    }

    fn cannot_run(&self, source: io::Error) -> LaunchError {
        LaunchError::NoBubblewrap {
            path: self.sandbox.bubblewrap.clone(),
            source,
        }
    }
}

#[async_trait]
impl Launcher for BubblewrapLauncher {
    async fn launch(&self, launch: Launch<'_>) -> Result<Running, LaunchError> {
        for tool in launch.tools {
            check_path(tool, self.uids.is_some())?;
        }
        let uid = self.take_uid()?;
        let dir = SessionDir::create(&self.run_dir, &launch, uid.as_ref().map(|uid| uid.uid))?;
        let socket = dir.path().join("init.sock");
        let listener =
            UnixListener::bind(&socket).map_err(LaunchError::io("binding the session's socket"))?;
        dir.own(&socket)?;
        let args = arguments::of_session(&self.sandbox, &self.init, &launch, dir.path());
        let uid_number = uid.as_ref().map(|uid| uid.uid);
        let mut spawned = match launch.terminal {
            Some(terminal) => self.spawn_terminal(args, terminal, uid_number).await?,
            None => self.spawn_pipes(args, uid_number).await?,
        };
        let hello = hello(&listener, &mut spawned.child);
        let (mut init, listeners) = match tokio::time::timeout(START, hello).await {
            Ok(Some((init, listeners))) => {
                let failed = LaunchError::io("taking the sandbox's sockets over");
                (init, listeners.map_err(failed)?)
            }
            // Dropping the child kills it.
            Ok(None) | Err(_) => {
                return Err(LaunchError::Refused {
                    stderr: spawned.last_words().await,
                });
            }
        };
        // The way here was for the init alone. What the command finds at it is nothing.
        drop(listener);
        std::fs::remove_file(&socket).map_err(LaunchError::io("removing the session's socket"))?;
        let first =
            First::of(&init).map_err(LaunchError::io("finding the sandbox's first process"))?;
        let cgroup = self.cgroups.as_ref();
        let cgroup = cgroup.map(|all| all.make(launch.session)).transpose()?;
        if let Some(cgroup) = &cgroup {
            cgroup.enter(first.pid())?;
        }
        init.write_all(GO)
            .await
            .map_err(LaunchError::io("starting the command"))?;
        let (signals, signals_rx) = mpsc::channel(SIGNALS);
        let kill = CancellationToken::new();
        let (status, exit) = Exit::new();
        let supervised = Supervised {
            child: spawned.child,
            init,
            first,
            signals: signals_rx,
            kill: kill.clone(),
            cgroup,
            _uid: uid,
            _dir: dir,
        };
        tokio::spawn(async move {
            status.send_replace(Some(supervised.run().await));
        });
        Ok(Running {
            input: spawned.input,
            stdout: spawned.stdout,
            stderr: spawned.stderr,
            control: Control {
                signals,
                kill: kill.clone(),
            },
            exit,
            api: listeners.api,
            words: listeners.words,
            // Where nobody listens, nobody is kept waiting.
            proxy: launch.egress.then_some(listeners.proxy),
            end: kill.drop_guard(),
        })
    }
}

struct Spawned {
    child: Child,
    input: Input,
    stdout: Output,
    stderr: Option<Output>,
}

impl Spawned {
    /// What bubblewrap said before it gave up.
    async fn last_words(mut self) -> String {
        drop(self.child.start_kill());
        let output = self.stderr.as_mut().unwrap_or(&mut self.stdout);
        match tokio::time::timeout(Duration::from_secs(1), output.read()).await {
            Ok(Ok(words)) if !words.is_empty() => first_line(&words),
            _ => "bubblewrap did not start it".to_owned(),
        }
    }
}

impl BubblewrapLauncher {
    async fn spawn_terminal(
        &self,
        args: Vec<OsString>,
        terminal: &Terminal,
        uid: Option<u32>,
    ) -> Result<Spawned, LaunchError> {
        let failed = |what: &'static str| {
            move |error: pty_process::Error| LaunchError::Io {
                what: what.to_owned(),
                source: io::Error::other(error),
            }
        };
        let (pty, pts) = pty_process::open().map_err(failed("opening a terminal"))?;
        pty.resize(pty_process::Size::new(
            terminal.size.rows,
            terminal.size.cols,
        ))
        .map_err(failed("sizing a terminal"))?;
        super::terminal::apply(&pty, &terminal.modes).map_err(|errno| LaunchError::Io {
            what: "setting terminal modes".into(),
            source: errno.into(),
        })?;
        give(&pts, uid)?;
        let mut command = pty_process::Command::new(&self.sandbox.bubblewrap)
            .args(args)
            .env_clear()
            .kill_on_drop(true);
        if let Some(uid) = uid {
            command = command.uid(uid).gid(uid);
        }
        let child = started(move || {
            command.spawn(pts).map_err(|error| match error {
                pty_process::Error::Io(source) => source,
                error => io::Error::other(error),
            })
        });
        let child = child.await.map_err(|source| self.cannot_run(source))?;
        let again = pty
            .as_fd()
            .try_clone_to_owned()
            .map_err(LaunchError::io("opening a terminal"))?;
        let (read, write) = pty.into_split();
        Ok(Spawned {
            child,
            input: Input::Terminal(write),
            stdout: Output::terminal(read, again),
            stderr: None,
        })
    }

    async fn spawn_pipes(
        &self,
        args: Vec<OsString>,
        uid: Option<u32>,
    ) -> Result<Spawned, LaunchError> {
        let mut command = tokio::process::Command::new(&self.sandbox.bubblewrap);
        command
            .args(args)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Away from the daemon's own group: a Ctrl-C at its terminal is not for the command.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        let child = started(move || command.spawn()).await;
        let mut child = child.map_err(|source| self.cannot_run(source))?;
        let missing = || LaunchError::Io {
            what: "piping".into(),
            source: io::Error::other("no pipe"),
        };
        let failed = || LaunchError::io("piping");
        let stdin = child
            .stdin
            .take()
            .ok_or_else(missing)?
            .into_owned_fd()
            .map_err(failed())?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(missing)?
            .into_owned_fd()
            .map_err(failed())?;
        let stderr = child
            .stderr
            .take()
            .ok_or_else(missing)?
            .into_owned_fd()
            .map_err(failed())?;
        for pipe in [&stdin, &stdout, &stderr] {
            give(pipe, uid)?;
        }
        let receiver = |fd: OwnedFd| {
            pipe::Receiver::from_owned_fd(fd)
                .map(Output::pipe)
                .map_err(failed())
        };
        Ok(Spawned {
            child,
            input: Input::Pipe(pipe::Sender::from_owned_fd(stdin).map_err(failed())?),
            stdout: receiver(stdout)?,
            stderr: Some(receiver(stderr)?),
        })
    }
}

/// Starts bubblewrap, which is told to end with who started it.
async fn started(start: impl FnOnce() -> io::Result<Child> + Send + 'static) -> io::Result<Child> {
    on_lasting_thread(start).await?
}

/// Makes a session's uid the owner of its stream: what has it open may open it again as `/dev/stdin` or
/// `/dev/stderr`.
fn give(stream: impl AsFd, uid: Option<u32>) -> Result<(), LaunchError> {
    match uid {
        Some(uid) => std::os::unix::fs::fchown(stream, Some(uid), Some(uid))
            .map_err(LaunchError::io("giving a session its streams")),
        None => Ok(()),
    }
}

/// The init's connection with the sockets that it hands over, or `None` if the sandbox ended before. Only the first
/// connection is taken: the command comes later.
async fn hello(
    listener: &UnixListener,
    child: &mut Child,
) -> Option<(UnixStream, io::Result<Listeners>)> {
    let taken = async {
        let (init, _) = listener.accept().await.ok()?;
        let listeners = handover::take_all(&init).await;
        Some((init, listeners))
    };
    tokio::select! {
        biased;
        taken = taken => taken,
        _ = child.wait() => None,
    }
}

/// `stateDir/run` with nothing of an earlier run, and the init in it. Others may pass through it to what
/// they own, and see nothing: each session runs under a uid of its own.
fn prepare_run_dir(run_dir: &Path, program: &Path) -> Result<PathBuf, LaunchError> {
    let failed = |what: &str| LaunchError::io(format!("{what} {}", run_dir.display()));
    match std::fs::remove_dir_all(run_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("emptying")(error));
        }
        _ => {}
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(run_dir)
        .map_err(failed("creating"))?;
    // A copy: the installed file may be replaced while the daemon runs, or lie where a session's uid
    // cannot reach it.
    let init = run_dir.join("init");
    std::fs::copy(program, &init).map_err(failed("copying the program into"))?;
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))
        .map_err(failed("setting permissions in"))?;
    Ok(init)
}

/// A session's uid is nobody's: what it shall see must be readable by all, its directories included.
fn check_path(path: &Path, other_uid: bool) -> Result<(), LaunchError> {
    let refused = |path: &Path, reason: String| LaunchError::Path {
        path: path.to_owned(),
        reason,
    };
    let meta = std::fs::metadata(path).map_err(|error| refused(path, error.to_string()))?;
    if !other_uid {
        return Ok(());
    }
    if meta.mode() & 0o004 == 0 {
        return Err(refused(path, "others may not read it (chmod o+r)".into()));
    }
    for parent in path.ancestors().skip(1) {
        let meta = std::fs::metadata(parent).map_err(|error| refused(parent, error.to_string()))?;
        if meta.mode() & 0o001 == 0 {
            let parent = parent.display();
            return Err(refused(
                path,
                format!("others may not enter {parent}; copy it where they may"),
            ));
        }
    }
    Ok(())
}

fn first_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line: String = text
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(300)
        .collect();
    line.replace(|c: char| c.is_control(), " ")
}
