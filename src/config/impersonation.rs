//! `mint: impersonation` of a Cluster: how people are called where the daemon asks in their name.

use super::model::Name;

/// Stands for the identity's name.
const SLOT: &str = "{identity}";

/// What names of Kubernetes' own begin with. Nobody of ours ever has one.
const KUBERNETES: &str = "system:";

/// How people are called there, and what kind of right the daemon has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonation {
    username: String,
    group_prefix: String,
    /// The API server knows no constrained impersonation (KEP-5284): the verb is `impersonate`, as of old.
    pub legacy: bool,
}

impl Impersonation {
    /// `username` holds `{identity}` once; neither can make a name of Kubernetes' own: see [`username`] and [`group_prefix`].
    pub(super) fn new(username: String, group_prefix: String, legacy: bool) -> Self {
        Self {
            username,
            group_prefix,
            legacy,
        }
    }

    /// The Kubernetes user that identities are, with `{identity}` for their name.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// A role's group as it is there; none if that would be one of Kubernetes' own.
    pub(super) fn group(&self, group: &str) -> Option<String> {
        let whole = format!("{}{group}", self.group_prefix);
        (!is_kubernetes_own(&whole)).then_some(whole)
    }
}

/// Whether a user or group is one of Kubernetes' own, such as `system:masters`.
pub fn is_kubernetes_own(name: &str) -> bool {
    name.starts_with(KUBERNETES)
}

/// The Kubernetes user of an identity.
pub fn named(username: &str, identity: &Name) -> String {
    username.replace(SLOT, identity.as_str())
}

pub(super) fn username(text: &str) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("'{}' {why}", text.escape_debug()));
    let Some((before, after)) = text.split_once(SLOT) else {
        return wrong("has no {identity} in it, so that everybody would be the same user");
    };
    if text.len() > 128 || !is_plain(before) || !is_plain(after) {
        return wrong(
            "is not a user name for Kubernetes: letters, digits and '-_.:/@' around one {identity}, at most 128",
        );
    }
    // A colon behind the name could make one of Kubernetes' own of an identity that is called so.
    if is_kubernetes_own(before) || (after.contains(':') && !before.contains(':')) {
        return wrong("could be one of Kubernetes' own users (system:...)");
    }
    Ok(text.to_owned())
}

pub(super) fn group_prefix(text: &str) -> Result<String, String> {
    if text.len() > 64 || !is_plain(text) || is_kubernetes_own(text) {
        return Err(format!(
            "'{}' is not what groups for Kubernetes begin with: letters, digits and '-_.:/@', at most 64, and not system:",
            text.escape_debug()
        ));
    }
    Ok(text.to_owned())
}

fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.:/@".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn people_are_called_as_the_cluster_calls_them() {
        let jane = Name::new("jane").unwrap();
        for (template, expected) in [
            ("{identity}", "jane"),
            ("ssh:{identity}", "ssh:jane"),
            ("https://login.corp.example#{identity}@corp.example", ""),
            ("oidc:{identity}@corp.example", "oidc:jane@corp.example"),
        ] {
            match username(template) {
                Ok(template) => assert_eq!(named(&template, &jane), expected),
                Err(why) => assert!(expected.is_empty(), "{why}"),
            }
        }
    }

    #[test]
    fn nobody_is_one_of_kubernetes_own() {
        for template in [
            "system:{identity}",
            "system:node:{identity}",
            "{identity}:admin",
            "sys{identity}:masters",
            "everybody",
            "{identity}-{identity}",
            "{identity} ",
            "{identity}\u{e9}",
        ] {
            assert!(username(template).is_err(), "{template}");
        }
        assert!(group_prefix("system:").is_err());
        let split = Impersonation::new("{identity}".into(), "sys".into(), false);
        assert_eq!(split.group("tem:masters"), None);
        assert_eq!(split.group("admins").as_deref(), Some("sysadmins"));
    }

    proptest! {
        #[test]
        fn no_template_and_no_name_make_one(
            template in "(sys|system|system:|ssh:|)[a-z:]{0,4}\\{identity\\}[a-z:@.]{0,8}",
            name in "(system|tem|m|s|[a-z]{1,4})",
        ) {
            if let Ok(template) = username(&template) {
                let name = named(&template, &Name::new(&name).unwrap());
                prop_assert!(!is_kubernetes_own(&name), "{}", name);
            }
        }
    }
}
