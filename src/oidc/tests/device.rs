//! Codes of a provider's, and what its tokens must be that come of them.

use std::time::Duration;

use ::http::StatusCode;
use serde_json::{Value, json};

use super::super::client::Word;
use super::super::device::DeviceCode;
use super::hostile::{Key, Running, by_secret, discovery, unsigned};
use super::provider::{NONCE, SECRET, providers, told};
use super::*;
use crate::clock;
use crate::config::{IdentityProvider, Role};

fn gives(corp: &Running, change: impl FnOnce(&mut Value)) {
    let issuer = corp.provider.issuer.clone();
    let mut answer = json!({
        "device_code": "the-code-of-it", "user_code": "WDJB-MJHT", "verification_uri": format!("{issuer}/d"),
        "verification_uri_complete": format!("{issuer}/d?user_code=WDJB-MJHT"), "expires_in": 600, "interval": 5,
    });
    change(&mut answer);
    corp.says(|says| says.device = (StatusCode::OK, answer));
}

async fn code(corp: &Running) -> Result<DeviceCode, String> {
    let ends = clock::monotonic() + Duration::from_secs(300);
    let code = providers().device_code(&corp.provider, ends).await;
    code.map_err(|error| told(&error))
}

/// What comes of a code where the provider gives this token.
async fn word(corp: &Running, token: &str) -> Result<Word, String> {
    corp.gives(token);
    let code = code(corp).await.unwrap();
    code.outcome().await.map_err(|error| told(&error))
}

/// What a good token says.
fn claims(corp: &Running) -> Value {
    let mut claims = corp.claims(NONCE);
    claims.as_object_mut().unwrap().remove("nonce");
    claims
}

#[tokio::test]
async fn a_code_is_had_and_what_comes_of_it_is_the_providers_word() {
    let corp = Running::start().await;
    gives(&corp, |_| {});
    let had = code(&corp).await.unwrap();
    // Without the code in it: whoever is sent the whole has nothing to type, and nothing to wonder about.
    assert_eq!(had.address(), format!("{}/d", corp.provider.issuer));
    assert_eq!(had.user_code().expose(), "WDJB-MJHT");
    let word = word(&corp, &corp.key.sign(&claims(&corp))).await.unwrap();
    assert_eq!(
        (word.subject.as_str(), word.username.as_str()),
        ("jane", "jane")
    );
}

#[tokio::test]
async fn a_token_of_the_device_flow_is_held_against_all_but_a_nonce() {
    let corp = Running::start().await;
    gives(&corp, |_| {});
    let good = claims(&corp);
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        claims
    };
    let second = now().as_second();
    for (lie, claims) in [
        ("another's", with("aud", json!("other"))),
        ("of another", with("iss", json!("https://other.example"))),
        ("over", with("exp", json!(second))),
        ("of a time to come", with("iat", json!(second + 61))),
        ("older than its code", with("iat", json!(second - 61))),
        ("an answer to a browser", with("nonce", json!(NONCE))),
        ("about nobody", with("sub", json!(""))),
    ] {
        let answer = word(&corp, &corp.key.sign(&claims)).await;
        assert!(answer.is_err(), "{lie}");
    }
    let none = json!({"alg": "none"});
    for (what, token) in [
        ("another key", Key::new("one").sign(&good)),
        ("no algorithm", format!("{}.", unsigned(&none, &good))),
        ("a shared secret", by_secret(SECRET.as_bytes(), &good)),
        ("no token", "x".to_owned()),
        ("nothing", String::new()),
    ] {
        let answer = word(&corp, &token).await;
        assert!(answer.is_err(), "{what}");
    }
    let no_token = json!({"access_token": "of-no-use", "token_type": "Bearer"});
    corp.says(|says| says.token = (StatusCode::OK, no_token));
    let had = code(&corp).await.unwrap();
    let why = had.outcome().await.map_err(|error| told(&error));
    assert!(why.unwrap_err().contains("there is none"));
    word(&corp, &corp.key.sign(&good)).await.unwrap();
}

