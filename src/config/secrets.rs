//! Files that only the daemon may read: private host keys, kubeconfigs.
//!
//! They are judged through the descriptor that was opened, so that what was judged is what is read. Links are
//! followed: that is how Kubernetes mounts a Secret.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// A kubeconfig with certificates inside takes some 20 KiB.
const MAX_SECRET: u64 = 1024 * 1024;

/// Why a secret was not read, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A directory, pipe or device.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Others than the daemon can read or change it.
    #[error("{} can be {by} (mode {mode:04o}); run: chmod {advice} {}", path.display(), path.display())]
    TooOpen {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Who can do what.
        by: &'static str,
        /// Arguments of chmod that would do.
        advice: &'static str,
    },
    /// Somebody else owns it, and could change it at any time.
    #[error("{} belongs to uid {owner}, not to the daemon (uid {daemon}) or root; run: chown {daemon} {}", path.display(), path.display())]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        daemon: u32,
    },
    /// Larger than any secret.
    #[error("{} is larger than {} KiB, which is no secret", path.display(), MAX_SECRET >> 10)]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Not a private key that the daemon can use.
    #[error("{} is not a usable host key: {why}", path.display())]
    NotAHostKey {
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        why: &'static str,
    },
}

/// Reads a secret, after making sure that only the daemon, its groups and root can.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    read_as(path, &Daemon::present())
}

/// Reads a private host key: ed25519 or ecdsa, without a passphrase.
pub fn host_key(path: &Path) -> Result<PrivateKey, SecretError> {
    let bytes = read_secret(path)?;
    let wrong = |why| SecretError::NotAHostKey {
        path: path.to_owned(),
        why,
    };
    let key = PrivateKey::from_openssh(&*bytes).map_err(|_| {
        wrong("it is not an OpenSSH private key; make one with: ssh-keygen -t ed25519 -N ''")
    })?;
    if key.is_encrypted() {
        return Err(wrong(
            "it has a passphrase, and nobody is there to type it; remove it with: ssh-keygen -p",
        ));
    }
    match key.key_data() {
        KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) => Ok(key),
        _ => Err(wrong(
            "it is neither ed25519 nor ecdsa; make one with: ssh-keygen -t ed25519 -N ''",
        )),
    }
}

/// A new host key as the two files that `ssh-keygen` would write. The private half is wiped when dropped.
pub struct HostKeyText {
    private: Zeroizing<String>,
    public: String,
    fingerprint: String,
}

/// No key could be made: the system gave no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no host key could be made: the system has no randomness to give")]
pub struct NoRandomness;

impl HostKeyText {
    /// A new ed25519 key.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        rustls::crypto::aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut *seed)
            .map_err(|_| NoRandomness)?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(pair, "bastion-audit").map_err(|_| NoRandomness)?;
        let private = key.to_openssh(LineEnding::LF).map_err(|_| NoRandomness)?;
        let public = key.public_key();
        Ok(Self {
            private,
            public: format!("{}\n", public.to_openssh().map_err(|_| NoRandomness)?),
            fingerprint: crate::identity::fingerprint(public),
        })
    }

    /// The private file's content. Secret.
    pub fn private(&self) -> &str {
        &self.private
    }

    /// The public file's content.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// As `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl std::fmt::Debug for HostKeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKeyText({})", self.fingerprint)
    }
}

/// Who we are, for judging who else may read.
struct Daemon {
    uid: u32,
    groups: Vec<u32>,
}

impl Daemon {
    fn present() -> Self {
        // Supplementary groups too: Kubernetes gives a mounted Secret to the pod's fsGroup, which is one.
        let mut groups: Vec<u32> = rustix::process::getgroups()
            .unwrap_or_default()
            .into_iter()
            .map(rustix::process::Gid::as_raw)
            .collect();
        groups.push(rustix::process::getegid().as_raw());
        groups.push(0);
        Self {
            uid: rustix::process::geteuid().as_raw(),
            groups,
        }
    }
}

