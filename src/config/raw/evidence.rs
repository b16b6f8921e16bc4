//! `spec.signing` and `spec.log` of a Bastion.

use std::time::Duration;

use super::{path, within};
use crate::config::fields::{Fields, boolean, parsed};
use crate::config::problem::{At, Gathered};
use crate::config::yaml::Node;
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

#[derive(Debug, Default)]
pub(in crate::config) struct RawWitness {
    pub(in crate::config) file: Option<At<String>>,
    pub(in crate::config) daemon_log: bool,
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
    if !spec.has("file") && !spec.has("daemonLog") {
        gathered.report(
            &node.at,
            "a witness needs 'file: PATH', 'daemonLog: true' or both",
        );
    }
    let raw = RawWitness {
        file: spec.optional("file", path),
        daemon_log: spec
            .optional("daemonLog", boolean)
            .is_some_and(|at| at.value),
        every: spec
            .optional("every", |g, n| within(g, n, "1s", "24h"))
            .map(|at| at.value),
    };
    spec.close();
    Some(raw)
}
