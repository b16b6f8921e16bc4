//! What a valid configuration is. Only [`crate::config`] makes these values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CertificateAuthority, Cluster, IdentityProvider, SourceNetwork};
use crate::recording::{Keeping, Recipients};

/// A name of ours: an identity's, role's, cluster's or binding's. Lower-case letters, digits and `-`,
/// at most 63 bytes, as an RFC 1123 label, so that `ROLE+CLUSTER` and `ROLE.CLUSTER` parse one way only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a string is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is 1 to 63 lower-case letters, digits and '-', and begins and ends with a letter or digit"
)]
pub struct NotAName;

impl Name {
    /// Parses a name.
    pub fn new(name: &str) -> Result<Self, NotAName> {
        let ok = !name.is_empty()
            && name.len() <= 63
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if ok {
            Ok(Self(name.to_owned()))
        } else {
            Err(NotAName)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = NotAName;
    fn try_from(name: String) -> Result<Self, NotAName> {
        Self::new(&name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

/// A whole valid configuration. Cross-references hold; names are unique; identity and role names are disjoint.
#[derive(Clone, Debug)]
pub struct Config {
    /// The daemon.
    pub bastion: Bastion,
    /// Where roles live.
    pub clusters: BTreeMap<Name, Cluster>,
    /// Who may be proven.
    pub identities: BTreeMap<Name, IdentityDocument>,
    /// Whose certificates prove somebody.
    pub authorities: BTreeMap<Name, CertificateAuthority>,
    /// Whose word on who somebody is counts.
    pub providers: BTreeMap<Name, IdentityProvider>,
    /// What may be taken.
    pub roles: BTreeMap<Name, Role>,
    /// Who may take what.
    pub bindings: BTreeMap<Name, Arc<Binding>>,
    /// SHA-256 of all documents in path order, hex: which configuration a decision was made under.
    pub digest: String,
    /// What administrators have locked: no document says it, and a reload leaves it as it is.
    pub locks: crate::locks::Locks,
    /// Who is enrolled for one-time codes: no document says that either.
    pub enrolled: crate::totp::Enrolled,
    /// What providers have said of whoever holds a key: no document says that either.
    pub sign_ons: crate::oidc::SignOns,
    pub(super) index: super::index::Index,
}

/// `kind: Bastion`: the daemon itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Bastion {
    /// `metadata.name`; also the instance in `session-<instance>-<id>` Secret names.
    pub name: Name,
    /// Where SSH is served.
    pub listen: SocketAddr,
    /// How clients call us: host and port, for generated kubeconfig and ssh-config.
    pub advertise: HostPort,
    /// Private host keys, absolute paths.
    pub host_keys: Vec<PathBuf>,
    /// Certificates of these, absolute paths; default: none.
    pub host_certificates: Vec<PathBuf>,
    /// Recordings, journal, admin socket; absolute path, 0711 or stricter.
    pub state_dir: PathBuf,
    /// Audit events as JSON lines; default `stateDir/audit.jsonl`.
    pub audit_log: PathBuf,
    /// What holds the key that signs checkpoints; default: a key that is made at the first start.
    pub signing: crate::signing::KeySource,
    /// Where the log's checkpoints go besides; default: nowhere.
    pub witness: crate::log::Witness,
    /// Bounds on connections and sessions.
    pub limits: Limits,
    /// Who may connect, how many may be about to log in, and what bad behaviour costs.
    pub admission: super::Admission,
    /// What every client is shown before it proves anything; default: nothing.
    pub banner: Option<String>,
    /// Which cryptography is spoken.
    pub algorithms: Algorithms,
    /// How commands are run.
    pub sandbox: Sandbox,
    /// What becomes of recordings.
    pub recordings: KeepRecordings,
    /// Where the process that speaks SSH comes to, if it is a service of its own; `None`: the daemon starts it.
    pub network: Option<NetworkSocket>,
    /// The OpenID Connect issuer that the daemon is for its clusters, if it is one.
    pub issuer: Option<super::IssuerSettings>,
    /// What becomes of one-time codes.
    pub second_factor: SecondFactor,
    /// Where people show a browser who they are, if anywhere.
    pub login: Option<super::LoginSettings>,
}

/// `spec.network`: where the process that speaks SSH comes to as a service of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSocket {
    /// The unix socket, absolute path.
    pub socket: PathBuf,
    /// Whose processes may come: a name of this host, or an uid.
    pub user: String,
}

/// `spec.secondFactor`: what becomes of one-time codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondFactor {
    /// How long a code counts: on its connection, and for whoever logs in by the same key from the same address; default 8 h. Zero: on its
    /// connection only.
    pub remember: Duration,
}

impl Default for SecondFactor {
    fn default() -> Self {
        Self {
            remember: Duration::from_secs(8 * 3600),
        }
    }
}

/// `spec.algorithms`: which cryptography is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithms {
    /// What is sound today, post-quantum first: what OpenSSH 7 and newer speaks some of.
    #[default]
    Modern,
    /// Key exchanges that a quantum computer does not undo, and no other: what OpenSSH 9.9 and newer speaks.
    PostQuantum,
}

/// `spec.recordings`: what becomes of recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct KeepRecordings {
    /// Who can read them; `None`: whoever can read the files.
    pub recipients: Option<Arc<Recipients>>,
    /// The request index of encrypted recordings stays in clear, so that it can be searched without a key.
    pub requests_in_clear: bool,
    /// The most that the lines of one may take, in bytes, before they are packed; default 8 GiB.
    pub quota: u64,
    /// Kept back for the end of sessions on a full disk, in bytes; default 16 MiB.
    pub reserve: u64,
    /// From how many percent of bytes or inodes on it is said that the disk is filling up; default 80.
    pub warn_at: u8,
    /// Where closed ones are shipped to, if anywhere.
    pub s3: Option<super::S3>,
    /// When they are deleted, if ever.
    pub retention: super::Retention,
}

