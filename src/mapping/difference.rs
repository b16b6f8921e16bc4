//! Who gains and who loses what between two configurations.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::holdings::{Aspects, Holder, Thing, holdings};
use crate::config::Config;

/// As many names as say enough; JSON has all.
const SHOWN: usize = 8;

/// What changes. Empty, if nobody gains or loses anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// For whom what; those for whom the same changes stand together.
    pub changes: Vec<Change>,
}

/// What changes for some.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// For whom.
    pub who: Vec<Holder>,
    /// What they did not have.
    pub gains: Vec<Had>,
    /// What they do not have any more.
    pub loses: Vec<Had>,
    /// What they have otherwise than before.
    pub changes: Vec<Altered>,
}

/// Something, and what is said of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Had {
    /// What.
    #[serde(flatten)]
    pub thing: Thing,
    /// What is said of it.
    pub is: Aspects,
}

/// Something that is otherwise now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Altered {
    /// What.
    #[serde(flatten)]
    pub thing: Thing,
    /// For each aspect: before, and after.
    pub altered: BTreeMap<&'static str, (Option<String>, Option<String>)>,
}

/// Compares what everybody has, by bindings that stand then. What is nobody's (limits, listeners, how clusters are reached) does not
/// count.
pub fn difference(old: &Config, new: &Config, now: Timestamp) -> Difference {
    let (mut before, mut after) = (holdings(old, now), holdings(new, now));
    let everybody: std::collections::BTreeSet<Holder> =
        before.keys().chain(after.keys()).cloned().collect();
    let mut changes: Vec<Change> = Vec::new();
    for who in everybody {
        let before = before.remove(&who).unwrap_or_default();
        let after = after.remove(&who).unwrap_or_default();
        let Some(change) = change(who, before, after) else {
            continue;
        };
        let same = changes.iter_mut().find(|other| {
            (&other.gains, &other.loses, &other.changes)
                == (&change.gains, &change.loses, &change.changes)
        });
        match same {
            Some(same) => same.who.extend(change.who),
            None => changes.push(change),
        }
    }
    Difference { changes }
}

fn change(
    who: Holder,
    before: BTreeMap<Thing, Aspects>,
    mut after: BTreeMap<Thing, Aspects>,
) -> Option<Change> {
    let mut change = Change {
        who: vec![who],
        gains: Vec::new(),
        loses: Vec::new(),
        changes: Vec::new(),
    };
    for (thing, was) in before {
        match after.remove(&thing) {
            None => change.loses.push(Had { thing, is: was }),
            Some(is) if is == was => {}
            Some(is) => change.changes.push(altered(thing, was, is)),
        }
    }
    let gains = after.into_iter().map(|(thing, is)| Had { thing, is });
    change.gains.extend(gains);
    let any = !(change.gains.is_empty() && change.loses.is_empty() && change.changes.is_empty());
    any.then_some(change)
}

fn altered(thing: Thing, was: Aspects, mut is: Aspects) -> Altered {
    let mut altered = BTreeMap::new();
    for (aspect, before) in was {
        let after = is.remove(aspect);
        if after.as_ref() != Some(&before) {
            altered.insert(aspect, (Some(before), after));
        }
    }
    altered.extend(
        is.into_iter()
            .map(|(aspect, after)| (aspect, (None, Some(after)))),
    );
    Altered { thing, altered }
}

impl Difference {
    /// Whether nobody gains or loses anything.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl fmt::Display for Difference {
    /// In words, a paragraph for those for whom the same changes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let names: Vec<String> = change
                .who
                .iter()
                .take(SHOWN)
                .map(ToString::to_string)
                .collect();
            let more = match change.who.len().saturating_sub(names.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            writeln!(f, "{}{more}", names.join(", "))?;
            for had in &change.gains {
                writeln!(f, "  gain    {had}")?;
            }
            for had in &change.loses {
                writeln!(f, "  lose    {had}")?;
            }
            for altered in &change.changes {
                for (aspect, (before, after)) in &altered.altered {
                    let or_none =
                        |value: &Option<String>| value.clone().unwrap_or("nothing".to_owned());
                    writeln!(
                        f,
                        "  change  {}: {aspect}: {} -> {}",
                        altered.thing,
                        or_none(before),
                        or_none(after)
                    )?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Had {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is the same for most roles says nothing of somebody's gain.
        let told = [
            "as",
            "stands for",
            "sessions",
            "reaches",
            "tools",
            "from",
            "until",
            "of identities",
            "on clusters",
            "given",
        ];
        let words: Vec<String> = told
            .iter()
            .filter_map(|aspect| {
                let value = self.is.get(aspect)?;
                match *aspect {
                    "given" | "sessions" => Some(value.clone()),
                    aspect => Some(format!("{aspect} {value}")),
                }
            })
            .collect();
        if words.is_empty() {
            return write!(f, "{}", self.thing);
        }
        write!(f, "{} ({})", self.thing, words.join("; "))
    }
}
