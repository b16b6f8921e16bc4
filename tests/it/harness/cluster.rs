//! A real control plane, once for the whole test run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

/// etcd, kube-apiserver, kube-controller-manager and a kubelet stand-in. They end with this process: `test-cluster`
/// ends when its standard input does.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    directory: PathBuf,
    server: String,
    kubeconfig: PathBuf,
    ca: PathBuf,
    audit_log: PathBuf,
    kubectl: PathBuf,
    bastion: OnceLock<PathBuf>,
    roles: Mutex<Vec<String>>,
    _process: Child,
    _stdin: ChildStdin,
    // Kept open: a closed pipe would end the process at its next line.
    _stdout: BufReader<ChildStdout>,
}

impl ControlPlane {
    /// The one of this test process. The first call builds what is not built yet, which takes minutes, and starts it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of the caller's own.
    pub fn start() -> Self {
        let directory = fresh_directory();
        let build = Command::new(crate_root().join("tests/cluster/build.sh"))
            .stderr(Stdio::inherit())
            .output()
            .expect("tests/cluster/build.sh starts");
        assert!(build.status.success(), "tests/cluster/build.sh failed");
        let assets = PathBuf::from(String::from_utf8(build.stdout).unwrap().trim());
        let mut process = Command::new(assets.join("test-cluster"))
            .args(["up", "--stdin-eof", "--dir"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("test-cluster starts");
        let stdin = process.stdin.take().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("test-cluster did not come up; see {}", directory.display())
        });
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self {
            server: text("server"),
            kubeconfig: text("kubeconfig").into(),
            ca: text("ca").into(),
            audit_log: text("auditLog").into(),
            kubectl: text("kubectl").into(),
            directory,
            bastion: OnceLock::new(),
            roles: Mutex::default(),
            _process: process,
            _stdin: stdin,
            _stdout: stdout,
        }
    }

    /// Ends it and waits until all of it is gone.
    #[allow(
        dead_code,
        reason = "the benchmarks end theirs, the tests' ends with them"
    )]
    pub fn stop(self) {
        let Self {
            _process: mut process,
            _stdin: stdin,
            ..
        } = self;
        drop(stdin);
        process.wait().unwrap();
    }

    /// The API server's URL.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The API server's port on loopback.
    pub(crate) fn port(&self) -> u16 {
        let (_, port) = self.server.rsplit_once(':').unwrap();
        port.parse().unwrap()
    }

    /// Where its files lie: what its components name relatively.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The authority of the API server's certificate, PEM.
    pub(crate) fn ca(&self) -> &Path {
        &self.ca
    }

    /// The cluster administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The kubectl of the same version.
    pub(crate) fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// kubectl as the cluster's administrator.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Output {
        self.kubectl_as(&self.kubeconfig, args, "")
    }

    /// kubectl as whoever the kubeconfig says, with something on standard input.
    pub(crate) fn kubectl_as(&self, kubeconfig: &Path, args: &[&str], stdin: &str) -> Output {
        let mut kubectl = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(args)
            // Its discovery cache is for one user; many tests run at once.
            .env("HOME", &self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = kubectl.stdin.take().unwrap();
        // A kubectl that reads no input closes it.
        drop(pipe.write_all(stdin.as_bytes()));
        drop(pipe);
        kubectl.wait_with_output().unwrap()
    }

    /// kubectl as the administrator, which must work; its standard output.
    pub(crate) fn admin(&self, args: &[&str]) -> String {
        succeeded(self.kubectl(args), args)
    }

    /// `kubectl apply` as the administrator.
    pub(crate) fn apply(&self, yaml: &str) {
        let args = ["apply", "-f", "-"];
        succeeded(self.kubectl_as(&self.kubeconfig, &args, yaml), &args);
    }

    /// A kubeconfig (mode 0600) that presents a bearer token.
    pub(crate) fn token_kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let path = self.directory.join(format!("{name}.kubeconfig"));
        let text = format!(
            r#"apiVersion: v1
kind: Config
current-context: it
clusters: [{{name: it, cluster: {{server: "{}", certificate-authority: "{}"}}}}]
users: [{{name: it, user: {{token: "{token}"}}}}]
contexts: [{{name: it, context: {{cluster: it, user: it}}}}]
"#,
            self.server,
            self.ca.display(),
        );
        write_private(&path, &text);
        path
    }

    /// What an administrator does once for each cluster: applies examples/deploy, and makes the bastion's own kubeconfig.
    pub(crate) fn bastion_kubeconfig(&self) -> &Path {
        self.bastion.get_or_init(|| {
            let deploy = crate_root().join("examples/deploy");
            self.admin(&["apply", "-f", deploy.to_str().unwrap()]);
            let token = self.admin(&[
                "create",
                "token",
                "bastion",
                "-n",
                "bastion-audit",
                "--duration",
                "24h",
            ]);
            self.wait_for_policies("bastion-viewer");
            self.token_kubeconfig("bastion", token.trim())
        })
    }

    /// A role namespace of the test's own, `bastion-NAME` with the ServiceAccount NAME: examples/deploy/role-viewer.yaml
    /// under another name.
    pub(crate) fn role(&self, name: &str) {
        self.bastion_kubeconfig();
        let mut roles = self.roles.lock().unwrap();
        if roles.iter().any(|there| there == name) {
            return;
        }
        let viewer = std::fs::read_to_string(crate_root().join("examples/deploy/role-viewer.yaml"));
        self.apply(&viewer.unwrap().replace("viewer", name));
        self.wait_for_policies(&format!("bastion-{name}"));
        roles.push(name.to_owned());
    }

    /// Policies and RBAC are watched by the API server: in force some tenths of a second after they are applied.
    fn wait_for_policies(&self, namespace: &str) {
        let began = Instant::now();
        loop {
            let secret = [
                "create",
                "secret",
                "generic",
                "no-session",
                "--dry-run=server",
                "-n",
                namespace,
            ];
            if !self.kubectl(&secret).status.success() {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "no policy in {namespace}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The API server's audit events so far.
    pub(crate) fn audit_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.audit_log).unwrap();
        // The last line may be in the middle of being written.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// The package's directory.
pub(crate) fn crate_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn succeeded(output: Output, args: &[&str]) -> String {
    assert!(
        output.status.success(),
        "kubectl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// One for this process; those of processes that are no more are removed.
fn fresh_directory() -> PathBuf {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(parent).unwrap();
    for entry in std::fs::read_dir(parent).unwrap().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("cluster-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
    let directory = parent.join(format!("cluster-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    directory
}
