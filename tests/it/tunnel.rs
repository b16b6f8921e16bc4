//! A client's own kubectl through `ssh -L` and `ssh -D`: every role over one tunnel, nothing but the gateway at its end, and a
//! kubeconfig that is worthless without it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::bastion::{Bastion, eventually};
use crate::harness::cluster::{ControlPlane, write_private};
use crate::harness::tunnel::{Forwarding, kubeconfig, with_tunnels};

/// With the roles viewer and editor for tunnels.
fn bastion() -> Bastion {
    Bastion::with(with_tunnels)
}

fn kubectl(kubeconfig: &Path, args: &[&str]) -> Output {
    ControlPlane::shared().kubectl_as(kubeconfig, args, "")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Sessions of tunnels that are on record, oldest first.
fn tunnels(bastion: &Bastion) -> Vec<Value> {
    let opened = |event: &Value| event["event"] == "session.opened" && event["kind"] == "tunnel";
    bastion.events().into_iter().filter(opened).collect()
}

#[test]
fn one_tunnel_serves_every_role_each_a_session_of_its_own() {
    let bastion = bastion();
    let forwarding = Forwarding::dynamic(&bastion, "operator-a", "operator-a");
    let config = kubeconfig(
        &bastion,
        "operator-a",
        "operator-a",
        &format!("--socks-port {}", forwarding.port),
    );
    for (context, user) in [
        ("viewer@prod", "bastion-viewer:viewer"),
        ("editor@prod", "bastion-editor:editor"),
    ] {
        let who = kubectl(&config, &["--context", context, "auth", "whoami"]);
        assert!(said(&who).contains(user), "{}", said(&who));
    }
    // The default role's is the one in use; ten calls, one session.
    for _ in 0..10 {
        let listed = kubectl(&config, &["get", "namespaces", "-o", "name"]);
        assert!(
            said(&listed).contains("namespace/default"),
            "{}",
            said(&listed)
        );
    }
    let sessions = tunnels(&bastion);
    let roles: Vec<&str> = sessions
        .iter()
        .filter_map(|event| event["role"].as_str())
        .collect();
    assert_eq!(roles, ["viewer", "editor"], "{sessions:?}");
    let live = bastion.cli(&["sessions", "--live"]);
    assert!(
        String::from_utf8_lossy(&live.stdout)
            .matches("tunnel")
            .count()
            == 2,
        "{live:?}"
    );

    let ids: Vec<String> = sessions
        .iter()
        .map(|event| event["session"].as_str().unwrap().to_owned())
        .collect();
    drop(forwarding);
    for id in ids {
        let manifest = eventually("the seal", || bastion.manifest(&id));
        assert_eq!(
            (&manifest["state"], &manifest["session"]["kind"]),
            (&"complete".into(), &"tunnel".into())
        );
        assert!(
            manifest["requests"]["total"].as_u64() > Some(0),
            "{manifest}"
        );
        bastion.event("lease.released", |event| event["session"] == id.as_str());
        bastion.nothing_left(&id);
    }
}

#[test]
fn a_forwarded_port_is_what_the_login_name_stands_for() {
    let bastion = bastion();
    let forwarding = Forwarding::local(&bastion, "operator-a", "editor", "kubernetes:443");
    let config = kubeconfig(
        &bastion,
        "operator-a",
        "editor",
        &format!("--local-port {}", forwarding.port),
    );
    let who = kubectl(&config, &["auth", "whoami"]);
    assert!(
        said(&who).contains("bastion-editor:editor"),
        "{}",
        said(&who)
    );
    // A watch is there at once and ends with its session.
    let session = tunnels(&bastion)[0]["session"].as_str().unwrap().to_owned();
    let mut command = Command::new(ControlPlane::shared().kubectl_path());
    command
        .args(["get", "namespaces", "-w", "-o", "name"])
        .env("KUBECONFIG", &config);
    let mut watching = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the watch", || {
        let index = bastion.requests(&session);
        index.contains("\"verb\":\"watch\"").then_some(())
    });
    let began = Instant::now();
    assert!(bastion.cli(&["kill", &session]).status.success());
    eventually("the end of the watch", || {
        // It may be packed by now.
        let index = bastion.requests(&session);
        index.contains("the session ended").then_some(())
    });
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    watching.kill().unwrap();
    watching.wait().unwrap();
    // The tunnel itself stays: the next request is a session of its own.
    let who = kubectl(&config, &["auth", "whoami"]);
    assert!(
        said(&who).contains("bastion-editor:editor"),
        "{}",
        said(&who)
    );
    assert_eq!(tunnels(&bastion).len(), 2);
}

