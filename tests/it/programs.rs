//! The programs that operators use, in a real terminal: what they draw is read off tmux's screen.

use std::process::Command;

use crate::harness::bastion::{Bastion, eventually};

/// A tmux of our own, with an operator's shell in it.
struct Screen {
    _dir: tempfile::TempDir,
    socket: String,
}

impl Screen {
    fn of(bastion: &Bastion, who: &str, login: &str) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let socket = dir.path().join("tmux").to_str().unwrap().to_owned();
        let screen = Self { _dir: dir, socket };
        let ssh = bastion.ssh(who, login);
        let mut start = screen.tmux();
        start.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "90",
            "-y",
            "24",
            "--",
        ]);
        start.arg(ssh.get_program()).args(ssh.get_args());
        assert!(start.status().unwrap().success());
        screen.wait_for("~$");
        screen
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-S", &self.socket])
            .env("TERM", "xterm-256color");
        tmux
    }

    /// Keys by tmux's names; what has none is typed as it is.
    fn keys(&self, keys: &[&str]) {
        let sent = self.tmux().arg("send-keys").args(keys).status().unwrap();
        assert!(sent.success());
    }

    fn run(&self, line: &str) {
        self.keys(&["C-l"]);
        self.keys(&[line, "Enter"]);
    }

    fn shown(&self) -> String {
        let captured = self.tmux().args(["capture-pane", "-p"]).output().unwrap();
        String::from_utf8(captured.stdout).unwrap()
    }

    fn wait_for(&self, text: &str) -> String {
        eventually(text, || {
            Some(self.shown()).filter(|shown| shown.contains(text))
        })
    }

    fn resize(&self, columns: u16, rows: u16) {
        let (x, y) = (columns.to_string(), rows.to_string());
        let resized = self
            .tmux()
            .args(["resize-window", "-x", &x, "-y", &y])
            .status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.tmux().arg("kill-server").status());
    }
}

#[test]
fn bash_job_control_works() {
    let screen = Screen::of(Bastion::shared(), "operator-a", "viewer");
    // Told by the command itself: a key that comes before it has the terminal is the shell's.
    screen.run("sh -c 'echo started; exec sleep 1000'");
    screen.wait_for("\nstarted\n");
    screen.keys(&["C-z"]);
    screen.wait_for("Stopped");
    screen.run("bg; jobs");
    screen.wait_for("Running");
    screen.run("fg");
    screen.wait_for("sleep 1000'\n");
    screen.keys(&["C-c"]);
    screen.run("echo ended with $?");
    screen.wait_for("ended with 130");
}

#[test]
fn editors_pagers_and_monitors_draw_what_they_should() {
    let screen = Screen::of(Bastion::shared(), "operator-a", "viewer");
    // An editor of whole screens, in a window that changes its size.
    screen.run("vi -u NONE +'set showmode' file");
    screen.wait_for("\"file\" [New");
    screen.keys(&["i", "first line", "Enter", "second"]);
    screen.wait_for("INSERT");
    screen.resize(60, 12);
    let shown = eventually("the new size", || {
        Some(screen.shown()).filter(|shown| shown.lines().count() <= 12 && shown.contains("second"))
    });
    assert!(
        shown.lines().next().unwrap().starts_with("first line"),
        "{shown}"
    );
    screen.keys(&["Escape", ":wq", "Enter"]);
    screen.wait_for("~$");
    screen.run("cat file; stty size");
    screen.wait_for("first line\nsecond\n12 60");
    screen.resize(90, 24);

    screen.run("seq 1000 | less");
    screen.wait_for("\n22\n");
    screen.keys(&["G"]);
    screen.wait_for("(END)");
    screen.keys(&["?", "500", "Enter"]);
    eventually("the line that was searched", || {
        screen.shown().starts_with("500\n").then_some(())
    });
    screen.keys(&["q"]);
    screen.wait_for("~$");

    screen.run("top -n 100");
    screen.wait_for("COMMAND");
    screen.wait_for("bash");
    screen.keys(&["q"]);
    screen.wait_for("~$");
    // What draws with colours and by mouse; installed where the tests are run as a whole.
    if std::path::Path::new("/usr/bin/htop").exists() {
        screen.run("htop");
        screen.wait_for("F10Quit");
        screen.keys(&["F10"]);
        screen.wait_for("~$");
    }
}

#[test]
fn git_and_python_work() {
    let bastion = Bastion::shared();
    let commit = "git init -q r && cd r && echo x > f && git add f && \
                  git -c user.name=a -c user.email=a@b commit -qm one && git log --format=%s";
    let ran = bastion.run_ssh("operator-a", "viewer", commit);
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("one\n", Some(0)),
        "{ran:?}"
    );
    let python = "python3 -c 'import threading, subprocess, json, ssl, multiprocessing as m; \
                  t = threading.Thread(target=print, args=(1,)); t.start(); t.join(); \
                  print(subprocess.check_output([\"kubectl\", \"auth\", \"whoami\", \"-o\", \"name\"]) and 2)'";
    let ran = bastion.run_ssh("operator-a", "viewer", python);
    assert_eq!(
        (ran.stdout.as_str(), ran.code),
        ("1\n2\n", Some(0)),
        "{ran:?}"
    );
    let screen = Screen::of(bastion, "operator-a", "viewer");
    screen.run("python3 -q");
    screen.wait_for(">>>");
    screen.keys(&["6 * 7", "Enter"]);
    screen.wait_for("42\n");
    screen.keys(&["C-d"]);
    screen.wait_for("~$");
}
