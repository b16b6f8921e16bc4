//! What was once wrong in russh and reachable after a proof, tried against us: docs/PRIOR-CVES.md. Whatever becomes of the one who tries it,
//! the daemon goes on, and others are served.

use super::*;

const SCRIPT: &str = include_str!("hostile.py");
/// What a daemon may grow by, in KiB.
const GROWTH: u64 = 48 * 1024;

/// What became of it.
fn tried(what: &str) -> String {
    let bastion = Bastion::start();
    let before = resident_kib(bastion.pid());
    let output = Command::new("timeout")
        .arg(LONGEST_SCRIPT)
        .arg(client("python"))
        .args(["-c", SCRIPT, &bastion.port().to_string(), "operator-a"])
        .arg(bastion.path().join("keys/operator-a"))
        .arg(what)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let ran = bastion.run_ssh("operator-b", "editor", "echo others are served");
    assert_eq!(ran.stdout, "others are served\n", "{ran:?}");
    let grown = resident_kib(bastion.pid()).saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB more");
    assert!(!bastion.log().contains("panicked"));
    said(&output).trim().to_owned()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// CVE-2025-54804: it overflowed.
#[test]
fn a_window_of_more_than_there_is_does_no_harm() {
    let became = tried("window");
    assert_eq!(became, "still here");
}

/// CVE-2026-102821: they queued without a bound.
#[test]
fn channels_that_are_opened_while_new_keys_are_held_up_are_not_kept() {
    let became = tried("channels");
    assert_eq!(became, "cut");
}
