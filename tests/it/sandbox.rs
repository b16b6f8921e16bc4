//! What an operator's command can reach: its own, and nothing of the daemon's, of other sessions or of the network.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::cluster::ControlPlane;
use crate::harness::processes::{running, status};
use crate::harness::running::Running;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Seconds that nobody else sleeps: what a process is known by.
fn unique(n: u32) -> u32 {
    1_000_000 + std::process::id() * 100 + n
}

#[test]
fn nothing_of_the_daemons_can_be_read() {
    for bastion in Bastion::each() {
        let secrets = [
            bastion.path().join("keys/host"),
            bastion.path().join("test.kubeconfig"),
            bastion.config_path(),
            bastion.state_dir().join("recordings"),
            bastion.state_dir().join("audit.jsonl"),
            bastion.state_dir().join("admin.sock"),
            bastion.state_dir().join("run"),
            bastion.state_dir(),
            bastion.path().to_owned(),
        ];
        for path in &secrets {
            assert!(path.exists(), "{}", path.display());
            for way in ["", "/proc/1/root", "/proc/self/root", "/proc/$PPID/root"] {
                let look = format!("ls -d {way}{} 2>&1", path.display());
                let ran = bastion.run_ssh("operator-a", "viewer", &look);
                assert_eq!(ran.code, Some(2), "{look}: {ran:?}");
                // Process 1 is nobody's to look into, and the command's parent.
                let why = match way {
                    "" | "/proc/self/root" => "No such file",
                    _ => "Permission denied",
                };
                assert!(ran.stdout.contains(why), "{look}: {ran:?}");
            }
        }
        // Wherever it might lie: no file holds the beginning of a private key, no socket has that name.
        let search = "find / -xdev -name admin.sock 2>/dev/null; \
                      grep -rIlsF -e 'OPENSSH PRIVATE KEY' /home /tmp /run /etc /opt /var /root; \
                      find / -xdev -newermt '-1 hour' -type f -name '*.cast' 2>/dev/null; true";
        let ran = bastion.run_ssh("operator-a", "viewer", search);
        assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(0)), "{ran:?}");
    }
}

#[test]
fn neither_the_daemon_nor_other_sessions_are_seen() {
    for bastion in Bastion::each() {
        let other = format!("sleep {}", unique(1));
        let background = Running::start(bastion, "operator-b", "editor", &format!("exec {other}"));
        let there = eventually("the other session's command", || running(&other).pop());
        let pid = bastion.pid();

        let look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '";
        let ran = bastion.run_ssh("operator-a", "viewer", look);
        assert!(ran.stdout.contains("sandbox-init"), "its own: {ran:?}");
        assert!(!ran.stdout.contains(&other), "{ran:?}");
        assert!(!ran.stdout.contains("serve --config"), "{ran:?}");

        for (host_pid, what) in [(pid, "the daemon"), (there, "another session's")] {
            let touch = format!(
                "cat /proc/{host_pid}/environ || cat /proc/{host_pid}/maps || kill -0 {host_pid}"
            );
            let ran = bastion.run_ssh("operator-a", "viewer", &touch);
            assert_eq!(
                (ran.code, ran.stdout.as_str()),
                (Some(1), ""),
                "{what}: {ran:?}"
            );
            assert!(ran.stderr.contains("No such process"), "{what}: {ran:?}");
        }
        // Nor by the host's names of what belongs to the other session.
        let dir = bastion.state_dir().join("run").join(&background.id);
        assert!(dir.join("kubeconfig").exists());
        let look = format!(
            "ls /run/bastion/../*/ {}; cat {}/kubeconfig",
            dir.display(),
            dir.display()
        );
        let ran = bastion.run_ssh("operator-a", "viewer", &look);
        assert!(!ran.stdout.contains(&background.id), "{ran:?}");
        assert_eq!(ran.code, Some(1));
    }
}

