//! The options before a key, each honoured or refused.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::authorized_keys::Wrong;
use super::network::SourceNetwork;

/// What we enforce of a key's options.
#[derive(Debug, Default, PartialEq)]
pub(super) struct KeyOptions {
    pub(super) expires: Option<Timestamp>,
    pub(super) from: Vec<SourceNetwork>,
    pub(super) no_pty: bool,
    pub(super) no_forwarding: bool,
}

impl KeyOptions {
    /// Parses `a,b="c,d",e`, left to right as sshd does, so that `restrict,pty` gives a terminal and
    /// `pty,restrict` does not.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut options = Self::default();
        for (offset, option) in split(text) {
            options
                .apply(option)
                .map_err(|message| Wrong::new(offset, message))?;
        }
        Ok(options)
    }

    fn apply(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let name = name.to_ascii_lowercase();
        match (name.as_str(), value) {
            ("restrict", None) => (self.no_pty, self.no_forwarding) = (true, true),
            ("no-pty", None) => self.no_pty = true,
            ("pty", None) => self.no_pty = false,
            ("no-port-forwarding", None) => self.no_forwarding = true,
            ("port-forwarding", None) => self.no_forwarding = false,
            // True of every session here, whoever asks.
            ("no-agent-forwarding" | "no-x11-forwarding" | "no-user-rc", None) => {}
            ("expiry-time", Some(value)) => {
                if self.expires.is_some() {
                    return Err("expiry-time stands here twice; keep one".to_owned());
                }
                self.expires = Some(expiry_time(unquoted(value)?)?);
            }
            ("from", Some(value)) => {
                if !self.from.is_empty() {
                    return Err("from stands here twice; put all networks into one".to_owned());
                }
                self.from = networks(unquoted(value)?)?;
            }
            (name, _) => return Err(refusal(name)),
        }
        Ok(())
    }
}

/// The options and their offsets: cut at commas outside of quotes.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted => {
                parts.push((start, text.get(start..at).unwrap_or("")));
                start = at + 1;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    if !text.is_empty() {
        parts.push((start, text.get(start..).unwrap_or("")));
    }
    parts
}

fn unquoted(value: &str) -> Result<&str, String> {
    value
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'))
        .filter(|inner| !inner.contains(['"', '\\']))
        .ok_or_else(|| "an option's value stands in double quotes".to_owned())
}

fn refusal(name: &str) -> String {
    let reason = match name {
        "command" => {
            "commands are not forced per key; bind the identity to a role that allows less"
        }
        "environment" => "sessions have a clean environment",
        "cert-authority" | "principals" => {
            "a certificate authority has a document of its own, of kind CertificateAuthority"
        }
        "permitopen" | "permitlisten" | "tunnel" => {
            "a tunnel leads to the gateway and nowhere else; whether there is one is said by the role"
        }
        "agent-forwarding" => "agents are never forwarded",
        "x11-forwarding" => "X11 is never forwarded",
        "user-rc" => "no rc file is ever run",
        "no-touch-required" | "verify-required" => "security keys are not accepted",
        "restrict"
        | "no-pty"
        | "pty"
        | "no-port-forwarding"
        | "port-forwarding"
        | "no-agent-forwarding"
        | "no-x11-forwarding"
        | "no-user-rc" => "it takes no value",
        "from" | "expiry-time" => "it needs a value in double quotes",
        _ => {
            let name: String = name.chars().take(40).collect();
            return format!(
                "'{}' is not an option of authorized_keys; known: from=, expiry-time=, restrict, pty, no-pty, port-forwarding, no-port-forwarding",
                name.escape_debug()
            );
        }
    };
    format!("the option '{name}' is refused, for it could only be ignored: {reason}")
}

/// `YYYYMMDDZ`, `YYYYMMDDHHMMZ` or `YYYYMMDDHHMMSSZ`. Without the `Z` sshd means local time, which is another
/// moment on another machine.
fn expiry_time(text: &str) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "'{}' is not a moment in UTC: write expiry-time=\"YYYYMMDDHHMMSSZ\", with the final Z",
            text.escape_debug()
        )
    };
    let digits = text.strip_suffix(['Z', 'z']).ok_or_else(wrong)?;
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| -> i16 {
        digits
            .get(from..to)
            .and_then(|part| part.parse().ok())
            .unwrap_or(0)
    };
    let small = |from, to| i8::try_from(part(from, to)).unwrap_or(-1);
    DateTime::new(
        part(0, 4),
        small(4, 6),
        small(6, 8),
        small(8, 10),
        small(10, 12),
        small(12, 14),
        0,
    )
    .and_then(|civil| civil.to_zoned(TimeZone::UTC))
    .map(|zoned| zoned.timestamp())
    .map_err(|_| wrong())
}

