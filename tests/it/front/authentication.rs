//! Who gets in: a key that the deciding side knows, and nothing else.

use std::time::Duration;

use russh::client::AuthResult;
use russh::keys::agent::AgentIdentity;
use russh::keys::{HashAlg, PublicKey};

use super::monitor::Seen;
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
