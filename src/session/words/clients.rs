//! What goes into files on the operator's side: an ssh `Host` block, a kubeconfig.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::Event;
use crate::config::{Config, SessionKind};
use crate::monitor::Monitor;
use crate::policy::{self, Circumstances};
use crate::session::{Caller, steps};

use super::KubeconfigArgs;
use super::choice::{Choice, choices};

pub(super) fn ssh_config(config: &Config, caller: &Caller, now: Timestamp) -> String {
    let bastion = &config.bastion;
    let mut text = format!(
        "# Put this into ~/.ssh/config; then `ssh {name}` is a shell, `ssh {name} kubectl get pods` a command.\n\
         Host {name}\n    HostName {host}\n    Port {port}\n    User {user}\n",
        name = bastion.name,
        host = bastion.advertise.host,
        port = bastion.advertise.port,
        user = caller.identity.name(),
    );
    let available = policy::available(config, &caller.identity, caller.peer.address.ip(), now);
    let choices = choices(&available);
    if choices
        .iter()
        .any(|one| one.role.gives.kinds().contains(&SessionKind::Tunnel))
    {
        text.push_str(&format!(
            "\n# `ssh -N {name}-tunnel` for your own kubectl; its kubeconfig: `ssh {name} bastion kubeconfig`\n\
             Host {name}-tunnel\n    HostName {host}\n    Port {port}\n    User {user}\n    \
             DynamicForward 127.0.0.1:1080\n    ExitOnForwardFailure yes\n    ServerAliveInterval 30\n",
            name = bastion.name,
            host = bastion.advertise.host,
            port = bastion.advertise.port,
            user = caller.identity.name(),
        ));
    }
    for one in choices {
        let block = format!(
            "\nHost {name}-{suffix}\n    HostName {host}\n    Port {port}\n    User {login}\n",
            name = bastion.name,
            suffix = one.login.replace('+', "-"),
            host = bastion.advertise.host,
            port = bastion.advertise.port,
            login = one.login,
        );
        text.push_str(&block);
    }
    text
}

/// A kubeconfig with a context for each role and cluster: through a tunnel where the role allows one, otherwise with a
/// stock `ssh` as its credential plugin where the role hands credentials out.
pub(super) async fn kubeconfig(
    monitor: &Monitor,
    config: &Config,
    caller: &Caller,
    how: &KubeconfigArgs,
    now: Timestamp,
) -> Result<String, String> {
    if how.rotate {
        rotate(monitor, caller).await?;
    }
    let available = policy::available(config, &caller.identity, caller.peer.address.ip(), now);
    let choices = choices(&available);
    let allows = |one: &Choice<'_>, kind| one.role.gives.kinds().contains(&kind);
    let mut document = Kubeconfig::default();
    let mut left_out = String::new();
    if let Some(port) = how.local_port {
        let one = own(config, caller, &choices, now)?;
        document.add(one, local(monitor, port), bearer(monitor, caller));
        return document.text();
    }
    for one in &choices {
        if allows(one, SessionKind::Tunnel) && !how.plugin {
            document.add(
                one,
                socks(monitor, one, how.socks_port),
                bearer(monitor, caller),
            );
        } else if allows(one, SessionKind::Credential) {
            match monitor.leases.endpoint(one.cluster).await {
                Ok(server) => {
                    let user = json!({ "exec": plugin(config, one) });
                    document.add(one, server.kubeconfig_cluster(), user);
                }
                // The other clusters are of use all the same. A comment stays with the file and harms no reader of YAML.
                Err(error) => {
                    let line =
                        format!("# {} is left out: {}\n", context(one), error.for_operator());
                    left_out.push_str(&line);
                }
            }
        }
    }
    if document.contexts.is_empty() && !left_out.is_empty() {
        return Err(left_out.trim_end().replace("# ", ""));
    }
    if document.contexts.is_empty() {
        return Err(match how.plugin {
            true => {
                "none of your roles hands out credentials; leave --plugin out for a tunnel, \
                or run kubectl here: `ssh HOST kubectl ...`"
            }
            false => {
                "none of your roles allows a tunnel or hands out credentials; \
                run kubectl here instead: `ssh HOST kubectl ...`"
            }
        }
        .into());
    }
    document.text().map(|text| left_out + &text)
}

