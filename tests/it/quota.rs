//! How large a recording may be, and what is counted.

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::running::Running;

#[test]
fn a_quota_ends_the_session_that_exceeds_it_and_no_other() {
    let bastion = Bastion::with(|documents| {
        documents.replace(
            "  stateDir: state\n",
            "  stateDir: state\n  recordings: {quota: 1MiB}\n",
        )
    });
    let mut other = Running::start(&bastion, "operator-a", "viewer", "cat");
    let greedy = Running::start(
        &bastion,
        "operator-a",
        "viewer",
        "cat /dev/zero | tr '\\0' x",
    );
    let id = greedy.id.clone();
    let ended = greedy.wait();
    let sentence = "its recording has reached its quota of 1MiB";
    assert_eq!(ended.code, Some(255), "{}", ended.stderr);
    assert!(ended.stderr.contains(sentence), "{}", ended.stderr);
    assert_eq!(bastion.cut_reason(&id), sentence);
    let size = bastion.cast(&id).len();
    assert!((1 << 20..2 << 20).contains(&size), "{size}");
    let closed = bastion.event("session.closed", |event| event["session"] == id.as_str());
    assert_eq!(closed["ended"]["cut"]["reason"], sentence);
    other.send("still here\n");
    other.close_stdin();
    assert_eq!(other.wait().stdout, "still here\n");
    // It is sealed: that is no failure.
    assert_eq!(bastion.metric("recordings_failed_total"), 0);
    bastion.nothing_left(&id);
}

#[test]
fn what_is_open_and_how_full_the_disk_is_can_be_counted() {
    let bastion = Bastion::start();
    assert_eq!(bastion.metric("sessions_open"), 0);
    let mut running = Running::start(&bastion, "operator-a", "viewer", "cat");
    assert_eq!(bastion.metric("sessions_open"), 1);
    assert_eq!(bastion.metric("leases_out"), 1);
    assert_eq!(bastion.metric("leases_handed_out"), 0);
    // Those that end sessions are looked after like the others.
    for task in ["enforcement", "storage", "retention"] {
        let deaths = format!("task_deaths_total{{task=\"{task}\"}}");
        assert_eq!(bastion.metric(&deaths), 0);
    }
    let (all, free) = (
        bastion.metric("storage_bytes"),
        bastion.metric("storage_free_bytes"),
    );
    assert!(0 < free && free <= all, "{free} of {all}");
    running.close_stdin();
    running.wait();
    eventually("no open session", || {
        (bastion.metric("sessions_open") == 0).then_some(())
    });
}
