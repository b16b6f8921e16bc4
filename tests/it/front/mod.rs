//! The SSH front against stock clients and hostile ones. The deciding side is a small stand-in that knows one
//! key and runs toy commands.

mod admission;
mod authentication;
mod channels;
mod endings;
mod listener;
mod monitor;
mod peers;
mod prior_cves;
mod sessions;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bastion_audit::config::{Admission, Algorithms, Limits, SourceNetwork};
use bastion_audit::server::{Front, HostCertificates, HostKeys, Rules, Server};
use bastion_audit::strangers::Strangers;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::monitor::Monitor;

/// Longer than anything takes on a busy machine, shorter than a test that hangs.
const LONG: Duration = Duration::from_secs(60);

/// A front that serves, and its stand-in.
struct Bastion {
    address: SocketAddr,
    monitor: Arc<Monitor>,
    dir: tempfile::TempDir,
    rules: watch::Sender<Rules>,
    strangers: Strangers,
    shutdown: CancellationToken,
    served: JoinHandle<()>,
}

fn limits() -> Limits {
    Limits {
        login_grace: Duration::from_secs(30),
        max_auth_attempts: 6,
        max_connections: 100,
        max_sessions_per_connection: 10,
        keepalive: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(3600),
        drain: Duration::from_secs(5),
    }
}

/// Under these limits, with everything on loopback exempt from the rest.
fn rules(limits: Limits) -> Rules {
    Rules {
        admission: Admission {
            exempt: vec![SourceNetwork::parse("127.0.0.0/8").unwrap()],
            ..Admission::default()
        },
        limits,
        banner: None,
        algorithms: Algorithms::default(),
        host_certificates: HostCertificates::default(),
    }
}

impl Bastion {
    async fn start(limits: Limits) -> Self {
        Self::under(rules(limits)).await
    }

    async fn under(rules: Rules) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["host", "id", "stranger"] {
            keygen(&dir.path().join(name)).await;
        }
        let host = dir.path().join("host");
        let host_keys =
            HostKeys::parse([(host.as_path(), std::fs::read(&host).unwrap().into())]).unwrap();
        let known = std::fs::read_to_string(dir.path().join("id.pub")).unwrap();
        let monitor = Arc::new(Monitor::new(&known));
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.local_addr();
        let (rules, seen) = watch::channel(rules);
        let strangers = Strangers::default();
        let shutdown = CancellationToken::new();
        let front = Front {
            host_keys,
            rules: seen,
            strangers: Arc::new(strangers.clone()),
        };
        let connect = {
            let monitor = monitor.clone();
            move |peer| monitor.connect(peer)
        };
        let served = tokio::spawn(server.serve(front, connect, shutdown.clone()));
        Self {
            address,
            monitor,
            dir,
            rules,
            strangers,
            shutdown,
            served,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A stock ssh that logs in as `operator-a` with the known key.
    fn ssh(&self, options: &[&str], command: &[&str]) -> Command {
        self.ssh_to(self.address.port(), options, command)
    }

    fn ssh_to(&self, port: u16, options: &[&str], command: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-p", &port.to_string()]);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "StrictHostKeyChecking=no",
            "LogLevel=INFO",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("-o");
        ssh.arg(format!(
            "UserKnownHostsFile={}",
            self.path("known_hosts").display()
        ));
        ssh.arg("-i").arg(self.path("id"));
        ssh.args(options)
            .args(["-l", "operator-a", "127.0.0.1"])
            .args(command);
        ssh.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        ssh
    }

    /// Runs a stock ssh to its end.
    async fn run(&self, options: &[&str], command: &[&str]) -> Outcome {
        let ssh = self.ssh(options, command).spawn().unwrap();
        outcome(ssh).await
    }

    /// russh's client, connected and not proven.
    async fn connect(&self) -> russh::client::Handle<AnyHost> {
        russh::client::connect(
            Arc::new(russh::client::Config::default()),
            self.address,
            AnyHost,
        )
        .await
        .unwrap()
    }

    fn key(&self, name: &str) -> PrivateKeyWithHashAlg {
        PrivateKeyWithHashAlg::new(Arc::new(read_key(&self.path(name))), None)
    }

    /// russh's client, proven.
    async fn login(&self) -> russh::client::Handle<AnyHost> {
        let mut client = self.connect().await;
        let answer = client
            .authenticate_publickey("operator-a", self.key("id"))
            .await
            .unwrap();
        assert!(answer.success());
        client
    }
}

/// A client that trusts any host.
struct AnyHost;

impl russh::client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(path)
        .status()
        .await
        .unwrap();
    assert!(made.success());
}

fn read_key(path: &Path) -> PrivateKey {
    PrivateKey::from_openssh(std::fs::read(path).unwrap()).unwrap()
}

/// How a client process ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Outcome {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

async fn outcome(child: Child) -> Outcome {
    let output = soon(child.wait_with_output()).await.unwrap();
    Outcome {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Fails a test that hangs.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future)
        .await
        .expect("within a minute")
}

/// Sends a signal to a process that this test started.
fn send_signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
