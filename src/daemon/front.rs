//! What the network process is started with, and how it follows the configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{LAST_SEALS, StartError};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::secrets::read_secret;
use crate::server::{HostCertificates, HostKeys, Rules};

/// How often host certificates are read: they are replaced while the daemon runs, and end.
const READ_CERTIFICATES_EVERY: Duration = Duration::from_secs(60);

/// Host keys as they are now, rules as they become.
pub(super) async fn of(
    config: &watch::Receiver<Arc<Config>>,
    clock: &Arc<dyn Clock>,
) -> Result<(HostKeys, watch::Receiver<Rules>), StartError> {
    let now = Arc::clone(&config.borrow());
    let mut files = Vec::new();
    for path in &now.bastion.host_keys {
        files.push((path.as_path(), read_secret(path)?));
    }
    let host_keys = HostKeys::parse(files)?;
    let mut follower = Follower {
        config: config.clone(),
        clock: Arc::clone(clock),
        host_keys: host_keys.clone(),
        told: Vec::new(),
    };
    let (rules_tx, rules) = watch::channel(follower.rules().await);
    tokio::spawn(follower.follow(rules_tx));
    Ok((host_keys, rules))
}

/// Keeps the rules what they should be.
struct Follower {
    config: watch::Receiver<Arc<Config>>,
    clock: Arc<dyn Clock>,
    host_keys: HostKeys,
    /// What was said to be wrong with host certificates.
    told: Vec<String>,
}

impl Follower {
    async fn follow(mut self, to: watch::Sender<Rules>) {
        loop {
            let changed = tokio::time::timeout(READ_CERTIFICATES_EVERY, self.config.changed());
            if matches!(changed.await, Ok(Err(_))) || to.is_closed() {
                return;
            }
            let rules = self.rules().await;
            to.send_if_modified(|old| {
                let changed = *old != rules;
                *old = rules;
                changed
            });
        }
    }

    /// Connections outlast the sessions' drain: an operator is told why a session was ended, once its credential is
    /// taken back. [`Daemon::serve`](super::Daemon::serve) ends them when all that is done.
    async fn rules(&mut self) -> Rules {
        let config = Arc::clone(&self.config.borrow_and_update());
        let mut rules = Rules {
            admission: config.bastion.admission.clone(),
            limits: config.bastion.limits.clone(),
            banner: config.bastion.banner.clone(),
            algorithms: config.bastion.algorithms,
            host_certificates: self.host_certificates(&config).await,
        };
        rules.limits.drain = rules.limits.drain.saturating_add(LAST_SEALS);
        rules
    }

    /// Those that are good now. The daemon does without the rest: clients that know its key still know it.
    async fn host_certificates(&mut self, config: &Config) -> HostCertificates {
        let paths = config.bastion.host_certificates.clone();
        if paths.is_empty() {
            return HostCertificates::default();
        }
        let (keys, now) = (self.host_keys.clone(), self.clock.now());
        let read =
            tokio::task::spawn_blocking(move || HostCertificates::read(&paths, &keys, now)).await;
        let (good, wrong) = read.unwrap_or_default();
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        for new in wrong.iter().filter(|new| !self.told.contains(new)) {
            tracing::error!("a host certificate is not shown: {new}");
        }
        self.told = wrong;
        good
    }
}
