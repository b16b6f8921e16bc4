//! A Secret without its values. What is let through is listed; all else stays out, annotations with a copy of the
//! whole among it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::recording::requests::Mark;

/// A Secret of one of these types is a credential: it is filled with a token that never expires, or is a token that
/// lets a node join.
const TOKENS: [&str; 2] = [
    "kubernetes.io/service-account-token",
    "bootstrap.kubernetes.io/token",
];

/// What Kubernetes' protobuf begins with; texts stand in it as they are.
const PROTOBUF: &[u8] = b"k8s\0";

/// A body in JSON or YAML; `None` if it is neither (protobuf, CBOR).
pub(super) fn read(body: &[u8]) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Some(value);
    }
    let text = std::str::from_utf8(body).ok()?;
    serde_saphyr::from_str(text).ok().filter(Value::is_object)
}

/// What is kept of the Secret, or of what patches it; `Null` if nothing can be.
pub(super) fn secret(value: Option<&Value>) -> Value {
    match value {
        Some(Value::Object(object)) => object_without_values(object),
        Some(Value::Array(operations)) => operations.iter().map(operation).collect(),
        _ => Value::Null,
    }
}

/// What writing it means. What cannot be read may well issue a credential.
pub(super) fn marks(value: Option<&Value>, body: &[u8], whole: bool) -> Vec<Mark> {
    let token = |value: &Value| value.as_str().is_some_and(|text| TOKENS.contains(&text));
    let issues = match value {
        // YAML's merge key would bring a type from elsewhere.
        Some(Value::Object(object)) => {
            object.contains_key("<<") || object.get("type").is_some_and(token)
        }
        Some(Value::Array(operations)) => operations
            .iter()
            .any(|operation| operation.get("value").is_some_and(token)),
        _ if whole && body.starts_with(PROTOBUF) => TOKENS
            .iter()
            .any(|token| body.windows(token.len()).any(|at| at == token.as_bytes())),
        _ => !body.is_empty(),
    };
    if issues {
        vec![Mark::CredentialIssued]
    } else {
        Vec::new()
    }
}

/// What the options of a deletion say.
pub(super) fn deletion(value: &Value) -> Vec<Mark> {
    let dry = value
        .get("dryRun")
        .and_then(Value::as_array)
        .is_some_and(|stages| !stages.is_empty());
    if dry { vec![Mark::DryRun] } else { Vec::new() }
}

pub(super) fn object_without_values(object: &Map<String, Value>) -> Value {
    let mut kept = Map::new();
    for (name, value) in object {
        let value = match (name.as_str(), value) {
            ("apiVersion" | "kind" | "type", value) if value.is_string() => value.clone(),
            ("immutable", value) if value.is_boolean() => value.clone(),
            ("metadata", Value::Object(metadata)) => named(metadata),
            ("data", Value::Object(data)) => sizes(data, decoded_size),
            ("stringData", Value::Object(data)) => sizes(data, size),
            _ => continue,
        };
        kept.insert(name.clone(), value);
    }
    Value::Object(kept)
}

fn named(metadata: &Map<String, Value>) -> Value {
    ["name", "namespace", "generateName"]
        .into_iter()
        .filter_map(|field| Some((field.to_owned(), metadata.get(field)?.clone())))
        .filter(|(_, value)| value.is_string())
        .collect::<Map<_, _>>()
        .into()
}

fn sizes(data: &Map<String, Value>, size: fn(&Value) -> Value) -> Value {
    data.iter()
        .map(|(key, value)| (key.clone(), size(value)))
        .collect::<Map<_, _>>()
        .into()
}

/// Bytes of what a value of `data` stands for; of one that is no base64, its own.
fn decoded_size(value: &Value) -> Value {
    let decoded = value.as_str().and_then(|text| STANDARD.decode(text).ok());
    decoded.map_or_else(|| size(value), |bytes| json!(bytes.len()))
}

/// Bytes of a text; a patch takes a key away with null.
pub(super) fn size(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(text) => json!(text.len()),
        value => json!(value.to_string().len()),
    }
}

/// An operation of a JSON patch (RFC 6902): where, not what.
fn operation(operation: &Value) -> Value {
    let mut kept = Map::new();
    for field in ["op", "path", "from"] {
        if let Some(text) = operation.get(field).filter(|value| value.is_string()) {
            kept.insert(field.to_owned(), text.clone());
        }
    }
    if let Some(value) = operation.get("value") {
        kept.insert("bytes".to_owned(), size(value));
    }
    Value::Object(kept)
}
