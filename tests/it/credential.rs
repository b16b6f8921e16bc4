//! Credentials: handed out where a role says so, and worth nothing once their session is over.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::harness::api::Behind;
use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::cluster::ControlPlane;
use crate::harness::terminal::Terminal;
use crate::harness::token::Holder;

/// `bastion credential`, which must work: the session and what was handed out.
fn credential(bastion: &Bastion, who: &str) -> (String, Value) {
    let before = handed_out(bastion).len();
    let ran = bastion.run_ssh(who, "editor", "bastion credential");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let document = serde_json::from_str(&ran.stdout).unwrap();
    let session = handed_out(bastion).remove(before);
    (session, document)
}

/// The sessions that handed a credential out, in order.
fn handed_out(bastion: &Bastion) -> Vec<String> {
    let events = bastion.events().into_iter();
    events
        .filter(|event| event["event"] == "lease.handed-out")
        .map(|event| event["session"].as_str().unwrap().to_owned())
        .collect()
}

fn holder(document: &Value) -> Holder {
    Holder::of(document["status"]["token"].as_str().unwrap())
}

/// What the auditor's list says of what goes on, a JSON object a line.
fn live(bastion: &Bastion) -> Vec<Value> {
    let list = "bastion sessions --live --json";
    let ran = bastion.run_ssh("auditor-a", "auditor-a", list);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_credential_is_an_exec_credential_and_nothing_else() {
    let bastion = Bastion::start();
    let (session, document) = credential(&bastion, "operator-a");
    let holder = holder(&document);
    let expires = document["status"]["expirationTimestamp"].as_str().unwrap();
    assert_eq!(
        document,
        serde_json::json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {
                "expirationTimestamp": expires,
                "token": document["status"]["token"],
            },
        })
    );
    let editor = "system:serviceaccount:bastion-editor:editor";
    assert_eq!(holder.user().as_deref(), Some(editor));

    // A minute early, so that no request under way meets the real end.
    let claims = holder.claims();
    let real = claims["exp"].as_i64().unwrap();
    let told: jiff::Timestamp = expires.parse().unwrap();
    assert_eq!(told.as_second(), real - 60);
    assert_eq!(real - claims["iat"].as_i64().unwrap(), 600);

    // Our record and the API server's meet in its jti.
    let jti = holder.jti();
    let issued = bastion.event("lease.issued", |event| event["jti"] == jti.as_str());
    assert_eq!(issued["session"], session.as_str());
    let of_session = |event: &Value| event["session"] == session.as_str();
    assert_eq!(
        bastion.event("lease.handed-out", of_session)["jti"],
        jti.as_str()
    );
    in_the_api_servers_log(&jti, editor);

    // Its session is over, and lives on in it.
    let live = live(&bastion);
    let [line] = live.as_slice() else {
        panic!("{live:?}");
    };
    assert_eq!(line["session"]["session"], session.as_str(), "{line}");
    assert_eq!(line["session"]["kind"], "credential");
    assert_eq!(line["state"], "live");
    assert_eq!(line["leases"][0]["jti"], jti.as_str());
    let table = bastion.run_ssh("auditor-a", "auditor-a", "bastion sessions");
    assert!(table.stdout.contains(&session), "{table:?}");
}

/// The issue and the use of a token, in the API server's audit log.
fn in_the_api_servers_log(jti: &str, user: &str) {
    let id = format!("JTI={jti}");
    eventually("the issue in the API server's audit log", || {
        let lines = ControlPlane::shared().audit_lines();
        let issued = lines.iter().any(|line| {
            line["annotations"]["authentication.kubernetes.io/issued-credential-id"] == id.as_str()
        });
        let used = lines.iter().any(|line| {
            let used = &line["user"]["extra"]["authentication.kubernetes.io/credential-id"];
            line["user"]["username"] == user && used[0] == id.as_str()
        });
        (issued && used).then_some(())
    });
}

