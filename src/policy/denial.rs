//! A no, with its reason and what would work instead.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::to_the_second;
use crate::config::{Factor, HostPort, Name, SessionKind};
use crate::locks::Target;

/// Why a proven identity does not get what it asked for.
///
/// Serializes for the audit log; `Display` is what the operator reads: whole sentences, printable characters
/// only, nothing about other identities and no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "why", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Denial {
    /// The login name is none that this identity can use. Whether it means something to others is not told.
    UnknownPrincipal {
        /// Who asked.
        identity: Name,
        /// What was asked for.
        asked: ShownPrincipal,
        /// Login names that would work.
        choices: Vec<String>,
        /// How clients call us.
        host: HostPort,
    },
    /// No standing binding gives this identity any role.
    NoRole {
        /// Who asked.
        identity: Name,
    },
    /// The login name could mean several things.
    Ambiguous {
        /// Who asked.
        identity: Name,
        /// Login names that mean one thing.
        choices: Vec<String>,
    },
    /// The role cannot be taken on that cluster.
    NotOnCluster {
        /// The role.
        role: Name,
        /// The cluster that was asked for.
        asked: ShownPrincipal,
        /// Where it can be taken.
        clusters: Vec<Name>,
    },
    /// The binding that gave the role has ended.
    Ended {
        /// The role.
        role: Name,
        /// The binding.
        binding: Name,
        /// Its `until`.
        until: Timestamp,
        /// Login names that still work.
        choices: Vec<String>,
    },
    /// The role is given, but not to who comes from there.
    NotFromHere {
        /// The role.
        role: Name,
        /// A binding that gives it elsewhere.
        binding: Name,
        /// From where it was asked for.
        from: IpAddr,
        /// Login names that work from there.
        choices: Vec<String>,
    },
    /// As many sessions are open as the binding gives at once.
    TooManySessions {
        /// The role.
        role: Name,
        /// The cluster.
        cluster: Name,
        /// The binding.
        binding: Name,
        /// Its `sessionsAtOnce`.
        most: u32,
    },
    /// The binding bounds what a credential in a client's hands would not keep to.
    NotHandedOut {
        /// The role.
        role: Name,
        /// The binding.
        binding: Name,
    },
    /// On that cluster the daemon acts for people, and there is nothing that could be handed out.
    NoCredential {
        /// The role.
        role: Name,
        /// The cluster.
        cluster: Name,
    },
    /// The role does not allow this kind of session.
    KindNotAllowed {
        /// The role.
        role: Name,
        /// What was asked for.
        kind: SessionKind,
        /// What it allows.
        allowed: Vec<SessionKind>,
    },
    /// The role's sessions are not extended.
    NotExtended {
        /// The role.
        role: Name,
    },
    /// An open session lasts as long as it may already.
    LastsNoLonger {
        /// Its end.
        ends: Timestamp,
    },
    /// The line of the key that proved the identity forbids a terminal.
    NoTerminal {
        /// Who asked.
        identity: Name,
    },
    /// The line of the key that proved the identity forbids a tunnel.
    NoTunnel {
        /// Who asked.
        identity: Name,
    },
    /// The certificate that proved the identity does not permit this.
    NotPermitted {
        /// Who asked.
        identity: Name,
        /// What it would have to have: `permit-pty` or `permit-port-forwarding`.
        extension: String,
    },
    /// An audit role opens no session on a cluster.
    AuditRole {
        /// The role.
        role: Name,
        /// Login names that do open one.
        choices: Vec<String>,
        /// How clients call us.
        host: HostPort,
    },
    /// An administrator has locked something that this would take.
    Locked {
        /// Who asked.
        identity: Name,
        /// What is locked.
        on: Target,
        /// Until when; none until it is unlocked.
        until: Option<Timestamp>,
        /// Why. Of a role or cluster the operator is told; of what is theirs alone not, for they may be who it is locked against.
        reason: String,
    },
    /// An open session's key no longer proves its identity.
    KeyWithdrawn {
        /// Who was proven by it.
        identity: Name,
    },
    /// The certificate that proved an identity is no longer accepted for it.
    CertificateWithdrawn {
        /// Who was proven by it.
        identity: Name,
        /// Why.
        reason: String,
    },
    /// The certificate that proved the identity has ended since login. What is open goes on; this would have been new.
    CertificateEnded {
        /// Who was proven by it.
        identity: Name,
        /// Why.
        reason: String,
    },
    /// An open session's role is another one now: another subject, another cluster, or an audit role.
    RoleChanged {
        /// The role.
        role: Name,
        /// The cluster.
        cluster: Name,
    },
    /// What a provider said of whoever holds the key counts no more.
    SignOnEnded {
        /// Who was proven.
        identity: Name,
    },
    /// The role requires more than was proven on the connection.
    Unproven {
        /// The role.
        role: Name,
        /// Who asked.
        identity: Name,
        /// What it lacks.
        missing: Factor,
        /// The login name by which it is asked for.
        login: String,
        /// Whether they have one-time codes.
        enrolled: bool,
        /// How clients call us.
        host: HostPort,
    },
    /// A credential was asked for by somebody who has signed in for one connection.
    NotByDevice {
        /// The role.
        role: Name,
        /// How clients call us.
        host: HostPort,
    },
    /// No standing binding gives an open session's role any more.
    NoLongerBound {
        /// The role.
        role: Name,
        /// The cluster.
        cluster: Name,
    },
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPrincipal {
                identity,
                asked,
                choices,
                host,
            } => {
                write!(
                    f,
                    "You are {identity}, and '{asked}' is not a role that you can take."
                )?;
                offer(f, choices)?;
                match choices.first() {
                    Some(first) => user_line(f, host, first),
                    None => Ok(()),
                }
            }
            Self::NoRole { identity } => write!(
                f,
                "You are {identity}, and no binding gives you a role now. Ask the administrators of this bastion for one."
            ),
            Self::NoTerminal { identity } => write!(
                f,
                "You are {identity}, and your key's line forbids a terminal (no-pty). Run a command without one: ssh -T."
            ),
            Self::NoTunnel { identity } => write!(
                f,
                "You are {identity}, and your key's line forbids a tunnel (no-port-forwarding)."
            ),
            Self::NotPermitted {
                identity,
                extension,
            } => {
                let (what, instead) = match extension.as_str() {
                    "permit-pty" => ("a terminal", " Run a command without one: ssh -T."),
                    _ => ("a tunnel", ""),
                };
                write!(
                    f,
                    "You are {identity}, and your certificate does not permit {what} ({extension}).{instead}"
                )
            }
            Self::Ambiguous { identity, choices } => write!(
                f,
                "You are {identity}, and this login name could mean several things. Log in as one of: {}.",
                choices.join(", ")
            ),
            Self::NotOnCluster {
                role,
                asked,
                clusters,
            } => write!(
                f,
                "You cannot take the role {role} on '{asked}'. You can on: {}.",
                list(clusters)
            ),
            Self::Ended {
                role,
                binding,
                until,
                choices,
            } => {
                write!(
                    f,
                    "The role {role} was yours by the binding {binding} until {until}, which is over."
                )?;
                offer(f, choices)
            }
            Self::NotFromHere {
                role,
                binding,
                from,
                choices,
            } => {
                write!(
                    f,
                    "The role {role} is yours by the binding {binding}, but not from where you are ({from})."
                )?;
                offer(f, choices)
            }
            Self::TooManySessions {
                role,
                cluster,
                binding,
                most,
            } => write!(
                f,
                "You have as many sessions open as the binding {binding} allows at once ({most}). End one, and {role} on {cluster} is yours again."
            ),
            Self::NotHandedOut { role, binding } => write!(
                f,
                "The binding {binding} gives you the role {role} within bounds that a credential in your hands would not keep to, \
                 so it hands out none."
            ),
            Self::NoCredential { role, cluster } => write!(
                f,
                "There is no credential for {role} on {cluster}: the bastion asks there in your name. Use a tunnel, or kubectl in a session."
            ),
            Self::KindNotAllowed {
                role,
                kind: SessionKind::Credential,
                allowed,
            } => write!(
                f,
                "The role {role} hands out no credentials: only a role with 'credential' in its sessions does. \
                 It allows: {}.",
                list(allowed)
            ),
            Self::KindNotAllowed {
                role,
                kind,
                allowed,
            } => write!(
                f,
                "The role {role} does not allow {kind}. It allows: {}.",
                list(allowed)
            ),
            Self::NotExtended { role } => write!(
                f,
                "Sessions of the role {role} are not extended. Log in anew when this one has ended."
            ),
            Self::LastsNoLonger { ends } => write!(
                f,
                "This session ends by {}, and may not last longer. Log in anew then.",
                to_the_second(*ends)
            ),
            Self::AuditRole {
                role,
                choices,
                host,
            } => {
                write!(
                    f,
                    "{role} is an audit role: it reads recordings (ssh{} {} bastion sessions) and opens no session on a cluster.",
                    port_option(host),
                    host.host
                )?;
                if choices.is_empty() {
                    return Ok(());
                }
                offer(f, choices)
            }
            Self::Locked {
                identity,
                on,
                until,
                reason,
            } => match (theirs(on), until) {
                (Some(theirs), _) => write!(
                    f,
                    "You are {identity}, and {theirs} is locked. Ask the administrators of this bastion."
                ),
                (None, Some(until)) => write!(
                    f,
                    "The {on} is locked until {}: {reason}.",
                    to_the_second(*until)
                ),
                (None, None) => write!(f, "The {on} is locked: {reason}."),
            },
            Self::KeyWithdrawn { identity } => {
                write!(
                    f,
                    "The key that proved {identity} is no longer accepted for it."
                )
            }
            Self::CertificateWithdrawn { identity, reason } => {
                write!(
                    f,
                    "The certificate that proved {identity} is no longer accepted for it: {reason}."
                )
            }
            Self::SignOnEnded { identity } => write!(
                f,
                "That you have signed in as {identity} counts no more. Log in again to sign in anew."
            ),
            Self::CertificateEnded { reason, .. } => {
                write!(f, "Log in again with a new certificate: {reason}.")
            }
            Self::RoleChanged { role, cluster } => write!(
                f,
                "The role {role} on {cluster} was changed; log in again to take it as it is now."
            ),
            Self::Unproven {
                role,
                missing: Factor::Key,
                ..
            } => write!(
                f,
                "The role {role} requires a key of your own, without a certificate: ssh -i KEY -o CertificateFile=none."
            ),
            Self::Unproven {
                role,
                missing: Factor::Certificate,
                ..
            } => write!(
                f,
                "The role {role} requires a certificate, and you came with a key alone. Log in with one: ssh -o CertificateFile=FILE."
            ),
            Self::Unproven {
                role,
                identity,
                missing: Factor::Totp,
                enrolled: false,
                ..
            } => write!(
                f,
                "The role {role} requires a one-time code, and you, {identity}, are not enrolled for any. Ask the administrators of this \
                 bastion: bastion-audit totp enroll {identity}."
            ),
            Self::Unproven {
                role,
                login,
                host,
                missing: Factor::Oidc,
                ..
            } => write!(
                f,
                "The role {role} requires that you sign in in a browser, which counts for a while. Log in in its name to be given a link: \
                 ssh{} {login}@{}.",
                port_option(host),
                host.host
            ),
            Self::Unproven {
                role, login, host, ..
            } => write!(
                f,
                "The role {role} requires a one-time code, which counts for a while. Log in in its name to be asked for one: ssh{} {login}@{}.",
                port_option(host),
                host.host
            ),
            Self::NotByDevice { role, host } => write!(
                f,
                "You have signed in for this connection alone, and a credential of the role {role} would outlive it. Open the link instead that \
                 you are given at login: ssh{} {role}@{}.",
                port_option(host),
                host.host
            ),
            Self::NoLongerBound { role, cluster } => {
                write!(
                    f,
                    "No binding gives you the role {role} on {cluster} any more."
                )
            }
        }
    }
}

