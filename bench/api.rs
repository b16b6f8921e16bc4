//! Three ways to one API server, as one ServiceAccount: through the gateway, directly, and through `kubectl proxy`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::load;
use super::process::{self, Process};
use super::ssh::Target;
use super::stage::Stage;

/// What the rows ask for.
const OBJECTS: &str = include_str!("api.yaml");
/// As many pods as a namespace of a small service has.
const PODS: u32 = 5;
pub(crate) const NAMESPACE: &str = "bench-api";

/// A daemon of its own, and what it is compared with.
#[derive(Debug)]
pub(crate) struct Api<'a> {
    stage: &'a Stage,
    pub(crate) daemon: Daemon,
    pub(crate) proxy: Process,
    editor: Target,
    direct: PathBuf,
    proxied: PathBuf,
}

/// A way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From a session's sandbox, through the gateway, recorded.
    Ours,
    /// From the host.
    Direct,
    /// From the host, through `kubectl proxy`.
    Proxy,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Direct, Self::Proxy];
}

impl<'a> Api<'a> {
    pub(crate) fn start(stage: &'a Stage) -> anyhow::Result<Self> {
        admin(
            stage,
            &["apply", "-f", "-"],
            &(OBJECTS.to_owned() + &pods()),
        )?;
        let ready = [
            "wait",
            "--for=condition=Ready",
            "pod",
            "--all",
            "-n",
            NAMESPACE,
        ];
        admin(stage, &ready, "")?;
        let daemon = stage.daemon()?;
        let editor = Target {
            login: "editor".into(),
            ..daemon.target.clone()
        };
        // What a session as this role has, so that the API server does the same for all three.
        let token = token(&editor)?;
        let ca = STANDARD.encode(std::fs::read(&stage.cluster.ca)?);
        let https = json!({
            "server": stage.cluster.server,
            "certificate-authority-data": ca,
        });
        let direct = kubeconfig(stage, "direct", &https, Some(&token))?;
        let (proxy, url) = proxy(stage, &direct)?;
        let proxied = kubeconfig(stage, "proxied", &json!({"server": url}), None)?;
        Ok(Self {
            stage,
            daemon,
            proxy,
            editor,
            direct,
            proxied,
        })
    }

    /// A load client, to be run: see [`load`].
    pub(crate) fn client(&self, way: Way, arguments: &[String]) -> Command {
        let kubeconfig = match way {
            Way::Ours => {
                let line = std::iter::once(name(&self.stage.load))
                    .chain([load::FLAG.to_owned()])
                    .chain(arguments.iter().map(|argument| format!("'{argument}'")))
                    .collect::<Vec<_>>();
                let mut ssh = self.editor.ssh();
                ssh.arg(line.join(" "));
                return ssh;
            }
            Way::Direct => &self.direct,
            Way::Proxy => &self.proxied,
        };
        let mut client = Command::new(&self.stage.load);
        client
            .arg(load::FLAG)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig);
        client
    }

    /// Runs a load client to its end.
    pub(crate) fn load<T: DeserializeOwned>(
        &self,
        way: Way,
        arguments: &[String],
    ) -> anyhow::Result<T> {
        let printed = process::output(&mut self.client(way, arguments))
            .with_context(|| format!("{way:?}"))?;
        serde_json::from_str(&printed).with_context(|| format!("{way:?} printed {printed:?}"))
    }

    /// kubectl as the administrator.
    pub(crate) fn admin(&self, arguments: &[&str], stdin: &str) -> anyhow::Result<()> {
        admin(self.stage, arguments, stdin)
    }
}

impl Drop for Api<'_> {
    fn drop(&mut self) {
        self.proxy.stop();
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn pods() -> String {
    (0..PODS)
        .map(|number| {
            format!(
                "\n---\n{{apiVersion: v1, kind: Pod, metadata: {{name: pod-{number}, namespace: {NAMESPACE}}}, \
                 spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: main, image: none}}]}}}}\n"
            )
        })
        .collect()
}

/// RBAC reaches the API server's own cache after a moment.
fn token(editor: &Target) -> anyhow::Result<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let said = loop {
        match editor.ask("bastion credential") {
            Ok(said) => break said,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    };
    let said: Value = serde_json::from_str(&said)?;
    let token = said.pointer("/status/token").and_then(Value::as_str);
    Ok(token.context("no token in a credential")?.to_owned())
}

fn kubeconfig(
    stage: &Stage,
    name: &str,
    cluster: &Value,
    token: Option<&str>,
) -> anyhow::Result<PathBuf> {
    let path = stage.dir.join("keys").join(name);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bench", "cluster": cluster}],
        "users": [{"name": "bench", "user": token.map_or(json!({}), |token| json!({"token": token}))}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    });
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}

fn proxy(stage: &Stage, kubeconfig: &Path) -> anyhow::Result<(Process, String)> {
    let process = Process::start(
        Command::new(&stage.kubectl)
            // It lets no exec through of itself.
            .args(["proxy", "--port=0", "--reject-paths=^$", "--kubeconfig"])
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    )?;
    let line = process.first_line().context("kubectl proxy")?;
    let address = line.trim().rsplit(' ').next().unwrap_or_default();
    ensure!(address.contains(':'), "kubectl proxy said {line:?}");
    Ok((process, format!("http://{address}")))
}

fn admin(stage: &Stage, arguments: &[&str], stdin: &str) -> anyhow::Result<()> {
    let mut kubectl = Command::new(&stage.kubectl);
    kubectl
        .arg("--kubeconfig")
        .arg(&stage.cluster.admin_kubeconfig)
        .args(arguments)
        .env("HOME", &stage.dir);
    process::fed(&mut kubectl, stdin)
}
