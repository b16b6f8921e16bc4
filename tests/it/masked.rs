//! Credentials that came out by our own hand do not get into recordings, and clients get every byte all the same.

use std::io::Write as _;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, drain, eventually};
use crate::harness::running::Running;
use crate::harness::terminal::Terminal;
use crate::harness::token::Holder;
use crate::harness::tunnel::with_tunnels;

/// The bytes of a credential that may be in a recording.
const KEPT: usize = 16;
const MASK: &str = "[credential masked]";

/// A token that was handed out to operator-b.
fn token(bastion: &Bastion) -> String {
    let ran = bastion.run_ssh("operator-b", "editor", "bastion credential");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    document["status"]["token"].as_str().unwrap().to_owned()
}

/// Runs `script` with `input` in a session of operator-a's; its id and what the client got.
fn run(bastion: &Bastion, script: &str, input: &str) -> (String, Ran) {
    let mut client = bastion
        .ssh("operator-a", "viewer")
        .arg(format!("echo $BASTION_SESSION; {script}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (stdout, stderr) = (
        drain(client.stdout.take().unwrap()),
        drain(client.stderr.take().unwrap()),
    );
    client
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let status = client.wait().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout.join().unwrap()), text(stderr.join().unwrap()));
    let (id, stdout) = stdout
        .split_once('\n')
        .unwrap_or_else(|| panic!("{stdout} {stderr}"));
    let ran = Ran {
        stdout: stdout.to_owned(),
        stderr,
        code: status.code(),
    };
    eventually("a sealed recording", || bastion.manifest(id));
    (id.to_owned(), ran)
}

/// No file of a recording has more of it than is kept: as it is, in a data of base64, or in the streams put together.
fn holds_nothing_of(bastion: &Bastion, id: &str, secret: &str) {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(bastion.packed(id)).unwrap() {
        let path = entry.unwrap().path();
        let stored = std::fs::read(&path).unwrap();
        texts.push(match path.extension().is_some_and(|end| end == "zst") {
            true => zstd::decode_all(&*stored).unwrap(),
            false => stored,
        });
    }
    let decoded: Vec<u8> = bastion
        .cast(id)
        .lines()
        .skip(1)
        .filter_map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            STANDARD.decode(event[2].as_str()?).ok()
        })
        .flatten()
        .collect();
    texts.push(decoded);
    for shape in [["raw", "--stream=stdout"], ["raw", "--stream=stderr"]] {
        let output = bastion.cli(&["export", id, "--as", shape[0], shape[1]]);
        assert!(
            output.status.success() || !output.stderr.is_empty(),
            "{output:?}"
        );
        texts.push(output.stdout);
    }
    let audit = std::fs::read(bastion.state_dir().join("audit.jsonl")).unwrap();
    texts.push(audit);
    for piece in secret.as_bytes().windows(KEPT + 1) {
        for text in &texts {
            let found = text.windows(KEPT + 1).any(|window| window == piece);
            assert!(
                !found,
                "{} is in {}",
                String::from_utf8_lossy(piece),
                String::from_utf8_lossy(text)
            );
        }
    }
}

/// What `h` events say: stream, length, jti.
fn masks(bastion: &Bastion, id: &str) -> Vec<Value> {
    let cast = bastion.cast(id);
    let lines = cast.lines().skip(1);
    let events = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .filter(|event| event[1] == "h")
        .map(|event| serde_json::from_str(event[2].as_str().unwrap()).unwrap())
        .collect()
}

#[test]
fn a_handed_out_token_that_comes_back_is_masked_everywhere() {
    let bastion = Bastion::start();
    let token = token(&bastion);
    let jti = Holder::of(&token).jti();
    // On the command line, in the input, on both outputs at once, and byte by byte.
    let script = format!(
        "read -r t; echo \"<$t>\"; echo \"!$t!\" >&2; \
         for ((i = 0; i < ${{#t}}; i += 7)); do printf %s \"${{t:i:7}}\"; done; : {token}"
    );
    let (id, ran) = run(&bastion, &script, &format!("{token}\n"));
    assert_eq!(ran.stdout, format!("<{token}>\n{token}"));
    assert_eq!(ran.stderr, format!("!{token}!\n"));
    holds_nothing_of(&bastion, &id, &token);
    let raw = bastion.cli(&["export", &id, "--as", "raw", "--stream=stdout"]);
    let raw = String::from_utf8(raw.stdout).unwrap();
    let masked = format!("{}{MASK}", &token[..KEPT]);
    assert_eq!(raw, format!("{id}\n<{masked}>\n{masked}"));
    let command = bastion.manifest(&id).unwrap()["session"]["command"].clone();
    assert!(command.as_str().unwrap().contains(&masked), "{command}");
    let masks = masks(&bastion, &id);
    for stream in ["stdin", "stdout", "stderr"] {
        let of_stream: Vec<&Value> = masks
            .iter()
            .filter(|mask| mask["stream"] == stream)
            .collect();
        let times = if stream == "stdout" { 2 } else { 1 };
        let length: u64 = of_stream
            .iter()
            .map(|mask| mask["length"].as_u64().unwrap())
            .sum();
        assert_eq!(length, times * (token.len() - KEPT) as u64, "{masks:?}");
        assert_eq!(of_stream.last().unwrap()["jti"], jti.as_str());
    }
    // The totals are of what was, not of what is on record.
    let totals = &bastion.manifest(&id).unwrap()["totals"];
    assert_eq!(totals["stdoutBytes"], (27 + ran.stdout.len()) as u64);
    assert_eq!(totals["stderrBytes"], ran.stderr.len() as u64);
    assert_eq!(totals["stdinBytes"], (token.len() + 1) as u64);
}

