//! What is left of the kernel in a sandbox, and how much of the machine one session can take.

use std::time::Duration;

use bastion_audit::launch::confine::supported_landlock_abi;

use crate::harness::bastion::{Bastion, Ran, eventually};
use crate::harness::processes::running;
use crate::harness::running::Running;

/// Makes each system call in a sandbox, by number and arguments. What it came to: `NAME: ERRNO`, 0 if it went well.
fn call(calls: &[(&str, i64, &[i64])]) -> Vec<String> {
    let script = r#"perl -e 'for (@ARGV) { my ($name, $number, @rest) = split /,/;
        my $done = syscall($number, map { $_ + 0 } @rest); print "$name: ", $done < 0 ? $! + 0 : 0, "\n" }'"#;
    let arguments: Vec<String> = calls
        .iter()
        .map(|(name, number, arguments)| {
            let arguments: Vec<_> = arguments.iter().map(i64::to_string).collect();
            format!("{name},{number},{}", arguments.join(","))
        })
        .collect();
    let command = format!("{script} {}", arguments.join(" "));
    let ran = Bastion::shared().run_ssh("operator-a", "viewer", &command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.lines().map(str::to_owned).collect()
}

fn come_to(errno: i32, calls: &[(&str, i64, &[i64])]) {
    let expected: Vec<_> = calls
        .iter()
        .map(|(name, ..)| format!("{name}: {errno}"))
        .collect();
    assert_eq!(call(calls), expected);
}

#[test]
fn system_calls_that_reach_beyond_a_session_are_not_permitted() {
    let namespaces = [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("network", libc::CLONE_NEWNET),
        ("pid", libc::CLONE_NEWPID),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ];
    for (name, flag) in namespaces {
        let flag = i64::from(flag);
        come_to(
            libc::EPERM,
            &[
                (name, libc::SYS_unshare, &[flag]),
                (name, libc::SYS_clone, &[flag | 17, 0, 0, 0, 0]),
            ],
        );
    }
    come_to(
        libc::EPERM,
        &[
            ("setns", libc::SYS_setns, &[0, 0]),
            ("mount", libc::SYS_mount, &[0, 0, 0, 0, 0]),
            ("umount2", libc::SYS_umount2, &[0, 0]),
            ("open_tree", libc::SYS_open_tree, &[0, 0, 1]),
            ("fsopen", libc::SYS_fsopen, &[0, 0]),
            ("pivot_root", libc::SYS_pivot_root, &[0, 0]),
            ("chroot", libc::SYS_chroot, &[0]),
            ("ptrace", libc::SYS_ptrace, &[0, 0, 0, 0]),
            (
                "process_vm_readv",
                libc::SYS_process_vm_readv,
                &[1, 0, 0, 0, 0, 0],
            ),
            (
                "process_vm_writev",
                libc::SYS_process_vm_writev,
                &[1, 0, 0, 0, 0, 0],
            ),
            ("pidfd_getfd", libc::SYS_pidfd_getfd, &[0, 0, 0]),
            ("kcmp", libc::SYS_kcmp, &[1, 1, 0, 0, 0]),
            ("bpf", libc::SYS_bpf, &[0, 0, 0]),
            (
                "perf_event_open",
                libc::SYS_perf_event_open,
                &[0, 0, -1, -1, 0],
            ),
            ("keyctl", libc::SYS_keyctl, &[0, -3, 0]),
            ("add_key", libc::SYS_add_key, &[0, 0, 0, 0, 0]),
            ("request_key", libc::SYS_request_key, &[0, 0, 0, 0]),
            ("io_uring_setup", libc::SYS_io_uring_setup, &[1, 0]),
            ("userfaultfd", libc::SYS_userfaultfd, &[1]),
            ("init_module", libc::SYS_init_module, &[0, 0, 0]),
            ("finit_module", libc::SYS_finit_module, &[0, 0, 0]),
            ("kexec_load", libc::SYS_kexec_load, &[0, 0, 0, 0]),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, &[0, 0, 0]),
            ("syslog", libc::SYS_syslog, &[3, 0, 0]),
            ("personality", libc::SYS_personality, &[0x0040000]),
        ],
    );
    // By another way to say it, and as numbers that no list has.
    come_to(
        libc::ENOSYS,
        &[
            ("clone3", libc::SYS_clone3, &[0, 0]),
            (
                "name_to_handle_at",
                libc::SYS_name_to_handle_at,
                &[0, 0, 0, 0, 0],
            ),
            ("unknown", 4000, &[]),
        ],
    );
}

