//! Signing in by a code that is typed at the provider: for roles that opt in, one login each, and never kept.

use std::process::Command;

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::browser::{Browser, Page};
use crate::harness::running::Running;
use crate::harness::signing_on::{Provider, Signing, opted_in, prepared};

const OWN_KEYS: &str = "clientId: public\n  remember: 1h";
const ANY_KEY: &str = "clientId: bastion\n  clientSecretFile: client-secret\n  anyKey: true\n  identities: [{listed: true}, {listed: false}]";

fn browser(bastion: &Bastion) -> Browser {
    Browser::new(&bastion.path().join("ca.crt"))
}

/// What the provider was asked for besides pages: the path, and when in milliseconds.
fn asked(bastion: &Bastion, provider: &Provider) -> Vec<(String, u64)> {
    let page = browser(bastion).get(&format!("{}/asked", provider.issuer));
    let asked: Vec<Value> = serde_json::from_str(page.text.trim()).unwrap();
    let one = |it: &Value| {
        let path = it["path"].as_str().unwrap().to_owned();
        (path, it["at"].as_u64().unwrap())
    };
    asked.iter().map(one).collect()
}

/// Types the code that this ssh shows, and signs in.
fn signs_in(bastion: &Bastion, signing: &Signing, who: &str) -> Page {
    let (code, at) = signing.code();
    let browser = browser(bastion);
    let page = browser.type_code(&at, &code, "confirm");
    browser.sign_in(&page, who)
}

fn refused(bastion: &Bastion, reason: &str) -> Value {
    bastion.event("sign-on.refused", |event| {
        event["reason"].as_str().unwrap().contains(reason)
    })
}

fn cli(bastion: &Bastion, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bastion-audit"));
    command
        .args(args)
        .arg("--config")
        .arg(bastion.config_path());
    Ran::from(command.output().unwrap())
}

#[test]
fn who_types_a_code_at_the_provider_is_let_in_once_and_nothing_of_it_is_kept() {
    let (mut bastion, provider) = opted_in(OWN_KEYS);
    bastion.log_everything();
    bastion.run();
    let mut signing = Signing::start(&bastion, "operator-a", "editor", "bastion whoami");
    let link = signing.link();
    assert_eq!(
        asked(&bastion, &provider),
        [],
        "before anybody wants a code"
    );
    let (code, at) = signing.wants_code();
    assert_eq!(at, format!("{}/device", provider.issuer));
    let begun = bastion.event("sign-on.begun", |event| event["flow"] == "device");
    assert_eq!(begun["identity"], "operator-a");
    // The link is of no use any more.
    let mine = browser(&bastion);
    let page = mine.get(&format!("{link}/corp"));
    assert_eq!((page.status, page.code()), (410, None), "{page:?}");
    // Enter before anybody has signed in is no harm.
    signing.types("");
    eventually("a question about the code", || {
        let asked = asked(&bastion, &provider);
        asked.iter().any(|(path, _)| path == "/token").then_some(())
    });
    let browser = browser(&bastion);
    let page = browser.type_code(&at, &code, "confirm");
    let page = browser.sign_in(&page, "operator-a.sre");
    assert!(page.text.contains("Sign-in Success"), "{page:?}");
    let ran = signing.wait();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains(
            "with corp by the device flow, for the role editor and this connection alone"
        ),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("oidc/corp"), "no groups: {ran:?}");
    assert!(
        ran.stderr.contains("It counts for this login alone"),
        "{ran:?}"
    );
    let accepted = bastion.event("sign-on.accepted", |event| event["flow"] == "device");
    assert_eq!(accepted["identity"], "operator-a");
    assert_eq!(
        (&accepted["browser"], &accepted["groups"]),
        (&Value::Null, &serde_json::json!([]))
    );
    let proven = bastion.event("authentication.ok", |event| event["deviceFlow"] == "corp");
    assert_eq!(proven["factors"], serde_json::json!(["key"]));

    let counted = |line: &str| {
        eventually(line, || {
            let metrics = String::from_utf8(bastion.cli(&["metrics"]).stdout).unwrap();
            let line = format!("bastion_audit_{line}\n");
            metrics.contains(&line).then_some(())
        });
    };
    counted("sign_ons_accepted_total{flow=\"device\"} 1");
    counted("sign_ons_open 0");

    // The key is bound to nothing: the next login is asked again, by any name.
    let listed = cli(&bastion, &["oidc", "list"]);
    assert!(listed.stdout.contains("nobody has signed in"), "{listed:?}");
    let ran = bastion.run_ssh("operator-a", "editor", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let mut again = Signing::start(&bastion, "operator-a", "editor", "sleep 300");
    let (another, _) = again.wants_code();
    assert_ne!(another, code);
    counted("sign_ons_open 1");
    counted("sign_ons_begun_total{flow=\"device\"} 2");
    signs_in(&bastion, &again, "operator-a");
    again.types("");
    // What it opens says so, and ends when the role opts out.
    let granted = bastion.event("policy.granted", |event| {
        event["grant"]["deviceFlow"] == "corp"
    });
    assert_eq!(granted["grant"]["factors"], serde_json::json!(["key"]));
    let mut stays = Running::start(&bastion, "operator-a", "viewer", "cat");
    let documents = bastion.config();
    bastion.write_config(&documents.replace("  deviceFlow: corp\n", ""));
    let ended = again.wait();
    assert!(
        ended.stderr.contains("requires that you sign in"),
        "{ended:?}"
    );
    stays.close_stdin();
    assert_eq!(stays.wait().code, Some(0));

    bastion.stop();
    let audit = std::fs::read_to_string(bastion.state_dir().join("audit.jsonl")).unwrap();
    for text in [bastion.log(), audit] {
        for hidden in [code.as_str(), another.as_str(), "eyJ"] {
            assert!(!text.contains(hidden), "{hidden} is on record");
        }
    }
}

