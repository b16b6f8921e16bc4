//! Against a real server on loopback.

use http::Method;
use jiff::SignedDuration;

use super::*;
use crate::config::{LockMode, ObjectLock, Sse};
use crate::store::Part;
use crate::store::s3::testing::{Fault, Seen, Server};
use crate::store::testing::{State as Bench, noise};

const MIB: usize = 1 << 20;

async fn shipper_of(bench: &Bench, bucket: &Arc<Bucket>, keep: Option<Duration>) -> Arc<Shipper> {
    let shipper = Shipper::open(
        bench.dir.path(),
        bench.local.clone(),
        Arc::clone(bucket),
        keep,
        bench.clock(),
        bench.audit.clone(),
        Pace::default(),
    );
    Arc::new(shipper.await.unwrap())
}

async fn shipper(bench: &Bench, server: &Server) -> Arc<Shipper> {
    shipper_of(bench, &bench.bucket(server), None).await
}

fn key(id: SessionId, part: Part) -> String {
    let day = id.opened().strftime("%Y/%m/%d").to_string();
    format!("main/recordings/{day}/{id}/{}", part.name())
}

/// All files of a recording are in the bucket as they are here, and nothing else is.
fn is_whole(bench: &Bench, server: &Server, ids: &[SessionId]) {
    let mut expected = Vec::new();
    for id in ids {
        for part in Part::ALL {
            let path = bench.directory(*id).join(part.name());
            if let Ok(here) = std::fs::read(path) {
                let there = std::fs::read(server.object(&key(*id, part))).unwrap();
                assert!(here == there, "{id} {}", part.name());
                expected.push(key(*id, part));
            }
        }
    }
    expected.sort();
    assert_eq!(server.keys(), expected);
    assert_eq!(server.left_over(), [""; 0]);
}

fn forward(bench: &Bench, seconds: i64) {
    bench.clock.advance(SignedDuration::from_secs(seconds));
}

async fn everything_failed(server: &Server) {
    let all = async {
        while server.is_waiting_to_fail() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_closed_goes_and_its_manifest_goes_last() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let live = bench.live(|_| {}).await;
    let ids = [bench.closed(0, |_| {}).await, bench.closed(3, |_| {}).await];
    let shipper = shipper(&bench, &server).await;
    shipper.round().await;

    is_whole(&bench, &server, &ids);
    assert_eq!(shipper.waiting(), []);
    assert!(!shipper.is_acknowledged(live.id()));
    for id in ids {
        assert!(shipper.is_acknowledged(id));
        let puts: Vec<Seen> = server
            .seen()
            .into_iter()
            .filter(|seen| seen.method == Method::PUT && seen.path.contains(&id.to_string()))
            .collect();
        assert!(puts.len() >= 2);
        assert!(puts.last().unwrap().path.ends_with("/manifest.json"));
        for put in puts {
            assert_eq!(put.header("if-none-match"), "*");
            assert_ne!(put.header("x-amz-checksum-sha256"), "");
            let signed = put.header("authorization");
            assert!(
                signed.contains("if-none-match;") && signed.contains("x-amz-checksum-sha256"),
                "{signed}"
            );
        }
    }
    // Neither this daemon nor the next one does it again.
    server.forget_seen();
    shipper.round().await;
    shipper_of(&bench, &bench.bucket(&server), None)
        .await
        .round()
        .await;
    assert_eq!(server.seen().len(), 0);
    // When the session has ended, its recording goes too,
    // packed or not, if nobody packs it.
    live.seal(crate::recording::Ending::Exit(0)).await.unwrap();
    forward(&bench, 3601);
    shipper.round().await;
    assert!(shipper.is_acknowledged(live.id()));
}

#[tokio::test]
async fn what_an_earlier_daemon_sealed_is_given_time_to_be_packed() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let sealed = bench.live(|_| {}).await;
    sealed
        .seal(crate::recording::Ending::Exit(0))
        .await
        .unwrap();
    // A daemon that comes back after a weekend packs it now: in both forms it would be a conflict with itself.
    forward(&bench, 2 * 86_400);
    let shipper = shipper(&bench, &server).await;
    shipper.round().await;
    assert_eq!(server.keys(), [""; 0]);
    forward(&bench, 3600);
    shipper.round().await;
    assert!(shipper.is_acknowledged(sealed.id()));
}

