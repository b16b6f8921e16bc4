//! What of a list's or watch's query the API server makes part of what it is about.

/// A list or a watch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) watch: bool,
    /// The one name that a field selector leaves.
    pub(super) name: Option<String>,
}

impl Listed {
    /// By `metainternalversion.ListOptions` and how `url.Values` are decoded to it.
    pub(super) fn of(query: &[(String, String)]) -> Self {
        // Of several, the first counts.
        let first = |name: &str| {
            let found = query.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let number = |name| first(name).is_none_or(|value| value.parse::<i64>().is_ok());
        let exact = first("fieldSelector").map(exact_name);
        // One value that cannot be decoded leaves all of them out, but for `watch`, which is read again in another way.
        // (A label selector that is none would do the same; such a request is then refused whatever it is about.)
        let decodes = number("limit") && number("timeoutSeconds") && exact != Some(Err(NoSelector));
        let watch = first("watch").is_some_and(|value| match decodes {
            true => is_true(value),
            false => !matches!(value.to_lowercase().as_str(), "0" | "false"),
        });
        let name = exact
            .and_then(Result::ok)
            .flatten()
            .filter(|_| decodes)
            .filter(|name| !matches!(name.as_str(), "." | "..") && !name.contains(['/', '%']));
        Self { watch, name }
    }
}

/// As the API server reads a flag (`Convert_Slice_string_To_bool` of k8s.io/apimachinery): the difference would be
/// a terminal's keystrokes recorded, or a command's input not.
pub(in crate::gateway) fn is_true(value: &str) -> bool {
    // Go's `EqualFold` takes the long s for one as well.
    value != "0" && !value.replace('ſ', "s").eq_ignore_ascii_case("false")
}

/// It is no field selector.
#[derive(Debug, PartialEq, Eq)]
struct NoSelector;

/// The name that a field selector demands (`fields.ParseSelector` and `RequiresExactMatch`).
fn exact_name(selector: &str) -> Result<Option<String>, NoSelector> {
    let mut name = None;
    let mut terms = terms(selector);
    // As there: of two names it is the first in this order.
    terms.sort_unstable();
    for term in terms {
        if term.is_empty() {
            continue;
        }
        let (field, equal, value) = split(term).ok_or(NoSelector)?;
        let value = unescape(value).ok_or(NoSelector)?;
        if equal && field == "metadata.name" && name.is_none() {
            name = Some(value);
        }
    }
    Ok(name)
}

/// By the commas that are not escaped.
fn terms(selector: &str) -> Vec<&str> {
    let (mut terms, mut from, mut escaped) = (Vec::new(), 0, false);
    for (at, character) in selector.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(selector.get(from..at).unwrap_or_default());
                from = at + 1;
            }
            _ => {}
        }
    }
    terms.push(selector.get(from..).unwrap_or_default());
    terms
}

/// Field, whether it must be equal, and value.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find('=')?;
    let (before, after) = (term.get(..at)?, term.get(at + 1..)?);
    Some(match (before.strip_suffix('!'), after.strip_prefix('=')) {
        (Some(field), _) => (field, false, after),
        (None, Some(value)) => (before, true, value),
        (None, None) => (before, true, after),
    })
}

/// `\\`, `\,` and `\=` are escapes; any other is an error, and so is a bare `,` or `=`.
fn unescape(value: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                escaped @ ('\\' | ',' | '=') => text.push(escaped),
                _ => return None,
            },
            ',' | '=' => return None,
            character => text.push(character),
        }
    }
    Some(text)
}
