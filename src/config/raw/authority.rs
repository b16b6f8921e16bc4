//! `spec` of a CertificateAuthority.

use super::{path, some};
use crate::config::authority::{GroupRule, PrincipalRule, SigningAlgorithm};
use crate::config::fields::{Fields, boolean, list, parsed, text};
use crate::config::problem::{At, Gathered};
use crate::config::yaml::Node;

/// The longest prefix, suffix or name of an extension.
const MAX_WORD: usize = 128;

#[derive(Debug)]
pub(in crate::config) struct RawAuthority {
    pub(in crate::config) keys: Vec<At<String>>,
    pub(in crate::config) keys_file: Option<At<String>>,
    pub(in crate::config) algorithms: Option<Vec<At<SigningAlgorithm>>>,
    pub(in crate::config) revoked: Option<At<String>>,
    pub(in crate::config) identities: Option<Vec<At<PrincipalRule>>>,
    pub(in crate::config) groups: Vec<At<GroupRule>>,
}

pub(in crate::config) fn authority(gathered: &Gathered, node: &Node) -> Option<RawAuthority> {
    let mut spec = Fields::open(gathered, node, "a CertificateAuthority's spec")?;
    if !spec.has("keys") && !spec.has("keysFile") {
        gathered.report(
            &node.at,
            "a CertificateAuthority's spec needs 'keys', 'keysFile' or both",
        );
    }
    let raw = RawAuthority {
        keys: spec
            .optional("keys", |g, n| list(g, n, text))
            .map(|at| at.value)
            .unwrap_or_default(),
        keys_file: spec.optional("keysFile", path),
        algorithms: spec
            .optional("algorithms", |g, n| {
                some(
                    g,
                    n,
                    "an empty list accepts no signature at all; name algorithms or leave the key out",
                    |g, n| parsed(g, n, signing_algorithm),
                )
            })
            .map(|at| at.value),
        revoked: spec.optional("revoked", path),
        identities: spec
            .optional("identities", |g, n| {
                some(
                    g,
                    n,
                    "an empty list means nobody; name a rule or leave the key out",
                    |g, n| principal_rule_of(g, n, &PRINCIPAL),
                )
            })
            .map(|at| at.value),
        groups: spec
            .optional("groups", |g, n| list(g, n, group_rule))
            .map(|at| at.value)
            .unwrap_or_default(),
    };
    spec.close();
    Some(raw)
}

fn signing_algorithm(text: &str) -> Result<SigningAlgorithm, String> {
    if let Some(known) = SigningAlgorithm::ALL
        .into_iter()
        .find(|known| known.as_str() == text)
    {
        return Ok(known);
    }
    Err(match text {
        "rsa-sha2-256" | "rsa-sha2-512" => format!(
            "{text} cannot be verified: bastion-audit is built without the 'rsa' crate, whose timing leak \
             (RUSTSEC-2023-0071) has no fix; sign with an ed25519 or ecdsa key"
        ),
        "ssh-rsa" => "ssh-rsa signs with SHA-1, which is broken; sign with an ed25519 or ecdsa key"
            .to_owned(),
        _ => format!(
            "'{}' is not an algorithm that certificates may be signed by; known: {}",
            text.escape_debug(),
            SigningAlgorithm::ALL
                .map(SigningAlgorithm::as_str)
                .join(", ")
        ),
    })
}

/// How rules are written that make identities of what a source calls people.
pub(in crate::config) struct Written {
    what: &'static str,
    prefix: &'static str,
    suffix: &'static str,
}

/// Of what certificates say,
const PRINCIPAL: Written = Written {
    what: "a rule for principals",
    prefix: "principalPrefix",
    suffix: "principalSuffix",
};

/// and of what providers say.
pub(in crate::config) const USERNAME: Written = Written {
    what: "a rule for usernames",
    prefix: "usernamePrefix",
    suffix: "usernameSuffix",
};

pub(in crate::config) fn principal_rule_of(
    gathered: &Gathered,
    node: &Node,
    written: &Written,
) -> Option<PrincipalRule> {
    let Written {
        what,
        prefix,
        suffix,
    } = *written;
    let mut rule = Fields::open(gathered, node, what)?;
    if !["listed", prefix, suffix].iter().any(|key| rule.has(key)) {
        gathered.report(
            &node.at,
            format!("{what} says 'listed', '{prefix}' or '{suffix}', such as {{listed: true}}"),
        );
    }
    let listed = rule.optional("listed", boolean);
    let prefix = rule.optional(prefix, |g, n| parsed(g, n, word));
    let suffix = rule.optional(suffix, |g, n| parsed(g, n, word));
    rule.close();
    let word = |word: Option<At<String>>| word.map(|at| at.value).unwrap_or_default();
    Some(PrincipalRule {
        prefix: word(prefix),
        suffix: word(suffix),
        listed: listed.is_some_and(|at| at.value),
    })
}

fn group_rule(gathered: &Gathered, node: &Node) -> Option<GroupRule> {
    let mut rule = Fields::open(gathered, node, "a rule for groups")?;
    if rule.has("extension") == rule.has("keyIdAfter") {
        gathered.report(
            &node.at,
            "a rule for groups is one of {extension: NAME} and {keyIdAfter: WORD}",
        );
    }
    let extension = rule.optional("extension", |g, n| parsed(g, n, extension));
    let after = rule.optional("keyIdAfter", |g, n| parsed(g, n, word));
    rule.close();
    match (extension, after) {
        (Some(name), None) => Some(GroupRule::Extension(name.value)),
        (None, Some(word)) => Some(GroupRule::KeyIdAfter(word.value)),
        _ => None,
    }
}

fn extension(text: &str) -> Result<String, String> {
    if text.starts_with("permit-") || text == "no-touch-required" {
        return Err(format!(
            "'{}' says what a session may do, not who is in which group; name an extension of your own, such as groups@example.com",
            text.escape_debug()
        ));
    }
    word(text)
}

fn word(text: &str) -> Result<String, String> {
    let fine = (1..=MAX_WORD).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not 1 to {MAX_WORD} printable ASCII characters without spaces",
            text.chars()
                .take(MAX_WORD)
                .collect::<String>()
                .escape_debug()
        ))
    }
}