#[test]
fn sessions_run_under_uids_of_their_own() {
    if !is_root() {
        println!("skipped: only a daemon that is root can give each session an OS uid");
        return;
    }
    let bastion = Bastion::shared();
    let commands = [unique(2), unique(3)].map(|n| format!("sleep {n}"));
    let sessions = commands
        .each_ref()
        .map(|command| Running::start(bastion, "operator-a", "viewer", &format!("exec {command}")));
    let uids = commands.each_ref().map(|command| {
        let pid = eventually("the command", || running(command).pop());
        let uids = status(pid, "Uid");
        let uids: Vec<u32> = uids.split('\t').map(|uid| uid.parse().unwrap()).collect();
        assert!(uids.iter().all(|uid| *uid == uids[0]), "{uids:?}");
        assert!(uids[0] >= 1000, "{uids:?}");
        let groups = status(pid, "Groups");
        assert!(!groups.split(' ').any(|group| group == "0"), "{groups:?}");
        uids[0]
    });
    assert_ne!(uids[0], uids[1]);
    // Were a sandbox to fail, the uid would still find nothing.
    let other = &sessions[1];
    let state = bastion.state_dir();
    for path in [
        state.clone(),
        state.join("recordings"),
        state.join("run"),
        state.join("run").join(&other.id),
        bastion.path().join("keys"),
    ] {
        let uid = format!("--reuid={}", uids[0]);
        let gid = format!("--regid={}", uids[0]);
        let look = Command::new("setpriv")
            .args([&uid, &gid, "--clear-groups", "ls"])
            .arg(&path)
            .output()
            .unwrap();
        let ran = Ran::from(look);
        assert!(
            ran.stderr.contains("Permission denied"),
            "{}: {ran:?}",
            path.display()
        );
    }
}

#[test]
fn a_command_has_no_privileges_and_a_root_that_cannot_be_written() {
    for bastion in Bastion::each() {
        let ran = bastion.run_ssh(
            "operator-a",
            "viewer",
            "grep -E '^(Cap|NoNewPrivs)' /proc/self/status; id -u; hostname",
        );
        let mut lines: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(lines.pop(), Some("bastion"));
        assert_eq!(lines.pop(), Some("1000"));
        assert_eq!(lines.pop(), Some("NoNewPrivs:\t1"), "{ran:?}");
        assert_eq!(lines.len(), 5, "{ran:?}");
        for line in lines {
            assert!(line.ends_with("\t0000000000000000"), "{line}");
        }
        for path in [
            "/usr/new",
            "/usr/bin/new",
            "/etc/new",
            "/new",
            "/opt/bastion/bin/kubectl",
            "/run/bastion/new",
        ] {
            let ran = bastion.run_ssh("operator-a", "viewer", &format!("echo x >> {path}"));
            assert_eq!(ran.code, Some(1), "{path}: {ran:?}");
            let why = ["Read-only file system", "Permission denied"];
            assert!(
                why.iter().any(|why| ran.stderr.contains(why)),
                "{path}: {ran:?}"
            );
        }
        let ran = bastion.run_ssh(
            "operator-a",
            "viewer",
            "echo mine > ~/file && echo too > /tmp/file && cat ~/file /tmp/file && ls ~ /tmp",
        );
        assert_eq!(ran.code, Some(0), "{ran:?}");
        // Both are gone with the session.
        let ran = bastion.run_ssh("operator-a", "viewer", "ls -A ~ /tmp");
        assert!(!ran.stdout.contains("file"), "{ran:?}");
    }
}

#[test]
fn a_commands_environment_is_clean() {
    for bastion in Bastion::each() {
        let ran = bastion.run_ssh("operator-a", "viewer", "env | cut -d= -f1 | sort");
        let names: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(
            names,
            [
                "BASTION_CLUSTER",
                "BASTION_IDENTITY",
                "BASTION_ROLE",
                "BASTION_SESSION",
                "HOME",
                "KUBECONFIG",
                "LANG",
                "LOGNAME",
                "PATH",
                "PWD",
                "SHELL",
                "SHLVL",
                "USER",
                "_"
            ]
        );
        // And no file of the daemon's is open in it.
        let look = "for p in /proc/[0-9]*; do readlink $p/fd/*; done 2>/dev/null | \
                    grep -vE '^(pipe|socket|anon_inode):|^/dev/|^/proc/'";
        let ran = bastion.run_ssh("operator-a", "viewer", look);
        assert_eq!(ran.stdout, "", "{ran:?}");
    }
}

