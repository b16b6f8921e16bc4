//! Grants as the daemon makes them: from a configuration and a proven identity.

use std::path::Path;

use bastion_audit::config::{self, Config, SessionKind};
use bastion_audit::identity::identify;
use bastion_audit::messages::{Offer, Peer};
use bastion_audit::policy::{self, Grant};
use jiff::Timestamp;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

/// One identity, `operator-a`, that may take one role on the cluster `prod`: the ServiceAccount ROLE in `bastion-ROLE`.
pub(crate) fn config(kubeconfig: &Path, role: &str) -> Config {
    let text = format!(
        r#"
apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {{name: it}}
spec: {{listen: "127.0.0.1:2222", advertise: "bastion.example.com:22", hostKeys: [host], stateDir: state}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: prod}}
spec: {{kubeconfig: "{}"}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator-a}}
spec: {{keys: ["{KEY}"]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: {role}}}
spec:
  kubernetes: {{clusters: [prod], serviceAccount: {{namespace: bastion-{role}, name: {role}}}}}
  credentialTtl: 10m
  maxSession: 8h
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: only}}
spec: {{subjects: [{{identity: operator-a}}], roles: [{role}]}}
"#,
        kubeconfig.display()
    );
    config::parse(Path::new("/nowhere/config.yaml"), &text)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// What `operator-a` is granted by [`config`].
pub(crate) fn grant(config: &Config, now: Timestamp) -> Grant {
    let offer = Offer {
        principal: "operator-a".into(),
        public_key: KEY.into(),
        certificate: None,
        algorithm: "ssh-ed25519".into(),
    };
    let peer = Peer {
        address: "127.0.0.1:50000".parse().unwrap(),
        client: String::new(),
    };
    let identity = identify(config, &offer, &peer, now).unwrap();
    let request = policy::Request {
        principal: "operator-a".into(),
        kind: SessionKind::Credential,
    };
    let circumstances = policy::Circumstances {
        now,
        from: peer.address.ip(),
        open: &[],
    };
    policy::decide(config, &identity, &request, circumstances)
        .unwrap_or_else(|denial| panic!("{denial}"))
}
