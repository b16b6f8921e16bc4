//! `bastion-audit explain`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{
    self, Config, IdentityDocument, Name, Pattern, SessionKind, show_duration,
};
use bastion_audit::policy::{self, Available, Decision, Denial, Gives, Request};
use jiff::Timestamp;

/// Show what an identity may do, by which binding, and why
///
/// Decides as the daemon would if the identity were proven now. Exits with 0 if some kind of session would be
/// granted.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    config: super::ConfigPath,
    /// Whose rights
    identity: String,
    /// The login name to decide about; by default the identity's own name
    #[arg(value_name = "ROLE[+CLUSTER]")]
    login: Option<String>,
}

const KINDS: [SessionKind; 4] = [
    SessionKind::Shell,
    SessionKind::Exec,
    SessionKind::Tunnel,
    SessionKind::Credential,
];

impl Explain {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config.path())?;
        let now = SystemClock.now();
        let identity = Name::new(&self.identity)
            .ok()
            .and_then(|name| config.identities.get(&name))
            .ok_or_else(|| anyhow!("no Identity '{}' is defined", self.identity.escape_debug()))?;
        let mut out = std::io::stdout().lock();
        about(
            &mut out,
            identity,
            &policy::available_to(&config, identity, now),
        )?;
        let login = self.login.as_deref().unwrap_or(&self.identity);
        let granted = decisions(&mut out, &config, identity, login, now)?;
        Ok(if granted {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn about(
    out: &mut impl Write,
    identity: &IdentityDocument,
    roles: &[Available],
) -> anyhow::Result<()> {
    let groups: Vec<&str> = identity.groups.iter().map(|group| group.as_str()).collect();
    let or_none = |text: String| {
        if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    };
    writeln!(out, "{}", identity.name)?;
    writeln!(out, "  groups  {}", or_none(groups.join(", ")))?;
    writeln!(out, "  keys    {}", identity.keys.len())?;
    if roles.is_empty() {
        writeln!(out, "  roles   none")?;
    }
    for (number, role) in roles.iter().enumerate() {
        let label = if number == 0 { "roles" } else { "" };
        let default = if role.is_default { " (default)" } else { "" };
        writeln!(
            out,
            "  {label:<6}  {}{default}: {}",
            role.role,
            gives(&role.gives)
        )?;
        writeln!(
            out,
            "          by the binding {}{}",
            role.binding,
            why(role.until, role.reason.as_deref())
        )?;
    }
    Ok(())
}

fn gives(gives: &Gives) -> String {
    match gives {
        Gives::Sessions { kinds, clusters } => {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            let clusters: Vec<&str> = clusters.iter().map(Name::as_str).collect();
            format!("{} on {}", kinds.join(", "), clusters.join(", "))
        }
        Gives::Recordings(audit) => format!(
            "recordings of {} on {}",
            pattern(&audit.identities, "every identity"),
            pattern(&audit.clusters, "every cluster")
        ),
    }
}

fn pattern(pattern: &Pattern, all: &str) -> String {
    match pattern {
        Pattern::All => all.to_owned(),
        Pattern::Names(names) if names.is_empty() => "none".to_owned(),
        Pattern::Names(names) => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            names.join(", ")
        }
    }
}

fn why(until: Option<Timestamp>, reason: Option<&str>) -> String {
    let until = until.map_or_else(String::new, |until| format!(", until {until}"));
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{until}{reason}")
}

/// The decision for each kind of session; whether one of them is a yes.
fn decisions(
    out: &mut impl Write,
    config: &Config,
    identity: &IdentityDocument,
    login: &str,
    now: Timestamp,
) -> anyhow::Result<bool> {
    writeln!(out, "\nlogin as {}:", login.escape_debug())?;
    let mut granted = false;
    let mut said = None;
    for kind in KINDS {
        let request = Request {
            principal: login.to_owned(),
            kind,
        };
        let decided = policy::explain(config, &identity.name, &request, now)
            .context("the identity is not in the configuration")?;
        let text = match &decided {
            Ok(decision) => {
                granted = true;
                yes(config, decision, now)
            }
            Err(denial) => no(denial),
        };
        let again = said.as_ref() == Some(&text);
        writeln!(
            out,
            "  {:<10}  {}",
            kind.to_string(),
            if again { "the same" } else { &text }
        )?;
        said = Some(text);
    }
    if granted {
        writeln!(
            out,
            "What Kubernetes lets this ServiceAccount do is for its RBAC to say: bastion-audit check --cluster"
        )?;
    }
    Ok(granted)
}

fn yes(config: &Config, decision: &Decision, now: Timestamp) -> String {
    let longest = decision.ends.duration_since(now).unsigned_abs();
    let until = config
        .bindings
        .get(&decision.binding)
        .and_then(|binding| binding.until);
    let lines = [
        format!(
            "yes: role {} on {}, as {}",
            decision.role, decision.cluster, decision.subject
        ),
        format!(
            "by the binding {}{}",
            decision.binding,
            why(until, decision.reason.as_deref())
        ),
        format!(
            "for {} at most, with credentials of {}",
            show_duration(longest),
            show_duration(std::time::Duration::from_secs(
                decision.ttl.as_secs().into()
            ))
        ),
    ];
    lines.join(BREAK)
}

fn no(denial: &Denial) -> String {
    format!("no: {denial}").replace('\n', BREAK)
}

/// Further lines stand under the first one's text.
const BREAK: &str = "\n              ";
