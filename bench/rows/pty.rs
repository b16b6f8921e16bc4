//! A flood of output at a terminal: recorded here, unrecorded there.

use std::process::Command;

use crate::daemon::Kept;
use crate::files::Content;
use crate::process;
use crate::ssh::Target;
use crate::stage::Stage;
use crate::stats::median;
use crate::table::{Measured, Reach, Unit};

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let bytes = stage.of(256 << 20, 64 << 20);
    let work = format!("{} MiB of text at a PTY", bytes >> 20);
    let row = |kept, work, reach| {
        let reach = Reach::Share(reach);
        throughput(stage, kept, work, Content::Text, bytes, &["-tt"], reach)
    };
    Ok(vec![
        row(Kept::InClear, work.clone(), 1.0)?,
        row(Kept::Encrypted, format!("{work}, recorded encrypted"), 0.9)?,
    ])
}

/// `ssh HOST cat FILE`, by turns on both sides, from the start of `ssh` to its end.
pub(super) fn throughput(
    stage: &Stage,
    kept: Kept,
    work: String,
    content: Content,
    bytes: u64,
    flags: &[&str],
    reach: Reach,
) -> anyhow::Result<Measured> {
    let daemon = stage.daemon_that_keeps(kept)?;
    let (path, size) = stage.file(content, bytes)?;
    let line = format!("cat {}", path.display());
    let rate = |target: &Target| -> anyhow::Result<f64> {
        // Whatever was written before is not what this one has to wait for.
        process::output(&mut Command::new("sync"))?;
        Ok(size as f64 / 1000.0 / target.time(flags, &line)?)
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..stage.of(5, 3) {
        ours.push(rate(&daemon.target)?);
        daemon.forget_recordings()?;
        if let Some(peer) = stage.peer() {
            theirs.push(rate(&peer.target)?);
        }
    }
    std::fs::remove_file(path)?;
    Ok(Measured {
        work,
        unit: Unit::MegabytesPerSecond,
        ours: median(&ours),
        peer: (!theirs.is_empty()).then(|| median(&theirs)),
        reach,
    })
}
