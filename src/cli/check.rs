//! `bastion-audit check`.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{
    self, CertificateAuthority, Cluster, ClusterAccess, Config, Mint, Name, RoleAccess, secrets,
};
use bastion_audit::issuer::{DocumentServer, Issuer};
use bastion_audit::launch::confine::supported_landlock_abi;
use bastion_audit::mapping::told;
use bastion_audit::mint::check::{Level, check_cluster};
use bastion_audit::oidc::{LoginServer, Providers};
use bastion_audit::policy::{Somebody, Supposed, available_to};
use bastion_audit::server::{HostCertificates, HostKeys};
use bastion_audit::store::s3::Bucket;

/// Say whether a configuration is valid, and what a daemon would do with it
///
/// Every problem is reported at once, with file, line and column. Exits with 0 if there is none.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    config: super::ConfigPath,
    /// Look at the documents only, not at host keys, kubeconfigs or this machine: for CI
    #[arg(long)]
    offline: bool,
    /// Also ask the cluster NAME, or all of them, what the daemon's credential can do there
    #[arg(long, value_name = "NAME", num_args = 0..=1, conflicts_with = "offline")]
    cluster: Option<Option<String>>,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let path = self.config.path();
        let config = match config::load(&path) {
            Ok(config) => config,
            Err(problems) => return report(&problems),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", summary(&path, &config))?;
        let mut fine = true;
        if !self.offline {
            fine &= machine(&mut out, &path, &config)?;
        }
        if let Some(name) = &self.cluster {
            fine &= check_clusters(&mut out, &config, name.as_deref())?;
        }
        Ok(if fine {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn report(problems: &config::Problems) -> anyhow::Result<ExitCode> {
    let mut err = std::io::stderr().lock();
    writeln!(err, "{problems}")?;
    match problems.iter().count() {
        1 => writeln!(err, "1 problem")?,
        several => writeln!(err, "{several} problems")?,
    }
    Ok(ExitCode::FAILURE)
}

/// What the documents say, in a few lines.
fn summary(path: &Path, config: &Config) -> String {
    let now = SystemClock.now();
    let bastion = &config.bastion;
    let keys: usize = config
        .identities
        .values()
        .map(|identity| identity.keys.len())
        .sum();
    let audit = config
        .roles
        .values()
        .filter(|role| matches!(role.access, RoleAccess::Audit(_)))
        .count();
    let ended = config
        .bindings
        .values()
        .filter(|binding| binding.until.is_some_and(|until| until <= now))
        .count();
    let mut lines = vec![
        format!(
            "{} is valid (sha256 {})",
            path.display(),
            config.digest.get(..16).unwrap_or("")
        ),
        format!(
            "bastion     {}: would listen on {}, called by clients at {}",
            bastion.name,
            bastion.listen,
            host_port(bastion)
        ),
        format!(
            "clusters    {}: {}{}",
            config.clusters.len(),
            some(config.clusters.keys()),
            under_own_names(config)
        ),
        format!(
            "identities  {}, with {keys} keys: {}",
            config.identities.len(),
            some(config.identities.keys())
        ),
        format!(
            "roles       {}, {audit} of them for audit: {}",
            config.roles.len(),
            some(config.roles.keys())
        ),
        format!(
            "bindings    {}, {ended} of them ended: {}",
            config.bindings.len(),
            some(config.bindings.keys())
        ),
    ];
    if !config.authorities.is_empty() {
        let keys: usize = config
            .authorities
            .values()
            .map(|authority| authority.keys.len())
            .sum();
        let authorities = format!(
            "authorities {}, with {keys} keys: {}",
            config.authorities.len(),
            some(config.authorities.keys())
        );
        lines.push(authorities);
    }
    if !config.providers.is_empty() {
        let providers = format!(
            "providers   {}: {}",
            config.providers.len(),
            some(config.providers.keys())
        );
        lines.push(providers);
    }
    lines.extend(
        notes(config)
            .into_iter()
            .map(|note| format!("note: {note}")),
    );
    lines.join("\n")
}

/// Where operators have their own names: said only where it is so.
fn under_own_names(config: &Config) -> String {
    let mut by_mint: BTreeMap<&str, Vec<&Name>> = BTreeMap::new();
    let all = config.clusters.values();
    for cluster in all.filter(|cluster| cluster.mint != Mint::TokenRequest) {
        let names = by_mint.entry(cluster.mint.as_str()).or_default();
        names.push(&cluster.name);
    }
    let said = by_mint.into_iter().rev().map(|(mint, names)| {
        let count = names.len();
        format!(
            "; {count} of them mint by {mint}: {}",
            some(names.into_iter())
        )
    });
    said.collect()
}

/// The first few names.
fn some<'n>(mut names: impl Iterator<Item = &'n Name>) -> String {
    let mut shown: Vec<&str> = names.by_ref().take(8).map(Name::as_str).collect();
    if names.next().is_some() {
        shown.push("...");
    }
    shown.join(", ")
}

fn host_port(bastion: &config::Bastion) -> String {
    let config::HostPort { host, port } = &bastion.advertise;
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// What is valid and yet may not be meant.
fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    let bastion = &config.bastion;
    if bastion.listen.ip().is_unspecified()
        && bastion.advertise.host == bastion.listen.ip().to_string()
    {
        notes.push("clients cannot call a wildcard address; say spec.advertise".to_owned());
    }
    let certified = config
        .authorities
        .values()
        .any(|authority| authority.identities.iter().any(|rule| rule.listed))
        || config.takes_any_key();
    for identity in config.identities.values() {
        if identity.keys.is_empty() && !certified {
            notes.push(format!(
                "{} has no key, so nobody can log in as it",
                identity.name
            ));
        } else if config
            .bindings_of(&identity.name, &identity.groups)
            .next()
            .is_none()
            && !certified
        {
            notes.push(format!(
                "no binding speaks of {}, so it can do nothing",
                identity.name
            ));
        }
    }
    for authority in config.authorities.values() {
        notes.extend(of_authority(authority));
    }
    for (role, identity) in ambiguous_defaults(config) {
        notes.push(format!(
            "{identity} can take its defaultRole {role} on several clusters, so its logins must name one"
        ));
    }
    for role in config.roles.keys() {
        if let Some(weaker) = told::weaker(config, role) {
            notes.push(format!("the role {role} is {weaker}"));
        }
        if !config
            .bindings
            .values()
            .any(|binding| binding.roles.contains(role))
        {
            notes.push(format!("no binding gives the role {role}"));
        }
    }
    const MOST: usize = 20;
    let more = notes.len().saturating_sub(MOST);
    notes.truncate(MOST);
    if more > 0 {
        notes.push(format!("and {more} more of this kind"));
    }
    notes
}

fn of_authority(authority: &CertificateAuthority) -> Option<String> {
    let name = &authority.name;
    match (&authority.revoked, authority.keys.is_empty()) {
        (_, true) => Some(format!("{name} has no key, so no certificate is of it")),
        (None, false) => Some(format!(
            "{name} names no file under 'revoked', so its certificates are good until they end"
        )),
        (Some(_), false) => None,
    }
}

fn ambiguous_defaults(config: &Config) -> impl Iterator<Item = (&Name, &Name)> {
    let supposed = Supposed {
        now: SystemClock.now(),
        from: None,
    };
    config.identities.values().filter_map(move |identity| {
        let default = identity.default_role.as_ref()?;
        let clusters: usize = available_to(config, &Somebody::listed(identity), supposed)
            .iter()
            .filter(|one| one.role == *default)
            .map(|one| one.gives.clusters().len())
            .sum();
        (clusters > 1).then_some((default, &identity.name))
    })
}

/// What this machine must have for the daemon to start.
/// Whether all of them can be shown.
fn host_certificates(config: &Config) -> Result<String, String> {
    let mut files = Vec::new();
    for path in &config.bastion.host_keys {
        let key = secrets::read_secret(path).map_err(|error| error.to_string())?;
        files.push((path.as_path(), key));
    }
    let keys = HostKeys::parse(files).map_err(|error| error.to_string())?;
    let paths = &config.bastion.host_certificates;
    let (_, wrong) = HostCertificates::read(paths, &keys, SystemClock.now());
    match wrong.first() {
        None => Ok(format!("{} can be shown", paths.len())),
        Some(wrong) => Err(wrong.to_string()),
    }
}

fn machine(out: &mut impl Write, path: &Path, config: &Config) -> anyhow::Result<bool> {
    let mut fine = true;
    let mut say = |what: &str, result: Result<String, String>| -> std::io::Result<()> {
        match result {
            Ok(found) => writeln!(out, "ok    {what}: {found}"),
            Err(problem) => {
                fine = false;
                writeln!(out, "FAIL  {what}: {problem}")
            }
        }
    };
    let writers = config::check_writers(path);
    let closed = writers.map(|()| format!("{} cannot be changed by everybody", path.display()));
    say("configuration", closed.map_err(|error| error.to_string()))?;
    for path in &config.bastion.host_keys {
        let key = secrets::host_key(path).map(|key| {
            let public = key.public_key();
            format!(
                "{} {}",
                public.algorithm(),
                public.fingerprint(Default::default())
            )
        });
        say("host key", key.map_err(|error| error.to_string()))?;
    }
    if !config.bastion.host_certificates.is_empty() {
        say("host certificates", host_certificates(config))?;
    }
    for authority in config.authorities.values() {
        if let Some(revoked) = &authority.revoked {
            let found = format!(
                "version {}, {} entries",
                revoked.version(),
                revoked.entries()
            );
            say(&format!("revoked by {}", authority.name), Ok(found))?;
        }
    }
    say("state directory", state_dir(&config.bastion.state_dir))?;
    for cluster in config.clusters.values() {
        say(&format!("cluster {}", cluster.name), credential(cluster))?;
    }
    if let Some(issuer) = &config.bastion.issuer {
        let opened = Issuer::open(issuer).and_then(|opened| {
            opened.look()?;
            Ok(format!("{} signs for {}", opened.key_id(), issuer.url))
        });
        say("issuer", opened.map_err(|error| error.to_string()))?;
        if let Some(listener) = &issuer.listener {
            let served = DocumentServer::check(listener)
                .map(|()| format!("would be served on {}", listener.address));
            say(
                "issuer's documents",
                served.map_err(|error| error.to_string()),
            )?;
        }
    }
    if let Some(login) = &config.bastion.login {
        let served = LoginServer::check(&login.listener)
            .map(|()| format!("would be served on {}", login.listener.address));
        say(
            "pages to sign in by",
            served.map_err(|error| error.to_string()),
        )?;
    }
    for provider in config.providers.values() {
        if let Some(path) = &provider.client_secret {
            let found = secrets::read_secret(path).map(|_| path.display().to_string());
            say(
                &format!("secret for {}", provider.name),
                found.map_err(|error| error.to_string()),
            )?;
        }
    }
    for (role, endpoint) in device_flows(config)? {
        say(&format!("device flow of {role}"), endpoint)?;
    }
    if let Some(s3) = &config.bastion.recordings.s3 {
        let bucket = Bucket::open(s3, Arc::new(SystemClock));
        let opened = bucket.map(|_| format!("bucket {}, not asked for", s3.bucket));
        say("object store", opened.map_err(|error| error.to_string()))?;
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    for (place, usable) in config.bastion.witness.check(&clock) {
        let usable = usable.map_err(|error| error.to_string());
        say(&format!("witness {}", place.as_str()), usable)?;
    }
    say("bubblewrap", program(&config.bastion.sandbox.bubblewrap))?;
    say("Landlock", landlock(config.bastion.sandbox.landlock_abi))?;
    for tool in &config.bastion.sandbox.tools {
        say("tool", program(tool))?;
    }
    Ok(fine)
}

/// Whether roles that opt in have a provider that takes part. Asked of the providers, for no document of ours says it.
fn device_flows(config: &Config) -> anyhow::Result<Vec<(&Name, Result<String, String>)>> {
    let asked = config.roles.values().filter_map(|role| {
        let provider = config.providers.get(role.device_flow.as_ref()?)?;
        Some((&role.name, provider))
    });
    let asked: Vec<_> = asked.collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (runtime, providers) = (runtime()?, Providers::new(Arc::new(SystemClock)));
    let mut found = Vec::new();
    for (role, provider) in asked {
        let endpoint = runtime.block_on(providers.device_endpoint(provider));
        found.push((role, endpoint.map_err(|error| error.to_string())));
    }
    Ok(found)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

/// Asked of the kernel: that it is enabled shows only so.
fn landlock(wanted: u8) -> Result<String, String> {
    if wanted == 0 {
        return Ok("not used (landlockAbi: 0)".to_owned());
    }
    let has = supported_landlock_abi().map_err(|error| error.to_string())?;
    let compared = format!("ABI {has} (0: none, or not enabled at boot), {wanted} is needed");
    match has >= wanted {
        true => Ok(format!("ABI {has}, at least {wanted} is needed")),
        false => Err(compared),
    }
}

fn state_dir(path: &Path) -> Result<String, String> {
    if path.exists() {
        return config::check_state_dir(path)
            .map(|()| path.display().to_string())
            .map_err(|error| error.to_string());
    }
    match path.parent() {
        Some(parent) if parent.is_dir() => Ok(format!("{} will be made", path.display())),
        _ => Err(format!(
            "{} cannot be made: the directory above it is not there",
            path.display()
        )),
    }
}

fn credential(cluster: &Cluster) -> Result<String, String> {
    match &cluster.access {
        ClusterAccess::InCluster => Ok("by the pod's own ServiceAccount".to_owned()),
        ClusterAccess::Kubeconfig(path) => secrets::read_secret(path)
            .map(|_| path.display().to_string())
            .map_err(|error| error.to_string()),
        ClusterAccess::Server(server) => match &server.token_file {
            None => Ok("none, and none is needed".to_owned()),
            Some(path) => secrets::read_secret(path)
                .map(|_| path.display().to_string())
                .map_err(|error| error.to_string()),
        },
    }
}

/// A program by its path, or by its name on PATH.
fn program(path: &Path) -> Result<String, String> {
    let candidates: Vec<PathBuf> = if path.is_absolute() {
        vec![path.to_owned()]
    } else {
        let search = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&search)
            .map(|dir| dir.join(path))
            .collect()
    };
    candidates
        .into_iter()
        .find(|candidate| {
            std::fs::metadata(candidate)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
        .map(|found| found.display().to_string())
        .ok_or_else(|| {
            format!(
                "{} is not there or cannot be run; install it",
                path.display()
            )
        })
}

/// Asks one cluster, or all of them, what the daemon's own credential can do there.
fn check_clusters(
    out: &mut impl Write,
    config: &Config,
    name: Option<&str>,
) -> anyhow::Result<bool> {
    let chosen: Vec<&Cluster> = config
        .clusters
        .values()
        .filter(|cluster| name.is_none_or(|name| cluster.name.as_str() == name))
        .collect();
    if let (true, Some(name)) = (chosen.is_empty(), name) {
        anyhow::bail!("no Cluster '{}' is defined", name.escape_debug());
    }
    let runtime = runtime()?;
    let mut fine = true;
    for cluster in chosen {
        let report = runtime.block_on(check_cluster(cluster, config));
        write!(out, "{report}")?;
        fine &= report.level() < Level::Fail;
    }
    Ok(fine)
}
