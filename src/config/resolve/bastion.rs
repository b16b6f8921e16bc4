//! The one document about the daemon itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Documents, document_path};
use crate::config::model::{
    Bastion, Cluster, ClusterAccess, HostPort, KeepRecordings, Name, Sandbox,
};
use crate::config::problem::{At, Place};
use crate::config::raw::{Document, Kind, RawBastion, RawS3, RequestIndex, Spec};
use crate::config::recordings::S3;
use crate::log::{Webhook, Witness};
use crate::recording::Recipients;
use crate::signing::KeySource;

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

impl Documents<'_> {
    pub(super) fn bastion(
        &self,
        root: &Path,
        clusters: &BTreeMap<Name, Cluster>,
    ) -> Option<Bastion> {
        let document = self.only_bastion(root)?;
        let Some(Spec::Bastion(spec)) = &document.spec else {
            return None;
        };
        let host_keys = self.host_keys(document, spec);
        let sandbox = self.sandbox(document, spec);
        let listen = spec.listen.as_ref()?.value;
        let state_dir = document_path(document, &spec.state_dir.as_ref()?.value);
        let bastion = Bastion {
            name: document.name.value.clone(),
            listen,
            advertise: spec.advertise.as_ref().map_or_else(
                || HostPort {
                    host: listen.ip().to_string(),
                    port: listen.port(),
                },
                |at| at.value.clone(),
            ),
            host_keys,
            audit_log: spec.audit_log.as_ref().map_or_else(
                || state_dir.join("audit.jsonl"),
                |at| document_path(document, &at.value),
            ),
            state_dir,
            signing: signing(document, spec),
            witness: witness(document, spec),
            limits: spec.limits.clone(),
            sandbox,
            recordings: self.recordings(document, spec),
            issuer: self.issuer(document, spec),
        };
        self.sandbox_shows_no_secret(&bastion, spec, clusters);
        Some(bastion)
    }

    fn recordings(&self, document: &Document, spec: &RawBastion) -> KeepRecordings {
        let raw = &spec.recordings;
        if let Some(listed) = &raw.recipients
            && listed.value.is_empty()
        {
            self.report(
                &listed.at,
                "recordings that nobody can read are of no use: name a recipient, or leave the key out",
            );
        }
        if let (Some(index), None) = (&raw.request_index, &raw.recipients) {
            self.report(
                &index.at,
                "without recipients nothing is encrypted; leave 'requestIndex' out",
            );
        }
        let recipients = raw.recipients.as_ref().and_then(|listed| {
            Recipients::new(listed.value.iter().map(|at| at.value.clone()).collect())
        });
        let default = KeepRecordings::default();
        KeepRecordings {
            recipients: recipients.map(Arc::new),
            requests_in_clear: raw
                .request_index
                .as_ref()
                .is_some_and(|index| index.value == RequestIndex::Clear),
            quota: raw.quota.as_ref().map_or(default.quota, |at| at.value),
            reserve: raw.reserve.as_ref().map_or(default.reserve, |at| at.value),
            warn_at: raw.warn_at.as_ref().map_or(default.warn_at, |at| at.value),
            s3: raw.s3.as_ref().map(|raw| s3(document, raw)),
            retention: raw.retention.clone(),
        }
    }

    fn only_bastion(&self, root: &Path) -> Option<&Document> {
        let mut all = self.of(Kind::Bastion);
        let Some(first) = all.next() else {
            if !self.incomplete {
                self.report(
                    &Place::file(root),
                    "no Bastion is defined; write one document of kind Bastion",
                );
            }
            return None;
        };
        for another in all {
            self.report(
                &another.at,
                format!(
                    "one daemon has one Bastion, and '{}' is at {}; remove one",
                    first.name.value, first.at
                ),
            );
        }
        Some(first)
    }

    fn host_keys(&self, document: &Document, spec: &RawBastion) -> Vec<PathBuf> {
        let Some(listed) = &spec.host_keys else {
            return Vec::new();
        };
        if listed.value.is_empty() {
            self.report(
                &listed.at,
                "a daemon needs a host key; make one with: ssh-keygen -t ed25519 -N '' -f host_ed25519",
            );
        }
        self.paths_once(document, &listed.value, |path| path.to_owned())
    }

    /// Paths, no two of which agree in what `of` takes from them.
    pub(super) fn paths_once<K: Ord>(
        &self,
        document: &Document,
        listed: &[At<String>],
        of: fn(&Path) -> K,
    ) -> Vec<PathBuf> {
        let mut seen = BTreeSet::new();
        let mut paths = Vec::new();
        for entry in listed {
            let path = document_path(document, &entry.value);
            if seen.insert(of(&path)) {
                paths.push(path);
            } else {
                self.report(
                    &entry.at,
                    format!("'{}' is here a second time; remove it", entry.value),
                );
            }
        }
        paths
    }

    fn sandbox(&self, document: &Document, spec: &RawBastion) -> Sandbox {
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
            // They lie side by side in one directory, so their names must differ.
            tools: self.paths_once(document, &raw.tools, |path| {
                path.file_name().map(ToOwned::to_owned)
            }),
            read_only_paths: self
                .paths_once(document, &raw.read_only_paths, |path| path.to_owned()),
            uid_start,
            uid_count,
            landlock_abi: value(&raw.landlock_abi, LANDLOCK_ABI),
            processes: value(&raw.processes, PROCESSES),
            open_files: value(&raw.open_files, OPEN_FILES),
            memory: value(&raw.memory, MEMORY),
            tmp_size: value(&raw.tmp_size, TMP_SIZE),
        }
    }

    /// What the daemon must hide cannot be shown by a setting. By name only; links are the launcher's.
    fn sandbox_shows_no_secret(
        &self,
        bastion: &Bastion,
        spec: &RawBastion,
        clusters: &BTreeMap<Name, Cluster>,
    ) {
        let kubeconfigs = clusters
            .values()
            .filter_map(|cluster| match &cluster.access {
                ClusterAccess::Kubeconfig(path) => Some(path),
                ClusterAccess::InCluster => None,
            });
        let hidden: Vec<&PathBuf> = bastion
            .host_keys
            .iter()
            .chain([&bastion.state_dir, &bastion.audit_log])
            .chain(bastion.signing.paths())
            .chain(
                bastion
                    .witness
                    .webhook
                    .iter()
                    .flat_map(|webhook| &webhook.token_file),
            )
            .chain(
                bastion
                    .recordings
                    .s3
                    .iter()
                    .flat_map(|s3| &s3.credentials_file),
            )
            .chain(bastion.issuer.iter().flat_map(|issuer| {
                let served = issuer.listener.iter().map(|listener| &listener.key);
                issuer.signing_keys.iter().chain(served)
            }))
            .chain(kubeconfigs)
            .collect();
        let sandbox = &bastion.sandbox;
        let shown = sandbox
            .read_only_paths
            .iter()
            .zip(&spec.sandbox.read_only_paths);
        let tools = sandbox.tools.iter().zip(&spec.sandbox.tools);
        for (path, written) in shown.chain(tools) {
            let secret = hidden
                .iter()
                .find(|secret| secret.starts_with(path) || path.starts_with(secret));
            if let Some(secret) = secret {
                self.report(
                    &written.at,
                    format!(
                        "this would show {} to operators' commands; name something narrower",
                        secret.display()
                    ),
                );
            }
        }
    }
}

