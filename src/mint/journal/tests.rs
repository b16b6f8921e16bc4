use super::book::tests::{intent, session};
use super::*;

#[tokio::test]
async fn records_that_come_together_are_all_on_disk_when_they_return() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) =
        Journal::open(directory.path(), crate::store::room::Room::default()).unwrap();
    let journal = Arc::new(journal);
    let mut all = tokio::task::JoinSet::new();
    for number in 0..100 {
        let journal = journal.clone();
        all.spawn(async move { journal.record(vec![intent(number)]).await });
    }
    for result in all.join_all().await {
        result.unwrap();
    }
    let text = std::fs::read_to_string(directory.path().join("leases.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 100);
    drop(journal);
    let (_journal, found) =
        Journal::open(directory.path(), crate::store::room::Room::default()).unwrap();
    assert_eq!(found.book.open.len(), 100);
    assert!(found.book.open.contains_key(&session(42)));
}

#[tokio::test]
async fn a_closed_journal_takes_nothing() {
    let error = Journal::closed().record(vec![intent(1)]).await.unwrap_err();
    assert!(matches!(error, JournalError::Closed), "{error}");
}