#[test]
fn an_exec_works_through_a_tunnel_and_is_recorded() {
    let plane = ControlPlane::shared();
    plane.admin(&["create", "namespace", "tunnelled"]);
    let edits = [
        "--clusterrole=edit",
        "--serviceaccount=bastion-editor:editor",
    ];
    plane.admin(
        &[
            &["create", "rolebinding", "edits", "-n", "tunnelled"],
            &edits[..],
        ]
        .concat(),
    );
    plane.apply("{apiVersion: v1, kind: Pod, metadata: {name: box, namespace: tunnelled}, spec: {terminationGracePeriodSeconds: 0, \
        containers: [{name: main, image: none, command: [sleep, '3600']}]}}");
    plane.admin(&[
        "wait",
        "--for=condition=Ready",
        "pod/box",
        "-n",
        "tunnelled",
        "--timeout=30s",
    ]);
    let bastion = bastion();
    let forwarding = Forwarding::dynamic(&bastion, "operator-a", "operator-a");
    let config = kubeconfig(
        &bastion,
        "operator-a",
        "operator-a",
        &format!("--socks-port {}", forwarding.port),
    );
    let exec = kubectl(
        &config,
        &[
            "--context",
            "editor@prod",
            "exec",
            "-n",
            "tunnelled",
            "box",
            "--",
            "sh",
            "-c",
            "echo through; exit 5",
        ],
    );
    assert_eq!(
        (exec.status.code(), said(&exec).contains("through")),
        (Some(5), true),
        "{}",
        said(&exec)
    );
    let session = tunnels(&bastion)[0]["session"].as_str().unwrap().to_owned();
    let index = bastion.requests(&session);
    assert!(index.contains("\"children\""), "{index}");
}

