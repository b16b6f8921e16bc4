//! A line of authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT): options, key, comment.
//!
//! An option narrows what a key may do, so one that we do not enforce is never passed over: each is honoured,
//! already true of this daemon, or refused with the reason.

use russh::keys::PublicKey;
use russh::keys::ssh_key::public::KeyData;

use super::key_options::KeyOptions;
use super::model::AuthorizedKey;

/// Longer lines are refused unread; the longest key we accept takes some 250 bytes.
const MAX_LINE: usize = 16 * 1024;

/// What is wrong with a line, and where in it (in bytes).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) offset: usize,
    pub(super) message: String,
}

impl Wrong {
    pub(super) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self {
            offset,
            message: message.into(),
        }
    }
}

/// Reads one line; `None` if it is empty or a comment.
pub(super) fn line(line: &str) -> Result<Option<AuthorizedKey>, Wrong> {
    let indent = line.len() - line.trim_start().len();
    let text = line.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    if text.len() > MAX_LINE {
        return Err(Wrong::new(
            indent,
            "this line is longer than any key; remove it",
        ));
    }
    if let Some(at) = text.find(|c: char| c.is_control() && c != '\t') {
        return Err(Wrong::new(
            indent + at,
            "a key is one line of text, and this one has a control character in it",
        ));
    }
    let (options, key_at) = split_options(text).map_err(|wrong| wrong.moved(indent))?;
    let options = KeyOptions::parse(options).map_err(|wrong| wrong.moved(indent))?;
    let key_text = text.get(key_at..).unwrap_or("");
    let key = public_key(key_text).map_err(|message| Wrong::new(indent + key_at, message))?;
    Ok(Some(AuthorizedKey {
        key,
        expires: options.expires,
        from: options.from,
        no_pty: options.no_pty,
        no_forwarding: options.no_forwarding,
    }))
}

/// Reads a line that holds a key and no options: a certificate authority's. `None` if it is empty or a comment.
pub(super) fn bare_key(text: &str) -> Result<Option<PublicKey>, Wrong> {
    let Some(read) = line(text)? else {
        return Ok(None);
    };
    let first = text.split_whitespace().next().unwrap_or("");
    if is_key_type(first) {
        return Ok(Some(read.key));
    }
    Err(Wrong::new(
        text.len() - text.trim_start().len(),
        "a certificate authority's key has no options; write the key alone",
    ))
}

impl Wrong {
    fn moved(mut self, by: usize) -> Self {
        self.offset += by;
        self
    }
}

/// The options (empty if the line begins with a key type) and where the key begins.
fn split_options(text: &str) -> Result<(&str, usize), Wrong> {
    let first = text.split([' ', '\t']).next().unwrap_or("");
    if is_key_type(first) {
        return Ok(("", 0));
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                let (options, rest) = text.split_at_checked(at).unwrap_or((text, ""));
                return Ok((options, at + rest.len() - rest.trim_start().len()));
            }
            _ => {}
        }
        // As sshd reads it: a backslash only keeps a quote from ending the value.
        escaped = c == '\\' && !escaped;
    }
    Err(if quoted {
        Wrong::new(0, "a quote in the options is never closed")
    } else {
        Wrong::new(
            0,
            "this is not a public key: write it as ssh-keygen prints it, such as 'ssh-ed25519 AAAA... comment'",
        )
    })
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-", "rsa-sha2-", "x509v3-"]
        .iter()
        .any(|prefix| word.starts_with(prefix))
}

/// Parses a public key of a kind that we can verify.
pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    let kind = text.split([' ', '\t']).next().unwrap_or("");
    if let Some(reason) = why_not(kind) {
        return Err(reason);
    }
    // `from_openssh` wants single spaces; ssh-keygen writes them, people's editors write tabs.
    let mut words = text.split_ascii_whitespace();
    let (kind, data) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let comment: Vec<&str> = words.collect();
    let joined = format!("{kind} {data} {}", comment.join(" "));
    let key = PublicKey::from_openssh(joined.trim_end()).map_err(|_| {
        "this key is damaged: copy the whole line that ssh-keygen wrote to the .pub file".to_owned()
    })?;
    // By variant, because a certificate's `algorithm()` is that of the key inside of it.
    match key.key_data() {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) => Ok(key),
        _ => Err(unknown(kind)),
    }
}

