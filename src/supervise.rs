//! Tasks that must go on as long as the daemon does: one that dies is told of, loudly, and begun again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use crate::audit::{Audit, Event};
use crate::clock;

/// Before it is begun again for the first time; twice as long each further time.
const SOON: Duration = Duration::from_secs(1);
/// No longer than this.
const SELDOM: Duration = Duration::from_secs(5 * 60);
/// What has gone on for so long has recovered.
const WELL: Duration = Duration::from_secs(10 * 60);
/// Of what a task that died said, in bytes.
const LONGEST_REASON: usize = 500;

/// Counts and tells. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor {
    audit: Audit,
    deaths: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

impl Supervisor {
    pub(crate) fn new(audit: Audit) -> Self {
        Self {
            audit,
            deaths: Arc::default(),
        }
    }

    /// How often each task has died; those that were begun and never have are there, too.
    pub(crate) fn deaths(&self) -> Vec<(&'static str, u64)> {
        let deaths = self.lock();
        deaths.iter().map(|(task, n)| (*task, *n)).collect()
    }

    /// Runs what `begin` makes, and again when it dies, until it ends by itself or this is dropped, and it with it.
    pub(crate) async fn run<F>(self, task: &'static str, mut begin: impl FnMut() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.lock().entry(task).or_default();
        let mut pause = SOON;
        loop {
            let begun = clock::monotonic();
            let mut running = JoinSet::new();
            running.spawn(begin());
            let Some(Err(error)) = running.join_next().await else {
                return;
            };
            if clock::monotonic().saturating_duration_since(begun) >= WELL {
                pause = SOON;
            }
            self.died(task, error, Some(pause)).await;
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(SELDOM);
        }
    }

    /// A task has died. `again`: it is begun again after this.
    pub(crate) async fn died(&self, task: &'static str, error: JoinError, again: Option<Duration>) {
        self.ended(task, &reason(error), again).await;
    }

    /// What must go on has ended, and why.
    pub(crate) async fn ended(&self, task: &'static str, reason: &str, again: Option<Duration>) {
        let deaths = {
            let mut deaths = self.lock();
            let deaths = deaths.entry(task).or_default();
            *deaths = deaths.saturating_add(1);
            *deaths
        };
        tracing::error!("{task} has died, which is a defect of this program: {reason}");
        let event = Event::TaskDied {
            task,
            reason,
            deaths,
            again_in: again.map_or(0, |again| again.as_secs()),
        };
        self.audit.tell(event).await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.deaths
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What it said when it died.
fn reason(error: JoinError) -> String {
    let Ok(said) = error.try_into_panic() else {
        return "it was ended from outside".to_owned();
    };
    let said = match (said.downcast_ref::<&str>(), said.downcast_ref::<String>()) {
        (Some(said), _) => said,
        (None, Some(said)) => said.as_str(),
        (None, None) => "it said nothing",
    };
    let end = said.floor_char_boundary(LONGEST_REASON);
    said.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::testing::State as Bench;

    #[tokio::test]
    async fn a_task_that_dies_is_told_of_and_begun_again_later_and_later() {
        let bench = Bench::new();
        let supervisor = Supervisor::new(bench.audit.clone());
        let begun: Arc<Mutex<Vec<tokio::time::Instant>>> = Arc::default();
        let begins = Arc::clone(&begun);
        let supervised = supervisor.clone().run("shipping", move || {
            let begins = Arc::clone(&begins);
            async move {
                let times = {
                    let mut begins = begins.lock().unwrap();
                    begins.push(clock::monotonic());
                    begins.len()
                };
                assert!(times > 2, "time {times}");
            }
        });
        tokio::time::timeout(Duration::from_secs(20), supervised)
            .await
            .unwrap();
        let begun = begun.lock().unwrap().clone();
        assert_eq!(begun.len(), 3);
        assert!(begun[1] - begun[0] >= SOON && begun[2] - begun[1] >= SOON * 2);
        assert_eq!(supervisor.deaths(), [("shipping", 2)]);
        bench.audit.close().await;
        let log = std::fs::read_to_string(bench.dir.path().join("audit.jsonl")).unwrap();
        let died: Vec<serde_json::Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|event: &serde_json::Value| event["event"] == "task.died")
            .collect();
        assert_eq!(died.len(), 2);
        assert_eq!(died[0]["reason"], "time 1");
        assert_eq!(
            (&died[1]["deaths"], &died[1]["againIn"]),
            (&2.into(), &2.into())
        );
    }

    #[tokio::test]
    async fn what_is_supervised_ends_with_its_supervisor() {
        let bench = Bench::new();
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&alive);
        let mut tasks = JoinSet::new();
        tasks.spawn(
            Supervisor::new(bench.audit.clone()).run("shipping", move || {
                let held = Arc::clone(&counted);
                held.fetch_add(1, Ordering::SeqCst);
                async move {
                    let _held = held;
                    std::future::pending().await
                }
            }),
        );
        while alive.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(tasks);
        while Arc::strong_count(&alive) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
