//! An authority made by `ssh-keygen`, and people who have nothing but its certificates.

use std::path::PathBuf;
use std::process::Command;

use super::bastion::Bastion;
use super::tunnel::with_tunnels;

/// What a configuration says of the authority corp, from `keysFile` on.
pub(crate) const CORP: &str = "keysFile: keys/corp.pub
  revoked: corp.krl
  identities: [{listed: true}, {principalSuffix: '@example.com'}]
  groups: [{extension: groups@example.com}]
";

/// A daemon that trusts the authority corp, whose group ops may view; tunnels are allowed. Not started yet.
pub(crate) fn prepare() -> Bastion {
    let bastion = Bastion::prepare(with_tunnels);
    for name in ["corp", "other"] {
        keygen(&bastion, name);
    }
    revoke(&bastion, "");
    let documents = bastion.config()
        + &format!(
            "---
apiVersion: bastion-audit.dev/v1alpha1
kind: CertificateAuthority
metadata: {{name: corp}}
spec:
  {CORP}---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: corp-ops}}
spec: {{subjects: [{{group: 'ca/corp:ops'}}], roles: [viewer]}}
"
        );
    bastion.write_config(&documents);
    bastion
}

/// The same, serving.
pub(crate) fn start() -> Bastion {
    let mut bastion = prepare();
    bastion.run();
    bastion
}

/// Makes a new key for `who`, and has `authority` certify it as `ssh-keygen -s` is told by `options`.
pub(crate) fn certify(bastion: &Bastion, authority: &str, who: &str, options: &[&str]) -> PathBuf {
    keygen(bastion, who);
    let keys = bastion.path().join("keys");
    succeed(
        Command::new("ssh-keygen")
            .args(["-q", "-I", who, "-s"])
            .arg(keys.join(authority))
            .args(options)
            .arg(keys.join(format!("{who}.pub"))),
    );
    keys.join(format!("{who}-cert.pub"))
}

/// Replaces what corp has taken back by what `ssh-keygen -k` makes of `spec` (`serial: 7`, `key: ssh-ed25519 ...`).
pub(crate) fn revoke(bastion: &Bastion, spec: &str) {
    let spec_file = bastion.path().join("revoked.spec");
    std::fs::write(&spec_file, spec).unwrap();
    let new = bastion.path().join("corp.krl.new");
    succeed(
        Command::new("ssh-keygen")
            .args(["-q", "-k", "-f"])
            .arg(&new)
            .arg("-s")
            .arg(bastion.path().join("keys/corp.pub"))
            .arg(&spec_file),
    );
    std::fs::rename(new, bastion.path().join("corp.krl")).unwrap();
}

fn keygen(bastion: &Bastion, name: &str) {
    let path = bastion.path().join("keys").join(name);
    succeed(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(path),
    );
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