#[test]
fn a_tunnel_leads_to_the_gateway_and_nowhere_else() {
    let bastion = bastion();
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    here.set_nonblocking(true).unwrap();
    let to_here = format!("127.0.0.1:{}", here.local_addr().unwrap().port());
    for to in [
        to_here.as_str(),
        "127.0.0.1:22",
        "169.254.169.254:80",
        "localhost:443",
        "kubernetes:6443",
        "example.com:80",
        "kubernetes.default:22",
    ] {
        let forwarding = Forwarding::local(&bastion, "operator-a", "viewer", to);
        let mut stream = TcpStream::connect(("127.0.0.1", forwarding.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let read = std::io::Read::read(&mut stream, &mut [0; 8]);
        assert!(matches!(read, Ok(0) | Err(_)), "{to}: {read:?}");
        assert!(
            read.map_or_else(
                |error| error.kind() == std::io::ErrorKind::ConnectionReset,
                |read| read == 0
            ),
            "{to}"
        );
    }
    assert!(here.accept().is_err());
    assert!(tunnels(&bastion).is_empty());
    bastion.event("request.refused", |event| event["what"] == "direct-tcpip");
}

#[test]
fn a_role_that_one_may_not_take_is_refused_by_name() {
    let bastion = bastion();
    // operator-b is an editor, and no viewer.
    let forwarding = Forwarding::dynamic(&bastion, "operator-b", "operator-b");
    let config = kubeconfig(
        &bastion,
        "operator-b",
        "operator-b",
        &format!("--socks-port {}", forwarding.port),
    );
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(!text.contains("viewer"), "{text}");
    let stolen = bastion.path().join("other.kubeconfig");
    write_private(&stolen, &text.replace("editor.prod", "viewer.prod"));
    let output = kubectl(&stolen, &["get", "--raw", "/api"]);
    assert!(
        !output.status.success() && said(&output).contains("viewer"),
        "{}",
        said(&output)
    );
    bastion.event("policy.denied", |event| {
        event["kind"] == "tunnel" && event["identity"] == "operator-b"
    });
    // A role that allows no tunnel has none.
    let closed = Bastion::start();
    let forwarding = Forwarding::local(&closed, "operator-a", "viewer", "kubernetes:443");
    drop(TcpStream::connect(("127.0.0.1", forwarding.port)).unwrap());
    closed.event("policy.denied", |event| event["kind"] == "tunnel");
    assert!(tunnels(&closed).is_empty());
    let ran = closed.run_ssh("operator-a", "operator-a", "bastion kubeconfig");
    // The editor's credentials come by the plugin, as the role says.
    assert!(
        ran.stdout.contains("editor@prod") && !ran.stdout.contains("viewer@prod"),
        "{ran:?}"
    );
    assert!(!ran.stdout.contains("socks5"), "{ran:?}");
}

#[test]
fn a_kubeconfig_counts_on_its_own_identitys_tunnel_only_until_it_is_replaced() {
    let mut bastion = bastion();
    let forwarding = Forwarding::local(&bastion, "operator-a", "editor", "kubernetes:443");
    let port = format!("--local-port {}", forwarding.port);
    let own = kubeconfig(&bastion, "operator-a", "editor", &port);
    let others = kubeconfig(&bastion, "operator-b", "editor", &port);
    let ask = |config: &Path| kubectl(config, &["auth", "whoami"]);
    assert!(ask(&own).status.success());
    // Another person's on this tunnel, and none at all.
    let text = std::fs::read_to_string(&own).unwrap();
    let none = bastion.path().join("none.kubeconfig");
    let bearer = text
        .split("\"token\": \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    write_private(&none, &text.replace(&bearer, "guess"));
    for config in [&others, &none] {
        let output = ask(config);
        let said = said(&output);
        let stranger = said.contains("Unauthorized") || said.contains("must be logged in");
        assert!(!output.status.success() && stranger, "{said}");
    }
    drop(forwarding);

    // It is right across a restart, in a new tunnel.
    bastion.stop();
    bastion.run();
    let ssh = bastion.ssh("operator-a", "editor");
    let local: u16 = port.rsplit(' ').next().unwrap().parse().unwrap();
    let _forwarding = Forwarding::start(
        ssh,
        "-L",
        format!("127.0.0.1:{local}:kubernetes:443"),
        local,
    );
    let output = ask(&own);
    assert!(output.status.success(), "{}", said(&output));

    // And replaced, it is not.
    let new = kubeconfig(
        &bastion,
        "operator-a",
        "editor",
        &format!("{port} --rotate"),
    );
    assert!(!ask(&own).status.success());
    assert!(ask(&new).status.success());
    bastion.event("kubeconfig.rotated", |event| {
        event["identity"] == "operator-a"
    });
    // It holds nothing that the API server would take.
    let jti = bastion.event("lease.issued", |_| true);
    assert!(
        !text.contains(jti["jti"].as_str().unwrap()) && !text.contains("eyJ"),
        "{text}"
    );
}

#[test]
fn a_key_that_may_not_forward_has_no_tunnel() {
    let bastion = Bastion::with(|documents| {
        let allowed =
            documents.replace("sessions: [shell, exec]", "sessions: [shell, exec, tunnel]");
        let at = allowed.find("keys: [\"").unwrap() + "keys: [\"".len();
        format!("{}no-port-forwarding {}", &allowed[..at], &allowed[at..])
    });
    let forwarding = Forwarding::local(&bastion, "operator-a", "viewer", "kubernetes:443");
    let config = kubeconfig(
        &bastion,
        "operator-a",
        "viewer",
        &format!("--local-port {}", forwarding.port),
    );
    let output = kubectl(&config, &["get", "--raw", "/api"]);
    assert!(
        !output.status.success() && said(&output).contains("no-port-forwarding"),
        "{}",
        said(&output)
    );
}
