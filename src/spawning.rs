//! One thread starts the processes that are to end with the daemon.
//!
//! Linux ends such a process when the *thread* that started it ends (prctl(2), `PR_SET_PDEATHSIG`), and the runtime's threads
//! come and go: one that gave its work away for a write that blocks is gone ten seconds later. This one stays.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

static THREAD: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);

/// Runs `start` on that thread, within the caller's runtime.
///
/// # Errors
///
/// There is no thread to be had.
pub(crate) async fn on_lasting_thread<T: Send + 'static>(
    start: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (tell, started) = oneshot::channel();
    let runtime = Handle::current();
    let job: Job = Box::new(move || {
        let _runtime = runtime.enter();
        // Whoever asked may have gone; what was started ends with what holds it.
        drop(tell.send(start()));
    });
    let gone = || io::Error::other("the thread that starts processes does not");
    thread()?.send(job).map_err(|_| gone())?;
    started.await.map_err(|_| gone())
}

fn thread() -> io::Result<mpsc::Sender<Job>> {
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(jobs) = &*thread {
        return Ok(jobs.clone());
    }
    let (jobs, to_do) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("spawning".to_owned())
        .spawn(move || {
            for job in to_do {
                // All that it ever started would end with it.
                drop(std::panic::catch_unwind(AssertUnwindSafe(job)));
            }
        })?;
    *thread = Some(jobs.clone());
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::*;

    /// Ends with the thread that starts it.
    fn child() -> Child {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sleep", "60"]);
        command.spawn().unwrap()
    }

    /// Starts it on a thread that ends then; whether it lives on.
    fn outlives(start: impl FnOnce() -> Child + Send + 'static) -> bool {
        let starting = std::thread::spawn(move || {
            let child = start();
            // Until it has said what is to end it.
            std::thread::sleep(Duration::from_millis(500));
            child
        });
        let mut child = starting.join().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let lives = child.try_wait().unwrap().is_none();
        drop(child.kill());
        child.wait().unwrap();
        lives
    }

    #[test]
    fn what_it_starts_outlives_the_thread_that_asked() {
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(on_lasting_thread(child)).unwrap()
        };
        assert!(outlives(ask));
        assert!(!outlives(child), "then this test shows nothing");
    }

    #[tokio::test]
    async fn one_that_panics_takes_nobody_along() {
        let failed = on_lasting_thread(|| panic!("as it must")).await;
        assert!(failed.map(|(): ()| ()).is_err());
        assert_eq!(on_lasting_thread(|| 7).await.unwrap(), 7);
    }
}
