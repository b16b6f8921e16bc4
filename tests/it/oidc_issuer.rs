//! Operators under their own names: an API server that trusts the daemon as an OpenID Connect issuer, as far as our own
//! words say, and gives it no right.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clients::client;
use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::running::Running;
use crate::harness::trusting::{TTL, Trusting, issuer_key, issuer_signer, issuer_word, part};

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs().try_into().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn strings(list: &Value) -> BTreeSet<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn an_operator_is_there_under_their_own_name() {
    let there = Trusting::shared();
    let script = "echo $BASTION_SESSION >&2; kubectl auth whoami -o json";
    let ran = there.bastion.run_ssh("operator-a", "reader+own", script);
    let review: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let user = &review["status"]["userInfo"];
    let session = ran.stderr.trim();
    assert_eq!(user["username"], "ssh:operator-a");
    assert_eq!(user["uid"], "operator-a");
    let expected = BTreeSet::from(["ssh:readers", "system:authenticated"]);
    assert_eq!(strings(&user["groups"]), expected);
    let extra = &user["extra"];
    assert_eq!(extra["bastion-audit.dev/session-id"], json!([session]));
    let issued = there
        .bastion
        .event("lease.issued", |event| event["session"] == session);
    assert_eq!(issued["subject"], "ssh:operator-a");
    let id = format!("JTI={}", issued["jti"].as_str().unwrap());
    assert_eq!(
        extra["authentication.kubernetes.io/credential-id"],
        json!([id])
    );

    // Both records tell of the same person and session.
    let granted = there
        .bastion
        .event("policy.granted", |event| event["session"] == session);
    let subject = json!({"username": "ssh:operator-a", "groups": ["ssh:readers"]});
    assert_eq!(granted["grant"]["subject"], subject);
    assert_eq!(granted["grant"]["ttl"], TTL);
    let audited = there
        .audit_lines()
        .into_iter()
        .find(|event| event["user"]["extra"]["bastion-audit.dev/session-id"] == json!([session]));
    assert_eq!(audited.unwrap()["user"]["username"], "ssh:operator-a");
    let manifest = eventually("the seal", || there.bastion.manifest(session));
    assert_eq!(manifest["session"]["subject"], "ssh:operator-a");
    assert!(
        manifest
            .to_string()
            .contains(issued["jti"].as_str().unwrap())
    );
    let released = there
        .bastion
        .event("lease.released", |event| event["session"] == session);
    // Nobody is told that it was taken back.
    assert_eq!(released["validUntil"], issued["expires"], "{released}");
}

#[test]
fn what_a_role_may_do_is_said_by_rbac_on_its_groups() {
    let there = Trusting::shared();
    let make = "kubectl create configmap made-by-$BASTION_IDENTITY";
    let reader = there.bastion.run_ssh("operator-b", "reader+own", make);
    assert!(reader.stderr.contains("forbidden"), "{reader:?}");
    let user = r#"User "ssh:operator-b" cannot create"#;
    assert!(reader.stderr.contains(user), "{reader:?}");
    let writer = there.bastion.run_ssh("operator-b", "writer", make);
    assert_eq!(writer.code, Some(0), "{writer:?}");
    let list = "kubectl get configmaps -o name";
    let seen = there.bastion.run_ssh("operator-a", "reader+own", list);
    assert!(seen.stdout.contains("made-by-operator-b"), "{seen:?}");
}

