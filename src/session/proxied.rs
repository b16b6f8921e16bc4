//! A session's way to other hosts, for as long as the session is open.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::egress::{self, Egress};

/// From cutting connections to the last of them being on record.
const LAST: Duration = Duration::from_secs(2);

/// What is served at a listener, if there is one.
pub(super) struct Proxied {
    task: Option<AbortOnDropHandle<()>>,
    over: CancellationToken,
    // However the session ends, a panic included, nothing of it stays open.
    _end: DropGuard,
}

impl Proxied {
    pub(super) fn serve(listener: Option<TcpListener>, egress: Egress) -> Self {
        let over = CancellationToken::new();
        let task = listener.map(|listener| {
            AbortOnDropHandle::new(tokio::spawn(egress::serve(listener, egress, over.clone())))
        });
        Self {
            task,
            _end: over.clone().drop_guard(),
            over,
        }
    }

    /// Cuts every connection, and opens none from now on.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    /// Waits, after [`Self::end`], until each is on record as over, but not for long.
    pub(super) async fn ended(self) {
        if let Some(task) = self.task
            && tokio::time::timeout(LAST, task).await.is_err()
        {
            tracing::error!("a session's connections to other hosts did not end in time");
        }
    }
}
