//! From the texts of all files to documents, by as many threads as there are processors: a large organisation has tens of thousands,
//! and each is a piece of text of its own.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Gathered, Problem};
use super::raw::{self, Document};
use super::yaml::{self, Chunk};

/// What one thread reads at least, in bytes: less is done sooner than a thread is started.
const WORTH_A_THREAD: usize = 64 << 10;

/// What was in the files, in their order.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) documents: Vec<Document>,
    pub(super) problems: Vec<Problem>,
    /// Something was no document at all.
    pub(super) incomplete: bool,
}

/// Reads all of them. The order in which it is done does not show.
pub(super) fn documents(files: &[(PathBuf, Arc<str>)]) -> Found {
    let pieces: Vec<(&Path, Chunk<'_>)> = files
        .iter()
        .flat_map(|(file, text)| {
            let chunks = yaml::chunks(text).into_iter();
            chunks.map(|chunk| (file.as_path(), chunk))
        })
        .collect();
    let total: usize = pieces.iter().map(|(_, chunk)| chunk.size()).sum();
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let shares = shares(
        &pieces,
        total,
        processors.min(total / WORTH_A_THREAD).max(1),
    );
    let mut found = Found::default();
    let Some((own, others)) = shares.split_first() else {
        return found;
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = others
            .iter()
            .map(|share| scope.spawn(|| read(share)))
            .collect();
        found.extend(read(own));
        for other in others {
            match other.join() {
                Ok(share) => found.extend(share),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    found
}

/// Cuts a list into as many pieces of about the same size.
fn shares<'p, 'f>(
    mut pieces: &'p [(&'f Path, Chunk<'f>)],
    total: usize,
    count: usize,
) -> Vec<&'p [(&'f Path, Chunk<'f>)]> {
    let each = total / count + 1;
    let mut shares = Vec::with_capacity(count);
    while !pieces.is_empty() {
        let mut size = 0;
        let end = pieces.iter().position(|(_, chunk)| {
            size += chunk.size();
            size > each
        });
        // One that is larger than a share is one all the same.
        let end = end.unwrap_or(pieces.len()).max(1);
        let (share, rest) = pieces.split_at_checked(end).unwrap_or((pieces, &[]));
        shares.push(share);
        pieces = rest;
    }
    shares
}

fn read(share: &[(&Path, Chunk<'_>)]) -> Found {
    let gathered = Gathered::default();
    let mut found = Found::default();
    // Counted by every place of every value: of each thread's own, so that threads do not wait for each other.
    let mut of: Option<(&Path, Arc<Path>, Arc<Path>)> = None;
    for (file, chunk) in share {
        if of.as_ref().is_none_or(|(known, ..)| known != file) {
            let base = file.parent().unwrap_or(Path::new(""));
            of = Some((file, Arc::from(*file), Arc::from(base)));
        }
        let Some((_, name, base)) = &of else {
            continue;
        };
        for node in chunk.documents(name) {
            let document = match node {
                Ok(node) => raw::document(&gathered, &node, base),
                Err(problem) => {
                    gathered.push(problem);
                    None
                }
            };
            found.incomplete |= document.is_none();
            found.documents.extend(document);
        }
    }
    found.problems = gathered.into_list();
    found
}

impl Found {
    fn extend(&mut self, more: Self) {
        self.documents.extend(more.documents);
        self.problems.extend(more.problems);
        self.incomplete |= more.incomplete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(count: usize) -> Vec<(PathBuf, Arc<str>)> {
        let one = |n: usize| {
            let broken = if n.is_multiple_of(100) {
                "kyes: 1, "
            } else {
                ""
            };
            format!(
                "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {{name: p-{n}}}\nspec: {{{broken}groups: [a], keys: []}}\n"
            )
        };
        let file = |tenth: usize| {
            let text: String = (tenth * count / 10..(tenth + 1) * count / 10)
                .map(one)
                .collect();
            (PathBuf::from(format!("{tenth}.yaml")), Arc::from(text))
        };
        (0..10).map(file).collect()
    }

    #[test]
    fn by_how_many_threads_does_not_show() {
        let files = people(3_000);
        let pieces: Vec<_> = files
            .iter()
            .flat_map(|(file, text)| {
                let chunks = yaml::chunks(text).into_iter();
                chunks.map(|chunk| (file.as_path(), chunk))
            })
            .collect();
        let total: usize = pieces.iter().map(|(_, chunk)| chunk.size()).sum();
        assert!(total > 4 * WORTH_A_THREAD, "{total}");
        let alone = read(&pieces);
        let names = |found: &Found| -> Vec<String> {
            let names = found.documents.iter();
            names
                .map(|document| document.name.value.to_string())
                .collect()
        };
        for count in [1, 2, 3, 7] {
            let shares = shares(&pieces, total, count);
            assert!(shares.len() <= count + 1, "{} for {count}", shares.len());
            assert_eq!(
                shares.iter().map(|share| share.len()).sum::<usize>(),
                pieces.len()
            );
        }
        let together = documents(&files);
        assert_eq!(names(&together), names(&alone));
        assert_eq!(together.problems, alone.problems);
        assert_eq!(together.problems.len(), 30);
        let place = together.problems[29].place().to_string();
        assert!(place.starts_with("9.yaml:10"), "{place}");
    }

    #[test]
    fn what_is_larger_than_a_share_is_read_all_the_same() {
        let large = format!("a: '{}'\n---\nb: 1\n", "x".repeat(3 * WORTH_A_THREAD));
        let found = documents(&[("f.yaml".into(), Arc::from(large))]);
        assert!(found.incomplete && found.documents.is_empty());
        assert!(documents(&[]).documents.is_empty());
    }
}
