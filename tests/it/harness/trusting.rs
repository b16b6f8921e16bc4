//! A second API server, which knows one bastion's issuer and gives it no right: on the shared etcd, under a prefix of its own.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::bastion::{Bastion, eventually};
use super::cluster::{ControlPlane, write_private};
use super::tls::{Validity, certificates};

/// Seconds: the shortest there is.
pub(crate) const TTL: i64 = 120;

/// The bastion, and the API server that trusts it.
pub(crate) struct Trusting {
    pub(crate) bastion: Bastion,
    pub(crate) issuer: String,
    directory: PathBuf,
    server: String,
    admin: PathBuf,
}

impl Trusting {
    /// The one of this test process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Trusting> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let plane = ControlPlane::shared();
        let directory = plane.directory().join("trusting");
        std::fs::create_dir_all(&directory).unwrap();
        let port = free_port(32_000);
        let issuer_port = free_port(port + 1);
        let server = format!("https://127.0.0.1:{port}");
        let issuer = format!("https://127.0.0.1:{issuer_port}");
        let bastion = bastion(&server, issuer_port, plane.ca());
        let told = issuer_word(&bastion, "authentication-config", "own");
        std::fs::write(directory.join("authentication.yaml"), told).unwrap();
        let admin = std::fs::read_to_string(plane.kubeconfig()).unwrap();
        let kubeconfig = directory.join("admin.kubeconfig");
        write_private(&kubeconfig, &admin.replace(plane.server(), &server));
        serve(plane, &directory, port);
        let this = Self {
            bastion,
            issuer,
            directory,
            server,
            admin: kubeconfig,
        };
        eventually("the second API server", || {
            let ready = this.admin(&["get", "--raw", "/readyz"]);
            let namespace = this.admin(&["get", "namespace", "default"]);
            (ready.status.success() && namespace.status.success()).then_some(())
        });
        let applied = plane.kubectl_as(&this.admin, &["apply", "-f", "-"], RBAC);
        assert!(applied.status.success(), "{applied:?}");
        // That the issuer was reached, and that RBAC is in force.
        eventually("a trusted token", || {
            let ran = this.bastion.run_ssh(
                "operator-a",
                "reader+own",
                "kubectl get configmaps >/dev/null && echo yes",
            );
            ran.stdout.contains("yes").then_some(())
        });
        this
    }

    /// kubectl as the cluster's administrator.
    pub(crate) fn admin(&self, args: &[&str]) -> Output {
        ControlPlane::shared().kubectl_as(&self.admin, args, "")
    }

    /// kubectl by whoever holds this token.
    pub(crate) fn by_token(&self, token: &str, args: &[&str]) -> Output {
        let file = tempfile::Builder::new()
            .suffix(".kubeconfig")
            .tempfile_in(&self.directory)
            .unwrap();
        let ca = ControlPlane::shared().ca();
        write_private(
            file.path(),
            &kubeconfig(&self.server, ca, &format!("{{token: \"{token}\"}}")),
        );
        ControlPlane::shared().kubectl_as(file.path(), args, "")
    }

    /// What the API server knows of whoever holds this token; `None` if it refuses it.
    pub(crate) fn whoami(&self, token: &str) -> Option<Value> {
        let output = self.by_token(token, &["auth", "whoami", "-o", "json"]);
        if output.status.success() {
            let review: Value = serde_json::from_slice(&output.stdout).unwrap();
            return Some(review["status"]["userInfo"].clone());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("Unauthorized"), "{stderr}");
        None
    }

    /// The API server's audit events so far.
    pub(crate) fn audit_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.join("audit.log")).unwrap();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// What `bastion credential` gives to somebody: the token.
    pub(crate) fn credential(&self, who: &str, login: &str) -> String {
        let ran = self.bastion.run_ssh(who, login, "bastion credential");
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        document["status"]["token"].as_str().unwrap().to_owned()
    }

    /// A token as a thief of everything that the daemon has signs it.
    pub(crate) fn forged(&self, claims: &Value) -> String {
        let pem = std::fs::read(self.bastion.path().join("keys/issuer-one")).unwrap();
        let der = PrivateKeyDer::from_pem_slice(&pem).unwrap();
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_private_key_der(alg, der.secret_der()).unwrap();
        let header = json!({"alg": "ES256", "typ": "JWT"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What `bastion-audit issuer WORD ARGUMENT` prints.
pub(crate) fn issuer_word(bastion: &Bastion, word: &str, argument: &str) -> Vec<u8> {
    let printed = Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(["issuer", word, "--config"])
        .arg(bastion.config_path())
        .arg(argument)
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    printed.stdout
}

/// One part of a token: 0 its header, 1 its claims.
pub(crate) fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Makes `keys/NAME`.
pub(crate) fn issuer_key(bastion: &Bastion, name: &str, algorithm: &str) {
    let made = Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(["issuer", "new-key", "--algorithm", algorithm])
        .arg(bastion.path().join("keys").join(name))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// `bastion-audit issuer signer` with `keys/NAME` at `NAME.sock`, until it is killed or this process ends; and the key as a
/// configuration names it.
pub(crate) fn issuer_signer(bastion: &Bastion, name: &str, issuer: &str) -> (Child, String) {
    let socket = bastion.path().join(format!("{name}.sock"));
    let mut signer = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .arg(env!("CARGO_BIN_EXE_bastion-audit"))
        .args(["issuer", "signer", "--issuer", issuer, "--key"])
        .arg(bastion.path().join("keys").join(name))
        .arg("--socket")
        .arg(&socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(signer.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let public = line.trim().strip_prefix("bastion-audit: signing with ");
    let public = public.unwrap_or_else(|| panic!("{line}"));
    let named = format!("{{socket: {}, publicKey: {public}}}", socket.display());
    (signer, named)
}

const RBAC: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: read}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: write}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list, create, delete]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'ssh:readers'}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: read}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: writers}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'ssh:writers'}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: write}
---
# No binding of the bastion gives this group to anybody.
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: admins}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: 'ssh:admins'}]
roleRef: {kind: ClusterRole, apiGroup: rbac.authorization.k8s.io, name: cluster-admin}
";

