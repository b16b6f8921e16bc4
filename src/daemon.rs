//! The daemon, whole: everything is opened, checked and recovered before the first operator is let in.

mod error;
mod front;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::AdminSocket;
use crate::audit::{Audit, Event, Link};
use crate::clock::Clock;
use crate::config::watch::{Reload, Reloads};
use crate::config::{self, Bastion};
use crate::custody::Custody;
use crate::gateway::Gateway;
use crate::issuer::{DocumentServer, IssuerError, Issuing};
use crate::launch::{BubblewrapLauncher, LaunchError, Launcher};
use crate::locks::{LockFile, Locking};
use crate::log::{self, EvidenceLog, Leaf, LogError, LogReader, Witnesses};
use crate::mint::Leases;
use crate::monitor::Monitor;
use crate::network::{Keeper, Start};
use crate::notary::DaemonNotary;
use crate::oidc::{Attempts, LoginPages, LoginServer, Providers, SignOnFile, SignOnStore};
use crate::recording::{Identities, Notary, Packer, Recorder, Recordings, ToPack};
use crate::server::{Server, ServerError};
use crate::session::{Live, SessionId};
use crate::signing::Signing;
use crate::storage;
use crate::store::fs::InLog;
use crate::store::room::Room;
use crate::store::{self, FsStore};
use crate::strangers::Strangers;
use crate::totp::{Codes, TotpFile};

pub use error::{StartError, Unserved};

/// What [`Supervisor`](crate::supervise::Supervisor) calls the task that ends what is no longer allowed,
const ENFORCEMENT: &str = "enforcement";
/// and the one that looks at the disk.
const STORAGE: &str = "storage";

/// What an ended session may take to seal and release after its drain is over.
const LAST_SEALS: Duration = Duration::from_secs(20);

/// From the end of the last session to the end of its connection, which clients do by themselves.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long an address may still be another's when a daemon starts.
const ADDRESS_IN_USE: Duration = Duration::from_secs(3);

/// Sealed recordings that wait to be packed. One too many stays as it is.
const WAIT_TO_BE_PACKED: usize = 1024;

/// How often the head of the audit log goes into the evidence log, while events happen.
const LOG_AUDIT_HEAD_EVERY: Duration = Duration::from_secs(600);

/// Longest state directory: `run/` + an id + `/init.sock` must fit into a socket's 108 bytes.
const LONGEST_STATE_DIR: usize = 64;

/// A daemon that is ready to serve.
#[derive(Debug)]
pub struct Daemon {
    monitor: Arc<Monitor>,
    network: Keeper,
    address: SocketAddr,
    admin: AdminSocket,
    reloads: Reloads,
    documents: Option<DocumentServer>,
    login: Option<LoginServer>,
    packing: JoinHandle<()>,
    packing_ends: CancellationToken,
    // Held to the end: the next daemon on this directory must wait for our seals.
    _lock: std::fs::File,
}

