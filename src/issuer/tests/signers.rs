//! Keys of RSA, and keys that another process holds.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock as _, SystemClock, monotonic};
use crate::signing::serve::SignerSocket;

const URL: &str = "https://bastion.example.com:8443/b";

fn ann() -> Name {
    Name::new("ann").unwrap()
}

#[test]
fn an_rsa_key_signs_and_takes_over_from_another() {
    let keys = keys();
    let path = keys.path().join("rsa");
    let made = create_key(&path, Algorithm::Rs256).unwrap();
    assert_eq!(made.signature_length(), 384);
    let (before, after) = (
        issuer(keys.path(), &["one", "rsa"]),
        issuer(keys.path(), &["rsa", "one"]),
    );
    let discovery = document(&before, "/b/.well-known/openid-configuration");
    let algorithms = &discovery["id_token_signing_alg_values_supported"];
    assert_eq!(algorithms, &json!(["ES256", "RS256"]));
    let alone = document(
        &issuer(keys.path(), &["rsa"]),
        "/b/.well-known/openid-configuration",
    );
    assert_eq!(
        alone["id_token_signing_alg_values_supported"],
        json!(["RS256"])
    );
    let published = document(&before, "/b/jwks.json");
    assert_eq!(published["keys"][1]["kid"], made.id());
    assert!(!published.to_string().contains("\"d\""), "{published}");
    for issuer in [&before, &after] {
        let signed = sign(issuer, &claims(&ann(), vec!["sre"]), now()).unwrap();
        let said = verified(signed.credential.expose(), &published);
        assert_eq!(said["sub"], "ann");
    }
    assert_eq!(after.key_id(), made.id());
}

#[test]
fn whatever_openssl_writes_is_read_and_a_short_key_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |args: &[&str], name: &str| {
        let path = dir.path().join(name);
        let mut openssl = std::process::Command::new("openssl");
        let made = openssl.args(args).arg("-out").arg(&path).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Issuer::open(&settings(dir.path(), &[name]))
    };
    let rsa = ["genpkey", "-algorithm", "RSA", "-pkeyopt"];
    let sized = |bits| [&rsa[..], &[bits]].concat();
    let opened = openssl(&sized("rsa_keygen_bits:2048"), "pkcs8").unwrap();
    let signed = sign(&opened, &claims(&ann(), vec![]), now()).unwrap();
    verified(
        signed.credential.expose(),
        &document(&opened, "/b/jwks.json"),
    );
    let pkcs8 = dir.path().join("pkcs8");
    let traditional = ["rsa", "-traditional", "-in", pkcs8.to_str().unwrap()];
    assert_eq!(
        openssl(&traditional, "pkcs1").unwrap().key_id(),
        opened.key_id()
    );
    let sec1 = ["ecparam", "-name", "prime256v1", "-genkey", "-noout"];
    assert!(openssl(&sec1, "sec1").is_ok());
    for (args, name) in [
        (sized("rsa_keygen_bits:1024"), "short"),
        (vec!["genpkey", "-algorithm", "ED25519"], "ed25519"),
        (
            vec!["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
            "p384",
        ),
    ] {
        let refused = openssl(&args, name).unwrap_err().to_string();
        assert!(refused.contains("RSA of 2048 bits or more"), "{refused}");
    }
}

/// An issuer whose key `name` is behind a socket that is served, if it is.
fn behind(dir: &Path, name: &str, socket: &str) -> (Arc<Issuer>, Arc<KeyHolder>) {
    let holder = Arc::new(KeyHolder::open(&dir.join(name), URL.to_owned()).unwrap());
    let settings = IssuerSettings {
        signing_keys: vec![IssuerKey::Socket {
            socket: dir.join(socket),
            public_key: holder.public().clone(),
        }],
        ..settings(dir, &[])
    };
    (Arc::new(Issuer::open(&settings).unwrap()), holder)
}