#[test]
fn a_role_that_does_not_say_so_hands_out_none() {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh("operator-a", "viewer", "bastion credential");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    assert!(
        ran.stderr
            .contains("The role viewer hands out no credentials")
    );
    let ran = bastion.run_ssh("operator-a", "viewer", "bastion kubeconfig | cat");
    assert_ne!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn no_token_outlives_what_it_was_minted_for() {
    let behind = Behind::start();
    let (bastion, tokens) = (&behind.bastion, &behind.tokens);
    let (by_id, by_id_document) = credential(bastion, "operator-a");
    let (_, by_name_document) = credential(bastion, "operator-b");
    let (kept_session, kept_document) = credential(bastion, "operator-a");

    let exec = bastion.run_ssh("operator-a", "viewer", "kubectl get ns >&2");
    let exec_ended = Instant::now();
    assert_eq!(exec.code, Some(0), "{exec:?}");

    let mut shell = Terminal::start(bastion.ssh("operator-a", "viewer"), 2000, 24);
    shell.expect("~$ ");
    shell.send("kubectl auth whoami\r");
    shell.expect("system:serviceaccount:bastion-viewer:viewer");
    // As somebody has them who broke TLS: nobody in a session does.
    let issued = tokens.issued();
    assert_eq!(issued.len(), 5, "three were handed out, two not");
    let [of_exec, of_shell] = [3, 4].map(|n: usize| Holder::of(&issued[n]));
    let viewer = "system:serviceaccount:bastion-viewer:viewer";
    assert_eq!(of_shell.user().as_deref(), Some(viewer));
    shell.send("exit\r");
    assert_eq!(shell.wait(), Some(0));
    let shell_ended = Instant::now();

    let (by_id_holder, by_name_holder) = (holder(&by_id_document), holder(&by_name_document));
    let kept = holder(&kept_document);
    for holder in [&by_id_holder, &by_name_holder, &kept] {
        assert!(holder.user().is_some());
    }
    let revoked = Ran::from(bastion.cli(&["revoke", &by_id]));
    assert_eq!(revoked.stdout, format!("{by_id}: revoked\n"), "{revoked:?}");
    let by_id_ended = Instant::now();
    let revoked = Ran::from(bastion.cli(&["revoke", "--identity", "operator-b"]));
    assert!(revoked.stdout.ends_with(": revoked\n"), "{revoked:?}");
    let by_name_ended = Instant::now();

    std::thread::scope(|scope| {
        for (holder, end) in [
            (&of_exec, exec_ended),
            (&of_shell, shell_ended),
            (&by_id_holder, by_id_ended),
            (&by_name_holder, by_name_ended),
        ] {
            scope.spawn(move || holder.is_refused_after(end));
        }
    });
    assert!(kept.user().is_some(), "nobody took this one back");
    let live: Vec<Value> = live(bastion);
    let sessions: Vec<&Value> = live
        .iter()
        .map(|line| &line["session"]["session"])
        .collect();
    assert_eq!(sessions, [kept_session.as_str()], "{live:?}");

    // Each is on both records.
    let again = Ran::from(bastion.cli(&["revoke", &by_id]));
    assert_eq!(
        again.stdout, "nothing was open or handed out\n",
        "{again:?}"
    );
    let acts = bastion.events();
    let acts: Vec<&Value> = acts
        .iter()
        .filter(|event| event["event"] == "admin.act")
        .map(|event| &event["act"]["revoke"])
        .collect();
    assert_eq!(acts[0]["what"], by_id.as_str());
    assert_eq!(acts[1]["what"], "operator-b");
    assert_eq!((&acts[0]["met"], &acts[2]["met"]), (&1.into(), &0.into()));
    for holder in [&of_exec, &of_shell, &by_id_holder, &by_name_holder] {
        let jti = holder.jti();
        let released = bastion.event("lease.released", |event| event["jti"] == jti.as_str());
        assert_eq!(released["validUntil"], Value::Null, "{released}");
        let claims = holder.claims();
        in_the_api_servers_log(&jti, claims["sub"].as_str().unwrap());
    }
}

/// An operator's own machine, as far as a stock `ssh` and kubectl see it: its home is another directory. `HOME`
/// alone would not do: ssh asks the password database.
struct Machine {
    home: tempfile::TempDir,
    real_home: String,
}

impl Machine {
    fn of(bastion: &Bastion, who: &str) -> Self {
        use std::os::unix::fs::DirBuilderExt as _;
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        std::fs::DirBuilder::new().mode(0o700).create(&ssh).unwrap();
        let mut config = String::from("Host 127.0.0.1\n");
        for option in bastion.ssh_options(who) {
            // What the kubeconfig must say by itself.
            if !option.starts_with("BatchMode") {
                config += &format!("    {}\n", option.replacen('=', " ", 1));
            }
        }
        std::fs::write(ssh.join("config"), config).unwrap();
        let me = rustix::process::geteuid().as_raw().to_string();
        let entry = Command::new("getent")
            .args(["passwd", &me])
            .output()
            .unwrap();
        let entry = String::from_utf8(entry.stdout).unwrap();
        let real_home = entry.split(':').nth(5).unwrap().to_owned();
        Self { home, real_home }
    }

    fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("bwrap");
        command
            .args(["--dev-bind", "/", "/", "--bind"])
            .arg(self.home.path())
            .args([&self.real_home, "--chdir", "/", "--"])
            .arg(program);
        command
    }
}

