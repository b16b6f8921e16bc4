//! `bastion-audit explain`.

mod rbac;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{self, Config, IdentityDocument, Name, Pattern, allowed_from};
use bastion_audit::identity::certificate::{self, CertificateFacts};
use bastion_audit::mapping::told;
use bastion_audit::policy::{self, Decision, Gives, Request, Somebody, Supposed};
use jiff::Timestamp;

/// Show what an identity may do, by which binding, and why
///
/// Decides as the daemon would if the identity were proven now, with nothing open. Exits with 0 if some kind of session
/// would be granted.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    config: super::ConfigPath,
    /// Whose rights
    #[arg(required_unless_present = "certificate")]
    identity: Option<String>,
    /// The login name to decide about; by default the identity's own name
    #[arg(value_name = "ROLE[+CLUSTER]")]
    login: Option<String>,
    /// Instead of an identity: whom does this certificate (id-cert.pub) prove, and what may they do
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// As if they came from this address; by default from wherever it would be allowed
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// As if it were then, such as 2027-01-31T00:00:00Z; by default now
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Your own kubeconfig for the cluster, to ask its API server what RBAC grants there
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// With --kubeconfig: in this namespace; by default in all of them
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    namespace: Option<String>,
}

impl Explain {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let config = config::load(&self.config.path())?;
        let now = self.at.unwrap_or_else(|| SystemClock.now());
        let supposed = Supposed {
            now,
            from: self.from,
        };
        let mut out = std::io::stdout().lock();
        let (somebody, login) = match &self.certificate {
            None => self.listed(&config)?,
            Some(file) => {
                // Only LOGIN can have been meant by a word beside it.
                let login = self.login.as_ref().or(self.identity.as_ref());
                let login = login.map_or("", String::as_str);
                match certified(&mut out, &config, file, login, now)? {
                    Some(somebody) => (somebody, login.to_owned()),
                    None => return Ok(ExitCode::FAILURE),
                }
            }
        };
        let login = if login.is_empty() {
            somebody.name().to_string()
        } else {
            login
        };
        about(&mut out, &config, &somebody, supposed)?;
        let granted = decisions(&mut out, &config, &somebody, &login, supposed)?;
        let Some(decision) = granted else {
            return Ok(ExitCode::FAILURE);
        };
        match &self.kubeconfig {
            Some(file) => rbac::tell(&mut out, &decision, file, self.namespace.as_deref())?,
            None => writeln!(
                out,
                "\nWhat Kubernetes lets this subject do is for its RBAC to say: bastion-audit check --cluster"
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Explain {
    fn listed<'c>(&self, config: &'c Config) -> anyhow::Result<(Somebody<'c>, String)> {
        let asked = self.identity.as_deref().unwrap_or_default();
        let document = Name::new(asked)
            .ok()
            .and_then(|name| config.identities.get(&name))
            .ok_or_else(|| anyhow!("no Identity '{}' is defined", asked.escape_debug()))?;
        let login = self.login.clone().unwrap_or_default();
        Ok((Somebody::listed(document), login))
    }
}

/// What a certificate says, and whom it proves; nobody, with the reason, if it would be refused.
fn certified<'c>(
    out: &mut impl Write,
    config: &'c Config,
    file: &Path,
    login: &str,
    now: Timestamp,
) -> anyhow::Result<Option<Somebody<'c>>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let certificate = certificate::read(&text)
        .map_err(|_| anyhow!("{} is not an OpenSSH certificate", file.display()))?;
    let facts = CertificateFacts::of(config, &certificate);
    writeln!(out, "{facts}")?;
    writeln!(out, "  signed by   {}", facts.signed_by)?;
    writeln!(
        out,
        "  principals  {}",
        or_none(facts.principals.join(", "))
    )?;
    if let Some(end) = facts.valid_before {
        writeln!(out, "  valid       until {end}")?;
    }
    if let Some(from) = certificate.critical_options().get("source-address") {
        writeln!(out, "  only from   {}", from.escape_debug())?;
    }
    let lacks = ["permit-pty", "permit-port-forwarding"]
        .into_iter()
        .filter(|one| !certificate.extensions().contains_key(*one));
    for extension in lacks {
        writeln!(out, "  without     {extension}")?;
    }
    match Somebody::certified(config, &certificate, login, now) {
        Ok(somebody) => Ok(Some(somebody)),
        Err(refusal) => {
            writeln!(out, "\nproves nobody: {refusal}")?;
            Ok(None)
        }
    }
}

fn or_none(text: String) -> String {
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}

fn about(
    out: &mut impl Write,
    config: &Config,
    somebody: &Somebody<'_>,
    supposed: Supposed,
) -> anyhow::Result<()> {
    let groups: Vec<&str> = somebody
        .groups()
        .iter()
        .map(|group| group.as_str())
        .collect();
    let roles = policy::available_to(config, somebody, supposed);
    writeln!(out, "{}", somebody.name())?;
    writeln!(out, "  groups  {}", or_none(groups.join(", ")))?;
    if let Some(document) = config.identities.get(somebody.name()) {
        writeln!(out, "  keys    {}", keys(document, supposed))?;
    }
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
        if !role.requires.is_empty() {
            writeln!(out, "          requires {}", told::required(&role.requires))?;
        }
        if let Some(weaker) = told::weaker(config, &role.role) {
            writeln!(out, "          {weaker}")?;
        }
        writeln!(
            out,
            "          by the binding {}{}",
            role.binding,
            told::why(role.until, role.reason.as_deref())
        )?;
    }
    Ok(())
}

/// How many keys there are, and how many of them would prove anything then and from there.
fn keys(document: &IdentityDocument, supposed: Supposed) -> String {
    let good = document
        .keys
        .iter()
        .filter(|key| key.expires.is_none_or(|expires| supposed.now < expires))
        .filter(|key| {
            supposed
                .from
                .is_none_or(|address| allowed_from(&key.from, address))
        })
        .count();
    match document.keys.len() {
        all if all == good => all.to_string(),
        all => format!("{all}, of which {good} would prove them then and from there"),
    }
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

/// The decision for each kind of session; the first that is a yes.
fn decisions(
    out: &mut impl Write,
    config: &Config,
    somebody: &Somebody<'_>,
    login: &str,
    supposed: Supposed,
) -> anyhow::Result<Option<Decision>> {
    let mut granted = None;
    let text = told::decisions(config, login, supposed.now, |kind| {
        let request = Request {
            principal: login.to_owned(),
            kind,
        };
        policy::explain(config, somebody, &request, supposed).inspect(|decision| {
            granted.get_or_insert_with(|| decision.clone());
        })
    });
    let rules = told::rules(config, somebody, login, supposed);
    write!(out, "\n{text}\n{rules}")?;
    Ok(granted)
}
