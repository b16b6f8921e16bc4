//! The chain of checkpoints, and who may follow whom in it.

use super::statement::{Checkpoint, Standing};

/// How a checkpoint stands to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Right behind it.
    Next,
    /// Those of the spool are left out: a packed recording keeps its first one and the one that sealed it.
    Skipped,
    /// It does not follow it.
    Broken,
}

impl Link {
    /// `last` is none before the first.
    pub(crate) fn between(last: Option<&Checkpoint>, next: &Checkpoint) -> Self {
        let statement = &next.statement;
        let Some(last) = last else {
            let begins = statement.sequence == 0 && statement.previous.is_none();
            return match begins && is_opening(next) {
                true => Self::Next,
                false => Self::Broken,
            };
        };
        if !may_follow(&last.statement.standing, &statement.standing) {
            return Self::Broken;
        }
        let after = last.statement.sequence.saturating_add(1);
        if statement.previous.as_ref() == Some(&last.digest) && statement.sequence == after {
            Self::Next
        } else if is_opening(last)
            && matches!(statement.standing, Standing::Sealed { .. })
            && statement.sequence > after
        {
            Self::Skipped
        } else {
            Self::Broken
        }
    }
}

fn may_follow(last: &Standing, next: &Standing) -> bool {
    use Standing::{Interrupted, Live, Opened, Packed, Packing, Sealed};
    matches!(
        (last, next),
        (
            Opened { .. } | Live { .. },
            Live { .. } | Sealed { .. } | Interrupted { .. }
        ) | (
            Sealed { .. } | Packing { .. },
            Packing { .. } | Packed { .. } // Whose seal was not finished, is closed after the next start.
        ) | (Sealed { .. } | Interrupted { .. }, Interrupted { .. })
    )
}

fn is_opening(checkpoint: &Checkpoint) -> bool {
    matches!(checkpoint.statement.standing, Standing::Opened { .. })
}
