//! What a terminal would show: a virtual one, for jumping about in a recording and for transcripts.

use avt::{Line, Observation, Observer, Terminal};

use crate::messages::WindowSize;

/// A client may say that its terminal has 4096 by 4096 characters; keeping such a screen costs half a gigabyte.
const MAX_COLS: u16 = 512;
const MAX_ROWS: u16 = 256;

/// A screen that text is written to. Feed it safe text only.
pub(crate) struct Screen(Terminal);

/// A line that went off the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) text: String,
    /// It goes on in the next one.
    pub(crate) wrapped: bool,
}

impl Screen {
    pub(crate) fn new(size: WindowSize) -> Option<Self> {
        let (cols, rows) = bounded(size);
        Terminal::new(cols, rows).ok().map(Self)
    }

    /// Writes to it. Returns the lines that went off the top.
    pub(crate) fn feed(&mut self, text: &str) -> Vec<Gone> {
        self.0.feed_with(text, Departures::default())
    }

    pub(crate) fn resize(&mut self, size: WindowSize) -> Vec<Gone> {
        let (cols, rows) = bounded(size);
        self.0.resize_with(cols, rows, Departures::default())
    }

    /// What draws this screen on a cleared one.
    pub(crate) fn dump(&self) -> String {
        self.0.dump()
    }

    /// The lines of the screen that scrolls, whether or not another one is shown over it.
    pub(crate) fn lines(&self) -> Vec<Gone> {
        self.0.primary_screen().visible_lines().map(gone).collect()
    }
}

fn bounded(size: WindowSize) -> (usize, usize) {
    (
        size.cols.clamp(1, MAX_COLS).into(),
        size.rows.clamp(1, MAX_ROWS).into(),
    )
}

fn gone(line: &Line) -> Gone {
    Gone {
        text: line.text(),
        wrapped: line.is_wrapped(),
    }
}

#[derive(Default)]
struct Departures(Vec<Gone>);

impl Observer for Departures {
    type Output = Vec<Gone>;

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        self.0.push(gone(line));
    }

    fn end(&mut self, _: &mut Observation<'_>) -> Vec<Gone> {
        std::mem::take(&mut self.0)
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Screen").field(&self.0.size()).finish()
    }
}