#[test]
fn a_stock_kubectl_works_with_ssh_as_its_plugin() {
    // The kubeconfig says where we are, so that must be known before the start.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    let bastion = Bastion::with(|documents| {
        documents
            .replace("127.0.0.1:0", &address)
            .replace("bastion.test:22", &address)
    });
    let machine = Machine::of(&bastion, "operator-a");
    let ran = bastion.run_ssh("operator-a", "editor", "bastion kubeconfig");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    let names = |list: &str| -> Vec<String> {
        let entries = document[list].as_array().unwrap().iter();
        let names = entries.map(|entry| entry["name"].as_str().unwrap().to_owned());
        names.collect()
    };
    // The viewer hands out none, so there is none of it.
    assert_eq!(names("contexts"), ["editor@prod"]);
    let kubeconfig = machine.home.path().join("kubeconfig");
    std::fs::write(&kubeconfig, &ran.stdout).unwrap();

    let kubectl = bastion.path().join("bin/kubectl");
    for n in 0..10 {
        let mut command = machine.command(&kubectl);
        let name = format!("from-outside-{n}");
        let ran = Ran::from(
            command
                .arg("--kubeconfig")
                .arg(&kubeconfig)
                .args(["create", "configmap", &name])
                .output()
                .unwrap(),
        );
        assert_eq!(ran.stdout, format!("configmap/{name} created\n"), "{ran:?}");
        assert_eq!(ran.stderr, "", "call {n}");
    }
    assert_eq!(handed_out(&bastion).len(), 10);
    let connections = bastion.events();
    let connections = connections
        .iter()
        .filter(|event| event["event"] == "authentication.ok")
        .count();
    assert_eq!(connections, 2, "one of `kubeconfig` and one of all calls");

    // The connection that is kept goes when it is told to, and leaves nothing.
    let kept = || -> Vec<String> {
        let files = std::fs::read_dir(machine.home.path().join(".ssh")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("bastion-")).collect()
    };
    let socket = kept().pop().expect("a kept connection");
    assert!(runs(&socket));
    let exec = &document["users"][0]["user"]["exec"];
    let args = exec["args"].as_array().unwrap();
    let options: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
    let mut exit = machine.command(std::path::Path::new("ssh"));
    let exit = exit.args(["-O", "exit"]).args(options).output().unwrap();
    assert!(exit.status.success(), "{exit:?}");
    eventually("the end of the kept connection", || {
        (kept().is_empty() && !runs(&socket)).then_some(())
    });
}

/// Whether a process has this in its command line.
fn runs(text: &str) -> bool {
    let found = Command::new("pgrep")
        .args(["-f", "--", text])
        .output()
        .unwrap();
    found.status.success()
}