#[test]
fn nothing_outlives_its_session() {
    for bastion in Bastion::each() {
        let sleeps: Vec<String> = (10..14).map(|n| format!("sleep {}", unique(n))).collect();
        let command = format!(
            "nohup {} >/dev/null 2>&1 & setsid {} >/dev/null 2>&1 & \
             (setsid sh -c '{} & disown; trap \"\" HUP TERM INT; exec {}' >/dev/null 2>&1 &) ; \
             sleep 0.5; ps -e | grep -c sleep",
            sleeps[0], sleeps[1], sleeps[2], sleeps[3]
        );
        let ran = bastion.run_ssh("operator-a", "viewer", &command);
        assert_eq!(ran.stdout, "4\n", "{ran:?}");
        for sleep in &sleeps {
            assert_eq!(running(sleep), Vec::<u32>::new(), "{sleep}");
        }
        // One that keeps the output open does not keep the session open either.
        let began = std::time::Instant::now();
        let holds = format!("sleep {} & echo done", unique(15));
        let ran = bastion.run_ssh("operator-a", "viewer", &holds);
        assert_eq!((ran.stdout.as_str(), ran.code), ("done\n", Some(0)));
        assert!(
            began.elapsed() < Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );
    }
}

/// As somebody would who wants to go on unrecorded when the session is over: process 1 of the sandbox dies with
/// bubblewrap because it asked for that, and whoever can trace it, stop it or end it can undo that.
#[test]
fn a_command_cannot_take_its_sandbox_over() {
    for bastion in Bastion::each() {
        let try_all = "ls /proc/1/fd /proc/1/root; cat /proc/1/environ /proc/1/mem /proc/1/maps; \
                       head -c1 /proc/1/syscall; kill -STOP 1; kill -KILL 1; kill -SEGV 1; sleep 0.2; \
                       grep ^State /proc/1/status; exit 3";
        let ran = bastion.run_ssh("operator-a", "viewer", try_all);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        assert_eq!(ran.stdout.trim_end(), "State:\tS (sleeping)", "{ran:?}");
        assert_eq!(
            ran.stderr.matches("Permission denied").count()
                + ran.stderr.matches("not permitted").count(),
            6,
            "{ran:?}"
        );
    }
}

/// Else it could type into the terminal at which the daemon was started (CVE-2017-5226).
#[test]
fn a_command_is_not_at_the_daemons_terminal() {
    for bastion in Bastion::each() {
        let ran = bastion.run_ssh(
            "operator-a",
            "viewer",
            "cut -d' ' -f6,7 /proc/self/stat; echo x > /dev/tty",
        );
        // A session of the sandbox's own, and no terminal; 0 would be a session of the outside.
        assert_eq!(ran.stdout, "1 0\n", "{ran:?}");
        assert!(ran.stderr.contains("/dev/tty: No such device"), "{ran:?}");
    }
}

#[test]
fn killing_a_sandbox_or_the_daemon_leaves_no_process() {
    let mut bastion = Bastion::start();
    let (one, other) = (
        format!("sleep {}", unique(20)),
        format!("sleep {}", unique(21)),
    );
    let stubborn = |sleep: &str| format!("trap '' HUP TERM; setsid {sleep} & {sleep}");
    let lost = Running::start(&bastion, "operator-a", "viewer", &stubborn(&one));
    let _kept = Running::start(&bastion, "operator-a", "viewer", &stubborn(&other));
    eventually("the commands", || {
        (running(&one).len() == 2 && running(&other).len() == 2).then_some(())
    });

    // bubblewrap itself: the daemon's child with this session's directory in its arguments.
    let bwrap = Command::new("pgrep")
        .args(["-P", &bastion.pid().to_string(), "-f", &lost.id])
        .output()
        .unwrap();
    let bwrap = String::from_utf8(bwrap.stdout).unwrap();
    assert_eq!(bwrap.lines().count(), 1, "{bwrap}");
    let status = Command::new("kill").args(["-KILL", bwrap.trim()]).status();
    assert!(status.unwrap().success());
    eventually("the end of its processes", || {
        running(&one).is_empty().then_some(())
    });
    let id = lost.id.clone();
    let ran = lost.wait();
    assert_eq!(ran.code, Some(255), "{ran:?}");
    bastion.event("session.closed", |event| event["session"] == id.as_str());
    assert_eq!(
        running(&other).len(),
        2,
        "another session is none of its business"
    );

    bastion.signal("KILL");
    bastion.wait();
    eventually("the end of all processes", || {
        running(&other).is_empty().then_some(())
    });
}

