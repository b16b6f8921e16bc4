//! `spec.admission` and `spec.banner` of a Bastion.

use crate::config::SourceNetwork;
use crate::config::admission::{Admission, Penalties, Startups};
use crate::config::fields::{Fields, list, number, parsed, text};
use crate::config::problem::{At, Gathered};
use crate::config::yaml::{Node, Value};

use super::{or, within};

/// As sshd sends no more.
const LONGEST_BANNER: usize = 8 << 10;

pub(super) fn admission(gathered: &Gathered, node: &Node) -> Option<Admission> {
    let mut spec = Fields::open(gathered, node, "admission")?;
    let default = Admission::default();
    let prefix = |at: Option<At<u32>>, default: u8| {
        at.and_then(|at| u8::try_from(at.value).ok())
            .unwrap_or(default)
    };
    let admission = Admission {
        startups: or(
            spec.optional("startups", |g, n| parsed(g, n, startups)),
            default.startups,
        ),
        startups_per_source: or(
            spec.optional("startupsPerSource", |g, n| number(g, n, 1, 100_000)),
            default.startups_per_source,
        ),
        ipv4_prefix: prefix(
            spec.optional("ipv4Prefix", |g, n| number(g, n, 8, 32)),
            default.ipv4_prefix,
        ),
        ipv6_prefix: prefix(
            spec.optional("ipv6Prefix", |g, n| number(g, n, 16, 128)),
            default.ipv6_prefix,
        ),
        penalties: or(spec.optional("penalties", penalties), default.penalties),
        exempt: networks(spec.optional("exempt", |g, n| list(g, n, network))),
        allow: networks(spec.optional("allow", |g, n| list(g, n, network))),
        deny: networks(spec.optional("deny", |g, n| list(g, n, network))),
        proxies: networks(spec.optional("proxies", |g, n| list(g, n, network))),
    };
    spec.close();
    Some(admission)
}

/// `none`, or what each thing costs.
fn penalties(gathered: &Gathered, node: &Node) -> Option<Option<Penalties>> {
    if matches!(&node.value, Value::Text(text) if text == "none") {
        return Some(None);
    }
    let mut spec = Fields::open(gathered, node, "penalties ('none' or a mapping)")?;
    let default = Penalties::default();
    let mut cost = |key, default| or(spec.optional(key, |g, n| within(g, n, "0s", "1h")), default);
    let penalties = Penalties {
        auth_failed: cost("authFailed", default.auth_failed),
        no_attempt: cost("noAttempt", default.no_attempt),
        grace_exceeded: cost("graceExceeded", default.grace_exceeded),
        garbage: cost("garbage", default.garbage),
        crash: cost("crash", default.crash),
        least: cost("least", default.least),
        most: or(
            spec.optional("most", |g, n| within(g, n, "1s", "24h")),
            default.most,
        ),
    };
    spec.close();
    if penalties.least >= penalties.most {
        gathered.report(
            &node.at,
            "penalties that never come to more than 'least' refuse nobody: have 'most' above it, or write 'penalties: none'",
        );
    }
    Some(Some(penalties))
}

/// `10:30:100`
fn startups(text: &str) -> Result<Startups, String> {
    let wrong = || {
        format!(
            "'{}' is not START:RATE:FULL: such as 10:30:100, where from 10 connections on 30% are refused, and all from 100 on",
            text.escape_debug()
        )
    };
    let mut parts = text.split(':').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>().ok().filter(|_| digits)
    });
    let mut next = || parts.next().flatten().ok_or_else(wrong);
    let (start, rate, full) = (next()?, next()?, next()?);
    if parts.next().is_some() {
        return Err(wrong());
    }
    let rate = u8::try_from(rate)
        .ok()
        .filter(|rate| *rate <= 100)
        .ok_or_else(wrong)?;
    if start == 0 || full < start || full > 100_000 {
        return Err(wrong());
    }
    Ok(Startups { start, rate, full })
}

fn network(gathered: &Gathered, node: &Node) -> Option<SourceNetwork> {
    parsed(gathered, node, |text| {
        SourceNetwork::parse(text).map_err(|error| format!("'{}' {error}", text.escape_debug()))
    })
}

fn networks(listed: Option<At<Vec<At<SourceNetwork>>>>) -> Vec<SourceNetwork> {
    let all = listed.map(|at| at.value).unwrap_or_default();
    all.into_iter().map(|at| at.value).collect()
}

/// What every client is shown before it proves anything.
pub(super) fn banner(gathered: &Gathered, node: &Node) -> Option<String> {
    let text = text(gathered, node)?;
    let printable = |c: char| c == '\n' || !c.is_control();
    if text.len() > LONGEST_BANNER || !text.chars().all(printable) {
        gathered.report(
            &node.at,
            format!(
                "a banner is at most {LONGEST_BANNER} bytes of lines without control characters"
            ),
        );
        return None;
    }
    Some(text)
}
