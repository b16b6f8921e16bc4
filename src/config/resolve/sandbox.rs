//! How commands are run, and what they are shown.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::{Documents, document_path};
use crate::config::cluster::{Cluster, ClusterAccess};
use crate::config::issuer::IssuerKey;
use crate::config::model::{Bastion, Name, Sandbox};
use crate::config::problem::{At, Place};
use crate::config::raw::{Document, RawBastion, RawRole};

const UID_START: u32 = 1_900_000_000;
const UID_COUNT: u32 = 65_536;
/// Debian 12's. Before it a file could not be moved to another directory.
const LANDLOCK_ABI: u8 = 2;
/// Each kubectl is a dozen.
const PROCESSES: u32 = 512;
const OPEN_FILES: u32 = 4096;
const MEMORY: u64 = 4 << 30;
const TMP_SIZE: u64 = 256 << 20;
/// `nobody`: shared by whatever else runs under it.
const NOBODY: u32 = 65_534;
/// What the daemon answers inside a session is asked by this program.
const OURS: &str = "bastion";

impl Documents<'_> {
    pub(super) fn sandbox(&self, document: &Document, spec: &RawBastion) -> Sandbox {
        let raw = &spec.sandbox;
        let uid_start = value(&raw.uid_start, UID_START);
        let uid_count = value(&raw.uid_count, UID_COUNT);
        if (uid_start..uid_start.saturating_add(uid_count)).contains(&NOBODY)
            && let Some(at) = raw.uid_start.as_ref()
        {
            self.report(
                &at.at,
                format!(
                    "these uids include {NOBODY} (nobody), which others use; choose another range"
                ),
            );
        }
        Sandbox {
            bubblewrap: raw.bubblewrap.as_ref().map_or_else(
                || PathBuf::from("bwrap"),
                |at| document_path(document, &at.value),
            ),
            tools: self.tools(document, &raw.tools),
            read_only_paths: self
                .paths_once(document, &raw.read_only_paths, |path| path.to_owned()),
            system_paths: raw
                .system_paths
                .as_ref()
                .map(|listed| self.paths_once(document, &listed.value, |path| path.to_owned())),
            skeleton: raw
                .skeleton
                .as_ref()
                .map(|at| document_path(document, &at.value)),
            uid_start,
            uid_count,
            landlock_abi: value(&raw.landlock_abi, LANDLOCK_ABI),
            processes: value(&raw.processes, PROCESSES),
            open_files: value(&raw.open_files, OPEN_FILES),
            memory: value(&raw.memory, MEMORY),
            tmp_size: value(&raw.tmp_size, TMP_SIZE),
            cgroup: raw
                .cgroup
                .as_ref()
                .map(|at| at.value.clone())
                .unwrap_or_default(),
            session_memory: raw.session_memory.as_ref().map(|at| at.value),
            session_cpus: raw.session_cpus.as_ref().map(|at| at.value),
        }
    }

    /// Programs that lie side by side in one directory, so their names must differ.
    pub(super) fn tools(&self, document: &Document, listed: &[At<String>]) -> Vec<PathBuf> {
        for tool in listed {
            if Path::new(&tool.value).file_name() == Some(OsStr::new(OURS)) {
                self.report(
                    &tool.at,
                    "'bastion' is a program of ours in every session; rename this one",
                );
            }
        }
        self.paths_once(document, listed, |path| {
            path.file_name().map(ToOwned::to_owned)
        })
    }

    /// Every session has the Bastion's tools, and beside them those of its role.
    pub(super) fn tools_have_names_of_their_own(&self, bastion: &Bastion) {
        let taken = |tool: &At<String>| {
            let name = Path::new(&tool.value).file_name();
            let mut everybodys = bastion.sandbox.tools.iter();
            everybodys.any(|other| other.file_name() == name)
        };
        for (_, spec) in self.role_specs() {
            for tool in spec.tools().iter().filter(|tool| taken(tool)) {
                self.report(
                    &tool.at,
                    "the Bastion's sandbox.tools has one of this name already, for every role; remove or rename one",
                );
            }
        }
    }

    /// What the daemon must hide cannot be shown by a setting. By name only; links are the launcher's.
    pub(super) fn sandbox_shows_no_secret(
        &self,
        document: &Document,
        spec: &RawBastion,
        bastion: &Bastion,
        clusters: &BTreeMap<Name, Cluster>,
    ) {
        let hidden = hidden(bastion, clusters);
        let raw = &spec.sandbox;
        let of_bastion = raw
            .tools
            .iter()
            .chain(&raw.read_only_paths)
            .chain(raw.system_paths.iter().flat_map(|listed| &listed.value))
            .chain(&raw.skeleton)
            .map(|at| (document, at));
        let of_roles = self
            .role_specs()
            .flat_map(|(document, spec)| spec.tools().iter().map(move |at| (document, at)));
        for (document, written) in of_bastion.chain(of_roles) {
            let path = document_path(document, &written.value);
            self.shows_none(&path, &written.at, &hidden);
        }
    }

    fn shows_none(&self, path: &Path, at: &Place, hidden: &[&PathBuf]) {
        let secret = hidden
            .iter()
            .find(|secret| secret.starts_with(path) || path.starts_with(secret));
        if let Some(secret) = secret {
            self.report(
                at,
                format!(
                    "this would show {} to operators' commands; name something narrower",
                    secret.display()
                ),
            );
        }
    }
}

impl RawRole {
    fn tools(&self) -> &[At<String>] {
        self.tools.as_ref().map_or(&[], |listed| &listed.value)
    }
}

/// What no operator's command may see.
fn hidden<'a>(bastion: &'a Bastion, clusters: &'a BTreeMap<Name, Cluster>) -> Vec<&'a PathBuf> {
    let kubeconfigs = clusters
        .values()
        .filter_map(|cluster| match &cluster.access {
            ClusterAccess::Kubeconfig(path) => Some(path),
            ClusterAccess::Server(server) => server.token_file.as_ref(),
            ClusterAccess::InCluster => None,
        });
    let webhook = bastion.witness.webhook.iter();
    let s3 = bastion.recordings.s3.iter();
    let issuer = bastion.issuer.iter().flat_map(|issuer| {
        let served = issuer.listener.iter().map(|listener| &listener.key);
        let keys = issuer.signing_keys.iter().map(IssuerKey::path);
        keys.chain(served)
    });
    bastion
        .host_keys
        .iter()
        .chain([&bastion.state_dir, &bastion.audit_log])
        .chain(bastion.signing.paths())
        .chain(webhook.flat_map(|webhook| &webhook.token_file))
        .chain(s3.flat_map(|s3| &s3.credentials_file))
        .chain(issuer)
        .chain(kubeconfigs)
        .collect()
}

fn value<T: Copy>(given: &Option<At<T>>, default: T) -> T {
    given.as_ref().map_or(default, |at| at.value)
}
