//! Signing in with an identity provider beside a stock ssh: who that lets in, and whom it never does.

use std::process::Command;

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::browser::{Browser, Page};
use crate::harness::running::Running;
use crate::harness::signing_on::{Signing, prepared};

const ANY_KEY: &str = "clientId: bastion\n  clientSecretFile: client-secret\n  anyKey: true\n  identities: [{listed: true}, {listed: false}]";
const OWN_KEYS: &str = "clientId: public\n  remember: 1h";

fn oidc(bastion: &Bastion, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bastion-audit"));
    command.arg("oidc").arg(args[0]);
    command.arg("--config").arg(bastion.config_path());
    Ran::from(command.args(&args[1..]).output().unwrap())
}

fn browser(bastion: &Bastion) -> Browser {
    Browser::new(&bastion.path().join("ca.crt"))
}

/// The way that everybody goes: the link, the provider, and back.
fn signed_in(browser: &Browser, signing: &Signing, who: &str) -> Page {
    let page = browser.get(&signing.link());
    assert_eq!(page.status, 200, "{page:?}");
    let provider = browser.get(&page.link("/login/"));
    browser.sign_in(&provider, who)
}

fn refused(bastion: &Bastion, reason: &str) -> Value {
    bastion.event("sign-on.refused", |event| {
        event["reason"].as_str().unwrap().contains(reason)
    })
}

