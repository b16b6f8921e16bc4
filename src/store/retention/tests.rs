//! What goes, what stays, and what is on record of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::SignedDuration;

use super::*;
use crate::config::Name;
use crate::recording::requests::{Parent, RequestNumber};
use crate::recording::testing::TestNotary;
use crate::recording::{Metadata, Notary as _};
use crate::store::s3::testing::{Fault, Server};
use crate::store::ship::Pace;
use crate::store::testing::State;

const DAY: Duration = Duration::from_secs(86_400);

/// Keeps what it is told, and looks whether the files are still there then.
#[derive(Debug, Default)]
struct Witness {
    told: Mutex<Vec<(Deleted, bool)>>,
    recordings: Mutex<BTreeMap<SessionId, std::path::PathBuf>>,
    fails: AtomicBool,
}

#[async_trait]
impl Evidence for Witness {
    async fn deleted(&self, deleted: &Deleted) -> Result<(), String> {
        if self.fails.load(Ordering::Relaxed) {
            return Err("no space is left".to_owned());
        }
        let there = self.recordings.lock().unwrap()[&deleted.session].exists();
        self.told.lock().unwrap().push((deleted.clone(), there));
        Ok(())
    }

    fn is_ours(&self, note: &str) -> bool {
        TestNotary::new().is_ours(note)
    }
}

struct Bench {
    state: State,
    witness: Arc<Witness>,
    keeper: Keeper,
}

impl Bench {
    fn new() -> Self {
        let state = State::new();
        let local = Arc::new(state.local.clone());
        Self::over(state, local, None)
    }

    fn over(state: State, store: Arc<dyn RecordingStore>, remote: Option<Remote>) -> Self {
        let witness = Arc::new(Witness::default());
        let keeper = Keeper::new(
            state.dir.path(),
            store,
            state.local.clone(),
            remote,
            Arc::clone(&witness) as _,
            state.clock(),
        );
        Self {
            state,
            witness,
            keeper,
        }
    }

    async fn closed(&self, edit: impl FnOnce(&mut Metadata)) -> SessionId {
        let id = self.state.closed(0, edit).await;
        let manifest = self.state.directory(id).join("manifest.json");
        self.witness.recordings.lock().unwrap().insert(id, manifest);
        id
    }

    fn days(&self, days: i64) {
        self.state
            .clock
            .advance(SignedDuration::from_hours(24 * days));
    }

    fn is_here(&self, id: SessionId) -> bool {
        self.state.directory(id).exists()
    }

    fn told(&self) -> Vec<(Deleted, bool)> {
        self.witness.told.lock().unwrap().clone()
    }

    fn unfinished(&self) -> usize {
        std::fs::read_dir(self.state.dir.path().join("deletions"))
            .map_or(0, |entries| entries.count())
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn under(role: &str) -> impl FnOnce(&mut Metadata) + use<> {
    let role = name(role);
    move |metadata| metadata.role = role
}

fn rules(default: Option<u32>, roles: &[(&str, u32)]) -> Retention {
    Retention {
        default: default.map(|days| DAY * days),
        roles: roles
            .iter()
            .map(|(role, days)| (name(role), DAY * *days))
            .collect(),
    }
}

#[tokio::test]
async fn what_is_old_goes_by_its_role_and_is_on_record_before() {
    let bench = Bench::new();
    let short = bench.closed(under("short")).await;
    let long = bench.closed(under("long")).await;
    let open = bench.state.live(under("short")).await;
    let rules = rules(Some(365), &[("short", 30)]);
    bench.days(29);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    bench.days(1);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 1);
    assert!(!bench.is_here(short) && bench.is_here(long));
    let [(deleted, were_there)] = bench.told().try_into().unwrap();
    assert!(were_there);
    assert_eq!(
        (deleted.session, deleted.who.as_str()),
        (short, "retention")
    );
    assert_eq!(deleted.why, "30d after it was closed, for role short");
    assert_eq!(bench.unfinished(), 0);
    bench.days(335);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 1);
    assert!(!bench.is_here(long));
    assert!(
        bench.is_here(open.id()),
        "whatever its age, it is not closed"
    );
}