#[test]
fn a_role_that_has_not_opted_in_and_a_key_that_is_nobodys_are_never_offered_it() {
    let (mut bastion, provider) = prepared(OWN_KEYS);
    bastion.run();
    let mut plain = Signing::start(&bastion, "operator-a", "editor", "true");
    let (link, prompt) = (plain.link(), plain.prompt());
    assert!(!prompt.contains("Enter alone"), "{prompt}");
    plain.types("");
    assert_eq!(plain.link(), link, "asked for the link's code again");
    drop(plain);
    assert_eq!(asked(&bastion, &provider), []);
    drop(bastion);

    let (mut bastion, provider) = opted_in(ANY_KEY);
    bastion.run();
    let mut stranger = Signing::start(&bastion, "nobody-a", "editor", "true");
    let prompt = stranger.prompt();
    assert!(
        prompt.contains("/login/") && !prompt.contains("Enter alone"),
        "{prompt}"
    );
    stranger.types("");
    assert!(stranger.prompt().contains("/login/"));
    drop(stranger);
    assert_eq!(asked(&bastion, &provider), []);
    // By the client with a secret, too.
    let mut own = Signing::start(&bastion, "operator-a", "editor", "echo inside");
    own.wants_code();
    signs_in(&bastion, &own, "operator-a");
    own.types("");
    let ran = own.wait();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "inside\n"),
        "{ran:?}"
    );
}

