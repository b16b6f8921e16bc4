//! Roles: selectors become clusters, overrides become subjects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Documents;
use crate::config::cluster::{Cluster, Mint};
use crate::config::model::{
    AuditRole, CredentialTtl, HostPort, KubernetesRole, Name, Pattern, RecordBodies, RecordInput,
    Role, RoleAccess, ServiceAccountTemplate, SessionKind, SubjectTemplate,
};
use crate::config::problem::{At, Place};
use crate::config::raw::{
    ClusterSelector, Document, Kind, RawAudit, RawKubernetes, RawRole, RawServiceAccount,
};

const DEFAULT_MAX_SESSION: Duration = Duration::from_secs(8 * 3600);
/// The longest session of a rescue role.
const RESCUE_MAX_SESSION: Duration = Duration::from_secs(3600);
/// The longest session, its extension included.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_TTL_SECONDS: u32 = 15 * 60;

impl Documents<'_> {
    pub(super) fn roles(&self, defined: &BTreeMap<Name, Cluster>) -> BTreeMap<Name, Role> {
        self.role_specs()
            .filter_map(|(document, spec)| {
                let name = document.name.value.clone();
                let access = self.role_access(document, spec, defined)?;
                let require = spec.require.as_ref().map(|listed| &listed.value);
                let require = require.into_iter().flatten().map(|at| at.value).collect();
                let role = Role {
                    name: name.clone(),
                    access,
                    require,
                    device_flow: self.device_flow(spec),
                };
                Some((name, role))
            })
            .collect()
    }

    fn device_flow(&self, spec: &RawRole) -> Option<Name> {
        let asked = spec.device_flow.as_ref()?;
        let known = self.check_reference(Kind::IdentityProvider, asked);
        known.then(|| asked.value.clone())
    }

    fn role_access(
        &self,
        document: &Document,
        spec: &RawRole,
        defined: &BTreeMap<Name, Cluster>,
    ) -> Option<RoleAccess> {
        match (&spec.kubernetes, &spec.audit) {
            (Some(kubernetes), None) => {
                let role = self.kubernetes_role(document, spec, kubernetes, defined)?;
                Some(RoleAccess::Kubernetes(role))
            }
            (None, Some(audit)) => audit_role(&audit.value).map(RoleAccess::Audit),
            _ => None,
        }
    }

    fn kubernetes_role(
        &self,
        document: &Document,
        spec: &RawRole,
        kubernetes: &At<RawKubernetes>,
        defined: &BTreeMap<Name, Cluster>,
    ) -> Option<KubernetesRole> {
        let subjects = self.subjects(kubernetes, defined);
        self.ttl_has_a_meaning(spec, subjects.as_ref());
        let sessions = self.session_kinds(spec);
        self.credentials_are_somewhere(spec, subjects.as_ref());
        Some(KubernetesRole {
            subjects: subjects?,
            credential_ttl: match &spec.credential_ttl {
                Some(at) => at.value,
                None => CredentialTtl::from_secs(DEFAULT_TTL_SECONDS).ok()?,
            },
            max_session: spec
                .max_session
                .as_ref()
                .map_or(DEFAULT_MAX_SESSION, |at| at.value),
            max_extension: self.max_extension(spec, &sessions),
            record_input: spec
                .record_input
                .as_ref()
                .map_or(RecordInput::Auto, |at| at.value),
            bodies: spec
                .bodies
                .as_ref()
                .map_or(RecordBodies::Writes, |at| at.value),
            rescue: self.rescue(spec),
            tools: spec
                .tools
                .as_ref()
                .map(|listed| self.tools(document, &listed.value))
                .unwrap_or_default(),
            egress: self.egress(spec, &sessions),
            sessions,
        })
    }

    /// By a word inside the session: so only where there is an inside.
    fn max_extension(&self, spec: &RawRole, sessions: &BTreeSet<SessionKind>) -> Duration {
        let Some(asked) = &spec.max_extension else {
            return Duration::ZERO;
        };
        if !runs_here(sessions) {
            self.report(
                &asked.at,
                "'maxExtension' is for what runs in a session here, and this role has neither shell nor exec; remove it",
            );
        }
        if spec.rescue.as_ref().is_some_and(|rescue| rescue.value) {
            self.report(
                &asked.at,
                "a rescue role's sessions are short and stay so; remove 'maxExtension'",
            );
        }
        let first = spec
            .max_session
            .as_ref()
            .map_or(DEFAULT_MAX_SESSION, |at| at.value);
        if first.saturating_add(asked.value) > LONGEST {
            self.report(
                &asked.at,
                "with its extension a session lasts 24h at most: make 'maxSession' or 'maxExtension' shorter",
            );
        }
        asked.value
    }

    /// Only what runs here can be let out from here.
    fn egress(&self, spec: &RawRole, sessions: &BTreeSet<SessionKind>) -> BTreeSet<HostPort> {
        let Some(listed) = &spec.egress else {
            return BTreeSet::new();
        };
        if !runs_here(sessions) {
            self.report(
                &listed.at,
                "'egress' is for what runs in a session here, and this role has neither shell nor exec; remove it",
            );
        }
        listed.value.iter().map(|at| at.value.clone()).collect()
    }

    /// A role for when nothing else works is narrow, and says so itself.
    fn rescue(&self, spec: &RawRole) -> bool {
        let Some(rescue) = spec.rescue.as_ref().filter(|rescue| rescue.value) else {
            return false;
        };
        let short = spec
            .max_session
            .as_ref()
            .is_some_and(|max| max.value <= RESCUE_MAX_SESSION);
        if !short {
            self.report(
                &rescue.at,
                "a rescue role's sessions are short: give it a maxSession of 1h or less",
            );
        }
        let kinds = spec.sessions.as_ref().map(|listed| &listed.value);
        let plain =
            |kind: &At<SessionKind>| matches!(kind.value, SessionKind::Shell | SessionKind::Exec);
        if !kinds.is_some_and(|kinds| kinds.iter().all(plain)) {
            self.report(
                &rescue.at,
                "a rescue role names its sessions, of which there are two kinds for it: shell and exec",
            );
        }
        let others = self.role_specs().filter(|(_, other)| {
            other
                .rescue
                .as_ref()
                .is_some_and(|other| other.value && other.at != rescue.at)
        });
        if others.count() > 0 {
            self.report(&rescue.at, "there is one rescue role at most");
        }
        true
    }

    fn session_kinds(&self, spec: &RawRole) -> BTreeSet<SessionKind> {
        let Some(listed) = &spec.sessions else {
            return BTreeSet::from([SessionKind::Shell, SessionKind::Exec]);
        };
        if listed.value.is_empty() {
            self.report(
                &listed.at,
                "a role without a kind of session can do nothing; name shell, exec, tunnel or credential, or remove the role",
            );
        }
        listed.value.iter().map(|kind| kind.value).collect()
    }

    fn ttl_has_a_meaning(
        &self,
        spec: &RawRole,
        subjects: Option<&BTreeMap<Name, SubjectTemplate>>,
    ) {
        let issued =
            |subject: &SubjectTemplate| matches!(subject, SubjectTemplate::ServiceAccount(_));
        if let (Some(ttl), Some(subjects)) = (&spec.credential_ttl, subjects)
            && !subjects.is_empty()
            && !subjects.values().any(issued)
        {
            self.report(
                &ttl.at,
                "no API server issues credentials for this role: where a cluster mints by oidcIssuer, 'tokenTtl' of the Bastion's issuer counts, \
                 and where it mints by impersonation there are none; leave 'credentialTtl' out",
            );
        }
    }

    /// Where the daemon acts for somebody there is nothing that could be handed out.
    fn credentials_are_somewhere(
        &self,
        spec: &RawRole,
        subjects: Option<&BTreeMap<Name, SubjectTemplate>>,
    ) {
        let listed = spec.sessions.iter().flat_map(|listed| &listed.value);
        let credential = listed
            .into_iter()
            .find(|kind| kind.value == SessionKind::Credential);
        let none =
            |subject: &SubjectTemplate| matches!(subject, SubjectTemplate::Impersonated { .. });
        if let (Some(kind), Some(subjects)) = (credential, subjects)
            && !subjects.is_empty()
            && subjects.values().all(none)
        {
            self.report(
                &kind.at,
                "all of the role's clusters mint by impersonation, where there is no credential to be handed out; leave 'credential' out",
            );
        }
    }

    /// The subject on each cluster. `None` once something of it has been reported.
    fn subjects(
        &self,
        role: &At<RawKubernetes>,
        defined: &BTreeMap<Name, Cluster>,
    ) -> Option<BTreeMap<Name, SubjectTemplate>> {
        let kubernetes = &role.value;
        let clusters = self.selected(&kubernetes.clusters);
        let asked = Subject::of(&kubernetes.service_account, &kubernetes.groups);
        let mut subjects: BTreeMap<Name, SubjectTemplate> = BTreeMap::new();
        let mut overridden = BTreeSet::new();
        for entry in &kubernetes.overrides {
            let other = Subject::of(&entry.value.service_account, &entry.value.groups);
            for cluster in self.selected(&entry.value.clusters) {
                if !clusters.contains(&cluster) {
                    self.report(
                        &entry.at,
                        format!("this override is for '{cluster}', where the role does not exist; add it to the role's clusters"),
                    );
                } else if !overridden.insert(cluster.clone()) {
                    self.report(
                        &entry.at,
                        format!("two overrides are for '{cluster}', and neither is the right one; keep one"),
                    );
                } else if let Some(subject) = self.subject(&other, &entry.at, &cluster, defined) {
                    subjects.insert(cluster, subject);
                }
            }
        }
        let mut whole = true;
        for cluster in clusters {
            if !overridden.contains(&cluster) {
                match self.subject(&asked, &role.at, &cluster, defined) {
                    Some(subject) => drop(subjects.insert(cluster, subject)),
                    None => whole = false,
                }
            }
        }
        whole.then_some(subjects)
    }

    /// What the role stands for where credentials come about as they do on that cluster.
    fn subject(
        &self,
        asked: &Subject<'_>,
        at: &Place,
        cluster: &Name,
        defined: &BTreeMap<Name, Cluster>,
    ) -> Option<SubjectTemplate> {
        match &defined.get(cluster)?.mint {
            Mint::TokenRequest => {
                if let (None, Some(_)) = (asked.account, asked.groups) {
                    self.report(
                        at,
                        format!("'{cluster}' mints by tokenRequest, so this needs the key 'serviceAccount'"),
                    );
                }
                asked
                    .account
                    .and_then(template)
                    .map(SubjectTemplate::ServiceAccount)
            }
            Mint::OidcIssuer { .. } => {
                if let (Some(_), None) = (asked.account, asked.groups) {
                    self.report(
                        at,
                        format!("'{cluster}' mints by oidcIssuer, so this needs the key 'groups': those that RBAC binds there as ssh:GROUP"),
                    );
                }
                let groups = &asked.groups?.value;
                Some(SubjectTemplate::Own {
                    groups: groups.iter().map(|at| at.value.clone()).collect(),
                })
            }
            Mint::Impersonation(naming) => {
                if let (Some(_), None) = (asked.account, asked.groups) {
                    self.report(
                        at,
                        format!("'{cluster}' mints by impersonation, so this needs the key 'groups': those that RBAC binds there"),
                    );
                }
                let mut whole = BTreeSet::new();
                for group in &asked.groups?.value {
                    match naming.group(&group.value) {
                        Some(group) => drop(whole.insert(group)),
                        None => self.report(
                            &group.at,
                            format!("on '{cluster}', with its groupPrefix, this would be a group of Kubernetes' own (system:...)"),
                        ),
                    }
                }
                Some(SubjectTemplate::Impersonated {
                    username: naming.username().to_owned(),
                    groups: whole,
                })
            }
        }
    }

    fn selected(&self, selectors: &[At<ClusterSelector>]) -> BTreeSet<Name> {
        let mut clusters = BTreeSet::new();
        for selector in selectors {
            match &selector.value {
                ClusterSelector::Named(name) => {
                    let name = At {
                        value: name.clone(),
                        at: selector.at.clone(),
                    };
                    if self.check_reference(Kind::Cluster, &name) {
                        clusters.insert(name.value);
                    }
                }
                ClusterSelector::MatchLabels(wanted) => {
                    let matching = self.of(Kind::Cluster).filter(|cluster| {
                        wanted
                            .iter()
                            .all(|(key, value)| cluster.labels.get(key) == Some(value))
                    });
                    let names: Vec<Name> = matching.map(|c| c.name.value.clone()).collect();
                    if names.is_empty() {
                        self.report(
                            &selector.at,
                            "no Cluster has all of these labels; see metadata.labels of the clusters",
                        );
                    }
                    clusters.extend(names);
                }
            }
        }
        clusters
    }
}

