//! A value as YAML of the plainest kind: block style, one spelling for each value.
//!
//! What is not certainly text to every reader of YAML, of whichever version, is quoted: `null` and `on` are names that somebody may
//! have.

use serde_json::Value;

/// A document without its `---`. Keys are in alphabetical order.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        value if is_block(value) => block(&mut text, value, 0),
        other => {
            text.push_str(&inline(other));
            text.push('\n');
        }
    }
    text
}

/// What does not fit into one line, at an indentation. The text ends where its first line begins.
fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            for (position, (key, value)) in sorted.into_iter().enumerate() {
                if position > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str(&scalar(key));
                text.push(':');
                if is_block(value) {
                    text.push('\n');
                    text.push_str(&" ".repeat(indent + 2));
                    block(text, value, indent + 2);
                } else {
                    text.push_str(&format!(" {}\n", inline(value)));
                }
            }
        }
        Value::Array(items) => {
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str("- ");
                if is_block(item) {
                    block(text, item, indent + 2);
                } else {
                    text.push_str(&inline(item));
                    text.push('\n');
                }
            }
        }
        other => text.push_str(&inline(other)),
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(fields) => !fields.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => other.to_string(),
    }
}

fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    let meant_otherwise = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "nan", "inf",
    ];
    if plain && !meant_otherwise.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            ' '..='~' => quoted.push(c),
            other => quoted.push_str(&format!("\\U{:08X}", u32::from(other))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_would_read_as_something_else_is_quoted() {
        for text in [
            "null", "No", "y", "ON", "1e3", "0x1f", "12", "-", "", "~", "a: b", "a #b", "system:x",
            "=", "<<",
        ] {
            assert_eq!(scalar(text), format!("\"{text}\""));
        }
        for text in [
            "viewer",
            "bastion-audit.dev/role-namespace",
            "rbac.authorization.k8s.io/v1",
        ] {
            assert_eq!(scalar(text), text);
        }
        assert_eq!(scalar("a\n\"\\\u{1f600}"), r#""a\U0000000A\"\\\U0001F600""#);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            "[a-z0-9:#\\-\\[\\]{}&*!|>'\"%@` \n~]{0,8}".prop_map(Value::from),
            prop::sample::select(vec!["null", "yes", "1.0", "0o7", "---", "..."])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z~:# ]{0,6}", inner, 0..4)
                    .prop_map(|map| Value::from(serde_json::Map::from_iter(map))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(value in values()) {
            let text = document(&value);
            let read: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            prop_assert_eq!(read, value, "{}", text);
        }
    }

    #[test]
    fn it_is_laid_out_as_people_do() {
        let value = json!({"a": {"b": ["x", {"c": "y", "d": []}], "e": {}}, "g": [["z"]]});
        let text = "a:\n  b:\n    - x\n    - c: \"y\"\n      d: []\n  e: {}\ng:\n  - - z\n";
        assert_eq!(document(&value), text);
    }
}