#[test]
fn sockets_that_are_not_for_a_session_are_not_permitted() {
    let socket = libc::SYS_socket;
    let [stream, raw] = [libc::SOCK_STREAM, libc::SOCK_RAW].map(i64::from);
    come_to(
        libc::EPERM,
        &[
            // To the hypervisor.
            ("vsock", socket, &[40, stream, 0]),
            // The kernel's own ciphers.
            ("alg", socket, &[38, 5, 0]),
            ("packet", socket, &[17, raw, 0]),
            ("raw", socket, &[2, raw, 1]),
            ("raw6", socket, &[10, raw | 0o2_000_000, 58]),
            ("netfilter", socket, &[16, raw, 12]),
            ("bluetooth", socket, &[31, raw, 0]),
        ],
    );
    come_to(
        0,
        &[
            ("unix", socket, &[1, stream, 0]),
            ("tcp", socket, &[2, stream, 0]),
            ("udp6", socket, &[10, 2, 0]),
            ("routes", socket, &[16, raw, 0]),
        ],
    );
}

#[test]
fn nothing_is_typed_into_a_terminal_for_somebody_else() {
    let bastion = Bastion::shared();
    // TIOCSTI, and with what an attacker may put above the half that counts.
    let script = "perl -e 'for (0x5412, 0x5412 | (1 << 40)) { my $x = qq(x); syscall(16, 0, $_, $x); print $! + 0, qq( ) }'; \
                  echo out > /dev/stdout; echo tty > /dev/tty; echo err > /dev/stderr";
    let output = bastion
        .ssh("operator-a", "viewer")
        .args(["-tt", script])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let ran = Ran::from(output);
    if cfg!(target_arch = "x86_64") {
        assert!(ran.stdout.starts_with("1 1 "), "{ran:?}");
    }
    // While whoever has the terminal may open it by every name that it has.
    assert!(ran.stdout.ends_with("out\r\ntty\r\nerr\r\n"), "{ran:?}");
}

/// Mounts alone would let it write there.
#[test]
fn landlock_says_where_a_command_may_write() {
    if supported_landlock_abi().unwrap() == 0 {
        println!("skipped: this kernel has no Landlock, and the daemon runs no commands");
        return;
    }
    let bastion = Bastion::shared();
    let script = "echo 500 > /proc/self/oom_score_adj; mkdir ~/a ~/b && echo x > ~/a/f && mv ~/a/f ~/b/g && \
                  truncate -s 1 ~/b/g && cp ~/b/g /tmp/h && ln -s /tmp/h ~/l && mkfifo ~/p && rm -r ~/a ~/b ~/l ~/p && echo done";
    let ran = bastion.run_ssh("operator-a", "viewer", script);
    assert!(
        ran.stderr.contains("oom_score_adj: Permission denied"),
        "{ran:?}"
    );
    assert_eq!(ran.stdout, "done\n", "{ran:?}");
}