impl Default for KeepRecordings {
    fn default() -> Self {
        Self {
            recipients: None,
            requests_in_clear: false,
            quota: 8 << 30,
            reserve: 16 << 20,
            warn_at: 80,
            s3: None,
            retention: super::Retention::default(),
        }
    }
}

impl KeepRecordings {
    /// For a session of which input is kept like this.
    pub fn keeping(&self, record_input: RecordInput) -> Keeping {
        Keeping {
            record_input,
            recipients: self.recipients.clone(),
            requests_in_clear: self.requests_in_clear,
            quota: self.quota,
            rescue: false,
        }
    }
}

/// A host name or address and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// DNS name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for HostPort {
    /// `HOST:PORT`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `spec.limits`. Every one has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// From TCP accept to proven identity; default 30 s.
    pub login_grace: Duration,
    /// Refused authentication requests before the connection ends; default 6.
    pub max_auth_attempts: u32,
    /// Connections at once, proven or not; default 1000.
    pub max_connections: u32,
    /// Session channels at once on one connection; default 10.
    pub max_sessions_per_connection: u32,
    /// Silence after which a keepalive is sent (three unanswered end the connection); default 30 s.
    pub keepalive: Duration,
    /// No byte either way in any session of a connection for this long ends it; default 1 h.
    pub idle_timeout: Duration,
    /// After SIGTERM, how long open sessions may go on; default 30 s.
    pub drain: Duration,
}

/// `spec.sandbox`: how commands are run under bubblewrap.
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    /// The bubblewrap binary; default: `bwrap` on the daemon's PATH.
    pub bubblewrap: PathBuf,
    /// Programs shown in the sandbox under `/opt/bastion/bin`, first on PATH (kubectl, helm ...); absolute paths.
    pub tools: Vec<PathBuf>,
    /// Further read-only paths shown at the same place; absolute.
    pub read_only_paths: Vec<PathBuf>,
    /// The system that is shown, read-only, at the same place; absolute. `None`: what shells, kubectl and coreutils need.
    pub system_paths: Option<Vec<PathBuf>>,
    /// A directory that each session's home begins as a copy of.
    pub skeleton: Option<PathBuf>,
    /// First OS uid handed to a session when the daemon runs as root; default 1900000000.
    pub uid_start: u32,
    /// How many uids from there on; default 65536. The last is the network process's.
    pub uid_count: u32,
    /// The oldest Landlock ABI of the kernel that will do; default 2. 0: none is needed, and no rules are made.
    pub landlock_abi: u8,
    /// Processes and threads of a session at once; default 512.
    pub processes: u32,
    /// Open files of each of its processes; default 4096.
    pub open_files: u32,
    /// Memory of each of its processes, in bytes; default 4 GiB.
    pub memory: u64,
    /// Where sessions' control groups are made.
    pub cgroup: CgroupPlace,
    /// Memory of a session, all of its processes and files in memory together, in bytes; `None`: not bounded.
    pub session_memory: Option<u64>,
    /// Processors that a session may keep busy; `None`: all.
    pub session_cpus: Option<u32>,
    /// What may lie in its home directory, in bytes, and as much in its `/tmp`; default 256 MiB.
    pub tmp_size: u64,
}

