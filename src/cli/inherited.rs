//! What this process was started with beyond stdin, stdout and stderr: nothing is to stay of it.

use std::fs::read_dir;

/// Closes it. Whoever starts a daemon may have forgotten a file that is open, and every sandbox would get that file
/// too: bubblewrap passes on what it was given. To be called before anything of our own is open.
pub(crate) fn close() -> std::io::Result<()> {
    let mut inherited = Vec::new();
    for entry in read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        inherited.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for fd in inherited.into_iter().filter(|fd| *fd > 2) {
        match nix::unistd::close(fd) {
            // The one that the list was read through.
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