/// How whoever is locked out calls what is locked, if it concerns them and not everybody.
fn theirs(on: &Target) -> Option<&'static str> {
    match on {
        Target::Identity(_) => Some("your access"),
        Target::Key(_) => Some("your key"),
        Target::Certificate { .. } => Some("your certificate"),
        Target::Source(_) => Some("the address that you come from"),
        Target::Role(_) | Target::Cluster(_) => None,
    }
}

fn offer(f: &mut fmt::Formatter<'_>, choices: &[String]) -> fmt::Result {
    if choices.is_empty() {
        write!(f, " No binding gives you a role on a cluster now.")
    } else {
        write!(f, " Log in as one of: {}.", choices.join(", "))
    }
}

/// What to put into `~/.ssh/config`, so that it need not be typed.
fn user_line(f: &mut fmt::Formatter<'_>, host: &HostPort, login: &str) -> fmt::Result {
    write!(
        f,
        " In ~/.ssh/config, for example:\n    Host {}\n        User {login}",
        host.host
    )?;
    if host.port != 22 {
        write!(f, "\n        Port {}", host.port)?;
    }
    Ok(())
}

fn port_option(host: &HostPort) -> String {
    if host.port == 22 {
        String::new()
    } else {
        format!(" -p {}", host.port)
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let shown: Vec<String> = items.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

/// What a client sent as a name, made safe to print and to store: ASCII that no terminal acts on, at most 64
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownPrincipal(String);

impl ShownPrincipal {
    const MAX: usize = 64;

    /// Whatever a client sent, shown.
    pub fn of(sent: &str) -> Self {
        let mut shown: String = sent
            .chars()
            .take(Self::MAX)
            .map(|c| {
                let plain = c.is_ascii_graphic() && !matches!(c, '\'' | '\\');
                if plain { c } else { '?' }
            })
            .collect();
        if sent.chars().nth(Self::MAX).is_some() {
            shown.push_str("...");
        }
        Self(shown)
    }
}

impl fmt::Display for ShownPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
