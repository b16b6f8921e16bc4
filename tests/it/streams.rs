//! exec, attach, cp, port-forward and debug through the gateway, with kubectl as it is, over WebSocket and over SPDY:
//! they work, and every byte is on record.

use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran};
use crate::harness::cluster::ControlPlane;
use crate::harness::terminal::Terminal;

/// What kubectl speaks unless told otherwise, and what it spoke before 1.30.
const PROTOCOLS: [(&str, &str); 2] = [
    ("v5.channel.k8s.io", ""),
    (
        "SPDY/3.1",
        "export KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false KUBECTL_PORT_FORWARD_WEBSOCKETS=false; ",
    ),
];

/// A namespace in which the role `editor` may do what it likes, with a pod that waits.
pub(super) fn pod() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let plane = ControlPlane::shared();
        plane.admin(&["create", "namespace", "streams"]);
        plane.admin(&[
            "create",
            "rolebinding",
            "edits",
            "-n",
            "streams",
            "--clusterrole=edit",
            "--serviceaccount=bastion-editor:editor",
        ]);
        plane.apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: box, namespace: streams}, \
             spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: none, stdin: true, \
             command: [sh, -c, 'echo ready; while read -r line; do echo \"got $line\"; done; sleep 3600']}]}}",
        );
        let wait = ["wait", "--for=condition=Ready", "pod/box", "-n", "streams", "--timeout=30s"];
        plane.admin(&wait);
    });
    "-n streams box"
}

/// A command of a session, and what is on record of its requests.
struct Done {
    ran: Ran,
    session: String,
    index: Vec<Value>,
}

impl Done {
    /// Outcomes with children, and their intents.
    fn streams(&self) -> Vec<(&Value, &Value)> {
        let of = |what: &'static str| {
            self.index
                .iter()
                .filter(move |line| line.get(what).is_some())
        };
        of("outcome")
            .filter_map(|outcome| {
                let asked = of("intent").find(|intent| intent["request"] == outcome["request"])?;
                let info = &asked["intent"]["info"];
                let stream = ["exec", "attach", "portforward"].map(Value::from);
                stream
                    .contains(&info["subresource"])
                    .then_some((&asked["intent"], &outcome["outcome"]))
            })
            .collect()
    }

    /// The one stream.
    fn stream(&self) -> (&Value, &Value) {
        let mut streams = self.streams();
        assert_eq!(streams.len(), 1, "{:?}", self.index);
        streams.remove(0)
    }
}

fn run(script: &str) -> Done {
    let bastion = Bastion::shared();
    let ran = bastion.run_ssh(
        "operator-a",
        "editor",
        &format!("echo $BASTION_SESSION; {script}"),
    );
    done(bastion, ran)
}

fn done(bastion: &Bastion, ran: Ran) -> Done {
    let session = ran
        .stdout
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    let index = bastion.requests(&session);
    Done {
        ran,
        session,
        index: index
            .lines()
            .skip(1)
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    }
}

