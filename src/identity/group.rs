//! Groups, each with the source that vouches for it.

use serde::{Deserialize, Serialize};

use crate::config::Name;

/// A group with the source that vouches for it, so that one source cannot speak for another:
/// `sre` is the configuration's, `ca/NAME:sre` a certificate authority's, `oidc/NAME:sre` a provider's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group(String);

/// Why a string is no [`Group`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("1 to 63 letters, digits and '-_.'")]
pub struct NotAGroup;

impl Group {
    /// A group that the configuration names. `:` and `/` are refused, since with them it would name another
    /// source's.
    pub fn from_file(name: &str) -> Result<Self, NotAGroup> {
        plain(name).map(|name| Self(name.to_owned()))
    }

    /// A group that a certificate authority puts somebody into: `ca/AUTHORITY:name`.
    ///
    /// # Errors
    ///
    /// As for [`Group::from_file`]: what an authority says can name no group but its own.
    pub fn from_authority(authority: &Name, name: &str) -> Result<Self, NotAGroup> {
        plain(name).map(|name| Self(format!("{OF_AN_AUTHORITY}{authority}:{name}")))
    }

    /// A group that an identity provider puts somebody into: `oidc/PROVIDER:name`.
    ///
    /// # Errors
    ///
    /// As for [`Group::from_file`]: what a provider says can name no group but its own.
    pub fn from_provider(provider: &Name, name: &str) -> Result<Self, NotAGroup> {
        plain(name).map(|name| Self(format!("{OF_A_PROVIDER}{provider}:{name}")))
    }

    /// Whether a certificate authority or an identity provider vouches for it: who is in it cannot be listed.
    pub fn is_of_an_authority(&self) -> bool {
        self.0.starts_with(OF_AN_AUTHORITY) || self.0.starts_with(OF_A_PROVIDER)
    }

    /// Whether an identity provider vouches for it.
    pub fn is_of_a_provider(&self) -> bool {
        self.0.starts_with(OF_A_PROVIDER)
    }

    /// The group with its source, as bindings write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const OF_AN_AUTHORITY: &str = "ca/";
const OF_A_PROVIDER: &str = "oidc/";

fn plain(name: &str) -> Result<&str, NotAGroup> {
    let fine = (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fine { Ok(name) } else { Err(NotAGroup) }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_cannot_name_the_group_of_another_source() {
        assert!(Group::from_file("sre").is_ok());
        for wrong in ["", "ca/corp:sre", "oidc/corp:sre", "a b", "ü", "a\u{1b}"] {
            assert_eq!(Group::from_file(wrong), Err(NotAGroup), "{wrong}");
            let corp = Name::new("corp").unwrap();
            for group in [
                Group::from_authority(&corp, wrong),
                Group::from_provider(&corp, wrong),
            ] {
                assert_eq!(group, Err(NotAGroup), "{wrong}");
            }
        }
    }

    #[test]
    fn an_authority_names_groups_of_its_own_and_no_others() {
        let corp = Name::new("corp").unwrap();
        let group = Group::from_authority(&corp, "sre").unwrap();
        assert_eq!(group.as_str(), "ca/corp:sre");
        assert!(group.is_of_an_authority());
        assert_ne!(group, Group::from_file("sre").unwrap());
        assert!(!Group::from_file("ca").unwrap().is_of_an_authority());
        let other = Group::from_provider(&corp, "sre").unwrap();
        assert_eq!(other.as_str(), "oidc/corp:sre");
        assert!(other.is_of_an_authority());
        assert_ne!(other, group);
    }
}
