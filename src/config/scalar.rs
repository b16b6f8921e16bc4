//! Single values as documents write them: durations, moments, addresses, Kubernetes names.
//!
//! Every function answers with the sentence that completes "file:line:column:", what to do included.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;

use super::model::{HostPort, Name, NotAName};

/// Words that mean something else where an identity or a role is named.
const RESERVED: [&str; 2] = ["bastion", "latest"];

pub(super) fn name(text: &str) -> Result<Name, String> {
    Name::new(text)
        .map_err(|NotAName| format!("'{}' is not a name: {NotAName}", text.escape_debug()))
}

/// A name that an operator may type as a login name or a filter.
pub(super) fn free_name(text: &str) -> Result<Name, String> {
    if RESERVED.contains(&text) {
        return Err(format!(
            "'{text}' is a word of bastion-audit itself; choose another name"
        ));
    }
    name(text)
}

/// `90s`, `15m`, `8h`, `1h30m`: whole numbers with h, m, s in this order.
///
/// # Errors
///
/// A sentence that says how to write one.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "'{}' is not a duration: write it like 90s, 15m, 8h or 1h30m",
            text.escape_debug()
        )
    };
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut units = [('h', 3600_u64), ('m', 60), ('s', 1)].into_iter();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, tail) = rest.split_at_checked(end).ok_or_else(wrong)?;
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let unit = tail.chars().next().ok_or_else(wrong)?;
        // Taking the units in order refuses both `1s1h` and `1h1h`.
        let (_, size) = units.find(|(c, _)| *c == unit).ok_or_else(wrong)?;
        seconds = count
            .checked_mul(size)
            .and_then(|s| seconds.checked_add(s))
            .ok_or_else(wrong)?;
        rest = tail.get(1..).unwrap_or("");
    }
    if text.is_empty() {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

/// How old something may become: `365d`, whole days, or a duration. At least a second, at most a century.
///
/// # Errors
///
/// Whatever is not written so.
pub fn age(text: &str) -> Result<Duration, String> {
    const MOST: u64 = 36_500 * 86_400;
    let wrong = || {
        format!(
            "'{}' is not an age: write whole days, like 365d, or a duration, like 12h",
            text.escape_debug()
        )
    };
    let seconds = match text.strip_suffix('d') {
        Some(days) if days.bytes().all(|b| b.is_ascii_digit()) => days
            .parse::<u64>()
            .ok()
            .and_then(|days| days.checked_mul(86_400)),
        Some(_) => None,
        None => duration(text).ok().map(|duration| duration.as_secs()),
    };
    let seconds = seconds.ok_or_else(wrong)?;
    if (1..=MOST).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err(format!("{text} is out of bounds: 1s to 36500d"))
    }
}

/// A duration within bounds.
pub(super) fn duration_within(text: &str, least: &str, most: &str) -> Result<Duration, String> {
    let value = duration(text)?;
    let (low, high) = (duration(least)?, duration(most)?);
    if (low..=high).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{text} is out of bounds: {least} to {most}"))
    }
}

/// A duration as a document would write it: `1h30m`. Parts of a second are left out.
pub fn show_duration(value: Duration) -> String {
    let seconds = value.as_secs();
    let mut text = String::new();
    for (unit, count) in [
        ('h', seconds / 3600),
        ('m', seconds / 60 % 60),
        ('s', seconds % 60),
    ] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// `512KiB`, `16MiB`, `8GiB`: a whole number of bytes with a unit of 1024.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "'{}' is not a size: write it like 512KiB, 16MiB or 8GiB",
            text.escape_debug()
        )
    };
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
        .ok_or_else(wrong)?;
    let number = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    number
        .and_then(|digits| digits.parse::<u64>().ok())
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(wrong)
}

/// A size within bounds.
pub(super) fn size_within(text: &str, least: &str, most: &str) -> Result<u64, String> {
    let value = size(text)?;
    if (size(least)?..=size(most)?).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{text} is out of bounds: {least} to {most}"))
    }
}

/// A size as a document would write it, in the largest unit that it is a whole number of.
pub fn show_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units
        .iter()
        .find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    match whole {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes} bytes"),
    }
}

