//! A session that goes on while the test does something else.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};

use super::bastion::{Bastion, eventually};

/// One command over ssh, under way.
pub(crate) struct Background {
    /// Of its session.
    pub(crate) id: String,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    child: Child,
}

impl Background {
    /// Starts it; it runs when this returns.
    pub(crate) fn start(bastion: &Bastion, who: &str, login: &str, command: &str) -> Self {
        let mut child = bastion
            .ssh(who, login)
            .arg(format!("echo $BASTION_SESSION; {command}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = Self {
            id: String::new(),
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            stderr: child.stderr.take().unwrap(),
            child,
        };
        started.id = started.line();
        if started.id.is_empty() {
            let (_, said) = started.end();
            panic!("it did not start: {said}");
        }
        started
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The client's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends its input and waits for it: its exit status, and what it said on stderr.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        self.stdin = None;
        let child = &mut self.child;
        let status = eventually("the end of a command", || child.try_wait().unwrap());
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