/// Connects from inside a sandbox. What became of that: empty, or bash's words.
fn connect(bastion: &Bastion, host: &str, port: u16) -> String {
    let connect = format!("timeout 5 bash -c ': < /dev/tcp/{host}/{port}' 2>&1; true");
    let ran = bastion.run_ssh("operator-a", "viewer", &connect);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout
}

#[test]
fn there_is_no_network_in_a_sandbox() {
    for bastion in Bastion::each() {
        let look = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tail -n +2 /proc/net/route; \
                    cat /etc/resolv.conf; getent hosts example.com; true";
        let ran = bastion.run_ssh("operator-a", "viewer", look);
        assert_eq!(
            ran.stdout, "lo\n",
            "an interface, a route or a name: {ran:?}"
        );
        assert!(
            ran.stderr.contains("/etc/resolv.conf: No such file"),
            "{ran:?}"
        );

        // This host's loopback, where the API server and the daemon itself listen.
        for port in [ControlPlane::shared().port(), bastion.port()] {
            std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            let said = connect(bastion, "127.0.0.1", port);
            assert!(said.contains("Connection refused"), "{port}: {said}");
        }
        // Metadata of clouds, and the rest of the world.
        let mut elsewhere = vec!["169.254.169.254".to_owned(), "192.0.2.1".to_owned()];
        let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if probe.connect("192.0.2.1:9").is_ok() {
            elsewhere.push(probe.local_addr().unwrap().ip().to_string());
        }
        for host in elsewhere {
            for port in [80, bastion.port()] {
                let said = connect(bastion, &host, port);
                assert!(said.contains("Network is unreachable"), "{host}: {said}");
            }
        }
        // What does lead somewhere.
        assert_eq!(connect(bastion, "127.0.0.1", 6443), "");
    }
}

/// They are names of a network namespace, not of a file system.
#[test]
fn abstract_sockets_of_the_host_are_not_seen() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("bastion-audit-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let connect = format!(
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0); \
         connect(S, pack(q(S a*), AF_UNIX, qq(\\0{name}))) and print q(connected) or print $!'"
    );
    let outside = Command::new("sh").args(["-c", &connect]).output().unwrap();
    assert_eq!(Ran::from(outside).stdout, "connected");
    let ran = Bastion::shared().run_ssh("operator-a", "viewer", &connect);
    assert_eq!(ran.stdout, "Connection refused", "{ran:?}");
}

/// Two sessions of one identity at once, as different roles: each finds its own way out at the same address, and no
/// other.
#[test]
fn another_sessions_way_to_the_cluster_cannot_be_reached() {
    for bastion in Bastion::each() {
        let editor = Running::start(bastion, "operator-a", "editor", "kubectl get ns -w -o name");
        let whoami = "kubectl auth whoami -o jsonpath={.status.userInfo.username}";
        let ran = bastion.run_ssh("operator-a", "viewer", whoami);
        let viewer = "system:serviceaccount:bastion-viewer:viewer";
        assert_eq!(ran.stdout, viewer, "{ran:?}");
        // Nothing in the file system leads to either; what there was when this one began is gone before a command runs.
        let look = "find / -xdev -type s 2>/dev/null; ls /run/bastion; grep -c :192B /proc/net/tcp";
        let ran = bastion.run_ssh("operator-a", "viewer", look);
        assert_eq!(
            ran.stdout, "bashrc\ngroup\nhosts\nkubeconfig\npasswd\n1\n",
            "{ran:?}"
        );
        let dir = bastion.state_dir().join("run").join(&editor.id);
        assert!(dir.join("kubeconfig").exists() && !dir.join("init.sock").exists());
    }
}

