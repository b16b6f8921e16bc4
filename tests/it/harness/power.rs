//! A disk whose power can be cut.
//!
//! It is a file system in an image in memory, behind a loop device. Memory can be sealed against writes from one moment to
//! the next: what the device had written by then is there, what was under way is cut off in the midst of it, page by page,
//! and nothing reaches it any more. That is a disk without a cache of its own, or with one that survives; whether what was
//! written was also flushed is not seen here.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use rustix::fs::{MemfdFlags, SealFlags};

use super::bastion::eventually;

/// Copied at once. Of an empty disk most is zeros, which take no memory.
const BLOCK: usize = 256 << 10;

/// Unmounted when dropped.
pub(crate) struct Disk {
    at: PathBuf,
    image: File,
}

impl Disk {
    /// A new one. `None` where this test process may not mount.
    pub(crate) fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let disk = Self {
            at: at.to_owned(),
            image: image(bytes),
        };
        let script = r#"mkfs.ext4 -q -F -m 0 "$1" && mount -o loop "$1" "$2" && rmdir "$2/lost+found" && chmod 0711 "$2""#;
        let output = disk.run(script);
        if output.status.success() {
            return Some(disk);
        }
        println!(
            "skipped: an image is mounted for this test, which takes root and a loop device: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        None
    }

    /// Takes the power away. What is answered is a moment at which there still was some.
    pub(crate) fn cut(&self) -> Instant {
        let before = Instant::now();
        rustix::fs::fcntl_add_seals(&self.image, SealFlags::FUTURE_WRITE).unwrap();
        before
    }

    /// Mounts what was on it when the power was cut, once nobody has it open any more.
    pub(crate) fn restore(&mut self) {
        eventually("the end of everybody who uses the disk", || {
            self.run(r#"umount "$2""#).status.success().then_some(())
        });
        self.image = copy(&self.image);
        let output = self.run(r#"mount -o loop "$1" "$2""#);
        assert!(output.status.success(), "{output:?}");
    }

    /// With the image and the directory as arguments.
    fn run(&self, script: &str) -> Output {
        let image = format!("/proc/{}/fd/{}", std::process::id(), self.image.as_raw_fd());
        Command::new("sh")
            .args(["-c", script, "disk", &image])
            .arg(&self.at)
            .output()
            .unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the daemon may be in it still.
        drop(self.run(r#"umount -l "$2""#));
    }
}

fn image(bytes: u64) -> File {
    let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let image = File::from(rustix::fs::memfd_create("disk", flags).unwrap());
    image.set_len(bytes).unwrap();
    image
}

fn copy(from: &File) -> File {
    let to = image(from.metadata().unwrap().len());
    let mut from = File::open(format!("/proc/self/fd/{}", from.as_raw_fd())).unwrap();
    let (mut block, mut at) = (vec![0; BLOCK], 0);
    loop {
        let read = from.read(&mut block).unwrap();
        if read == 0 {
            return to;
        }
        if block[..read].iter().any(|byte| *byte != 0) {
            to.write_all_at(&block[..read], at).unwrap();
        }
        at += read as u64;
    }
}
