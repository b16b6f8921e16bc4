//! What runs on this machine, as the kernel tells it.

use std::path::PathBuf;

/// The processes whose arguments, joined by spaces, are exactly these.
pub(crate) fn running(command: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for pid in all() {
        let Ok(arguments) = std::fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))) else {
            continue;
        };
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if arguments.trim_end() == command {
            found.push(pid);
        }
    }
    found
}

/// Every process.
pub(crate) fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The value of a line of `/proc/PID/status`.
pub(crate) fn status(pid: u32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap().to_owned()
}