#[test]
fn who_declines_or_is_somebody_else_or_comes_too_late_lets_nobody_in() {
    let (mut bastion, mut provider) = opted_in(OWN_KEYS);
    bastion.run();
    let told = |mut signing: Signing, sentence: &str| {
        signing.types("");
        let ran = signing.wait();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
        assert!(ran.stderr.contains(sentence), "{sentence}: {ran:?}");
        assert_eq!(refused(&bastion, sentence)["provider"], "corp");
    };
    let begin = || {
        let mut signing = Signing::start(&bastion, "operator-a", "editor", "echo inside");
        let (code, at) = signing.wants_code();
        (signing, code, at)
    };
    let (declined, code, at) = begin();
    browser(&bastion).type_code(&at, &code, "abort");
    told(declined, "corp says that it was declined");
    let (other, ..) = begin();
    signs_in(&bastion, &other, "operator-b");
    told(other, "the key that ssh came with is operator-a's");
    // Down while somebody waits, and before.
    let (waits, ..) = begin();
    provider.stop();
    told(waits, "the provider corp cannot be asked");
    let before = Signing::start(&bastion, "operator-a", "editor", "echo inside");
    assert!(before.prompt().contains("Enter alone"));
    told(before, "the provider corp cannot be asked");
    let left = bastion.events();
    assert!(
        left.iter()
            .all(|event| event["event"] != "sign-on.accepted")
    );
    // And counted for what it was.
    let metrics = String::from_utf8(bastion.cli(&["metrics"]).stdout).unwrap();
    for line in [
        "sign_ons_begun_total{flow=\"code\"} 4",
        "sign_ons_begun_total{flow=\"device\"} 3",
        "sign_ons_accepted_total{flow=\"device\"} 0",
        "sign_ons_refused_total{reason=\"declined\"} 1",
        "sign_ons_refused_total{reason=\"identity\"} 1",
        "sign_ons_refused_total{reason=\"unreachable\"} 2",
        "sign_ons_refused_total{reason=\"unfinished\"} 0",
    ] {
        let line = format!("bastion_audit_{line}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    drop(bastion);

    for (client, sentence) in [
        (
            "hasty",
            "nobody has signed in with corp by that code in time",
        ),
        (
            "browsers",
            "the provider corp gives no code to sign in by: invalid_request",
        ),
    ] {
        let (mut bastion, _provider) = opted_in(&OWN_KEYS.replace("public", client));
        bastion.run();
        let mut signing = Signing::start(&bastion, "operator-a", "editor", "echo inside");
        assert!(signing.prompt().contains("Enter alone"));
        signing.types("");
        if client == "hasty" {
            signing.code();
            signing.types("");
        }
        let ran = signing.wait();
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
        assert!(ran.stderr.contains(sentence), "{ran:?}");
        refused(&bastion, sentence);
    }
}

#[test]
fn a_provider_that_says_slow_down_is_asked_more_seldom() {
    let (mut bastion, provider) = opted_in(&OWN_KEYS.replace("public", "busy"));
    bastion.run();
    let mut signing = Signing::start(&bastion, "operator-a", "editor", "echo inside");
    let (code, at) = signing.wants_code();
    signing.types("");
    let tokens = || {
        let asked = asked(&bastion, &provider);
        let tokens = asked.into_iter().filter(|(path, _)| path == "/token");
        tokens.map(|(_, at)| at).collect::<Vec<u64>>()
    };
    eventually("a first question", || (tokens().len() == 1).then_some(()));
    let browser = browser(&bastion);
    let page = browser.type_code(&at, &code, "confirm");
    browser.sign_in(&page, "operator-a");
    let ran = signing.wait();
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "inside\n"),
        "{ran:?}"
    );
    let tokens = tokens();
    assert_eq!(tokens.len(), 2, "{tokens:?}");
    assert!(
        tokens[1] - tokens[0] >= 9_900,
        "not after five seconds: {tokens:?}"
    );
}

#[test]
fn an_administrator_is_told_what_is_weaker_and_whether_the_provider_takes_part() {
    let (bastion, mut provider) = opted_in(OWN_KEYS);
    let weaker = "weaker: for one connection, oidc is proven by the device flow of corp too";
    let explained = cli(&bastion, &["explain", "operator-a", "editor"]);
    assert!(explained.stdout.contains(weaker), "{explained:?}");
    let explained = cli(&bastion, &["explain", "operator-a", "viewer"]);
    let (of_them, of_this) = explained.stdout.split_once("login as").unwrap();
    assert!(
        of_them.contains(weaker) && !of_this.contains(weaker),
        "{explained:?}"
    );
    let checked = cli(&bastion, &["check"]);
    let note = format!("note: the role editor is {weaker}");
    assert!(checked.stdout.contains(&note), "{checked:?}");
    let found = format!(
        "ok    device flow of editor: {}/device/auth",
        provider.issuer
    );
    assert!(checked.stdout.contains(&found), "{checked:?}");
    provider.stop();
    let checked = cli(&bastion, &["check"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(
        checked
            .stdout
            .contains("FAIL  device flow of editor: the provider corp cannot be asked"),
        "{checked:?}"
    );
    let offline = cli(&bastion, &["check", "--offline"]);
    assert_eq!(offline.code, Some(0), "{offline:?}");
    assert!(offline.stdout.contains(&note), "{offline:?}");
}
