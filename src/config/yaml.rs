//! YAML text to a tree in which every node and every key knows its place.
//!
//! A tree of our own instead of derived types, because serde stops at the first error of a document:
//! an administrator with three mistakes in one role should read about three. Syntax is serde-saphyr's.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::problem::{Place, Problem};

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: Place,
}

/// What a node can be.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// As an error message names it.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

impl Chunk<'_> {
    /// How much there is to be read.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    /// Parses what of a file stands between two markers: a document, or none. One that is no YAML does not keep the others from being
    /// read.
    pub(super) fn documents(&self, file: &Arc<Path>) -> Vec<Result<Node, Problem>> {
        match serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(self.text, options()) {
            Ok(nodes) => nodes
                .into_iter()
                .map(|raw| raw.into_node(file, self.lines_before))
                .filter(|node| !matches!(node.value, Value::Null))
                .map(Ok)
                .collect(),
            Err(error) => vec![Err(syntax(file, self.lines_before, &error))],
        }
    }
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // No document of ours needs depth; a deep one is an attack on the stack.
        budget: serde_saphyr::budget! { max_depth: 32 },
        // Enough for a key or a selector used twice, not for a bomb.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 50_000 },
        with_snippet: false,
    }
}

fn syntax(file: &Arc<Path>, lines_before: u32, error: &serde_saphyr::Error) -> Problem {
    let at = error.location().unwrap_or(Location::UNKNOWN);
    let message = error
        .without_snippet()
        .render_with_options(serde_saphyr::render_options! {
            formatter: &serde_saphyr::UserMessageFormatter,
            snippets: serde_saphyr::SnippetMode::Off,
        });
    // The renderer appends the place in its own words; ours stands in front.
    let message = message
        .split(" at line ")
        .next()
        .unwrap_or(&message)
        .trim()
        .to_owned();
    Problem::new(
        place(file, lines_before, at),
        format!("this is not valid YAML: {message}"),
    )
}

fn place(file: &Arc<Path>, lines_before: u32, at: Location) -> Place {
    let line = u32::try_from(at.line()).unwrap_or(u32::MAX);
    Place {
        file: file.clone(),
        line: line.saturating_add(lines_before).max(1),
        column: u32::try_from(at.column()).unwrap_or(u32::MAX).max(1),
    }
}

/// A piece of a file that can be read without the rest.
pub(super) struct Chunk<'a> {
    text: &'a str,
    lines_before: u32,
}

/// Cuts a file before each `---`. That is exact, not a guess: YAML 1.2.2 (9.1.2) forbids a line that begins
/// with the marker inside of any scalar.
pub(super) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut rest = text;
    let mut lines_before = 0;
    loop {
        let (chunk, lines, tail) = cut(rest);
        chunks.push(Chunk {
            text: chunk,
            lines_before,
        });
        if tail.is_empty() {
            return chunks;
        }
        lines_before += lines;
        rest = tail;
    }
}

/// What comes before the next marker (not counting one on the first line), its lines, and what follows.
fn cut(text: &str) -> (&str, u32, &str) {
    let mut offset = 0;
    let mut lines = 0;
    for line in text.split_inclusive('\n') {
        let marker = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if marker && lines > 0 {
            let (chunk, tail) = text.split_at_checked(offset).unwrap_or((text, ""));
            return (chunk, lines, tail);
        }
        offset += line.len();
        lines += 1;
    }
    (text, lines, "")
}

/// What serde builds before places are made ours.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

trait IntoNode {
    fn into_node(self, file: &Arc<Path>, lines_before: u32) -> Node;
}

impl IntoNode for Spanned<Raw> {
    fn into_node(self, file: &Arc<Path>, lines_before: u32) -> Node {
        let value = match self.value {
            Raw::Scalar(value) => value,
            Raw::List(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| item.into_node(file, lines_before))
                    .collect(),
            ),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        (
                            key.into_node(file, lines_before),
                            value.into_node(file, lines_before),
                        )
                    })
                    .collect(),
            ),
        };
        Node {
            value,
            at: place(file, lines_before, self.referenced),
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(value)))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(value.into())))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(value.into())))
    }
    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(value)))
    }
    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(
            i128::try_from(value).unwrap_or(i128::MAX),
        )))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Float))
    }
    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value.to_owned())))
    }
    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(value)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Result<Node, Problem>> {
        let file = Arc::from(Path::new("f.yaml"));
        let chunks = chunks(text).into_iter();
        chunks.flat_map(|chunk| chunk.documents(&file)).collect()
    }

    #[test]
    fn keys_and_values_know_their_places_in_later_documents() {
        let found = parse("a: 1\n---\n# comment\nspec:\n  list: [one, {two: 'no'}]\n");
        let node = found[1].as_ref().unwrap();
        let Value::Map(entries) = &node.value else {
            panic!("{node:?}")
        };
        assert_eq!(entries[0].0.at.to_string(), "f.yaml:4:1");
        let Value::Map(spec) = &entries[0].1.value else {
            panic!()
        };
        let Value::List(list) = &spec[0].1.value else {
            panic!()
        };
        assert_eq!(list[0].at.to_string(), "f.yaml:5:10");
        let Value::Map(two) = &list[1].value else {
            panic!()
        };
        assert_eq!(two[0].0.at.to_string(), "f.yaml:5:16");
        assert!(matches!(&two[0].1.value, Value::Text(t) if t == "no"));
    }

    #[test]
    fn a_broken_document_does_not_hide_the_others() {
        let found = parse("a: [1\n---\nb: 1\nb: 2\n---\nc: 3\n");
        assert_eq!(found.len(), 3);
        assert!(found[0].is_err());
        let duplicate = found[1].as_ref().unwrap_err().to_string();
        assert!(duplicate.starts_with("f.yaml:4:1: "), "{duplicate}");
        assert!(duplicate.contains("b"), "{duplicate}");
        assert!(found[2].is_ok());
        for problem in found.iter().filter_map(|d| d.as_ref().err()) {
            eprintln!("{problem}");
        }
    }

    #[test]
    fn empty_documents_and_comments_are_nothing() {
        assert_eq!(parse("").len(), 0);
        assert_eq!(parse("---\n# only this\n---\n").len(), 0);
        assert_eq!(parse("\u{feff}a: 1\n").len(), 1);
        assert_eq!(parse("--- {a: 1}\n...\n---\r\nb: 2\r\n").len(), 2);
    }

    #[test]
    fn a_marker_within_a_block_scalar_ends_the_document_as_yaml_says() {
        let found = parse("a: |\n  ---\n  text\nb: --- no\n");
        assert_eq!(found.len(), 1, "indented markers are text");
    }

    #[test]
    fn depth_and_alias_bombs_are_refused() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(parse(&deep)[0].is_err());
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..9 {
            let of = format!("*a{},", n - 1).repeat(10);
            bomb.push_str(&format!("a{n}: &a{n} [{of}]\n"));
        }
        assert!(parse(&bomb)[0].is_err());
    }
}