fn why_not(kind: &str) -> Option<String> {
    if kind.ends_with("-cert-v01@openssh.com") {
        return Some("this is a certificate; write the public key that it certifies".to_owned());
    }
    match kind {
        "ssh-ed25519" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521" => None,
        "ssh-rsa" | "rsa-sha2-256" | "rsa-sha2-512" => Some(
            "RSA keys are not accepted: bastion-audit is built without the 'rsa' crate, whose timing leak \
             (RUSTSEC-2023-0071) has no fix; make a key with: ssh-keygen -t ed25519"
                .to_owned(),
        ),
        "ssh-dss" => Some(
            "DSA keys are too weak to be accepted; make a key with: ssh-keygen -t ed25519".to_owned(),
        ),
        _ if kind.starts_with("sk-") => Some(
            "security keys (sk-*) are not accepted: this version cannot enforce that the key is touched; \
             make a key with: ssh-keygen -t ed25519"
                .to_owned(),
        ),
        _ => Some(unknown(kind)),
    }
}

fn unknown(kind: &str) -> String {
    let kind: String = kind.chars().take(40).collect();
    format!(
        "'{}' is not a kind of key that is accepted: ssh-ed25519, ecdsa-sha2-nistp256, -nistp384 or -nistp521",
        kind.escape_debug()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test_keys::ED25519;
    use proptest::prelude::*;

    fn wrong(text: &str) -> String {
        match line(text) {
            Err(wrong) => wrong.message,
            Ok(key) => panic!("accepted: {text}: {key:?}"),
        }
    }

    #[test]
    fn plain_keys_comments_and_tabs() {
        let key = line(&format!("  {ED25519} operator-a@laptop # no comment"))
            .unwrap()
            .unwrap();
        assert_eq!(key.key.algorithm().as_str(), "ssh-ed25519");
        assert!(key.from.is_empty() && key.expires.is_none() && !key.no_pty);
        assert!(line(&ED25519.replace(' ', "\t\t")).unwrap().is_some());
        assert_eq!(line("").unwrap(), None);
        assert_eq!(line("  # ssh-ed25519 AAAA").unwrap(), None);
    }

    #[test]
    fn options_stand_before_the_key() {
        let key = line(&format!(
            r#"restrict,pty,from="10.0.0.0/8,!10.1.0.0/16",expiry-time="20270131Z" {ED25519} a"#
        ))
        .unwrap()
        .unwrap();
        assert!(!key.no_pty);
        assert_eq!(key.from.len(), 2);
        assert_eq!(key.expires.unwrap().to_string(), "2027-01-31T00:00:00Z");
        let found = line(&format!(r#"no-pty,command="a \" b, c" {ED25519}"#)).unwrap_err();
        assert!(found.message.contains("command"), "{found:?}");
        assert_eq!(found.offset, 7);
    }

    #[test]
    fn keys_that_cannot_be_held_to_their_promise_are_refused_with_the_way_out() {
        assert!(wrong("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ a").contains("RUSTSEC-2023-0071"));
        assert!(wrong("ssh-dss AAAA").contains("DSA"));
        assert!(wrong("sk-ssh-ed25519@openssh.com AAAA").contains("touched"));
        assert!(wrong("ssh-ed25519-cert-v01@openssh.com AAAA").contains("certificate"));
        assert!(wrong("ssh-ed448 AAAA").contains("not a kind of key"));
        assert!(wrong("hello").contains("not a public key"));
        assert!(wrong(r#"from="10.0.0.0/8 ssh-ed25519 AAAA"#).contains("never closed"));
        assert!(wrong("ssh-ed25519 AAAA").contains("damaged"));
        assert!(wrong(&format!("{ED25519}\u{1b}[2J")).contains("control"));
        assert!(wrong(&"x".repeat(20_000)).contains("longer"));
        // A type that is not the data's own.
        assert!(wrong(&ED25519.replace("ssh-ed25519", "ecdsa-sha2-nistp256")).contains("damaged"));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(text in "\\PC{0,80}") {
            drop(line(&text));
        }

        #[test]
        fn an_option_that_is_not_known_is_never_passed_over(option in "[a-z-]{1,20}") {
            prop_assume!(!is_key_type(&option));
            let honoured = ["restrict", "pty", "no-pty", "no-port-forwarding", "no-agent-forwarding",
                "no-x11-forwarding", "no-user-rc"];
            let read = line(&format!("{option} {ED25519}"));
            prop_assert_eq!(read.is_ok(), honoured.contains(&option.as_str()), "{}", option);
        }
    }
}