fn served(dir: &Path, holder: Arc<KeyHolder>) -> tokio::task::JoinHandle<()> {
    let sign = move |message: &[u8]| {
        let now = SystemClock.now();
        holder.sign(message, now).map_err(|error| error.to_string())
    };
    let socket = SignerSocket::bind(&dir.join("s"), Arc::new(sign), None).unwrap();
    tokio::spawn(socket.serve())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_holds_the_key_signs_and_without_it_there_is_no_token() {
    for algorithm in [Algorithm::Es256, Algorithm::Rs256] {
        let dir = tempfile::tempdir().unwrap();
        create_key(&dir.path().join("key"), algorithm).unwrap();
        let (issuer, holder) = behind(dir.path(), "key", "s");
        let now = SystemClock.now();
        let name = ann();
        let claims = claims(&name, vec!["sre"]);
        let gone = issuer.sign(&claims, now).await.unwrap_err();
        assert!(matches!(gone, IssuerError::SignerGone { .. }), "{gone}");
        assert!(
            gone.to_string().contains("issuer signer' running"),
            "{gone}"
        );

        assert!(matches!(issuer.look(), Err(IssuerError::SignerGone { .. })));

        let serving = served(dir.path(), holder);
        let there = Arc::clone(&issuer);
        tokio::task::spawn_blocking(move || there.look())
            .await
            .unwrap()
            .unwrap();
        let jwks = document(&issuer, "/b/jwks.json");
        let many = (0..40).map(|_| issuer.sign(&claims, now));
        for signed in futures_util::future::join_all(many).await {
            verified(signed.unwrap().credential.expose(), &jwks);
        }
        // What the daemon would never ask for, its thief does not get either.
        for (seconds, why) in [(-120, "does not begin now"), (86_400, "does not begin now")] {
            let at = now + jiff::SignedDuration::from_secs(seconds);
            let refused = issuer.sign(&claims, at).await.unwrap_err();
            assert!(matches!(refused, IssuerError::SignerRefused { .. }));
            assert!(refused.to_string().contains(why), "{refused}");
        }
        serving.abort();
        drop(serving.await);
    }
}

#[test]
fn a_holder_signs_tokens_of_its_issuer_and_nothing_else() {
    let keys = keys();
    let holder = KeyHolder::open(&keys.path().join("one"), URL.to_owned()).unwrap();
    let begins = now().as_second();
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": holder.public().id()});
    let payload =
        json!({"iss": URL, "aud": "prod", "sub": "ann", "nbf": begins, "exp": begins + 600});
    let asked = |header: &Value, payload: &Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        holder.sign(
            format!("{}.{}", part(header), part(payload)).as_bytes(),
            now(),
        )
    };
    let with = |of: &Value, name: &str, value: Value| {
        let mut changed = of.clone();
        changed[name] = value;
        changed
    };
    assert!(asked(&header, &payload).is_ok());
    for (name, value, why) in [
        ("alg", json!("RS256"), NotSigned::OtherKey),
        ("alg", json!("none"), NotSigned::OtherKey),
        ("kid", json!("x"), NotSigned::OtherKey),
        ("jwk", json!({}), NotSigned::OtherKey),
        ("typ", json!("at+jwt"), NotSigned::OtherKey),
    ] {
        assert_eq!(asked(&with(&header, name, value), &payload), Err(why));
    }
    for (name, value, why) in [
        ("iss", json!("https://other"), NotSigned::OtherIssuer),
        ("iss", Value::Null, NotSigned::NotAToken),
        ("exp", json!(begins + 601), NotSigned::Times),
        ("exp", json!(begins), NotSigned::Times),
        ("exp", json!(i64::MAX), NotSigned::Times),
        ("nbf", json!(begins + 61), NotSigned::Times),
        ("nbf", json!(begins - 61), NotSigned::Times),
        ("nbf", json!(i64::MIN), NotSigned::Times),
        ("nbf", Value::Null, NotSigned::NotAToken),
    ] {
        assert_eq!(asked(&header, &with(&payload, name, value)), Err(why));
    }
    for message in [
        &b"bastion-audit/main\n1\n"[..],
        b"",
        b".",
        b"e30.e30",
        b"\xff.\xff",
        b"SSH-2.0-x",
    ] {
        assert!(holder.sign(message, now()).is_err());
    }
}

/// A socket that answers each connection with these bytes; with none, by silence.
fn hostile(path: &Path, answer: Vec<u8>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            drop(stream.read(&mut [0; 4096]));
            drop(stream.write_all(&answer));
            if answer.is_empty() {
                std::thread::sleep(Duration::from_secs(20));
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lies_or_says_nothing_in_a_signers_place_is_found_out_in_time() {
    let keys = keys();
    let name = ann();
    let (claims, now) = (claims(&name, vec![]), SystemClock.now());
    let other = KeyHolder::open(&keys.path().join("two"), URL.to_owned()).unwrap();
    let of_another = other.sign(b"", now).unwrap_or(vec![7; 64]);
    for (at, answer, why) in [
        ("a", [&[0][..], &of_another].concat(), "no signature of"),
        ("b", vec![0; 65], "no signature of"),
        ("c", vec![9; 65], "no signature of"),
        ("d", vec![0; 10], "does not answer"),
        ("e", [&[1, 0, 3][..], b"\x1b[2"].concat(), "refuses: ?[2"),
        ("f", Vec::new(), "slow or hangs"),
    ] {
        hostile(&keys.path().join(at), answer);
        let (issuer, _) = behind(keys.path(), "one", at);
        let began = monotonic();
        let error = issuer.sign(&claims, now).await.unwrap_err().to_string();
        assert!(error.contains(why), "{at}: {error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{at}");
    }
}
