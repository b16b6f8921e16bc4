//! Every rule that mattered: what gives the role, and what would but for its time, its networks or its clusters.

use std::net::IpAddr;

use crate::config::{Config, Name, SourceNetwork};
use crate::policy::{self, Rule, Says, Somebody, Supposed};

/// A line for each, under a heading.
pub fn rules(config: &Config, somebody: &Somebody<'_>, login: &str, supposed: Supposed) -> String {
    let rules = policy::rules(config, somebody, login, supposed);
    if rules.is_empty() {
        return "rules: none; no binding speaks of this\n".to_owned();
    }
    let lines = rules.iter().map(|rule| {
        let words = words(rule, supposed);
        format!("  the binding {} {words}\n", rule.binding.name)
    });
    std::iter::once("rules:\n".to_owned())
        .chain(lines)
        .collect()
}

fn words(rule: &Rule<'_>, supposed: Supposed) -> String {
    let (binding, role) = (rule.binding, rule.role);
    match &rule.says {
        Says::Gives(clusters) => {
            let on = format!("gives {role} on {}", names(clusters));
            format!("{on}{}", bounds(rule, supposed.from))
        }
        Says::GivesRecordings => {
            format!(
                "gives {role}, recordings to read{}",
                bounds(rule, supposed.from)
            )
        }
        Says::Ended(until) => format!("gave {role} until {until}"),
        Says::NotFromThere => format!(
            "would give {role}, but from {} only",
            networks(binding.from.as_slice())
        ),
        Says::OnOthers(clusters) => format!("gives {role}, but on {} only", names(clusters)),
    }
}

fn bounds(rule: &Rule<'_>, from: Option<IpAddr>) -> String {
    let binding = rule.binding;
    let mut text = String::new();
    if let Some(until) = binding.until {
        text.push_str(&format!(", until {until}"));
    }
    if from.is_none() && !binding.from.is_empty() {
        text.push_str(&format!(", from {} only", networks(&binding.from)));
    }
    if let Some(most) = binding.sessions_at_once {
        text.push_str(&format!(", {most} at once"));
    }
    text
}

fn networks(networks: &[SourceNetwork]) -> String {
    let shown: Vec<String> = networks.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

fn names(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}
