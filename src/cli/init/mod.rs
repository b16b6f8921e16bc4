//! `bastion-audit init`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bastion_audit::config::{self, secrets};

const DOCUMENTS: &str = include_str!("bastion.yaml");
const KEYS: &str =
    "# Public keys that prove this identity, one a line, as in authorized_keys (sshd(8)).\n";

/// Write a working, commented example configuration with a host key of its own
///
/// DIR is made if it is not there. Nothing that exists is ever overwritten: if one of the files is there,
/// nothing is written.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// Where to write
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// A public key for the example's operator; without it their keys are left for you to fill in
    #[arg(long, value_name = "FILE.pub")]
    key: Option<PathBuf>,
}

impl Init {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let operator_keys = self.operator_keys()?;
        let host_key = secrets::HostKeyText::generate()?;
        let files: [(&str, u32, &str); 5] = [
            ("host_ed25519", 0o600, host_key.private()),
            ("host_ed25519.pub", 0o644, host_key.public()),
            ("operator-a.keys", 0o644, &operator_keys),
            ("auditor-a.keys", 0o644, KEYS),
            // Last, so that a half-written directory is not mistaken for a configuration.
            ("bastion.yaml", 0o644, DOCUMENTS),
        ];
        make_dir(&self.dir)?;
        for (name, _, _) in &files {
            let path = self.dir.join(name);
            if path.symlink_metadata().is_ok() {
                bail!("{} is there already; nothing was written", path.display());
            }
        }
        for (name, mode, content) in files {
            let path = self.dir.join(name);
            write_new(&path, mode, content)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        self.say_what_next(host_key.fingerprint())?;
        Ok(ExitCode::SUCCESS)
    }

    /// What the example's operator is proven by.
    fn operator_keys(&self) -> anyhow::Result<String> {
        let Some(path) = &self.key else {
            return Ok(KEYS.to_owned());
        };
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let line = text.trim();
        config::check_public_key(line)
            .map_err(|message| anyhow::anyhow!("{}: {message}", path.display()))?;
        Ok(format!("{KEYS}{line}\n"))
    }

    fn say_what_next(&self, fingerprint: &str) -> anyhow::Result<()> {
        let dir = self.dir.display();
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "Wrote {dir}/bastion.yaml, its host key ({fingerprint}) and two files of keys."
        )?;
        writeln!(out, "\nNext:")?;
        let mut steps = Vec::new();
        if self.key.is_none() {
            steps.push(format!(
                "say who operator-a is:  cat ~/.ssh/id_ed25519.pub >> {dir}/operator-a.keys"
            ));
        }
        steps.push(format!("give the daemon its credential:  {dir}/prod.kubeconfig (chmod 0600; see examples/deploy)"));
        steps.push(format!("check it:  bastion-audit check --config {dir}"));
        steps.push(format!("serve:  bastion-audit serve --config {dir}"));
        steps.push("log in:  ssh -p 2222 operator-a@127.0.0.1".to_owned());
        for (number, step) in (1..).zip(steps) {
            writeln!(out, "  {number}. {step}")?;
        }
        Ok(())
    }
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("making {}", dir.display()))
}

/// Never through what is there, be it a file or a link.
fn write_new(path: &Path, mode: u32, content: &str) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(dir: &Path, key: Option<&Path>) -> anyhow::Result<ExitCode> {
        let init = Init {
            dir: dir.to_owned(),
            key: key.map(ToOwned::to_owned),
        };
        init.run()
    }

    #[test]
    fn what_it_writes_loads_and_nothing_is_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("etc/bastion");
        init(&dir, None).unwrap();
        let config = config::load(&dir).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.identities.len(), 2);
        secrets::host_key(&dir.join("host_ed25519")).unwrap();

        let before = std::fs::read(dir.join("host_ed25519")).unwrap();
        std::fs::remove_file(dir.join("bastion.yaml")).unwrap();
        let error = init(&dir, None).unwrap_err().to_string();
        assert!(error.contains("host_ed25519 is there already"), "{error}");
        assert_eq!(std::fs::read(dir.join("host_ed25519")).unwrap(), before);
        assert!(!dir.join("bastion.yaml").exists());
    }

    #[test]
    fn a_key_of_yours_is_taken_in_only_if_it_is_one() {
        let parent = tempfile::tempdir().unwrap();
        let key = parent.path().join("id.pub");
        let dir = parent.path().join("b");
        std::fs::write(&key, "ssh-rsa AAAA me@laptop\n").unwrap();
        assert!(
            init(&dir, Some(&key))
                .unwrap_err()
                .to_string()
                .contains("RSA")
        );
        assert!(!dir.exists());
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti me@laptop\n";
        std::fs::write(&key, good).unwrap();
        init(&dir, Some(&key)).unwrap();
        let config = config::load(&dir).unwrap();
        let keys: usize = config
            .identities
            .values()
            .map(|identity| identity.keys.len())
            .sum();
        assert_eq!(keys, 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_something_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nonexistent/x", dir.path().join("bastion.yaml")).unwrap();
        assert!(init(dir.path(), None).is_err());
        assert!(!dir.path().join("host_ed25519").exists());
    }
}
