//! kubectl of today, over WebSockets, and one from before 1.30, over SPDY: every verb that a control plane can serve, from
//! inside a session's sandbox and over a tunnel.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

const VERBS: &str = include_str!("verbs.sh");

/// What `web` runs: it says its port, and serves one file.
const WEB: &str = "command: [python3, -u, -c, \"import http.server, os\\n\
    open('here', 'w').write('served\\\\n')\\n\
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)\\n\
    print(s.server_port, flush=True)\\ns.serve_forever()\"]";

/// Which kubectl.
#[derive(Clone, Copy, PartialEq)]
enum Age {
    OfToday,
    Old,
}

/// Everything that [`VERBS`] needs, in a namespace of that name.
fn script(age: Age, name: &str) -> String {
    namespace(name);
    pod(name, "web", WEB);
    let old = if age == Age::Old { "yes" } else { "no" };
    // The pods' files are this host's.
    let place = format!("/tmp/{name}-{}", std::process::id());
    format!("export NS={name} OLD={old} PLACE={place}\n{VERBS}")
}

/// What [`VERBS`] says if all is well.
const EXPECTED: &str = "get: Running\n\
    table: NAME STATUS box Running web Running\n\
    describe: test-node/127.0.0.1\n\
    apply: deployment.apps/served created\n\
    rollout status: deployment \"served\" successfully rolled out\n\
    diff: 2 status 1\n\
    apply again: deployment.apps/served configured\n\
    patch: deployment.apps/served patched\n\
    get -l: deployment.apps/served\n\
    scale: deployment.apps/served scaled\n\
    rollout history: 1\n\
    create: b\n\
    delete --wait: deployment.apps \"served\" deleted \
    Error from server (NotFound): deployments.apps \"served\" not found\n\
    logs: N\n\
    logs -f: ready\n\
    exec: out 7 err\n\
    exec -i: same\n\
    cp: same\n\
    attach: got word\n\
    run: got hello\n\
    port-forward: served served\n\
    debug: debugged\n\
    top: error: Metrics API not available 1\n\
    auth can-i: yes no\n\
    auth can-i --list: 1\n\
    api-resources: controllerrevisions.apps daemonsets.apps deployments.apps replicasets.apps statefulsets.apps\n\
    api-versions: apps/v1\n\
    explain: 1\n\
    refused: Error from server (Forbidden): secrets is forbidden:\n\
    get -w: pod/box\n\
    get --raw: 1\n";

/// Inside a session's sandbox, whose only kubectl this is. All that it asked for.
fn inside(age: Age, name: &str) {
    let script = script(age, name);
    let mut bastion = Bastion::prepare(|documents| documents);
    if age == Age::Old {
        let kubectl = bastion.path().join("bin/kubectl");
        std::fs::remove_file(&kubectl).unwrap();
        std::fs::copy(client("old-kubectl"), kubectl).unwrap();
    }
    bastion.run();
    let ssh = bastion.ssh("operator-a", "editor");
    let output = Command::new("timeout")
        .args([LONGEST_SCRIPT, "ssh"])
        .args(ssh.get_args())
        .arg(format!("echo $BASTION_SESSION; {script}"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = said(&output);
    let (session, text) = text.split_once('\n').unwrap();
    assert_eq!(text, EXPECTED);
    on_record(age, &bastion, &joined(&bastion, session));
}

/// On this side of a tunnel.
fn over(tunnel: Tunnel, kubectl: &Path, age: Age, name: &str) {
    let script = script(age, name);
    let bin = tunnel.bastion.path().join("own");
    std::fs::create_dir(&bin).unwrap();
    symlink(kubectl, bin.join("kubectl")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = tunnel
        .command(Path::new("bash"))
        .args(["-c", &script])
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(said(&output), EXPECTED);
    let (bastion, requests) = tunnel.requests();
    on_record(age, &bastion, &requests);
}

/// Its streams spoke what a kubectl of that age does, and are recorded byte for byte.
fn on_record(age: Age, bastion: &Bastion, requests: &[Request]) {
    let streams: BTreeSet<String> = requests
        .iter()
        .filter(|request| request.is_stream())
        .map(|request| {
            format!(
                "{} {}",
                request.what(),
                request.intent["protocol"].as_str().unwrap()
            )
        })
        .collect();
    let expected = match age {
        Age::OfToday => [
            "get pods/attach v5.channel.k8s.io",
            "get pods/exec v5.channel.k8s.io",
            "get pods/portforward SPDY/3.1+portforward.k8s.io",
        ],
        Age::Old => [
            "create pods/attach SPDY/3.1",
            "create pods/exec SPDY/3.1",
            "create pods/portforward SPDY/3.1",
        ],
    };
    assert_eq!(streams, expected.map(str::to_owned).into());
    let raw = |request: &Request, stream: &str| {
        let child = request.outcome["children"][0].as_str().unwrap();
        let output = bastion.cli(&["export", child, "--as", "raw", "--stream", stream]);
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let command = |request: &&Request| {
        let asked = request.intent["query"].to_string();
        request.is_stream() && asked.contains("echo out; echo err >&2; exit 7")
    };
    let exec = requests.iter().find(command).unwrap();
    assert_eq!(
        (raw(exec, "stdout"), raw(exec, "stderr")),
        (b"out\n".to_vec(), b"err\n".to_vec())
    );
    let large = requests
        .iter()
        .filter(|request| request.outcome["bytesIn"].as_u64() >= Some(2_000_000));
    for cat in large {
        assert_eq!(raw(cat, "stdout").len(), 2_000_000);
    }
    let all: BTreeSet<String> = requests.iter().map(Request::what).collect();
    for verb in [
        "get pods",
        "get pods/log",
        "watch pods",
        "create deployments",
        "patch deployments",
        "delete deployments",
        "list secrets",
        "create selfsubjectaccessreviews",
        "create selfsubjectrulesreviews",
    ] {
        assert!(all.contains(verb), "{verb}: {all:#?}");
    }
}

#[test]
fn kubectl_of_today_works_inside_a_session() {
    inside(Age::OfToday, "kubectl-inside");
}

#[test]
fn kubectl_of_today_works_over_a_tunnel() {
    let kubectl = ControlPlane::shared().kubectl_path();
    over(Tunnel::dynamic(), kubectl, Age::OfToday, "kubectl-tunnel");
}

#[test]
fn kubectl_from_before_1_30_works_inside_a_session() {
    inside(Age::Old, "old-kubectl-inside");
}

#[test]
fn kubectl_from_before_1_30_works_over_a_tunnel() {
    let kubectl = client("old-kubectl");
    over(Tunnel::local(), &kubectl, Age::Old, "old-kubectl-tunnel");
}
