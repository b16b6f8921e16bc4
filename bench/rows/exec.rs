//! A gigabyte through a command without a terminal: recorded here, unrecorded there.

use super::pty::throughput;
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
            work,
            content,
            bytes,
            &[],
            Reach::Share(0.5),
        )?);
    }
    Ok(rows)
}
