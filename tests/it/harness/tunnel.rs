//! A client's own way to the gateway: a stock `ssh -N`, and the kubeconfig for it.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::bastion::{Bastion, eventually};
use super::cluster::write_private;

/// The standard documents with the roles viewer and editor for tunnels too.
pub(crate) fn with_tunnels(documents: String) -> String {
    documents
        .replace("sessions: [shell, exec]", "sessions: [shell, exec, tunnel]")
        .replace(
            "sessions: [shell, exec, credential]",
            "sessions: [shell, exec, credential, tunnel]",
        )
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A stock `ssh -N`; it ends when dropped.
pub(crate) struct Forwarding {
    ssh: Child,
    pub(crate) port: u16,
}

impl Forwarding {
    pub(crate) fn dynamic(bastion: &Bastion, who: &str, login: &str) -> Self {
        let port = free_port();
        Self::start(
            bastion.ssh(who, login),
            "-D",
            format!("127.0.0.1:{port}"),
            port,
        )
    }

    pub(crate) fn local(bastion: &Bastion, who: &str, login: &str, to: &str) -> Self {
        let port = free_port();
        Self::start(
            bastion.ssh(who, login),
            "-L",
            format!("127.0.0.1:{port}:{to}"),
            port,
        )
    }

    pub(crate) fn start(ssh: Command, how: &str, forward: String, port: u16) -> Self {
        let mut command = Command::new("ssh");
        command
            .args(["-N", "-o", "ExitOnForwardFailure=yes", how, &forward])
            .args(ssh.get_args());
        let ssh = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("the forwarded port", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { ssh, port }
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.ssh.kill().unwrap();
        self.ssh.wait().unwrap();
    }
}

/// What `bastion kubeconfig` prints, in a file.
pub(crate) fn kubeconfig(bastion: &Bastion, who: &str, login: &str, how: &str) -> PathBuf {
    let ran = bastion.run_ssh(who, login, &format!("bastion kubeconfig {how}"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let path = bastion.path().join(format!(
        "{who}-{login}{}.kubeconfig",
        how.replace([' ', '-'], "")
    ));
    write_private(&path, &ran.stdout);
    path
}