/// What cannot be told from what is written has been reported.
fn signing(document: &Document, spec: &RawBastion) -> KeySource {
    let Some(raw) = &spec.signing else {
        return KeySource::Own;
    };
    let path = |at: &At<String>| document_path(document, &at.value);
    let previous = raw.previous_key.as_ref().map(path);
    match (&raw.key, &raw.socket, &raw.public_key) {
        (Some(key), _, _) => KeySource::File {
            key: path(key),
            previous,
        },
        (None, Some(socket), Some(key)) => KeySource::Socket {
            socket: path(socket),
            public_key: key.value.clone(),
            previous,
        },
        _ => KeySource::Own,
    }
}

fn witness(document: &Document, spec: &RawBastion) -> Witness {
    let default = Witness::default();
    let Some(raw) = &spec.witness else {
        return default;
    };
    Witness {
        file: raw
            .file
            .as_ref()
            .map(|at| document_path(document, &at.value)),
        daemon_log: raw.daemon_log,
        syslog: raw
            .syslog
            .as_ref()
            .map(|at| document_path(document, &at.value)),
        webhook: raw.webhook.as_ref().map(|raw| {
            let path = |at: &At<String>| document_path(document, &at.value);
            Webhook {
                url: raw.url.clone(),
                ca_file: raw.ca_file.as_ref().map(path),
                token_file: raw.token_file.as_ref().map(path),
            }
        }),
        every: raw.every.unwrap_or(default.every),
    }
}

fn s3(document: &Document, raw: &RawS3) -> S3 {
    let path = |at: &At<String>| document_path(document, &at.value);
    S3 {
        bucket: raw.bucket.clone(),
        // So that daemons that share a bucket do not share recordings unless they are told to.
        prefix: raw
            .prefix
            .clone()
            .unwrap_or_else(|| document.name.value.to_string()),
        region: raw.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
        endpoint: raw.endpoint.clone(),
        ca_file: raw.ca_file.as_ref().map(path),
        credentials_file: raw.credentials_file.as_ref().map(path),
        sse: raw.sse.clone(),
        object_lock: raw.object_lock,
        keep_local: raw.keep_local,
    }
}

fn value<T: Copy>(given: &Option<At<T>>, default: T) -> T {
    given.as_ref().map_or(default, |at| at.value)
}