#[tokio::test]
async fn large_files_go_in_parts_with_everything_that_the_server_is_asked_for() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let id = bench.closed(20 * MIB + 1, |_| {}).await;
    let mut settings = bench.settings(&server);
    settings.sse = Some(Sse::Kms(Some("k/1".to_owned())));
    settings.object_lock = Some(ObjectLock {
        mode: LockMode::Compliance,
        retain: Duration::from_secs(86_400),
    });
    let bucket = Arc::new(Bucket::open(&settings, bench.clock()).unwrap());
    let shipper = shipper_of(&bench, &bucket, None).await;
    shipper.round().await;
    is_whole(&bench, &server, &[id]);

    let seen = server.seen();
    let packed = |method: Method, query: &str| {
        let all = seen.iter();
        let these = all
            .filter(|it| it.is(method.clone(), "session.cast.zst") && it.query.starts_with(query));
        these.collect::<Vec<_>>()
    };
    let begun = packed(Method::POST, "uploads");
    assert_eq!(begun.len(), 1);
    assert_eq!(packed(Method::PUT, "partNumber").len(), 3);
    assert_eq!(
        packed(Method::POST, "uploadId")[0].header("if-none-match"),
        "*"
    );
    let put = seen
        .iter()
        .find(|it| it.is(Method::PUT, "manifest.json"))
        .unwrap();
    for created in [begun[0], put] {
        assert_eq!(created.header("x-amz-object-lock-mode"), "COMPLIANCE");
        assert_eq!(
            created.header("x-amz-object-lock-retain-until-date"),
            "2026-11-27T12:00:01Z"
        );
        assert_eq!(created.header("x-amz-server-side-encryption"), "aws:kms");
        assert_eq!(
            created.header("x-amz-server-side-encryption-aws-kms-key-id"),
            "k/1"
        );
    }
    // This server keeps no checksum of what came in parts: it was read back.
    assert_eq!(packed(Method::GET, "").len(), 3);
}

/// A fault, for how many requests, and on which.
type Case = (Fault, usize, &'static str, fn(&Seen) -> bool);

fn case(fault: Fault, times: usize, what: &'static str, wanted: fn(&Seen) -> bool) -> Case {
    (fault, times, what, wanted)
}

fn cases() -> Vec<Case> {
    const PATIENCE: Duration = Duration::from_millis(300);
    vec![
        case(Fault::Status(500), 9, "any", |_| true),
        case(Fault::Status(503), 9, "any", |_| true),
        case(Fault::Status(403), 3, "any", |_| true),
        case(Fault::Slow(PATIENCE), 4, "any", |_| true),
        case(Fault::Hang, 1, "part", |it| {
            it.query.starts_with("partNumber=2")
        }),
        case(Fault::Hang, 1, "manifest", |it| {
            it.is(Method::PUT, "manifest.json")
        }),
        case(Fault::Reset, 4, "part", |it| {
            it.query.starts_with("partNumber=2")
        }),
        case(Fault::Reset, 4, "put", |it| {
            it.is(Method::PUT, "session.cast")
        }),
        case(Fault::DoneBut(500), 1, "put", |it| {
            it.is(Method::PUT, "manifest.json")
        }),
        case(Fault::DoneButReset, 1, "put", |it| {
            it.is(Method::PUT, "session.cast")
        }),
        case(Fault::DoneButReset, 1, "begin", |it| {
            it.query.starts_with("uploads")
        }),
        case(Fault::DoneButReset, 3, "finish", finishes),
        case(Fault::Truncated, 3, "read back", |it| {
            it.method == Method::GET
        }),
        case(Fault::Truncated, 1, "finish", finishes),
        // Nobody goes by them.
        case(Fault::WrongEtag, 2, "put", |it| {
            it.method == Method::PUT && it.query.is_empty()
        }),
        // Such an upload cannot be finished, and another is begun.
        case(Fault::WrongEtag, 1, "part", |it| {
            it.query.starts_with("partNumber=2")
        }),
        case(Fault::Status(400), 1, "finish", finishes),
    ]
}

fn finishes(seen: &Seen) -> bool {
    seen.method == Method::POST && seen.query.starts_with("uploadId")
}

#[tokio::test]
async fn whatever_goes_wrong_it_arrives_in_the_end_whole_and_once() {
    for (fault, times, what, wanted) in cases() {
        let (bench, server) = (Bench::new(), Server::start().await);
        let id = bench.closed(17 * MIB, |_| {}).await;
        let shipper = shipper(&bench, &server).await;
        server.fail(fault, times, wanted);
        let mut rounds = 0;
        while !shipper.is_acknowledged(id) {
            rounds += 1;
            assert!(rounds < 12, "{fault:?} ({what}): {:?}", shipper.waiting());
            shipper.round().await;
            forward(&bench, 300);
        }
        assert!(
            !server.is_waiting_to_fail(),
            "{fault:?} ({what}) never happened"
        );
        // An upload whose beginning nobody was told of has no parts, so it takes no room.
        if what == "begin" {
            let parts = server
                .left_over()
                .into_iter()
                .filter(|it| it.contains(".part-"));
            assert_eq!(parts.count(), 0);
        } else {
            is_whole(&bench, &server, &[id]);
        }
        assert!(bench.directory(id).join("manifest.json").exists());
    }
}

#[tokio::test]
async fn a_server_that_lies_about_what_it_holds_has_acknowledged_nothing() {
    // Of what is put whole, a checksum; of what came in parts, the bytes.
    let cases = [
        case(Fault::WrongBody, 100, "read back", |it| {
            it.method == Method::GET
        }),
        case(Fault::WrongChecksum, 100, "put", |it| {
            it.is(Method::HEAD, "manifest.json")
        }),
    ];
    for (fault, times, _, wanted) in cases {
        let (bench, server) = (Bench::new(), Server::start().await);
        let id = bench.closed(9 * MIB, |_| {}).await;
        let shipper =
            shipper_of(&bench, &bench.bucket(&server), Some(Duration::from_secs(1))).await;
        if fault == Fault::WrongChecksum {
            // The bytes decide where the checksum is another: they, too, are said to be others.
            server.fail(Fault::WrongBody, 100, |it| {
                it.is(Method::GET, "manifest.json")
            });
        }
        server.fail(fault, times, wanted);
        for _ in 0..3 {
            shipper.round().await;
            forward(&bench, 3600);
        }
        assert!(!shipper.is_acknowledged(id), "{fault:?}");
        assert!(bench.directory(id).join("manifest.json").exists());
        let reason = shipper.waiting()[0].reason.clone().unwrap();
        assert!(reason.contains("holds something else"), "{reason}");
        assert_eq!(bench.events("recording.conflict").len(), 1);
    }
}

#[tokio::test]
async fn an_hour_without_the_server_ends_nothing_and_is_said_once() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let mut ids = vec![bench.closed(0, |_| {}).await];
    let shipper = shipper(&bench, &server).await;
    server.set_down(true);
    let mut tries = 0;
    for minute in 0..60 {
        if minute % 20 == 0 {
            ids.push(bench.closed(0, |_| {}).await);
        }
        for _ in 0..6 {
            shipper.round().await;
            forward(&bench, 10);
        }
        let now: u32 = shipper.waiting().iter().map(|it| it.tries).sum();
        assert!(now >= tries);
        tries = now;
    }
    assert_eq!(shipper.waiting().len(), ids.len());
    // Not one after the other, and not all of them each time.
    assert!((15..=60).contains(&tries), "{tries}");
    let behind = bench.events("shipping.");
    assert_eq!(behind.len(), 1, "{behind:?}");
    assert_eq!(behind[0]["event"], "shipping.behind");
    assert!(
        behind[0]["reason"]
            .as_str()
            .unwrap()
            .contains("cannot be used")
    );

    server.set_down(false);
    forward(&bench, 300);
    shipper.round().await;
    is_whole(&bench, &server, &ids);
    let told = bench.events("shipping.");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1]["event"], "shipping.recovered");
    assert_eq!(told[1]["waiting"], 0);
}

