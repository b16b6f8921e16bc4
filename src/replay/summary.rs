//! One recording, as lists and pages tell of it.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::kept::Kept;
use crate::recording::requests::RequestsSummary;
use crate::recording::{
    CastSummary, Coverage, Ending, LeaseRecord, Manifest, Metadata, ReadError, Reader, Recordings,
    State, Survivors, Totals,
};
use crate::session::SessionId;

/// Whether a session goes on, has ended, or was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It goes on.
    Live,
    /// Its end is on record.
    Complete,
    /// Nobody saw its end.
    Interrupted,
}

impl Status {
    /// As lists say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What is known of a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Whether it goes on.
    pub state: Status,
    /// Why it is interrupted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<Timestamp>,
    /// The cast; its digest only once it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cast: Option<CastSummary>,
    /// What went through, as far as it was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// The credentials, as far as they were looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leases: Option<Vec<LeaseRecord>>,
    /// The requests to the cluster, once it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestsSummary>,
    /// What is on record.
    pub coverage: Coverage,
    /// What keeps it, and what it waits for.
    #[serde(flatten)]
    pub kept: Kept,
    /// Who, why, what, where.
    pub session: Metadata,
}

impl Summary {
    /// Reads what is known without reading the events.
    pub async fn load(
        recordings: &Recordings,
        id: SessionId,
        live: &HashSet<SessionId>,
    ) -> Result<Self, ReadError> {
        let stored = recordings.open(id).await?;
        let described = stored.described().await;
        if let Some(mut manifest) = stored.manifest().await? {
            manifest.session = described.unwrap_or(manifest.session);
            return Ok(Self::sealed(manifest, live));
        }
        let mut bastion = stored.beginning().await?;
        bastion.metadata = described.unwrap_or(bastion.metadata);
        // A stream goes on at most as long as its session.
        let parent = bastion.metadata.parent.map(|parent| parent.session);
        let is_live = live.contains(&id) || parent.is_some_and(|parent| live.contains(&parent));
        Ok(Self {
            state: if is_live {
                Status::Live
            } else {
                Status::Interrupted
            },
            reason: (!is_live).then(|| "nobody has sealed it".to_owned()),
            ending: None,
            closed: None,
            cast: None,
            totals: None,
            leases: None,
            requests: None,
            coverage: Coverage::of(&bastion),
            kept: Kept::default(),
            session: bastion.metadata,
        })
    }

    /// Reads the events too, where the manifest that would have counted them is missing.
    pub(crate) async fn count(&mut self, recordings: &Recordings) -> Result<(), ReadError> {
        if self.leases.is_some() {
            return Ok(());
        }
        let mut reader =
            Reader::open(recordings.open(self.session.session).await?.cast().await?).await?;
        let mut survivors = Survivors::default();
        loop {
            match reader.next().await {
                Ok(Some(event)) => survivors.add(event),
                Ok(None) => break,
                Err(damage @ ReadError::Line { .. }) => {
                    self.reason = Some(damage.to_string());
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.totals = Some(survivors.totals);
        self.leases = Some(survivors.leases);
        Ok(())
    }

    fn sealed(manifest: Manifest, live: &HashSet<SessionId>) -> Self {
        Self {
            // A credential that was handed out outlives its session, and is live until it ends.
            state: match manifest.state {
                _ if live.contains(&manifest.session.session) => Status::Live,
                State::Complete => Status::Complete,
                State::Interrupted => Status::Interrupted,
            },
            reason: manifest.reason,
            ending: manifest.ending,
            closed: Some(manifest.closed),
            cast: Some(manifest.cast),
            totals: Some(manifest.totals),
            leases: Some(manifest.leases),
            requests: manifest.requests,
            coverage: manifest.coverage,
            kept: Kept::default(),
            session: manifest.session,
        }
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.session.session
    }

    /// How long it took, once it is closed.
    pub fn length(&self) -> Option<Duration> {
        let length = self.closed?.duration_since(self.session.opened);
        Duration::try_from(length).ok()
    }
}