#[test]
fn what_only_begins_like_a_token_is_recorded_byte_for_byte() {
    let bastion = Bastion::start();
    let token = token(&bastion);
    let claims = token.rfind('.').unwrap();
    let script = format!("printf '%s ~' {} {}", &token[..claims], &token[..40]);
    let (id, ran) = run(&bastion, &script, "");
    let raw = bastion.cli(&["export", &id, "--as", "raw", "--stream=stdout"]);
    assert_eq!(
        String::from_utf8(raw.stdout).unwrap(),
        format!("{id}\n{}", ran.stdout)
    );
    assert_eq!(masks(&bastion, &id), [Value::Null; 0]);
}

#[test]
fn a_token_that_stops_in_the_midst_is_shown_soon_and_masked_as_far_as_it_came() {
    let bastion = Bastion::start();
    let token = token(&bastion);
    let mut running = Running::start(&bastion, "operator-a", "viewer", "cat");
    let id = running.id.clone();
    running.send(&token[..200]);
    // The client has it although nothing follows: `cat` sends back what it was sent, and its record says so.
    eventually("a mask", || {
        masks(&bastion, &id)
            .iter()
            .any(|mask| mask["stream"] == "stdout")
            .then_some(())
    });
    running.send(&token[200..]);
    running.close_stdin();
    let ran = running.wait();
    assert_eq!(ran.stdout, token);
    eventually("a sealed recording", || bastion.manifest(&id));
    holds_nothing_of(&bastion, &id, &token);
}

#[test]
fn a_token_that_is_pasted_at_a_prompt_is_masked_where_readline_breaks_it() {
    let bastion = Bastion::start();
    let token = token(&bastion);
    let mut ssh = bastion.ssh("operator-a", "viewer");
    ssh.arg("-tt");
    let mut terminal = Terminal::start(ssh, 80, 24);
    terminal.expect("$ ");
    terminal.send("echo id=$BASTION_SESSION=\r");
    terminal.expect("id=0");
    let id = format!("0{}", terminal.expect("="));
    terminal.expect("$ ");
    terminal.send(&format!("t={token}; echo ${{#t}}\r"));
    terminal.expect(&format!("{}\r\n", token.len()));
    terminal.send("exit\r");
    terminal.wait();
    eventually("a sealed recording", || bastion.manifest(&id));
    holds_nothing_of(&bastion, &id, &token);
    assert!(!masks(&bastion, &id).is_empty());
}

#[test]
fn the_bearer_of_a_kubeconfig_is_masked() {
    let bastion = Bastion::with(with_tunnels);
    let ran = bastion.run_ssh("operator-a", "viewer", "bastion kubeconfig");
    let bearer = ran.stdout.split("\"token\": \"").nth(1);
    let bearer = bearer.unwrap_or_else(|| panic!("{ran:?}"));
    let bearer = bearer.split('"').next().unwrap();
    let (id, ran) = run(&bastion, "cat", &ran.stdout);
    assert!(ran.stdout.contains(bearer));
    holds_nothing_of(&bastion, &id, bearer);
    assert!(bastion.cast(&id).contains(MASK));
}

/// In the body of a request, in a query, and through a pod.
#[test]
fn what_goes_to_the_cluster_is_recorded_without_tokens() {
    let bastion = Bastion::start();
    let token = token(&bastion);
    let script = format!(
        "echo $BASTION_SESSION; t={token}; \
         kubectl create configmap masked-$$ -n bastion-editor --from-literal=t=$t --dry-run=server -o name; \
         kubectl get pods -n bastion-editor -l t!=x --field-selector metadata.name=$t; true"
    );
    let ran = bastion.run_ssh("operator-b", "editor", &script);
    let id = ran.stdout.lines().next().unwrap().to_owned();
    eventually("a sealed recording", || bastion.manifest(&id));
    let index = bastion.requests(&id);
    assert!(index.contains(MASK), "{index}");
    // Of the middle of a token, pieces are the base64 of names that are anybody's to know.
    let secret = token.rsplit('.').next().unwrap();
    holds_nothing_of(&bastion, &id, secret);
}

/// Over both protocols of kubectl.
#[test]
fn what_a_pod_says_is_masked_in_the_recording_of_the_stream() {
    let bastion = Bastion::start();
    let token = token(&bastion);
    let pod = super::streams::pod();
    for setting in ["", "export KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false; "] {
        let script = format!(
            "{setting}echo $BASTION_SESSION; printf %s {token} | kubectl exec -i {pod} -- sh -c \
             'read -r t; printf %s \"$t\"; printf %s \"$t\" >&2; head -c 300 /dev/zero | tr \"\\0\" x; echo; \
             printf %.100s \"$t\"; sleep 0.5; echo'; true"
        );
        let ran = bastion.run_ssh("operator-b", "editor", &script);
        let (id, stdout) = ran.stdout.split_once('\n').unwrap();
        let x = "x".repeat(300);
        assert_eq!(
            stdout,
            format!("{token}{x}\n{}\n", &token[..100]),
            "{ran:?}"
        );
        assert!(ran.stderr.contains(&token));
        let manifest = eventually("a sealed recording", || bastion.manifest(id));
        let child = manifest["requests"]["children"][0]["session"].as_str();
        let child = child.unwrap_or_else(|| panic!("{manifest}"));
        for id in [id, child] {
            holds_nothing_of(&bastion, id, &token);
        }
        let streams: Vec<Value> = masks(&bastion, child)
            .into_iter()
            .map(|mask| mask["stream"].clone())
            .collect();
        for stream in ["stdin", "stdout", "stderr"] {
            assert!(streams.contains(&stream.into()), "{streams:?}");
        }
    }
}
