//! Where the bytes of a file come from that are not what they should be.

use std::collections::BTreeSet;
use std::io::SeekFrom;

use aws_lc_rs::digest::{self, SHA256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::check::Problem;
use super::statement::Extent;
use super::writing::hex;
use crate::store::StoredReader;

/// Places that are looked at; what comes behind them is only said to be changed.
const MOST_PLACES: usize = 64;

const BUFFER: usize = 256 * 1024;

/// Says of each stretch in `wrong`, which are of `covered`, whether it was changed or stands elsewhere now: a stretch that
/// was taken out, doubled or exchanged moves those behind it.
pub(super) async fn moved(
    file: &mut dyn StoredReader,
    covered: &[Extent],
    wrong: &[Extent],
) -> std::io::Result<Vec<Problem>> {
    let lengths: BTreeSet<u64> = covered
        .iter()
        .map(|extent| extent.to.saturating_sub(extent.from))
        .collect();
    let mut problems = Vec::new();
    let mut at = wrong.first().map_or(0, |first| first.from);
    let end = wrong.last().map_or(0, |last| last.to);
    for _ in 0..MOST_PLACES {
        if at >= end {
            break;
        }
        if let Some(found) = stretch_at(file, at, &lengths, covered).await? {
            let to = at.saturating_add(found.to.saturating_sub(found.from));
            if found.from != at {
                problems.push(Problem::Reordered {
                    file: found.file.clone(),
                    from: at,
                    to,
                    really: found.from,
                });
            }
            at = to;
            continue;
        }
        let Some(there) = covered.iter().find(|it| it.from <= at && at < it.to) else {
            break;
        };
        problems.push(changed(there, at));
        at = there.to;
    }
    let rest = wrong.iter().filter(|extent| extent.from >= at);
    problems.extend(rest.map(|extent| changed(extent, extent.from)));
    Ok(problems)
}

fn changed(extent: &Extent, from: u64) -> Problem {
    Problem::Changed {
        file: extent.file.clone(),
        from,
        to: extent.to,
    }
}

/// The stretch whose bytes begin at `at`; of several alike that which belongs there.
async fn stretch_at<'a>(
    file: &mut dyn StoredReader,
    at: u64,
    lengths: &BTreeSet<u64>,
    covered: &'a [Extent],
) -> std::io::Result<Option<&'a Extent>> {
    file.seek(SeekFrom::Start(at)).await?;
    let mut digest = digest::Context::new(&SHA256);
    let mut read = 0_u64;
    let mut buffer = vec![0; BUFFER];
    for &length in lengths.iter().filter(|length| **length > 0) {
        while read < length {
            let most = usize::try_from(length.saturating_sub(read)).unwrap_or(usize::MAX);
            let room = buffer.len().min(most);
            let space = buffer.get_mut(..room).unwrap_or_default();
            let more = file.read(space).await?;
            if more == 0 {
                return Ok(None);
            }
            digest.update(space.get(..more).unwrap_or_default());
            read = read.saturating_add(more as u64);
        }
        let found = hex(digest.clone().finish().as_ref());
        let alike = |it: &&Extent| it.to.saturating_sub(it.from) == length && it.sha256 == found;
        let own = covered.iter().filter(alike).find(|it| it.from == at);
        if let Some(extent) = own.or_else(|| covered.iter().find(alike)) {
            return Ok(Some(extent));
        }
    }
    Ok(None)
}