/// What is written of a subject, for one mode of minting or for both.
struct Subject<'a> {
    account: Option<&'a At<RawServiceAccount>>,
    groups: Option<&'a At<Vec<At<String>>>>,
}

impl<'a> Subject<'a> {
    fn of(
        account: &'a Option<At<RawServiceAccount>>,
        groups: &'a Option<At<Vec<At<String>>>>,
    ) -> Self {
        Self {
            account: account.as_ref(),
            groups: groups.as_ref(),
        }
    }
}

/// Whether a session of these kinds has an inside.
fn runs_here(sessions: &BTreeSet<SessionKind>) -> bool {
    sessions.contains(&SessionKind::Shell) || sessions.contains(&SessionKind::Exec)
}

fn template(account: &At<RawServiceAccount>) -> Option<ServiceAccountTemplate> {
    Some(ServiceAccountTemplate {
        namespace: account.value.namespace.as_ref()?.value.clone(),
        name: account.value.name.as_ref()?.value.clone(),
    })
}

fn audit_role(raw: &RawAudit) -> Option<AuditRole> {
    Some(AuditRole {
        clusters: pattern(&raw.clusters.as_ref()?.value),
        identities: pattern(&raw.identities.as_ref()?.value),
    })
}

/// Names need not be defined: recordings outlive clusters and people.
fn pattern(listed: &[At<Option<Name>>]) -> Pattern {
    let names: Option<BTreeSet<Name>> = listed.iter().map(|entry| entry.value.clone()).collect();
    names.map_or(Pattern::All, Pattern::Names)
}
