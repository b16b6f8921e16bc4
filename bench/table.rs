//! What was measured, as a table that is valid Markdown.

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) work: String,
    pub(crate) unit: Unit,
    pub(crate) ours: f64,
    /// None where there is no peer here.
    pub(crate) peer: Option<f64>,
    pub(crate) reach: Reach,
}

/// What the numbers count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Milliseconds,
    Microseconds,
    MegabytesPerSecond,
    RequestsPerSecond,
    PerSecond,
    Kibibytes,
}

/// What we want to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// The peer's number is so many times ours.
    TimesLess(f64),
    /// Ours is so much of the peer's.
    Share(f64),
    /// Ours is less than so much of the peer's.
    ShareUnder(f64),
    /// Ours less the peer's is under this.
    Beyond(f64),
    /// Ours is under this, whatever the peer's.
    Under(f64),
    /// Ours is over this, whatever the peer's.
    Over(f64),
    /// Shown for comparison.
    Nothing,
}

impl Unit {
    fn show(self, number: f64) -> String {
        match self {
            Self::Milliseconds if number.abs() < 10.0 => format!("{number:.2} ms"),
            Self::Milliseconds => format!("{number:.1} ms"),
            Self::Microseconds => format!("{number:.1} µs"),
            Self::MegabytesPerSecond => format!("{number:.0} MB/s"),
            Self::RequestsPerSecond => format!("{number:.0}/s"),
            Self::PerSecond => format!("{number:.1}/s"),
            Self::Kibibytes => format!("{number:.0} KiB"),
        }
    }
}

impl Measured {
    fn comparison(&self) -> String {
        let Some(peer) = self.peer else {
            return "-".to_owned();
        };
        match self.reach {
            Reach::TimesLess(_) => format!("{:.1} times less", peer / self.ours),
            Reach::Beyond(_) => format!("{:+.2} ms", self.ours - peer),
            Reach::Share(_)
            | Reach::ShareUnder(_)
            | Reach::Under(_)
            | Reach::Over(_)
            | Reach::Nothing => {
                format!("{:.2}", self.ours / peer)
            }
        }
    }

    fn wanted(&self) -> String {
        match self.reach {
            Reach::TimesLess(times) => format!("{times:.0} times less"),
            Reach::Share(share) => format!("at least {share}"),
            Reach::ShareUnder(share) => format!("under {share}"),
            Reach::Beyond(most) => format!("under +{}", self.unit.show(most)),
            Reach::Under(most) => format!("under {}", self.unit.show(most)),
            Reach::Over(least) => format!("over {}", self.unit.show(least)),
            Reach::Nothing => "-".to_owned(),
        }
    }

    fn verdict(&self) -> &'static str {
        let met = match (self.reach, self.peer) {
            (Reach::Nothing, _) => return "",
            (Reach::Under(most), _) => self.ours < most,
            (Reach::Over(least), _) => self.ours > least,
            (_, None) => return "no peer",
            (Reach::TimesLess(times), Some(peer)) => peer / self.ours >= times,
            (Reach::Share(share), Some(peer)) => self.ours / peer >= share,
            (Reach::ShareUnder(share), Some(peer)) => self.ours / peer < share,
            (Reach::Beyond(most), Some(peer)) => self.ours - peer < most,
        };
        if met { "met" } else { "NOT met" }
    }

    fn cells(&self) -> [String; 6] {
        [
            self.work.clone(),
            self.unit.show(self.ours),
            self.peer
                .map_or("-".to_owned(), |peer| self.unit.show(peer)),
            self.comparison(),
            self.wanted(),
            self.verdict().to_owned(),
        ]
    }
}

/// All rows, aligned.
pub(crate) fn render(measured: &[Measured]) -> String {
    let head = ["work", "ours", "peer", "ratio", "reach", ""].map(str::to_owned);
    let rows: Vec<[String; 6]> = measured.iter().map(Measured::cells).collect();
    let mut widths = head.each_ref().map(|cell| cell.len());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut table = line(&head, &widths);
    table += &line(&widths.map(|width| "-".repeat(width)), &widths);
    for row in &rows {
        table += &line(row, &widths);
    }
    table
}

fn line(cells: &[String; 6], widths: &[usize; 6]) -> String {
    let mut line = "|".to_owned();
    for (cell, width) in cells.iter().zip(widths) {
        line += &format!(" {cell:width$} |");
    }
    line + "\n"
}
