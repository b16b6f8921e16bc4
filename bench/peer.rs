//! The peer: this machine's sshd on a port of its own, with an OS account of its own. A jump server as they are
//! built today, with as little in its way as can be: no PAM, no log, `/bin/sh`.

use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::harness::{ControlPlane, write_private};
use super::process::{self, Process};
use super::ssh::{self, Target};
use super::{ending, say};

/// Who may mint for whom, for the peer: the same as for the bastion, in a namespace without its policies.
const RIGHTS: &str = include_str!("peer.yaml");

/// A running sshd.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Process,
    pub(crate) target: Target,
    /// What prints a short-lived credential there.
    pub(crate) credential: String,
}

impl Peer {
    pub(crate) fn start(plane: &ControlPlane, dir: &Path, kubectl: &Path) -> anyhow::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("only root can start an sshd for an OS account of its own");
        }
        let sshd = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].map(Path::new);
        let sshd = sshd.into_iter().find(|path| path.is_file());
        let sshd = sshd.context("there is no sshd: install openssh-server")?;
        let home = dir.join("home");
        let login = account(&home)?;
        furnish(plane, dir, &home, &login)?;
        let port = free_port()?;
        let config = write_config(dir, port)?;
        privilege_separation_directory()?;
        let log = std::fs::File::create(dir.join("sshd.log"))?;
        let process = Process::start(
            Command::new(sshd)
                .args(["-D", "-e", "-f"])
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log),
        )?;
        wait_for(port).with_context(|| {
            format!(
                "sshd does not answer: see {}",
                dir.join("sshd.log").display()
            )
        })?;
        let target = Target {
            login,
            port,
            key: dir.join("keys/client"),
            known_hosts: dir.join("known_hosts"),
        };
        target.know(&dir.join("keys/peer-host"))?;
        let credential = format!(
            "{} create token viewer -n bench-peer --duration=10m",
            kubectl.display()
        );
        Ok(Self {
            process,
            target,
            credential,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A clean OS account, as long as this runs.
fn account(home: &Path) -> anyhow::Result<String> {
    let login = format!("bench-{}", std::process::id());
    let mut useradd = Command::new("useradd");
    useradd
        .args([
            "--no-create-home",
            "--no-user-group",
            "--no-log-init",
            "--shell",
            "/bin/sh",
        ])
        // No password, but not locked either: sshd lets no locked account in.
        .args(["--password", "*", "--home-dir"])
        .arg(home)
        .arg(&login);
    process::output(&mut useradd)?;
    let name = login.clone();
    ending::then(move || {
        let removed = Command::new("userdel").arg(&name).status();
        if !removed.is_ok_and(|status| status.success()) {
            say(&format!(
                "the OS account {name} could not be removed: `userdel {name}`"
            ));
        }
    });
    Ok(login)
}

/// Its key, and a kubeconfig by which it may mint.
fn furnish(plane: &ControlPlane, dir: &Path, home: &Path, login: &str) -> anyhow::Result<()> {
    for directory in [home.to_owned(), home.join(".ssh"), home.join(".kube")] {
        std::fs::DirBuilder::new().mode(0o700).create(directory)?;
    }
    std::fs::copy(
        dir.join("keys/client.pub"),
        home.join(".ssh/authorized_keys"),
    )?;
    plane.apply(RIGHTS);
    let token = plane.admin(&[
        "create",
        "token",
        "jump",
        "-n",
        "bench-peer",
        "--duration=24h",
    ]);
    // Where the account may read it; it is no secret.
    let ca = dir.join("files/ca.crt");
    std::fs::write(
        &ca,
        std::fs::read(plane.kubeconfig().with_file_name("ca.crt"))?,
    )?;
    write_private(
        &home.join(".kube/config"),
        &format!(
            r#"apiVersion: v1
kind: Config
current-context: prod
clusters: [{{name: prod, cluster: {{server: "{}", certificate-authority: "{}"}}}}]
users: [{{name: jump, user: {{token: "{}"}}}}]
contexts: [{{name: prod, context: {{cluster: prod, user: jump}}}}]
"#,
            plane.server(),
            ca.display(),
            token.trim(),
        ),
    );
    process::output(Command::new("chown").arg("-R").arg(login).arg(home)).map(drop)
}

fn write_config(dir: &Path, port: u16) -> anyhow::Result<PathBuf> {
    let host_key = dir.join("keys/peer-host");
    ssh::keygen(&host_key)?;
    let config = dir.join("sshd_config");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&config)?;
    std::io::Write::write_all(
        &mut file,
        format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM no\nUseDNS no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nLogLevel ERROR\nPrintMotd no\n\
             PrintLastLog no\nMaxStartups 1000\n",
            host_key.display()
        )
        .as_bytes(),
    )?;
    Ok(config)
}

/// sshd wants this directory, which Debian makes when the service starts.
fn privilege_separation_directory() -> anyhow::Result<()> {
    let path = Path::new("/run/sshd");
    if !path.exists() {
        std::fs::DirBuilder::new().mode(0o755).create(path)?;
        ending::then(|| drop(std::fs::remove_dir("/run/sshd")));
    }
    Ok(())
}

/// One that was free a moment ago: sshd cannot be asked to choose.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

fn wait_for(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
