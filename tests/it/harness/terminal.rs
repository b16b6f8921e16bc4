//! A terminal with a program at it: what an operator sees, and types.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::bastion::{PATIENCE, eventually};

pub(crate) struct Terminal {
    pty: Arc<pty_process::blocking::Pty>,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    read: usize,
}

impl Terminal {
    /// Starts a program at a new terminal of that size.
    pub(crate) fn start(command: Command, cols: u16, rows: u16) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(rows, cols)).unwrap();
        let child = pty_process::blocking::Command::from(command)
            .spawn(pts)
            .unwrap();
        let pty = Arc::new(pty);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (from, into) = (Arc::clone(&pty), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // EIO once the last program has closed it.
            while let Ok(n @ 1..) = (&*from).read(&mut chunk) {
                into.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        Self {
            pty,
            child,
            seen,
            read: 0,
        }
    }

    pub(crate) fn send(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&self, cols: u16, rows: u16) {
        self.pty.resize(pty_process::Size::new(rows, cols)).unwrap();
    }

    /// Waits until `text` is shown, and forgets everything up to it. What was shown before it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            {
                let seen = self.seen.lock().unwrap();
                let new = &seen[self.read..];
                let found = new
                    .windows(text.len())
                    .position(|window| window == text.as_bytes());
                if let Some(at) = found {
                    let before = String::from_utf8_lossy(&new[..at]).into_owned();
                    self.read += at + text.len();
                    return before;
                }
            }
            assert!(
                Instant::now() < deadline,
                "{text:?} was not shown; what was: {:?}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Everything that was ever shown.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Whether the terminal takes whole lines and echoes, as a shell leaves it for a program.
    pub(crate) fn is_sane(&self) -> bool {
        use rustix::termios::LocalModes;
        let modes = rustix::termios::tcgetattr(&*self.pty).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the program's end; its exit status.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let status = eventually("the end of the program at the terminal", || {
            child.try_wait().unwrap()
        });
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
