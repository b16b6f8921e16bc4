//! Which recordings, of those that one may see.

use std::collections::HashSet;

use jiff::Timestamp;

use super::error::FindError;
use super::summary::{Status, Summary};
use super::touched::{Touched, any_request};
use crate::recording::{Metadata, ReadError, Recordings};
use crate::session::SessionId;
use crate::store::{Span, StoreError};

/// What to look for. What is not set does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Of this identity.
    pub identity: Option<String>,
    /// Under this role.
    pub role: Option<String>,
    /// On this cluster.
    pub cluster: Option<String>,
    /// Begun not before.
    pub since: Option<Timestamp>,
    /// Begun not after.
    pub until: Option<Timestamp>,
    /// Going on at this moment.
    pub at: Option<Timestamp>,
    /// To which the token with this id was issued.
    pub jti: Option<String>,
    /// To which a token was issued, or in which a request was made, under this `Audit-Id`.
    pub audit_id: Option<String>,
    /// With this text in the command, whatever its case.
    pub command: Option<String>,
    /// With a request like this.
    pub touched: Option<Touched>,
    /// Streams into pods as well, which are parts of sessions.
    pub streams: bool,
    /// In this state.
    pub state: Option<Status>,
    /// At most so many, the newest first.
    pub limit: Option<usize>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Newest first.
    pub sessions: Vec<Summary>,
    /// There are more than the limit.
    pub more: bool,
    /// Recordings that may be meant, but whose request index cannot be read to the end, and why.
    pub unsearched: Vec<(SessionId, String)>,
    /// Recordings whose description cannot be read. Nobody can say whose they are: for the administrator only.
    pub unreadable: Vec<(SessionId, ReadError)>,
}

/// Looks for recordings.
pub async fn find(
    recordings: &Recordings,
    query: &Query,
    live: &HashSet<SessionId>,
    allow: impl Fn(&Metadata) -> bool,
) -> Result<Found, FindError> {
    let span = Span {
        since: query.since,
        until: earlier(query.until, query.at),
    };
    let mut found = Found::default();
    for id in recordings.list(span).await? {
        let mut summary = match Summary::load(recordings, id, live).await {
            Ok(summary) => summary,
            // It went away between the list and the look.
            Err(ReadError::Store(StoreError::NotFound(_))) => continue,
            Err(error @ ReadError::Store(_)) => return Err(error.into()),
            Err(error) => {
                found.unreadable.push((id, error));
                continue;
            }
        };
        if !allow(&summary.session) || !query.matches_description(&summary) {
            continue;
        }
        if query.asks_for_leases() {
            summary.count(recordings).await?;
            if !query.matches_leases(&summary) {
                continue;
            }
        }
        match query.matches_requests(recordings, &summary).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error @ ReadError::Store(_)) => return Err(error.into()),
            Err(error) => {
                // Whoever looks for a deed must know where nobody can look.
                found.unsearched.push((id, error.to_string()));
                continue;
            }
        }
        if query
            .limit
            .is_some_and(|limit| found.sessions.len() >= limit)
        {
            found.more = true;
            break;
        }
        found.sessions.push(summary);
    }
    Ok(found)
}

/// The one recording that `text` means: an id, the beginning of one in any case, or `latest`.
pub async fn resolve(
    recordings: &Recordings,
    text: &str,
    live: &HashSet<SessionId>,
    allow: impl Fn(&Metadata) -> bool,
) -> Result<Summary, FindError> {
    const SOME: usize = 3;
    let latest = text.eq_ignore_ascii_case("latest");
    let prefix = text.to_ascii_uppercase();
    if !latest && (prefix.is_empty() || prefix.len() > 26 || !prefix.bytes().all(is_crockford)) {
        return Err(FindError::NotAnId(super::printable(
            text.get(..60).unwrap_or(text),
        )));
    }

    let ids = recordings.list(Span::default()).await?;
    let mut newest = Vec::new();
    let mut candidates = Vec::new();
    let mut count = 0_usize;
    let mut damage = None;
    for id in ids {
        let meant = latest || id.to_string().starts_with(&prefix);
        if !meant && newest.len() >= SOME {
            continue;
        }
        let summary = match Summary::load(recordings, id, live).await {
            Ok(summary) => summary,
            Err(error) => {
                // Only a whole id says that this one is meant.
                damage = damage.or((meant && prefix.len() == 26).then_some(error));
                continue;
            }
        };
        if !allow(&summary.session) {
            continue;
        }
        if latest && summary.session.parent.is_none() {
            return Ok(summary);
        }
        if newest.len() < SOME {
            newest.push(id);
        }
        if meant {
            count = count.saturating_add(1);
            if candidates.len() < SOME {
                candidates.push(summary);
            }
        }
    }
    if count == 1
        && let Some(only) = candidates.pop()
    {
        return Ok(only);
    }
    if let Some(damage) = damage {
        return Err(damage.into());
    }
    Err(match count {
        0 if newest.is_empty() => FindError::Empty,
        0 => FindError::Unknown { prefix, newest },
        _ => FindError::Ambiguous {
            candidates: candidates.iter().map(Summary::id).collect(),
            prefix,
            count,
        },
    })
}

fn is_crockford(byte: u8) -> bool {
    byte.is_ascii_digit()
        || (byte.is_ascii_uppercase() && !matches!(byte, b'I' | b'L' | b'O' | b'U'))
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Query {
    fn matches_description(&self, summary: &Summary) -> bool {
        let session = &summary.session;
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == name)
        };
        (self.streams || session.parent.is_none())
            && is(&self.identity, session.identity.as_str())
            && is(&self.role, session.role.as_str())
            && is(&self.cluster, session.cluster.as_str())
            && self.state.is_none_or(|state| state == summary.state)
            && self.at.is_none_or(|at| {
                session.opened <= at && summary.closed.is_none_or(|closed| at <= closed)
            })
            && self.command.as_deref().is_none_or(|text| {
                let command = session.command.as_deref().unwrap_or("");
                command.to_lowercase().contains(&text.to_lowercase())
            })
    }

    fn asks_for_leases(&self) -> bool {
        self.jti.is_some() || self.audit_id.is_some()
    }

    /// The API server's audit log writes `JTI=...`; either form is meant.
    pub(super) fn means_jti(&self, jti: &str) -> bool {
        self.jti
            .as_deref()
            .map(|wanted| wanted.strip_prefix("JTI=").unwrap_or(wanted))
            .is_none_or(|wanted| wanted == jti)
    }

    fn matches_leases(&self, summary: &Summary) -> bool {
        let mut leases = summary.leases.iter().flatten();
        self.jti.is_none() || leases.any(|lease| self.means_jti(&lease.jti))
    }

    async fn matches_requests(
        &self,
        recordings: &Recordings,
        summary: &Summary,
    ) -> Result<bool, ReadError> {
        let id = summary.id();
        if let Some(touched) = &self.touched
            && !any_request(recordings, id, |intent| touched.matches(&intent.info)).await?
        {
            return Ok(false);
        }
        let Some(audit_id) = &self.audit_id else {
            return Ok(true);
        };
        let mut leases = summary.leases.iter().flatten();
        let issued = leases.any(|lease| lease.audit_id.as_deref() == Some(audit_id));
        Ok(issued || any_request(recordings, id, |intent| intent.audit_id == *audit_id).await?)
    }
}
