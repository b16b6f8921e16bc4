use super::*;
use crate::mint::{LeaseState, LiveLease};
use crate::policy::KubernetesSubject;

/// Three sessions: an exec of operator-a that failed, a shell of operator-b that was cut, a live exec.
async fn three() -> (FaultyStore, [SessionId; 3], HashSet<SessionId>) {
    let store = FaultyStore::default();
    let mut first = begun("2026-11-24T03:00:00Z", false);
    first.command = Some("kubectl delete pod web-0".to_owned());
    let one = open(&store, first).await;
    one.lease("jti-1", Some("audit-1"), at("2026-11-24T03:15:00Z"))
        .await
        .unwrap();
    one.output(Stream::Stderr, b"forbidden\n").await.unwrap();
    pass(61_500).await;
    one.seal(Ending::Exit(1)).await.unwrap();

    let mut second = begun("2026-11-24T04:00:00Z", true);
    second.identity = Name::new("operator-b").unwrap();
    let two = open(&store, second).await;
    pass(3_600_000).await;
    two.seal(Ending::Cut {
        reason: "revoked".to_owned(),
    })
    .await
    .unwrap();

    let mut third = begun("2026-11-24T06:00:00Z", false);
    third.command = Some(format!("echo \x1b]0;x\x07 {}", "long ".repeat(50)));
    let three = open(&store, third).await;
    three
        .lease("jti-3", None, at("2026-11-24T06:15:00Z"))
        .await
        .unwrap();
    let ids = [one.id(), two.id(), three.id()];
    (store, ids, HashSet::from([three.id()]))
}

async fn ids(store: &FaultyStore, live: &HashSet<SessionId>, arguments: &[&str]) -> Vec<SessionId> {
    let arguments = [&["sessions"], arguments].concat();
    let ReadingWord::Sessions(filters) = parse_word(&arguments).unwrap() else {
        panic!("sessions");
    };
    let query = filters.query(at("2026-11-24T12:00:00Z")).unwrap();
    let found = find(&recordings(store), &query, live, everyone)
        .await
        .unwrap();
    found.sessions.iter().map(Summary::id).collect()
}

