use super::*;
use crate::recording::requests::{Child, Intent, Mark, Outcome, Pod, PodStream, RequestSummary};

fn intent(verb: &str, resource: &str, name: &str, marks: &[Mark]) -> Intent {
    Intent {
        audit_id: format!("{verb}-{name}"),
        method: "GET".to_owned(),
        path: "/".to_owned(),
        info: RequestSummary {
            is_resource: true,
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            ..RequestSummary::default()
        },
        marks: marks.to_vec(),
        ..Intent::default()
    }
}

/// A command that deleted a pod and went into another: its id, and that of the stream.
async fn deed(store: &FaultyStore, seal: bool) -> (SessionId, SessionId) {
    let recording = open(store, begun("2026-11-24T03:00:00Z", false)).await;
    recording.output(Stream::Stdout, b"before\n").await.unwrap();
    let delete = recording
        .intent(intent("delete", "pods", "web", &[Mark::Write]))
        .await
        .unwrap();
    let refused = Outcome {
        status: Some(403),
        ..Outcome::default()
    };
    recording.outcome(delete, refused).await.unwrap();
    let exec = recording
        .intent(intent("create", "pods", "box", &[Mark::Exec]))
        .await
        .unwrap();
    let child = Child {
        request: exec,
        stream: PodStream::PodExec,
        pod: Pod {
            namespace: "default".to_owned(),
            name: "box".to_owned(),
            container: None,
            command: vec!["sh".to_owned()],
        },
        tty: false,
        size: None,
    };
    pass(5).await;
    let child = recording.child(child).await.unwrap();
    child.output(Stream::Stdout, b"inside\n").await.unwrap();
    recording.output(Stream::Stdout, b"after\n").await.unwrap();
    if seal {
        child.seal(Ending::Exit(0)).await.unwrap();
        recording.outcome(exec, Outcome::default()).await.unwrap();
        recording.seal(Ending::Exit(0)).await.unwrap();
    }
    (recording.id(), child.id())
}

async fn found(store: &FaultyStore, live: &HashSet<SessionId>, arguments: &[&str]) -> Found {
    let arguments = [&["sessions"], arguments].concat();
    let ReadingWord::Sessions(filters) = parse_word(&arguments).unwrap() else {
        panic!("sessions");
    };
    let query = filters.query(at("2026-11-24T12:00:00Z")).unwrap();
    find(&recordings(store), &query, live, everyone)
        .await
        .unwrap()
}

fn ids(found: &Found) -> Vec<SessionId> {
    found.sessions.iter().map(Summary::id).collect()
}

#[tokio::test(start_paused = true)]
async fn streams_are_parts_of_their_sessions() {
    let store = FaultyStore::default();
    let (session, stream) = deed(&store, true).await;
    let live = HashSet::new();
    assert_eq!(ids(&found(&store, &live, &[]).await), [session]);
    assert_eq!(
        ids(&found(&store, &live, &["--streams"]).await),
        [stream, session]
    );
    assert_eq!(
        resolve(&recordings(&store), "latest", &live, everyone)
            .await
            .unwrap()
            .id(),
        session
    );
    let (_, page) = show(&recordings(&store), &session.to_string(), &live, everyone)
        .await
        .unwrap();
    assert!(
        page.contains("2, of them 1 writes, 1 execs, 1 refused"),
        "{page}"
    );
    assert!(
        page.contains(&format!("request 2: the stream {stream}")),
        "{page}"
    );
    let (_, page) = show(&recordings(&store), &stream.to_string(), &live, everyone)
        .await
        .unwrap();
    assert!(
        page.contains(&format!("{session}, request 2")) && page.contains("in default/box"),
        "{page}"
    );
    // Who may not see the session may not see its streams: they carry its identity and cluster.
    let nobody = |_: &Metadata| false;
    assert!(
        resolve(&recordings(&store), &stream.to_string(), &live, nobody)
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_live_while_its_session_is() {
    let store = FaultyStore::default();
    let (session, stream) = deed(&store, false).await;
    let live = HashSet::from([session]);
    let all = found(&store, &live, &["--streams"]).await;
    assert!(all.sessions.iter().all(|one| one.state == Status::Live));
    let all = found(&store, &HashSet::new(), &["--streams"]).await;
    assert!(
        all.sessions
            .iter()
            .all(|one| one.state == Status::Interrupted)
    );
    assert_eq!(ids(&all), [stream, session]);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_found_by_what_they_touched_and_what_cannot_be_searched_is_said() {
    let store = FaultyStore::default();
    let (session, _) = deed(&store, true).await;
    let live = HashSet::new();
    for (touched, expected) in [
        ("delete pods/*", vec![session]),
        ("delete pods/web -n default", vec![session]),
        ("* pods/box", vec![session]),
        ("delete services", vec![]),
        ("delete pods -n other", vec![]),
    ] {
        // With its quotes, and as ssh passes it on.
        let quoted = [&["--touched"], &[touched][..]].concat();
        let words: Vec<&str> = ["--touched"]
            .into_iter()
            .chain(touched.split(' '))
            .collect();
        for arguments in [quoted, words] {
            let found = found(&store, &live, &arguments).await;
            assert_eq!(ids(&found), expected, "{touched}");
            assert!(found.unsearched.is_empty());
        }
    }
    // By what the API server's audit log has of a request.
    for (audit_id, expected) in [("delete-web", vec![session]), ("delete-we", vec![])] {
        let found = found(&store, &live, &["--audit-id", audit_id]).await;
        assert_eq!(ids(&found), expected, "{audit_id}");
    }
    // What lies in the index is no reason to leave the session out in silence.
    store.damage_requests(session, b"garbage\n");
    let found = found(&store, &live, &["--touched", "delete services"]).await;
    assert_eq!(found.unsearched.len(), 1);
    let by_id = self::found(&store, &live, &["--audit-id", "nobodys"]).await;
    assert_eq!(by_id.unsearched.len(), 1);
    let said = unsearched(&found.unsearched);
    assert!(
        said.contains("could not be searched") && said.contains(&session.to_string()),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_stand_in_line_with_the_output_if_that_is_wanted() {
    let store = FaultyStore::default();
    let (session, _) = deed(&store, true).await;
    for (requests, expected) in [
        (false, "before\nafter\n"),
        (
            true,
            "before\n[request 1: delete pods default/web <write>]\n[request 1: 403 after 0.000 s]\n\
             [request 2: create pods default/box <exec>]\n",
        ),
    ] {
        let what = Export {
            format: Format::Text,
            stream: None,
            timestamps: false,
            requests,
            from: Duration::ZERO,
        };
        let mut text = Vec::new();
        export(&recordings(&store), session, what, &mut text)
            .await
            .unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(text.contains("request"), requests, "{text}");
    }
}
