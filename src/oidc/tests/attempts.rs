//! Each secret of an attempt is good once, for who it is for, and for five minutes.

use std::time::Duration;

use super::super::attempts::{Closed, Returned};
use super::*;
use crate::config::Admission;
use crate::server::Source;
use crate::totp::Hidden;

fn source(address: &str) -> Source {
    Source::of(address.parse().unwrap(), &Admission::default())
}

fn begin(attempts: &Attempts) -> Begun {
    attempts.begin(asked(None), source("192.0.2.7")).unwrap()
}

/// Through a provider and back.
fn back(attempts: &Attempts, begun: &Begun) -> Returned {
    let (_, sending) = attempts.send(begun.link.expose(), &name("corp")).unwrap();
    let state = sending.state.expose();
    attempts
        .returned(state, sending.browser.expose(), "corp")
        .unwrap()
}

fn word() -> Said {
    said(&configured(ANY), "jane")
}

fn code(attempts: &Attempts, begun: &Begun) -> Hidden {
    let returned = back(attempts, begun);
    attempts.said(returned.id, word()).unwrap()
}

#[tokio::test]
async fn a_code_is_good_once_in_the_ssh_that_it_is_for() {
    let attempts = Attempts::default();
    let (one, other) = (begin(&attempts), begin(&attempts));
    assert_eq!(one.ticket.typed(&Hidden::new("BCDF-GHJK")), Typed::TooEarly);
    let code = code(&attempts, &one);
    self::code(&attempts, &other);
    assert_eq!(other.ticket.typed(&code), Typed::Wrong);
    let Typed::Right(said) = one.ticket.typed(&code) else {
        panic!("the code is right");
    };
    assert_eq!(*said, word());
    assert_eq!(one.ticket.typed(&code), Typed::Over);
    assert!(matches!(
        attempts.of_link(one.link.expose()),
        Err(Closed::NoLink)
    ));
}

#[tokio::test]
async fn after_three_wrong_codes_a_right_one_is_none() {
    let attempts = Attempts::default();
    let begun = begin(&attempts);
    let code = code(&attempts, &begun);
    for expected in [Typed::Wrong, Typed::Wrong, Typed::Over, Typed::Over] {
        assert_eq!(begun.ticket.typed(&Hidden::new("BBBB-BBBB")), expected);
    }
    assert_eq!(begun.ticket.typed(&code), Typed::Over);
}

#[tokio::test]
async fn a_state_is_good_once_in_the_browser_that_was_sent_with_it() {
    let attempts = Attempts::default();
    let begun = begin(&attempts);
    let (_, first) = attempts.send(begun.link.expose(), &name("corp")).unwrap();
    let (_, second) = attempts.send(begun.link.expose(), &name("corp")).unwrap();
    let returned = |state: &Hidden, browser: &Hidden| {
        let returned = attempts.returned(state.expose(), browser.expose(), "corp");
        returned.map(|returned| returned.id)
    };
    // The newest is waited for, and no other.
    assert_eq!(returned(&first.state, &first.browser), Err(Closed::NoState));
    let other = returned(&second.state, &first.browser);
    assert_eq!(other, Err(Closed::AnotherBrowser));
    assert_eq!(
        returned(&second.state, &second.browser),
        Err(Closed::NoState)
    );
    let (_, third) = attempts.send(begun.link.expose(), &name("corp")).unwrap();
    // What another provider has said is no answer to it, and uses nothing up.
    let (state, browser) = (third.state.expose(), third.browser.expose());
    let elsewhere = attempts.returned(state, browser, "other");
    assert!(matches!(elsewhere, Err(Closed::NoState)));
    let id = returned(&third.state, &third.browser).unwrap();
    assert_eq!(returned(&third.state, &third.browser), Err(Closed::NoState));
    let again = attempts.send(begun.link.expose(), &name("corp"));
    assert!(matches!(again, Err(Closed::Done)));
    // Only who is back is said anything of, once.
    assert!(attempts.said(id, word()).is_some());
    assert!(attempts.said(id, word()).is_none());
    drop(attempts.asking(id));
    assert!(matches!(
        attempts.send(begun.link.expose(), &name("corp")),
        Err(Closed::Done)
    ));
    for (state, browser) in [("", ""), ("x", "x")] {
        assert!(matches!(
            attempts.returned(state, browser, "corp"),
            Err(Closed::NoState)
        ));
    }
}