#[tokio::test(start_paused = true)]
async fn finds_by_every_filter() {
    let (store, [one, two, three], live) = three().await;
    for (arguments, expected) in [
        (&[][..], vec![three, two, one]),
        (&["--identity", "operator-a"], vec![three, one]),
        (&["--identity", "operator"], vec![]),
        (
            &["--role", "viewer", "--cluster", "prod"],
            vec![three, two, one],
        ),
        (&["--cluster", "test"], vec![]),
        (&["--since", "2026-11-24T04:00:00Z"], vec![three, two]),
        (&["--until", "2026-11-24 04:00"], vec![two, one]),
        (&["--since", "9h", "--until", "7h"], vec![two, one]),
        (&["--at", "04:30"], vec![two]),
        (&["--at", "11:00"], vec![three]),
        (&["--jti", "jti-1"], vec![one]),
        (&["--jti", "JTI=jti-3"], vec![three]),
        (&["--audit-id", "audit-1"], vec![one]),
        (&["--audit-id", "audit-2"], vec![]),
        (&["--command", "DELETE pod"], vec![one]),
        // As ssh passes it on.
        (&["--command", "DELETE", "pod", "--live"], vec![]),
        (&["--command", "DELETE", "pod"], vec![one]),
        (
            &["--until", "2026-11-24", "04:00", "--since", "9h"],
            vec![two, one],
        ),
        (&["--state", "live"], vec![three]),
        (&["--live"], vec![three]),
        (&["--state", "interrupted"], vec![]),
        (&["--limit", "1"], vec![three]),
        (&["--limit", "0"], vec![three, two, one]),
    ] {
        assert_eq!(
            ids(&store, &live, arguments).await,
            expected,
            "{arguments:?}"
        );
    }
    assert_eq!(
        ids(&store, &HashSet::new(), &["--state", "interrupted"]).await,
        [three]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_may_not_see_does_not_exist() {
    let (store, [one, two, _], live) = three().await;
    let only_b = |metadata: &Metadata| metadata.identity.as_str() == "operator-b";
    let found = find(&recordings(&store), &Query::default(), &live, only_b)
        .await
        .unwrap();
    assert_eq!(
        found.sessions.iter().map(Summary::id).collect::<Vec<_>>(),
        [two]
    );
    let hidden = show(&recordings(&store), &one.to_string(), &live, only_b)
        .await
        .unwrap_err();
    assert_eq!(
        hidden.to_string(),
        format!("no recording begins with {one}; the newest are {two}")
    );
    assert_eq!(
        resolve(&recordings(&store), "latest", &live, only_b)
            .await
            .unwrap()
            .id(),
        two
    );
    // Nor does it make a prefix ambiguous.
    let prefix = &one.to_string()[..4];
    assert_eq!(
        resolve(&recordings(&store), prefix, &live, only_b)
            .await
            .unwrap()
            .id(),
        two
    );
    let nobody = resolve(&recordings(&store), "latest", &live, |_| false)
        .await
        .unwrap_err();
    assert_eq!(nobody.to_string(), "there are no recordings yet");
}

#[tokio::test(start_paused = true)]
async fn a_prefix_in_any_case_is_enough_and_errors_say_what_would_do() {
    let (store, [one, two, three], live) = three().await;
    let id = two.to_string();
    assert_eq!(
        resolve(
            &recordings(&store),
            &id[..10].to_lowercase(),
            &live,
            everyone
        )
        .await
        .unwrap()
        .id(),
        two
    );
    assert_eq!(
        resolve(&recordings(&store), &id, &live, everyone)
            .await
            .unwrap()
            .id(),
        two
    );
    let ambiguous = resolve(&recordings(&store), &id[..4], &live, everyone)
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        ambiguous,
        format!(
            "3 recordings begin with {}; add a character or more: {three}, {two}, {one}",
            &id[..4]
        )
    );
    let unknown = resolve(&recordings(&store), "7ZZ", &live, everyone)
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(
        unknown,
        format!("no recording begins with 7ZZ; the newest are {three}, {two}, {one}")
    );
    for bad in ["", "../x", "lol!", "\u{1b}[2J", &"0".repeat(27)] {
        let error = resolve(&recordings(&store), bad, &live, everyone)
            .await
            .unwrap_err();
        assert!(matches!(error, FindError::NotAnId(_)), "{bad:?}: {error}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_fits_and_is_harmless() {
    let (store, [one, _, three], live) = three().await;
    let found = find(&recordings(&store), &Query::default(), &live, everyone)
        .await
        .unwrap();
    let table = table(&found.sessions, 80);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "SESSION    STARTED (UTC)    LENGTH END  IDENTITY   ROLE+CLUSTER WHAT"
    );
    assert!(lines[1].starts_with(&three.to_string()[..10]));
    assert!(
        lines[1].contains("2026-11-24 06:00 -      live operator-a viewer+prod  echo \\u{1b}"),
        "{table}"
    );
    assert!(
        lines[2].ends_with("2026-11-24 04:00 1h00m  cut  operator-b viewer+prod  shell"),
        "{table}"
    );
    assert!(lines[3].contains("1m01s  1    operator-a"), "{table}");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let json = json_lines(&found.sessions).unwrap();
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last["session"]["session"], one.to_string());
    assert_eq!(last["state"], "complete");
    assert_eq!(last["leases"][0]["jti"], "jti-1");
}

#[tokio::test(start_paused = true)]
async fn one_page_says_it_all() {
    let (store, [one, two, three], live) = three().await;
    let (id, page) = show(&recordings(&store), &one.to_string(), &live, everyone)
        .await
        .unwrap();
    assert_eq!(id, one);
    let expected = format!(
        "session     {one}, complete
who         operator-a
            in sre
            by the key SHA256:abc
allowed by  the binding sre-viewers
            because: on call
            under the configuration 00
as          viewer on prod
            system:serviceaccount:bastion-viewer:viewer
what        exec
            kubectl delete pod web-0
when        2026-11-24 03:00:00Z to 2026-11-24 03:01:01Z (1m01s)
            opened to end by 2026-11-24 11:00:00Z
ended       exit status 1
from        10.0.0.1:50000
            SSH-2.0-OpenSSH_9.2
at          the bastion main
credentials jti jti-1, expires 2026-11-24 03:15:00Z
            issued as Audit-Id audit-1
bytes       stdout 0, stderr 10, stdin 0
on record   stdin: yes, every byte
            stdout: yes, every byte
            stderr: yes, every byte
            requests to the cluster: yes, each one
cast        "
    );
    assert!(page.starts_with(&expected), "{page}");
    let (_, live_page) = show(&recordings(&store), &three.to_string(), &live, everyone)
        .await
        .unwrap();
    assert!(
        live_page.contains("ended       not yet") && live_page.contains("jti jti-3"),
        "{live_page}"
    );
    let (_, lost) = show(
        &recordings(&store),
        &three.to_string(),
        &HashSet::new(),
        everyone,
    )
    .await
    .unwrap();
    assert!(
        lost.contains(", interrupted\n            nobody has sealed it\n"),
        "{lost}"
    );
    let (_, shell) = show(&recordings(&store), &two.to_string(), &live, everyone)
        .await
        .unwrap();
    assert!(
        shell.contains("stdin: no\n") && shell.contains("cut: revoked"),
        "{shell}"
    );
    assert!(!shell.contains("stdout: "), "{shell}");
}

#[test]
fn credentials_that_are_out_are_found_by_the_same_filters() {
    let opened = at("2026-11-24T04:00:00Z");
    let lease = LiveLease {
        session: SessionId::new(opened),
        identity: Name::new("operator-a").unwrap(),
        fingerprint: "SHA256:x".to_owned(),
        certificate: None,
        enrolment: None,
        role: Name::new("editor").unwrap(),
        cluster: Name::new("prod").unwrap(),
        subject: KubernetesSubject::ServiceAccount {
            namespace: "bastion-editor".to_owned(),
            name: "editor".to_owned(),
        },
        jti: Some("jti-1".to_owned()),
        audit_id: Some("audit-1".to_owned()),
        expires: at("2026-11-24T04:15:00Z"),
        state: LeaseState::HandedOut,
    };
    let means = |arguments: &[&str]| {
        let ReadingWord::Sessions(filters) =
            parse_word(&[&["sessions"], arguments].concat()).unwrap()
        else {
            panic!("sessions");
        };
        let query = filters.query(at("2026-11-24T04:05:00Z")).unwrap();
        query.means_lease(&lease)
    };
    for yes in [
        &[][..],
        &[
            "--identity",
            "operator-a",
            "--role",
            "editor",
            "--cluster",
            "prod",
        ],
        &["--since", "10m"],
        &["--until", "04:00"],
        &["--at", "04:15"],
        &["--jti", "jti-1"],
        &["--jti", "JTI=jti-1"],
        &["--audit-id", "audit-1"],
        &["--live"],
    ] {
        assert!(means(yes), "{yes:?}");
    }
    for no in [
        &["--identity", "operator-b"][..],
        &["--since", "1m"],
        &["--until", "03:59"],
        &["--at", "04:16"],
        &["--at", "03:59"],
        &["--jti", "jti-2"],
        &["--audit-id", "audit-2"],
        &["--command", ""],
        &["--touched", "* *"],
        &["--state", "complete"],
    ] {
        assert!(!means(no), "{no:?}");
    }
}
