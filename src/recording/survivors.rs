//! What is left of a recording that nobody sealed.

use std::time::Duration;

use jiff::SignedDuration;

use super::Stream;
use super::event::{Event, Happening};
use super::header::{Header, VERSION};
use super::manifest::{CastSummary, Coverage, Ending, LeaseRecord, Manifest, State, Totals};
use super::requests::RequestsSummary;

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

    pub(crate) fn manifest(
        self,
        header: &Header,
        reason: String,
        cast: CastSummary,
        requests: Option<RequestsSummary>,
    ) -> Manifest {
        let session = header.metadata().clone();
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
            coverage: Coverage::of(header),
            session,
        }
    }
}
