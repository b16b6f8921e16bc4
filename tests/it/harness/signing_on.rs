//! A stock ssh that is given a link to sign in by, and a certified provider.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use super::bastion::{Bastion, Ran, drain, eventually};
use super::browser::Page;
use super::cluster::write_private;
use super::running::with_argument;
use super::tls::{Validity, certificates};

/// oidc-provider of npm, on loopback. Ends when dropped.
pub(crate) struct Provider {
    child: Child,
    _stdin: ChildStdin,
    pub(crate) issuer: String,
}

impl Provider {
    fn start(directory: &Path, callback: &str) -> Self {
        let modules = crate::clients::client("node");
        // Where node looks for what is imported: beside the program.
        let program = modules.parent().unwrap().join("provider.js");
        let mut child = Command::new("node")
            .arg(program)
            .arg(directory.join("leaf.key"))
            .arg(directory.join("leaf.crt"))
            .arg(callback)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut issuer = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut issuer).unwrap();
        let issuer = issuer.trim().to_owned();
        assert!(issuer.starts_with("https://"), "no provider: {issuer}");
        Self {
            _stdin: child.stdin.take().unwrap(),
            child,
            issuer,
        }
    }

    /// It is down.
    pub(crate) fn stop(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A daemon that is not started yet, with the provider `corp`, of which `spec` says more. Jane is in the group sre there, which has the role viewer; the role
/// editor requires its word.
pub(crate) fn prepared(spec: &str) -> (Bastion, Provider) {
    let port = free_port();
    let public = format!("https://127.0.0.1:{port}");
    let bastion = Bastion::prepare(|documents| {
        let documents = documents
            .replacen(
                "  stateDir: state\n",
                &format!(
                    "  stateDir: state\n  login: {{listen: '127.0.0.1:{port}', certificate: leaf.crt, key: leaf.key, publicUrl: '{public}'}}\n"
                ),
                1,
            )
            .replace(
                "sessions: [shell, exec, credential]",
                "sessions: [shell, exec, credential]\n  require: [oidc]",
            );
        format!("{documents}{}", of_provider("https://issuer.test", spec))
    });
    certificates(bastion.path(), Validity::Valid);
    let key = bastion.path().join("leaf.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    write_private(
        &bastion.path().join("client-secret"),
        "s3cret-of-the-client\n",
    );
    let provider = Provider::start(bastion.path(), &format!("{public}/callback/corp"));
    let documents = bastion.config();
    bastion.write_config(&documents.replace("https://issuer.test", &provider.issuer));
    (bastion, provider)
}

/// The same, and the role editor has opted in to the provider's device flow.
pub(crate) fn opted_in(spec: &str) -> (Bastion, Provider) {
    let (bastion, provider) = prepared(spec);
    let documents = bastion.config();
    let changed = documents.replace("require: [oidc]", "require: [oidc]\n  deviceFlow: corp");
    assert_ne!(changed, documents);
    bastion.write_config(&changed);
    (bastion, provider)
}

fn of_provider(issuer: &str, spec: &str) -> String {
    format!(
        r#"---
apiVersion: bastion-audit.dev/v1alpha1
kind: IdentityProvider
metadata: {{name: corp}}
spec:
  issuer: {issuer}
  certificateAuthority: ca.crt
  scopes: [groups]
  groupsClaim: groups
  usernameClaim: preferred_username
  {spec}
---
apiVersion: bastion-audit.dev/v1alpha1
kind: Binding
metadata: {{name: signed-on}}
spec: {{subjects: [{{group: "oidc/corp:sre"}}], roles: [viewer]}}
"#
    )
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A stock ssh at which somebody sits who types what a browser shows.
pub(crate) struct Signing {
    client: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    desk: tempfile::TempDir,
    prompts: usize,
}

impl Drop for Signing {
    fn drop(&mut self) {
        // Whoever still asks finds that the desk is gone.
        drop(self.client.kill());
        drop(self.client.wait());
    }
}

const ASKPASS: &str = r#"#!/bin/sh
n=$(ls "$DESK" | grep -c '^prompt')
printf '%s' "$1" > "$DESK/.prompt"; mv "$DESK/.prompt" "$DESK/prompt$n"
until [ -e "$DESK/typed$n" ]; do [ -d "$DESK" ] || exit 1; sleep 0.05; done
cat "$DESK/typed$n"
"#;

impl Signing {
    pub(crate) fn start(bastion: &Bastion, who: &str, login: &str, command: &str) -> Self {
        let desk = tempfile::tempdir().unwrap();
        let askpass = desk.path().join("askpass");
        std::fs::write(&askpass, ASKPASS).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&askpass, mode).unwrap();
        let ssh = with_argument(&bastion.ssh(who, login), "BatchMode=yes", "BatchMode=no");
        // As people have it: they are told what is no prompt, too.
        let ssh = with_argument(&ssh, "LogLevel=ERROR", "LogLevel=INFO");
        let mut client = Command::new("ssh")
            .args(ssh.get_args())
            .arg(command)
            .env("SSH_ASKPASS", askpass)
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("DESK", desk.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdout: client.stdout.take().map(drain),
            stderr: client.stderr.take().map(drain),
            client,
            desk,
            prompts: 0,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.desk.path().join(format!("{name}{}", self.prompts))
    }

    /// What it asks now.
    pub(crate) fn prompt(&self) -> String {
        eventually("a prompt", || {
            std::fs::read_to_string(self.file("prompt")).ok()
        })
    }

    /// The link in it.
    pub(crate) fn link(&self) -> String {
        let prompt = self.prompt();
        let words = prompt.split(' ').find(|word| word.starts_with("https://"));
        words.unwrap_or_else(|| panic!("{prompt}")).to_owned()
    }

    /// The code to be typed at a provider, and where.
    pub(crate) fn code(&self) -> (String, String) {
        let prompt = self.prompt();
        let rest = prompt.split("Type the code ").nth(1);
        let rest = rest.unwrap_or_else(|| panic!("{prompt}"));
        let (code, rest) = rest.split_once(" at ").unwrap();
        let at = rest.split(' ').next().unwrap();
        (code.to_owned(), at.to_owned())
    }

    /// Asks for such a code instead of the link, and lets nobody wait for it yet.
    pub(crate) fn wants_code(&mut self) -> (String, String) {
        assert!(self.prompt().contains("Enter alone"), "{}", self.prompt());
        self.types("");
        self.code()
    }

    pub(crate) fn types(&mut self, text: &str) {
        self.prompt();
        let draft = self.desk.path().join(".typed");
        std::fs::write(&draft, format!("{text}\n")).unwrap();
        std::fs::rename(draft, self.file("typed")).unwrap();
        self.prompts += 1;
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ran {
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let status = eventually("the end of ssh", || self.client.try_wait().unwrap());
        let text = |stream: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&stream.unwrap().join().unwrap()).into_owned()
        };
        Ran {
            stdout: text(stdout),
            stderr: text(stderr),
            code: status.code(),
        }
    }

    /// Types the code of that page, and waits.
    pub(crate) fn finish(mut self, page: &Page) -> Ran {
        let code = page.code().unwrap_or_else(|| panic!("no code: {page:?}"));
        self.types(&code);
        self.wait()
    }
}
