//! What was started is stopped, whatever ends the run.

use std::sync::{Mutex, MutexGuard};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

type Undo = Box<dyn FnOnce() + Send>;

static UNDO: Mutex<Vec<Undo>> = Mutex::new(Vec::new());

/// Does this at the end, before what was asked for earlier.
pub(crate) fn then(undo: impl FnOnce() + Send + 'static) {
    list().push(Box::new(undo));
}

/// Does this after everything else.
pub(crate) fn at_last(undo: impl FnOnce() + Send + 'static) {
    list().insert(0, Box::new(undo));
}

/// Undoes everything.
pub(crate) fn now() {
    // One at a time and without the lock: undoing takes a while, and a signal may come meanwhile.
    loop {
        let Some(undo) = list().pop() else { return };
        undo();
    }
}

/// Ctrl-C and SIGTERM leave nothing behind either: least of all an OS account.
pub(crate) fn on_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            now();
            std::process::exit(130);
        });
    });
    Ok(())
}

fn list() -> MutexGuard<'static, Vec<Undo>> {
    UNDO.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