#[tokio::test]
async fn an_upload_that_a_daemon_died_in_is_taken_up_by_the_next() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let id = bench.closed(25 * MIB, |_| {}).await;
    let dying = shipper(&bench, &server).await;
    server.fail(Fault::Hang, 1, |it| it.query.starts_with("partNumber=3"));
    let task = tokio::spawn(async move { dying.round().await });
    everything_failed(&server).await;
    task.abort();
    drop(task.await);
    assert!(server.left_over().iter().any(|it| it.contains(".part-1")));

    let next = shipper(&bench, &server).await;
    server.forget_seen();
    next.round().await;
    is_whole(&bench, &server, &[id]);
    let parts: Vec<String> = server
        .seen()
        .into_iter()
        .filter(|it| it.query.starts_with("partNumber"))
        .map(|it| it.query.split('&').next().unwrap().to_owned())
        .collect();
    assert_eq!(parts, ["partNumber=3", "partNumber=4"]);
}

#[tokio::test]
async fn a_round_that_was_cut_short_forgets_nothing() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let id = bench.closed(0, |_| {}).await;
    let shipper = shipper(&bench, &server).await;
    server.fail(Fault::Hang, 1, |it| it.is(Method::PUT, "manifest.json"));
    tokio::select! {
        () = shipper.round() => panic!("it was not cut short"),
        () = everything_failed(&server) => {}
    }
    for _ in 0..2 {
        shipper.round().await;
        forward(&bench, 300);
    }
    assert!(shipper.is_acknowledged(id));
    is_whole(&bench, &server, &[id]);
}