impl Daemon {
    /// Opens everything. `program` must answer to `sandbox-init`, which is what runs first in a sandbox, and to `network`,
    /// which speaks SSH, and writes its log as JSON if `log_json` says so.
    pub async fn start(
        reloads: Reloads,
        program: &Path,
        log_json: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let config = reloads.current.clone();
        let state_dir = config.borrow().bastion.state_dir.clone();
        let state_dir = &state_dir;
        check_length(state_dir)?;
        config::state_dir(state_dir)?;
        let lock = lock(state_dir)?;
        let room = Room::new(state_dir);
        storage::begin(&room).await;
        // Before anything is decided.
        let (lock_file, locks) = LockFile::open(state_dir, room.clone())?;
        let locking = Locking::begin(lock_file, locks, reloads.in_force.clone());
        let (totp_file, enrolments) = TotpFile::open(state_dir, room.clone())?;
        let codes = Codes::begin(totp_file, enrolments, reloads.in_force.clone());
        let (sign_on_file, found) = SignOnFile::open(state_dir, room.clone())?;
        let sign_ons = SignOnStore::begin(sign_on_file, found, reloads.in_force.clone());
        let now = Arc::clone(&config.borrow());
        let bastion = &now.bastion;
        let (signing, log) = evidence(bastion, &clock, room.clone()).await?;
        let audit = Audit::open(
            &bastion.audit_log,
            state_dir,
            bastion.name.as_str(),
            signing.clone(),
            Arc::clone(&clock),
            room.clone(),
        )?;
        log.append(Leaf::Started {
            at: clock.now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            key: signing.key().clone(),
        })
        .await?;
        let store = FsStore::new(state_dir).with_room(room.clone());
        let notary = DaemonNotary::new(signing.clone(), log.clone(), Arc::clone(&clock));
        let notary: Arc<dyn Notary> = Arc::new(notary);
        let unsealed = store::fs::unsealed(&store).await?;
        let in_log = in_log(&signing, state_dir, &unsealed).await?;
        let recovered = store::fs::recover(&store, &unsealed, &in_log, &*notary, clock.now());
        for interrupted in recovered.await? {
            let (session, reason) = (interrupted.session, interrupted.reason);
            audit
                .emit(Event::RecordingInterrupted { session, reason })
                .await?;
        }
        // When everything is closed that an earlier daemon left open.
        let (custody, reading) = Custody::open(&now, &store, &log, &notary, &audit, &clock).await?;
        let leases = Leases::open(
            state_dir,
            bastion.name.clone(),
            Arc::clone(&clock),
            room.clone(),
        )?;
        leases.issuing().update(bastion.issuer.as_ref())?;
        leases.update(&now);
        let documents = documents(bastion, leases.issuing()).await?;
        let gateway = Gateway::open(state_dir, Arc::clone(&clock), leases.secrets().clone())?;
        gateway.update(&now);
        let launcher =
            BubblewrapLauncher::prepare(bastion.sandbox.clone(), state_dir, program).await;
        let launcher: Result<Arc<dyn Launcher>, LaunchError> = match launcher {
            Ok(launcher) => Ok(Arc::new(launcher)),
            Err(error) => {
                tracing::error!("operators' commands will not be run: {error}");
                Err(error)
            }
        };
        storage::keep(&room, bastion.recordings.reserve).await;
        let strangers = Strangers::default();
        let attempts = Attempts::default();
        let providers = Providers::new(Arc::clone(&clock));
        let pages = LoginPages {
            attempts: attempts.clone(),
            providers: providers.clone(),
            in_force: reloads.in_force.clone(),
            audit: audit.clone(),
            strangers: strangers.clone(),
        };
        let login = match &bastion.login {
            Some(login) => Some(LoginServer::bind(&login.listener, pages).await?),
            None => None,
        };
        let (host_keys, rules) = front::of(&config, &clock).await?;
        let server = listen(bastion.listen).await?;
        let address = server.local_addr();
        let start = Start {
            program: program.to_owned(),
            log_json,
            uid: network_uid(&bastion.sandbox),
            socket: bastion.network.clone(),
            host_keys,
            rules,
        };
        let network = Keeper::begin(start, server.into_listener()?).await?;
        let admin = AdminSocket::bind(state_dir).map_err(|source| StartError::Io {
            path: state_dir.join(crate::admin::SOCKET),
            source,
        })?;
        let (version, config_digest) = (env!("CARGO_PKG_VERSION"), now.digest.as_str());
        audit
            .emit(Event::DaemonStarted {
                version,
                config_digest,
            })
            .await?;
        let (to_pack, sealed) = mpsc::channel(WAIT_TO_BE_PACKED);
        let recorder = Recorder::new(Arc::new(store.clone()), Arc::clone(&notary))
            .with_secrets(leases.secrets().clone())
            .with_room(room.clone())
            .with_packer(to_pack.clone());
        let packing_ends = CancellationToken::new();
        let packer = Packer::new(store.clone(), notary);
        let packing = tokio::spawn(packer.run(sealed, packing_ends.clone()));
        tokio::spawn(pack_the_rest(store.clone(), to_pack));
        let monitor = Arc::new(Monitor {
            config: config.clone(),
            locking,
            codes,
            attempts,
            providers,
            sign_ons,
            taking_back: tokio::sync::Mutex::default(),
            audit,
            strangers,
            signing,
            log,
            witnesses: Witnesses::default(),
            recorder,
            store,
            recordings: Recordings::new(reading, Identities::default()),
            room,
            custody,
            gateway,
            leases,
            launcher,
            clock,
            live: Live::default(),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
        });
        Ok(Self {
            monitor,
            network,
            address,
            admin,
            reloads,
            documents,
            login,
            packing,
            packing_ends,
            _lock: lock,
        })
    }

