//! How fast recordings are proven: the bytes as they are stored, packed, against `sha256sum` over the same files.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::files::Content;
use crate::process;
use crate::stage::Stage;
use crate::stats::median;
use crate::table::{Measured, Reach, Unit};

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let daemon = stage.daemon()?;
    let (path, _) = stage.file(Content::Random, stage.of(1 << 30, 256 << 20))?;
    // What it prints is not what is measured.
    daemon
        .target
        .time(&[], &format!("cat {}", path.display()))?;
    std::fs::remove_file(path)?;
    daemon.packed()?;
    let (files, bytes) = files(daemon.recordings()?)?;
    let rate = |command: &mut Command| -> anyhow::Result<f64> {
        let began = Instant::now();
        process::output(command)?;
        Ok(bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..stage.of(5, 3) {
        ours.push(rate(
            Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
                .args(["verify", "--all", "--state-dir"])
                .arg(daemon.state_dir()),
        )?);
        theirs.push(rate(Command::new("sha256sum").args(&files))?);
    }
    Ok(vec![Measured {
        work: format!(
            "verify {} MB of recordings (peer: sha256sum)",
            bytes / 1_000_000
        ),
        unit: Unit::MegabytesPerSecond,
        ours: median(&ours),
        peer: Some(median(&theirs)),
        reach: Reach::Over(300.0),
    }])
}

/// What is in the recordings' directories, and how much.
fn files(recordings: Vec<PathBuf>) -> anyhow::Result<(Vec<PathBuf>, u64)> {
    let (mut files, mut bytes) = (Vec::new(), 0);
    for recording in recordings {
        for entry in std::fs::read_dir(recording)? {
            let entry = entry?;
            bytes += entry.metadata()?.len();
            files.push(entry.path());
        }
    }
    Ok((files, bytes))
}