/// What a child recording holds, raw.
fn raw(outcome: &Value, stream: &str) -> String {
    let child = outcome["children"][0].as_str().unwrap();
    let output = Bastion::shared().cli(&["export", child, "--as", "raw", "--stream", stream]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn manifest(outcome: &Value) -> Value {
    let child = outcome["children"][0].as_str().unwrap();
    Bastion::shared().manifest(child).unwrap()
}

#[test]
fn an_exec_is_recorded_whole_and_its_exit_status_is_its_own() {
    let pod = pod();
    for (protocol, how) in PROTOCOLS {
        let done = run(&format!(
            "{how}printf 'in\\n' | kubectl exec -i {pod} -- sh -c 'cat; echo err >&2; exit 7' 2> /tmp/err; \
             echo $?; cat /tmp/err"
        ));
        let text: Vec<&str> = done.ran.stdout.lines().skip(1).collect();
        assert_eq!(
            text,
            ["in", "7", "err", "command terminated with exit code 7"],
            "{:?}",
            done.ran
        );
        let (intent, outcome) = done.stream();
        assert_eq!(
            (&intent["protocol"], &outcome["status"]),
            (&protocol.into(), &101.into())
        );
        assert_eq!(intent["marks"], serde_json::json!(["exec"]));
        assert_eq!(
            (
                raw(outcome, "stdout").as_str(),
                raw(outcome, "stderr").as_str()
            ),
            ("in\n", "err\n")
        );
        let manifest = manifest(outcome);
        assert_eq!(manifest["ending"]["exit"], 7);
        assert_eq!(manifest["totals"]["stdinBytes"], 3, "{manifest}");
        assert_eq!(
            manifest["session"]["parent"]["session"],
            done.session.as_str()
        );
        assert_eq!(manifest["session"]["pod"]["name"], "box");
        assert!(outcome["bytesIn"].as_u64() >= Some(3) && outcome["bytesOut"].as_u64() >= Some(7));
        // Its cast has the input as well: this is what ran.
        let child = outcome["children"][0].as_str().unwrap();
        let cast = Bastion::shared().cast(child);
        assert!(cast.contains("\"i\", \"in\\n\""), "{cast}");
    }
}

#[test]
fn every_command_argument_is_kept_in_order() {
    let pod = pod();
    for (_, how) in PROTOCOLS {
        let done = run(&format!(
            "{how}kubectl exec {pod} -- printf '%s|' a 'b c' '' 'd&e=+%41' \"f'g\""
        ));
        assert!(
            done.ran.stdout.ends_with("a|b c||d&e=+%41|f'g|"),
            "{:?}",
            done.ran
        );
        let (intent, outcome) = done.stream();
        let command: Vec<&Value> = intent["query"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|pair| pair[0] == "command")
            .map(|pair| &pair[1])
            .collect();
        let expected = ["printf", "%s|", "a", "b c", "", "d&e=+%41", "f'g"];
        assert_eq!(
            command,
            expected.map(Value::from).iter().collect::<Vec<_>>()
        );
        let kept = &manifest(outcome)["session"]["pod"]["command"];
        assert_eq!(*kept, serde_json::json!(expected));
    }
}

/// Others take the client's word, in a header or in the command's name, and record nothing.
#[test]
fn a_command_that_looks_like_a_copy_is_recorded_like_any_other() {
    let pod = pod();
    for (_, how) in PROTOCOLS {
        let done = run(&format!("{how}kubectl exec {pod} -- tar --version"));
        let (_, outcome) = done.stream();
        let said = raw(outcome, "stdout");
        assert!(
            said.starts_with("tar ") && done.ran.stdout.ends_with(&said),
            "{:?}",
            done.ran
        );
    }
}

#[test]
fn bytes_that_are_no_text_survive_and_are_on_record() {
    let pod = pod();
    for (_, how) in PROTOCOLS {
        let done = run(&format!(
            "{how}head -c 3000000 /dev/urandom > /tmp/in; kubectl exec -i {pod} -- cat < /tmp/in > /tmp/out; \
             cmp /tmp/in /tmp/out && sha256sum < /tmp/in | cut -c1-64"
        ));
        let digest = done
            .ran
            .stdout
            .lines()
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        assert_eq!(digest.len(), 64, "{:?}", done.ran);
        let (_, outcome) = done.stream();
        let child = outcome["children"][0].as_str().unwrap();
        let output = Bastion::shared().cli(&["export", child, "--as", "raw"]);
        let kept = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &output.stdout);
        let hex: String = kept
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, digest);
        assert_eq!(manifest(outcome)["totals"]["stdinBytes"], 3_000_000);
    }
}

#[test]
fn a_terminal_in_a_pod_is_a_recording_that_plays_by_itself() {
    let pod = pod();
    let bastion = Bastion::shared();
    for (_, how) in PROTOCOLS {
        let mut login = bastion.ssh("operator-a", "editor");
        login.arg("-tt");
        let mut terminal = Terminal::start(login, 93, 31);
        terminal.expect("$");
        terminal.send(&format!(
            "{}\r",
            &format!("{how}echo id=$BASTION_SESSION; kubectl exec -it {pod} -- sh")
        ));
        terminal.expect("id=01");
        let session = format!("01{}", terminal.expect("\r\n"));
        terminal.expect("# ");
        terminal.send("stty size; echo in-$((1+1))-pod\r");
        terminal.expect("in-2-pod");
        terminal.resize(101, 37);
        terminal.send(&format!("{}\r", "sleep 0.5; stty size; exit 3"));
        terminal.expect("37 101");
        terminal.expect("exit code 3");
        terminal.send(&format!("{}\r", "exit"));
        terminal.wait();
        let ran = Ran {
            stdout: session,
            stderr: String::new(),
            code: None,
        };
        let done = done(bastion, ran);
        let (_, outcome) = done.stream();
        let child = outcome["children"][0].as_str().unwrap();
        let cast = bastion.cast(child);
        let header: Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
        assert_eq!(header["version"], 3);
        // Width by height; the first is the session's own.
        let term = &header["term"];
        assert_eq!((&term["cols"], &term["rows"]), (&93.into(), &31.into()));
        assert!(cast.contains("\"r\", \"101x37\""), "{cast}");
        assert!(cast.contains("31 93") && cast.contains("37 101"), "{cast}");
        assert!(!cast.contains("\"i\","), "keystrokes at a terminal: {cast}");
        assert_eq!(manifest(outcome)["ending"]["exit"], 3);
    }
}

