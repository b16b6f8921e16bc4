//! The events, with their stable names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::ended::{Act, Ended};
use super::sign_on::SignOnEvent;
use crate::config::{Factor, Name, SessionKind};
use crate::identity::Group;
use crate::identity::certificate::CertificateFacts;
use crate::locks::Lock;
use crate::log::WitnessKind;
use crate::messages::Peer;
use crate::policy::{Denial, Grant};
use crate::session::SessionId;
use crate::signing::Digest;
use crate::store::room::Trouble;
use crate::strangers::Busy;

/// One event. The serialized `event` name and the field names are stable within `v: 1`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum Event<'a> {
    /// The daemon serves.
    #[serde(rename = "daemon.started")]
    DaemonStarted {
        /// This build.
        version: &'a str,
        /// The configuration that it serves under.
        config_digest: &'a str,
    },
    /// The daemon stops; every session has ended.
    #[serde(rename = "daemon.stopped")]
    DaemonStopped {},
    /// The head of the chain of events, signed: docs/EVENTS.md.
    #[serde(rename = "audit.head")]
    AuditHead {
        /// The signed note, whole.
        note: &'a str,
    },
    /// The line before this one was never finished, because a daemon died or a disk was full.
    #[serde(rename = "audit.torn")]
    AuditTorn {
        /// Its length in bytes.
        bytes: usize,
        /// What it is by.
        sha256: Digest,
    },
    /// A TCP connection was accepted.
    #[serde(rename = "connection.opened")]
    ConnectionOpened {
        /// Who.
        peer: &'a Peer,
    },
    /// A connection ended.
    #[serde(rename = "connection.closed")]
    ConnectionClosed {
        /// Who.
        peer: &'a Peer,
        /// Who was proven on it, if anybody.
        identity: Option<&'a Name>,
    },
    /// An identity was proven.
    #[serde(rename = "authentication.ok")]
    AuthenticationOk {
        /// Who connects.
        peer: &'a Peer,
        /// Who was proven.
        identity: &'a Name,
        /// Its groups, with their source.
        groups: &'a BTreeSet<Group>,
        /// By which key, `SHA256:...`.
        fingerprint: &'a str,
        /// By which certificate of that key, if it was one.
        certificate: Option<&'a CertificateFacts>,
        /// All that was proven: `key` or `certificate`, `totp` if a one-time code was accepted now or is remembered, and `oidc` if a provider has said who it
        /// is, now or a while ago.
        factors: &'a [Factor],
        /// By whose device flow they have signed in, for this connection and the role of the login name only.
        device_flow: Option<&'a Name>,
        /// The login name that was asked for, escaped and cut to 256 characters.
        principal: &'a str,
    },
    /// A one-time code was accepted, after a verified signature. Written before anybody is let in by it.
    #[serde(rename = "code.accepted")]
    CodeAccepted {
        /// Who connects.
        peer: &'a Peer,
        /// Whose it was.
        identity: &'a Name,
        /// The key that signed.
        fingerprint: &'a str,
        /// The login name that was asked for, escaped and cut to 256 characters.
        principal: &'a str,
        /// Recovery codes that are left, if it was one.
        recovery_left: Option<usize>,
        /// From then on nothing new is opened by it.
        counts_until: Timestamp,
    },
    /// A one-time code was asked for after a verified signature, and not given or not accepted.
    #[serde(rename = "code.refused")]
    CodeRefused {
        /// Who connects.
        peer: &'a Peer,
        /// Whose it should have been.
        identity: &'a Name,
        /// The key that signed.
        fingerprint: &'a str,
        /// The login name that was asked for, escaped and cut to 256 characters.
        principal: &'a str,
        /// Why.
        reason: String,
    },
    /// A key proved nobody: after its signature was verified, or as it was offered, where nobody was proven on the connection.
    #[serde(rename = "authentication.refused")]
    AuthenticationRefused {
        /// Who connects.
        peer: &'a Peer,
        /// The login name that was asked for, escaped and cut to 256 characters.
        principal: &'a str,
        /// Of the offered key.
        fingerprint: &'a str,
        /// What the offered certificate says of itself, if it was one.
        certificate: Option<&'a CertificateFacts>,
        /// Why.
        reason: String,
    },
    /// Something that is not a session was refused: forwarding, X11, an unknown subsystem.
    #[serde(rename = "request.refused")]
    RequestRefused {
        /// Who.
        peer: &'a Peer,
        /// Who was proven, if anybody.
        identity: Option<&'a Name>,
        /// What was asked for.
        what: &'a str,
    },
    /// What strangers did that is not told one by one, in numbers. At most once a minute.
    #[serde(rename = "strangers.summed-up")]
    StrangersSummedUp {
        /// From when to now.
        since: Timestamp,
        /// Connections that were not let in, by reason.
        turned_away: &'a BTreeMap<&'static str, u64>,
        /// Events that are not on record, by name.
        untold: &'a BTreeMap<&'static str, u64>,
        /// From how many addresses or networks, 4096 at most.
        sources: usize,
        /// The busiest of these.
        busiest: &'a [Busy],
    },
    /// Policy said yes.
    #[serde(rename = "policy.granted")]
    Granted {
        /// The session that it is for.
        session: SessionId,
        /// From where.
        peer: &'a Peer,
        /// The key that proved the identity.
        fingerprint: &'a str,
        /// The certificate of that key, if it was one.
        certificate: Option<&'a CertificateFacts>,
        /// The groups that were known of it.
        groups: &'a BTreeSet<Group>,
        /// The login name.
        principal: &'a str,
        /// The decision, with the digest of the configuration.
        grant: &'a Grant,
    },
    /// Policy said no.
    #[serde(rename = "policy.denied")]
    Denied {
        /// The id that the operator was told.
        session: SessionId,
        /// From where.
        peer: &'a Peer,
        /// Who asked.
        identity: &'a Name,
        /// The key that proved the identity.
        fingerprint: &'a str,
        /// The certificate of that key, if it was one.
        certificate: Option<&'a CertificateFacts>,
        /// The groups that were known of it.
        groups: &'a BTreeSet<Group>,
        /// The login name, escaped and cut to 256 characters.
        principal: &'a str,
        /// Kind of session that was asked for.
        kind: SessionKind,
        /// Why not.
        denial: &'a Denial,
        /// The configuration that it was decided under.
        config_digest: &'a str,
    },
    /// A session that policy allowed could not be opened.
    #[serde(rename = "session.failed")]
    SessionFailed {
        /// The id that the operator was told.
        session: SessionId,
        /// Who.
        identity: &'a Name,
        /// What failed: `recording`, `mint`, `launch`; `policy`, if a reload took the grant away meanwhile.
        step: &'a str,
        /// Why, for administrators.
        reason: String,
    },
    /// A credential was issued. Written before it is used.
    #[serde(rename = "lease.issued")]
    LeaseIssued {
        /// For which session.
        session: SessionId,
        /// Who.
        identity: &'a Name,
        /// Where.
        cluster: &'a Name,
        /// As which ServiceAccount.
        subject: String,
        /// The token's id, as the API server's audit log has it.
        jti: &'a str,
        /// The API server's `Audit-Id` of the issue.
        audit_id: Option<&'a str>,
        /// When it expires.
        expires: Timestamp,
    },
    /// Somebody asked what Kubernetes grants them. Written before a credential is issued for the question.
    #[serde(rename = "rights.asked")]
    RightsAsked {
        /// The id that the credential is issued under; no session is opened.
        session: SessionId,
        /// From where.
        peer: &'a Peer,
        /// The decision that it was asked for.
        grant: &'a Grant,
        /// In which namespaces.
        namespaces: Vec<&'a str>,
        /// `Audit-ID` of each question, as the API server's audit log has it.
        audit_ids: Vec<&'a str>,
    },
    /// An identity has its kubeconfigs count no more. Written before it is done.
    #[serde(rename = "kubeconfig.rotated")]
    KubeconfigRotated {
        /// Whose.
        identity: &'a Name,
        /// From where.
        peer: &'a Peer,
    },
    /// An open session's credential was renewed.
    #[serde(rename = "lease.renewed")]
    LeaseRenewed {
        /// For which session.
        session: SessionId,
        /// The new token's id.
        jti: &'a str,
        /// The API server's `Audit-Id` of the issue.
        audit_id: Option<&'a str>,
        /// When it expires.
        expires: Timestamp,
    },
    /// A credential goes to the client and outlives its session. Written before it is handed out.
    #[serde(rename = "lease.handed-out")]
    LeaseHandedOut {
        /// By which session.
        session: SessionId,
        /// Who.
        identity: &'a Name,
        /// The token's id.
        jti: &'a str,
        /// Until when it is valid unless revoked.
        until: Timestamp,
    },
    /// A credential was taken back, or could not be.
    #[serde(rename = "lease.released")]
    LeaseReleased {
        /// Of which session.
        session: SessionId,
        /// The last token's id.
        jti: &'a str,
        /// `None`: refused by the API server from now on. Otherwise still valid until then.
        valid_until: Option<Timestamp>,
    },
    /// A session's command is about to run.
    #[serde(rename = "session.opened")]
    SessionOpened {
        /// Its id.
        session: SessionId,
        /// Who.
        identity: &'a Name,
        /// As what.
        role: &'a Name,
        /// Where.
        cluster: &'a Name,
        /// How.
        kind: SessionKind,
        /// The command line, lossy UTF-8, cut to 4096 characters.
        command: Option<&'a str>,
    },
    /// A session is to end later, as its operator asked. Written before it is so.
    #[serde(rename = "session.extended")]
    SessionExtended {
        /// Its id.
        session: SessionId,
        /// Who.
        identity: &'a Name,
        /// When it would have ended.
        previously: Timestamp,
        /// When it ends at the latest now.
        ends: Timestamp,
        /// The configuration that this was decided under.
        config_digest: &'a str,
    },
    /// A session is not to end later.
    #[serde(rename = "session.extension-denied")]
    ExtensionDenied {
        /// Its id.
        session: SessionId,
        /// Who.
        identity: &'a Name,
        /// Why not.
        denial: &'a Denial,
        /// The configuration that this was decided under.
        config_digest: &'a str,
    },
    /// A session ended; its recording is sealed unless `recording` says otherwise.
    #[serde(rename = "session.closed")]
    SessionClosed {
        /// Its id.
        session: SessionId,
        /// Who.
        identity: &'a Name,
        /// How it ended.
        ended: Ended,
        /// Bytes of the cast; `None` if it could not be sealed.
        cast_bytes: Option<u64>,
        /// SHA-256 of the cast, hex; `None` if it could not be sealed.
        checkpoint_sha256: Option<&'a str>,
        /// Output bytes.
        output_bytes: Option<u64>,
        /// Input bytes.
        input_bytes: Option<u64>,
    },
    /// A recording that an earlier run of the daemon left open was closed as interrupted.
    #[serde(rename = "recording.interrupted")]
    RecordingInterrupted {
        /// Its id.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// Nothing can be recorded any more: open sessions are ended, and new ones refused. Once, not for each session.
    #[serde(rename = "storage.failed")]
    StorageFailed {
        /// `noSpace`, `readOnly` or `broken`.
        trouble: Trouble,
        /// The same in a sentence.
        reason: String,
    },
    /// Recordings can be stored again.
    #[serde(rename = "storage.recovered")]
    StorageRecovered {
        /// What is over.
        trouble: Trouble,
        /// Since when it was so. Where the audit log is on that disk too, nothing else of it may be on record.
        since: Timestamp,
    },
    /// The disk of the recordings is filling up.
    #[serde(rename = "storage.low")]
    StorageLow {
        /// `bytes` or `inodes`.
        what: &'a str,
        /// How much of them is used, in percent.
        used_percent: u8,
        /// Bytes that are free.
        bytes_free: u64,
        /// Inodes that are free; `None` where the file system does not count them.
        inodes_free: Option<u64>,
    },
    /// The object store has not taken recordings for a while. Said once, until it has caught up.
    #[serde(rename = "shipping.behind")]
    ShippingBehind {
        /// How many wait.
        waiting: usize,
        /// Which one has waited the longest.
        oldest: SessionId,
        /// When that one was closed.
        since: Timestamp,
        /// Why its last try failed, if one did.
        reason: Option<String>,
    },
    /// The object store has caught up.
    #[serde(rename = "shipping.recovered")]
    ShippingRecovered {
        /// How many wait now.
        waiting: usize,
        /// How long after it was said to be behind.
        seconds: u64,
    },
    /// The object store holds something else under a recording's name. It is not overwritten.
    #[serde(rename = "recording.conflict")]
    RecordingConflict {
        /// Of which session.
        session: SessionId,
        /// Under which key, what is there and what was to be put there.
        reason: String,
    },
    /// Checkpoints of the evidence log cannot be kept at one of the places where they should be. Said once, until they can.
    #[serde(rename = "witness.failed")]
    WitnessFailed {
        /// `file`, `syslog` or `webhook`.
        place: WitnessKind,
        /// Why.
        reason: &'a str,
    },
    /// They are kept there again.
    #[serde(rename = "witness.recovered")]
    WitnessRecovered {
        /// Where.
        place: WitnessKind,
        /// Since when they were not.
        since: Timestamp,
    },
    /// A task of the daemon died, which is a defect of this program. It is begun again.
    #[serde(rename = "task.died")]
    TaskDied {
        /// `shipping` or `retention`.
        task: &'a str,
        /// What it said when it died.
        reason: &'a str,
        /// How often it has died since the daemon started.
        deaths: u64,
        /// After how many seconds it is begun again; 0: what it was about is tried again at its time.
        again_in: u64,
    },
    /// A recording is held: nothing deletes it.
    #[serde(rename = "recording.held")]
    RecordingHeld {
        /// Of which session.
        session: SessionId,
        /// Who said so.
        who: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// A recording is held no more.
    #[serde(rename = "recording.released")]
    RecordingReleased {
        /// Of which session.
        session: SessionId,
        /// Who said so.
        who: &'a str,
    },
    /// A recording is deleted. Written before it is done.
    #[serde(rename = "recording.deleted")]
    RecordingDeleted {
        /// Of which session.
        session: SessionId,
        /// Who wanted it gone: `retention`, or an OS user.
        who: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// Somebody read recordings or the list of them.
    #[serde(rename = "recording.read")]
    RecordingRead {
        /// Who.
        identity: &'a Name,
        /// From where.
        peer: &'a Peer,
        /// `sessions`, `show`, `replay` or `fetch`.
        word: &'a str,
        /// What was asked for, escaped and cut to 64 characters; `None` for the list.
        asked: Option<&'a str>,
        /// Which one that is; `None` for the list, and where the reader may see none that is meant.
        session: Option<SessionId>,
        /// Whether the reader's scope allowed it.
        allowed: bool,
    },
    /// One of our own words (`whoami`, `roles`, `kubeconfig` ...) was answered.
    #[serde(rename = "word.answered")]
    WordAnswered {
        /// Who.
        identity: &'a Name,
        /// From where.
        peer: &'a Peer,
        /// Which word.
        word: &'a str,
    },
    /// A session's command was connected to a host that its role lists; written before the first byte.
    #[serde(rename = "egress.opened")]
    EgressOpened {
        /// Which session.
        session: SessionId,
        /// Whose.
        identity: &'a Name,
        /// As it was asked for.
        to: &'a str,
        /// What that name stood for, with the port.
        address: SocketAddr,
    },
    /// That connection is over.
    #[serde(rename = "egress.closed")]
    EgressClosed {
        /// Which session.
        session: SessionId,
        /// Whose.
        identity: &'a Name,
        /// As it was asked for.
        to: &'a str,
        /// Bytes to the host.
        sent: u64,
        /// Bytes from it.
        received: u64,
    },
    /// A session's command was not connected to another host.
    #[serde(rename = "egress.refused")]
    EgressRefused {
        /// Which session.
        session: SessionId,
        /// Whose.
        identity: &'a Name,
        /// As it was asked for.
        to: &'a str,
        /// Why.
        reason: String,
    },
    /// A changed configuration is in force.
    #[serde(rename = "config.reloaded")]
    ConfigReloaded {
        /// Its digest.
        config_digest: &'a str,
        /// The digest before.
        previous_digest: &'a str,
    },
    /// A changed configuration was refused; the old one stays.
    #[serde(rename = "config.refused")]
    ConfigRefused {
        /// Every problem.
        problems: String,
        /// The digest that stays in force.
        config_digest: &'a str,
    },
    /// An administrator locked something, or changed its lock.
    #[serde(rename = "lock.set")]
    LockSet {
        /// The lock.
        lock: &'a Lock,
        /// Open sessions that it ended.
        sessions: usize,
        /// Credentials that it took back, or tried to.
        credentials: usize,
        /// Why a restart of the daemon would unlock it; none if it is kept.
        not_kept: Option<&'a str>,
    },
    /// An administrator unlocked something. Written before it is done.
    #[serde(rename = "lock.lifted")]
    LockLifted {
        /// The lock.
        lock: &'a Lock,
        /// Who said so.
        who: &'a str,
    },
    /// An administrator enrolled somebody for one-time codes. Written before it is done.
    #[serde(rename = "totp.enrolled")]
    TotpEnrolled {
        /// Whom.
        identity: &'a Name,
        /// Who said so.
        who: &'a str,
    },
    /// An administrator removed somebody's enrolment.
    #[serde(rename = "totp.removed")]
    TotpRemoved {
        /// Whose.
        identity: &'a Name,
        /// Who said so.
        who: &'a str,
        /// Open sessions that it ended.
        sessions: usize,
        /// Credentials that it took back, or tried to.
        credentials: usize,
        /// Why a restart of the daemon would bring it back; none if it would not.
        not_kept: Option<&'a str>,
    },
    /// An administrator did something over the admin socket.
    #[serde(rename = "admin.act")]
    AdminAct {
        /// OS uid of the peer.
        uid: u32,
        /// What.
        act: Act<'a>,
    },
    /// About signing in with an identity provider.
    #[serde(untagged)]
    SignOn(SignOnEvent<'a>),
}