/// `spec.sandbox.cgroup`: the control group (v2) that those of sessions are made in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupPlace {
    /// The daemon's own, if it was handed over to it; else none.
    #[default]
    Auto,
    /// None.
    Off,
    /// That one, from the root of the hierarchy.
    At(PathBuf),
}

/// `kind: Identity`: a person or machine and the keys that prove it.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityDocument {
    /// `metadata.name`.
    pub name: Name,
    /// Groups; their source is the file.
    pub groups: BTreeSet<crate::identity::Group>,
    /// The keys that prove it.
    pub keys: Vec<AuthorizedKey>,
    /// The role that the identity's own name as login stands for.
    pub default_role: Option<Name>,
}

/// One line of authorized_keys: a key and the options that we honour.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizedKey {
    /// The public key.
    pub key: russh::keys::PublicKey,
    /// `expiry-time=`: refused from then on.
    pub expires: Option<Timestamp>,
    /// `from=`: source networks; empty means any.
    pub from: Vec<SourceNetwork>,
    /// `restrict`/`no-pty`: a terminal is refused.
    pub no_pty: bool,
    /// `restrict`/`no-port-forwarding`: a tunnel is refused.
    pub no_forwarding: bool,
}

/// `kind: Role`.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// `metadata.name`.
    pub name: Name,
    /// What it gives.
    pub access: RoleAccess,
    /// What must have been proven on a connection, all of it; empty: what proves an identity is enough.
    pub require: BTreeSet<Factor>,
    /// The provider by whose device flow (RFC 8628) `oidc` may be proven too, for this role and one connection; `None`: not at all.
    pub device_flow: Option<Name>,
}

/// What can be proven on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Factor {
    /// A signature by a key of the configuration, without a certificate.
    Key,
    /// A signature by a key with a certificate of an authority of the configuration.
    Certificate,
    /// Besides either, a one-time code.
    Totp,
    /// A provider's word on who holds the key.
    Oidc,
}

impl std::fmt::Display for Factor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key => "key",
            Self::Certificate => "certificate",
            Self::Totp => "totp",
            Self::Oidc => "oidc",
        })
    }
}

/// A role gives a Kubernetes identity, or sight of recordings; never both.
#[derive(Clone, Debug, PartialEq)]
pub enum RoleAccess {
    /// A Kubernetes subject on clusters.
    Kubernetes(KubernetesRole),
    /// Recordings to read; no Kubernetes credential.
    Audit(AuditRole),
}

/// `spec.kubernetes` and the bounds of its sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesRole {
    /// The subject on each cluster where the role exists (selectors resolved, overrides applied).
    pub subjects: BTreeMap<Name, SubjectTemplate>,
    /// Lifetime of each credential that an API server issues.
    pub credential_ttl: CredentialTtl,
    /// Limit of one session, unless its operator extends it.
    pub max_session: Duration,
    /// By how much one session may be extended in all; zero: not at all.
    pub max_extension: Duration,
    /// Which kinds of session it allows.
    pub sessions: BTreeSet<SessionKind>,
    /// What is kept of standard input.
    pub record_input: RecordInput,
    /// What is kept of what requests to the cluster carry.
    pub bodies: RecordBodies,
    /// Its sessions may be opened while the disk of the recordings is full.
    pub rescue: bool,
    /// Programs that its sessions are shown beside those of [`Sandbox::tools`]; absolute paths.
    pub tools: Vec<PathBuf>,
    /// Where its commands may connect to, besides their cluster.
    pub egress: BTreeSet<HostPort>,
}

impl KubernetesRole {
    /// Whether its sessions there have a credential of their own, which could be handed out.
    pub fn has_credential(&self, cluster: &Name) -> bool {
        self.subjects
            .get(cluster)
            .is_some_and(|subject| !matches!(subject, SubjectTemplate::Impersonated { .. }))
    }
}