/// `80%`: from 1% to 99%.
pub(super) fn percent(text: &str) -> Result<u8, String> {
    text.strip_suffix('%')
        .and_then(|digits| digits.parse().ok())
        .filter(|percent| (1..=99).contains(percent))
        .ok_or_else(|| {
            format!(
                "'{}' is not a share: write it like 80%, from 1% to 99%",
                text.escape_debug()
            )
        })
}

/// An age as a document would write it: `365d`, or a duration where it is not whole days.
pub fn show_age(value: Duration) -> String {
    match value.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(86_400) => {
            format!("{}d", seconds / 86_400)
        }
        _ => show_duration(value),
    }
}

/// RFC 3339, with its offset: `2027-01-31T00:00:00Z`.
pub(super) fn timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| {
        format!(
            "'{}' is not a moment: write date, time and offset, such as 2027-01-31T00:00:00Z",
            text.escape_debug()
        )
    })
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "'{}' is not an address to listen on: write IP:PORT, such as 127.0.0.1:2222, 0.0.0.0:2222 or [::]:2222",
            text.escape_debug()
        )
    })
}

/// A host that is safe to write into ssh configurations and kubeconfigs, and a port.
pub(super) fn host_port(text: &str) -> Result<HostPort, String> {
    let wrong = || {
        format!(
            "'{}' is not HOST:PORT: write it like bastion.example.com:22 or [2001:db8::1]:22",
            text.escape_debug()
        )
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = match host.strip_prefix('[') {
        Some(inner) => {
            let address = inner.strip_suffix(']').ok_or_else(wrong)?;
            let address: IpAddr = address.parse().map_err(|_| wrong())?;
            address.to_string()
        }
        None if host_name(host) => host.to_owned(),
        None => return Err(wrong()),
    };
    Ok(HostPort { host, port })
}

/// `HOST` or `HOST:PORT`, 443 if none is said. Names in lower case, as they are compared.
pub(super) fn https_host(text: &str) -> Result<HostPort, String> {
    if text.contains('*') || text.contains('/') {
        return Err(format!(
            "'{}' is no host: name each one, as charts.example.com or git.example.com:8443",
            text.escape_debug()
        ));
    }
    let alone = host_name(text) || text.starts_with('[') && text.ends_with(']');
    let mut host = match alone {
        true => host_port(&format!("{text}:443")),
        false => host_port(text),
    }?;
    host.host.make_ascii_lowercase();
    match host.port {
        0 => Err("port 0 is none".to_owned()),
        _ => Ok(host),
    }
}

fn host_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// A Kubernetes namespace: an RFC 1123 label.
pub(super) fn kubernetes_namespace(text: &str) -> Result<String, String> {
    Name::new(text).map(|_| text.to_owned()).map_err(|_| {
        format!(
            "'{}' is not a Kubernetes namespace: 1 to 63 lower-case letters, digits and '-'",
            text.escape_debug()
        )
    })
}

/// A ServiceAccount's name: an RFC 1123 subdomain; `{identity}` stands for a name of ours.
pub(super) fn service_account_name(text: &str) -> Result<String, String> {
    const SLOT: &str = "{identity}";
    let slots = text.matches(SLOT).count();
    let longest = text.len() + slots * (63 - SLOT.len());
    // Whatever name fills it begins and ends with a letter or digit, so `a` stands for all of them.
    let filled = text.replace(SLOT, "a");
    let subdomain = filled.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    });
    if !subdomain {
        return Err(format!(
            "'{}' is not a ServiceAccount's name: lower-case letters, digits, '-' and '.', and {SLOT} for the identity's name",
            text.escape_debug()
        ));
    }
    if longest > 253 {
        return Err(format!(
            "'{text}' can become longer than the 253 characters that Kubernetes takes"
        ));
    }
    Ok(text.to_owned())
}

/// A Kubernetes group as a token carries it. What Kubernetes itself gives away is no group of ours.
pub(super) fn kubernetes_group(text: &str) -> Result<String, String> {
    let fine = (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b))
        && !text.starts_with("system:");
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not a group for Kubernetes: letters, digits and '-_.:/', at most 128, and none of system:",
            text.escape_debug()
        ))
    }
}

/// As strict as API servers are, so that it can be written into a URL, a YAML document and a token as it is.
pub(super) fn https_url(text: &str) -> Option<http::Uri> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]%".contains(&b);
    let uri: http::Uri = text.parse().ok()?;
    let host = uri.authority().filter(|at| !at.host().is_empty())?;
    let fits = uri.scheme_str() == Some("https")
        && !host.as_str().contains('@')
        && uri.query().is_none()
        && text.bytes().all(plain)
        && text.len() <= 1024;
    fits.then_some(uri)
}