#[tokio::test]
async fn what_is_there_already_is_recognised_and_what_is_other_is_never_overwritten() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let (same, other, third) = (
        bench.closed(0, |_| {}).await,
        bench.closed(9 * MIB, |_| {}).await,
        bench.closed(0, |_| {}).await,
    );
    let put = |id, part, bytes: &[u8]| {
        let path = server.object(&key(id, part));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let cast = std::fs::read(bench.directory(same).join("session.cast")).unwrap();
    put(same, Part::Cast, &cast);
    // As large as ours.
    let mut forged = noise(9 * MIB);
    forged[4 * MIB] ^= 1;
    put(other, Part::CastPacked, &forged);

    let shipper = shipper(&bench, &server).await;
    for _ in 0..3 {
        shipper.round().await;
        forward(&bench, 300);
    }
    assert!(shipper.is_acknowledged(same) && shipper.is_acknowledged(third));
    let waiting = shipper.waiting();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].session, waiting[0].tries), (other, 3));
    assert!(std::fs::read(server.object(&key(other, Part::CastPacked))).unwrap() == forged);
    assert!(!server.keys().contains(&key(other, Part::Manifest)));
    let told = bench.events("recording.conflict");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["session"], other.to_string());
    assert_eq!(server.left_over(), [""; 0]);
}

#[tokio::test]
async fn a_local_copy_goes_when_its_time_is_over_and_the_bucket_still_has_it() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let (kept, lost) = (bench.closed(0, |_| {}).await, bench.closed(0, |_| {}).await);
    let week = Duration::from_secs(7 * 86_400);
    let shipper = shipper_of(&bench, &bench.bucket(&server), Some(week)).await;
    shipper.round().await;
    forward(&bench, 7 * 86_400 - 60);
    shipper.round().await;
    assert!(bench.directory(kept).exists());

    std::fs::remove_file(server.object(&key(lost, Part::Cast))).unwrap();
    forward(&bench, 120);
    server.set_down(true);
    shipper.round().await;
    assert!(
        bench.directory(kept).exists(),
        "nobody can say that it is still there"
    );
    server.set_down(false);
    shipper.round().await;
    assert!(!bench.directory(kept).exists());
    assert!(bench.directory(lost).exists());
    // What was lost is shipped again.
    forward(&bench, 300);
    shipper.round().await;
    assert!(shipper.is_acknowledged(lost));
    assert!(server.keys().contains(&key(lost, Part::Cast)));
}

#[tokio::test]
async fn without_its_page_no_local_copy_goes_unasked() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.closed(0, |_| {}).await);
    }
    let week = Duration::from_secs(7 * 86_400);
    let shipper = shipper_of(&bench, &bench.bucket(&server), Some(week)).await;
    shipper.round().await;
    // Damaged, gone, of another version, of no file, and of the first file alone.
    let page = |id| bench.dir.path().join(format!("shipping/{id}.json"));
    let read = |id| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(page(id)).unwrap()).unwrap()
    };
    std::fs::write(page(ids[0]), "{").unwrap();
    std::fs::remove_file(page(ids[1])).unwrap();
    for (id, edit) in [
        (
            ids[2],
            (|page| page["version"] = 2.into()) as fn(&mut serde_json::Value),
        ),
        (ids[3], |page| page["files"] = serde_json::json!({})),
        (ids[4], |page| {
            page["files"]
                .as_object_mut()
                .unwrap()
                .remove("manifest.json");
        }),
    ] {
        let mut edited = read(id);
        edit(&mut edited);
        std::fs::write(page(id), edited.to_string()).unwrap();
    }
    for id in &ids {
        for part in Part::ALL {
            drop(std::fs::remove_file(server.object(&key(*id, part))));
        }
    }
    forward(&bench, 8 * 86_400);
    shipper.round().await;
    for id in &ids {
        assert!(bench.directory(*id).join("manifest.json").exists());
        assert!(!shipper.is_acknowledged(*id));
    }
    shipper.round().await;
    is_whole(&bench, &server, &ids);
    assert!(ids.iter().all(|id| shipper.is_acknowledged(*id)));
}

#[tokio::test]
async fn no_credential_is_in_what_is_said_of_a_failure() {
    let (bench, server) = (Bench::new(), Server::start().await);
    let id = bench.closed(0, |_| {}).await;
    let settings = bench.settings(&server);
    let path = settings.credentials_file.clone().unwrap();
    let wrong = "a-wrong/secret-that-nobody-shall-see";
    let text = format!("aws_access_key_id = AKIDTEST\naws_secret_access_key = {wrong}\n");
    std::fs::write(&path, text).unwrap();
    let bucket = Arc::new(Bucket::open(&settings, bench.clock()).unwrap());
    let shipper = shipper_of(&bench, &bucket, None).await;
    shipper.round().await;
    let waiting = shipper.waiting();
    assert_eq!(waiting[0].session, id);
    let said = format!("{waiting:?} {bucket:?} {shipper:?}");
    assert!(said.contains("403"), "{said}");
    assert!(!said.contains(wrong), "{said}");
}
