//! Whether a configuration gives and refuses what is expected of it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;

use super::addresses::telling;
use super::told::KINDS;
use crate::config::{Can, Config, Name, RoleAccess, SessionKind, Takes, Who};
use crate::identity::Group;
use crate::identity::certificate;
use crate::policy::{self, KubernetesSubject, Request, Somebody, Supposed};

/// Why an expectation is none of what is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfulfilled {
    /// They may not.
    #[error("{who} may not{place}: {denial}")]
    MayNot {
        /// Who.
        who: String,
        /// Where, and from where.
        place: String,
        /// What they would be told.
        denial: String,
    },
    /// They may.
    #[error("{who} may{place}, by the binding {binding}")]
    May {
        /// Who.
        who: String,
        /// Where, and from where.
        place: String,
        /// By what.
        binding: Name,
    },
    /// They are nobody.
    #[error("the certificate proves nobody: {0}")]
    Nobody(String),
    /// A certificate cannot be read.
    #[error("the certificate {0} cannot be read")]
    Unreadable(String),
}

/// Why what is expected of somebody and a role is not so; `None` if it is.
pub fn unfulfilled(config: &Config, takes: &Takes, now: Timestamp) -> Option<Unfulfilled> {
    let now = takes.when.unwrap_or(now);
    let asked = Asked { config, takes, now };
    match people(config, takes, now) {
        Ok(people) => people.iter().find_map(|somebody| asked.of(somebody)),
        // Whom nothing proves may nothing.
        Err(Unfulfilled::Nobody(_)) if !takes.may => None,
        Err(unfulfilled) => Some(unfulfilled),
    }
}

/// As whom a role is in a cluster, where it is somebody there.
pub fn subject_of(config: &Config, can: &Can, cluster: &Name) -> Option<KubernetesSubject> {
    // Who takes it does not matter where no identity is named: `Expectations` are read so.
    let identity = can.identity.as_ref().unwrap_or(&can.role);
    policy::subject_on(config, &can.role, cluster, identity)
}

/// About whom an expectation is. Who is in a group may nothing only if none of its members may, whatever else they are in.
fn people<'c>(
    config: &'c Config,
    takes: &Takes,
    now: Timestamp,
) -> Result<Vec<Somebody<'c>>, Unfulfilled> {
    match &takes.who {
        Who::Identity(name) => {
            let document = config.identities.get(name);
            Ok(document.map(Somebody::listed).into_iter().collect())
        }
        Who::Group(group) => {
            let alone = BTreeSet::from([group.clone()]);
            let mut people = vec![Somebody::imagined(unheard_of(config), alone)];
            if !takes.may {
                let members = config.identities.values();
                let members = members.filter(|identity| identity.groups.contains(group));
                people.extend(members.map(Somebody::listed));
            }
            Ok(people)
        }
        Who::Certificate {
            authority,
            principal,
            groups,
        } => by_certificate(config, authority, principal, groups).map(|one| vec![one]),
        Who::CertificateFile(path) => by_file(config, path, now).map(|one| vec![one]),
    }
}

fn by_certificate<'c>(
    config: &'c Config,
    authority: &Name,
    principal: &str,
    groups: &BTreeSet<Group>,
) -> Result<Somebody<'c>, Unfulfilled> {
    let nobody = |why: &str| Unfulfilled::Nobody(why.to_owned());
    let authority = config
        .authorities
        .get(authority)
        .ok_or_else(|| nobody("there is no such authority"))?;
    if authority.keys.is_empty() {
        return Err(nobody("the authority has no key"));
    }
    if authority.groups.is_empty() && !groups.is_empty() {
        return Err(nobody("the authority names no groups"));
    }
    let meant = config
        .meant_by(authority, principal)
        .ok_or_else(|| nobody("no rule of the authority takes its principal for anybody"))?;
    Ok(Somebody::named_by(&meant, groups.clone()))
}

fn by_file<'c>(
    config: &'c Config,
    path: &Path,
    now: Timestamp,
) -> Result<Somebody<'c>, Unfulfilled> {
    let unreadable = || Unfulfilled::Unreadable(path.display().to_string());
    let text = std::fs::read_to_string(path).map_err(|_| unreadable())?;
    let certificate = certificate::read(&text).map_err(|_| unreadable())?;
    Somebody::certified(config, &certificate, "", now)
        .map_err(|refusal| Unfulfilled::Nobody(refusal.to_string()))
}

