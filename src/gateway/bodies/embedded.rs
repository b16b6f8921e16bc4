//! Secrets within other objects: a template, a bundle of manifests, a manifest in a ConfigMap, and the annotation that
//! `kubectl apply` makes of any of them.

use serde_json::Value;

use super::reduce;

/// What is kept instead of a body with a Secret in it; `Null` if that cannot be told apart, nothing if it has none.
pub(super) fn reduced(body: &[u8], whole: bool) -> Option<Value> {
    if !has_secret(body) {
        return None;
    }
    match whole.then(|| reduce::read(body)).flatten() {
        Some(mut value) => leave_out(&mut value).then_some(value),
        None => Some(Value::Null),
    }
}

/// Whether anything was left out.
fn leave_out(value: &mut Value) -> bool {
    match value {
        Value::Object(object) => {
            let secret = object.get("kind").and_then(Value::as_str) == Some("Secret");
            if secret && (object.contains_key("data") || object.contains_key("stringData")) {
                *value = reduce::object_without_values(object);
                return true;
            }
            any_of(object.values_mut())
        }
        Value::Array(values) => any_of(values.iter_mut()),
        Value::String(text) if has_secret(text.as_bytes()) => {
            *value = reduce::size(value);
            true
        }
        _ => false,
    }
}

/// Looks at every one, where `any` would stop at the first.
fn any_of<'a>(values: impl Iterator<Item = &'a mut Value>) -> bool {
    values.map(leave_out).filter(|left| *left).count() > 0
}

/// Whether a text in JSON or YAML, or one that is quoted in such, may hold a Secret with its values.
fn has_secret(text: &[u8]) -> bool {
    let said = |word: &[u8]| text.windows(word.len()).any(|at| at == word);
    (said(b"data") || said(b"stringData")) && says_kind(text)
}

/// `kind: Secret`, `"kind":"Secret"`, `\"kind\": \"Secret\"`.
fn says_kind(text: &[u8]) -> bool {
    const SECRET: &[u8] = b"Secret";
    let between =
        |byte: &u8| matches!(byte, b'"' | b'\'' | b'\\' | b':') || byte.is_ascii_whitespace();
    text.windows(SECRET.len()).enumerate().any(|(at, word)| {
        if word != SECRET {
            return false;
        }
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + SECRET.len());
        let ends = !after.is_some_and(u8::is_ascii_alphanumeric);
        let gap = before.iter().rev().take_while(|byte| between(byte)).count();
        let before = before.get(..before.len() - gap).unwrap_or_default();
        gap > 0 && ends && before.ends_with(b"kind")
    })
}
