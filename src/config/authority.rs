//! `kind: CertificateAuthority`: whose OpenSSH certificates prove somebody, and whom.

use std::collections::BTreeSet;
use std::sync::Arc;

use russh::keys::PublicKey;

use super::{IdentityDocument, Name};
use crate::identity::krl::Krl;

/// An authority, and what is made of what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateAuthority {
    /// `metadata.name`.
    pub name: Name,
    /// Its public keys; ed25519 or ecdsa.
    pub keys: Vec<PublicKey>,
    /// The algorithms by which it may sign certificates.
    pub algorithms: BTreeSet<SigningAlgorithm>,
    /// What it has taken back.
    pub revoked: Option<Arc<Krl>>,
    /// How principals become identities; for each principal the first one that fits counts.
    pub identities: Vec<PrincipalRule>,
    /// Where groups come from.
    pub groups: Vec<GroupRule>,
}

/// An algorithm by which a certificate may be signed. None of them uses SHA-1. RSA is not among them, because it could
/// not be verified without the crate `rsa` (RUSTSEC-2023-0071).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SigningAlgorithm {
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`
    NistP256,
    /// `ecdsa-sha2-nistp384`
    NistP384,
    /// `ecdsa-sha2-nistp521`
    NistP521,
}

impl SigningAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Ed25519,
        Self::NistP256,
        Self::NistP384,
        Self::NistP521,
    ];

    /// As OpenSSH names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::NistP256 => "ecdsa-sha2-nistp256",
            Self::NistP384 => "ecdsa-sha2-nistp384",
            Self::NistP521 => "ecdsa-sha2-nistp521",
        }
    }
}

/// Which principals mean whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRule {
    /// What the principal begins with; may be empty.
    pub prefix: String,
    /// What it ends with; may be empty.
    pub suffix: String,
    /// The rest is the name of an Identity of the configuration. Otherwise nobody is listed: the rest makes a name of its own
    /// under the authority's.
    pub listed: bool,
}

/// Between an authority's name and what it calls somebody, and where that has a dot. Nothing that is listed may look like it.
pub(super) const UNDER: &str = "--";

impl PrincipalRule {
    /// What a principal is called without prefix and suffix.
    pub fn rest<'p>(&self, principal: &'p str) -> Option<&'p str> {
        principal
            .strip_prefix(&*self.prefix)?
            .strip_suffix(&*self.suffix)
    }
}

/// Where a certificate says which groups somebody is in. Each gives names, divided by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRule {
    /// In the extension of this name.
    Extension(String),
    /// In the key id, in a word that begins with this.
    KeyIdAfter(String),
}

/// Whom a principal means.
#[derive(Clone, Debug, PartialEq)]
pub enum Meant<'c> {
    /// An Identity of the configuration.
    Listed(&'c IdentityDocument),
    /// Somebody who is listed nowhere: `AUTHORITY--NAME`.
    Unlisted(Name),
}

impl Meant<'_> {
    /// The identity's name.
    pub fn name(&self) -> &Name {
        match self {
            Self::Listed(document) => &document.name,
            Self::Unlisted(name) => name,
        }
    }
}

impl CertificateAuthority {
    /// Whether somebody can be proven who is listed nowhere.
    pub fn speaks_for_unlisted(&self) -> bool {
        self.identities.iter().any(|rule| !rule.listed)
    }
}

/// The name of somebody who is listed nowhere: `jane.doe` of the authority `corp` is `corp--jane--doe`. No two principals have the
/// same: a dot stands between two parts of which each is a name without `--`.
fn unlisted(source: &Name, rest: &str) -> Option<Name> {
    let mut name = source.to_string();
    for part in rest.split('.') {
        let part = Name::new(part).ok()?;
        if part.as_str().contains(UNDER) {
            return None;
        }
        name.push_str(UNDER);
        name.push_str(part.as_str());
    }
    Name::new(&name).ok()
}

/// Whom a source means by a principal: of its rules the first that fits counts.
pub(super) fn meant_by_rules<'c>(
    config: &'c super::Config,
    source: &Name,
    rules: &[PrincipalRule],
    principal: &str,
) -> Option<Meant<'c>> {
    rules.iter().find_map(|rule| {
        let rest = rule.rest(principal)?;
        if !rule.listed {
            return unlisted(source, rest).map(Meant::Unlisted);
        }
        let name = Name::new(rest).ok()?;
        config.identities.get(&name).map(Meant::Listed)
    })
}

impl super::Config {
    /// Whom this authority means by a principal, if anybody.
    pub fn meant_by<'c>(
        &'c self,
        authority: &CertificateAuthority,
        principal: &str,
    ) -> Option<Meant<'c>> {
        meant_by_rules(self, &authority.name, &authority.identities, principal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn corp() -> Name {
        Name::new("corp").unwrap()
    }

    #[test]
    fn a_name_under_an_authority_is_made_of_names() {
        let unlisted = |rest| unlisted(&corp(), rest).map(String::from);
        assert_eq!(unlisted("jane"), Some("corp--jane".to_owned()));
        assert_eq!(unlisted("jane.doe-2"), Some("corp--jane--doe-2".to_owned()));
        for wrong in [
            "",
            ".",
            "jane.",
            ".jane",
            "jane..doe",
            "Jane",
            "jane--doe",
            "jane-.doe",
            "jane_doe",
            "jane+root",
            "jané",
            "../jane",
            &"j".repeat(58),
        ] {
            assert_eq!(unlisted(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn prefix_and_suffix_do_not_share_a_character() {
        let rule = PrincipalRule {
            prefix: "ab".to_owned(),
            suffix: "bc".to_owned(),
            listed: true,
        };
        assert_eq!(rule.rest("abc"), None);
        assert_eq!(rule.rest("abbc"), Some(""));
        assert_eq!(rule.rest("abxbc"), Some("x"));
    }

    proptest! {
        #[test]
        fn no_two_people_have_one_name(one in "[a-c.-]{1,8}", other in "[a-c.-]{1,8}") {
            prop_assume!(one != other);
            if let (Some(one), Some(other)) = (unlisted(&corp(), &one), unlisted(&corp(), &other)) {
                prop_assert_ne!(one, other);
            }
        }
    }
}
