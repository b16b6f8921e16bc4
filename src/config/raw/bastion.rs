//! `spec` of a Bastion.

use std::net::SocketAddr;
use std::path::{Component, Path};
use std::time::Duration;

use super::admission;
use super::evidence::{self, RawSigning, RawWitness};
use super::issuer::{self, RawIssuer};
use super::provider::{self, RawLogin};
use super::recordings::{self, RawS3};
use super::{or, path, paths, some, within};
use crate::config::admission::Admission;
use crate::config::fields::{Fields, list, number, parsed};
use crate::config::model::{Algorithms, CgroupPlace, HostPort, Limits, SecondFactor};
use crate::config::problem::{At, Gathered};
use crate::config::recordings::Retention;
use crate::config::scalar;
use crate::config::yaml::Node;
use crate::recording::{NotARecipient, Recipient};

#[derive(Debug)]
pub(in crate::config) struct RawBastion {
    pub(in crate::config) listen: Option<At<SocketAddr>>,
    pub(in crate::config) advertise: Option<At<HostPort>>,
    pub(in crate::config) host_keys: Option<At<Vec<At<String>>>>,
    pub(in crate::config) host_certificates: Option<At<Vec<At<String>>>>,
    pub(in crate::config) state_dir: Option<At<String>>,
    pub(in crate::config) audit_log: Option<At<String>>,
    pub(in crate::config) signing: Option<RawSigning>,
    pub(in crate::config) witness: Option<RawWitness>,
    pub(in crate::config) limits: Limits,
    pub(in crate::config) admission: Admission,
    pub(in crate::config) banner: Option<At<String>>,
    pub(in crate::config) algorithms: Option<At<Algorithms>>,
    pub(in crate::config) sandbox: RawSandbox,
    pub(in crate::config) recordings: RawRecordings,
    pub(in crate::config) network: Option<RawNetwork>,
    pub(in crate::config) issuer: Option<At<RawIssuer>>,
    pub(in crate::config) second_factor: SecondFactor,
    pub(in crate::config) login: Option<At<RawLogin>>,
}

#[derive(Debug)]
pub(in crate::config) struct RawNetwork {
    pub(in crate::config) socket: String,
    pub(in crate::config) user: String,
}

#[derive(Debug, Default)]
pub(in crate::config) struct RawRecordings {
    pub(in crate::config) recipients: Option<At<Vec<At<Recipient>>>>,
    pub(in crate::config) request_index: Option<At<RequestIndex>>,
    pub(in crate::config) quota: Option<At<u64>>,
    pub(in crate::config) reserve: Option<At<u64>>,
    pub(in crate::config) warn_at: Option<At<u8>>,
    pub(in crate::config) s3: Option<RawS3>,
    pub(in crate::config) retention: Retention,
}

/// Whether the request index of an encrypted recording can be searched without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum RequestIndex {
    Clear,
    Encrypted,
}

#[derive(Debug, Default)]
pub(in crate::config) struct RawSandbox {
    pub(in crate::config) bubblewrap: Option<At<String>>,
    pub(in crate::config) tools: Vec<At<String>>,
    pub(in crate::config) read_only_paths: Vec<At<String>>,
    pub(in crate::config) system_paths: Option<At<Vec<At<String>>>>,
    pub(in crate::config) skeleton: Option<At<String>>,
    pub(in crate::config) uid_start: Option<At<u32>>,
    pub(in crate::config) uid_count: Option<At<u32>>,
    pub(in crate::config) landlock_abi: Option<At<u8>>,
    pub(in crate::config) processes: Option<At<u32>>,
    pub(in crate::config) open_files: Option<At<u32>>,
    pub(in crate::config) memory: Option<At<u64>>,
    pub(in crate::config) tmp_size: Option<At<u64>>,
    pub(in crate::config) cgroup: Option<At<CgroupPlace>>,
    pub(in crate::config) session_memory: Option<At<u64>>,
    pub(in crate::config) session_cpus: Option<At<u32>>,
}

