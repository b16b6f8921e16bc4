//! What bubblewrap is told: namespaces, a root of its own, an environment, the command.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::inside::PROGRAM;
use super::session_dir::INSIDE;
use super::{Launch, handover};
use crate::config::Sandbox;

/// Where the init is shown.
const INIT: &str = "/run/bastion-init";
/// Where tools are shown.
const TOOLS: &str = "/opt/bastion/bin";
/// Where the directory is shown that a home begins as a copy of.
const SKELETON: &str = "/run/bastion-skeleton";
/// The system: what shells, kubectl and coreutils need. Nothing there is a secret on a stock system, and what is missing is
/// left out.
const SYSTEM: &[&str] = &[
    "/usr",
    // Links into /usr on a merged-usr system, directories on others.
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/bash_completion.d",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/vim",
];
/// Of memory in files where hardly any are, in bytes: 16 MiB.
const SMALL: &str = "16777216";

/// Everything that bubblewrap is told, the command last. `dir` is the session's own.
pub(super) fn of_session(
    sandbox: &Sandbox,
    init: &Path,
    launch: &Launch<'_>,
    dir: &Path,
) -> Vec<OsString> {
    let mut args = Arguments::default();
    args.namespaces();
    // What the init is; see there.
    args.add(["--as-pid-1"]);
    if launch.terminal.is_none() {
        // Else it would have the daemon's own terminal, if that was started at one, and could type there. At a
        // terminal of its own a session is a new one already.
        args.add(["--new-session"]);
    }
    args.root(sandbox);
    let home = format!("/home/{}", launch.identity);
    args.add(["--dir", &home, "--chdir", &home]);
    args.show(dir, INSIDE);
    for file in ["passwd", "group", "hosts"] {
        args.show(&dir.join(file), format!("/etc/{file}"));
    }
    args.tools(launch.tools);
    args.show(init, INIT);
    args.add(["--symlink", INIT, &format!("{TOOLS}/{PROGRAM}")]);
    args.skeleton(sandbox);
    args.add(["--remount-ro", "/"]);
    for (name, value) in environment(launch, &home) {
        args.add(["--setenv", name, &value]);
    }
    args.init(sandbox, &home);
    args.add([&format!("{INSIDE}/init.sock"), "--"]);
    args.command(launch);
    args.0
}

/// An empty sandbox that runs `true`.
pub(super) fn of_probe(sandbox: &Sandbox) -> Vec<OsString> {
    let mut args = Arguments::default();
    args.namespaces();
    args.root(sandbox);
    args.add(["--", "/usr/bin/true"]);
    args.0
}

