//! Access keys from a file, as the AWS tools write them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::time::Instant;

use super::error::BucketError;
use crate::clock;
use crate::config::secrets::read_secret;

/// How long a file is believed before it is read again: keys are rotated under a running daemon.
const FRESH: Duration = Duration::from_secs(60);

/// Reads the keys when they are needed.
#[derive(Debug)]
pub(super) struct CredentialsFile {
    path: PathBuf,
    last: Mutex<Option<(Instant, Arc<AwsCredential>)>>,
}

impl CredentialsFile {
    /// The file must be there and whole: a daemon that cannot ship must not start as if it could.
    pub(super) fn open(path: &Path) -> Result<Self, BucketError> {
        let file = Self {
            path: path.to_owned(),
            last: Mutex::new(None),
        };
        file.keep(read(path)?);
        Ok(file)
    }

    fn keep(&self, credential: AwsCredential) -> Arc<AwsCredential> {
        let credential = Arc::new(credential);
        *self.last() = Some((clock::monotonic(), Arc::clone(&credential)));
        credential
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<AwsCredential>)>> {
        self.last
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[async_trait]
impl CredentialProvider for CredentialsFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let fresh = self
            .last()
            .as_ref()
            .filter(|(read, _)| read.elapsed() < FRESH)
            .map(|(_, credential)| Arc::clone(credential));
        if let Some(credential) = fresh {
            return Ok(credential);
        }
        let path = self.path.clone();
        let credential = tokio::task::spawn_blocking(move || read(&path))
            .await
            .map_err(|source| object_store::Error::JoinError { source })?
            .map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: Box::new(error),
            })?;
        Ok(self.keep(credential))
    }
}

fn read(path: &Path) -> Result<AwsCredential, BucketError> {
    let bytes = read_secret(path)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let missing = |what| BucketError::Credentials {
        path: path.to_owned(),
        what,
    };
    Ok(AwsCredential {
        key_id: value(text, "aws_access_key_id").ok_or_else(|| missing("aws_access_key_id"))?,
        secret_key: value(text, "aws_secret_access_key")
            .ok_or_else(|| missing("aws_secret_access_key"))?,
        token: value(text, "aws_session_token"),
    })
}

/// Of the first profile: a file for the daemon has one.
fn value(text: &str, key: &str) -> Option<String> {
    let mut profiles = 0_u32;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            profiles = profiles.saturating_add(1);
        }
        if profiles > 1 {
            return None;
        }
        if let Some((name, value)) = line.split_once('=')
            && name.trim() == key
            && !value.trim().is_empty()
        {
            return Some(value.trim().to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        (dir, path)
    }

    #[test]
    fn the_first_profile_is_read_and_a_secret_is_in_no_debug_output() {
        let text = "[default]\n aws_access_key_id = AK\naws_secret_access_key=S/e=c\n[other]\naws_session_token=t\n";
        let (_dir, path) = file(text, 0o600);
        let read = read(&path).unwrap();
        assert_eq!(
            (read.key_id.as_str(), read.secret_key.as_str()),
            ("AK", "S/e=c")
        );
        assert_eq!(read.token, None);
        let shown = format!("{:?}", CredentialsFile::open(&path).unwrap());
        assert!(!shown.contains("S/e=c"), "{shown}");
    }

    #[test]
    fn what_others_can_read_or_what_is_not_whole_is_refused() {
        let whole = "aws_access_key_id=a\naws_secret_access_key=b\n";
        let (_dir, path) = file(whole, 0o644);
        let refused = CredentialsFile::open(&path).unwrap_err().to_string();
        assert!(refused.contains("chmod"), "{refused}");
        let (_dir, path) = file("aws_access_key_id=a\n", 0o600);
        let refused = CredentialsFile::open(&path).unwrap_err().to_string();
        assert!(
            refused.contains("aws_secret_access_key is missing"),
            "{refused}"
        );
    }
}
