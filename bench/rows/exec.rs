//! A gigabyte through a command without a terminal: recorded here, unrecorded there.

use super::pty::throughput;
use crate::daemon::Kept;
use crate::files::Content;
use crate::stage::Stage;
use crate::table::{Measured, Reach};

const GIB: u64 = 1 << 30;

pub(super) fn measure(stage: &Stage) -> anyhow::Result<Vec<Measured>> {
    let bytes = stage.of(GIB, GIB / 8);
    let mut rows = Vec::new();
    for content in Content::ALL {
        let work = format!("{} MiB over exec, {}", bytes >> 20, content.name());
        rows.push(throughput(
            stage,
            Kept::InClear,
            work,
            content,
            bytes,
            &[],
            Reach::Share(0.5),
        )?);
    }
    let work = format!("{} MiB over exec, text, recorded encrypted", bytes >> 20);
    let (kept, reach) = (Kept::Encrypted, Reach::Share(0.5));
    rows.push(throughput(
        stage,
        kept,
        work,
        Content::Text,
        bytes,
        &[],
        reach,
    )?);
    Ok(rows)
}
