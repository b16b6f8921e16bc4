//! What is wrong with a configuration: all of it at once, each with its place.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A position in a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub(super) file: Arc<Path>,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl Place {
    /// The beginning of a file, for what concerns the whole of it.
    pub(super) fn file(path: &Path) -> Self {
        Self {
            file: Arc::from(path),
            line: 0,
            column: 0,
        }
    }

    /// The file, as the caller named it.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Line from 1; 0 where the whole file is meant.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Column from 1, in characters; 0 where the whole file or line is meant.
    pub fn column(&self) -> u32 {
        self.column
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        Ok(())
    }
}

/// A value with the place that it was written at.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) at: Place,
}

/// One thing that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    place: Place,
    message: String,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self {
            place,
            message: message.into(),
        }
    }

    /// Where.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong and what to do.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `None` if there is none.
    pub(super) fn from_list(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort();
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// One problem with a whole file or directory.
    pub(super) fn one(path: &Path, message: impl Into<String>) -> Self {
        Self(vec![Problem::new(Place::file(path), message)])
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    /// One a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Where problems are gathered while documents are read. Shared, so that readers of parts need no `&mut`.
#[derive(Debug, Default)]
pub(super) struct Gathered(std::cell::RefCell<Vec<Problem>>);

impl Gathered {
    pub(super) fn report(&self, place: &Place, message: impl Into<String>) {
        self.0
            .borrow_mut()
            .push(Problem::new(place.clone(), message));
    }

    pub(super) fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.0.into_inner()
    }

    pub(super) fn into_problems(self) -> Option<Problems> {
        Problems::from_list(self.0.into_inner())
    }
}
