//! A stretch of network that fails on demand.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WHOLE: u8 = 0;
const FROZEN: u8 = 1;
const CUT: u8 = 2;

/// A port on loopback that leads to another one. Its threads end with the test process.
pub(crate) struct Network {
    port: u16,
    state: Arc<State>,
}

struct State {
    mode: AtomicU8,
    open: Mutex<Vec<TcpStream>>,
}

impl Network {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            mode: AtomicU8::new(WHOLE),
            open: Mutex::default(),
        });
        let of_threads = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                of_threads.join(stream, port);
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Every connection is closed, and so is every new one.
    pub(crate) fn cut(&self) {
        self.state.mode.store(CUT, Ordering::SeqCst);
        for stream in self.state.open.lock().unwrap().drain(..) {
            // The other side may have closed it.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Nothing passes any more, and nobody is told: what a lost route looks like.
    pub(crate) fn freeze(&self) {
        self.state.mode.store(FROZEN, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.state.mode.store(WHOLE, Ordering::SeqCst);
    }
}

impl State {
    fn join(self: &Arc<Self>, near: TcpStream, port: u16) {
        if self.mode.load(Ordering::SeqCst) == CUT {
            return;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
            return;
        };
        let pairs = [(&near, &far), (&far, &near)];
        for (from, to) in pairs.map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap())) {
            from.set_nodelay(true).unwrap();
            let state = Arc::clone(self);
            std::thread::spawn(move || state.carry(from, to));
        }
        self.open.lock().unwrap().extend([near, far]);
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut chunk = [0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            while self.mode.load(Ordering::SeqCst) == FROZEN {
                std::thread::sleep(Duration::from_millis(20));
            }
            if to.write_all(&chunk[..n]).is_err() {
                break;
            }
        }
        // A cut has closed both already.
        drop(to.shutdown(Shutdown::Write));
    }
}