pub(in crate::config) fn bastion(gathered: &Gathered, node: &Node) -> Option<RawBastion> {
    let mut spec = Fields::open(gathered, node, "a Bastion's spec")?;
    let raw = RawBastion {
        listen: spec.required("listen", |g, n| parsed(g, n, scalar::listen)),
        advertise: spec.optional("advertise", |g, n| parsed(g, n, scalar::host_port)),
        host_keys: spec.required("hostKeys", paths),
        host_certificates: spec.optional("hostCertificates", paths),
        state_dir: spec.required("stateDir", path),
        audit_log: spec.optional("auditLog", path),
        signing: spec
            .optional("signing", evidence::signing)
            .map(|at| at.value),
        witness: spec.optional("log", evidence::log).map(|at| at.value),
        limits: spec
            .optional("limits", limits)
            .map_or_else(Limits::default, |at| at.value),
        admission: spec
            .optional("admission", admission::admission)
            .map_or_else(Admission::default, |at| at.value),
        banner: spec.optional("banner", admission::banner),
        algorithms: spec.optional("algorithms", |g, n| parsed(g, n, algorithms)),
        sandbox: spec
            .optional("sandbox", sandbox)
            .map_or_else(RawSandbox::default, |at| at.value),
        recordings: spec
            .optional("recordings", recordings)
            .map_or_else(RawRecordings::default, |at| at.value),
        network: spec.optional("network", network).map(|at| at.value),
        issuer: spec.optional("issuer", issuer::issuer),
        second_factor: spec
            .optional("secondFactor", second_factor)
            .map_or_else(SecondFactor::default, |at| at.value),
        login: spec.optional("login", provider::login),
    };
    spec.close();
    Some(raw)
}

fn network(gathered: &Gathered, node: &Node) -> Option<RawNetwork> {
    let mut spec = Fields::open(gathered, node, "network")?;
    let socket = spec.required("socket", path);
    let user = spec.required("user", |g, n| parsed(g, n, user));
    spec.close();
    Some(RawNetwork {
        socket: socket?.value,
        user: user?.value,
    })
}

fn user(text: &str) -> Result<String, String> {
    match text {
        "" | "root" | "0" => Err(
            "name the user that the network process runs as; as root it would be no less than the daemon"
                .to_owned(),
        ),
        name => Ok(name.to_owned()),
    }
}

fn algorithms(text: &str) -> Result<Algorithms, String> {
    match text {
        "modern" => Ok(Algorithms::Modern),
        "postQuantum" => Ok(Algorithms::PostQuantum),
        other => Err(format!(
            "'{}' is not a choice of algorithms: modern or postQuantum",
            other.escape_debug()
        )),
    }
}

fn recordings(gathered: &Gathered, node: &Node) -> Option<RawRecordings> {
    let mut spec = Fields::open(gathered, node, "recordings")?;
    let raw = RawRecordings {
        recipients: spec.optional("recipients", |g, n| list(g, n, recipient)),
        request_index: spec.optional("requestIndex", |g, n| {
            parsed(g, n, |text| match text {
                "clear" => Ok(RequestIndex::Clear),
                "encrypted" => Ok(RequestIndex::Encrypted),
                _ => Err("write 'clear' or 'encrypted'".to_owned()),
            })
        }),
        quota: spec.optional("quota", |g, n| {
            parsed(g, n, |text| scalar::size_within(text, "1MiB", "1TiB"))
        }),
        reserve: spec.optional("reserve", |g, n| {
            parsed(g, n, |text| scalar::size_within(text, "4MiB", "64GiB"))
        }),
        warn_at: spec.optional("warnAt", |g, n| parsed(g, n, scalar::percent)),
        s3: spec.optional("store", recordings::store).map(|at| at.value),
        retention: spec
            .optional("retention", recordings::retention)
            .map(|at| at.value)
            .unwrap_or_default(),
    };
    spec.close();
    Some(raw)
}

fn recipient(gathered: &Gathered, node: &Node) -> Option<Recipient> {
    parsed(gathered, node, |text| {
        text.parse()
            .map_err(|error: NotARecipient| error.to_string())
    })
}

fn second_factor(gathered: &Gathered, node: &Node) -> Option<SecondFactor> {
    let mut spec = Fields::open(gathered, node, "secondFactor")?;
    let settings = SecondFactor {
        remember: or(
            spec.optional("remember", |g, n| within(g, n, "0s", "168h")),
            SecondFactor::default().remember,
        ),
    };
    spec.close();
    Some(settings)
}

