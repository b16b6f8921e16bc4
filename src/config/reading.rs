//! From the texts of all files to documents, by as many threads as there are processors: a large organisation has tens of thousands,
//! and each is a piece of text of its own.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Gathered, Problem};
use super::raw::{self, Document};
use super::remembered::{Content, Remembered};
use super::yaml::{self, Chunk};

/// What one thread reads at least, in bytes: less is done sooner than a thread is started.
const WORTH_A_THREAD: usize = 64 << 10;

/// What was in the files, in their order.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) documents: Vec<Arc<Document>>,
    pub(super) problems: Vec<Problem>,
    /// Something was no document at all.
    pub(super) incomplete: bool,
}

/// What is in all of them, as if each were read; those that hold what they held are not. The order in which it is done does not show.
pub(super) fn documents(files: &[(PathBuf, Arc<str>)], remembered: &mut Remembered) -> Found {
    let contents: Vec<Content> = files.iter().map(|(_, text)| Content::of(text)).collect();
    let known = |(file, content): (&(PathBuf, Arc<str>), &Content)| {
        let documents = remembered.documents(&file.0, *content);
        documents.map(<[Arc<Document>]>::to_vec)
    };
    let known: Vec<Option<Vec<Arc<Document>>>> = files.iter().zip(&contents).map(known).collect();
    let unknown = files
        .iter()
        .zip(&known)
        .filter(|(_, known)| known.is_none());
    let read = read_all(unknown.map(|(file, _)| file));

    let mut found = Found {
        documents: Vec::new(),
        problems: read.problems,
        incomplete: read.incomplete,
    };
    let wrong: HashSet<&Path> = found
        .problems
        .iter()
        .map(|one| one.place().path())
        .collect();
    let mut new: HashMap<&Path, Vec<Arc<Document>>> = HashMap::new();
    for document in &read.documents {
        let of_its_file = new.entry(document.at.path()).or_default();
        of_its_file.push(Arc::clone(document));
    }
    *remembered = Remembered::default();
    for (((file, text), content), known) in files.iter().zip(contents).zip(known) {
        let documents = known.or_else(|| new.remove(file.as_path()));
        let documents = documents.unwrap_or_default();
        if !wrong.contains(file.as_path()) {
            remembered.keep(file, content, text.len(), &documents);
        }
        found.documents.extend(documents);
    }
    found
}

fn read_all<'f>(files: impl Iterator<Item = &'f (PathBuf, Arc<str>)>) -> Found {
    let pieces: Vec<(&Path, Chunk<'_>)> = files
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
            found.documents.extend(document.map(Arc::new));
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
    use proptest::prelude::*;

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
        let together = documents(&files, &mut Remembered::default());
        assert_eq!(names(&together), names(&alone));
        assert_eq!(together.problems, alone.problems);
        assert_eq!(together.problems.len(), 30);
        let place = together.problems[29].place().to_string();
        assert!(place.starts_with("9.yaml:10"), "{place}");
    }

    #[test]
    fn what_is_larger_than_a_share_is_read_all_the_same() {
        let large = format!("a: '{}'\n---\nb: 1\n", "x".repeat(3 * WORTH_A_THREAD));
        let found = documents(
            &[("f.yaml".into(), Arc::from(large))],
            &mut Remembered::default(),
        );
        assert!(found.incomplete && found.documents.is_empty());
        let none = documents(&[], &mut Remembered::default());
        assert!(none.documents.is_empty());
    }

    #[test]
    fn what_did_not_change_is_not_read_again_and_what_is_wrong_is() {
        let mut remembered = Remembered::default();
        let files = people(90);
        let first = documents(&files, &mut remembered);
        let mut changed = files.clone();
        changed[3].1 = Arc::from(changed[3].1.replace("groups: [a]", "groups: [b]"));
        let second = documents(&changed, &mut remembered);
        let same: Vec<bool> = first
            .documents
            .iter()
            .zip(&second.documents)
            .map(|(one, other)| Arc::ptr_eq(one, other))
            .collect();
        // In the first file there is a mistake, and in the fourth a change; each has nine documents.
        let expected = (0..90).map(|n| n / 9 != 0 && n / 9 != 3);
        assert_eq!(same, expected.collect::<Vec<_>>());
        assert_eq!(first.problems, second.problems);
        // A file that is gone is forgotten.
        documents(&changed[..1], &mut remembered);
        let third = documents(&changed, &mut remembered);
        assert!(!Arc::ptr_eq(&second.documents[80], &third.documents[80]));
    }

    /// A file of some documents, some with a mistake or no YAML at all.
    fn file() -> impl Strategy<Value = String> {
        let document = (0..6_u8, 0..4_u8).prop_map(|(name, kind)| {
            let spec = match kind {
                0 => "{groups: [a], keys: []}",
                1 => "{kyes: 1}",
                2 => "[",
                _ => "{groups: [b], keys: [x]}",
            };
            format!(
                "---\napiVersion: bastion-audit.dev/v1alpha1\nkind: Identity\nmetadata: {{name: p-{name}}}\nspec: {spec}\n"
            )
        });
        proptest::collection::vec(document, 0..4).prop_map(|documents| documents.concat())
    }

    proptest! {
        #[test]
        fn what_is_remembered_does_not_show(
            loads in proptest::collection::vec(proptest::collection::vec((0..3_u8, file()), 0..4), 1..5)
        ) {
            let mut remembered = Remembered::default();
            // What a file is not given anew, it holds still.
            let mut files: std::collections::BTreeMap<PathBuf, Arc<str>> = Default::default();
            for load in loads {
                for (file, text) in load {
                    files.insert(PathBuf::from(format!("{file}.yaml")), Arc::from(text));
                }
                let files: Vec<_> = files.clone().into_iter().collect();
                let cold = documents(&files, &mut Remembered::default());
                let warm = documents(&files, &mut remembered);
                prop_assert_eq!(format!("{cold:?}"), format!("{warm:?}"));
            }
        }
    }
}