    /// Where SSH is served, with the port that the system chose if the configuration left it open.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where people sign in by a browser, if anywhere.
    pub fn login_addr(&self) -> Option<std::net::SocketAddr> {
        self.login.as_ref()?.local_addr().ok()
    }

    /// Why operators' commands are not run here; `None` if they are.
    pub fn cannot_launch(&self) -> Option<&LaunchError> {
        self.monitor.launcher.as_ref().err()
    }

    /// The side that decides: for whoever embeds the daemon.
    pub fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// Serves until `stop`. Then nobody new is let in, open sessions get `limits.drain` to end by
    /// themselves (none of it once `now` is cancelled too), and every one is sealed and released before this
    /// returns.
    ///
    /// # Errors
    ///
    /// It stopped by itself, because nobody could have come any more.
    pub async fn serve(
        self,
        stop: CancellationToken,
        now: CancellationToken,
    ) -> Result<(), Unserved> {
        let Self {
            monitor,
            network,
            address: _,
            admin,
            reloads,
            documents,
            login,
            packing,
            packing_ends,
            _lock: lock,
        } = self;
        let admin = tokio::spawn(admin.serve(Arc::clone(&monitor)));
        // To the end: what a session's last requests are signed with must be found as long as it is open.
        let published = CancellationToken::new();
        let _published = published.clone().drop_guard();
        if let Some(documents) = documents {
            tokio::spawn(documents.serve(published));
        }
        if let Some(login) = login {
            tokio::spawn(login.serve(stop.clone()));
        }
        let enforce = supervised(&monitor, ENFORCEMENT, Monitor::enforce);
        let storage = supervised(&monitor, STORAGE, storage::watch);
        let config = reloads.current.clone();
        // What is under way at the end is taken up again by the next daemon.
        let _custody = monitor.custody.spawn(config.clone());
        let report = tokio::spawn(report(reloads, Arc::clone(&monitor)));
        let witness = config.borrow().bastion.witness.clone();
        let witness = tokio::spawn(witness.follow(
            monitor.log.clone(),
            monitor.audit.clone(),
            Arc::clone(&monitor.clock),
            monitor.witnesses.clone(),
        ));
        let audit_heads = tokio::spawn(audit_heads(Arc::clone(&monitor)));
        let strangers = monitor.strangers.clone();
        let summing_up =
            strangers.keep_summing_up(monitor.audit.clone(), Arc::clone(&monitor.clock));
        let summing_up = tokio::spawn(summing_up);
        let mut serving = tokio::spawn(network.serve(Arc::clone(&monitor), stop.clone()));
        let ended = tokio::select! {
            () = stop.cancelled() => None,
            ended = &mut serving => Some(ended),
        };
        stop.cancel();
        let drain = config.borrow().bastion.limits.drain;
        tracing::info!("stopping: open sessions have {} s", drain.as_secs());
        tokio::select! {
            () = no_session(&monitor.live) => {}
            () = tokio::time::sleep(drain) => {}
            () = now.cancelled() => {}
        }
        monitor.live.close("the bastion is stopping");
        if tokio::time::timeout(LAST_SEALS, no_session(&monitor.live))
            .await
            .is_err()
        {
            tracing::error!(
                "some sessions could not be sealed in time; the next start closes them"
            );
        }
        monitor.tasks.close();
        let parted = tokio::time::timeout(LAST_WORDS, monitor.tasks.wait()).await;
        monitor.over.cancel();
        if parted.is_err()
            && tokio::time::timeout(LAST_SEALS, monitor.tasks.wait())
                .await
                .is_err()
        {
            tracing::error!("some sessions did not end in time; the next start closes them");
        }
        let served = match ended {
            Some(ended) => Ok(ended),
            None => tokio::time::timeout(LAST_WORDS, serving).await,
        };
        if served.is_err() {
            tracing::error!("some connections did not end in time");
        }
        packing_ends.cancel();
        if tokio::time::timeout(LAST_SEALS, packing).await.is_err() {
            tracing::warn!(
                "some recordings are left as they were written: the next start packs what it can read"
            );
        }
        admin.abort();
        enforce.abort();
        storage.abort();
        report.abort();
        summing_up.abort();
        monitor
            .strangers
            .sum_up(&monitor.audit, monitor.clock.now())
            .await;
        monitor.audit.tell(Event::DaemonStopped {}).await;
        monitor.audit.close().await;
        audit_heads.abort();
        log_audit_head(&monitor, &mut None).await;
        monitor.log.close().await;
        // Its last checkpoint; a share that hangs must not hold up the end.
        drop(tokio::time::timeout(LAST_WORDS, witness).await);
        drop(lock);
        served.unwrap_or(Ok(())).map_err(Unserved)
    }
}

