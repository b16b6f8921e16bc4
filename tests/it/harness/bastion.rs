//! A real daemon on a free loopback port, in front of the shared control plane.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::ControlPlane;

/// How long anything here may take before a test fails rather than hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long one command over ssh may take before the test fails rather than hangs.
const LONGEST_COMMAND: Duration = Duration::from_secs(120);

/// A running daemon. Killed, and its files removed, when dropped.
pub(crate) struct Bastion {
    dir: tempfile::TempDir,
    child: Option<Child>,
    port: u16,
    stderr: PathBuf,
    log_filter: &'static str,
    /// What the daemon is started by, if not as this process's own user: a script that runs its arguments.
    started_by: Option<&'static str>,
}

/// The daemon's OS user where that is not root: one that this machine need not know.
const ORDINARY: u32 = 64_123;
/// Runs its arguments as that.
const AS_ORDINARY: &str = r#"exec setpriv --reuid=64123 --regid=64123 --clear-groups "$@""#;
/// The same, where no user namespace can be made: in one that allows no other.
const WITHOUT_NAMESPACES: &str = r#"
    (until [ "$(readlink /proc/$$/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.02; done
     echo '0 0 65536' > /proc/$$/uid_map; echo '0 0 65536' > /proc/$$/gid_map) &
    exec unshare --user --keep-caps sh -c '
        until grep -q . /proc/self/uid_map && grep -q . /proc/self/gid_map; do sleep 0.02; done
        echo 0 > /proc/sys/user/max_user_namespaces
        exec setpriv --reuid=64123 --regid=64123 --clear-groups "$@"' sh "$@""#;

/// The people that every test configuration knows, each with a key of its own.
pub(crate) const PEOPLE: &[&str] = &[
    "operator-a",
    "operator-b",
    "operator-c",
    "auditor-a",
    "nobody-a",
];

impl Bastion {
    /// One with the standard documents for all tests that neither stop nor reconfigure it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Bastion> = OnceLock::new();
        SHARED.get_or_init(|| {
            let bastion = Self::start();
            bastion.outlive_nobody();
            bastion
        })
    }

    /// One whose daemon is root, or whoever runs the tests, and one whose daemon is an ordinary OS user: what a sandbox promises
    /// holds with both.
    pub(crate) fn each() -> Vec<&'static Self> {
        static ORDINARY: OnceLock<Bastion> = OnceLock::new();
        let mut all = vec![Self::shared()];
        if rustix::process::geteuid().is_root() {
            all.push(ORDINARY.get_or_init(|| {
                let mut bastion = Self::prepare(|documents| documents);
                bastion.is_ordinary(AS_ORDINARY);
                bastion.run();
                bastion.outlive_nobody();
                bastion
            }));
        }
        all
    }

    /// From the next start on it runs as an ordinary OS user, who owns its files, and can make no user namespace.
    pub(crate) fn has_no_namespaces(&mut self) {
        self.is_ordinary(WITHOUT_NAMESPACES);
    }

    /// From the next start on nothing can be written to its log.
    pub(crate) fn has_a_full_log(&mut self) {
        self.has_a_program();
        self.started_by = Some(r#"exec "$@" 2>/dev/full"#);
    }

    /// A copy where sandboxes can be shown it.
    pub(crate) fn has_a_program(&self) {
        let program = self.path().join("bin/bastion-audit");
        std::fs::hard_link(env!("CARGO_BIN_EXE_bastion-audit"), &program)
            .or_else(|_| std::fs::copy(env!("CARGO_BIN_EXE_bastion-audit"), &program).map(drop))
            .unwrap();
    }

    fn is_ordinary(&mut self, started_by: &'static str) {
        // Where that user can reach it.
        self.has_a_program();
        // The cluster's own is in a directory of root's.
        let kubeconfig = self.path().join("test.kubeconfig");
        let cluster = std::fs::read_to_string(&kubeconfig).unwrap();
        let (before, rest) = cluster.split_once("certificate-authority: \"").unwrap();
        let (authority, after) = rest.split_once('"').unwrap();
        std::fs::copy(authority, self.path().join("ca.crt")).unwrap();
        let own = format!("{before}certificate-authority: \"ca.crt\"{after}");
        std::fs::write(&kubeconfig, own).unwrap();
        let owner = format!("{ORDINARY}:{ORDINARY}");
        let mine = [
            "keys/host",
            "test.kubeconfig",
            "ca.crt",
            "bastion.yaml",
            "keys",
            "",
        ];
        let status = Command::new("chown")
            .arg(owner)
            .args(mine.map(|name| self.path().join(name)))
            .status();
        assert!(status.unwrap().success());
        self.started_by = Some(started_by);
    }

    /// With the standard documents: operator-a is a viewer by default and an editor by name, operator-b an
    /// editor who may have credentials, operator-c holds no role, auditor-a sees operator-a's sessions.
    pub(crate) fn start() -> Self {
        Self::with(|documents| documents)
    }

    /// With the standard documents changed by `edit` before the start.
    pub(crate) fn with(edit: impl FnOnce(String) -> String) -> Self {
        let mut bastion = Self::prepare(edit);
        bastion.run();
        bastion
    }

    /// Everything written, nothing started.
    pub(crate) fn prepare(edit: impl FnOnce(String) -> String) -> Self {
        let plane = ControlPlane::shared();
        // Sessions run under OS uids of their own: they must be able to pass.
        let dir = tempfile::Builder::new()
            .prefix("ba-")
            .permissions(std::fs::Permissions::from_mode(0o711))
            .tempdir()
            .unwrap();
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.path().join("keys"))
            .unwrap();
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(dir.path().join("bin"))
            .unwrap();
        for name in PEOPLE.iter().chain(&["host"]) {
            keygen(&dir.path().join("keys").join(name), name);
        }
        let host = std::fs::read_to_string(dir.path().join("keys/host.pub")).unwrap();
        std::fs::write(dir.path().join("known_hosts"), format!("bastion {host}")).unwrap();
        let kubectl = dir.path().join("bin/kubectl");
        let program = plane.kubectl_path().canonicalize().unwrap();
        std::fs::hard_link(&program, &kubectl)
            .or_else(|_| std::fs::copy(&program, &kubectl).map(drop))
            .unwrap();
        std::fs::copy(
            plane.bastion_kubeconfig(),
            dir.path().join("test.kubeconfig"),
        )
        .unwrap();
        std::fs::set_permissions(
            dir.path().join("test.kubeconfig"),
            std::fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        let bastion = Self {
            stderr: dir.path().join("daemon.log"),
            dir,
            child: None,
            port: 0,
            log_filter: "bastion_audit=trace,info",
            started_by: None,
        };
        bastion.write_config(&edit(bastion.standard_documents()));
        bastion
    }

    fn standard_documents(&self) -> String {
        let key = |name: &str| {
            let path = self.dir.path().join("keys").join(format!("{name}.pub"));
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        };
        format!(
            r#"apiVersion: bastion-audit.dev/v1alpha1
kind: Bastion
metadata: {{name: test}}
spec:
  listen: 127.0.0.1:0
  advertise: bastion.test:22
  hostKeys: [keys/host]
  stateDir: state
  limits: {{drain: 5s}}
  admission: {{exempt: [127.0.0.0/8]}}
  sandbox: {{tools: [bin/kubectl]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Cluster
metadata: {{name: prod, labels: {{env: prod}}}}
spec: {{kubeconfig: test.kubeconfig}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator-a}}
spec:
  groups: [sre]
  keys: ["{a}"]
  defaultRole: viewer
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator-b}}
spec: {{groups: [platform], keys: ["{b}"]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: operator-c}}
spec: {{keys: ["{c}"]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Identity
metadata: {{name: auditor-a}}
spec: {{groups: [audit], keys: ["{auditor}"]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: viewer}}
spec:
  kubernetes:
    clusters: [prod]
    serviceAccount: {{namespace: bastion-viewer, name: viewer}}
  credentialTtl: 10m
  maxSession: 1h
  sessions: [shell, exec]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: editor}}
spec:
  kubernetes:
    clusters: [prod]
    serviceAccount: {{namespace: bastion-editor, name: editor}}
  credentialTtl: 10m
  sessions: [shell, exec, credential]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Role
metadata: {{name: auditor}}
spec:
  audit: {{clusters: ["*"], identities: [operator-a]}}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: sre-viewers}}
