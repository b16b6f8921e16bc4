//! What the journal's records add up to.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Name;
use crate::session::SessionId;

/// One line of the journal. It names things; it never holds a credential.
// One at a time on its way to the disk: boxing would buy nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub(crate) enum Record {
    /// A Secret is about to be created.
    Intent(Intent),
    /// A token was issued.
    Issued(Issued),
    /// The token is in the client's hands: it outlives the session and the daemon.
    HandedOut {
        /// The session.
        session: SessionId,
        /// The token's expiry.
        until: Timestamp,
    },
    /// It is to be taken back, and a restart does not change that.
    Revoked {
        /// The session.
        session: SessionId,
    },
    /// The Secret is gone; that was confirmed.
    Released {
        /// The session.
        session: SessionId,
    },
}

/// Everything that is needed to undo it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Intent {
    pub(crate) session: SessionId,
    pub(crate) cluster: Name,
    /// Who issues: the API server's URL (a cluster's name may come to mean another one), or our own.
    pub(crate) server: String,
    #[serde(flatten)]
    pub(crate) means: Means,
    pub(crate) identity: Name,
    /// The key that proved it.
    pub(crate) fingerprint: String,
    /// The certificate of that key, OpenSSH format, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<String>,
    /// The enrolment of the one-time code that was accepted besides, by when it began, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enrolment: Option<Timestamp>,
    pub(crate) role: Name,
    /// Lifetime asked for, seconds.
    pub(crate) ttl: u32,
    pub(crate) at: Timestamp,
}

/// By what a token holds, and what ends it before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub(crate) enum Means {
    /// A Secret of its own: deleting it is the revocation.
    Secret {
        namespace: String,
        service_account: String,
        secret: String,
    },
    /// Our own signature: nothing ends it. There is nothing in the cluster to undo.
    Signature {
        username: String,
        groups: Vec<String>,
    },
}

/// What was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Issued {
    pub(crate) session: SessionId,
    pub(crate) jti: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) audit_id: Option<String>,
    pub(crate) expires: Timestamp,
}

/// One lease that is not released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) intent: Intent,
    /// The last token's.
    pub(crate) issued: Option<Issued>,
    /// Until then in a client's hands.
    pub(crate) handed_out: Option<Timestamp>,
    pub(crate) revoked: bool,
}

impl Intent {
    /// When the token that was asked for ends, if nobody shortens its life.
    pub(crate) fn longest(&self) -> Timestamp {
        let ttl = SignedDuration::from_secs(self.ttl.into());
        self.at.saturating_add(ttl).unwrap_or(self.at)
    }

    /// Whether nothing ends its tokens before their time.
    pub(crate) fn is_signed(&self) -> bool {
        matches!(self.means, Means::Signature { .. })
    }
}

/// All leases that are not released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) open: BTreeMap<SessionId, Entry>,
}

impl Book {
    /// Takes one record in. One about a session that is not open is about one that was released.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Intent(intent) => {
                self.open.insert(
                    intent.session,
                    Entry {
                        intent: intent.clone(),
                        issued: None,
                        handed_out: None,
                        revoked: false,
                    },
                );
            }
            Record::Issued(issued) => {
                if let Some(entry) = self.open.get_mut(&issued.session) {
                    entry.issued = Some(issued.clone());
                }
            }
            Record::HandedOut { session, until } => {
                if let Some(entry) = self.open.get_mut(session) {
                    entry.handed_out = Some(*until);
                }
            }
            Record::Revoked { session } => {
                if let Some(entry) = self.open.get_mut(session) {
                    entry.revoked = true;
                }
            }
            Record::Released { session } => {
                self.open.remove(session);
            }
        }
    }

    /// The fewest records that add up to this book.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.open.iter().flat_map(|(session, entry)| {
            [
                Some(Record::Intent(entry.intent.clone())),
                entry.issued.clone().map(Record::Issued),
                entry.handed_out.map(|until| Record::HandedOut {
                    session: *session,
                    until,
                }),
                entry
                    .revoked
                    .then_some(Record::Revoked { session: *session }),
            ]
            .into_iter()
            .flatten()
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn session(number: u32) -> SessionId {
        SessionId::parse(&format!("01ARZ3NDEKTSV4RRFF{number:08}")).unwrap()
    }

    pub(in super::super) fn intent(number: u32) -> Record {
        let session = session(number);
        Record::Intent(Intent {
            session,
            cluster: Name::new("prod").unwrap(),
            server: "https://127.0.0.1:6443/".into(),
            means: if number.is_multiple_of(3) {
                Means::Signature {
                    username: "ssh:operator-a".into(),
                    groups: vec!["ssh:sre".into()],
                }
            } else {
                Means::Secret {
                    namespace: "bastion-viewer".into(),
                    service_account: "viewer".into(),
                    secret: format!("session-main-{}", session.to_lowercase()),
                }
            },
            identity: Name::new("operator-a").unwrap(),
            fingerprint: "SHA256:abc".into(),
            certificate: None,
            enrolment: None,
            role: Name::new("viewer").unwrap(),
            ttl: 900,
            at: Timestamp::UNIX_EPOCH,
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        let until = Timestamp::UNIX_EPOCH;
        (0..6_u32, 0..5_u8).prop_map(move |(number, what)| {
            let session = session(number);
            match what {
                0 => intent(number),
                1 => Record::Issued(Issued {
                    session,
                    jti: format!("jti-{number}"),
                    audit_id: (number % 2 == 0).then(|| format!("audit-{number}")),
                    expires: until,
                }),
                2 => Record::HandedOut { session, until },
                3 => Record::Revoked { session },
                _ => Record::Released { session },
            }
        })
    }

    proptest! {
        #[test]
        fn compacting_changes_nothing(records in proptest::collection::vec(record(), 0..60)) {
            let mut book = Book::default();
            for record in &records {
                book.apply(record);
            }
            let mut again = Book::default();
            for record in book.records() {
                let line = serde_json::to_string(&record).unwrap();
                again.apply(&serde_json::from_str(&line).unwrap());
            }
            prop_assert_eq!(book, again);
        }
    }
}
