//! `signing` and `log` of a Bastion: each mistake with its file, line and column, and what to do.

use super::*;
use crate::log::{Webhook, Witness};
use crate::signing::KeySource;
use std::time::Duration;

fn bastion_with(lines: &str) -> String {
    format!(
        "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Bastion\nmetadata: {{name: main}}\nspec:\n  listen: 127.0.0.1:2222\n  hostKeys: [host]\n  stateDir: state\n{lines}"
    )
}

/// The line of the first one of `lines` in [`load_text`]'s file, where the Bastion is the first document.
const FIRST: u32 = 9;

fn problems(lines: &str) -> Vec<(u32, String)> {
    let mut documents = set();
    documents[0] = bastion_with(lines);
    match load_text(&documents) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .iter()
            .map(|problem| {
                let said = problem.to_string();
                assert!(said.starts_with("/etc/b/all.yaml:"), "{said}");
                (problem.place().line(), said)
            })
            .collect(),
    }
}

#[test]
fn each_mistake_in_signing_and_log_is_reported_at_its_line_with_what_to_do() {
    let either =
        "signing needs either 'key: FILE', or 'socket: PATH' and the 'publicKey' that is behind it";
    let place = "a witness needs a place: 'file: PATH', 'syslog: /dev/log'";
    let mut wrong = Vec::new();
    for (lines, line, expected) in [
        ("  signing: {}\n", 0, either),
        ("  signing:\n    previousKey: old\n", 1, either),
        ("  signing: {socket: s}\n", 0, either),
        ("  signing: {key: k, socket: s}\n", 0, either),
        ("  signing:\n    key: 5\n", 1, "put it in quotes"),
        ("  signing:\n    key:\n", 1, "'key' has no value"),
        (
            "  signing:\n    key: k\n    previouskey: old\n",
            2,
            "did you mean 'previousKey'?",
        ),
        (
            "  signing:\n    socket: s\n    publicKey: ssh-ed25519 AAAA\n",
            2,
            "this is no public key: NAME+ID+BASE64, as 'bastion-audit log key' prints it",
        ),
        ("  signing: key\n", 0, "signing"),
        ("  log: {}\n", 0, "log needs the key 'witness'"),
        ("  log:\n    witness: {}\n", 1, place),
        ("  log:\n    witness:\n      every: 1m\n", 2, place),
        (
            "  log:\n    witness:\n      file: heads\n      every: 1ms\n",
            3,
            "is not a duration",
        ),
        (
            "  log:\n    witness:\n      file: heads\n      every: 48h\n",
            3,
            "1s to 24h",
        ),
        (
            "  log:\n    witness:\n      daemonLog: maybe\n",
            2,
            "true or false",
        ),
        (
            "  log:\n    witness:\n      fil: heads\n      syslog: /dev/log\n",
            2,
            "did you mean 'file'?",
        ),
        (
            "  log:\n    witness:\n      webhook: {}\n",
            2,
            "webhook needs the key 'url'",
        ),
        (
            "  log:\n    witness:\n      webhook:\n        url: https://h/\n        token: x\n",
            4,
            "did you mean 'tokenFile'?",
        ),
        (
            "  log:\n    witness:\n      webhook:\n        url: http://heads.example.org/\n",
            3,
            "http:// is for addresses of loopback only, use https://",
        ),
        (
            "  log:\n    witness:\n      webhook:\n        url: http://localhost/\n",
            3,
            "http:// is for addresses of loopback only, use https://",
        ),
        (
            "  log:\n    witness:\n      webhook:\n        url: ftp://h/\n",
            3,
            "write https://HOST/PATH",
        ),
        (
            "  log:\n    witness:\n      webhook:\n        url: heads\n",
            3,
            "write https://HOST/PATH",
        ),
        (
            "  log:\n    witness:\n      webhook:\n        url: https://me:hidden@h/\n",
            3,
            "put a token into a file, and name that in 'tokenFile'",
        ),
        (
            "  sandbox:\n    readOnlyPaths: [tokens]\n  log: {witness: {webhook: {url: 'https://h/', tokenFile: tokens/heads}}}\n",
            1,
            "this would show /etc/b/tokens/heads to operators' commands",
        ),
    ] {
        let found = problems(lines);
        let right = matches!(&found[..], [(at, said)] if *at == FIRST + line && said.contains(expected) && !said.contains("hidden"));
        if !right {
            wrong.push((lines, line, expected, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let found = problems(
        "  signing:\n    kee: k\n  log:\n    witness:\n      every: 0s\n      webhook:\n        url: h\n",
    );
    let lines: Vec<u32> = found.iter().map(|(line, _)| line - FIRST).collect();
    assert!(
        lines.contains(&1) && lines.contains(&4) && lines.contains(&6),
        "{found:#?}"
    );
}

#[test]
fn what_is_written_is_what_is_meant() {
    let mut documents = set();
    documents[0] = bastion_with(
        "  signing: {key: k, previousKey: /old}\n  log:\n    witness:\n      file: heads\n      syslog: /dev/log\n      every: 5m\n      webhook:\n        url: https://h:8443/heads?of=main\n        caFile: ca.pem\n        tokenFile: token\n",
    );
    let bastion = load_text(&documents).unwrap().bastion;
    assert_eq!(
        bastion.signing,
        KeySource::File {
            key: "/etc/b/k".into(),
            previous: Some("/old".into())
        }
    );
    assert_eq!(
        bastion.witness,
        Witness {
            file: Some("/etc/b/heads".into()),
            daemon_log: false,
            syslog: Some("/dev/log".into()),
            webhook: Some(Webhook {
                url: "https://h:8443/heads?of=main".parse().unwrap(),
                ca_file: Some("/etc/b/ca.pem".into()),
                token_file: Some("/etc/b/token".into()),
            }),
            every: Duration::from_secs(300),
        }
    );
    // Loopback may be plain, and a URL may hold what lets somebody in: it is not shown.
    for url in ["http://127.0.0.1:9/secret", "http://[::1]/secret?secret"] {
        documents[0] = bastion_with(&format!(
            "  log: {{witness: {{webhook: {{url: '{url}'}}}}}}\n"
        ));
        let bastion = load_text(&documents).unwrap().bastion;
        assert!(!format!("{bastion:?}").contains("secret"));
    }
}
