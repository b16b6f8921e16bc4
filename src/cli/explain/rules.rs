//! Every rule that mattered: what gives the role, and what would but for its time, its networks or its clusters.

use std::io::Write;
use std::net::IpAddr;

use bastion_audit::config::{Config, Name};
use bastion_audit::policy::{self, Rule, Says, Somebody, Supposed};

pub(super) fn tell(
    out: &mut impl Write,
    config: &Config,
    somebody: &Somebody<'_>,
    login: &str,
    supposed: Supposed,
) -> std::io::Result<()> {
    let rules = policy::rules(config, somebody, login, supposed);
    if rules.is_empty() {
        return writeln!(out, "\nrules: none; no binding speaks of this");
    }
    writeln!(out, "\nrules:")?;
    for rule in rules {
        writeln!(
            out,
            "  the binding {} {}",
            rule.binding.name,
            words(&rule, supposed)
        )?;
    }
    Ok(())
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

fn networks(networks: &[bastion_audit::config::SourceNetwork]) -> String {
    let shown: Vec<String> = networks.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

fn names(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}
