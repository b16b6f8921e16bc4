//! A command that an operator has running over ssh, and what is left of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::bastion::{Bastion, Ran, drain, eventually};
use super::cluster::{ControlPlane, write_private};
use super::network::Network;

/// A stock ssh with a session that has begun. Killed when dropped.
pub(crate) struct Running {
    /// The session's id.
    pub(crate) id: String,
    client: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Runs `script` after it has told the session's id.
    pub(crate) fn start(bastion: &Bastion, who: &str, login: &str, script: &str) -> Self {
        Self::by(bastion.ssh(who, login), script)
    }

    /// By a client of one's own.
    pub(crate) fn by(mut ssh: Command, script: &str) -> Self {
        let mut client = ssh
            .arg(format!("echo $BASTION_SESSION; {script}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = drain(client.stderr.take().unwrap());
        let mut stdout = BufReader::new(client.stdout.take().unwrap());
        let mut id = String::new();
        stdout.read_line(&mut id).unwrap();
        if id.trim().len() != 26 {
            drop(client.kill());
            client.wait().unwrap();
            let words = stderr.join().unwrap();
            panic!("no session: {id:?} {}", String::from_utf8_lossy(&words));
        }
        Self {
            id: id.trim().to_owned(),
            stdin: client.stdin.take(),
            client,
            stdout: Some(drain(stdout)),
            stderr: Some(stderr),
        }
    }

    /// The pid of the ssh client.
    pub(crate) fn pid(&self) -> u32 {
        self.client.id()
    }

    pub(crate) fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// No more input.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.stdin.take());
    }

    /// Waits for the client's end, its standard input left as it is. What came after the session's id.
    pub(crate) fn wait(mut self) -> Ran {
        let status = eventually("the end of ssh", || self.client.try_wait().unwrap());
        let text = |stream: Option<JoinHandle<Vec<u8>>>| {
            String::from_utf8_lossy(&stream.unwrap().join().unwrap()).into_owned()
        };
        Ran {
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            code: status.code(),
        }
    }

    /// The client is gone from one moment to the next.
    pub(crate) fn kill(&mut self) {
        self.client.kill().unwrap();
        self.client.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.client.kill());
        drop(self.client.wait());
    }
}

impl Bastion {
    /// With the standard documents, and a way to the cluster that can fail.
    pub(crate) fn behind(network: &Network) -> Self {
        let mut bastion = Self::prepare(|documents| documents);
        let path = bastion.path().join("test.kubeconfig");
        let direct = std::fs::read_to_string(&path).unwrap();
        let through = format!("https://127.0.0.1:{}", network.port());
        write_private(
            &path,
            &direct.replace(ControlPlane::shared().server(), &through),
        );
        bastion.run();
        bastion
    }

    /// The directory of a recording.
    pub(crate) fn recording(&self, id: &str) -> Option<PathBuf> {
        let mut found = vec![self.state_dir().join("recordings")];
        for _ in 0..3 {
            found = found
                .iter()
                .filter_map(|dir| std::fs::read_dir(dir).ok())
                .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
                .collect();
        }
        found
            .into_iter()
            .map(|day| day.join(id))
            .find(|path| path.exists())
    }

    /// The manifest of a closed recording.
    pub(crate) fn manifest(&self, id: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.recording(id)?.join("manifest.json")).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The cast as it stands on disk, packed or not.
    pub(crate) fn cast(&self, id: &str) -> String {
        self.stored(id, "session.cast")
    }

    /// The request index as it stands on disk, packed or not.
    pub(crate) fn requests(&self, id: &str) -> String {
        self.stored(id, "requests.jsonl")
    }

    fn stored(&self, id: &str, name: &str) -> String {
        let bytes = eventually(&format!("{name} of {id}"), || {
            let directory = self.recording(id)?;
            // Packed between the two looks, it is found at the next.
            let plain = std::fs::read(directory.join(name)).ok();
            plain.or_else(|| {
                let packed = std::fs::File::open(directory.join(format!("{name}.zst"))).ok()?;
                Some(zstd::decode_all(packed).unwrap())
            })
        });
        String::from_utf8(bytes).unwrap()
    }

    /// Waits until a recording is packed.
    pub(crate) fn packed(&self, id: &str) -> PathBuf {
        // In the background, one after the other: others may be in line, large ones too.
        for _ in 0..1200 {
            if let Some(directory) = self.recording(id)
                && directory.join("session.cast.zst").exists()
            {
                return directory;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{id} is not packed");
    }

    /// Waits until the recording is closed, and answers why the session was cut. Fails if it was not.
    pub(crate) fn cut_reason(&self, id: &str) -> String {
        let manifest = eventually("a sealed recording", || self.manifest(id));
        assert_eq!(manifest["state"], "complete", "{manifest}");
        let reason = manifest["ending"]["cut"]["reason"].as_str();
        reason.unwrap_or_else(|| panic!("{manifest}")).to_owned()
    }

    /// Waits until nothing is left of a session: no process, no Secret, no directory.
    pub(crate) fn nothing_left(&self, id: &str) {
        eventually(&format!("the end of the processes of {id}"), || {
            processes_of(id).is_empty().then_some(())
        });
        eventually(&format!("the end of the Secret of {id}"), || {
            secrets_of(id).is_empty().then_some(())
        });
        let dir = self.state_dir().join("run").join(id);
        eventually("the end of run/ID", || (!dir.exists()).then_some(()));
    }
}

/// What runs in or around a session's sandbox: `PID COMMAND`.
pub(crate) fn processes_of(id: &str) -> Vec<String> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let contains = |bytes: &[u8]| bytes.windows(id.len()).any(|part| part == id.as_bytes());
    processes
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse::<u32>().ok()?;
            let command = std::fs::read(process.path().join("cmdline")).ok()?;
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let shown = String::from_utf8_lossy(&command).replace('\0', " ");
            let bwrap = command.starts_with(b"bwrap") && contains(&command);
            (bwrap || contains(&environment)).then(|| format!("{pid} {shown}"))
        })
        .collect()
}

/// The session's Secrets that the cluster has: one while it is open, none after.
pub(crate) fn secrets_of(id: &str) -> Vec<String> {
    let all = ControlPlane::shared().admin(&["get", "secrets", "-A", "-o", "name"]);
    let id = id.to_lowercase();
    all.lines()
        .filter(|name| name.ends_with(&id))
        .map(str::to_owned)
        .collect()
}

/// The same command with another argument: a stock ssh takes the first of what it is told twice.
pub(crate) fn with_argument(ssh: &Command, from: &str, to: &str) -> Command {
    let mut other = Command::new(ssh.get_program());
    let mut met = false;
    for arg in ssh.get_args() {
        met |= arg == from;
        other.arg(if arg == from { to.as_ref() } else { arg });
    }
    assert!(met, "{from} is not an argument of {ssh:?}");
    other
}
