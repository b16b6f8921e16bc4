//! Our side: the daemon as it is built for release, with what an installation has.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::process::{self, Process};
use super::ssh::Target;
use super::stage::Stage;

/// How its recordings are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    InClear,
    Encrypted,
}

/// Whom it lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Everybody here, as often as they like.
    All,
    /// As without a word about it.
    Default,
}

/// A running daemon. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    dir: PathBuf,
    pub(crate) target: Target,
}

impl Daemon {
    pub(crate) fn start(stage: &Stage, kept: Kept, admission: Admission) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("d-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(&stage.dir)?
            .keep();
        let config = dir.join("bastion.yaml");
        std::fs::write(&config, documents(stage, kept, admission)?)?;
        let log = std::fs::File::create(dir.join("daemon.log"))?;
        let process = Process::start(
            // A session of its own, as a service manager gives one: Linux shares processors out by sessions, and each
            // connection's sshd makes one for itself.
            Command::new("setsid")
                .arg(env!("CARGO_BIN_EXE_bastion-audit"))
                .args(["serve", "--config"])
                .arg(&config)
                .env_remove("RUST_LOG")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(log),
        )?;
        let served = process.first_line().with_context(|| {
            format!(
                "the daemon did not start: see {}",
                dir.join("daemon.log").display()
            )
        })?;
        let port = served
            .trim()
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let target = Target {
            login: "operator".into(),
            port: port.with_context(|| format!("no port in {served:?}"))?,
            key: stage.dir.join("keys/client"),
            known_hosts: dir.join("known_hosts"),
        };
        target.know(&stage.dir.join("keys/host"))?;
        Ok(Self {
            process,
            dir,
            target,
        })
    }

    /// A command line of ours on its state and with the key that reads what is encrypted.
    pub(crate) fn cli(&self, word: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bastion-audit"));
        command
            .args([word, "--config"])
            .arg(self.dir.join("bastion.yaml"))
            .args(arguments);
        command
    }

    /// A number of its own counting, as `bastion-audit metrics` tells it.
    pub(crate) fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let text = process::output(&mut self.cli("metrics", &[]))?;
        let prefix = format!("bastion_audit_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.with_context(|| format!("there is no metric {name}"))?;
        Ok(value.parse()?)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The daemon, and the process that speaks SSH for it.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut both = vec![self.pid()];
        both.extend(process::descendants(self.pid(), "bastion-network")?);
        anyhow::ensure!(both.len() == 2, "no network process, or several: {both:?}");
        Ok(both)
    }

    /// Where the daemon keeps what it has to keep.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Waits until all of its recordings are packed: that is work, and not for whoever is measured next.
    pub(crate) fn packed(&self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(120);
        for recording in self.recordings()? {
            while !is_packed(&recording)? {
                ensure!(Instant::now() < until, "a recording is not packed");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Recordings of gigabytes would fill the disk before the run is over.
    pub(crate) fn forget_recordings(&self) -> anyhow::Result<()> {
        self.packed()?;
        for recording in self.recordings()? {
            std::fs::remove_dir_all(recording)?;
        }
        Ok(())
    }

    pub(crate) fn recordings(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = vec![self.state_dir().join("recordings")];
        // The first recording makes it.
        found.retain(|directory| directory.exists());
        // Years, months, days. The day's directory stays: the daemon knows that it is there.
        for _ in 0..4 {
            let mut below = Vec::new();
            for directory in found {
                for entry in std::fs::read_dir(directory)? {
                    below.push(entry?.path());
                }
            }
            found = below;
        }
        // What was replaced by its packed form lies beside it for a moment, under a name that begins with a dot.
        found.retain(|path| {
            let name = path.file_name().unwrap_or_default();
            !name.to_string_lossy().starts_with('.')
        });
        Ok(found)
    }
}

fn is_packed(recording: &Path) -> anyhow::Result<bool> {
    for entry in std::fs::read_dir(recording)? {
        if entry?
            .file_name()
            .to_string_lossy()
            .starts_with("session.cast.zst")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.stop();
    }
}

fn documents(stage: &Stage, kept: Kept, admission: Admission) -> anyhow::Result<String> {
    let key = std::fs::read_to_string(stage.dir.join("keys/client.pub"))?;
    let recordings = match kept {
        Kept::InClear => String::new(),
        Kept::Encrypted => format!("recordings: {{recipients: [\"{}\"]}}", key.trim()),
    };
    let admission = match admission {
        Admission::All => "admission: {exempt: [127.0.0.0/8]}",
        Admission::Default => "",
    };
    Ok(format!(
        r#"apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {{name: bench}}
spec:
  listen: 127.0.0.1:0
  hostKeys: [{keys}/host]
  stateDir: state
  limits: {{drain: 1s, maxConnections: 2000}}
  {admission}
  {recordings}
  sandbox: {{tools: [{kubectl}, {load}], readOnlyPaths: [{files}]}}
  issuer: {{url: 'https://bastion.example.com', signingKeys: [{keys}/issuer]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: prod}}
spec: {{kubeconfig: {kubeconfig}}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: signed}}
spec: {{kubeconfig: {kubeconfig}, mint: oidcIssuer}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator}}
spec: {{groups: [sre], keys: ["{key}"], defaultRole: viewer}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: viewer}}
spec:
  kubernetes:
    clusters: [prod]
    serviceAccount: {{namespace: bastion-viewer, name: viewer}}
  credentialTtl: 10m
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: editor}}
spec:
  kubernetes:
    clusters: [prod]
    serviceAccount: {{namespace: bastion-editor, name: editor}}
  credentialTtl: 10m
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: own-name}}
spec:
  kubernetes: {{clusters: [signed], groups: [viewers]}}
  sessions: [credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: sre}}
spec: {{subjects: [{{group: sre}}], roles: [viewer, editor, own-name], reason: bench}}
"#,
        keys = stage.dir.join("keys").display(),
        kubectl = stage.kubectl.display(),
        load = stage.load.display(),
        files = stage.dir.join("files").display(),
        kubeconfig = stage.bastion_kubeconfig.display(),
        key = key.trim(),
    ))
}
