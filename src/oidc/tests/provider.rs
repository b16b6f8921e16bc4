//! What a provider says counts if it is signed, in its time, and for us and this attempt; whatever else it says does not.

use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use serde_json::{Value, json};

use super::super::client::Word;
use super::hostile::{Key, Running, by_secret, discovery, unsigned};
use super::*;
use crate::clock::ManualClock;
use crate::config::IdentityProvider;
use crate::totp::Hidden;

pub(super) const NONCE: &str = "n-1";
const CALLBACK: &str = "https://b.example/callback/corp";
/// Too much even for a token's text.
pub(super) const SECRET: &str = "a-secret-that-is-shared-with-the-provider";

pub(super) fn providers() -> Providers {
    Providers::new(Arc::new(ManualClock::new(now())))
}

async fn ask(providers: &Providers, provider: &IdentityProvider) -> Result<Word, String> {
    let (code, nonce, verifier) = (
        Hidden::new("the-code-of-it"),
        Hidden::new(NONCE),
        Hidden::new("v".repeat(43)),
    );
    let word = providers.word(provider, CALLBACK, &code, (&nonce, &verifier));
    word.await.map_err(|error| told(&error))
}

/// What is told of an error: nothing that opens anything.
pub(super) fn told(error: &ProviderError) -> String {
    let (shown, debugged) = (error.to_string(), format!("{error:?}"));
    for secret in ["the-code-of-it", SECRET, "of-no-use"] {
        assert!(
            !shown.contains(secret) && !debugged.contains(secret),
            "{debugged}"
        );
    }
    shown
}

#[tokio::test]
async fn a_good_token_is_taken_at_its_word() {
    let corp = Running::start().await;
    corp.gives(&corp.key.sign(&corp.claims(NONCE)));
    let word = ask(&providers(), &corp.provider).await.unwrap();
    assert_eq!(
        (word.subject.as_str(), word.username.as_str()),
        ("jane", "jane")
    );
    let groups: Vec<&str> = word.groups.iter().map(Group::as_str).collect();
    assert_eq!(
        groups,
        ["oidc/corp:sre"],
        "what no binding could name is none"
    );
}

#[tokio::test]
async fn a_token_that_lies_is_not() {
    let corp = Running::start().await;
    let providers = providers();
    let good = corp.claims(NONCE);
    let with = |key: &str, value: Value| {
        let mut claims = good.clone();
        claims[key] = value;
        claims
    };
    let without = |key: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(key);
        claims
    };
    let second = now().as_second();
    let lies: Vec<(&str, Value)> = vec![
        (
            "another issuer",
            with("iss", json!("https://other.example")),
        ),
        ("no issuer", without("iss")),
        ("another audience", with("aud", json!("another"))),
        ("more audiences", with("aud", json!(["b", "another"]))),
        ("no audience", without("aud")),
        ("another nonce", with("nonce", json!("n-2"))),
        ("no nonce", without("nonce")),
        ("expired now", with("exp", json!(second))),
        ("expired", with("exp", json!(second - 60))),
        ("no expiry", without("exp")),
        ("of tomorrow", with("iat", json!(second + 86_400))),
        ("about nobody", without("sub")),
        ("about an empty name", with("sub", json!(""))),
        ("about a long name", with("sub", json!("x".repeat(256)))),
        ("groups that are a number", with("groups", json!(7))),
        ("groups that are numbers", with("groups", json!([7]))),
        (
            "groups without end",
            with("groups", (0..300).map(|n| format!("g{n}")).collect()),
        ),
    ];
    for (lie, claims) in lies {
        corp.gives(&corp.key.sign(&claims));
        let answer = ask(&providers, &corp.provider).await;
        assert!(answer.is_err(), "{lie}");
    }
    let mut tampered = corp.key.sign(&good);
    let last = if tampered.ends_with('A') { "Q" } else { "A" };
    tampered.replace_range(tampered.len() - 1.., last);
    let none = json!({"alg": "none"});
    let mut of_another = corp.key.sign(&good);
    of_another.truncate(of_another.rfind('.').unwrap() + 1);
    for (what, token) in [
        ("another key", Key::new("one").sign(&good)),
        ("an unknown key", Key::new("two").sign(&good)),
        ("tampered with", tampered),
        ("no algorithm", format!("{}.", unsigned(&none, &good))),
        (
            "no algorithm, and a signature",
            format!("{}.AAAA", unsigned(&none, &good)),
        ),
        ("no signature", of_another),
        ("a shared secret", by_secret(SECRET.as_bytes(), &good)),
        (
            "the public key as a secret",
            by_secret(corp.key.public()["x"].as_str().unwrap().as_bytes(), &good),
        ),
        ("no token", "x".to_owned()),
        ("nothing", String::new()),
    ] {
        corp.gives(&token);
        let answer = ask(&providers, &corp.provider).await;
        assert!(answer.is_err(), "{what}");
    }
    corp.gives(&corp.key.sign(&good));
    ask(&providers, &corp.provider).await.unwrap();
}

#[tokio::test]
async fn a_token_by_a_shared_secret_is_none_where_there_is_one() {
    let corp = Running::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    crate::signing::private_file(&file, format!("{SECRET}\n").as_bytes()).unwrap();
    let provider = IdentityProvider {
        client_secret: Some(file),
        ..corp.provider.clone()
    };
    corp.gives(&by_secret(SECRET.as_bytes(), &corp.claims(NONCE)));
    let why = ask(&providers(), &provider).await.unwrap_err();
    assert!(
        why.contains("algorithm") || why.contains("Signature"),
        "{why}"
    );
    corp.gives(&corp.key.sign(&corp.claims(NONCE)));
    ask(&providers(), &provider).await.unwrap();
}

