//! Who can change the documents decides who is let in.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

/// Everybody on this machine can change a part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "everybody on this machine can change {path}, and so say who is let in; run: chmod o-w {path}",
    path = .0.display()
)]
pub struct Exposed(pub PathBuf);

/// Makes sure that not everybody can change what the configuration at `root` is made of: its documents, their keysFiles,
/// and the directory to which a document could be added. What is mounted read-only nobody changes there.
///
/// # Errors
///
/// The first that everybody can change.
pub fn check_writers(root: &Path) -> Result<(), Exposed> {
    let files = super::Loader::default().load_noting_files(root).1;
    let mut all = std::iter::once(root).chain(files.iter().map(PathBuf::as_path));
    match all.find(|path| everybody_writes(path)) {
        Some(path) => Err(Exposed(path.to_owned())),
        None => Ok(()),
    }
}

/// Of what is not there, loading says so.
fn everybody_writes(path: &Path) -> bool {
    let open = std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o002 != 0);
    open && !rustix::fs::statvfs(path)
        .is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_everybody_can_change_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("bastion");
        fs::create_dir_all(root.join("people")).unwrap();
        let document = root.join("people/a.yaml");
        let keys = dir.path().join("a.keys");
        fs::write(
            &document,
            "apiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {name: a}\n\
             spec: {keysFile: ../../a.keys}\n",
        )
        .unwrap();
        fs::write(&keys, "").unwrap();
        assert_eq!(check_writers(&root), Ok(()));
        for (path, usual) in [(&root, 0o755), (&document, 0o644), (&keys, 0o600)] {
            fs::set_permissions(path, fs::Permissions::from_mode(usual | 0o002)).unwrap();
            let Exposed(found) = check_writers(&root).unwrap_err();
            assert_eq!(found.canonicalize().unwrap(), path.canonicalize().unwrap());
            fs::set_permissions(path, fs::Permissions::from_mode(usual)).unwrap();
        }
        assert_eq!(check_writers(&root), Ok(()));
    }
}