/// The network process of a daemon that was killed just now has the address until it notices.
async fn listen(address: SocketAddr) -> Result<Server, ServerError> {
    let mut last = ADDRESS_IN_USE;
    loop {
        match Server::bind(address).await {
            Err(ServerError::Bind { source, .. })
                if source.kind() == std::io::ErrorKind::AddrInUse && !last.is_zero() =>
            {
                let pause = Duration::from_millis(50);
                tokio::time::sleep(pause).await;
                last = last.saturating_sub(pause);
            }
            bound => return bound,
        }
    }
}

/// Whom the network process becomes: the last of the uids, which no session gets.
fn network_uid(sandbox: &config::Sandbox) -> Option<u32> {
    let last = sandbox
        .uid_start
        .saturating_add(sandbox.uid_count.saturating_sub(1));
    rustix::process::geteuid().is_root().then_some(last)
}

/// The issuer's documents, bound before anybody could need them.
async fn documents(
    bastion: &Bastion,
    issuing: &Issuing,
) -> Result<Option<DocumentServer>, IssuerError> {
    let listener = bastion
        .issuer
        .as_ref()
        .and_then(|issuer| issuer.listener.as_ref());
    match listener {
        Some(listener) => Ok(Some(DocumentServer::bind(listener, issuing.clone()).await?)),
        None => Ok(None),
    }
}

/// A task without which sessions would go on that must end. Whichever way it begins, it looks at all of them first.
fn supervised<F>(
    monitor: &Arc<Monitor>,
    task: &'static str,
    begin: fn(Arc<Monitor>) -> F,
) -> tokio::task::JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let supervisor = monitor.custody.supervisor().clone();
    let monitor = Arc::clone(monitor);
    tokio::spawn(supervisor.run(task, move || begin(Arc::clone(&monitor))))
}

/// The key and the log. Off the runtime's threads: a log of many years takes seconds to read.
async fn evidence(
    bastion: &Bastion,
    clock: &Arc<dyn Clock>,
    room: Room,
) -> Result<(Signing, EvidenceLog), StartError> {
    let (state_dir, name) = (bastion.state_dir.clone(), bastion.name.clone());
    let (source, clock) = (bastion.signing.clone(), Arc::clone(clock));
    let opened = tokio::task::spawn_blocking(move || {
        let signing = Signing::open(&state_dir, &name, &source, clock.now())?;
        let directory = state_dir.join(log::DIRECTORY);
        let log = EvidenceLog::open(&directory, signing.clone(), &*clock, room)?;
        Ok::<_, StartError>((signing, log))
    });
    opened.await.map_err(|_| LogError::Closed)?
}

