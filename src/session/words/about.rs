//! Words about the caller: who was proven, which roles there are, and why.

use jiff::Timestamp;

use crate::config::Config;
use crate::policy::{self, Available, Gives};

use super::choice::choices;
use crate::session::{Caller, steps};

pub(super) fn whoami(config: &Config, caller: &Caller) -> String {
    let identity = &caller.identity;
    let groups: Vec<&str> = identity
        .groups()
        .iter()
        .map(|group| group.as_str())
        .collect();
    let advertise = &config.bastion.advertise;
    let mut text = String::new();
    row(&mut text, "identity", identity.name().as_str());
    row(
        &mut text,
        "groups",
        if groups.is_empty() {
            "none".into()
        } else {
            groups.join(", ")
        },
    );
    row(&mut text, "proven by", identity.proof().to_string());
    if let Some(sign_on) = identity.signed_on() {
        let until = crate::clock::to_the_second(sign_on.until);
        row(
            &mut text,
            "signed in",
            format!("with {}, which counts until {until}", sign_on.provider),
        );
    }
    if let Some(word) = identity.device() {
        row(
            &mut text,
            "signed in",
            format!(
                "with {} by the device flow, for the role {} and this connection alone",
                word.provider(),
                word.role()
            ),
        );
    }
    if let Some(passed) = identity.passed() {
        let until = crate::clock::to_the_second(passed.until());
        row(
            &mut text,
            "code",
            format!("a one-time code, which counts until {until}"),
        );
    }
    row(
        &mut text,
        "login name",
        steps::shown(&caller.principal, 256),
    );
    row(&mut text, "from", caller.peer.address.ip().to_string());
    row(
        &mut text,
        "bastion",
        format!(
            "{} ({}:{})",
            config.bastion.name, advertise.host, advertise.port
        ),
    );
    text
}

pub(super) fn roles(config: &Config, caller: &Caller, now: Timestamp) -> String {
    let available = policy::available(config, &caller.identity, caller.peer.address.ip(), now);
    if available.is_empty() {
        return "You may take no role here. Ask your administrator for a binding.\n".into();
    }
    let mut rows = vec![["ROLE", "CLUSTER", "LOGIN AS", "SESSIONS", "WHY"].map(str::to_owned)];
    for choice in choices(&available) {
        let default = if choice.role.is_default {
            " (default)"
        } else {
            ""
        };
        rows.push([
            format!("{}{default}", choice.role.role),
            choice.cluster.to_string(),
            choice.login,
            choice
                .role
                .gives
                .kinds()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            why(config, choice.role),
        ]);
    }
    for audit in available
        .iter()
        .filter(|one| matches!(one.gives, Gives::Recordings(_)))
    {
        let words = "bastion sessions, show, replay, fetch";
        rows.push([
            audit.role.to_string(),
            "-".into(),
            "-".into(),
            words.into(),
            why(config, audit),
        ]);
    }
    table(&rows)
}

fn why(config: &Config, one: &Available) -> String {
    let mut why = one.binding.to_string();
    if let Some(reason) = &one.reason {
        why = format!("{why}: {reason}");
    }
    if let Some(until) = one.until {
        why = format!("{why}, until {}", crate::clock::to_the_second(until));
    }
    if let Some(most) = one.sessions_at_once {
        why = format!("{why}, {most} at once");
    }
    if !one.requires.is_empty() {
        let requires: Vec<String> = one.requires.iter().map(ToString::to_string).collect();
        why = format!("{why}, requires {}", requires.join(" and "));
    }
    let role = config.roles.get(&one.role);
    if let Some(provider) = role.and_then(|role| role.device_flow.as_ref()) {
        why = format!("{why} (for one connection, by the device flow of {provider} too)");
    }
    why
}

pub(super) fn row(text: &mut String, name: &str, value: impl AsRef<str>) {
    text.push_str(&format!("{name:<12}{}\n", value.as_ref()));
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
