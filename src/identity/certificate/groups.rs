//! Groups that a certificate puts somebody into, by the rules of its authority. They carry its name, so that no other source's
//! are among them.

use std::collections::BTreeSet;

use russh::keys::Certificate;

use super::CertificateRefusal;
use super::facts::shown;
use crate::config::{CertificateAuthority, GroupRule};
use crate::identity::Group;

/// The most groups that one certificate may name.
const MAX_GROUPS: usize = 128;

/// # Errors
///
/// If what stands where groups should is none: to pass over a word of it might pass over the one that was meant to matter.
pub(super) fn groups(
    authority: &CertificateAuthority,
    certificate: &Certificate,
) -> Result<BTreeSet<Group>, CertificateRefusal> {
    let mut groups = BTreeSet::new();
    for rule in &authority.groups {
        let Some(names) = names(rule, certificate)? else {
            continue;
        };
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let group = Group::from_authority(&authority.name, name)
                .map_err(|error| unreadable(format!("'{}' is not one: {error}", shown(name))))?;
            groups.insert(group);
            if groups.len() > MAX_GROUPS {
                return Err(unreadable(format!("there are more than {MAX_GROUPS}")));
            }
        }
    }
    Ok(groups)
}

/// The names by one rule, divided by commas.
fn names<'c>(
    rule: &GroupRule,
    certificate: &'c Certificate,
) -> Result<Option<&'c str>, CertificateRefusal> {
    match rule {
        GroupRule::Extension(name) => Ok(certificate.extensions().get(name).map(String::as_str)),
        GroupRule::KeyIdAfter(word) => in_key_id(certificate.key_id(), word),
    }
}

/// What follows `word` in a key id, to the end of its word. An authority often puts in there what others chose; one of two would be
/// theirs, so it must stand there once.
fn in_key_id<'c>(key_id: &'c str, word: &str) -> Result<Option<&'c str>, CertificateRefusal> {
    let mut found = key_id
        .split([' ', ';'])
        .filter_map(|part| part.strip_prefix(word));
    match (found.next(), found.next()) {
        (names, None) => Ok(names),
        (_, Some(_)) => Err(unreadable(format!(
            "'{}' stands in its key id twice",
            shown(word)
        ))),
    }
}

fn unreadable(why: String) -> CertificateRefusal {
    CertificateRefusal::Groups { why }
}
