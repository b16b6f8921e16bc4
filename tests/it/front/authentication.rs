//! Who gets in: a key that the deciding side knows, and nothing else.

use std::time::Duration;

use russh::MethodKind;
use russh::client::{AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PublicKey};

use super::monitor::{GOOD_CODE, Seen, WITH_CODE};
use super::{Bastion, limits, soon};

fn offers(seen: &Seen) -> bool {
    matches!(seen, Seen::Probe(_))
}

fn proofs(seen: &Seen) -> bool {
    matches!(seen, Seen::Authenticate(_))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_in_one_fixed_way() {
    let bastion = Bastion::start(limits()).await;
    let stranger = bastion.path("stranger");
    std::fs::copy(&stranger, bastion.path("id")).unwrap();
    let ran = bastion.run(&[], &["both"]).await;
    assert_eq!((ran.code, ran.text()), (Some(255), ""));
    assert!(
        ran.stderr.contains("Permission denied (publickey)."),
        "{}",
        ran.stderr
    );
    let mut client = bastion.connect().await;
    let answer = client
        .authenticate_publickey("operator-a", bastion.key("stranger"))
        .await
        .unwrap();
    let AuthResult::Failure {
        remaining_methods,
        partial_success,
    } = answer
    else {
        panic!("a stranger got in");
    };
    assert_eq!(remaining_methods, [russh::MethodKind::PublicKey][..].into());
    assert!(!partial_success);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_method_works_even_when_it_is_tried() {
    let bastion = Bastion::start(limits()).await;
    let mut client = bastion.connect().await;
    assert!(
        !client
            .authenticate_none("operator-a")
            .await
            .unwrap()
            .success()
    );
    assert!(
        !client
            .authenticate_password("operator-a", "sesame")
            .await
            .unwrap()
            .success()
    );
    let interactive = client
        .authenticate_keyboard_interactive_start("operator-a", None)
        .await
        .unwrap();
    assert!(
        matches!(
            interactive,
            russh::client::KeyboardInteractiveAuthResponse::Failure { .. }
        ),
        "{interactive:?}"
    );
    // The same connection can still prove itself.
    let answer = client
        .authenticate_publickey("operator-a", bastion.key("id"))
        .await
        .unwrap();
    assert!(answer.success());
    bastion
        .monitor
        .wait_for_many(2, "refused methods", |seen| {
            matches!(seen, Seen::Refused(_))
        })
        .await;
    assert_eq!(
        bastion.monitor.refused(),
        [
            "password authentication",
            "keyboard-interactive authentication"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_goes_to_the_deciding_side_whole_and_its_no_stands() {
    let bastion = Bastion::start(limits()).await;
    // Signed by a key that the bastion knows well: its own host key.
    let signed = tokio::process::Command::new("ssh-keygen")
        .args(["-q", "-s"])
        .arg(bastion.path("host"))
        .args(["-I", "operator-a", "-n", "operator-a"])
        .arg(bastion.path("id.pub"))
        .status()
        .await
        .unwrap();
    assert!(signed.success());
    let certificate = std::fs::read_to_string(bastion.path("id-cert.pub")).unwrap();
    let certificate = russh::keys::Certificate::from_openssh(&certificate).unwrap();
    let whole = certificate.to_bytes().unwrap();
    let mut client = bastion.connect().await;
    let key = super::read_key(&bastion.path("id")).into();
    let answer = client
        .authenticate_openssh_cert("operator-a", key, certificate)
        .await
        .unwrap();
    assert!(!answer.success());
    // Its key is known to the stand-in, and would have been let in without it.
    let asked = |seen: &Seen| match seen {
        Seen::Authenticate(offer) => {
            let text = offer.certificate.as_ref().unwrap();
            let sent = russh::keys::Certificate::from_openssh(text).unwrap();
            offer.principal == "operator-a" && sent.to_bytes().unwrap() == whole
        }
        _ => false,
    };
    bastion.monitor.wait_for("the certificate", asked).await;
    assert_eq!(bastion.monitor.count(proofs), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_bounded() {
    let mut limits = limits();
    limits.max_auth_attempts = 3;
    let bastion = Bastion::start(limits).await;
    let mut client = bastion.connect().await;
    let mut refused = 0;
    // The disconnect shows as an error or as a failure without methods, whichever the client notices first.
    while let Ok(AuthResult::Failure {
        remaining_methods, ..
    }) = soon(client.authenticate_publickey("operator-a", bastion.key("stranger"))).await
    {
        if remaining_methods.is_empty() {
            break;
        }
        refused += 1;
        assert!(refused < 10, "no end to the attempts");
    }
    assert_eq!(
        refused, 4,
        "three, and the `none` that most clients begin with"
    );
    bastion.monitor.wait_for_end().await;
}

/// Asks whether a key would do and never signs.
struct NeverSigns;

#[derive(Debug)]
struct WillNot;

impl From<russh::SendError> for WillNot {
    fn from(_: russh::SendError) -> Self {
        Self
    }
}

impl russh::Signer for NeverSigns {
    type Error = WillNot;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        _: Option<HashAlg>,
        _: Vec<u8>,
    ) -> Result<Vec<u8>, WillNot> {
        Err(WillNot)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_offers_is_bounded_and_proves_nothing() {
    let bastion = Bastion::start(limits()).await;
    let mut client = bastion.connect().await;
    let public: PublicKey = super::read_key(&bastion.path("id")).public_key().clone();
    let mut accepted = 0;
    while soon(client.authenticate_publickey_with(
        "operator-a",
        public.clone(),
        None,
        &mut NeverSigns,
    ))
    .await
    .is_err()
    {
        accepted += 1;
        assert!(accepted < 100, "no end to the offers");
    }
    assert!(accepted <= 20, "{accepted} accepted offers");
    assert!(bastion.monitor.count(offers) <= 20);
    assert_eq!(bastion.monitor.count(proofs), 0, "an offer is no proof");
    let opened =
        tokio::time::timeout(Duration::from_millis(500), client.channel_open_session()).await;
    assert!(!matches!(opened, Ok(Ok(_))), "a session without a proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_login_name_arrives_whole_and_harmless() {
    let bastion = Bastion::start(limits()).await;
    let long = "x".repeat(10_000);
    for name in ["a\x1b[31m\r\n\0b", "", "ä+ö", long.as_str()] {
        let mut client = bastion.connect().await;
        let answer = client
            .authenticate_publickey(name, bastion.key("id"))
            .await
            .unwrap();
        assert!(answer.success(), "the stand-in takes any name");
        let seen = bastion.monitor.seen();
        let Some(Seen::Authenticate(offer)) = seen.iter().rev().find(|seen| proofs(seen)) else {
            panic!("no proof in {seen:#?}");
        };
        assert_eq!(offer.principal, name);
        assert_eq!(offer.algorithm, "ssh-ed25519");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_before_a_proof() {
    let bastion = Bastion::start(limits()).await;
    let client = bastion.connect().await;
    let opened =
        tokio::time::timeout(Duration::from_millis(500), client.channel_open_session()).await;
    assert!(!matches!(opened, Ok(Ok(_))));
    assert_eq!(
        bastion.monitor.count(|seen| matches!(seen, Seen::Open(_))),
        0
    );
}

fn codes(seen: &Seen) -> bool {
    matches!(seen, Seen::Code(_))
}

fn is_prompt(answer: &Option<KeyboardInteractiveAuthResponse>) -> bool {
    matches!(answer, Some(KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. }) if prompts.len() == 1)
}

/// A no; or the end, where there is nothing left to try and the client leaves.
fn is_refusal(answer: &Option<KeyboardInteractiveAuthResponse>) -> bool {
    matches!(
        answer,
        None | Some(KeyboardInteractiveAuthResponse::Failure { .. })
    )
}

type Client = russh::client::Handle<super::AnyHost>;

/// A client whose key has signed for `login`, and what is left to do.
async fn signed(bastion: &Bastion, login: &str) -> Client {
    let mut client = bastion.connect().await;
    let answer = soon(client.authenticate_publickey(login, bastion.key("id"))).await;
    let AuthResult::Failure {
        remaining_methods,
        partial_success,
    } = answer.unwrap()
    else {
        panic!("a key alone is enough");
    };
    assert!(partial_success);
    let methods: Vec<MethodKind> = remaining_methods.iter().copied().collect();
    assert_eq!(methods, [MethodKind::KeyboardInteractive]);
    client
}

async fn begin(client: &mut Client, login: &str) -> Option<KeyboardInteractiveAuthResponse> {
    let asked = client.authenticate_keyboard_interactive_start(login, None);
    soon(asked).await.ok()
}

async fn answer(
    client: &mut Client,
    answers: &[String],
) -> Option<KeyboardInteractiveAuthResponse> {
    let answered = client.authenticate_keyboard_interactive_respond(answers.to_vec());
    soon(answered).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_asked_for_after_a_signature_and_under_its_name_only() {
    let bastion = Bastion::start(limits()).await;
    // Before it, whoever asks and whatever for, there is one answer and nobody else hears of it.
    let mut client = bastion.connect().await;
    for login in [WITH_CODE, "operator-a", "nobody"] {
        let answer = begin(&mut client, login).await;
        let Some(KeyboardInteractiveAuthResponse::Failure {
            partial_success, ..
        }) = answer
        else {
            panic!("{answer:?}");
        };
        assert!(!partial_success);
    }
    // A key that is nobody's leads to no code either.
    let stranger = client.authenticate_publickey(WITH_CODE, bastion.key("stranger"));
    let AuthResult::Failure {
        partial_success, ..
    } = stranger.await.unwrap()
    else {
        panic!("a stranger is let in");
    };
    assert!(!partial_success);
    assert!(is_refusal(&begin(&mut client, WITH_CODE).await));

    // After it, not under another name, nor is there another key then.
    let mut client = signed(&bastion, WITH_CODE).await;
    assert!(is_refusal(&begin(&mut client, "operator-a").await));
    let again = client.authenticate_publickey("operator-a", bastion.key("id"));
    let again = soon(again).await;
    assert!(!again.is_ok_and(|answer| answer.success()));
    assert_eq!(bastion.monitor.count(codes), 0);

    let mut client = signed(&bastion, WITH_CODE).await;
    assert!(is_prompt(&begin(&mut client, WITH_CODE).await));
    let proven = answer(&mut client, &[GOOD_CODE.to_owned()]).await;
    assert!(
        matches!(proven, Some(KeyboardInteractiveAuthResponse::Success)),
        "{proven:?}"
    );
    let good = Seen::Code(GOOD_CODE.to_owned());
    assert_eq!(bastion.monitor.count(|seen| *seen == good), 1);
    client.channel_open_session().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_codes_and_odd_answers_are_bounded() {
    let mut limits = limits();
    limits.max_auth_attempts = 20;
    let bastion = Bastion::start(limits).await;
    let mut client = signed(&bastion, WITH_CODE).await;
    for answers in [
        vec!["1".repeat(10_000)],
        vec!["1".to_owned(); 1_000],
        vec![],
    ] {
        assert!(is_prompt(&begin(&mut client, WITH_CODE).await));
        let refused = answer(&mut client, &answers).await;
        assert!(is_refusal(&refused), "{refused:?}");
    }
    assert!(is_refusal(&begin(&mut client, WITH_CODE).await));
    assert_eq!(bastion.monitor.count(codes), 0, "none of that was a code");

    let mut client = signed(&bastion, WITH_CODE).await;
    let mut tries = 0;
    while is_prompt(&begin(&mut client, WITH_CODE).await) {
        tries += 1;
        assert!(tries < 100, "no end to the tries");
        let refused = answer(&mut client, &["654321".to_owned()]).await;
        assert!(is_refusal(&refused), "{refused:?}");
    }
    assert_eq!((tries, bastion.monitor.count(codes)), (3, 3));

    // Where trying is of no use the client reads why, and that is the end.
    let mut client = signed(&bastion, WITH_CODE).await;
    assert!(is_prompt(&begin(&mut client, WITH_CODE).await));
    let said = answer(&mut client, &["000000".to_owned()]).await;
    let Some(KeyboardInteractiveAuthResponse::InfoRequest {
        instructions,
        prompts,
        ..
    }) = said
    else {
        panic!("{said:?}");
    };
    assert_eq!((instructions.as_str(), prompts.len()), ("wait a while", 0));
    assert!(is_refusal(
        &answer(&mut client, &[GOOD_CODE.to_owned()]).await
    ));
    assert!(is_refusal(&begin(&mut client, WITH_CODE).await));
    assert_eq!(bastion.monitor.count(codes), 4);
}
