//! What one session's sandbox is given: a kubeconfig without a secret, a user and a prompt.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::handover::API_SERVER;
use super::{Launch, LaunchError};

/// The names that there are inside, where there is no network to have others.
const HOSTS: &[u8] = b"127.0.0.1 localhost bastion\n::1 localhost\n";

/// Where it is shown inside.
pub(super) const INSIDE: &str = "/run/bastion";

/// kubectl asks whoever has no credential at all for a user name, on standard input. The gateway takes no notice of this
/// one, which is the same for everybody and worth nothing.
const NO_TOKEN: &str = "the-daemon-adds-it";

/// `stateDir/run/ID`, gone when dropped.
#[derive(Debug)]
pub(super) struct SessionDir {
    path: PathBuf,
    owner: Option<u32>,
}

impl SessionDir {
    pub(super) fn create(
        run_dir: &Path,
        launch: &Launch<'_>,
        owner: Option<u32>,
    ) -> Result<Self, LaunchError> {
        let dir = Self {
            path: run_dir.join(launch.session.to_string()),
            owner,
        };
        DirBuilder::new()
            .mode(0o700)
            .create(&dir.path)
            .map_err(LaunchError::io(format!("creating {}", dir.path.display())))?;
        dir.own(&dir.path)?;
        dir.write("kubeconfig", kubeconfig(launch).as_bytes(), 0o600)?;
        dir.write("passwd", passwd(launch).as_bytes(), 0o644)?;
        dir.write("group", b"operator:x:1000:\nnogroup:x:65534:\n", 0o644)?;
        dir.write("hosts", HOSTS, 0o644)?;
        dir.write("bashrc", bashrc(launch).as_bytes(), 0o644)?;
        Ok(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn own(&self, path: &Path) -> Result<(), LaunchError> {
        match self.owner {
            Some(uid) => chown(path, Some(uid), Some(uid))
                .map_err(LaunchError::io(format!("giving away {}", path.display()))),
            None => Ok(()),
        }
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<(), LaunchError> {
        let path = self.path.join(name);
        let failed = || format!("writing {}", path.display());
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(content))
            .map_err(LaunchError::io(failed()))?;
        self.own(&path)
    }
}

impl Drop for SessionDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::error!("removing {}: {error}", self.path.display());
        }
    }
}

fn kubeconfig(launch: &Launch<'_>) -> String {
    // JSON is YAML.
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": launch.cluster, "cluster": {
            "server": format!("https://{API_SERVER}"),
            "certificate-authority-data": STANDARD.encode(launch.gateway_ca),
        }}],
        "users": [{"name": launch.role, "user": {"token": NO_TOKEN}}],
        "contexts": [{
            "name": format!("{}@{}", launch.role, launch.cluster),
            "context": {"cluster": launch.cluster, "user": launch.role},
        }],
        "current-context": format!("{}@{}", launch.role, launch.cluster),
    })
    .to_string()
}

fn passwd(launch: &Launch<'_>) -> String {
    format!(
        "{0}:x:1000:1000:{0}:/home/{0}:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        launch.identity
    )
}

/// Names hold letters, digits and `-` only: nothing here needs quoting.
fn bashrc(launch: &Launch<'_>) -> String {
    format!(
        "PS1='[{}@{}] \\w\\$ '\nHISTFILE=\nalias k=kubectl\nalias ls='ls --color=auto'\n\
         [ -r /usr/share/bash-completion/bash_completion ] && . /usr/share/bash-completion/bash_completion\n\
         [ -r ~/.bashrc ] && . ~/.bashrc\n",
        launch.role, launch.cluster
    )
}
