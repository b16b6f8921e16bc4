//! The threads that the gateway's connections are served on.
//!
//! They are few and apart from the daemon's others. A request is a chain of short steps: the client's bytes, the record,
//! the API server's answer. Where any of many threads may take the next step, most of a small request's time goes into
//! waking one of them; and half of the machine is left to the operators' commands, which ask.

use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// Ends them when it is dropped; what they have under way is dropped then.
#[derive(Debug)]
pub(super) struct Workers {
    handle: Handle,
    /// There until the drop.
    runtime: Option<Runtime>,
}

impl Workers {
    pub(super) fn start() -> io::Result<Self> {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads((cores / 2).max(1))
            .thread_name("gateway")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Its last owner may be a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}
