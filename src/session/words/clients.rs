//! What goes into files on the operator's side: an ssh `Host` block, a kubeconfig.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::{Config, SessionKind};
use crate::monitor::Monitor;
use crate::policy;
use crate::session::Caller;

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
    for one in choices(&policy::available(config, &caller.identity, now)) {
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

/// A kubeconfig with a context for each role and cluster whose credential plugin is a stock `ssh`.
pub(super) async fn kubeconfig(
    monitor: &Monitor,
    config: &Config,
    caller: &Caller,
    now: Timestamp,
) -> Result<String, String> {
    let available = policy::available(config, &caller.identity, now);
    let mut allowed = choices(&available);
    allowed.retain(|one| one.role.gives.kinds().contains(&SessionKind::Credential));
    let Some(first) = allowed
        .iter()
        .find(|one| one.role.is_default)
        .or(allowed.first())
    else {
        return Err("none of your roles hands out credentials; \
             run kubectl here instead: `ssh HOST kubectl ...`"
            .into());
    };
    let mut clusters: Vec<Value> = Vec::new();
    let mut users = Vec::new();
    let mut contexts = Vec::new();
    for one in &allowed {
        let server = monitor
            .leases
            .endpoint(one.cluster)
            .await
            .map_err(|error| format!("cluster {}: {}", one.cluster, error.for_operator()))?;
        let context = context(one);
        if !clusters
            .iter()
            .any(|cluster| cluster["name"] == one.cluster.as_str())
        {
            clusters.push(json!({ "name": one.cluster, "cluster": server.kubeconfig_cluster() }));
        }
        users.push(json!({ "name": context, "user": {"exec": plugin(config, one)} }));
        contexts
            .push(json!({ "name": context, "context": {"cluster": one.cluster, "user": context} }));
    }
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": clusters,
        "users": users,
        "contexts": contexts,
        "current-context": context(first),
    });
    serde_json::to_string_pretty(&document)
        .map(|text| text + "\n")
        .map_err(|error| error.to_string())
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