#[tokio::test]
async fn without_a_rule_nothing_ever_goes() {
    let bench = Bench::new();
    let id = bench.closed(under("viewer")).await;
    bench.days(36_500);
    for rules in [Retention::default(), rules(None, &[("other", 1)])] {
        assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    }
    assert!(bench.is_here(id));
}

/// A recording, and one of a stream of its session's.
async fn with_a_stream(bench: &Bench) -> (SessionId, SessionId) {
    let session = bench.closed(under("viewer")).await;
    let stream = bench.closed(|metadata| {
        metadata.role = name("viewer");
        metadata.parent = Some(Parent {
            session,
            request: RequestNumber::new(1),
        });
    });
    (session, stream.await)
}

#[tokio::test]
async fn what_is_held_stays_with_its_streams_until_it_is_released() {
    let bench = Bench::new();
    let (session, stream) = with_a_stream(&bench).await;
    assert!(
        bench
            .keeper
            .hold(session, "uid 0", "case 12")
            .await
            .unwrap()
    );
    assert!(!bench.keeper.hold(session, "uid 0", "again").await.unwrap());
    bench.days(400);
    let rules = rules(Some(365), &[]);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    for id in [session, stream] {
        let refused = bench.keeper.delete(id, "uid 0", "tidy").await.unwrap_err();
        assert!(
            refused.to_string().contains("by uid 0: case 12"),
            "{refused}"
        );
    }
    // Damage ends no hold.
    let path = bench.state.dir.path().join(format!("holds/{session}.json"));
    let hold = std::fs::read(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    std::fs::write(&path, hold).unwrap();

    assert!(bench.keeper.release(session).await.unwrap());
    assert!(!bench.keeper.release(session).await.unwrap());
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 2);
    let nobody = SessionId::new(bench.state.clock().now());
    assert!(bench.keeper.hold(nobody, "uid 0", "x").await.is_err());
}

/// A manifest with another value under a key.
fn edited(manifest: &[u8], key: &[&str], value: serde_json::Value) -> Vec<u8> {
    let mut manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    let place = key.iter().fold(&mut manifest, |it, key| &mut it[key]);
    *place = value;
    serde_json::to_vec(&manifest).unwrap()
}

#[tokio::test]
async fn what_somebody_else_wrote_into_a_manifest_deletes_nothing() {
    let bench = Bench::new();
    let id = bench.closed(under("prod-admin")).await;
    let other = bench.closed(under("viewer")).await;
    bench.days(31);
    let rules = rules(Some(30), &[("prod-admin", 3650)]);
    let file = |id, name: &str| std::fs::read(bench.state.directory(id).join(name)).unwrap();
    let (manifest, signed) = (file(id, "manifest.json"), file(id, "checkpoints"));
    let role = edited(&manifest, &["session", "role"], "viewer".into());
    let closed = edited(&manifest, &["closed"], "2001-01-01T00:00:00Z".into());
    let of_old = edited(&role, &["version"], 1.into());
    let (foreign, by_foreign) = (file(other, "manifest.json"), file(other, "checkpoints"));
    let forged = String::from_utf8(by_foreign.clone()).unwrap();
    let forged = forged.replace(&other.to_string(), &id.to_string());
    let torn = [signed.as_slice(), b"torn"].concat();
    // Before anybody has read what was there.
    for (harm, manifest, checkpoints) in [
        ("its role", &role, Some(signed.as_slice())),
        ("when it was closed", &closed, Some(signed.as_slice())),
        ("another's manifest", &foreign, Some(signed.as_slice())),
        ("all of another's", &foreign, Some(by_foreign.as_slice())),
        ("what nobody signed", &foreign, Some(forged.as_bytes())),
        (
            "something behind the last",
            &manifest,
            Some(torn.as_slice()),
        ),
        ("none, as of old", &of_old, None),
    ] {
        let directory = bench.state.directory(id);
        std::fs::write(directory.join("manifest.json"), manifest).unwrap();
        match checkpoints {
            Some(bytes) => std::fs::write(directory.join("checkpoints"), bytes).unwrap(),
            None => std::fs::remove_file(directory.join("checkpoints")).unwrap(),
        }
        bench.keeper.pass(&rules).await.unwrap();
        assert!(bench.is_here(id), "{harm}");
        let refused = bench.keeper.delete(id, "uid 0", "tidy").await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("stays as evidence"), "{harm}: {refused}");
    }
    let told: Vec<SessionId> = bench.told().iter().map(|(it, _)| it.session).collect();
    assert_eq!(told, [other]);
    assert_eq!(bench.unfinished(), 0);
    // As the daemon wrote it, it goes by its own rule.
    let directory = bench.state.directory(id);
    std::fs::write(directory.join("manifest.json"), &manifest).unwrap();
    std::fs::write(directory.join("checkpoints"), &signed).unwrap();
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    bench.days(3650);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 1);
}

