//! `spec.admission` and `spec.banner`.

use std::time::Duration;

use super::*;

/// The Bastion with these keys besides.
fn with(more: &str) -> Result<Bastion, Problems> {
    let mut documents = set();
    if let Some(first) = documents.first_mut() {
        *first = doc(
            "Bastion",
            "main",
            &format!("{{listen: 127.0.0.1:2222, hostKeys: [host], stateDir: state, {more}}}"),
        );
    }
    parse(Path::new("f.yaml"), &documents.concat()).map(|config| config.bastion)
}

#[test]
fn admission_is_on_by_default() {
    let bastion = with("limits: {}").unwrap();
    assert_eq!(bastion.admission, Admission::default());
    assert!(bastion.admission.penalties.is_some());
    assert_eq!(bastion.banner, None);
    assert_eq!(bastion.algorithms, Algorithms::Modern);
    let bastion = with("algorithms: postQuantum").unwrap();
    assert_eq!(bastion.algorithms, Algorithms::PostQuantum);
}

#[test]
fn every_key_of_admission_is_read() {
    let bastion = with(
        "banner: 'For operators only', admission: {startups: '1:2:3', startupsPerSource: 4, ipv4Prefix: 24, ipv6Prefix: 56, \
         penalties: {authFailed: 1s, noAttempt: 2s, graceExceeded: 3s, garbage: 4s, crash: 5s, least: 6s, most: 7s}, \
         exempt: [10.0.0.0/8], allow: ['2001:db8::/32'], deny: [192.0.2.7], proxies: [198.51.100.1]}",
    )
    .unwrap();
    assert_eq!(bastion.banner.as_deref(), Some("For operators only"));
    let network = |text| SourceNetwork::parse(text).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(
        bastion.admission,
        Admission {
            startups: Startups {
                start: 1,
                rate: 2,
                full: 3
            },
            startups_per_source: 4,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            penalties: Some(Penalties {
                auth_failed: seconds(1),
                no_attempt: seconds(2),
                grace_exceeded: seconds(3),
                garbage: seconds(4),
                crash: seconds(5),
                least: seconds(6),
                most: seconds(7),
            }),
            exempt: vec![network("10.0.0.0/8")],
            allow: vec![network("2001:db8::/32")],
            deny: vec![network("192.0.2.7")],
            proxies: vec![network("198.51.100.1")],
        }
    );
    let off = with("admission: {penalties: none}").unwrap();
    assert_eq!(off.admission.penalties, None);
}

#[test]
fn what_would_admit_otherwise_than_it_seems_is_refused() {
    for (more, told) in [
        ("admission: {startups: '10:30'}", "START:RATE:FULL"),
        ("admission: {startups: '0:30:100'}", "START:RATE:FULL"),
        ("admission: {startups: '100:30:10'}", "START:RATE:FULL"),
        ("admission: {startups: '10:101:100'}", "START:RATE:FULL"),
        ("admission: {startups: '10:30:100:1'}", "START:RATE:FULL"),
        ("admission: {startups: '+10:30:100'}", "START:RATE:FULL"),
        ("admission: {ipv4Prefix: 33}", "8 to 32"),
        (
            "admission: {exempt: [example.com]}",
            "names are not looked up",
        ),
        ("admission: {deny: ['!10.0.0.0/8']}", "is not an address"),
        ("admission: {allow: [10.0.0.1/8]}", "bits beyond its prefix"),
        ("admission: {proxys: [10.0.0.1]}", "did you mean 'proxies'?"),
        (
            "admission: {penalties: {authFail: 1s}}",
            "did you mean 'authFailed'?",
        ),
        ("admission: {penalties: {least: 1h}}", "refuse nobody"),
        ("admission: {penalties: off}", "is a mapping"),
        ("algorithms: old", "modern or postQuantum"),
        (r#"banner: "\e[2J""#, "control characters"),
    ] {
        let problems = with(more).unwrap_err().to_string();
        assert!(problems.contains(told), "{more}: {problems}");
    }
}
