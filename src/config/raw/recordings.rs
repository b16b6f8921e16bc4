//! Of `spec.recordings` of a Bastion: `store` and `retention`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::path;
use crate::config::fields::{Fields, parsed};
use crate::config::model::Name;
use crate::config::problem::{At, Gathered};
use crate::config::recordings::{LockMode, ObjectLock, Retention, Sse};
use crate::config::scalar;
use crate::config::yaml::{Node, Value};
use crate::https::is_loopback;

#[derive(Debug)]
pub(in crate::config) struct RawS3 {
    pub(in crate::config) bucket: String,
    pub(in crate::config) prefix: Option<String>,
    pub(in crate::config) region: Option<String>,
    pub(in crate::config) endpoint: Option<String>,
    pub(in crate::config) ca_file: Option<At<String>>,
    pub(in crate::config) credentials_file: Option<At<String>>,
    pub(in crate::config) sse: Option<Sse>,
    pub(in crate::config) object_lock: Option<ObjectLock>,
    pub(in crate::config) keep_local: Option<Duration>,
}

pub(super) fn store(gathered: &Gathered, node: &Node) -> Option<RawS3> {
    let mut spec = Fields::open(gathered, node, "recordings.store")?;
    let s3 = spec.required("s3", s3).map(|at| at.value);
    spec.close();
    s3
}

fn s3(gathered: &Gathered, node: &Node) -> Option<RawS3> {
    fn value<T>(at: Option<At<T>>) -> Option<T> {
        at.map(|at| at.value)
    }
    let mut spec = Fields::open(gathered, node, "s3")?;
    let bucket = spec.required("bucket", |g, n| parsed(g, n, bucket));
    let (prefix, region) = (
        value(spec.optional("prefix", |g, n| parsed(g, n, prefix))),
        value(spec.optional("region", |g, n| parsed(g, n, region))),
    );
    let endpoint = value(spec.optional("endpoint", |g, n| parsed(g, n, endpoint)));
    let ca_file = spec.optional("caFile", path);
    let credentials_file = spec.optional("credentialsFile", path);
    let sse = value(spec.optional("sse", sse));
    let object_lock = value(spec.optional("objectLock", object_lock));
    let keep_local = value(spec.optional("keepLocal", |g, n| parsed(g, n, scalar::age)));
    spec.close();
    Some(RawS3 {
        bucket: bucket?.value,
        prefix,
        region,
        endpoint,
        ca_file,
        credentials_file,
        sse,
        object_lock,
        keep_local,
    })
}

/// The rules of S3 for the names of buckets, as far as they keep a URL what it is.
fn bucket(text: &str) -> Result<String, String> {
    let fine = (3..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("..");
    plain(fine, text, "a bucket: 3 to 63 of a-z, 0-9, '-' and '.'")
}

fn prefix(text: &str) -> Result<String, String> {
    let fine = text.len() <= 512
        && text.split('/').all(|segment| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        });
    plain(
        fine,
        text,
        "a prefix: words of letters, digits and '-_.', with '/' between them",
    )
}

fn region(text: &str) -> Result<String, String> {
    let fine = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    plain(fine, text, "a region, such as eu-central-1")
}

fn plain(fine: bool, text: &str, what: &str) -> Result<String, String> {
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!("'{}' is not {what}", text.escape_debug()))
    }
}

/// `https://HOST[:PORT]`; what a recording holds goes in clear over no network.
fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "'{}' is not an endpoint: write https://HOST or https://HOST:PORT",
            text.escape_debug()
        )
    };
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong());
    };
    let bare = uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
    match scheme {
        "https" if bare => Ok(format!("https://{authority}")),
        "http" if bare && is_loopback(authority.host()) => Ok(format!("http://{authority}")),
        "http" if bare => Err(format!(
            "'{}' would send recordings in clear: http:// is for loopback only, use https://",
            text.escape_debug()
        )),
        _ => Err(wrong()),
    }
}

/// `AES256`, `aws:kms`, or `aws:kms:KEY`.
fn sse(gathered: &Gathered, node: &Node) -> Option<Sse> {
    parsed(gathered, node, |text| match text.strip_prefix("aws:kms") {
        None if text == "AES256" => Ok(Sse::Aes256),
        Some("") => Ok(Sse::Kms(None)),
        Some(key) if key.len() > 1 && key.starts_with(':') && key.bytes().all(is_key_byte) => {
            Ok(Sse::Kms(key.get(1..).map(str::to_owned)))
        }
        _ => Err(format!(
            "'{}' is not a way to encrypt: AES256, aws:kms or aws:kms:KEY",
            text.escape_debug()
        )),
    })
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":/-_".contains(&byte)
}

fn object_lock(gathered: &Gathered, node: &Node) -> Option<ObjectLock> {
    let mut spec = Fields::open(gathered, node, "objectLock")?;
    let mode = spec.required("mode", |g, n| {
        parsed(g, n, |text| match text {
            "COMPLIANCE" => Ok(LockMode::Compliance),
            "GOVERNANCE" => Ok(LockMode::Governance),
            _ => Err(format!(
                "'{}' is not a mode: COMPLIANCE (nobody can end it) or GOVERNANCE",
                text.escape_debug()
            )),
        })
    });
    let retain = spec.required("retain", |g, n| parsed(g, n, scalar::age));
    spec.close();
    Some(ObjectLock {
        mode: mode?.value,
        retain: retain?.value,
    })
}

pub(super) fn retention(gathered: &Gathered, node: &Node) -> Option<Retention> {
    let mut spec = Fields::open(gathered, node, "retention")?;
    let default = spec.optional("default", |g, n| parsed(g, n, scalar::age));
    let roles = spec.optional("roles", ages_by_role);
    spec.close();
    Some(Retention {
        default: default.map(|at| at.value),
        roles: roles.map(|at| at.value).unwrap_or_default(),
    })
}

fn ages_by_role(gathered: &Gathered, node: &Node) -> Option<BTreeMap<Name, Duration>> {
    let Value::Map(entries) = &node.value else {
        gathered.report(
            &node.at,
            format!(
                "expected roles with ages, such as {{viewer: 30d}}, and found {}",
                node.value.what()
            ),
        );
        return None;
    };
    let mut ages = BTreeMap::new();
    for (key, value) in entries {
        let name = parsed(gathered, key, scalar::name);
        let age = parsed(gathered, value, scalar::age);
        if let (Some(name), Some(age)) = (name, age) {
            ages.insert(name, age);
        }
    }
    Some(ages)
}