#[tokio::test]
async fn an_email_counts_where_the_provider_has_verified_it() {
    let corp = Running::start().await;
    let provider = IdentityProvider {
        username_claim: "email".to_owned(),
        ..corp.provider.clone()
    };
    let mut claims = corp.claims(NONCE);
    claims["email"] = json!("jane@example.com");
    for (verified, good) in [
        (json!(null), false),
        (json!(false), false),
        (json!(true), true),
    ] {
        claims["email_verified"] = verified;
        corp.gives(&corp.key.sign(&claims));
        let word = ask(&providers(), &provider).await;
        assert_eq!(word.is_ok(), good, "{word:?}");
    }
}

#[tokio::test]
async fn a_key_that_was_made_since_is_looked_for_but_not_at_every_token() {
    let corp = Running::start().await;
    let providers = providers();
    corp.gives(&corp.key.sign(&corp.claims(NONCE)));
    ask(&providers, &corp.provider).await.unwrap();
    let new = Key::new("new");
    corp.says(|says| says.keys = json!({"keys": [new.public()]}));
    corp.gives(&new.sign(&corp.claims(NONCE)));
    assert!(ask(&providers, &corp.provider).await.is_err(), "too soon");
    let looks = || corp.says(|says| says.asked.iter().filter(|path| *path == "/jwks").count());
    assert_eq!(looks(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    ask(&providers, &corp.provider).await.unwrap();
    assert_eq!(looks(), 2);
}

#[tokio::test]
async fn whoever_does_not_answer_as_a_provider_does_is_not_one() {
    let corp = Running::start().await;
    let issuer = corp.provider.issuer.clone();
    let lets = |change: &dyn Fn(&mut Value)| {
        let mut published = discovery(&issuer);
        change(&mut published);
        corp.says(|says| says.discovery = published);
    };
    let refused = async |what: &str| {
        let sending = super::super::attempts::Sending {
            state: Hidden::new("s"),
            nonce: Hidden::new(NONCE),
            verifier: Hidden::new("v".repeat(43)),
            browser: Hidden::new("b"),
        };
        let providers = providers();
        corp.gives(&corp.key.sign(&corp.claims(NONCE)));
        let sent = providers
            .authorization_url(&corp.provider, CALLBACK, &sending)
            .await;
        let word = ask(&providers, &corp.provider).await;
        assert!(sent.is_err() || word.is_err(), "{what}");
    };
    lets(&|published| published["issuer"] = json!("https://other.example"));
    refused("another issuer").await;
    let plain = issuer.replace("https", "http");
    for endpoint in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
        let path = format!("{plain}/{endpoint}");
        lets(&|published| published[endpoint] = json!(path));
        refused(endpoint).await;
    }
    lets(&|published| published["filler"] = json!("x".repeat(300 * 1024)));
    refused("too long").await;
    lets(&|published| *published = json!([]));
    refused("nothing").await;
    lets(&|_| {});
    corp.says(|says| says.elsewhere = Some(format!("{issuer}/jwks")));
    refused("a redirect").await;
    let asked = corp.says(|says| {
        says.elsewhere = None;
        std::mem::take(&mut says.asked)
    });
    assert!(!asked.is_empty());

    let refusal =
        json!({"error": "invalid_grant", "error_description": "the-code-of-it is \u{1b}[31m"});
    corp.says(|says| says.token = (StatusCode::BAD_REQUEST, refusal));
    let why = ask(&providers(), &corp.provider).await.unwrap_err();
    assert!(why.contains("invalid_grant"), "{why}");

    let mut other_ca = corp.provider.clone();
    other_ca.certificate_authority = None;
    let why = ask(&providers(), &other_ca).await.unwrap_err();
    assert!(why.contains("cannot be asked"), "{why}");
    let gone = IdentityProvider {
        issuer: "https://127.0.0.1:1".to_owned(),
        ..corp.provider.clone()
    };
    let why = ask(&providers(), &gone).await.unwrap_err();
    assert!(why.contains("cannot be asked"), "{why}");
}

#[tokio::test]
async fn a_browser_is_sent_with_a_challenge_and_nothing_that_it_must_not_know() {
    let corp = Running::start().await;
    let sending = super::super::attempts::Sending {
        state: Hidden::new("the-state"),
        nonce: Hidden::new("the-nonce"),
        verifier: Hidden::new("w".repeat(43)),
        browser: Hidden::new("the-browser"),
    };
    let to = providers()
        .authorization_url(&corp.provider, CALLBACK, &sending)
        .await
        .unwrap();
    for part in [
        "response_type=code",
        "client_id=b",
        "state=the-state",
        "nonce=the-nonce",
        "code_challenge_method=S256",
        "scope=openid",
        "redirect_uri=https%3A%2F%2Fb.example%2Fcallback%2Fcorp",
    ] {
        assert!(to.contains(part), "{part}: {to}");
    }
    assert!(
        to.starts_with(&format!("{}/authorize?", corp.provider.issuer)),
        "{to}"
    );
    assert!(!to.contains("wwww") && !to.contains("the-browser"), "{to}");
}