fn limits(gathered: &Gathered, node: &Node) -> Option<Limits> {
    let mut spec = Fields::open(gathered, node, "limits")?;
    let default = Limits::default();
    let limits = Limits {
        login_grace: or(
            spec.optional("loginGrace", |g, n| within(g, n, "1s", "10m")),
            default.login_grace,
        ),
        max_auth_attempts: or(
            spec.optional("maxAuthAttempts", |g, n| number(g, n, 1, 20)),
            default.max_auth_attempts,
        ),
        max_connections: or(
            spec.optional("maxConnections", |g, n| number(g, n, 1, 100_000)),
            default.max_connections,
        ),
        max_sessions_per_connection: or(
            spec.optional("maxSessionsPerConnection", |g, n| number(g, n, 1, 1_000)),
            default.max_sessions_per_connection,
        ),
        keepalive: or(
            spec.optional("keepalive", |g, n| within(g, n, "1s", "1h")),
            default.keepalive,
        ),
        idle_timeout: or(
            spec.optional("idleTimeout", |g, n| within(g, n, "1s", "24h")),
            default.idle_timeout,
        ),
        drain: or(
            spec.optional("drain", |g, n| within(g, n, "0s", "24h")),
            default.drain,
        ),
    };
    spec.close();
    Some(limits)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(30),
            max_auth_attempts: 6,
            max_connections: 1000,
            max_sessions_per_connection: 10,
            keepalive: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(3600),
            drain: Duration::from_secs(30),
        }
    }
}

fn sandbox(gathered: &Gathered, node: &Node) -> Option<RawSandbox> {
    let mut spec = Fields::open(gathered, node, "sandbox")?;
    let raw = RawSandbox {
        bubblewrap: spec.optional("bubblewrap", path),
        tools: spec
            .optional("tools", paths)
            .map(|at| at.value)
            .unwrap_or_default(),
        read_only_paths: spec
            .optional("readOnlyPaths", paths)
            .map(|at| at.value)
            .unwrap_or_default(),
        system_paths: spec.optional("systemPaths", |g, n| {
            some(
                g,
                n,
                "without any there is no shell to run; leave the key out for what is usual",
                path,
            )
        }),
        skeleton: spec.optional("skeleton", path),
        // Below 1000 are the host's own accounts; above 2^31 tools begin to disagree.
        uid_start: spec.optional("uidStart", |g, n| number(g, n, 1000, 2_147_000_000)),
        uid_count: spec.optional("uidCount", |g, n| number(g, n, 2, 1_000_000)),
        landlock_abi: spec.optional("landlockAbi", |g, n| {
            let abi = number(g, n, 0, 8)?;
            u8::try_from(abi).ok()
        }),
        // Fewer, and a shell with a pipeline of kubectl does not start: each is a dozen threads.
        processes: spec.optional("processes", |g, n| number(g, n, 64, 32_768)),
        open_files: spec.optional("openFiles", |g, n| number(g, n, 256, 1_048_576)),
        memory: spec.optional("memory", |g, n| {
            parsed(g, n, |text| scalar::size_within(text, "256MiB", "1TiB"))
        }),
        tmp_size: spec.optional("tmpSize", |g, n| {
            parsed(g, n, |text| scalar::size_within(text, "1MiB", "1TiB"))
        }),
        cgroup: spec.optional("cgroup", |g, n| parsed(g, n, cgroup)),
        session_memory: spec.optional("sessionMemory", |g, n| {
            parsed(g, n, |text| scalar::size_within(text, "256MiB", "16TiB"))
        }),
        session_cpus: spec.optional("sessionCpus", |g, n| number(g, n, 1, 4096)),
    };
    spec.close();
    Some(raw)
}

fn cgroup(text: &str) -> Result<CgroupPlace, String> {
    let parts = || Path::new(text).components().skip(1);
    match text {
        "auto" => Ok(CgroupPlace::Auto),
        "off" => Ok(CgroupPlace::Off),
        path if path.starts_with('/')
            && parts().count() > 0
            && parts().all(|part| matches!(part, Component::Normal(_))) =>
        {
            Ok(CgroupPlace::At(path.into()))
        }
        other => Err(format!(
            "'{}' is not known: auto, off, or a control group's path like /bastion-audit",
            other.escape_debug()
        )),
    }
}
