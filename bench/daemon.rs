//! Our side: the daemon as it is built for release, with what an installation has.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::process::Process;
use super::ssh::Target;
use super::stage::Stage;

/// A running daemon. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    dir: PathBuf,
    pub(crate) target: Target,
}

impl Daemon {
    pub(crate) fn start(stage: &Stage) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("d-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in(&stage.dir)?
            .keep();
        let config = dir.join("bastion.yaml");
        std::fs::write(&config, documents(stage)?)?;
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

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Recordings of gigabytes would fill the disk before the run is over.
    pub(crate) fn forget_recordings(&self) -> anyhow::Result<()> {
        let recordings = self.dir.join("state/recordings");
        for year in std::fs::read_dir(recordings)? {
            for month in std::fs::read_dir(year?.path())? {
                for day in std::fs::read_dir(month?.path())? {
                    // The day's directory stays: the daemon knows that it is there.
                    for recording in std::fs::read_dir(day?.path())? {
                        std::fs::remove_dir_all(recording?.path())?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.stop();
    }
}

fn documents(stage: &Stage) -> anyhow::Result<String> {
    let key = std::fs::read_to_string(stage.dir.join("keys/client.pub"))?;
    Ok(format!(
        r#"apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {{name: bench}}
spec:
  listen: 127.0.0.1:0
  hostKeys: [{keys}/host]
  stateDir: state
  limits: {{drain: 1s}}
  sandbox: {{tools: [{kubectl}, {load}], readOnlyPaths: [{files}]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: prod}}
spec: {{kubeconfig: {kubeconfig}}}
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
  sessions: [exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: sre}}
spec: {{subjects: [{{group: sre}}], roles: [viewer, editor], reason: bench}}
"#,
        keys = stage.dir.join("keys").display(),
        kubectl = stage.kubectl.display(),
        load = stage.load.display(),
        files = stage.dir.join("files").display(),
        kubeconfig = stage.bastion_kubeconfig.display(),
        key = key.trim(),
    ))
}
