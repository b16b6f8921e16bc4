//! Certificate authorities: their keys are theirs alone, and what they have taken back can be read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::KeyData;

use super::{Documents, misplaced};
use crate::config::authority::{CertificateAuthority, PrincipalRule, SigningAlgorithm, UNDER};
use crate::config::authorized_keys;
use crate::config::model::{IdentityDocument, Name};
use crate::config::problem::{At, Place};
use crate::config::raw::{Document, Kind, RawAuthority};
use crate::config::source::Reader;
use crate::identity::krl::Krl;

/// Where each key was first seen, and what it is there.
type Seen = HashMap<KeyData, String>;

impl Documents<'_> {
    pub(super) fn authorities(
        &self,
        identities: &BTreeMap<Name, IdentityDocument>,
        reader: &mut Reader,
    ) -> BTreeMap<Name, CertificateAuthority> {
        let mut seen = Seen::new();
        for identity in identities.values() {
            for line in &identity.keys {
                let whose = format!("the Identity '{}'", identity.name);
                seen.insert(line.key.key_data().clone(), whose);
            }
        }
        let mut authorities = BTreeMap::new();
        for (document, spec) in self.authority_specs() {
            let authority = self.authority(document, spec, &mut seen, reader);
            let rules: Vec<&At<PrincipalRule>> = spec.identities.iter().flatten().collect();
            self.unlisted_have_names_of_their_own(document, &rules);
            authorities.insert(authority.name.clone(), authority);
        }
        authorities
    }

    fn authority(
        &self,
        document: &Document,
        spec: &RawAuthority,
        seen: &mut Seen,
        reader: &mut Reader,
    ) -> CertificateAuthority {
        let name = document.name.value.clone();
        let keys = self
            .lines(document, &spec.keys, spec.keys_file.as_ref(), reader)
            .into_iter()
            .filter_map(|line| self.authority_key(&name, line, seen))
            .collect();
        let algorithms: BTreeSet<SigningAlgorithm> = match &spec.algorithms {
            Some(listed) => listed.iter().map(|at| at.value).collect(),
            None => SigningAlgorithm::ALL.into(),
        };
        let identities = match &spec.identities {
            Some(rules) => rules.iter().map(|rule| rule.value.clone()).collect(),
            None => vec![PrincipalRule {
                prefix: String::new(),
                suffix: String::new(),
                listed: true,
            }],
        };
        CertificateAuthority {
            name,
            keys,
            algorithms,
            revoked: self.revoked(document, spec, reader),
            identities,
            groups: spec.groups.iter().map(|rule| rule.value.clone()).collect(),
        }
    }

    fn authority_key(
        &self,
        authority: &Name,
        line: At<String>,
        seen: &mut Seen,
    ) -> Option<PublicKey> {
        let key = match authorized_keys::bare_key(&line.value) {
            Ok(key) => key?,
            Err(wrong) => {
                let (at, message) = misplaced(&line, wrong);
                self.report(&at, message);
                return None;
            }
        };
        if let Some(whose) = seen.get(key.key_data()) {
            self.report(
                &line.at,
                format!(
                    "this key is that of {whose} already; a key means one thing, so remove one"
                ),
            );
            return None;
        }
        let own = format!("the CertificateAuthority '{authority}'");
        seen.insert(key.key_data().clone(), own);
        Some(key)
    }

    /// What was taken back. One that cannot be read is a problem, never an empty list.
    fn revoked(
        &self,
        document: &Document,
        spec: &RawAuthority,
        reader: &mut Reader,
    ) -> Option<Arc<Krl>> {
        let file = spec.revoked.as_ref()?;
        let path = document.base.join(&file.value);
        let read = reader.read_bytes(&path).map_err(|error| error.to_string());
        let krl = read.and_then(|bytes| {
            Krl::parse(&bytes).map_err(|error| {
                format!(
                    "is not a list of revoked keys that can be used: {error}; make one with: ssh-keygen -k -f {} -s CA.pub ...",
                    path.display()
                )
            })
        });
        match krl {
            Ok(krl) => Some(Arc::new(krl)),
            Err(message) => {
                self.report(&file.at, format!("revoked {} {message}", path.display()));
                None
            }
        }
    }

    /// An identity that is listed nowhere is called `SOURCE--NAME`; nobody else may be, and no two of one source the same.
    pub(super) fn unlisted_have_names_of_their_own(
        &self,
        document: &Document,
        rules: &[&At<PrincipalRule>],
    ) {
        if rules.iter().all(|rule| rule.value.listed) {
            return;
        }
        let name = &document.name;
        if name.value.as_str().contains(UNDER) {
            self.report(
                &name.at,
                format!(
                    "identities that are listed nowhere are called '{}{UNDER}NAME', so this name must not contain '{UNDER}'; rename it",
                    name.value
                ),
            );
        }
        for second in rules.iter().filter(|rule| !rule.value.listed).skip(1) {
            self.report(
                &second.at,
                "a second rule without 'listed: true' could call two people the same; \
                 keep one, and give the others a document of their own",
            );
        }
        let own = format!("{}{UNDER}", name.value);
        for kind in [Kind::Identity, Kind::Role] {
            for other in self.of(kind) {
                if other.name.value.as_str().starts_with(&own) {
                    self.report(
                        &other.name.at,
                        format!(
                            "names that begin with '{own}' are those of identities of the {} '{}' (at {}); rename this {}",
                            document.kind.as_str(), name.value, name.at, kind.as_str()
                        ),
                    );
                }
            }
        }
    }
}

impl Documents<'_> {
    /// Every line that may hold a key, of a document and of its keysFile.
    pub(super) fn lines(
        &self,
        document: &Document,
        keys: &[At<String>],
        keys_file: Option<&At<String>>,
        reader: &mut Reader,
    ) -> Vec<At<String>> {
        let mut lines: Vec<At<String>> = keys.to_vec();
        let Some(file) = keys_file else {
            return lines;
        };
        let path = document.base.join(&file.value);
        match reader.read(&path) {
            Err(error) => self.report(&file.at, format!("keysFile {} {error}", path.display())),
            Ok(text) => {
                let place = Place::file(&path);
                for (line, number) in text.lines().zip(1_u32..) {
                    lines.push(At {
                        value: line.to_owned(),
                        at: Place {
                            line: number,
                            column: 1,
                            ..place.clone()
                        },
                    });
                }
            }
        }
        lines
    }
}
