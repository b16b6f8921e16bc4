//! The hosts that a role lists, and no other way out.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use crate::harness::bastion::Bastion;
use crate::harness::running::Running;

/// Answers each connection with `hello`, and then says back what it hears.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                stream.write_all(b"hello\n").unwrap();
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn with_egress(hosts: &str) -> Bastion {
    Bastion::with(|documents| {
        let changed = documents.replacen(
            "  maxSession: 1h\n",
            &format!("  maxSession: 1h\n  egress: [{hosts}]\n"),
            1,
        );
        assert_ne!(documents, changed);
        changed
    })
}

/// Asks a session's proxy for a connection, as curl and Go do, and shows what comes of it.
fn connect(to: &str, then: &str) -> String {
    format!(
        "exec 3<>/dev/tcp/127.0.0.1/3128 || exit 7; \
         printf 'CONNECT {to} HTTP/1.1\\r\\nHost: {to}\\r\\n\\r\\n' >&3; {then}"
    )
}

#[test]
fn a_role_reaches_the_hosts_that_it_lists_and_each_is_on_record() {
    let port = server();
    let bastion = with_egress(&format!("'127.0.0.1:{port}', charts.example.com"));
    let ran = bastion.run_ssh(
        "operator-a",
        "viewer",
        &connect(
            &format!("127.0.0.1:{port}"),
            "echo mine >&3; timeout 5 head -6 <&3; echo $HTTPS_PROXY $https_proxy $NO_PROXY",
        ),
    );
    let shown = ran.stdout.replace('\r', "");
    assert!(shown.starts_with("HTTP/1.1 200 OK\n"), "{ran:?}");
    assert!(shown.contains("\nhello\nmine\n"), "{ran:?}");
    let told = "http://127.0.0.1:3128 http://127.0.0.1:3128 127.0.0.1,localhost\n";
    assert!(shown.ends_with(told), "{ran:?}");
    let to = format!("127.0.0.1:{port}");
    let opened = bastion.event("egress.opened", |event| event["to"] == to.as_str());
    assert_eq!(opened["identity"], "operator-a");
    assert_eq!(opened["address"], to.as_str());
    let closed = bastion.event("egress.closed", |event| {
        event["session"] == opened["session"]
    });
    assert_eq!(
        (&closed["sent"], &closed["received"]),
        (&5.into(), &11.into())
    );

    // A real client, which says what it was told.
    let curl = format!("curl -sS -m 10 https://127.0.0.1:{port}/ 2>&1");
    let ran = bastion.run_ssh("operator-a", "viewer", &curl.replace("127.0.0.1", "[::1]"));
    assert!(ran.stdout.contains("403"), "{ran:?}");
}

#[test]
fn nothing_else_is_reached_and_each_refusal_is_on_record() {
    let port = server();
    let bastion = with_egress(&format!("'localhost:{port}', 'charts.example.com:8443'"));
    let cases = [
        // Not listed: another port, another name of the same, the daemon, the API server, metadata.
        (format!("127.0.0.1:{port}"), 403, "it reaches:"),
        (
            "charts.example.com:443".to_owned(),
            403,
            "charts.example.com:8443",
        ),
        (
            format!("127.0.0.1:{}", bastion.port()),
            403,
            "does not reach",
        ),
        ("169.254.169.254:80".to_owned(), 403, "does not reach"),
        // Listed, and its name leads to this machine.
        (format!("LocalHost:{port}"), 502, "never reached"),
    ];
    for (to, status, why) in &cases {
        let ran = bastion.run_ssh("operator-a", "viewer", &connect(to, "timeout 5 cat <&3"));
        let line = format!("HTTP/1.1 {status} ");
        assert!(ran.stdout.starts_with(&line), "{to}: {ran:?}");
        // In the status line, and to read.
        assert_eq!(ran.stdout.matches(why).count(), 2, "{to}: {ran:?}");
        let to = to.to_ascii_lowercase();
        let refused = bastion.event("egress.refused", |event| event["to"] == to.as_str());
        assert!(refused["reason"].as_str().unwrap().contains(why));
    }
    let plain = "exec 3<>/dev/tcp/127.0.0.1/3128; \
                 printf 'GET http://charts.example.com:8443/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; timeout 5 cat <&3";
    let ran = bastion.run_ssh("operator-a", "viewer", plain);
    assert!(ran.stdout.starts_with("HTTP/1.1 405 "), "{ran:?}");
    let garbage = "exec 3<>/dev/tcp/127.0.0.1/3128; head -c 100000 /dev/urandom >&3; timeout 5 cat <&3 | head -c 12";
    let ran = bastion.run_ssh("operator-a", "viewer", garbage);
    assert_ne!(ran.stdout, "HTTP/1.1 200", "{ran:?}");

    // A role that lists none has nothing that listens, and its programs are told of nothing.
    let ran = bastion.run_ssh(
        "operator-a",
        "editor",
        &format!("echo ${{HTTPS_PROXY-none}}; {}", connect("x:1", "cat <&3")),
    );
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("none\n", Some(7)),
        "{ran:?}"
    );
    assert!(
        !bastion
            .events()
            .iter()
            .any(|event| event["event"] == "egress.opened"),
        "nothing was opened"
    );
}

#[test]
fn a_connection_ends_with_its_session_and_with_what_allowed_it() {
    let port = server();
    let host = format!("'127.0.0.1:{port}'");
    let bastion = with_egress(&host);
    let to = format!("127.0.0.1:{port}");
    // It does not go when it is asked to: what it has open is cut all the same, before it is killed.
    let hold = format!(
        "trap '' HUP; {}",
        connect(&to, "cat <&3 >/dev/null; sleep 1000")
    );
    let session = Running::start(&bastion, "operator-a", "viewer", &hold);
    let id = session.id.clone();
    let of_session = |event: &Value| event["session"] == id.as_str();
    bastion.event("egress.opened", of_session);
    let killed = bastion.cli(&[
        "kill",
        &id,
        "--state-dir",
        bastion.state_dir().to_str().unwrap(),
    ]);
    assert!(killed.status.success(), "{killed:?}");
    let closed = bastion.event("egress.closed", of_session);
    assert_eq!(closed["received"], 6);
    let sealed = bastion.event("session.closed", of_session);
    let moment =
        |event: &Value| -> jiff::Timestamp { event["time"].as_str().unwrap().parse().unwrap() };
    let between = moment(&sealed).duration_since(moment(&closed));
    assert!(
        between.as_millis() > 500,
        "it was open for as long as its command: {between:?}"
    );
    // On record before the session is.
    let events = bastion.events();
    let position = |name: &str| {
        events
            .iter()
            .position(|event| event["event"] == name && of_session(event))
            .unwrap()
    };
    assert!(position("egress.closed") < position("session.closed"));

    // Taken out of the list, it is refused from then on, in sessions that are open too.
    let ask = connect(&to, "head -1 <&3; echo ready; read; ");
    let again = format!("{ask}{}", connect(&to, "head -1 <&3"));
    let mut open = Running::start(&bastion, "operator-a", "viewer", &again);
    bastion.event("egress.opened", |event| {
        event["session"] == open.id.as_str()
    });
    bastion.write_config(&bastion.config().replace(&host, "charts.example.com"));
    bastion.event("config.reloaded", |_| true);
    open.send("\n");
    let ran = open.wait();
    let lines: Vec<&str> = ran.stdout.lines().map(str::trim).collect();
    assert_eq!(lines.first(), Some(&"HTTP/1.1 200 OK"), "{ran:?}");
    assert!(lines.last().unwrap().starts_with("HTTP/1.1 403"), "{ran:?}");
}
