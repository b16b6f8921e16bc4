//! More time for an open session.

use std::time::Duration;

use jiff::SignedDuration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// The editor's sessions last an hour, and two more if they are extended.
fn config(more: &str) -> Config {
    let mut documents = base();
    documents.push(bind("b", "editor, viewer", more));
    for document in &mut documents {
        *document = document.replace("maxSession: 1h,", "maxSession: 1h, maxExtension: 2h,");
    }
    load(&documents)
}

fn hours(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

#[test]
fn a_session_lasts_longer_by_as_much_as_its_role_gives_in_all() {
    let config = config("");
    let identity = proven(&config);
    let first = shell(&config, "editor+dev").unwrap();
    let longer = |grant: &Grant, by, at| extend(&config, grant, &identity, by, at);
    let once = longer(&first, HOUR, now()).unwrap();
    assert_eq!((first.ends(), once.ends()), (hours(1), hours(2)));
    // It stands beyond its first end, and no longer than the new one says.
    assert_eq!(
        still_allowed(&config, &once, &identity, hours(1)),
        Ok(hours(2))
    );
    // All that is left, when more is asked for. It counts from the first end, not from when it is asked for.
    let twice = longer(&once, Duration::MAX, hours(1)).unwrap();
    assert_eq!(twice.ends(), hours(3));
    let denial = longer(&twice, HOUR, hours(2)).unwrap_err();
    assert_eq!(denial, Denial::LastsNoLonger { ends: hours(3) });
    assert!(denial.to_string().contains("2027-01-01 03:00:00 UTC"));
    // Too late is too late.
    assert!(longer(&first, HOUR, hours(1)).is_err());
    // Everything else is as it was granted.
    assert_eq!(once.until(first.ends()), first.until(first.ends()));
}

#[test]
fn a_role_that_gives_no_more_and_a_binding_that_ends_give_none() {
    let config = config("until: 2027-01-01T01:30:00Z");
    let identity = proven(&config);
    let viewer = shell(&config, "viewer").unwrap();
    assert!(matches!(
        extend(&config, &viewer, &identity, HOUR, now()),
        Err(Denial::NotExtended { .. })
    ));
    let editor = shell(&config, "editor+dev").unwrap();
    let extended = extend(&config, &editor, &identity, HOUR, now()).unwrap();
    assert_eq!(extended.ends().to_string(), "2027-01-01T01:30:00Z");
    assert!(matches!(
        extend(&config, &extended, &identity, HOUR, now()),
        Err(Denial::LastsNoLonger { .. })
    ));
}

#[test]
fn what_would_not_be_allowed_any_more_is_not_extended() {
    let before = config("");
    let identity = proven(&before);
    let grant = shell(&before, "editor+dev").unwrap();
    let again = |config: &Config| extend(config, &grant, &identity, HOUR, now());
    assert!(again(&before).is_ok());
    assert!(matches!(
        again(&load(&base())),
        Err(Denial::NoLongerBound { .. })
    ));
    // The configuration as it is now counts.
    let without = with(&[bind("b", "editor", "")]);
    assert!(matches!(again(&without), Err(Denial::NotExtended { .. })));
    // What was given by it stays.
    let extended = again(&before).unwrap();
    let stands = still_allowed(&without, &extended, &identity, hours(1));
    assert_eq!(stands, Ok(hours(2)));
}