#[test]
fn with_less_landlock_than_is_needed_no_command_runs() {
    let has = supported_landlock_abi().unwrap();
    if has >= 8 {
        println!("skipped: this kernel has all that can be asked for");
        return;
    }
    let with = |abi: u8| {
        Bastion::with(move |documents| {
            let wanted = format!("sandbox: {{landlockAbi: {abi}, tools: [bin/kubectl]}}");
            documents.replace("sandbox: {tools: [bin/kubectl]}", &wanted)
        })
    };
    let bastion = with(8);
    let said = format!(
        "operators' commands will not be run: the sandbox cannot be confined: bastion-audit: \
         this kernel has Landlock ABI {has} (0: none, or not enabled at boot), and spec.sandbox.landlockAbi asks for 8"
    );
    assert!(bastion.log().contains(&said), "{}", bastion.log());
    let ran = bastion.run_ssh("operator-a", "viewer", "true");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(255), ""), "{ran:?}");
    let checked = Ran::from(bastion.cli(&["check"]));
    let said = format!("FAIL  Landlock: ABI {has}");
    assert!(checked.stdout.contains(&said), "{checked:?}");

    // And where none is asked for, there is none.
    let ran = with(0).run_ssh(
        "operator-a",
        "viewer",
        "echo 500 > /proc/self/oom_score_adj",
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn limits_are_what_was_configured_and_cannot_be_raised() {
    let bastion = Bastion::shared();
    let script = "ulimit -c; ulimit -n; ulimit -u; ulimit -d; ulimit -n 5000; ulimit -u 1000";
    let ran = bastion.run_ssh("operator-a", "viewer", script);
    assert_eq!(ran.stdout, "0\n4096\n512\n4194304\n", "{ran:?}");
    assert_eq!(ran.stderr.matches("not permitted").count(), 2, "{ran:?}");
    let takes_too_much = "perl -e '$all = q(x) x (5 << 30); print length $all'";
    let ran = bastion.run_ssh("operator-a", "viewer", takes_too_much);
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert!(ran.stderr.contains("Out of memory"), "{ran:?}");
}

#[test]
fn a_fork_bomb_is_its_own_sessions_business() {
    let bastion = Bastion::shared();
    let sleep = format!("sleep {}", 2_000_000 + std::process::id());
    // As many as it can, each of which stays.
    let bomb = format!("while {sleep} & do n=$((n+1)); done; wait");
    let mut session = Running::start(bastion, "operator-a", "viewer", &bomb);
    eventually("as many as there may be", || {
        (running(&sleep).len() > 400).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    assert!(running(&sleep).len() <= 512);
    // One of the same identity and role is as before.
    let ran = bastion.run_ssh("operator-a", "viewer", "kubectl get ns -o name | head -1");
    assert_eq!(
        (ran.code, ran.stdout.is_empty()),
        (Some(0), false),
        "{ran:?}"
    );
    session.kill();
    eventually("the end of them all", || {
        running(&sleep).is_empty().then_some(())
    });

    // The one that everybody knows: ended like any other session.
    let mut session = Running::start(bastion, "operator-a", "viewer", ":() { :|:& }; :; sleep 60");
    std::thread::sleep(Duration::from_secs(2));
    let ran = bastion.run_ssh("operator-b", "editor", "echo still here");
    assert_eq!(ran.stdout, "still here\n", "{ran:?}");
    session.kill();
    bastion.event("session.closed", |event| {
        event["session"] == session.id.as_str()
    });
}

#[test]
fn memory_in_files_is_bounded() {
    let bastion = Bastion::shared();
    for (path, most) in [
        ("/tmp/f", 256),
        ("~/f", 256),
        ("/run/f", 16),
        ("/dev/shm/f", 16),
    ] {
        let fill = format!("head -c 300M /dev/zero > {path}; stat -c %s {path}");
        let ran = bastion.run_ssh("operator-a", "viewer", &fill);
        assert!(ran.stderr.contains("No space left on device"), "{ran:?}");
        let bytes: u64 = ran.stdout.trim().parse().unwrap();
        assert!(bytes <= most << 20 && bytes > most << 19, "{path}: {bytes}");
    }
    let ran = bastion.run_ssh(
        "operator-a",
        "viewer",
        "echo x > /dev/f; echo x > /dev/null",
    );
    assert!(
        ran.stderr.contains("/dev/f: Read-only file system"),
        "{ran:?}"
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// What operators use. A program that is not installed here is not tried.
#[test]
fn programs_work_within_all_that() {
    let bastion = Bastion::shared();
    let run = |name: &str, script: &str, says: &str| {
        let command = format!("command -v {name} >/dev/null || exit 77; {script}");
        let ran = bastion.run_ssh("operator-a", "viewer", &command);
        if ran.code == Some(77) {
            println!("{name} is not here");
            return;
        }
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(0), says),
            "{name}: {ran:?}"
        );
    };
    run(
        "bash",
        "sleep 1 & kill -STOP %1; kill -CONT %1; wait; cat <(echo sub) <<< x; echo {1..3}",
        "sub\n1 2 3\n",
    );
    run(
        "kubectl",
        "kubectl get ns default -o name; kubectl version --client -o json | head -1",
        "namespace/default\n{\n",
    );
    run(
        "git",
        "cd && git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one && git log --format=%s",
        "one\n",
    );
    run(
        "python3",
        "python3 -c 'import subprocess, threading, tempfile, multiprocessing as m; t = threading.Thread(target=lambda: print(1, flush=True)); t.start(); t.join(); q = m.Queue(); p = m.Process(target=q.put, args=(2,)); p.start(); print(q.get()); print(subprocess.run([\"echo\", \"3\"], capture_output=True).stdout.decode().strip())'",
        "1\n2\n3\n",
    );
    run(
        "vim",
        "printf 'one\\n' > ~/f; vim -es -u NONE -c '%s/one/two/' -c 'wq' ~/f; cat ~/f",
        "two\n",
    );
    run("less", "echo page | less", "page\n");
    run("jq", "echo '{\"a\":1}' | jq .a", "1\n");
    run(
        "tar",
        "cd && mkdir d && echo x > d/f && tar cz d | tar tz",
        "d/\nd/f\n",
    );
    run("openssl", "openssl rand -hex 4 | wc -c", "9\n");
    run(
        "tmux",
        "tmux -f /dev/null new -d 'echo inside > ~/f; sleep 1' && sleep 0.5; cat ~/f",
        "inside\n",
    );
}

/// A control group of the tests' own, gone when dropped.
struct Group(std::path::PathBuf);

impl Group {
    /// Its path from the root of the hierarchy, and where that is mounted. `None` where there is no cgroup v2 to write to.
    fn new(name: &str) -> Option<(String, Self)> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words[2] == "cgroup2").then(|| words[1].to_owned())
        })?;
        let path = format!("/bastion-audit-test-{name}-{}", std::process::id());
        let dir = std::path::PathBuf::from(format!("{mount}{path}"));
        std::fs::create_dir(&dir).ok()?;
        Some((path, Self(dir)))
    }

    fn sessions(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    }

    fn has(&self, controller: &str) -> bool {
        let controllers = std::fs::read_to_string(self.0.join("cgroup.controllers")).unwrap();
        controllers.split_whitespace().any(|one| one == controller)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(std::fs::remove_dir(&self.0));
    }
}

