//! `kind: Expectations`: what a mapping is expected to give and to refuse. Read as documents are, with every problem at its place,
//! and no part of a configuration.

mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::SourceNetwork;
use super::fields::{Fields, list, nearest, text};
use super::model::{Config, Name, Role, RoleAccess, SessionKind, SubjectTemplate};
use super::problem::{At, Gathered, Place, Problems};
use super::raw::{self, ClusterSelector};
use super::yaml::{self, Node};
use crate::identity::Group;

use written::{Raw, RawWho, entry};

/// The longest file that is read.
const LONGEST: u64 = 4 << 20;

/// One thing that is expected, and where it is written.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Where.
    pub at: Place,
    /// What.
    pub expected: Expected,
}

/// What is expected.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Of the configuration.
    Takes(Takes),
    /// Of a cluster's RBAC.
    Can(Can),
}

/// That somebody may take a role, or may not.
#[derive(Clone, Debug)]
pub struct Takes {
    /// Who.
    pub who: Who,
    /// Which role.
    pub role: Name,
    /// Whether they may.
    pub may: bool,
    /// On which clusters; of an audit role none.
    pub clusters: BTreeSet<Name>,
    /// From everywhere in there; `None`: from everywhere.
    pub from: Option<SourceNetwork>,
    /// For each of these kinds of session; `None`: for some kind.
    pub sessions: Option<BTreeSet<SessionKind>>,
    /// When; `None`: now.
    pub when: Option<Timestamp>,
}

/// Of whom something is expected.
#[derive(Clone, Debug)]
pub enum Who {
    /// An Identity.
    Identity(Name),
    /// Whoever is in a group: by that group alone if they may, by whatever they have if they may not.
    Group(Group),
    /// Who has a certificate of an authority, were one made.
    Certificate {
        /// Whose.
        authority: Name,
        /// With this principal and no other.
        principal: String,
        /// In these groups of the authority.
        groups: BTreeSet<Group>,
    },
    /// Who has this certificate.
    CertificateFile(PathBuf),
}

/// That a role can do something in a cluster, or cannot.
#[derive(Clone, Debug)]
pub struct Can {
    /// Which role.
    pub role: Name,
    /// Taken by whom, where that makes a difference.
    pub identity: Option<Name>,
    /// Whether it can.
    pub can: bool,
    /// On which clusters.
    pub clusters: BTreeSet<Name>,
    /// What.
    pub request: KubernetesRequest,
}

/// A request to an API server, as RBAC sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesRequest {
    /// Such as `get`.
    pub verb: String,
    /// Such as `pods`.
    pub resource: String,
    /// Such as `exec`.
    pub subresource: Option<String>,
    /// Such as `apps`; empty for the core.
    pub group: String,
    /// `None`: in all of them.
    pub namespace: Option<String>,
    /// `None`: of any name.
    pub name: Option<String>,
}

/// Reads expectations, and holds their names against a configuration.
///
/// # Errors
///
/// Everything that is wrong with them.
pub fn expectations(path: &Path, config: &Config) -> Result<Vec<Expectation>, Problems> {
    let text = read(path).map_err(|error| Problems::one(path, error.to_string()))?;
    let gathered = Gathered::default();
    let reader = Reader {
        gathered: &gathered,
        config,
        base: path.parent().unwrap_or(Path::new("")),
    };
    let mut found = Vec::new();
    let file: Arc<Path> = Arc::from(path);
    let chunks = yaml::chunks(&text).into_iter();
    for node in chunks.flat_map(|chunk| chunk.documents(&file)) {
        match node {
            Ok(node) => found.extend(reader.document(&node)),
            Err(problem) => gathered.push(problem),
        }
    }
    match gathered.into_problems() {
        Some(problems) => Err(problems),
        // A file that was left empty must not read as one that holds.
        None if found.is_empty() => Err(Problems::one(path, "nothing is expected here")),
        None => Ok(found),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(LONGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(std::io::Error::other("it is longer than 4 MiB"));
    }
    Ok(text)
}

/// Turns what is written into what is meant.
struct Reader<'c> {
    gathered: &'c Gathered,
    config: &'c Config,
    base: &'c Path,
}