/// A name that nothing speaks of.
fn unheard_of(config: &Config) -> Name {
    let mut number = 0_u64;
    loop {
        let name = Name::new(&format!("somebody-{number}"));
        match name {
            Ok(name) if !config.identities.contains_key(&name) => return name,
            // A configuration has at most as many identities as fit into its files.
            _ => number += 1,
        }
    }
}

struct Asked<'a> {
    config: &'a Config,
    takes: &'a Takes,
    now: Timestamp,
}

impl Asked<'_> {
    /// The first address, cluster and kind of session for which it is not so.
    fn of(&self, somebody: &Somebody<'_>) -> Option<Unfulfilled> {
        let bindings = self.config.bindings_of(somebody.name(), somebody.groups());
        let networks: Vec<_> = bindings.flat_map(|binding| &binding.from).collect();
        let addresses = telling(self.takes.from.as_ref(), networks.iter().copied());
        let audit = matches!(
            self.config
                .roles
                .get(&self.takes.role)
                .map(|role| &role.access),
            Some(RoleAccess::Audit(_))
        );
        addresses.into_iter().find_map(|address| match audit {
            true => self.recordings(somebody, address),
            false => {
                let clusters = &self.takes.clusters;
                clusters
                    .iter()
                    .find_map(|cluster| self.sessions(somebody, address, cluster))
            }
        })
    }

    fn recordings(&self, somebody: &Somebody<'_>, address: IpAddr) -> Option<Unfulfilled> {
        let supposed = self.from(address);
        let given = policy::available_to(self.config, somebody, supposed);
        let given = given.into_iter().find(|one| one.role == self.takes.role);
        match (given, self.takes.may) {
            (Some(_), true) | (None, false) => None,
            (Some(given), false) => Some(Unfulfilled::May {
                who: self.called(somebody),
                place: format!(" from {address}"),
                binding: given.binding,
            }),
            (None, true) => Some(Unfulfilled::MayNot {
                who: self.called(somebody),
                place: format!(" from {address}"),
                denial: "no binding gives it".to_owned(),
            }),
        }
    }

    fn sessions(
        &self,
        somebody: &Somebody<'_>,
        address: IpAddr,
        cluster: &Name,
    ) -> Option<Unfulfilled> {
        let who = self.called(somebody);
        let place = |kind: Option<SessionKind>| {
            let kind = kind.map_or_else(String::new, |kind| format!(" ({kind})"));
            format!(" on {cluster} from {address}{kind}")
        };
        let decide = |kind| {
            let request = Request {
                principal: format!("{}+{cluster}", self.takes.role),
                kind,
            };
            policy::explain(self.config, somebody, &request, self.from(address))
        };
        let asked: Vec<SessionKind> = match &self.takes.sessions {
            Some(kinds) => kinds.iter().copied().collect(),
            None => KINDS.to_vec(),
        };
        let some = self.takes.sessions.is_none();
        let decided: Vec<_> = asked.iter().map(|kind| (*kind, decide(*kind))).collect();
        if !self.takes.may {
            let given = decided
                .into_iter()
                .find_map(|(kind, decided)| Some((kind, decided.ok()?)));
            return given.map(|(kind, decision)| Unfulfilled::May {
                who,
                place: place(Some(kind)),
                binding: decision.binding,
            });
        }
        if some && decided.iter().any(|(_, decided)| decided.is_ok()) {
            return None;
        }
        let refused = decided
            .into_iter()
            .find_map(|(kind, decided)| Some((kind, decided.err()?)));
        refused.map(|(kind, denial)| Unfulfilled::MayNot {
            who,
            place: place((!some).then_some(kind)),
            denial: denial.to_string().replace('\n', " "),
        })
    }

    fn called(&self, somebody: &Somebody<'_>) -> String {
        let name = somebody.name();
        match &self.takes.who {
            Who::Group(group) if !self.config.identities.contains_key(name) => {
                format!("somebody in {group}")
            }
            _ => name.to_string(),
        }
    }

    fn from(&self, address: IpAddr) -> Supposed {
        Supposed {
            now: self.now,
            from: Some(address),
        }
    }
}