#[test]
fn whoever_a_provider_knows_gets_in_by_a_key_that_was_nobodys() {
    let (mut bastion, mut provider) = prepared(ANY_KEY);
    bastion.log_everything();
    bastion.run();
    // Without somebody who signs in a key that is nobody's is what it was.
    let ran = bastion.run_ssh("nobody-a", "viewer", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");

    let mut signing = Signing::start(&bastion, "nobody-a", "viewer", "bastion whoami");
    let link = signing.link();
    let mine = browser(&bastion);
    let page = mine.get(&link);
    for told in [
        "127.0.0.1",
        &bastion.fingerprint("nobody-a"),
        "a key that is new here",
        "bastion.test:22",
        "Did somebody send you this link?",
    ] {
        assert!(page.text.contains(told), "{told}: {page:?}");
    }
    assert_eq!(page.code(), None);
    let shown = signed_in(&mine, &signing, "jane.sre.dev");
    let code = shown.code().unwrap_or_else(|| panic!("{shown:?}"));
    assert!(shown.text.contains("<b>corp--jane</b>"), "{shown:?}");
    // A callback is good once, and a link no more.
    for url in [&shown.url, &page.link("/login/"), &format!("{link}x")] {
        let again = browser(&bastion).get(url);
        assert_eq!((again.status, again.code()), (410, None), "{again:?}");
        let again = mine.get(url);
        assert_eq!((again.status, again.code()), (410, None), "{again:?}");
    }
    signing.types("BCDF-GHJK");
    assert_eq!(signing.link(), link, "the same link");
    let ran = signing.finish(&shown);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("corp--jane"), "{ran:?}");
    assert!(
        ran.stdout.contains("oidc/corp:dev, oidc/corp:sre"),
        "{ran:?}"
    );
    refused(&bastion, "the code is wrong");
    let accepted = bastion.event("sign-on.accepted", |_| true);
    assert_eq!(accepted["identity"], "corp--jane");
    assert_eq!(accepted["browser"], "127.0.0.1");
    let proven = bastion.event("authentication.ok", |event| {
        event["identity"] == "corp--jane"
    });
    assert_eq!(proven["factors"], serde_json::json!(["oidc"]));

    let metrics = String::from_utf8(bastion.cli(&["metrics"]).stdout).unwrap();
    for line in [
        "sign_ons_accepted_total{flow=\"code\"} 1",
        "sign_ons_accepted_total{flow=\"device\"} 0",
        "sign_ons_refused_total{reason=\"code\"} 1",
        "sign_ons_open 0",
    ] {
        let line = format!("bastion_audit_{line}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }

    // From then on the key is enough, whether the provider is there or not, over a restart.
    provider.stop();
    bastion.stop();
    bastion.run();
    let ran = bastion.run_ssh("nobody-a", "viewer", "kubectl version");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = bastion.run_ssh("nobody-a", "editor", "true");
    assert!(
        ran.stderr.contains("is not a role that you can take"),
        "{ran:?}"
    );
    // Another key is another's, and a provider that is down lets nobody in.
    let down = Signing::start(&bastion, "operator-a", "editor", "true");
    let page = mine.get(&down.link());
    let page = mine.get(&page.link("/login/"));
    assert_eq!((page.status, page.code()), (502, None), "{page:?}");
    assert!(
        page.text.contains("The provider corp cannot be asked")
            || page.text.contains("the provider corp cannot be asked"),
        "{page:?}"
    );
    refused(&bastion, "cannot be asked");
    drop(down);

    // What is removed ends what stood on it.
    let listed = oidc(&bastion, &["list"]);
    assert!(listed.stdout.contains("corp--jane: SHA256:"), "{listed:?}");
    let open = Running::start(&bastion, "nobody-a", "viewer", "sleep 300");
    let mut stays = Running::start(&bastion, "operator-a", "viewer", "cat");
    let removed = oidc(&bastion, &["remove", "corp--jane"]);
    assert!(
        removed.stdout.contains("1 open session ended"),
        "{removed:?}"
    );
    let ended = open.wait();
    assert!(
        ended.stderr.contains("counts no more") || ended.stderr.contains("no longer proves"),
        "{ended:?}"
    );
    stays.close_stdin();
    assert_eq!(stays.wait().code, Some(0));
    let ran = bastion.run_ssh("nobody-a", "viewer", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    let again = oidc(&bastion, &["remove", &bastion.fingerprint("nobody-a")]);
    assert!(again.stderr.contains("has not signed in"), "{again:?}");
    bastion.event("sign-on.removed", |event| event["identity"] == "corp--jane");

    // Whatever is kept or was logged, at the most that is ever logged, has no code, no link, no state and no secret.
    bastion.stop();
    let query = shown.url.split_once('?').unwrap().1;
    let mut hidden = vec![
        code.clone(),
        code.replace('-', ""),
        "s3cret-of-the-client".to_owned(),
        link.rsplit('/').next().unwrap().to_owned(),
    ];
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap();
        if name != "iss" {
            hidden.push(value.to_owned());
        }
    }
    assert!(hidden.len() >= 6, "{query}");
    let mut searched = files(&bastion.state_dir());
    // This program itself.
    searched.retain(|file| !file.ends_with("run/init"));
    searched.push(bastion.path().join("daemon.log"));
    for file in searched {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        for one in &hidden {
            assert!(
                !text.contains(one.as_str()),
                "{one} is in {}",
                file.display()
            );
        }
        assert!(!text.contains("eyJ"), "a token is in {}", file.display());
    }
}

#[test]
fn a_role_that_requires_it_is_had_by_its_own_owner_and_a_link_that_was_passed_on_is_of_no_use() {
    let (mut bastion, _provider) = prepared(OWN_KEYS);
    bastion.run();
    // A key that is nobody's stays so, and so does a role that requires nothing.
    let ran = bastion.run_ssh("nobody-a", "viewer", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert_eq!(
        bastion.run_ssh("operator-a", "viewer", "true").code,
        Some(0)
    );
    let ran = bastion.run_ssh("operator-a", "editor", "true");
    assert_eq!(ran.code, Some(255), "{ran:?}");

    // Somebody else's word.
    let other = Signing::start(&bastion, "operator-a", "editor", "true");
    let page = signed_in(&browser(&bastion), &other, "operator-b.sre");
    assert_eq!((page.status, page.code()), (403, None), "{page:?}");
    refused(&bastion, "the key that ssh came with is operator-a's");
    drop(other);

    // A thief with operator-b's key sends the link to its owner, who falls for it: the page says where ssh is, and only it has the code.
    let mut thief = Signing::start(&bastion, "operator-b", "editor", "echo inside");
    let page = signed_in(&browser(&bastion), &thief, "operator-b");
    assert!(
        page.text.contains(&bastion.fingerprint("operator-b")),
        "{page:?}"
    );
    let code = page.code().unwrap();
    assert!(!thief.prompt().contains(&code));
    // Or sends them to the provider with a link of the thief's browser: what comes back is not of theirs.
    let second = Signing::start(&bastion, "operator-b", "editor", "echo inside");
    let thiefs = browser(&bastion);
    let to = thiefs.get(&second.link()).link("/login/");
    let to = thiefs.knock(&to).location;
    let owners = browser(&bastion);
    let page = owners.sign_in(&owners.get(&to), "operator-b");
    assert_eq!((page.status, page.code()), (410, None), "{page:?}");
    assert!(page.text.contains("another browser"), "{page:?}");
    drop(second);
    for (at, status) in [
        ("callback/corp", 410),
        ("callback/other", 410),
        ("callback", 404),
    ] {
        let made_up = format!("{}/{at}?code=x&state=y", link_host(&thief));
        let page = thiefs.get(&made_up);
        assert_eq!((page.status, page.code()), (status, None), "{page:?}");
    }
    for guess in ["BCDF-GHJK", "CDFG-HJKL", "DFGH-JKLM"] {
        thief.types(guess);
    }
    let ran = thief.wait();
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
    assert!(!ran.stderr.contains(&code), "{ran:?}");

    // Its own owner.
    let signing = Signing::start(&bastion, "operator-a", "editor", "bastion whoami");
    let page = signed_in(&browser(&bastion), &signing, "operator-a");
    let ran = signing.finish(&page);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("with corp, which counts until"),
        "{ran:?}"
    );
    let proven = bastion.event("authentication.ok", |event| event["principal"] == "editor");
    assert_eq!(proven["factors"], serde_json::json!(["key", "oidc"]));
    let open = Running::start(&bastion, "operator-a", "editor", "sleep 300");
    let mut stays = Running::start(&bastion, "operator-a", "viewer", "cat");
    // The provider is told otherwise what people are called: nothing that it has said counts any more.
    let documents = bastion.config();
    bastion.write_config(&documents.replace("preferred_username", "sub"));
    let ended = open.wait();
    assert!(
        ended.stderr.contains("requires that you sign in"),
        "{ended:?}"
    );
    stays.close_stdin();
    assert_eq!(stays.wait().code, Some(0));
}

fn link_host(signing: &Signing) -> String {
    let link = signing.link();
    link.split("/login/").next().unwrap().to_owned()
}

/// Everything below a directory.
fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
