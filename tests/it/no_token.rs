//! No token where it does not belong: not in a log, a recording, an argument, an environment, a file, a sandbox.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::api::Behind;
use crate::harness::bastion::eventually;
use crate::harness::cluster::{ControlPlane, write_private};
use crate::harness::processes;
use crate::harness::running::{Running, processes_of};
use crate::harness::terminal::Terminal;

/// What a leak of a token can look like.
struct Traces {
    whose: &'static str,
    patterns: Vec<String>,
}

impl Traces {
    fn of(whose: &'static str, token: &str) -> Self {
        let token = token.trim();
        assert!(token.starts_with("eyJ") && token.len() > 100, "{whose}");
        // Its signature: header and payload begin alike in all tokens of one cluster. A log of bytes shows numbers.
        let signature = &token[token.len() - 40..];
        let numbers = |format: &dyn Fn(&u8) -> String, separator: &str| {
            let bytes = signature.as_bytes()[..12].iter().map(format);
            bytes.collect::<Vec<_>>().join(separator)
        };
        let mut patterns = vec![
            signature.to_owned(),
            numbers(&|byte| format!("{byte}"), ", "),
            numbers(&|byte| format!("{byte:02x}"), ""),
            numbers(&|byte| format!("{byte:02x}"), " "),
        ];
        // In base64 it looks different for each place that it can begin at.
        for skip in 0..3 {
            let encoded = STANDARD.encode(&signature[skip..skip + 36]);
            patterns.push(encoded[..44].to_owned());
        }
        Self { whose, patterns }
    }

    fn are_absent_from(&self, place: &str, text: &[u8]) {
        for pattern in &self.patterns {
            assert!(
                !contains(text, pattern.as_bytes()),
                "the token of {} is in {place}, as {pattern}",
                self.whose
            );
        }
    }
}

fn contains(text: &[u8], pattern: &[u8]) -> bool {
    let first = pattern[0];
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(pattern) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Every file below a directory, with what it holds.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(self::files(&entry.path()));
        } else if kind.is_file() {
            // It may have gone since.
            if let Ok(content) = std::fs::read(entry.path()) {
                files.push((entry.path(), content));
            }
        }
    }
    files
}

#[test]
fn no_token_is_found_where_it_does_not_belong() {
    let wrong = format!("eyJhbGciOiJSUzI1NiJ9.{}", "Wr0ng-T0ken-".repeat(20));
    // What it mints is known to it and to the API server that it minted it by.
    let mut behind = Behind::prepare(|documents| {
        let prod =
            "metadata: {name: prod, labels: {env: prod}}\nspec: {kubeconfig: test.kubeconfig}";
        let broken = prod
            .replace("prod", "broken")
            .replace("test.kube", "broken.kube");
        documents
            .replace(
                prod,
                &format!(
                    "{prod}\n---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Cluster\n{broken}"
                ),
            )
            .replace("clusters: [prod]", "clusters: [prod, broken]")
            // Each test's own: its Secrets are looked at.
            .replace("metadata: {name: test}", "metadata: {name: notoken}")
    });
    let tokens = behind.tokens.clone();
    let bastion = &mut behind.bastion;
    let own = std::fs::read_to_string(bastion.path().join("test.kubeconfig")).unwrap();
    let (_, own_token) = own.split_once("token: \"").unwrap();
    let own_token = own_token.split('"').next().unwrap().to_owned();
    write_private(
        &bastion.path().join("broken.kubeconfig"),
        &own.replace(
            &format!("token: \"{own_token}\""),
            "tokenFile: broken.token",
        ),
    );
    write_private(&bastion.path().join("broken.token"), &wrong);
    bastion.log_everything();
    bastion.run();

    let mut all = vec![
        Traces::of("the daemon", &own_token),
        Traces::of("the broken cluster", &wrong),
    ];
    let viewer = "viewer+prod";
    let mut ssh = bastion.ssh("operator-a", viewer);
    ssh.arg("-tt");
    let mut shell = Terminal::start(ssh, 100, 30);
    shell.expect("~$ ");
    shell.send("echo in $BASTION_SESSION; kubectl get ns -v=8\r");
    shell.expect("in 0");
    let shell_id = format!("0{}", shell.expect("\r\n"));
    shell.expect("kube-system");
    let watch = "kubectl auth whoami; kubectl get ns -w -o name";
    let exec = Running::start(bastion, "operator-a", viewer, watch);
    let issued = tokens.issued();
    assert_eq!(issued.len(), 2);
    for (whose, token) in ["a shell", "an exec"].into_iter().zip(&issued) {
        all.push(Traces::of(whose, token));
    }
    eventually("a watch", || {
        let of_exec = processes_of(&exec.id);
        of_exec
            .iter()
            .any(|one| one.contains("get ns -w"))
            .then_some(())
    });
    let credential = bastion.run_ssh("operator-b", "editor+prod", "bastion credential");
    let credential: Value = serde_json::from_str(&credential.stdout).unwrap();
    let token = credential["status"]["token"].as_str().unwrap();
    all.push(Traces::of("a credential", token));

    // Errors talk the most.
    for (who, login, command) in [
        ("operator-a", "viewer+broken", "true"),
        ("operator-b", "editor+broken", "bastion credential"),
        ("operator-b", "editor+broken", "bastion kubeconfig"),
        ("operator-b", "editor+prod", "bastion kubeconfig"),
        ("operator-a", viewer, "bastion credential"),
        ("operator-a", viewer, "kubectl delete pod nothing"),
    ] {
        let ran = bastion.run_ssh(who, login, command);
        for traces in &all {
            traces.are_absent_from(command, ran.stdout.as_bytes());
            traces.are_absent_from(command, ran.stderr.as_bytes());
        }
    }
    let failed = bastion.event("session.failed", |_| true);
    assert_eq!(failed["step"], "mint", "{failed}");

    // While sessions are open: what everybody on this machine can see, and the files of the daemon.
    look_at_processes(&all);
    for id in [&shell_id, &exec.id] {
        look_into_the_sandbox(id, &all);
    }
    for (path, content) in files(&bastion.state_dir()) {
        for traces in &all {
            traces.are_absent_from(&path.display().to_string(), &content);
        }
    }

    shell.send("exit\r");
    assert_eq!(shell.wait(), Some(0));
    drop(exec);
    bastion.event("session.closed", |event| {
        event["ended"]["cut"] != Value::Null
    });
    bastion.stop();

    // Afterwards: everything that is left.
    for (path, content) in files(bastion.path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".kubeconfig") || name == "broken.token" || name == "kubectl" {
            continue;
        }
        for traces in &all {
            traces.are_absent_from(&path.display().to_string(), &content);
        }
        let any = contains(&content, b"eyJhbGciOi");
        assert!(!any, "some token is in {}", path.display());
    }
    let log = bastion.log();
    // What looks for leaks must have been where they would be.
    for part in ["TRACE", "russh", "hyper", "serviceaccounts"] {
        assert!(
            log.contains(part),
            "{part}: the log is not as talkative as it should be"
        );
    }
    let secrets = ControlPlane::shared().admin(&["get", "secrets", "-A", "-o", "json"]);
    for traces in &all {
        traces.are_absent_from("a Secret", secrets.as_bytes());
    }
}