fn in_group(path: &str, more: &str) -> Bastion {
    Bastion::with(|documents| {
        documents.replace(
            "sandbox: {tools: [bin/kubectl]}",
            &format!("sandbox: {{tools: [bin/kubectl], cgroup: {path}{more}}}"),
        )
    })
}

#[test]
fn a_session_is_in_a_control_group_of_its_own_and_ends_with_it() {
    let Some((path, group)) = Group::new("own") else {
        println!("skipped: there is no cgroup v2 here that can be written");
        return;
    };
    let mut bastion = in_group(&path, "");
    let sleep = format!("sleep {}", 3_000_000 + std::process::id());
    let stubborn = format!("trap '' HUP TERM; setsid {sleep} & {sleep}");
    let session = Running::start(&bastion, "operator-a", "viewer", &stubborn);
    let pids = eventually("its commands", || {
        Some(running(&sleep)).filter(|pids| pids.len() == 2)
    });
    let own = group.0.join(format!("session-{}", session.id));
    assert_eq!(group.sessions(), std::slice::from_ref(&own));
    let procs = std::fs::read_to_string(own.join("cgroup.procs")).unwrap();
    for pid in pids {
        assert!(procs.lines().any(|line| line == pid.to_string()), "{procs}");
    }
    if group.has("pids") {
        let most = std::fs::read_to_string(own.join("pids.max")).unwrap();
        assert_eq!(most.trim(), "512");
    }
    // Whatever ends it: a client that is gone, and a daemon that is.
    drop(session);
    eventually("its end", || group.sessions().is_empty().then_some(()));
    assert!(running(&sleep).is_empty());
    let _another = Running::start(&bastion, "operator-a", "viewer", &stubborn);
    eventually("its commands", || {
        (running(&sleep).len() == 2).then_some(())
    });
    bastion.signal("KILL");
    bastion.wait();
    eventually("the end of all", || {
        running(&sleep).is_empty().then_some(())
    });
    assert_eq!(group.sessions().len(), 1, "nobody was left to remove it");
    bastion.run();
    assert!(group.sessions().is_empty());
    bastion.stop();
}

/// With a kernel that can, the session that takes too much ends, and says why; with one that cannot, none begins.
#[test]
fn a_session_that_takes_more_memory_than_it_may_ends_alone() {
    let Some((path, group)) = Group::new("memory") else {
        println!("skipped: there is no cgroup v2 here that can be written");
        return;
    };
    let bastion = in_group(&path, ", sessionMemory: 256MiB");
    if !group.has("memory") {
        let ran = bastion.run_ssh("operator-a", "viewer", "true");
        assert!(ran.stderr.contains("its sandbox does not work"), "{ran:?}");
        let log = bastion.log();
        assert!(
            log.contains("no 'memory' controller, which sessionMemory needs"),
            "{log}"
        );
        return;
    }
    let other = Running::start(&bastion, "operator-a", "viewer", "sleep 20; exit 6");
    // Three processes, none of which is too large.
    let grow = "for i in 1 2 3; do perl -e '$a = q(x) x (120 << 20); sleep 20' & done; wait";
    let ran = bastion.run_ssh("operator-a", "viewer", grow);
    assert_eq!(ran.code, Some(255), "{ran:?}");
    assert!(
        ran.stderr.contains("more memory than one session may"),
        "{ran:?}"
    );
    assert_eq!(other.wait().code, Some(6));
}