#[tokio::test]
async fn a_stream_of_what_is_held_stays_whatever_it_is_made_to_say() {
    let bench = Bench::new();
    let (session, stream) = with_a_stream(&bench).await;
    bench.keeper.hold(session, "uid 0", "case").await.unwrap();
    bench.days(400);
    let path = bench.state.directory(stream).join("manifest.json");
    let manifest = std::fs::read(&path).unwrap();
    let alone = edited(&manifest, &["session", "parent"], serde_json::Value::Null);
    std::fs::write(&path, alone).unwrap();
    assert_eq!(bench.keeper.pass(&rules(Some(30), &[])).await.unwrap(), 0);
    bench
        .keeper
        .delete(stream, "uid 0", "tidy")
        .await
        .unwrap_err();
    assert!(bench.is_here(session) && bench.is_here(stream));
    assert_eq!(bench.told(), []);
}

#[tokio::test]
async fn what_cannot_be_put_on_record_is_not_deleted() {
    let bench = Bench::new();
    let id = bench.closed(under("viewer")).await;
    bench.witness.fails.store(true, Ordering::Relaxed);
    let failed = bench.keeper.delete(id, "uid 0", "tidy").await.unwrap_err();
    assert!(
        failed.to_string().contains("nothing was deleted"),
        "{failed}"
    );
    assert!(bench.is_here(id));
    assert_eq!(bench.unfinished(), 0);
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_short_is_finished_and_one_that_had_not_begun_is_judged_anew() {
    let bench = Bench::new();
    let (recorded, decided, held) = (
        bench.closed(under("viewer")).await,
        bench.closed(under("viewer")).await,
        bench.closed(under("viewer")).await,
    );
    std::fs::create_dir(bench.state.dir.path().join("deletions")).unwrap();
    for (id, on_record) in [(recorded, true), (decided, false), (held, false)] {
        let intent = format!(
            r#"{{"at": "2026-11-26T12:00:00Z", "who": "uid 7", "why": "tidy", "recorded": {on_record}}}"#
        );
        let path = bench.state.dir.path().join(format!("deletions/{id}.json"));
        std::fs::write(path, intent).unwrap();
    }
    bench.keeper.hold(held, "uid 0", "case").await.unwrap();
    // A crash in the midst of removing it.
    let gone = bench.state.directory(recorded);
    std::fs::rename(&gone, gone.with_file_name(format!(".gone-{recorded}"))).unwrap();

    bench.keeper.prepare().await.unwrap();
    bench.keeper.finish().await;
    assert!(!bench.is_here(recorded) && !bench.is_here(decided) && bench.is_here(held));
    assert!(!gone.with_file_name(format!(".gone-{recorded}")).exists());
    let told: Vec<SessionId> = bench.told().iter().map(|(it, _)| it.session).collect();
    assert_eq!(
        told,
        [decided],
        "what is on record already is not said again"
    );
    assert_eq!(bench.unfinished(), 0);
}

/// With a bucket, and all that is closed shipped to it.
async fn with_bucket(server: &Server) -> (Bench, Arc<Shipper>) {
    let state = State::new();
    let bucket = state.bucket(server);
    let shipper = Shipper::open(
        state.dir.path(),
        state.local.clone(),
        Arc::clone(&bucket),
        Some(DAY),
        state.clock(),
        state.audit.clone(),
        Pace::default(),
    );
    let shipper = Arc::new(shipper.await.unwrap());
    let store = Arc::new(state.store(&bucket));
    let remote = Remote {
        bucket,
        shipper: Arc::clone(&shipper),
    };
    (Bench::over(state, store, Some(remote)), shipper)
}

#[tokio::test]
async fn what_is_not_shipped_is_not_deleted_and_what_is_goes_in_both_places() {
    let server = Server::start().await;
    let (bench, shipper) = with_bucket(&server).await;
    let id = bench.closed(under("viewer")).await;
    server.set_down(true);
    shipper.round().await;
    bench.days(2);
    server.set_down(false);
    let rules = rules(Some(1), &[]);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    let refused = bench.keeper.delete(id, "uid 0", "tidy").await.unwrap_err();
    assert!(refused.to_string().contains("not shipped yet"), "{refused}");

    shipper.round().await;
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 1);
    assert_eq!(server.keys(), [""; 0]);
    assert!(!bench.is_here(id));
    // One that only the bucket has.
    let id = bench.closed(under("viewer")).await;
    shipper.round().await;
    bench.days(1);
    shipper.round().await;
    assert!(!bench.is_here(id) && !server.keys().is_empty());
    bench
        .witness
        .recordings
        .lock()
        .unwrap()
        .insert(id, server.object(&server.keys()[0]));
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 1);
    assert_eq!(server.keys(), [""; 0]);
    assert!(bench.told().iter().all(|(_, were_there)| *were_there));
}

