//! What is left of a recording that nobody sealed.

use std::time::Duration;

use jiff::SignedDuration;

use super::Stream;
use super::event::{Event, Happening};
use super::header::Bastion;
use super::manifest::{
    CastSummary, Coverage, Ending, LeaseRecord, Manifest, State, Totals, VERSION,
};
use super::requests::RequestsSummary;
use super::statement::{Checkpoint, Encrypted, Standing, Statement};

/// What the events of a cast add up to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Survivors {
    pub(crate) last: Duration,
    pub(crate) totals: Totals,
    pub(crate) leases: Vec<LeaseRecord>,
    pub(crate) ending: Option<Ending>,
}

impl Survivors {
    pub(crate) fn add(&mut self, event: Event) {
        self.last = event.at;
        let (total, bytes) = match event.what {
            Happening::Output {
                stream: Stream::Stdout,
                bytes,
                ..
            } => (&mut self.totals.stdout_bytes, bytes.len() as u64),
            Happening::Output {
                stream: Stream::Stderr,
                bytes,
                ..
            } => (&mut self.totals.stderr_bytes, bytes.len() as u64),
            Happening::Input(bytes) => (&mut self.totals.stdin_bytes, bytes.len() as u64),
            Happening::InputDigest { length, .. } => (&mut self.totals.stdin_bytes, length),
            Happening::Masked(masked) => return self.totals.add_masked(&masked),
            Happening::Lease(lease) => return self.leases.push(lease),
            Happening::End(ending) => {
                self.ending.get_or_insert(ending);
                return;
            }
            Happening::InputEnd
            | Happening::Resize(_)
            | Happening::Marker(_)
            | Happening::Request(_)
            | Happening::Note(_)
            | Happening::Answer(_)
            | Happening::Unknown { .. } => return,
        };
        *total = total.saturating_add(bytes);
    }

    /// As far as checkpoints tell: of an encrypted recording, whoever closes it knows no more.
    pub(crate) fn of_checkpoints(checkpoints: &[Checkpoint]) -> Self {
        let mut survivors = Self::default();
        let opened = checkpoints.first().map(|first| first.statement.at);
        for Statement { at, standing, .. } in checkpoints.iter().map(|it| &it.statement) {
            if let Standing::Live { totals, leases } = standing {
                survivors.totals = *totals;
                survivors.leases.extend(leases.iter().cloned());
            }
            let since = opened.map(|opened| at.duration_since(opened));
            survivors.last = since
                .and_then(|since| Duration::try_from(since).ok())
                .unwrap_or_default();
        }
        survivors
    }

    pub(crate) fn manifest(
        self,
        bastion: &Bastion,
        reason: String,
        cast: CastSummary,
        requests: Option<RequestsSummary>,
        encrypted: Encrypted,
        log_head: String,
    ) -> Manifest {
        let session = bastion.metadata.clone();
        let length = SignedDuration::try_from(self.last).unwrap_or(SignedDuration::MAX);
        Manifest {
            version: VERSION,
            state: State::Interrupted,
            reason: Some(reason),
            ending: self.ending,
            closed: session.opened.checked_add(length).unwrap_or(session.opened),
            cast,
            totals: self.totals,
            leases: self.leases,
            requests,
            coverage: Coverage::of(bastion),
            encrypted,
            files: std::collections::BTreeMap::new(),
            log_head: Some(log_head),
            session,
        }
    }
}
