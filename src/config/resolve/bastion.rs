//! The one document about the daemon itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Documents, document_path};
use crate::config::NetworkSocket;
use crate::config::cluster::Cluster;
use crate::config::model::{Bastion, HostPort, KeepRecordings, Name};
use crate::config::problem::{At, Place};
use crate::config::raw::{Document, Kind, RawBastion, RawS3, RequestIndex, Spec};
use crate::config::recordings::S3;
use crate::log::{Webhook, Witness};
use crate::recording::Recipients;
use crate::signing::KeySource;

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
            host_certificates: spec.host_certificates.as_ref().map_or_else(Vec::new, |at| {
                self.paths_once(document, &at.value, Path::to_owned)
            }),
            audit_log: spec.audit_log.as_ref().map_or_else(
                || state_dir.join("audit.jsonl"),
                |at| document_path(document, &at.value),
            ),
            state_dir,
            signing: signing(document, spec),
            witness: witness(document, spec),
            limits: spec.limits.clone(),
            admission: spec.admission.clone(),
            banner: spec.banner.as_ref().map(|at| at.value.clone()),
            algorithms: spec
                .algorithms
                .as_ref()
                .map(|at| at.value)
                .unwrap_or_default(),
            sandbox,
            recordings: self.recordings(document, spec),
            network: spec.network.as_ref().map(|network| NetworkSocket {
                socket: document_path(document, &network.socket),
                user: network.user.clone(),
            }),
            issuer: self.issuer(document, spec),
            second_factor: spec.second_factor,
            login: self.login(document, spec),
        };
        self.sandbox_shows_no_secret(document, spec, &bastion, clusters);
        self.tools_have_names_of_their_own(&bastion);
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
