//! A configuration that follows its files.
//!
//! By looking once a second rather than by inotify: the same on every file system, blind to neither an editor's
//! rename nor the swap of Kubernetes' `..data` link, and nothing to lose track of.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::issuer::Issuer;
use crate::locks::Locks;
use crate::oidc::SignOns;
use crate::totp::Enrolled;

use super::{Bastion, Config, IssuerKey, Loader, Problems, source};

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Loads in a row, until one finds nothing moved. The first only learns which files there are.
const ATTEMPTS: usize = 3;
/// Reports that wait to be read; then watching waits too.
const REPORTS: usize = 8;

/// What became of an attempt to load the configuration again.
#[derive(Clone, Debug)]
pub enum Reload {
    /// A new configuration is in force; [`Reloads::current`] has it.
    Applied {
        /// The new one's digest.
        digest: String,
        /// What was in force before.
        old: Arc<Config>,
    },
    /// Asked for with [`Trigger::reload`], and nothing has changed.
    Unchanged {
        /// The digest that stays.
        digest: String,
    },
    /// The old configuration stays, for these reasons.
    Refused(Problems),
}

/// Asks for a reload now, as SIGHUP does. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trigger(mpsc::Sender<()>);

impl Trigger {
    /// Asks; several requests at once are one.
    pub fn reload(&self) {
        // Full means that one is already asked for; closed, that nobody watches any more.
        self.0.try_send(()).unwrap_or(());
    }
}

/// What the rest of the daemon holds of a watch.
#[derive(Debug)]
pub struct Reloads {
    /// The configuration in force.
    pub current: watch::Receiver<Arc<Config>>,
    /// What became of each attempt, bad ones too. Must be read: watching waits for it.
    pub reports: mpsc::Receiver<Reload>,
    /// Asks for a reload.
    pub trigger: Trigger,
    /// Puts locks, enrolments and sign-ons in force.
    pub in_force: InForce,
}

/// What is in force: the documents as they were read last, and what administrators have locked, whom they have enrolled and who has signed on since. No change
/// loses another. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InForce(watch::Sender<Arc<Config>>);

impl InForce {
    /// All of it.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.borrow())
    }

    /// Puts other locks in force.
    pub fn change_locks(&self, change: impl FnOnce(&Locks) -> Locks) {
        self.0.send_modify(|config| {
            let locks = change(&config.locks);
            let mut changed = Config::clone(config);
            changed.locks = locks;
            *config = Arc::new(changed);
        });
    }

    /// Puts other enrolments for one-time codes in force.
    pub fn change_enrolled(&self, enrolled: Enrolled) {
        self.0.send_modify(|config| {
            let mut changed = Config::clone(config);
            changed.enrolled = enrolled;
            *config = Arc::new(changed);
        });
    }

    /// Puts other sign-ons in force.
    pub fn change_sign_ons(&self, sign_ons: SignOns) {
        self.0.send_modify(|config| {
            let mut changed = Config::clone(config);
            changed.sign_ons = sign_ons;
            *config = Arc::new(changed);
        });
    }

    /// Puts other documents in force.
    fn change_documents(&self, mut new: Config) {
        self.0.send_modify(|config| {
            new.locks = config.locks.clone();
            new.enrolled = config.enrolled.clone();
            new.sign_ons = config.sign_ons.clone();
            *config = Arc::new(new);
        });
    }
}

/// Follows the files of a configuration. Made by [`follow`], does nothing until [`Watch::run`].
#[derive(Debug)]
pub struct Watch {
    root: PathBuf,
    in_force: InForce,
    reports: mpsc::Sender<Reload>,
    asked: mpsc::Receiver<()>,
    /// What the last load asked for.
    files: Vec<PathBuf>,
    loader: Loader,
    period: Duration,
}

/// Begins with a configuration that was loaded from `root`.
pub fn follow(root: &Path, config: Arc<Config>) -> (Watch, Reloads) {
    let (current, current_of) = watch::channel(config);
    let in_force = InForce(current);
    let (reports, reports_of) = mpsc::channel(REPORTS);
    let (ask, asked) = mpsc::channel(1);
    let watch = Watch {
        root: root.to_owned(),
        in_force: in_force.clone(),
        reports,
        asked,
        files: Vec::new(),
        loader: Loader::default(),
        period: PERIOD,
    };
    let reloads = Reloads {
        current: current_of,
        reports: reports_of,
        trigger: Trigger(ask),
        in_force,
    };
    (watch, reloads)
}