fn networks(text: &str) -> Result<Vec<SourceNetwork>, String> {
    let found: Vec<SourceNetwork> = text
        .split(',')
        .map(|entry| network(entry.trim()))
        .collect::<Result<_, _>>()?;
    if found.iter().all(|network| network.negated) {
        return Err(
            "this from= only excludes, so it matches no address at all; add what it should allow, such as 0.0.0.0/0"
                .to_owned(),
        );
    }
    Ok(found)
}

fn network(entry: &str) -> Result<SourceNetwork, String> {
    let (negated, text) = match entry.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, entry),
    };
    let network = SourceNetwork::parse(text)
        .map_err(|error| format!("'{}' in from= {error}", entry.escape_debug()))?;
    Ok(SourceNetwork { negated, ..network })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(text: &str) -> String {
        KeyOptions::parse(text).unwrap_err().message
    }

    #[test]
    fn each_option_is_honoured_or_refused_with_its_reason() {
        let read = |text| KeyOptions::parse(text).unwrap();
        assert!(read("restrict").no_pty);
        assert!(!read("restrict,pty").no_pty);
        assert!(read("pty,restrict").no_pty);
        assert!(read("restrict").no_forwarding && read("no-port-forwarding").no_forwarding);
        assert!(!read("restrict,port-forwarding").no_forwarding && !read("no-pty").no_forwarding);
        assert!(read("NO-PTY,no-X11-forwarding,no-user-rc").no_pty);
        for name in [
            r#"command="a""#,
            r#"environment="A=b""#,
            "cert-authority",
            r#"principals="a""#,
            r#"permitopen="a:1""#,
            r#"permitlisten="1""#,
            r#"tunnel="1""#,
            "agent-forwarding",
            "x11-forwarding",
            "user-rc",
            "no-touch-required",
            "verify-required",
            "restrict=yes",
            "from",
            "expiry-time",
        ] {
            assert!(
                message(name).contains("refused"),
                "{name}: {}",
                message(name)
            );
        }
        assert!(message("no-pty,,pty").contains("not an option"));
        assert!(message("no-pty,").contains("not an option"));
    }

    #[test]
    fn expiry_times_are_utc() {
        let read = |text: &str| {
            KeyOptions::parse(&format!("expiry-time=\"{text}\""))
                .map(|o| o.expires.unwrap().to_string())
        };
        assert_eq!(read("20270131Z").unwrap(), "2027-01-31T00:00:00Z");
        assert_eq!(read("202701312359Z").unwrap(), "2027-01-31T23:59:00Z");
        assert_eq!(read("20270131235958Z").unwrap(), "2027-01-31T23:59:58Z");
        for wrong in [
            "20270131",
            "2027013Z",
            "20271331Z",
            "20270230Z",
            "202701312460Z",
            "",
            "Z",
            "2027-01-31Z",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(message(r#"expiry-time="20270131Z",expiry-time="20280131Z""#).contains("twice"));
    }

    #[test]
    fn networks_are_addresses_and_nothing_looser() {
        let read =
            |text: &str| KeyOptions::parse(&format!("from=\"{text}\"")).map(|o| o.from.len());
        assert_eq!(read("192.0.2.7").unwrap(), 1);
        assert_eq!(read("10.0.0.0/8, !10.1.0.0/16,2001:db8::/32").unwrap(), 3);
        assert_eq!(read("0.0.0.0/0").unwrap(), 1);
        for wrong in [
            "",
            "*",
            "10.0.*",
            "host.example.com",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "!10.0.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::ffff:10.0.0.0/104",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn splitting_keeps_quoted_commas_together(a in "[a-z]{1,5}", b in "[a-z,]{0,9}") {
            let text = format!("{a}=\"{b}\",{a}");
            let parts: Vec<_> = split(&text).into_iter().map(|(_, p)| p).collect();
            prop_assert_eq!(parts, vec![format!("{a}=\"{b}\""), a.clone()]);
        }
    }
}
