//! Taking a mapping apart: every key is asked for by name, and what nobody asked for is a problem.

use super::problem::{At, Gathered};
use super::yaml::{Node, Value};

/// A mapping while it is read.
pub(super) struct Fields<'a> {
    gathered: &'a Gathered,
    node: &'a Node,
    what: &'static str,
    entries: Vec<(&'a str, &'a Node, &'a Node)>,
    known: Vec<&'static str>,
    taken: Vec<&'static str>,
}

/// What turns a node into a value, or reports why not.
pub(super) type Decode<T> = fn(&Gathered, &Node) -> Option<T>;

impl<'a> Fields<'a> {
    /// Opens a mapping that error messages call `what`.
    pub(super) fn open(gathered: &'a Gathered, node: &'a Node, what: &'static str) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            gathered.report(
                &node.at,
                format!(
                    "{what} is a mapping of keys to values, not {}",
                    node.value.what()
                ),
            );
            return None;
        };
        let mut named = Vec::new();
        for (key, value) in entries {
            match &key.value {
                Value::Text(text) => named.push((text.as_str(), key, value)),
                other => gathered.report(&key.at, format!("a key is text, not {}", other.what())),
            }
        }
        Some(Self {
            gathered,
            node,
            what,
            entries: named,
            known: Vec::new(),
            taken: Vec::new(),
        })
    }

    /// Whether the key is there, good or bad.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _, _)| *name == key)
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(&mut self, key: &'static str, decode: Decode<T>) -> Option<At<T>> {
        let node = self.required_node(key)?;
        self.decoded(node, decode)
    }

    /// The value of a key that may be left out.
    pub(super) fn optional<T>(&mut self, key: &'static str, decode: Decode<T>) -> Option<At<T>> {
        let node = self.optional_node(key)?;
        self.decoded(node, decode)
    }

    /// As [`Self::required`], not yet decoded.
    pub(super) fn required_node(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.has(key) {
            self.gathered.report(
                &self.node.at,
                format!("{} needs the key '{key}'", self.what),
            );
        }
        self.optional_node(key)
    }

    fn optional_node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        let (_, _, node) = *self.entries.iter().find(|(name, _, _)| *name == key)?;
        self.taken.push(key);
        // Kubernetes reads `until:` as if it were not there. Here an empty value may be a forgotten bound.
        if matches!(node.value, Value::Null) {
            self.gathered.report(
                &node.at,
                format!("'{key}' has no value: write one, or leave the key out"),
            );
            return None;
        }
        Some(node)
    }

    fn decoded<T>(&self, node: &Node, decode: Decode<T>) -> Option<At<T>> {
        Some(At {
            value: decode(self.gathered, node)?,
            at: node.at.clone(),
        })
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn close(self) {
        for (name, key, _) in &self.entries {
            if self.taken.iter().any(|taken| taken == name) {
                continue;
            }
            let advice = match nearest(name, &self.known) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            self.gathered.report(
                &key.at,
                format!(
                    "unknown key '{}' in {}: {advice}",
                    name.escape_debug(),
                    self.what
                ),
            );
        }
    }
}

/// The known word that is a small slip away.
pub(super) fn nearest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    known
        .iter()
        .map(|candidate| {
            (
                distance(&lower, &candidate.to_ascii_lowercase()),
                *candidate,
            )
        })
        .filter(|(distance, candidate)| {
            *distance <= candidate.len() / 3 + 1 && *distance < candidate.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut left = i + 1;
        for ((to, above_left), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            left = (above_left + usize::from(from != *to))
                .min(above + 1)
                .min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Text, with the advice to quote what YAML takes for something else.
pub(super) fn text(gathered: &Gathered, node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        Value::Bool(_) | Value::Integer(_) | Value::Float => {
            gathered.report(
                &node.at,
                format!(
                    "expected text and found {}: put it in quotes",
                    node.value.what()
                ),
            );
            None
        }
        other => {
            gathered.report(
                &node.at,
                format!("expected text and found {}", other.what()),
            );
            None
        }
    }
}

/// Text that a function of [`super::scalar`] understands.
pub(super) fn parsed<T>(
    gathered: &Gathered,
    node: &Node,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match parse(&text(gathered, node)?) {
        Ok(value) => Some(value),
        Err(message) => {
            gathered.report(&node.at, message);
            None
        }
    }
}

/// `true` or `false`.
pub(super) fn boolean(gathered: &Gathered, node: &Node) -> Option<bool> {
    match node.value {
        Value::Bool(value) => Some(value),
        _ => {
            gathered.report(
                &node.at,
                format!("expected true or false and found {}", node.value.what()),
            );
            None
        }
    }
}

/// A whole number within bounds.
pub(super) fn number(gathered: &Gathered, node: &Node, least: u32, most: u32) -> Option<u32> {
    let value = match node.value {
        Value::Integer(value) => u32::try_from(value).ok(),
        _ => None,
    };
    let value = value.filter(|value| (least..=most).contains(value));
    if value.is_none() {
        gathered.report(
            &node.at,
            format!("expected a whole number from {least} to {most}"),
        );
    }
    value
}

/// A list, each item with its place; bad items are reported and left out.
pub(super) fn list<T>(gathered: &Gathered, node: &Node, decode: Decode<T>) -> Option<Vec<At<T>>> {
    let Value::List(items) = &node.value else {
        gathered.report(
            &node.at,
            format!(
                "expected a list, such as [a, b], and found {}",
                node.value.what()
            ),
        );
        return None;
    };
    let mut good = Vec::new();
    for item in items {
        if let Some(value) = decode(gathered, item) {
            good.push(At {
                value,
                at: item.at.clone(),
            });
        }
    }
    Some(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_inventions_are_not() {
        let known = ["credentialTtl", "maxSession", "sessions", "kubernetes"];
        assert_eq!(nearest("sesions", &known), Some("sessions"));
        assert_eq!(nearest("credentialTTL", &known), Some("credentialTtl"));
        assert_eq!(nearest("max_session", &known), Some("maxSession"));
        assert_eq!(nearest("verbs", &known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
