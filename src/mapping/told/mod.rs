//! A decision in words, as operators read it over ssh and administrators on the command line.

mod rights;
mod rules;

use jiff::Timestamp;

use crate::config::{Config, Factor, Name, SessionKind, show_duration};
use crate::policy::{Decision, Denial, KubernetesSubject};

pub use rights::{BEYOND, beyond_means, rights};
pub use rules::rules;

/// Every kind of session, in the order in which they are told.
pub const KINDS: [SessionKind; 4] = [
    SessionKind::Shell,
    SessionKind::Exec,
    SessionKind::Tunnel,
    SessionKind::Credential,
];

/// Further lines stand under the first one's text.
const BREAK: &str = "\n              ";

/// What is decided of a login name, a line or more for each kind of session. `login` may be anything that somebody typed.
pub fn decisions(
    config: &Config,
    login: &str,
    now: Timestamp,
    mut decide: impl FnMut(SessionKind) -> Result<Decision, Denial>,
) -> String {
    let mut text = format!("login as {}:\n", login.escape_debug());
    let mut said = None;
    for kind in KINDS {
        let told = match decide(kind) {
            Ok(decision) => yes(config, &decision, now),
            Err(denial) => format!("no: {denial}").replace('\n', BREAK),
        };
        let again = said.as_ref() == Some(&told);
        let shown = if again { "the same" } else { &told };
        text.push_str(&format!("  {:<10}  {shown}\n", kind.to_string()));
        said = Some(told);
    }
    text
}

fn yes(config: &Config, decision: &Decision, now: Timestamp) -> String {
    let longest = decision.ends.duration_since(now).unsigned_abs();
    let until = config
        .bindings
        .get(&decision.binding)
        .and_then(|binding| binding.until);
    let mut lines = vec![
        format!(
            "yes: role {} on {}, as {}",
            decision.role,
            decision.cluster,
            decision.subject.in_words()
        ),
        format!(
            "by the binding {}{}",
            decision.binding,
            why(until, decision.reason.as_deref())
        ),
        format!(
            "for {} at most, {}",
            show_duration(longest),
            means(decision)
        ),
    ];
    if !decision.requires.is_empty() {
        lines.push(format!(
            "if they have proven what it requires: {}",
            required(&decision.requires)
        ));
        lines.extend(weaker(config, &decision.role));
    }
    lines.join(BREAK)
}

/// What bounds a binding, and its reason.
pub fn why(until: Option<Timestamp>, reason: Option<&str>) -> String {
    let until = until.map_or_else(String::new, |until| format!(", until {until}"));
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{until}{reason}")
}

/// What must be proven.
pub fn required(factors: &[Factor]) -> String {
    let factors: Vec<String> = factors.iter().map(ToString::to_string).collect();
    factors.join(" and ")
}

/// By what less a role can be had, if its administrator has said so.
pub fn weaker(config: &Config, role: &Name) -> Option<String> {
    let provider = config.roles.get(role)?.device_flow.as_ref()?;
    Some(format!(
        "weaker: for one connection, oidc is proven by the device flow of {provider} too, so by whoever has their key and talks them into typing a code"
    ))
}

fn means(decision: &Decision) -> String {
    match decision.subject {
        KubernetesSubject::Impersonated { .. } => {
            "asked for in their name by the daemon".to_owned()
        }
        _ => {
            let ttl = std::time::Duration::from_secs(decision.ttl.as_secs().into());
            format!("with credentials of {}", show_duration(ttl))
        }
    }
}