#[test]
fn a_session_that_is_ended_is_cut_at_once_though_its_token_lives() {
    let there = Trusting::shared();
    let watch = "exec kubectl get configmaps -w";
    let running = Running::start(&there.bastion, "operator-a", "reader+own", watch);
    let id = running.id.clone();
    eventually("the watch", || {
        let index = there.bastion.requests(&id);
        index.contains(r#""verb":"watch""#).then_some(())
    });
    let began = Instant::now();
    let killed = there.bastion.cli(&["kill", &id]);
    assert!(killed.status.success(), "{killed:?}");
    let ended = running.wait();
    assert_eq!(ended.code, Some(255), "{ended:?}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    // The API server saw the watch end, too: nobody holds it open.
    eventually("the watch's end on the API server's record", || {
        there.audit_lines().into_iter().find(|event| {
            event["verb"] == "watch"
                && event["stage"] == "ResponseComplete"
                && event["user"]["extra"]["bastion-audit.dev/session-id"] == json!([id])
        })
    });
}

#[test]
fn the_daemon_has_no_right_and_asks_nothing_in_its_own_name() {
    let there = Trusting::shared();
    let ran = there
        .bastion
        .run_ssh("operator-a", "reader+own", "kubectl get configmaps");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let kubeconfig = std::fs::read_to_string(there.bastion.path().join("own.kubeconfig")).unwrap();
    assert!(kubeconfig.contains("user: {}"), "{kubeconfig}");
    let ours = there.audit_lines().into_iter().filter(|event| {
        let agent = event["userAgent"].as_str().unwrap_or_default();
        agent.contains("bastion-audit") || agent.contains("identity=")
    });
    let mut count = 0;
    for event in ours {
        count += 1;
        let user = event["user"]["username"].as_str().unwrap_or_default();
        // Of what was refused the API server knows no user.
        let refused = event["responseStatus"]["code"] == 401;
        assert!(user.starts_with("ssh:operator-") || refused, "{event}");
    }
    assert!(count > 0, "the API server's record shows nothing of ours");
    // `check --cluster` reads the documents as an API server does, and finds nothing amiss.
    for expected in [
        "mint: oidcIssuer",
        "the daemon has no credential here, and needs none",
        "openid-configuration can be read, and is of these keys",
        "whoever takes the bastion over is anybody under ssh:* in any of the groups ssh:readers, ssh:writers, by tokens of up to 2m",
    ] {
        // Another test changes keys: for a second the file is ahead of the daemon.
        eventually(expected, || {
            let check = there.bastion.cli(&["check", "--cluster", "own"]);
            said(&check).contains(expected).then_some(())
        });
    }
}

#[test]
fn a_thief_of_everything_stays_within_what_the_cluster_allows() {
    let there = Trusting::shared();
    let claims = |changes: Value| {
        let mut claims = json!({
            "iss": there.issuer, "aud": "own", "sub": "operator-z", "groups": ["readers"],
            "sid": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "jti": "0123456789abcdef0123456789abcdef",
            "iat": now(), "nbf": now(), "exp": now() + TTL,
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    };
    let tries = |changes: Value| there.whoami(&there.forged(&claims(changes)));
    // The stated radius: any name under the prefix, and the groups that bindings can give.
    let user = tries(json!({})).expect("what the daemon itself could sign is taken");
    assert_eq!(user["username"], "ssh:operator-z");
    assert!(tries(json!({"groups": ["readers", "writers"]})).is_some());
    // And the minute that API servers allow for clocks.
    let early = now() + 40;
    assert!(tries(json!({"nbf": early, "exp": early + TTL})).is_some());

    for (what, changes) in [
        (
            "a group of Kubernetes' own",
            json!({"groups": ["system:masters"]}),
        ),
        (
            "a group that no binding gives",
            json!({"groups": ["readers", "admins"]}),
        ),
        (
            "a group in the API server's own words",
            json!({"groups": ["ssh:readers"]}),
        ),
        (
            "a name that is no identity's",
            json!({"sub": "system:admin"}),
        ),
        (
            "a name with something behind it",
            json!({"sub": "operator-a:x"}),
        ),
        ("no name", json!({"sub": ""})),
        ("a longer life", json!({"exp": now() + TTL + 60})),
        (
            "a longer life, begun later",
            json!({"nbf": now() + 86_400, "exp": now() + 86_400 + TTL}),
        ),
        (
            "a longer life, begun in two minutes",
            json!({"nbf": now() + 120, "exp": now() + 120 + TTL}),
        ),
        (
            "a longer life, without its beginning",
            json!({"nbf": null, "exp": now() + 86_400}),
        ),
        (
            "a longer life, issued in the future",
            json!({"iat": now() + 86_400, "exp": now() + 86_400 + TTL}),
        ),
        (
            "what has ended",
            json!({"iat": now() - 600, "nbf": now() - 600, "exp": now() - 600 + TTL}),
        ),
        ("another cluster's audience", json!({"aud": "other"})),
        (
            "the API server's own audience",
            json!({"aud": "https://kubernetes.default.svc.cluster.local"}),
        ),
        (
            "another issuer",
            json!({"iss": "https://kubernetes.default.svc.cluster.local"}),
        ),
        ("no id", json!({"jti": null})),
        ("no session", json!({"sid": ""})),
    ] {
        assert_eq!(tries(changes), None, "{what} was accepted");
    }
    // Nothing at all without the key.
    let token = there.forged(&claims(json!({})));
    let (signed, _) = token.rsplit_once('.').unwrap();
    let of_another = there.credential("operator-a", "reader+own");
    let (_, signature) = of_another.rsplit_once('.').unwrap();
    assert_eq!(there.whoami(&format!("{signed}.{signature}")), None);
}

#[test]
fn a_token_for_one_cluster_is_refused_on_another() {
    let there = Trusting::shared();
    // Both names lead to the same API server, which trusts tokens for `own`.
    let ran = there
        .bastion
        .run_ssh("operator-a", "reader+other", "kubectl get configmaps");
    assert_ne!(ran.code, Some(0), "{ran:?}");
    let refused = ran.stderr.contains("must be logged in") || ran.stderr.contains("Unauthorized");
    assert!(refused, "{ran:?}");
    let own = there.credential("operator-a", "reader+own");
    let other = there.credential("operator-a", "reader+other");
    assert_eq!(part(&own, 1)["aud"], "own");
    assert_eq!(part(&other, 1)["aud"], "other");
    assert!(there.whoami(&own).is_some());
    assert_eq!(there.whoami(&other), None);
}

#[test]
fn explain_over_ssh_asks_in_ones_own_name() {
    let there = Trusting::shared();
    let granted = |login: &str| {
        let ran = there
            .bastion
            .run_ssh("operator-b", login, "bastion explain -n kube-public");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        let (_, granted) = ran.stdout.split_once("what Kubernetes grants").unwrap();
        granted.to_owned()
    };
    assert_eq!(
        granted("reader+own"),
        " on own to ssh:operator-b in ssh:readers:\n  in kube-public:\n    get, list, watch         configmaps\n"
    );
    let writer = granted("writer+own");
    assert!(writer.contains("create, delete"), "{writer}");
    // A credential that the API server refuses is no "nothing".
    let ran = there
        .bastion
        .run_ssh("operator-b", "reader+other", "bastion explain");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr
            .contains("not known: cluster other: its API server answers 401"),
        "{ran:?}"
    );
}

#[test]
fn a_credential_that_was_handed_out_is_not_called_revoked() {
    let there = Trusting::shared();
    let token = there.credential("operator-b", "reader+own");
    let claims = part(&token, 1);
    assert_eq!(claims["sub"], "operator-b");
    let life = claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap();
    assert_eq!(life, TTL);
    let session = claims["sid"].as_str().unwrap();
    let listed = || said(&there.bastion.cli(&["sessions"]));
    assert!(listed().contains(&format!("{session}  operator-b as reader on own, until ")));

    let revoked = there.bastion.cli(&["revoke", session]);
    assert_eq!(revoked.status.code(), Some(1), "{revoked:?}");
    let text = said(&revoked);
    assert!(
        text.contains("NOT revoked: nothing ends before its time"),
        "{text}"
    );
    assert!(there.whoami(&token).is_some(), "it was said to be valid");
    let line = listed()
        .lines()
        .find(|line| line.starts_with(session) && line.contains("until"))
        .unwrap()
        .to_owned();
    assert!(line.ends_with("(nothing ends it sooner)"), "{line}");
    let released = there
        .bastion
        .event("lease.released", |event| event["session"] == session);
    assert!(released["validUntil"].is_string(), "{released}");
}

#[test]
fn a_signed_token_is_masked_like_any_other() {
    let there = Trusting::shared();
    let token = there.credential("operator-b", "reader+own");
    let script = format!("echo $BASTION_SESSION >&2; echo {token}");
    let ran = there.bastion.run_ssh("operator-b", "reader+own", &script);
    assert_eq!(ran.stdout.trim(), token, "the operator sees what is there");
    let session = ran.stderr.trim();
    eventually("the seal", || there.bastion.manifest(session));
    let (_, signature) = token.rsplit_once('.').unwrap();
    let cast = there.bastion.cast(session);
    assert!(cast.contains(&token[..16]), "{cast}");
    let manifest = there.bastion.manifest(session).unwrap().to_string();
    let events: Vec<String> = there
        .bastion
        .events()
        .iter()
        .map(Value::to_string)
        .collect();
    for (what, text) in [
        ("the recording", &cast),
        ("the manifest", &manifest),
        ("the audit log", &events.concat()),
        ("the daemon's log", &there.bastion.log()),
    ] {
        assert!(!text.contains(signature), "{what} holds the token");
    }
}

#[test]
fn a_stock_library_takes_the_documents_and_tokens() {
    let there = Trusting::shared();
    stock_library(there, &there.credential("operator-a", "reader+own"));
}

fn stock_library(there: &Trusting, token: &str) {
    let exported = tempfile::tempdir().unwrap();
    issuer_word(&there.bastion, "export", exported.path().to_str().unwrap());
    let mut python = Command::new(client("python"))
        .args(["-c", include_str!("oidc.py"), &there.issuer])
        .arg(there.bastion.path().join("ca.crt"))
        .arg("own")
        .arg(exported.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(token.as_bytes()).unwrap();
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    let expected = "served: operator-a ['readers']\n\
        exported: operator-a\n\
        audience refused: InvalidAudienceError\n\
        issuer refused: InvalidIssuerError\n";
    assert_eq!(said(&output), expected);
}

#[test]
fn keys_change_under_load_without_a_failed_request() {
    let there = Trusting::shared();
    let bastion = &there.bastion;
    let over = AtomicBool::new(false);
    let mut kids = BTreeSet::new();
    std::thread::scope(|scope| {
        let logins: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = 0;
                    while !over.load(Ordering::SeqCst) {
                        let script =
                            "for n in 1 2 3; do kubectl get configmaps -o name || exit 9; done";
                        let ran = bastion.run_ssh("operator-a", "reader+own", script);
                        assert_eq!(ran.code, Some(0), "{ran:?}");
                        done += 3;
                    }
                    done
                })
            })
            .collect();
        let holder = scope.spawn(|| {
            let mut kids = BTreeSet::new();
            while !over.load(Ordering::SeqCst) {
                let token = there.credential("operator-a", "reader+own");
                assert!(there.whoami(&token).is_some(), "{}", part(&token, 0));
                kids.insert(part(&token, 0)["kid"].to_string());
            }
            kids
        });
        let ending = Ending(&over);
        let [one, two, rsa] = ["one", "two", "rsa"].map(|name| format!("keys/issuer-{name}"));
        let (_signer, behind) = issuer_signer(bastion, "issuer-there", &there.issuer);
        let mut listed = one.clone();
        // All published ahead; then each signs, and the others stay: of the same kind, of RSA, behind a socket; and back again.
        for next in [
            [&one, &two, &rsa, &behind],
            [&two, &one, &rsa, &behind],
            [&rsa, &two, &one, &behind],
            [&behind, &rsa, &two, &one],
            [&one, &two, &rsa, &behind],
        ] {
            let next = next.map(String::as_str).join(", ");
            signed_by(bastion, &listed, &next);
            listed = next;
            let token = there.credential("operator-a", "reader+own");
            if part(&token, 0)["alg"] == "RS256" {
                stock_library(there, &token);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        drop(ending);
        let done: usize = logins.into_iter().map(|login| login.join().unwrap()).sum();
        assert!(done > 10, "{done} requests are no load");
        kids = holder.join().unwrap();
    });
    assert_eq!(kids.len(), 4, "each key signed");
    // They stay published: tokens that they signed are in use still.
}

/// No cluster is asked for a credential: so there is none here.
#[test]
fn a_key_behind_a_socket_that_is_gone_or_hangs_is_no_credential() {
    const URL: &str = "https://bastion.example.com";
    let mut bastion = Bastion::prepare(|documents| documents);
    issuer_key(&bastion, "issuer", "ES256");
    let (mut signer, key) = issuer_signer(&bastion, "issuer", URL);
    let issuer = format!("spec:\n  issuer: {{url: '{URL}', signingKeys: [{key}]}}\n");
    let documents = bastion.config().replacen("spec:\n", &issuer, 1);
    bastion.write_config(&(documents + SIGNED_ONLY));
    bastion.run();
    let ask = || {
        let began = Instant::now();
        let ran = bastion.run_ssh("operator-a", "signs+away", "bastion credential");
        assert!(began.elapsed() < Duration::from_secs(8), "{ran:?}");
        ran
    };
    let given = |ran: &Ran| ran.code == Some(0) && ran.stdout.contains("eyJ");
    let refused = |ran: &Ran, reason: &str| {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        let said = "the bastion cannot sign credentials; tell your administrator";
        assert!(ran.stderr.contains(said), "{ran:?}");
        bastion.event("session.failed", |event| {
            event["reason"].as_str().unwrap().contains(reason)
        });
    };
    let ran = ask();
    assert!(given(&ran), "{ran:?}");

    let pid = rustix::process::Pid::from_child(&signer);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    refused(&ask(), "is slow or hangs");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let ran = ask();
    assert!(given(&ran), "{ran:?}");

    signer.kill().unwrap();
    signer.wait().unwrap();
    refused(&ask(), "is 'bastion-audit issuer signer' running there?");
    // Another one that holds another key is none in its place.
    std::fs::remove_file(bastion.path().join("keys/issuer")).unwrap();
    issuer_key(&bastion, "issuer", "ES256");
    let (mut signer, _) = issuer_signer(&bastion, "issuer", URL);
    refused(&ask(), "refuses: this token is to be signed by another key");
    signer.kill().unwrap();
    signer.wait().unwrap();
}

const SIGNED_ONLY: &str = "---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {name: away}
spec: {kubeconfig: away.kubeconfig, mint: oidcIssuer}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: signs}
spec: {kubernetes: {clusters: [away], groups: [readers]}, sessions: [credential]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: signs}
spec: {subjects: [{identity: operator-a}], roles: [signs]}
";

/// Whoever fails in between must not leave the others running.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn signed_by(bastion: &Bastion, from: &str, to: &str) {
    let documents = bastion.config();
    let changed = documents.replacen(
        &format!("signingKeys: [{from}]"),
        &format!("signingKeys: [{to}]"),
        1,
    );
    assert_ne!(changed, documents);
    let before = bastion.events().len();
    bastion.write_config(&changed);
    eventually("the reload", || {
        let events = bastion.events();
        let refused = events[before..]
            .iter()
            .find(|event| event["event"] == "config.refused");
        assert!(refused.is_none(), "{refused:?}");
        let reloaded = events[before..]
            .iter()
            .find(|event| event["event"] == "config.reloaded");
        reloaded.map(drop)
    });
}