#[test]
fn without_bubblewrap_no_command_runs_and_the_rest_works() {
    let bastion = Bastion::with(|documents| {
        documents.replace(
            "sandbox: {tools: [bin/kubectl]}",
            "sandbox: {tools: [bin/kubectl], bubblewrap: /nonexistent/bwrap}",
        )
    });
    assert!(
        bastion
            .log()
            .contains("bastion-audit: operators' commands will not be run: /nonexistent/bwrap"),
        "{}",
        bastion.log()
    );
    for command in ["true", "kubectl get pods"] {
        let ran = bastion.run_ssh("operator-a", "viewer", command);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
        assert!(ran.stderr.contains("cannot run commands"), "{ran:?}");
    }
    // Nothing was minted for what could not run, and the reason is on record.
    bastion.event("session.failed", |event| event["step"] == "launch");
    let issued = |event: &Value| event["event"] == "lease.issued";
    assert!(!bastion.events().iter().any(issued));
    let ran = bastion.run_ssh("operator-a", "viewer", "bastion whoami");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = bastion.run_ssh("operator-a", "editor", "bastion credential");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(document["kind"], "ExecCredential");
}

#[test]
fn without_user_namespaces_no_command_runs_and_everybody_is_told() {
    if !is_root() {
        println!("skipped: only root can make a user namespace that allows no other");
        return;
    }
    let mut bastion = Bastion::prepare(|documents| documents);
    bastion.has_no_namespaces();
    bastion.run();
    let ran = bastion.run_ssh("operator-a", "viewer", "id");
    assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(255)), "{ran:?}");
    assert!(ran.stderr.contains("its sandbox does not work"), "{ran:?}");
    let failed = bastion.event("session.failed", |event| event["step"] == "launch");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("user namespaces"), "{reason}");
    // Words of the daemon's own run nothing.
    let ran = bastion.run_ssh("operator-a", "viewer", "bastion whoami");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(bastion.log().contains("user namespaces"));
}

/// Each of them has a shell, the same uid inside, and looks for the other by every way that there might be.
#[test]
fn two_hostile_sessions_find_nothing_of_each_other() {
    for bastion in Bastion::each() {
        let mark = format!("mark-{}", unique(30));
        // A file, a socket in the file system and one without, a port, shared memory, a message queue, a process with a name.
        let leave = format!(
            "echo {mark} > /tmp/{mark}; echo {mark} > /dev/shm/{mark}; echo {mark} > ~/{mark}; \
             perl -MIO::Socket::UNIX -e '$a = IO::Socket::UNIX->new(Local => \"/tmp/{mark}.sock\", Listen => 1); \
             $b = IO::Socket::UNIX->new(Local => \"\\0{mark}\", Listen => 1); \
             use IO::Socket::INET; $c = IO::Socket::INET->new(LocalAddr => \"127.0.0.1:7777\", Listen => 1); \
             $a && $b && $c or exit 1; $0 = \"{mark}\"; print \"left\n\"; sleep 1000'"
        );
        let one = Running::start(bastion, "operator-b", "editor", &leave);
        eventually("what it leaves", || running(&mark).pop());
        let look = format!(
            "ls -A /tmp /dev/shm ~ | grep {mark}; grep -c {mark} /proc/net/unix; \
             cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '{mark}$'; \
             timeout 2 bash -c ': < /dev/tcp/127.0.0.1/7777' 2>&1 | grep -q refused && echo refused; ipcs -qm | grep -c 0x; \
             for p in $(seq 1 400); do [ -d /proc/$p ] || kill -0 $p 2>&1; done | grep -vc 'No such process'"
        );
        let ran = bastion.run_ssh("operator-a", "viewer", &look);
        assert_eq!(ran.stdout, "0\n0\nrefused\n0\n0\n", "{ran:?}");
        // Nor can it end the other, by whatever number.
        let ran = bastion.run_ssh(
            "operator-a",
            "viewer",
            "kill -KILL -1; kill -KILL -- -1; exit 5",
        );
        assert!(ran.code.is_some());
        assert!(!running(&mark).is_empty(), "the other session goes on");
        drop(one);
        eventually("its end", || running(&mark).is_empty().then_some(()));
    }
}