impl Reader<'_> {
    fn document(&self, node: &Node) -> Vec<Expectation> {
        let Some(mut top) = Fields::open(self.gathered, node, "a document") else {
            return Vec::new();
        };
        for (key, wanted) in [("apiVersion", raw::API_VERSION), ("kind", "Expectations")] {
            if let Some(found) = top.required(key, text)
                && found.value != wanted
            {
                self.gathered
                    .report(&found.at, format!("here '{key}' is {wanted}"));
            }
        }
        let spec = top.required_node("spec");
        top.close();
        let Some(mut spec) =
            spec.and_then(|node| Fields::open(self.gathered, node, "an Expectations' spec"))
        else {
            return Vec::new();
        };
        let entries = spec.required("expect", |gathered, node| list(gathered, node, entry));
        spec.close();
        let entries = entries.map(|at| at.value).unwrap_or_default();
        entries
            .into_iter()
            .filter_map(|entry| {
                let expected = self.meant(&entry.at, entry.value)?;
                Some(Expectation {
                    at: entry.at,
                    expected,
                })
            })
            .collect()
    }

    fn meant(&self, at: &Place, raw: Raw) -> Option<Expected> {
        let takes = [(&raw.may, true), (&raw.may_not, false)];
        let mut takes = takes
            .into_iter()
            .filter_map(|(role, may)| Some((role.as_ref()?, may)));
        let cans = [(&raw.can, true), (&raw.cannot, false)];
        let mut cans = cans
            .into_iter()
            .filter_map(|(what, can)| Some((what.as_ref()?, can)));
        match (takes.next(), takes.next(), cans.next(), cans.next()) {
            (Some((role, may)), None, None, None) => {
                self.takes(at, &raw, role, may).map(Expected::Takes)
            }
            (None, None, Some((what, can)), None) => self
                .can(at, &raw, what.value.clone(), can)
                .map(Expected::Can),
            _ => {
                self.gathered.report(
                    at,
                    "one of 'may', 'mayNot', 'can' and 'cannot' says what is expected",
                );
                None
            }
        }
    }

    fn takes(&self, at: &Place, raw: &Raw, role: &At<Name>, may: bool) -> Option<Takes> {
        self.only(
            at,
            &[
                ("role", raw.role.is_some()),
                ("identity", raw.identity.is_some()),
            ],
            "'can' and 'cannot'",
        );
        let Some(who) = &raw.who else {
            self.gathered.report(at, "'who' is needed: {identity: NAME}, {group: NAME}, {certificate: ...} or {certificateFile: FILE}");
            return None;
        };
        let who = self.who(who);
        let known = self.role(role)?;
        let clusters = match &known.access {
            RoleAccess::Kubernetes(_) => self.clusters(raw, known)?,
            RoleAccess::Audit(_) => {
                let what = "roles that open sessions, and this one reads recordings";
                self.only(
                    at,
                    &[
                        ("clusters", raw.clusters.is_some()),
                        ("sessions", raw.sessions.is_some()),
                    ],
                    what,
                );
                BTreeSet::new()
            }
        };
        Some(Takes {
            who: who?,
            role: role.value.clone(),
            may,
            clusters,
            from: raw.from.as_ref().map(|at| at.value.clone()),
            sessions: raw
                .sessions
                .as_ref()
                .map(|at| at.value.iter().map(|kind| kind.value).collect()),
            when: raw.when.as_ref().map(|at| at.value),
        })
    }

    fn can(&self, at: &Place, raw: &Raw, request: KubernetesRequest, can: bool) -> Option<Can> {
        let out_of_place = [
            ("who", raw.who.is_some()),
            ("from", raw.from.is_some()),
            ("sessions", raw.sessions.is_some()),
            ("at", raw.when.is_some()),
        ];
        self.only(at, &out_of_place, "'may' and 'mayNot'");
        let Some(role) = &raw.role else {
            self.gathered
                .report(at, "'role' is needed: whose RBAC is asked about");
            return None;
        };
        let known = self.role(role)?;
        let RoleAccess::Kubernetes(kubernetes) = &known.access else {
            self.gathered.report(
                &role.at,
                format!("{} is an audit role and has no RBAC", role.value),
            );
            return None;
        };
        let clusters = self.clusters(raw, known)?;
        if let Some(identity) = &raw.identity {
            self.identity(identity)?;
        }
        let differs = |cluster: &Name| {
            kubernetes
                .subjects
                .get(cluster)
                .is_some_and(|subject| match subject {
                    SubjectTemplate::ServiceAccount(account) => account.name.contains("{identity}"),
                    SubjectTemplate::Own { .. } | SubjectTemplate::Impersonated { .. } => true,
                })
        };
        if raw.identity.is_none() && clusters.iter().any(differs) {
            self.gathered.report(
                at,
                format!(
                    "who takes {} is somebody of their own there: say whom with 'identity'",
                    role.value
                ),
            );
            return None;
        }
        Some(Can {
            role: role.value.clone(),
            identity: raw.identity.as_ref().map(|at| at.value.clone()),
            can,
            clusters,
            request,
        })
    }

    fn only(&self, at: &Place, keys: &[(&str, bool)], what: &str) {
        for (key, _) in keys.iter().filter(|(_, there)| *there) {
            self.gathered
                .report(at, format!("'{key}' is for {what}; remove it"));
        }
    }

    fn who(&self, who: &At<RawWho>) -> Option<Who> {
        match &who.value {
            RawWho::Identity(name) => {
                let name = At {
                    value: name.clone(),
                    at: who.at.clone(),
                };
                self.identity(&name).map(Who::Identity)
            }
            RawWho::Group(name) => self.group(&who.at, name).map(Who::Group),
            RawWho::Certificate {
                authority,
                principal,
                groups,
            } => {
                let known = self.config.authorities.contains_key(&authority.value);
                if !known {
                    let all = self.config.authorities.keys();
                    self.unknown("CertificateAuthority", authority, all);
                }
                let groups: Option<BTreeSet<Group>> = groups
                    .iter()
                    .map(
                        |group| match Group::from_authority(&authority.value, &group.value) {
                            Ok(group) => Some(group),
                            Err(error) => {
                                self.gathered
                                    .report(&group.at, format!("this is not a group: {error}"));
                                None
                            }
                        },
                    )
                    .collect();
                known.then_some(Who::Certificate {
                    authority: authority.value.clone(),
                    principal: principal.clone(),
                    groups: groups?,
                })
            }
            RawWho::CertificateFile(path) => Some(Who::CertificateFile(self.base.join(path))),
        }
    }

    /// A group that somebody is in or a binding speaks of: one that nobody has heard of is a slip.
    fn group(&self, at: &Place, name: &str) -> Option<Group> {
        let of_bindings = self
            .config
            .bindings
            .values()
            .flat_map(|binding| &binding.subjects);
        let of_bindings = of_bindings.filter_map(|subject| match subject {
            super::model::Subject::Group(group) => Some(group),
            super::model::Subject::Identity(_) => None,
        });
        let of_identities = self
            .config
            .identities
            .values()
            .flat_map(|identity| &identity.groups);
        let all: BTreeSet<&Group> = of_bindings.chain(of_identities).collect();
        let found = all.iter().find(|group| group.as_str() == name);
        if found.is_none() {
            let known: Vec<&str> = all.iter().map(|group| group.as_str()).collect();
            let advice = match nearest(name, &known) {
                Some(near) => format!("; did you mean '{near}'?"),
                None => String::new(),
            };
            self.gathered.report(
                at,
                format!(
                    "nobody is in the group '{}', and no binding speaks of it{advice}",
                    name.escape_debug()
                ),
            );
        }
        found.map(|group| (*group).clone())
    }

    fn identity(&self, name: &At<Name>) -> Option<Name> {
        let known = self.config.identities.get(&name.value);
        if known.is_none() {
            self.unknown("Identity", name, self.config.identities.keys());
        }
        known.map(|identity| identity.name.clone())
    }

    fn role(&self, name: &At<Name>) -> Option<&Role> {
        let known = self.config.roles.get(&name.value);
        if known.is_none() {
            self.unknown("Role", name, self.config.roles.keys());
        }
        known
    }

    fn unknown<'n>(&self, kind: &str, name: &At<Name>, all: impl Iterator<Item = &'n Name>) {
        let known: Vec<&str> = all.map(Name::as_str).collect();
        let advice = match nearest(name.value.as_str(), &known) {
            Some(near) => format!("; did you mean '{near}'?"),
            None => String::new(),
        };
        self.gathered.report(
            &name.at,
            format!("no {kind} '{}' is defined{advice}", name.value),
        );
    }

    /// Those that are selected, or all where the role exists. What is expected of no cluster is no expectation.
    fn clusters(&self, raw: &Raw, role: &Role) -> Option<BTreeSet<Name>> {
        let RoleAccess::Kubernetes(kubernetes) = &role.access else {
            return None;
        };
        let Some(selectors) = &raw.clusters else {
            return Some(kubernetes.subjects.keys().cloned().collect());
        };
        let mut found = BTreeSet::new();
        for selector in &selectors.value {
            match &selector.value {
                ClusterSelector::Named(name) if self.config.clusters.contains_key(name) => {
                    found.insert(name.clone());
                }
                ClusterSelector::Named(name) => {
                    let name = At {
                        value: name.clone(),
                        at: selector.at.clone(),
                    };
                    self.unknown("Cluster", &name, self.config.clusters.keys());
                }
                ClusterSelector::MatchLabels(wanted) => {
                    let before = found.len();
                    found.extend(self.labelled(wanted));
                    if found.len() == before {
                        self.gathered
                            .report(&selector.at, "no Cluster more has all of these labels");
                    }
                }
            }
        }
        (!found.is_empty()).then_some(found)
    }

    fn labelled(&self, wanted: &BTreeMap<String, String>) -> impl Iterator<Item = Name> {
        self.config
            .clusters
            .values()
            .filter(move |cluster| {
                wanted
                    .iter()
                    .all(|(key, value)| cluster.labels.get(key) == Some(value))
            })
            .map(|cluster| cluster.name.clone())
    }
}

impl std::fmt::Display for KubernetesRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(sub) = &self.subresource {
            write!(f, "/{sub}")?;
        }
        if !self.group.is_empty() {
            write!(f, " of {}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => write!(f, " in all namespaces"),
        }
    }
}