#[tokio::test]
async fn what_was_changed_in_the_bucket_is_not_deleted_by_it() {
    let server = Server::start().await;
    let (bench, shipper) = with_bucket(&server).await;
    let id = bench.closed(under("prod-admin")).await;
    shipper.round().await;
    bench.days(2);
    shipper.round().await;
    assert!(!bench.is_here(id), "only the bucket has it");
    let keys = server.keys();
    let manifest = keys.iter().find(|key| key.ends_with("manifest.json"));
    let object = server.object(manifest.unwrap());
    let ours = std::fs::read(&object).unwrap();
    let role = edited(&ours, &["session", "role"], "viewer".into());
    std::fs::write(&object, role).unwrap();
    let rules = rules(Some(1), &[("prod-admin", 3)]);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    assert_eq!(server.keys(), keys);
    assert_eq!(bench.told(), []);
    std::fs::write(&object, ours).unwrap();
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 0);
    bench.days(1);
    let recordings = &bench.witness.recordings;
    recordings.lock().unwrap().insert(id, object);
    assert_eq!(bench.keeper.pass(&rules).await.unwrap(), 1);
    assert_eq!(server.keys(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_goes_away_in_the_midst_of_it_gets_nothing_back() {
    let server = Server::start().await;
    let (bench, shipper) = with_bucket(&server).await;
    let id = bench.closed(under("viewer")).await;
    shipper.round().await;
    let keys = server.keys().len();
    server.fail(Fault::Status(500), 3, |it| {
        it.is(http::Method::DELETE, "session.cast")
    });
    bench.keeper.delete(id, "uid 0", "tidy").await.unwrap_err();
    assert!(
        (1..keys).contains(&server.keys().len()),
        "half of it is gone"
    );
    assert_eq!(bench.unfinished(), 1);
    // Neither this daemon nor the next one ships what is left.
    shipper.round().await;
    let half = server.keys();
    let (next, next_shipper) = {
        let Bench { state, .. } = bench;
        let bucket = state.bucket(&server);
        let shipper = Shipper::open(
            state.dir.path(),
            state.local.clone(),
            Arc::clone(&bucket),
            None,
            state.clock(),
            state.audit.clone(),
            Pace::default(),
        );
        let shipper = Arc::new(shipper.await.unwrap());
        let store = Arc::new(state.store(&bucket));
        let remote = Remote {
            bucket,
            shipper: Arc::clone(&shipper),
        };
        (Bench::over(state, store, Some(remote)), shipper)
    };
    next.keeper.prepare().await.unwrap();
    next_shipper.round().await;
    assert_eq!(server.keys(), half);
    next.keeper.finish().await;
    assert_eq!(server.keys(), [""; 0]);
    assert!(!next.is_here(id));
    assert_eq!(next.unfinished(), 0);
    assert_eq!(next.told(), [], "it was on record already");
}