/// A daemon without any credential for its clusters `own` and `other`, which are one API server.
fn bastion(server: &str, issuer_port: u16, ca: &Path) -> Bastion {
    let mut bastion = Bastion::prepare(|documents| {
        let issuer = format!(
            "  issuer:\n    url: https://127.0.0.1:{issuer_port}\n    listen: 127.0.0.1:{issuer_port}\n    \
             certificate: leaf.crt\n    key: leaf.key\n    certificateAuthority: ca.crt\n    \
             signingKeys: [keys/issuer-one]\n    tokenTtl: 2m\n"
        );
        documents.replacen("spec:\n", &format!("spec:\n{issuer}"), 1) + DOCUMENTS
    });
    certificates(bastion.path(), Validity::Valid);
    for (name, algorithm) in [
        ("issuer-one", "ES256"),
        ("issuer-two", "ES256"),
        ("issuer-rsa", "RS256"),
        ("issuer-there", "ES256"),
    ] {
        issuer_key(&bastion, name, algorithm);
    }
    write_private(
        &bastion.path().join("own.kubeconfig"),
        &kubeconfig(server, ca, "{}"),
    );
    bastion.run();
    bastion.outlive_nobody();
    bastion
}

const DOCUMENTS: &str = "---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {name: own}
spec: {kubeconfig: own.kubeconfig, mint: oidcIssuer}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {name: other}
spec: {kubeconfig: own.kubeconfig, mint: oidcIssuer}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: reader}
spec:
  kubernetes: {clusters: [own, other], groups: [readers]}
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: writer}
spec:
  kubernetes: {clusters: [own], groups: [readers, writers]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {name: unbound}
spec:
  kubernetes: {clusters: [own], groups: [admins]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: readers}
spec: {subjects: [{group: sre}, {group: platform}], roles: [reader]}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {name: writers}
spec: {subjects: [{identity: operator-b}], roles: [writer]}
";

fn kubeconfig(server: &str, ca: &Path, user: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Config
current-context: it
clusters: [{{name: it, cluster: {{server: "{server}", certificate-authority: "{}"}}}}]
users: [{{name: it, user: {user}}}]
contexts: [{{name: it, context: {{cluster: it, user: it}}}}]
"#,
        ca.display()
    )
}

/// As `tests/cluster/up` starts the first, but for what is trusted. It ends with this process.
#[allow(
    clippy::zombie_processes,
    reason = "whoever would wait for it is gone when it ends"
)]
fn serve(plane: &ControlPlane, directory: &Path, port: u16) {
    let program = plane.kubectl_path().with_file_name("kube-apiserver");
    let path = |name: &str| directory.join(name).display().to_string();
    let log = std::fs::File::create(directory.join("kube-apiserver.log")).unwrap();
    let mut api_server = Command::new("sh")
        .args(["-c", r#""$@" & cat; kill -KILL $!"#, "heir"])
        .arg(program)
        .args([
            "--etcd-servers=unix://etcd:1",
            "--etcd-prefix=/trusting",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            &format!("--secure-port={port}"),
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--tls-cert-file=pki/apiserver.crt",
            "--tls-private-key-file=pki/apiserver.key",
            "--client-ca-file=ca.crt",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            "--service-account-key-file=pki/sa.key",
            "--service-account-signing-key-file=pki/sa.key",
            "--audit-policy-file=audit-policy.yaml",
            "--audit-log-mode=blocking",
            "--audit-log-maxsize=100000",
            &format!("--audit-log-path={}", path("audit.log")),
            &format!("--authentication-config={}", path("authentication.yaml")),
        ])
        .current_dir(plane.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    // Closed by the kernel when this process ends, however it does.
    std::mem::forget(api_server.stdin.take());
}

/// Below those that the kernel gives to who dials out: nobody takes it meanwhile.
fn free_port(from: u16) -> u16 {
    (from..32_760)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}