/// Whom a token is for.
pub(super) fn audience(text: &str) -> Result<String, String> {
    let fine = (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~:/".contains(&b));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not an audience: letters, digits and '-._~:/', at most 255",
            text.escape_debug()
        ))
    }
}

/// A label's value or key, as strict as Kubernetes needs for both to be safe to print.
pub(super) fn label(text: &str) -> Result<String, String> {
    let fine = text.len() <= 253
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if fine {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not a label: letters, digits and '-_./', at most 253",
            text.escape_debug()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let seconds = |text| duration(text).map(|d| d.as_secs()).ok();
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("15m"), Some(900));
        assert_eq!(seconds("8h"), Some(28800));
        assert_eq!(seconds("1h30m"), Some(5400));
        for wrong in [
            "",
            "15",
            "m",
            "15 m",
            "15M",
            "-1s",
            "1s1h",
            "1h1h",
            "1.5h",
            "1d",
            "99999999999999999999s",
            "5124095576030432h",
            "1h ",
            "١s",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ages() {
        let seconds = |text| age(text).map(|age| age.as_secs()).ok();
        assert_eq!(seconds("365d"), Some(31_536_000));
        assert_eq!(seconds("12h"), Some(43_200));
        assert_eq!(seconds("36500d"), Some(3_153_600_000));
        for wrong in [
            "",
            "d",
            "0d",
            "0s",
            "1d12h",
            "-1d",
            "+1d",
            "1.5d",
            "36501d",
            "99999999999999999999d",
            "1",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(seconds in 0_u64..1_000_000) {
            let shown = show_duration(Duration::from_secs(seconds));
            prop_assert_eq!(duration(&shown), Ok(Duration::from_secs(seconds)));
            if seconds > 0 {
                prop_assert_eq!(age(&show_age(Duration::from_secs(seconds))), Ok(Duration::from_secs(seconds)));
            }
        }

        #[test]
        fn no_text_makes_a_scalar_panic(text in "\\PC{0,40}") {
            drop(duration(&text));
            drop(age(&text));
            drop(host_port(&text));
            drop(service_account_name(&text));
        }
    }

    #[test]
    fn sizes_are_whole_and_within_bounds() {
        assert_eq!(size("512KiB"), Ok(512 << 10));
        assert_eq!(size("8GiB"), Ok(8 << 30));
        for wrong in [
            "",
            "8",
            "GiB",
            "8 GiB",
            "8GB",
            "8gib",
            "-1GiB",
            "1.5GiB",
            "99999999999TiB",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        let bounded = |text| size_within(text, "1MiB", "1TiB");
        assert!(bounded("1MiB").is_ok() && bounded("1TiB").is_ok());
        assert!(bounded("1023KiB").is_err() && bounded("1025GiB").is_err());
        assert_eq!(
            [0, 1 << 20, 1536 << 10, 8 << 30, 1023].map(show_size),
            ["0 bytes", "1MiB", "1536KiB", "8GiB", "1023 bytes"]
        );
    }

    #[test]
    fn hosts_are_safe_to_write_into_an_ssh_configuration() {
        assert!(host_port("bastion.example.com:22").is_ok());
        assert_eq!(host_port("[2001:db8::1]:22").unwrap().host, "2001:db8::1");
        for wrong in [
            "",
            "host",
            ":22",
            "host:",
            "host:99999",
            "a b:22",
            "a\nProxyCommand x:22",
            "-oProxy:22",
            "2001:db8::1:22",
            "[::1:22",
            "a..b:22",
        ] {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn service_accounts() {
        for fine in ["viewer", "{identity}", "ops-{identity}", "a.{identity}.b"] {
            assert!(service_account_name(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "{user}",
            "{identity",
            "View",
            "a..b",
            "-{identity}",
            "a/b",
            "{identity}{identity}{identity}{identity}{identity}",
        ] {
            assert!(service_account_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn our_own_words_are_no_names() {
        assert!(free_name("bastion").is_err());
        assert!(free_name("latest").is_err());
        assert!(free_name("root").is_ok());
    }
}
