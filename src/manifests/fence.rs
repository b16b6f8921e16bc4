//! The admission policies that fence role namespaces: those of examples/deploy, for another user where it is another one.

use serde_json::Value;

use super::{BastionUser, ManifestError};

const POLICIES: &str = include_str!("../../examples/deploy/admission.yaml");
/// Who the bastion is in them.
const BASTION: &str = "system:serviceaccount:bastion-audit:bastion";

pub(super) fn policies(bastion: &BastionUser) -> Result<Vec<Value>, ManifestError> {
    let mut policies: Vec<Value> = serde_saphyr::from_multiple(POLICIES)
        .map_err(|error| ManifestError::Fence(error.to_string()))?;
    // Its characters are none that a string of CEL would take for something else.
    let name = bastion.to_string();
    policies.iter_mut().for_each(|policy| rename(policy, &name));
    Ok(policies)
}

fn rename(value: &mut Value, bastion: &str) {
    match value {
        Value::String(text) => *text = text.replace(BASTION, bastion),
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, bastion)),
        Value::Object(fields) => fields.values_mut().for_each(|field| rename(field, bastion)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
