use std::time::Duration;

use super::*;
use crate::config::{Admission, Algorithms, Limits, SourceNetwork};
use crate::server::HostCertificates;
use crate::strangers::Strangers;

fn network(text: &str) -> SourceNetwork {
    SourceNetwork::parse(text).unwrap()
}

fn gate(terms: Admission) -> Gate {
    let rules = Rules {
        admission: terms,
        limits: Limits::default(),
        banner: None,
        algorithms: Algorithms::default(),
        host_certificates: HostCertificates::default(),
    };
    let (_, rules) = watch::channel(rules);
    Gate::new(rules, Arc::new(Strangers::default()))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// With a dice that refuses nobody whom it need not.
fn ask(gate: &Gate, from: &str) -> Result<Place, Reason> {
    ask_at(gate, from, clock::monotonic(), 99)
}

fn ask_at(gate: &Gate, from: &str, now: Instant, dice: u32) -> Result<Place, Reason> {
    let terms = gate.rules.borrow().admission.clone();
    let from = address(from);
    gate.judge(&terms, from, Source::of(from, &terms), now, dice)
}

fn why(asked: Result<Place, Reason>) -> Option<Reason> {
    asked.err()
}

#[test]
fn the_chance_to_be_refused_grows_from_the_rate_to_all() {
    let startups = Startups {
        start: 10,
        rate: 30,
        full: 100,
    };
    let chances = [0, 9, 10, 55, 99, 100, 101].map(|open| percent_refused(startups, open));
    assert_eq!(chances, [0, 0, 30, 65, 99, 100, 100]);
    let sudden = Startups {
        start: 10,
        rate: 100,
        full: 10,
    };
    assert_eq!(
        [9, 10, 11].map(|open| percent_refused(sudden, open)),
        [0, 100, 100]
    );
}

#[test]
fn dice_are_fair_enough() {
    let mut counts = [0; 100];
    for _ in 0..100_000 {
        counts[dice() as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (800..1200).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn who_is_proven_or_gone_makes_room() {
    let gate = gate(Admission {
        startups_per_source: 2,
        ..Admission::default()
    });
    let one = ask(&gate, "192.0.2.7").unwrap();
    let two = ask(&gate, "192.0.2.7").unwrap();
    assert_eq!(why(ask(&gate, "192.0.2.7")), Some(Reason::PerSource));
    drop(ask(&gate, "192.0.2.8").unwrap());
    one.proven();
    let three = ask(&gate, "192.0.2.7").unwrap();
    assert_eq!(why(ask(&gate, "192.0.2.7")), Some(Reason::PerSource));
    two.over(Conduct::NoAttempt);
    let four = ask(&gate, "192.0.2.7").unwrap();
    // Its end does not count a second time.
    one.over(Conduct::Fine);
    assert_eq!(gate.inside().waiting.all(), 2);
    for place in [three, four] {
        place.over(Conduct::Fine);
    }
    assert_eq!(gate.inside().waiting.all(), 0);
}

#[test]
fn who_comes_when_it_is_full_is_refused_whatever_the_dice_say() {
    let gate = gate(Admission::default());
    let places: Vec<Place> = (0..100)
        .map(|host| ask(&gate, &format!("192.0.2.{host}")).unwrap())
        .collect();
    // Who has as many there as anybody.
    assert_eq!(why(ask(&gate, "192.0.2.7")), Some(Reason::Startups));
    let now = clock::monotonic();
    for place in places.iter().take(90) {
        place.proven();
    }
    assert_eq!(
        why(ask_at(&gate, "192.0.2.95", now, 29)),
        Some(Reason::Startups)
    );
    assert!(ask_at(&gate, "192.0.2.95", now, 30).is_ok());
}

#[tokio::test]
async fn when_it_is_full_the_largest_crowd_makes_way_and_is_not_blamed() {
    let gate = gate(Admission::default());
    let crowd: Vec<Place> = (0..100)
        .map(|n| ask(&gate, &format!("192.0.2.{}", n / 10)).unwrap())
        .collect();
    let honest = ask(&gate, "198.51.100.7").unwrap();
    assert_eq!(gate.inside().waiting.all(), 100);
    let mut gone = 0;
    for place in &crowd {
        let made_way = tokio::time::timeout(Duration::ZERO, place.makes_way()).await;
        if made_way.is_ok() {
            gone += 1;
            place.made_way();
        }
    }
    assert_eq!(gone, 1);
    assert_eq!(gate.inside().waiting.all(), 100);
    // One of the crowd, who has as many as the others, finds it full.
    assert_eq!(why(ask(&gate, "192.0.2.5")), Some(Reason::Startups));
    // Who is proven makes way for nobody.
    honest.proven();
    let _more: Vec<Place> = (0..9)
        .map(|_| ask(&gate, "198.51.100.8").unwrap())
        .collect();
    let made_way = tokio::time::timeout(Duration::ZERO, honest.makes_way()).await;
    assert!(made_way.is_err());
}

#[test]
fn ipv6_counts_by_the_network_and_ipv4_in_ipv6_clothes_is_ipv4() {
    let gate = gate(Admission {
        startups_per_source: 1,
        ..Admission::default()
    });
    let _six = ask(&gate, "2001:db8::1").unwrap();
    assert_eq!(why(ask(&gate, "2001:db8::2")), Some(Reason::PerSource));
    assert!(ask(&gate, "2001:db8:0:1::1").is_ok());
    let _four = ask(&gate, "192.0.2.7").unwrap();
    assert_eq!(why(ask(&gate, "::ffff:192.0.2.7")), Some(Reason::PerSource));
}

#[test]
fn a_source_that_behaves_badly_is_refused_and_no_other() {
    let gate = gate(Admission::default());
    for _ in 0..4 {
        let place = ask(&gate, "192.0.2.7").unwrap();
        place.tried();
        place.over(Conduct::NoAttempt);
    }
    assert_eq!(why(ask(&gate, "192.0.2.7")), Some(Reason::Penalty));
    assert!(ask(&gate, "192.0.2.8").is_ok());
    let later = clock::monotonic() + Duration::from_secs(21);
    assert!(ask_at(&gate, "192.0.2.7", later, 99).is_ok());
}

#[test]
fn who_has_signed_and_cannot_type_a_code_is_not_punished_and_who_guesses_is() {
    let gate = gate(Admission::default());
    for _ in 0..100 {
        let place = ask(&gate, "192.0.2.7").unwrap();
        place.tried();
        place.signed();
        // Whoever types has time for it, whoever floods.
        assert_eq!(gate.inside().waiting.all(), 0);
        place.over(Conduct::NoAttempt);
        assert_eq!(gate.inside().waiting.all(), 0);
    }
    let refused = (0..100).find(|_| match ask(&gate, "192.0.2.7") {
        Ok(place) => {
            place.signed();
            place.tried();
            place.over(Conduct::NoAttempt);
            false
        }
        Err(reason) => reason == Reason::Penalty,
    });
    assert!(refused.is_some());
}

#[test]
fn who_dies_without_a_word_costs_its_source_most() {
    let gate = gate(Admission::default());
    drop(ask(&gate, "192.0.2.7").unwrap());
    assert_eq!(why(ask(&gate, "192.0.2.7")), Some(Reason::Penalty));
    // One on which somebody was proven costs nothing, however it ends.
    let place = ask(&gate, "192.0.2.8").unwrap();
    place.proven();
    drop(place);
    assert!(ask(&gate, "192.0.2.8").is_ok());
}

#[test]
fn who_is_exempt_is_neither_counted_nor_punished_and_a_denial_stands() {
    let gate = gate(Admission {
        startups: Startups {
            start: 1,
            rate: 100,
            full: 1,
        },
        exempt: vec![network("192.0.2.0/24")],
        deny: vec![network("192.0.2.66")],
        ..Admission::default()
    });
    let places: Vec<Place> = (0..200).map(|_| ask(&gate, "192.0.2.7").unwrap()).collect();
    drop(places);
    assert!(ask(&gate, "192.0.2.7").is_ok());
    assert_eq!(why(ask(&gate, "192.0.2.66")), Some(Reason::Denied));
    let _place = ask(&gate, "198.51.100.7").unwrap();
    assert_eq!(why(ask(&gate, "198.51.100.7")), Some(Reason::Startups));
}

#[test]
fn only_who_is_allowed_and_not_denied_connects() {
    let gate = gate(Admission {
        allow: vec![network("192.0.2.0/24"), network("2001:db8::/32")],
        deny: vec![network("192.0.2.128/25")],
        ..Admission::default()
    });
    for (from, denied) in [
        ("192.0.2.7", false),
        ("2001:db8::7", false),
        ("192.0.2.200", true),
        ("198.51.100.7", true),
    ] {
        let reason = denied.then_some(Reason::Denied);
        assert_eq!(why(ask(&gate, from)), reason, "{from}");
    }
}

#[test]
fn penalties_can_be_switched_off() {
    let gate = gate(Admission {
        penalties: None,
        ..Admission::default()
    });
    for _ in 0..100 {
        drop(ask(&gate, "192.0.2.7").unwrap());
    }
    assert!(ask(&gate, "192.0.2.7").is_ok());
}

#[test]
fn a_source_is_shown_as_what_it_is() {
    let terms = Admission::default();
    let shown = |text: &str| Source::of(address(text), &terms).to_string();
    assert_eq!(shown("192.0.2.7"), "192.0.2.7");
    assert_eq!(shown("2001:db8::7"), "2001:db8::/64");
}