fn read_as(path: &Path, daemon: &Daemon) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let io = |source| SecretError::Io {
        path: path.to_owned(),
        source,
    };
    // Without NONBLOCK, opening a pipe would wait for its writer for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| io(error.into()))?;
    let file = File::from(file);
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(SecretError::NotAFile {
            path: path.to_owned(),
        });
    }
    judge(path, meta.mode(), meta.uid(), meta.gid(), daemon)?;
    if meta.len() > MAX_SECRET {
        return Err(SecretError::TooLarge {
            path: path.to_owned(),
        });
    }
    // Whole from the start: a buffer that grows leaves copies behind that nobody wipes.
    let capacity = usize::try_from(meta.len()).unwrap_or(0).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    let mut file = file.take(MAX_SECRET);
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

fn judge(
    path: &Path,
    mode: u32,
    owner: u32,
    group: u32,
    daemon: &Daemon,
) -> Result<(), SecretError> {
    let too_open = |by, advice| SecretError::TooOpen {
        path: path.to_owned(),
        mode: mode & 0o7777,
        by,
        advice,
    };
    if owner != daemon.uid && owner != 0 {
        return Err(SecretError::Owner {
            path: path.to_owned(),
            owner,
            daemon: daemon.uid,
        });
    }
    if mode & 0o007 != 0 {
        return Err(too_open("used by everybody", "o="));
    }
    if mode & 0o020 != 0 {
        return Err(too_open("changed by its group", "g-w"));
    }
    if mode & 0o040 != 0 && !daemon.groups.contains(&group) {
        return Err(too_open("read by a group that is not the daemon's", "g="));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn file(mode: u32, content: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn what_only_the_daemon_reads_is_read_and_links_are_followed() {
        let (dir, path) = file(0o600, "secret");
        assert_eq!(&**read_secret(&path).unwrap(), b"secret");
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read_secret(&link).is_ok());
        let (_dir, path) = file(0o440, "secret");
        assert!(
            read_secret(&path).is_ok(),
            "the daemon's own group may read"
        );
    }

    #[test]
    fn what_others_can_use_is_refused_with_the_chmod_to_run() {
        for (mode, advice) in [
            (0o644, "chmod o="),
            (0o604, "chmod o="),
            (0o602, "chmod o="),
            (0o601, "chmod o="),
            (0o620, "chmod g-w"),
            (0o660, "chmod g-w"),
        ] {
            let (_dir, path) = file(mode, "secret");
            let message = read_secret(&path).unwrap_err().to_string();
            assert!(message.contains(advice), "{mode:o}: {message}");
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
    }

    #[test]
    fn foreign_owners_and_groups_are_refused() {
        let daemon = Daemon {
            uid: 100,
            groups: vec![100, 0],
        };
        let path = Path::new("/x");
        assert!(judge(path, 0o100_600, 100, 100, &daemon).is_ok());
        assert!(judge(path, 0o100_440, 0, 0, &daemon).is_ok());
        assert!(judge(path, 0o100_600, 100, 999, &daemon).is_ok());
        assert!(matches!(
            judge(path, 0o100_600, 101, 100, &daemon),
            Err(SecretError::Owner { owner: 101, .. })
        ));
        assert!(matches!(
            judge(path, 0o100_640, 100, 999, &daemon),
            Err(SecretError::TooOpen { .. })
        ));
    }

    #[test]
    fn a_generated_host_key_reads_back_and_is_never_printed() {
        let made = HostKeyText::generate().unwrap();
        let (_dir, path) = file(0o600, made.private());
        let read = host_key(&path).unwrap();
        assert_eq!(
            crate::identity::fingerprint(read.public_key()),
            made.fingerprint()
        );
        assert!(made.public().starts_with("ssh-ed25519 "));
        assert!(!format!("{made:?}").contains("PRIVATE"));
        assert_ne!(
            HostKeyText::generate().unwrap().fingerprint(),
            made.fingerprint()
        );
    }

    #[test]
    fn what_is_no_file_or_no_secret_is_refused() {
        let (dir, _) = file(0o600, "");
        assert!(matches!(
            read_secret(dir.path()),
            Err(SecretError::NotAFile { .. })
        ));
        let (_dir, path) = file(0o600, &"x".repeat(2 << 20));
        assert!(matches!(
            read_secret(&path),
            Err(SecretError::TooLarge { .. })
        ));
        assert!(matches!(
            read_secret(&dir.path().join("none")),
            Err(SecretError::Io { .. })
        ));
        let (_dir, path) = file(0o600, "not a key");
        let message = host_key(&path).unwrap_err().to_string();
        assert!(message.contains("ssh-keygen"), "{message}");
    }
}