/// Arguments and environments of everything that runs. The kernel shows arguments to everybody.
fn look_at_processes(all: &[Traces]) {
    let mut seen = 0;
    for pid in processes::all() {
        for what in ["cmdline", "environ"] {
            let Ok(content) = std::fs::read(format!("/proc/{pid}/{what}")) else {
                continue;
            };
            seen += 1;
            for traces in all {
                traces.are_absent_from(&format!("/proc/{pid}/{what}"), &content);
            }
        }
    }
    assert!(seen > 10);
}

/// The memory of everything that runs in a session, and the files that it can see, as root on this host sees them.
fn look_into_the_sandbox(id: &str, all: &[Traces]) {
    let (mut looked, mut known) = (0, 0);
    for process in processes_of(id) {
        let (pid, what) = process.split_once(' ').unwrap();
        let place = format!("the memory of {what}");
        for part in memory(pid) {
            for traces in all {
                traces.are_absent_from(&place, &part);
            }
            known += usize::from(contains(&part, b"the-daemon-adds-it"));
        }
        looked += 1;
        if what.starts_with("bwrap") {
            // It stands outside, and sees what this host has.
            continue;
        }
        for dir in ["home", "tmp", "run"] {
            for (path, content) in files(&PathBuf::from(format!("/proc/{pid}/root/{dir}"))) {
                for traces in all {
                    traces.are_absent_from(&path.display().to_string(), &content);
                }
                known += usize::from(path.ends_with("run/bastion/kubeconfig"));
            }
        }
    }
    // bubblewrap, the sandbox's first process, and the command.
    assert!(looked >= 3, "{looked} processes");
    if rustix::process::geteuid().is_root() {
        // What looks for leaks must have been where they would be.
        assert!(
            known >= 1,
            "neither the kubeconfig nor what is in it was seen"
        );
    }
}

/// What a process has in memory, as far as that may be read.
fn memory(pid: &str) -> Vec<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let Ok(memory) = std::fs::File::open(format!("/proc/{pid}/mem")) else {
        return Vec::new();
    };
    let mut parts = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut part = vec![0; usize::try_from(to - from).unwrap()];
        // It may have gone since.
        let read = memory.read_at(&mut part, from).unwrap_or(0);
        part.truncate(read);
        // Much of it was never written to.
        let written = part
            .chunks(4096)
            .filter(|page| page.iter().any(|b| *b != 0));
        parts.push(written.flatten().copied().collect());
    }
    parts
}

#[test]
fn a_trace_of_a_token_is_recognized() {
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{}",
        ('a'..='z').cycle().take(140).collect::<String>()
    );
    let traces = Traces::of("a test", &token);
    let found = |text: &str| {
        let found = |pattern: &String| contains(text.as_bytes(), pattern.as_bytes());
        traces.patterns.iter().any(found)
    };
    assert!(found(&format!("Authorization: Bearer {token}\n")));
    assert!(found(&format!("{:?}", token.as_bytes())));
    let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(found(&hex));
    for before in ["", "1", "12"] {
        assert!(
            found(&STANDARD.encode(format!("{before}{token}"))),
            "{before}"
        );
    }
    assert!(!found("eyJhbGciOiJSUzI1NiJ9."));
}