spec:
  subjects: [{{group: sre}}]
  roles: [viewer, editor]
  reason: on call
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: platform-editors}}
spec:
  subjects: [{{group: platform}}]
  roles: [editor]
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: auditors}}
spec:
  subjects: [{{identity: auditor-a}}]
  roles: [auditor]
"#,
            a = key("operator-a"),
            b = key("operator-b"),
            c = key("operator-c"),
            auditor = key("auditor-a"),
        )
    }

    /// Where everything of this daemon lies.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.dir.path().join("bastion.yaml")
    }

    pub(crate) fn config(&self) -> String {
        std::fs::read_to_string(self.config_path()).unwrap()
    }

    /// Replaces the configuration the way editors do: a new file, renamed.
    pub(crate) fn write_config(&self, documents: &str) {
        let new = self.dir.path().join(".bastion.yaml.new");
        std::fs::write(&new, documents).unwrap();
        std::fs::rename(new, self.config_path()).unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Clients are to use a daemon that runs in this process.
    pub(crate) fn served_at(&mut self, port: u16) {
        self.port = port;
    }

    /// Starts the daemon and waits until it serves.
    pub(crate) fn run(&mut self) {
        let mut child = self.spawn();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let Some(Ok(line)) = lines.next() else {
            child.wait().unwrap();
            panic!("the daemon did not start:\n{}", self.log());
        };
        self.port = line.rsplit(':').next().unwrap().parse().unwrap();
        self.child = Some(child);
    }

    /// Nothing is dropped when a test process ends: somebody else ends the daemon and removes its files then.
    pub(crate) fn outlive_nobody(&self) {
        // A sandbox ends with its daemon, but not before it.
        let script = r#"cat; kill -KILL "$1"; sleep 1; rm -rf "$2""#;
        let mut heir = Command::new("setsid")
            .args(["--fork", "sh", "-c", script, "heir"])
            .arg(self.pid().to_string())
            .arg(self.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // Closed by the kernel when this process ends, however it does.
        std::mem::forget(heir.stdin.take());
        heir.wait().unwrap();
    }

    /// Starts a daemon on this configuration, whatever becomes of it.
    pub(crate) fn spawn(&self) -> Child {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.stderr)
            .unwrap();
        // Somebody forgot a file that is open. No sandbox may get it.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"exec 9< "$0"; exec "$@""#])
            .arg(self.dir.path().join("keys/host"));
        match self.started_by {
            Some(script) => command
                .args(["sh", "-c", script, "sh"])
                .arg(self.path().join("bin/bastion-audit")),
            None => command.arg(env!("CARGO_BIN_EXE_bastion-audit")),
        };
        command
            .args(["serve", "--config"])
            .arg(self.config_path())
            .env("RUST_LOG", self.log_filter)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// From the next start on everything is logged, what other crates say of each packet included.
    pub(crate) fn log_everything(&mut self) {
        self.log_filter = "trace";
    }

    /// Everything that the daemon has logged.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.pid().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for the daemon's end.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the daemon did not end:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and the wait for its end.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// A command line of ours on this daemon's configuration.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        let (word, rest) = args.split_first().unwrap();
        Command::new(env!("CARGO_BIN_EXE_bastion-audit"))
            .args([word, "--config"])
            .arg(self.config_path())
            .args(rest)
            .output()
            .unwrap()
    }

    /// All audit events so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text =
            std::fs::read_to_string(self.state_dir().join("audit.jsonl")).unwrap_or_default();
        // While the daemon writes a line, what of it is on the first page can be read already.
        let written = text.rfind('\n').map_or("", |end| &text[..=end]);
        written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for an event that `wanted` likes.
    pub(crate) fn event(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("audit event {name}"), || {
            self.events()
                .into_iter()
                .find(|event| event["event"] == name && wanted(event))
        })
    }

    /// A stock `ssh` as one of [`PEOPLE`], asking for `login`.
    pub(crate) fn ssh(&self, who: &str, login: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &self.port.to_string()]);
        for option in self.ssh_options(who) {
            command.args(["-o", &option]);
        }
        command.arg(format!("{login}@127.0.0.1"));
        command
    }

    /// `SHA256:...` of somebody's key.
    pub(crate) fn fingerprint(&self, who: &str) -> String {
        let key = self.dir.path().join("keys").join(format!("{who}.pub"));
        let listed = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(key)
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        listed.split(' ').nth(1).unwrap().to_owned()
    }

    /// What makes a stock client use this daemon and one key only.
    pub(crate) fn ssh_options(&self, who: &str) -> Vec<String> {
        let known_hosts = self.dir.path().join("known_hosts");
        let key = self.dir.path().join("keys").join(who);
        vec![
            format!("IdentityFile={}", key.display()),
            "IdentitiesOnly=yes".into(),
            "IdentityAgent=none".into(),
            "BatchMode=yes".into(),
            "StrictHostKeyChecking=yes".into(),
            // The port changes with each start.
            "HostKeyAlias=bastion".into(),
            format!("UserKnownHostsFile={}", known_hosts.display()),
            "LogLevel=ERROR".into(),
        ]
    }

    /// Runs one command over ssh to its end.
    pub(crate) fn run_ssh(&self, who: &str, login: &str, command: &str) -> Ran {
        let output = Command::new("timeout")
            .arg(LONGEST_COMMAND.as_secs().to_string())
            .arg("ssh")
            .args(self.ssh(who, login).get_args())
            .arg(command)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_ne!(output.status.code(), Some(124), "{command}: no end");
        Ran::from(output)
    }
}

impl Drop for Bastion {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        if std::thread::panicking() {
            eprintln!("--- the daemon's log ends:\n{}", tail(&self.log(), 60));
        }
    }
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }
    }
}

/// Asks again until there is an answer, for as long as [`PATIENCE`] goes.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("TRACE") && !line.contains("DEBUG"))
        .collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn keygen(path: &Path, comment: &str) {
    let output = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Reads a stream to its end in the background.
pub(crate) fn drain(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    })
}