/// What the log says of recordings that may have been left open.
async fn in_log(
    signing: &Signing,
    state_dir: &Path,
    unsealed: &BTreeSet<SessionId>,
) -> Result<InLog, StartError> {
    let (directory, keys) = (state_dir.join(log::DIRECTORY), signing.keys().clone());
    let unsealed = unsealed.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut in_log = InLog::default();
        LogReader::open(&directory, &keys, |_, leaf| match leaf {
            Leaf::Opened { session, .. } => {
                in_log.open.insert(session);
            }
            Leaf::Sealed { session, .. }
            | Leaf::Interrupted { session, .. }
            | Leaf::Deleted { session, .. } => {
                in_log.open.remove(&session);
                if unsealed.contains(&session) {
                    in_log.closed.insert(session);
                }
            }
            Leaf::Started { .. }
            | Leaf::Key { .. }
            | Leaf::Packed { .. }
            | Leaf::AuditHead { .. } => {}
        })?;
        Ok::<_, StartError>(in_log)
    });
    read.await.map_err(|_| LogError::Closed)?
}

/// Packs what an earlier daemon sealed and did not come to pack.
async fn pack_the_rest(store: FsStore, to_pack: mpsc::Sender<ToPack>) {
    match store::fs::unpacked(&store).await {
        Ok(sessions) => {
            for session in sessions {
                if to_pack.send(ToPack::in_clear(session)).await.is_err() {
                    return;
                }
            }
        }
        Err(error) => tracing::warn!("what is not packed yet cannot be listed: {error}"),
    }
}

/// Puts every attempt at a reload on record.
async fn report(mut reloads: Reloads, monitor: Arc<Monitor>) {
    while let Some(reload) = reloads.reports.recv().await {
        match reload {
            Reload::Applied { digest, old } => {
                let (config_digest, previous_digest) = (digest.as_str(), old.digest.as_str());
                let event = Event::ConfigReloaded {
                    config_digest,
                    previous_digest,
                };
                monitor.audit.tell(event).await;
            }
            Reload::Unchanged { digest } => tracing::info!("nothing to reload: {digest} stays"),
            Reload::Refused(problems) => {
                let problems = problems.to_string();
                tracing::error!(
                    "the changed configuration is refused, the old one stays:\n{problems}"
                );
                let config_digest = monitor.config().digest.clone();
                let config_digest = config_digest.as_str();
                monitor
                    .audit
                    .tell(Event::ConfigRefused {
                        problems,
                        config_digest,
                    })
                    .await;
            }
        }
    }
}

/// Puts the head of the audit log into the evidence log now and then: what is cut off of the one, the other still knows.
async fn audit_heads(monitor: Arc<Monitor>) {
    let mut signed = monitor.audit.signed();
    let mut logged = None;
    while signed.changed().await.is_ok() {
        log_audit_head(&monitor, &mut logged).await;
        tokio::time::sleep(LOG_AUDIT_HEAD_EVERY).await;
    }
}

async fn log_audit_head(monitor: &Monitor, logged: &mut Option<Link>) {
    let signed = *monitor.audit.signed().borrow();
    let Some(link) = signed.filter(|_| signed != *logged) else {
        return;
    };
    let leaf = Leaf::AuditHead {
        at: monitor.clock.now(),
        seq: link.seq,
        hash: link.hash,
    };
    match monitor.log.append(leaf).await {
        Ok(_) => *logged = signed,
        Err(error) => tracing::error!("{error}"),
    }
}

async fn no_session(live: &Live) {
    // Drain is rare and short: asking now and then is simpler than a signal for it.
    while !live.list().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn check_length(state_dir: &Path) -> Result<(), StartError> {
    let length = state_dir.as_os_str().len();
    if length > LONGEST_STATE_DIR {
        let (path, most) = (state_dir.to_owned(), LONGEST_STATE_DIR);
        return Err(StartError::TooLong { path, length, most });
    }
    Ok(())
}

fn lock(state_dir: &Path) -> Result<std::fs::File, StartError> {
    let path = state_dir.join("lock");
    let failed = |source| StartError::Io {
        path: path.clone(),
        source,
    };
    // Whoever could open it, to read it even, could hold it, and so keep the daemon from starting.
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Locked(state_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}