/// Takes every kubeconfig written until now back. On record before it happens.
async fn rotate(monitor: &Monitor, caller: &Caller) -> Result<(), String> {
    let identity = caller.identity.name();
    let peer = &caller.peer;
    steps::on_record(monitor, Event::KubeconfigRotated { identity, peer }).await?;
    monitor.gateway.rotate(identity).map(drop).map_err(|error| {
        tracing::error!("{error}");
        "a new generation could not be written down, so the old one stays; tell your administrator"
            .to_owned()
    })
}

/// What the login name stands for, if that allows a tunnel.
fn own<'a, 'c>(
    config: &Config,
    caller: &Caller,
    choices: &'a [Choice<'c>],
    now: Timestamp,
) -> Result<&'a Choice<'c>, String> {
    let request = policy::Request {
        principal: caller.principal.clone(),
        kind: SessionKind::Tunnel,
    };
    // How many are open now says nothing of when the file is used.
    let circumstances = Circumstances {
        now,
        from: caller.peer.address.ip(),
        open: &[],
    };
    let grant = policy::decide(config, &caller.identity, &request, circumstances)
        .map_err(|denial| denial.to_string())?;
    choices
        .iter()
        .find(|one| one.role.role == *grant.role() && one.cluster == grant.cluster())
        .ok_or_else(|| "your roles have just changed; ask again".to_owned())
}

/// A `cluster` behind `ssh -D`: its name goes to the bastion unresolved.
fn socks(monitor: &Monitor, one: &Choice<'_>, port: u16) -> Value {
    json!({
        "server": format!("https://{}.{}:443", one.role.role, one.cluster),
        "proxy-url": format!("socks5://127.0.0.1:{port}"),
        "certificate-authority-data": ca(monitor),
    })
}

/// A `cluster` behind `ssh -L`.
fn local(monitor: &Monitor, port: u16) -> Value {
    json!({
        "server": format!("https://127.0.0.1:{port}"),
        "tls-server-name": "kubernetes",
        "certificate-authority-data": ca(monitor),
    })
}

fn ca(monitor: &Monitor) -> String {
    STANDARD.encode(monitor.gateway.ca_pem())
}

/// Counts on this identity's tunnels only.
fn bearer(monitor: &Monitor, caller: &Caller) -> Value {
    json!({ "token": monitor.gateway.bearer(caller.identity.name()) })
}

/// A document of contexts, each with a cluster and a user of its own name.
#[derive(Default)]
struct Kubeconfig {
    clusters: Vec<Value>,
    users: Vec<Value>,
    contexts: Vec<Value>,
    current: Option<String>,
    of_default_role: bool,
}

impl Kubeconfig {
    fn add(&mut self, one: &Choice<'_>, cluster: Value, user: Value) {
        let name = context(one);
        self.clusters
            .push(json!({ "name": name, "cluster": cluster }));
        self.users.push(json!({ "name": name, "user": user }));
        self.contexts
            .push(json!({ "name": name, "context": {"cluster": name, "user": name} }));
        if self.current.is_none() || (one.role.is_default && !self.of_default_role) {
            self.current = Some(name);
            self.of_default_role = one.role.is_default;
        }
    }

    fn text(self) -> Result<String, String> {
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": self.clusters,
            "users": self.users,
            "contexts": self.contexts,
            "current-context": self.current,
        });
        serde_json::to_string_pretty(&document)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string())
    }
}

fn context(one: &Choice<'_>) -> String {
    format!("{}@{}", one.role.role, one.cluster)
}

/// `ssh` itself. One connection is kept for ten minutes, so that each kubectl costs a channel and no login.
fn plugin(config: &Config, one: &Choice<'_>) -> Value {
    let advertise = &config.bastion.advertise;
    // In full: another cluster in the configuration must not change what a kubeconfig means.
    let login = format!("{}+{}", one.role.role, one.cluster);
    json!({
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Never",
        "command": "ssh",
        "args": [
            "-o", "BatchMode=yes",
            "-o", "ControlMaster=auto",
            "-o", "ControlPath=~/.ssh/bastion-%C",
            "-o", "ControlPersist=10m",
            "-p", advertise.port.to_string(),
            "-l", login,
            advertise.host,
            "bastion", "credential",
        ],
    })
}