#[test]
fn copies_are_on_record_file_by_file() {
    let pod = "streams/box";
    self::pod();
    for (at, (_, how)) in PROTOCOLS.into_iter().enumerate() {
        // The pod's files are this host's.
        let place = format!("streams-{}-{at}", std::process::id());
        let done = run(&format!(
            "{how}mkdir -p /tmp/d; printf one > /tmp/d/one; printf two22 > /tmp/d/two; \
             kubectl cp /tmp/d {pod}:/tmp/{place} && kubectl cp {pod}:/tmp/{place}/two /tmp/back && cat /tmp/back; \
             kubectl exec -n streams box -- rm -r /tmp/{place}"
        ));
        assert!(done.ran.stdout.ends_with("two22"), "{:?}", done.ran);
        let mut files: Vec<String> = done
            .index
            .iter()
            .flat_map(|line| [&line["outcome"]["files"], &line["note"]["files"]])
            .filter_map(Value::as_array)
            .flatten()
            .filter(|file| !file["sha256"].is_null())
            .map(|file| {
                format!(
                    "{} {} {} {}",
                    file["direction"], file["name"], file["bytes"], file["sha256"]
                )
            })
            .collect();
        files.sort_unstable();
        let name = |file: &str| format!("{place}/{file}");
        let expected = [
            ("fromPod", format!("tmp/{}", name("two")), 5, "two22"),
            ("toPod", name("one"), 3, "one"),
            ("toPod", name("two"), 5, "two22"),
        ];
        assert_eq!(files.len(), 3, "{files:?}");
        for (file, (direction, name, bytes, content)) in files.iter().zip(expected) {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content.as_bytes());
            let hex: String = digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert!(
                file.starts_with(&format!("\"{direction}\" "))
                    && file.contains(&name)
                    && file.ends_with(&format!(" {bytes} \"{hex}\"")),
                "{file}: {direction} {name} {bytes} {hex}"
            );
        }
    }
}

#[test]
fn a_forwarded_port_carries_bytes_and_is_on_record() {
    self::pod();
    for (at, (protocol, how)) in PROTOCOLS.into_iter().enumerate() {
        // A server in the pod, which runs on this host: any port of ours.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = server.accept().unwrap();
            let mut asked = [0; 5];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(b"pong!!!").unwrap();
            asked
        });
        let local = 7000 + at;
        let done = run(&format!(
            "{how}kubectl port-forward -n streams box {local}:{port} > /tmp/said 2>&1 & \
             for i in $(seq 100); do grep -q Forwarding /tmp/said 2> /dev/null && break; sleep 0.1; done; \
             exec 3<>/dev/tcp/127.0.0.1/{local}; printf ping. >&3; head -c 7 <&3; exec 3>&-; sleep 0.5; kill %1; wait; true"
        ));
        assert!(done.ran.stdout.contains("pong!!!"), "{:?}", done.ran);
        assert_eq!(&serving.join().unwrap(), b"ping.");
        let (intent, outcome) = done.stream();
        let spoken = if protocol == "SPDY/3.1" {
            protocol
        } else {
            "SPDY/3.1+portforward.k8s.io"
        };
        assert_eq!(intent["protocol"], spoken);
        assert_eq!(intent["marks"], serde_json::json!(["portForward"]));
        let forwarded = &outcome["forwards"][0];
        assert_eq!(forwarded["port"], port);
        assert_eq!(
            (&forwarded["bytesIn"], &forwarded["bytesOut"]),
            (&5.into(), &7.into()),
            "{outcome}"
        );
    }
}

#[test]
fn attach_and_debug_are_recorded_like_an_exec() {
    let pod = pod();
    for (at, (_, how)) in PROTOCOLS.into_iter().enumerate() {
        let done = run(&format!(
            "{how}(echo word-{at}; sleep 1) | timeout 5 kubectl attach -i {pod} 2> /dev/null; true"
        ));
        assert!(
            done.ran.stdout.contains(&format!("got word-{at}")),
            "{:?}",
            done.ran
        );
        let (intent, outcome) = done.stream();
        assert_eq!(intent["info"]["subresource"], "attach");
        assert!(raw(outcome, "stdout").contains(&format!("got word-{at}")));
        assert_eq!(manifest(outcome)["session"]["kind"], "podAttach");
    }
}

#[test]
fn a_session_that_is_killed_cuts_its_exec_and_the_record_says_so() {
    use crate::harness::running::Running;
    let pod = pod();
    let bastion = Bastion::shared();
    for (_, how) in PROTOCOLS {
        let script = format!("{how}kubectl exec {pod} -- sh -c 'echo begun; sleep 1000'");
        let running = Running::start(bastion, "operator-a", "editor", &script);
        let session = running.id.clone();
        let index = || {
            let path = bastion.recording(&session)?.join("requests.jsonl");
            let text = std::fs::read_to_string(path).ok()?;
            text.contains("\"child\"").then_some(text)
        };
        crate::harness::bastion::eventually("the stream", index);
        assert!(bastion.cli(&["kill", &session]).status.success());
        running.wait();
        let ran = Ran {
            stdout: session.clone(),
            stderr: String::new(),
            code: None,
        };
        let done = done(bastion, ran);
        let (_, outcome) = done.stream();
        assert_eq!(outcome["error"], "the session ended", "{outcome}");
        let ending = &manifest(outcome)["ending"]["cut"]["reason"];
        assert_eq!(*ending, "the session ended");
    }
}