/// What a role stands for on a cluster, before it is known for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectTemplate {
    /// On clusters of [`Mint::TokenRequest`](super::Mint::TokenRequest).
    ServiceAccount(ServiceAccountTemplate),
    /// The identity's own name, on clusters of [`Mint::OidcIssuer`](super::Mint::OidcIssuer).
    Own {
        /// Kubernetes groups, without the prefix that the API server puts before them; never empty.
        groups: BTreeSet<String>,
    },
    /// The identity as RBAC there calls it, on clusters of [`Mint::Impersonation`](super::Mint::Impersonation).
    Impersonated {
        /// The Kubernetes user, with `{identity}` for the identity's name.
        username: String,
        /// Kubernetes groups, whole; never empty.
        groups: BTreeSet<String>,
    },
}

/// A ServiceAccount; its name may hold `{identity}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountTemplate {
    /// Kubernetes namespace.
    pub namespace: String,
    /// ServiceAccount name, possibly `{identity}`.
    pub name: String,
}

/// `spec.recordInput`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordInput {
    /// Without a terminal in full, with one not at all.
    #[default]
    Auto,
    /// In full, keystrokes at a terminal included.
    Always,
    /// Only its length and SHA-256.
    Digest,
}

/// `spec.bodies`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordBodies {
    /// Nothing; what goes through the API server to something else is recorded all the same.
    None,
    /// What creations, updates, patches and deletions carry, of Secrets only the names of their keys.
    #[default]
    Writes,
}

/// `spec.audit`: whose recordings may be read. An empty set matches nothing, `*` everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRole {
    /// Clusters whose sessions may be read.
    pub clusters: Pattern,
    /// Identities whose sessions may be read.
    pub identities: Pattern,
}

/// Names, or all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pattern {
    /// `*`
    All,
    /// Exactly these.
    Names(BTreeSet<Name>),
}

impl Pattern {
    /// Whether `name` is meant.
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.contains(name),
        }
    }
}

/// A lifetime that some minter gives: 2 minutes to 1 hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct CredentialTtl(u32);

/// A lifetime outside of what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential lives 2m to 1h")]
pub struct TtlOutOfRange;

impl CredentialTtl {
    /// From whole seconds, 120 to 3600.
    pub fn from_secs(seconds: u32) -> Result<Self, TtlOutOfRange> {
        if (120..=3600).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(TtlOutOfRange)
        }
    }

    /// Whole seconds, 120 to 3600.
    pub fn as_secs(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for CredentialTtl {
    type Error = TtlOutOfRange;
    fn try_from(seconds: u32) -> Result<Self, TtlOutOfRange> {
        Self::from_secs(seconds)
    }
}

impl From<CredentialTtl> for u32 {
    fn from(ttl: CredentialTtl) -> Self {
        ttl.0
    }
}

/// How a session reaches the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionKind {
    /// A shell with a terminal.
    Shell,
    /// One command.
    Exec,
    /// The client's own programs against the gateway: all that one connection forwards to one role and cluster.
    /// Never implied: a role says it in so many words.
    Tunnel,
    /// A credential handed to the client. Never implied: a role says it in so many words.
    Credential,
}

impl std::fmt::Display for SessionKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shell => "shell",
            Self::Exec => "exec",
            Self::Tunnel => "tunnel",
            Self::Credential => "credential",
        })
    }
}

/// `kind: Binding`: who may take which roles, where, until when, why.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// `metadata.name`.
    pub name: Name,
    /// Who.
    pub subjects: Vec<Subject>,
    /// Which roles.
    pub roles: BTreeSet<Name>,
    /// Narrowing; `None` means wherever the role exists.
    pub clusters: Option<BTreeSet<Name>>,
    /// No longer from then on.
    pub until: Option<Timestamp>,
    /// Source networks; empty means any.
    pub from: Vec<SourceNetwork>,
    /// How many sessions it gives each identity at once.
    pub sessions_at_once: Option<u32>,
    /// Why; shown to operators and auditors.
    pub reason: Option<String>,
}

/// Who a binding speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An identity by name.
    Identity(Name),
    /// A group, with its source (`sre`, `ca/corp:sre`, `oidc/corp:sre`).
    Group(crate::identity::Group),
}
