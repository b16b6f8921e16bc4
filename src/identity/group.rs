//! Groups, each with the source that vouches for it.

use serde::{Deserialize, Serialize};

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
        let fine = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if fine {
            Ok(Self(name.to_owned()))
        } else {
            Err(NotAGroup)
        }
    }

    /// The group with its source, as bindings write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
        }
    }
}
