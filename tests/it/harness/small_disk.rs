//! A small file system of its own, which can be full and can refuse writes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::bastion::{Bastion, eventually};

/// What takes the space.
const FILLER: &str = "filler";

/// Unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// In memory. `None` where this test process may not mount.
    pub(crate) fn mount(at: &Path, bytes: u64, inodes: Option<u64>) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mut options = format!("size={bytes},mode=0711");
        if let Some(inodes) = inodes {
            options.push_str(&format!(",nr_inodes={inodes}"));
        }
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options])
            .args(["tmpfs", at.to_str().unwrap()])
            .output()
            .unwrap();
        Self::mounted(
            at,
            &output,
            "a tmpfs is mounted for this test, which takes root",
        )
    }

    /// In an image file, of a kind that can go read-only under open files.
    pub(crate) fn mount_image(at: &Path, image: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        std::fs::File::create(image)
            .unwrap()
            .set_len(bytes)
            .unwrap();
        let script = r#"mkfs.ext4 -q -m 0 "$1" && mount -o loop "$1" "$2" && rmdir "$2/lost+found" && chmod 0711 "$2""#;
        let output = Command::new("sh")
            .args(["-c", script, "mount_image"])
            .args([image, at])
            .output()
            .unwrap();
        let takes = "an image is mounted for this test, which takes root and a loop device";
        Self::mounted(at, &output, takes)
    }

    fn mounted(at: &Path, output: &Output, takes: &str) -> Option<Self> {
        if output.status.success() {
            return Some(Self(at.to_owned()));
        }
        println!(
            "skipped: {takes}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        None
    }

    /// Takes every byte that is left.
    pub(crate) fn fill(&self) {
        let mut file = self.filler();
        for block in [64 << 10, 1] {
            let zeros = vec![0; block];
            while file.write_all(&zeros).is_ok() {}
        }
    }

    /// The same, but for so many bytes.
    pub(crate) fn fill_but(&self, rest: u64) {
        let mut file = self.filler();
        while self.free_bytes() > rest {
            file.write_all(&[0; 16 << 10]).unwrap();
        }
    }

    fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Gives that back.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.0.join(FILLER)).unwrap();
    }

    /// Takes every inode that is left.
    pub(crate) fn fill_inodes(&self) {
        let crowd = self.0.join("crowd");
        std::fs::create_dir_all(&crowd).unwrap();
        for number in 0.. {
            if std::fs::write(crowd.join(number.to_string()), "").is_err() {
                return;
            }
        }
    }

    /// Gives those back.
    pub(crate) fn free_inodes(&self) {
        std::fs::remove_dir_all(self.0.join("crowd")).unwrap();
    }

    /// Has the kernel refuse every write from now on, as after an error of the disk.
    pub(crate) fn abort(&self) {
        let status = Command::new("mount")
            .args(["-o", "remount,abort"])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }

    /// Mounts the image again, its file system mended. Nobody may have a file of it open.
    pub(crate) fn mend(&self, image: &Path) {
        let script =
            r#"umount "$2" && { e2fsck -y -f "$1"; [ $? -le 1 ]; } && mount -o loop "$1" "$2""#;
        let output = Command::new("sh")
            .args(["-c", script, "mend"])
            .args([image, &self.0])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn filler(&self) -> std::fs::File {
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.0.join(FILLER))
            .unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the daemon may be in it still.
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        drop(status);
    }
}

impl Bastion {
    /// A number that `bastion-audit metrics` tells.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let output = self.cli(&["metrics"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let prefix = format!("bastion_audit_{name} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("{name} is not in {text}"))
            .parse()
            .unwrap()
    }

    /// Waits until it is so large.
    pub(crate) fn metric_becomes(&self, name: &str, value: u64) {
        eventually(&format!("{name} to be {value}"), || {
            (self.metric(name) == value).then_some(())
        });
    }
}