#[tokio::test]
async fn what_a_provider_gives_is_fit_to_be_shown_and_to_be_waited_for_or_nothing() {
    let corp = Running::start().await;
    for (what, key, value) in [
        (
            "no https",
            "verification_uri",
            json!("http://idp.example/d"),
        ),
        ("no page", "verification_uri", json!("javascript:alert(1)")),
        ("no address", "verification_uri", json!("d")),
        (
            "a long address",
            "verification_uri",
            json!(format!("https://idp.example/{}", "d".repeat(512))),
        ),
        (
            "a code that is a terminal's",
            "user_code",
            json!("A\u{1b}[31m"),
        ),
        ("a code of two lines", "user_code", json!("A\nB")),
        ("no code", "user_code", json!("")),
        ("a long code", "user_code", json!("A".repeat(65))),
        (
            "a code in other letters",
            "user_code",
            json!("\u{410}\u{411}"),
        ),
        ("a minute and more", "interval", json!(61)),
        ("years", "interval", json!(1_000_000_000)),
        ("for ever", "interval", json!(u64::MAX)),
        ("less than nothing", "interval", json!(-1)),
        ("no time", "expires_in", json!("soon")),
        ("too much", "filler", json!("x".repeat(300 * 1024))),
    ] {
        gives(&corp, |answer| answer[key] = value);
        assert!(code(&corp).await.is_err(), "{what}");
    }
    let refusal = json!({"error": "unauthorized_client", "error_description": "the-code-of-it"});
    corp.says(|says| says.device = (StatusCode::BAD_REQUEST, refusal));
    let why = code(&corp).await.err().unwrap();
    assert!(
        why.contains("gives no code") && why.contains("unauthorized_client"),
        "{why}"
    );
    // What is over at once is over, and what never is is over with the attempt.
    gives(&corp, |answer| answer["expires_in"] = json!(0));
    let late = code(&corp).await.unwrap().outcome().await.unwrap_err();
    assert!(told(&late).contains("in time"), "{late}");
    gives(&corp, |answer| answer["expires_in"] = json!(u64::MAX));
    corp.gives(&corp.key.sign(&claims(&corp)));
    code(&corp).await.unwrap().outcome().await.unwrap();
}

#[tokio::test]
async fn a_provider_without_a_device_flow_is_one_all_the_same() {
    let corp = Running::start().await;
    let endpoint = async |value: Value| {
        let mut published = discovery(&corp.provider.issuer);
        published["device_authorization_endpoint"] = value;
        corp.says(|says| says.discovery = published);
        let found = providers().device_endpoint(&corp.provider).await;
        let had = code(&corp).await;
        assert_eq!(found.is_ok(), had.is_ok());
        found.map_err(|error| told(&error))
    };
    gives(&corp, |_| {});
    let good = json!(format!("{}/device", corp.provider.issuer));
    assert!(endpoint(good).await.is_ok());
    for none in [
        json!(null),
        json!(7),
        json!("device"),
        json!("http://idp.example/device"),
    ] {
        let why = endpoint(none.clone()).await.unwrap_err();
        assert!(
            why.contains("device_authorization_endpoint"),
            "{none}: {why}"
        );
    }
    corp.says(|says| says.asked.clear());
    let gone = IdentityProvider {
        issuer: "https://127.0.0.1:1".to_owned(),
        ..corp.provider.clone()
    };
    let ends = clock::monotonic() + Duration::from_secs(300);
    let why = providers().device_code(&gone, ends).await.err().unwrap();
    assert!(told(&why).contains("cannot be asked"), "{why}");
    assert!(corp.says(|says| says.asked.is_empty()));
}

#[test]
fn a_word_by_the_device_flow_is_for_one_role_of_one_identity_under_the_same_terms_and_for_a_time() {
    let config = configured("groupsClaim: groups, remember: 1m");
    let role = |name: &str, device_flow: Option<&str>| Role {
        name: self::name(name),
        access: crate::config::RoleAccess::Audit(crate::config::AuditRole {
            clusters: crate::config::Pattern::All,
            identities: crate::config::Pattern::All,
        }),
        require: BTreeSet::from([crate::config::Factor::Oidc]),
        device_flow: device_flow.map(self::name),
    };
    let corp = &config.providers[&name("corp")];
    let word = DeviceWord::new(name("editor"), corp, "jane", now());
    assert_eq!(word.until(), later(60));
    let opted_in = role("editor", Some("corp"));
    let jane = name("jane");
    assert!(word.counts(&config, &opted_in, &jane, now()));
    for (what, role, identity, at) in [
        ("another role", role("viewer", Some("corp")), "jane", now()),
        ("not opted in", role("editor", None), "jane", now()),
        (
            "another provider's",
            role("editor", Some("other")),
            "jane",
            now(),
        ),
        ("somebody else", opted_in.clone(), "john", now()),
        ("over", opted_in.clone(), "jane", later(60)),
    ] {
        let counts = word.counts(&config, &role, &name(identity), at);
        assert!(!counts, "{what}");
    }
    for changed in [
        "groupsClaim: roles",
        "groupsClaim: groups, usernameClaim: email",
    ] {
        let changed = configured(changed);
        assert!(!word.counts(&changed, &opted_in, &jane, now()));
    }
    let mut gone = config.clone();
    gone.providers.clear();
    assert!(!word.counts(&gone, &opted_in, &jane, now()));
}