#[tokio::test]
async fn a_link_leads_to_a_provider_a_few_times() {
    let attempts = Attempts::default();
    let begun = begin(&attempts);
    for _ in 0..5 {
        let returned = back(&attempts, &begun);
        drop(attempts.asking(returned.id));
    }
    let once_more = attempts.send(begun.link.expose(), &name("corp"));
    assert!(matches!(once_more, Err(Closed::TooOften)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_over_after_five_minutes_or_with_its_connection() {
    let attempts = Attempts::default();
    let begun = begin(&attempts);
    let code = code(&attempts, &begun);
    tokio::time::advance(Duration::from_secs(299)).await;
    assert!(attempts.of_link(begun.link.expose()).is_ok());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(matches!(
        attempts.of_link(begun.link.expose()),
        Err(Closed::NoLink)
    ));
    assert_eq!(begun.ticket.typed(&code), Typed::Over);
    assert_eq!(attempts.count(), 0);

    let Begun { ticket, link } = begin(&attempts);
    assert_eq!(attempts.count(), 1);
    drop(ticket);
    assert!(matches!(
        attempts.of_link(link.expose()),
        Err(Closed::NoLink)
    ));
}

#[tokio::test]
async fn attempts_are_bounded_and_strangers_leave_room_for_others() {
    let attempts = Attempts::default();
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(begin(&attempts));
    }
    let one_more =
        |identity: Option<&str>, address: &str| attempts.begin(asked(identity), source(address));
    assert_eq!(one_more(None, "192.0.2.7").unwrap_err(), Full::Source);
    let mut number = 0_u32;
    let mut address = || {
        number += 1;
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).to_string()
    };
    while let Ok(begun) = one_more(None, &address()) {
        held.push(begun);
    }
    assert_eq!(held.len(), 256);
    while let Ok(begun) = one_more(Some("jane"), &address()) {
        held.push(begun);
    }
    assert_eq!(held.len(), 1024);
    held.clear();
    assert!(one_more(None, "192.0.2.7").is_ok());
}

#[tokio::test]
async fn nothing_shows_what_is_secret() {
    let attempts = Attempts::default();
    let begun = begin(&attempts);
    let code = code(&attempts, &begun);
    let shown = format!("{attempts:?} {begun:?}");
    for secret in [&begun.link, &code] {
        assert!(!shown.contains(secret.expose()), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_signs_in_by_the_device_flow_has_no_link_any_more_and_as_long_as_before() {
    let attempts = Attempts::default();
    let begun = begin(&attempts);
    let (_, sending) = attempts.send(begun.link.expose(), &name("corp")).unwrap();
    tokio::time::advance(Duration::from_secs(60)).await;
    let ends = begun.ticket.by_device().unwrap();
    let left = ends.duration_since(crate::clock::monotonic());
    assert_eq!(left, Duration::from_secs(240));
    let again = attempts.send(begun.link.expose(), &name("corp"));
    assert!(matches!(again, Err(Closed::AnotherWay)));
    // Nor has a browser that is away by it.
    let (state, browser) = (sending.state.expose(), sending.browser.expose());
    let back = attempts.returned(state, browser, "corp");
    assert!(matches!(back, Err(Closed::NoState)));
    assert_eq!(
        begun.ticket.typed(&Hidden::new("BBBB-BBBB")),
        Typed::TooEarly
    );
    let other = begin(&attempts);
    let returned = self::back(&attempts, &other);
    other.ticket.by_device().unwrap();
    assert!(attempts.said(returned.id, word()).is_none());
    tokio::time::advance(Duration::from_secs(241)).await;
    assert_eq!(begin(&attempts).ticket.by_device().err(), None);
    assert_eq!(begun.ticket.by_device().err(), Some(Full::Late));
}

#[tokio::test]
async fn few_at_once_sign_in_by_the_device_flow_and_fewer_of_one_identity() {
    let attempts = Attempts::default();
    let begin = |number: usize, who: &str| {
        let from = source(&format!("192.0.{}.{}", number / 200, number % 200));
        attempts.begin(asked(Some(who)), from).unwrap().ticket
    };
    let mut held = Vec::new();
    for number in 0..4 {
        let ticket = begin(number, "jane");
        ticket.by_device().unwrap();
        held.push(ticket);
    }
    let one_more = begin(4, "jane");
    assert_eq!(one_more.by_device().err(), Some(Full::Identity));
    for number in 5..129 {
        let ticket = begin(number, &format!("p{number}"));
        ticket.by_device().unwrap();
        held.push(ticket);
    }
    assert_eq!(held.len(), 128);
    let another = begin(130, "john");
    assert_eq!(another.by_device().err(), Some(Full::All));
    // What ends makes room.
    held.remove(0);
    another.by_device().unwrap();
}
