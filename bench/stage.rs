//! Everything that rows need: a cluster, keys, two ways in.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use bastion_audit::issuer::{Algorithm, create_key};

use super::daemon::{Admission, Daemon, Kept};
use super::files::Content;
use super::harness::{ControlPlane, crate_root};
use super::peer::Peer;
use super::{ending, process, say, ssh};

/// What rows are measured on.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) quick: bool,
    pub(crate) dir: PathBuf,
    /// A kubectl that is nothing else: see [`kubectl`].
    pub(crate) kubectl: PathBuf,
    /// This binary, where a sandbox may have it: see [`super::load`].
    pub(crate) load: PathBuf,
    /// The API server, and the administrator's way to it.
    pub(crate) cluster: Cluster,
    /// The daemon's own credential.
    pub(crate) bastion_kubeconfig: PathBuf,
    /// None where there is no OpenSSH to compare with, and why not.
    pub(crate) peer: Result<Peer, String>,
    about: String,
}

/// What is known of the control plane.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) server: String,
    pub(crate) ca: PathBuf,
    pub(crate) admin_kubeconfig: PathBuf,
}

impl Stage {
    pub(crate) fn set(quick: bool, keep: bool) -> anyhow::Result<Self> {
        let dir = directory(keep)?;
        say("starting a control plane");
        let plane = ControlPlane::start();
        let bastion_kubeconfig = plane.bastion_kubeconfig().to_owned();
        let kubectl = kubectl(&plane, &dir)?;
        let load = dir.join("bin/bench");
        std::fs::copy(std::env::current_exe()?, &load)?;
        let cluster = Cluster {
            server: plane.server().to_owned(),
            ca: plane.ca().to_owned(),
            admin_kubeconfig: plane.kubeconfig().to_owned(),
        };
        ssh::keygen(&dir.join("keys/client"))?;
        ssh::keygen(&dir.join("keys/host"))?;
        create_key(&dir.join("keys/issuer"), Algorithm::Es256)?;
        let peer = Peer::start(&plane, &dir, &kubectl).map_err(|error| format!("{error:#}"));
        if let Err(why) = &peer {
            say(&format!("the column OpenSSH stays empty: {why}"));
        }
        let about = about(&peer);
        ending::then(move || plane.stop());
        Ok(Self {
            quick,
            dir,
            kubectl,
            load,
            cluster,
            bastion_kubeconfig,
            peer,
            about,
        })
    }

    /// A daemon of the row's own: what one row leaves in memory is not the next one's.
    pub(crate) fn daemon(&self) -> anyhow::Result<Daemon> {
        self.daemon_that_keeps(Kept::InClear)
    }

    /// The same, with recordings kept so.
    pub(crate) fn daemon_that_keeps(&self, kept: Kept) -> anyhow::Result<Daemon> {
        Daemon::start(self, kept, Admission::All)
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref().ok()
    }

    /// One of two, for long and short runs.
    pub(crate) fn of<T>(&self, long: T, short: T) -> T {
        if self.quick { short } else { long }
    }

    /// A file to send that both ways in may read. Answers its path and size.
    pub(crate) fn file(&self, content: Content, bytes: u64) -> anyhow::Result<(PathBuf, u64)> {
        let path = self
            .dir
            .join("files")
            .join(content.name().replace(' ', "-"));
        let size = content.write(&path, bytes)?;
        Ok((path, size))
    }

    /// On what all of this was measured.
    pub(crate) fn told(&self) -> &str {
        &self.about
    }
}

/// Others may enter and read: the peer's account and our sandbox do.
fn directory(keep: bool) -> anyhow::Result<PathBuf> {
    let dir = tempfile::Builder::new().prefix("bab-").tempdir()?.keep();
    for (name, mode) in [
        ("", 0o755),
        ("bin", 0o755),
        ("files", 0o755),
        ("keys", 0o700),
    ] {
        let path = dir.join(name);
        if !path.is_dir() {
            std::fs::create_dir(&path)?;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    }
    let gone = dir.clone();
    ending::then(move || {
        if keep {
            say(&format!("kept: {}", gone.display()));
        } else if let Err(error) = std::fs::remove_dir_all(&gone) {
            say(&format!("{} could not be removed: {error}", gone.display()));
        }
    });
    Ok(dir)
}

/// The test cluster's kubectl is one program with the API server and all, which takes twice as long to start as
/// kubectl does. The peer starts one for each credential: it gets the real thing, from the same Go modules.
fn kubectl(plane: &ControlPlane, dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("bin/kubectl");
    let given = std::env::var_os("KUBEBUILDER_ASSETS")
        .is_some_and(|assets| Path::new(&assets).join("kubectl").is_file());
    if given {
        std::fs::copy(plane.kubectl_path(), &path)?;
        return Ok(path);
    }
    say("building kubectl");
    let version =
        process::output(Command::new(plane.kubectl_path()).args(["version", "--client"]))?;
    let version = version
        .split_whitespace()
        .find(|word| word.starts_with('v'))
        .unwrap_or_default();
    let flags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
    let mut go = Command::new("go");
    go.args([
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        &flags,
        "-o",
    ])
    .arg(&path)
    .arg("k8s.io/kubernetes/cmd/kubectl")
    .current_dir(crate_root().join("tests/cluster"))
    .envs([
        ("CGO_ENABLED", "0"),
        ("GOTOOLCHAIN", "local"),
        ("GOWORK", "off"),
        ("GOFLAGS", ""),
    ]);
    process::output(&mut go).context("building kubectl for the peer")?;
    Ok(path)
}

fn about(peer: &Result<Peer, String>) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    // `ssh -V` says it on standard error.
    let client = Command::new("ssh")
        .arg("-V")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned())
        .unwrap_or_default();
    let beside = match peer {
        Ok(_) => String::new(),
        Err(why) => format!("; no OpenSSH beside it: {why}"),
    };
    format!(
        "{model}, {cores} cores, Linux {}; client {client}{beside}",
        kernel.trim()
    )
}
