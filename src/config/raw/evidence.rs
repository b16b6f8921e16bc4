//! `spec.signing` and `spec.log` of a Bastion.

use std::time::Duration;

use super::{path, within};
use crate::config::fields::{Fields, boolean, parsed};
use crate::config::problem::{At, Gathered};
use crate::config::yaml::Node;
use crate::https::is_loopback;
use crate::signing::PublicKey;

#[derive(Debug, Default)]
pub(in crate::config) struct RawSigning {
    pub(in crate::config) key: Option<At<String>>,
    pub(in crate::config) socket: Option<At<String>>,
    pub(in crate::config) public_key: Option<At<PublicKey>>,
    pub(in crate::config) previous_key: Option<At<String>>,
}

pub(in crate::config) fn signing(gathered: &Gathered, node: &Node) -> Option<RawSigning> {
    let mut spec = Fields::open(gathered, node, "signing")?;
    let written = ["key", "socket", "publicKey"].map(|key| spec.has(key));
    let raw = RawSigning {
        key: spec.optional("key", path),
        socket: spec.optional("socket", path),
        public_key: spec.optional("publicKey", |g, n| {
            parsed(g, n, |text| {
                PublicKey::parse(text).map_err(|error| error.to_string())
            })
        }),
        previous_key: spec.optional("previousKey", path),
    };
    spec.close();
    match written {
        [true, false, false] | [false, true, true] => {}
        _ => gathered.report(
            &node.at,
            "signing needs either 'key: FILE', or 'socket: PATH' and the 'publicKey' that is behind it",
        ),
    }
    Some(raw)
}

#[derive(Debug)]
pub(in crate::config) struct RawWebhook {
    pub(in crate::config) url: http::Uri,
    pub(in crate::config) ca_file: Option<At<String>>,
    pub(in crate::config) token_file: Option<At<String>>,
}

#[derive(Debug, Default)]
pub(in crate::config) struct RawWitness {
    pub(in crate::config) file: Option<At<String>>,
    pub(in crate::config) daemon_log: bool,
    pub(in crate::config) syslog: Option<At<String>>,
    pub(in crate::config) webhook: Option<RawWebhook>,
    pub(in crate::config) every: Option<Duration>,
}

pub(in crate::config) fn log(gathered: &Gathered, node: &Node) -> Option<RawWitness> {
    let mut spec = Fields::open(gathered, node, "log")?;
    let witness = spec.required("witness", witness);
    spec.close();
    witness.map(|at| at.value)
}

fn witness(gathered: &Gathered, node: &Node) -> Option<RawWitness> {
    let mut spec = Fields::open(gathered, node, "witness")?;
    if !["file", "daemonLog", "syslog", "webhook"]
        .into_iter()
        .any(|key| spec.has(key))
    {
        gathered.report(
            &node.at,
            "a witness needs a place: 'file: PATH', 'syslog: /dev/log', 'daemonLog: true' or 'webhook: {url: https://...}'",
        );
    }
    let raw = RawWitness {
        file: spec.optional("file", path),
        daemon_log: spec
            .optional("daemonLog", boolean)
            .is_some_and(|at| at.value),
        syslog: spec.optional("syslog", path),
        webhook: spec.optional("webhook", webhook).map(|at| at.value),
        every: spec
            .optional("every", |g, n| within(g, n, "1s", "24h"))
            .map(|at| at.value),
    };
    spec.close();
    Some(raw)
}

fn webhook(gathered: &Gathered, node: &Node) -> Option<RawWebhook> {
    let mut spec = Fields::open(gathered, node, "webhook")?;
    let url = spec.required("url", |g, n| parsed(g, n, webhook_url));
    let ca_file = spec.optional("caFile", path);
    let token_file = spec.optional("tokenFile", path);
    spec.close();
    Some(RawWebhook {
        url: url?.value,
        ca_file,
        token_file,
    })
}

/// A token goes in clear over no network, and is in no URL: these are shown, logged and copied. What is wrong is not repeated,
/// because it may hold one.
fn webhook_url(text: &str) -> Result<http::Uri, String> {
    let wrong = || "this is not a webhook's URL: write https://HOST/PATH".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong());
    };
    if authority.as_str().contains('@') {
        return Err(
            "a webhook's URL holds no name and password: put a token into a file, and name that in 'tokenFile'"
                .to_owned(),
        );
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_loopback(authority.host()) => Ok(uri),
        "http" => Err(
            "this would send checkpoints in clear: http:// is for addresses of loopback only, use https://"
                .to_owned(),
        ),
        _ => Err(wrong()),
    }
}