/// A sandbox that is confined, and runs nothing.
pub(super) fn of_confined_probe(sandbox: &Sandbox, init: &Path) -> Vec<OsString> {
    let mut args = Arguments::default();
    args.namespaces();
    args.root(sandbox);
    args.show(init, INIT);
    args.skeleton(sandbox);
    args.init(sandbox, "/home");
    args.0
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<const N: usize>(&mut self, args: [impl Into<OsString>; N]) {
        self.0.extend(args.map(Into::into));
    }

    fn show(&mut self, path: &Path, inside: impl Into<OsString>) {
        self.add([OsString::from("--ro-bind"), path.into(), inside.into()]);
    }

    fn show_if_there(&mut self, path: &Path) {
        self.add([OsString::from("--ro-bind-try"), path.into(), path.into()]);
    }

    fn namespaces(&mut self) {
        self.add([
            "--unshare-user",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            // Nothing but a loopback of its own, which bubblewrap brings up.
            "--unshare-net",
            "--unshare-cgroup-try",
            "--die-with-parent",
            "--clearenv",
        ]);
        self.add([
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--hostname",
            "bastion",
            "--cap-drop",
            "ALL",
        ]);
    }

    fn root(&mut self, sandbox: &Sandbox) {
        match &sandbox.system_paths {
            Some(paths) => paths.iter().for_each(|path| self.system(path)),
            None => SYSTEM.iter().for_each(|path| self.system(Path::new(path))),
        }
        self.add(["--proc", "/proc", "--dev", "/dev"]);
        let most = sandbox.tmp_size.to_string();
        for (path, size) in [
            ("/tmp", most.as_str()),
            ("/home", most.as_str()),
            ("/run", SMALL),
            ("/dev/shm", SMALL),
        ] {
            self.add(["--size", size, "--tmpfs", path]);
        }
        // The devices in it are as writable as before; there is no room for files.
        self.add(["--remount-ro", "/dev"]);
        self.tools(&sandbox.tools);
        for path in &sandbox.read_only_paths {
            self.show(path, path);
        }
    }

    /// At the same place. A link is shown as the link that it is: on a merged-usr system most of what is in `/` are links.
    fn system(&mut self, path: &Path) {
        match std::fs::read_link(path) {
            Ok(target) if path.parent() == Some(Path::new("/")) => {
                self.add([OsString::from("--symlink"), target.into(), path.into()]);
            }
            _ => self.show_if_there(path),
        }
    }

    fn tools(&mut self, tools: &[PathBuf]) {
        for tool in tools {
            if let Some(name) = tool.file_name() {
                self.show(tool, Path::new(TOOLS).join(name));
            }
        }
    }

    fn skeleton(&mut self, sandbox: &Sandbox) {
        if let Some(skeleton) = &sandbox.skeleton {
            self.show(skeleton, SKELETON);
        }
    }

    /// The init and what it confines itself to.
    fn init(&mut self, sandbox: &Sandbox, home: &str) {
        self.add(["--", INIT, "sandbox-init", "--home", home]);
        for (name, value) in [
            ("--landlock-abi", u64::from(sandbox.landlock_abi)),
            ("--processes", sandbox.processes.into()),
            ("--open-files", sandbox.open_files.into()),
            ("--memory", sandbox.memory),
        ] {
            self.add([name, &value.to_string()]);
        }
        if sandbox.skeleton.is_some() {
            self.add(["--skeleton", SKELETON]);
        }
    }

    fn command(&mut self, launch: &Launch<'_>) {
        match &launch.command {
            Some(line) => {
                self.add(["/bin/bash", "-c"]);
                self.add([OsString::from_vec(line.to_vec())]);
            }
            None if launch.terminal.is_some() => {
                self.add(["/bin/bash", "--rcfile", &format!("{INSIDE}/bashrc"), "-i"]);
            }
            // `ssh -T bastion < script`
            None => self.add(["/bin/bash"]),
        }
    }
}

fn environment<'a>(launch: &'a Launch<'_>, home: &str) -> Vec<(&'a str, String)> {
    let mut environment = vec![
        ("HOME", home.to_owned()),
        ("USER", launch.identity.to_string()),
        ("LOGNAME", launch.identity.to_string()),
        ("SHELL", "/bin/bash".into()),
        ("PATH", format!("{TOOLS}:/usr/local/bin:/usr/bin:/bin")),
        ("LANG", "C.UTF-8".into()),
        ("KUBECONFIG", format!("{INSIDE}/kubeconfig")),
        ("BASTION_SESSION", launch.session.to_string()),
        ("BASTION_IDENTITY", launch.identity.to_string()),
        ("BASTION_ROLE", launch.role.to_string()),
        ("BASTION_CLUSTER", launch.cluster.to_string()),
    ];
    if launch.egress {
        let proxy = format!("http://{}", handover::PROXY);
        let direct = "127.0.0.1,localhost";
        // Some programs know one way to write them, some the other.
        for name in ["HTTPS_PROXY", "https_proxy"] {
            environment.push((name, proxy.clone()));
        }
        for name in ["NO_PROXY", "no_proxy"] {
            environment.push((name, direct.to_owned()));
        }
    }
    if let Some(terminal) = launch.terminal {
        environment.push(("TERM", terminal.term.clone()));
    }
    environment
}