impl Watch {
    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            _ended = self.follow() => {}
        }
    }

    async fn follow(&mut self) -> Result<(), Ended> {
        let mut loaded = None;
        let mut seen = None;
        let mut tick = tokio::time::interval(self.period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = tick.tick() => false,
                Some(()) = self.asked.recv() => true,
            };
            let now = self.fingerprint().await?;
            // An editor writes in steps: what still moves is not read yet.
            let settled = seen.as_ref() == Some(&now);
            let changed = loaded.as_ref() != Some(&now);
            seen = Some(now);
            if asked || (settled && changed) {
                match self.load_unmoved().await? {
                    Some((fingerprint, outcome)) => {
                        seen = Some(fingerprint.clone());
                        loaded = Some(fingerprint);
                        self.settle(outcome, asked).await?;
                    }
                    None if asked => {
                        let message = "these files change while they are read; reload again when they are done";
                        let problems = Problems::one(&self.root, message);
                        self.report(Reload::Refused(problems)).await?;
                    }
                    // The next look will find them changed.
                    None => {}
                }
            }
        }
    }

    /// Loads a set of which no file changed meanwhile, so that two halves never make a configuration.
    async fn load_unmoved(&mut self) -> Result<Option<(Fingerprint, Outcome)>, Ended> {
        for _ in 0..ATTEMPTS {
            let before = self.fingerprint().await?;
            let (outcome, read) = self.load().await?;
            let unmoved = self.fingerprint().await? == before;
            // A file that was not asked for last time was not looked at before this time.
            let looked_at_all = read == self.files;
            self.files = read;
            if unmoved && looked_at_all {
                return Ok(Some((before, outcome)));
            }
        }
        Ok(None)
    }

    /// Puts a good configuration in force, and reports.
    async fn settle(&self, outcome: Outcome, asked: bool) -> Result<(), Ended> {
        let old = self.in_force.config();
        let report = match outcome {
            Err(problems) => Reload::Refused(problems),
            Ok(new) if new.digest == old.digest => {
                if !asked {
                    return Ok(());
                }
                Reload::Unchanged { digest: new.digest }
            }
            Ok(new) => match restart_needed(&self.root, &old, &new) {
                Some(problems) => Reload::Refused(problems),
                None => {
                    let digest = new.digest.clone();
                    self.in_force.change_documents(new);
                    Reload::Applied { digest, old }
                }
            },
        };
        self.report(report).await
    }

    async fn report(&self, report: Reload) -> Result<(), Ended> {
        self.reports.send(report).await.map_err(|_| Ended)
    }

    async fn load(&mut self) -> Result<(Outcome, Vec<PathBuf>), Ended> {
        let root = self.root.clone();
        let mut loader = std::mem::take(&mut self.loader);
        let (loader, loaded) = blocking(move || {
            let loaded = load_with_keys(&root, &mut loader);
            (loader, loaded)
        })
        .await?;
        self.loader = loader;
        Ok(loaded)
    }

    async fn fingerprint(&self) -> Result<Fingerprint, Ended> {
        let (root, files) = (self.root.clone(), self.files.clone());
        blocking(move || Fingerprint::of(&root, &files)).await
    }
}

/// As it would be at a start: with another key that cannot be read it would not be in force, so it is not now.
fn load_with_keys(root: &Path, loader: &mut Loader) -> (Outcome, Vec<PathBuf>) {
    let (outcome, mut files) = loader.load_noting_files(root);
    let issuer = |config: &Config| config.bastion.issuer.clone();
    let Some(issuer) = outcome.as_ref().ok().and_then(issuer) else {
        return (outcome, files);
    };
    let keys = issuer.signing_keys.iter();
    files.extend(keys.filter_map(IssuerKey::file).cloned());
    let opened = Issuer::open(&issuer).map_err(|error| Problems::one(root, error.to_string()));
    (opened.and(outcome), files)
}

type Outcome = Result<Config, Problems>;

/// Nobody reads reports any more, or the runtime is going down: the daemon is ending.
struct Ended;

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Ended> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Ok(value),
        Err(error) => {
            if error.is_panic() {
                tracing::error!(
                    "reading the configuration failed unexpectedly; it is not followed any more"
                );
            }
            Err(Ended)
        }
    }
}

/// What a reload cannot change, because it was opened or handed out at start.
fn restart_needed(root: &Path, old: &Config, new: &Config) -> Option<Problems> {
    let (old, new) = (&old.bastion, &new.bastion);
    let changed: Vec<&str> = [
        ("metadata.name", old.name != new.name),
        ("listen", old.listen != new.listen),
        ("hostKeys", old.host_keys != new.host_keys),
        ("stateDir", old.state_dir != new.state_dir),
        ("auditLog", old.audit_log != new.audit_log),
        ("signing", old.signing != new.signing),
        ("log", old.witness != new.witness),
        ("recordings.store", old.recordings.s3 != new.recordings.s3),
        ("issuer", another_issuer(old, new)),
        ("login", old.login != new.login),
        ("network", old.network != new.network),
        ("sandbox", old.sandbox != new.sandbox),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect();
    (!changed.is_empty()).then(|| {
        Problems::one(
            root,
            format!(
                "the Bastion's {} changed, which takes a restart; nothing of this configuration is in force until then",
                changed.join(", ")
            ),
        )
    })
}

/// Whose documents are where they were, signs with other keys without a restart.
fn another_issuer(old: &Bastion, new: &Bastion) -> bool {
    match (&old.issuer, &new.issuer) {
        (Some(old), Some(new)) => old.needs_restart(new),
        (None, None) => false,
        _ => true,
    }
}

/// What files look like from outside: enough to notice every way of changing them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint(BTreeMap<PathBuf, Option<Look>>);

/// Device, inode, size, and when content and inode last changed (s, ns).
type Look = (u64, u64, u64, (i64, i64), (i64, i64));

impl Fingerprint {
    /// Of all documents that are there now, and of the `files` that the last load asked for.
    fn of(root: &Path, files: &[PathBuf]) -> Self {
        // What cannot be listed is reported by the load that follows; here it only has to look different.
        let documents = source::list(root).unwrap_or_default();
        let all = documents.into_iter().chain(files.iter().cloned());
        Self(all.map(|path| (path.clone(), look(&path))).collect())
    }
}

/// Follows links, as reading does.
fn look(path: &Path) -> Option<Look> {
    let meta = std::fs::metadata(path).ok()?;
    Some((
        meta.dev(),
        meta.ino(),
        meta.size(),
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    ))
}

#[cfg(test)]
mod tests;
