//! The network process may be somebody else's: what it asks is refused, or has the form of what it would ask.
#![no_main]

use bastion_audit::messages::{Ask, WindowSize};
use bastion_audit::network;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    match network::understood(bytes) {
        Some(Ask::Refused { what } | Ask::Client(what)) => {
            assert!(what.len() <= 255 && what.bytes().all(|b| (b' '..=b'~').contains(&b)));
        }
        Some(Ask::Open(open)) => {
            if let Some(terminal) = open.terminal {
                let WindowSize { cols, rows } = terminal.size;
                assert!((1..=4096).contains(&cols) && (1..=4096).contains(&rows));
                assert!((1..=64).contains(&terminal.term.len()) && terminal.term.is_ascii());
            }
        }
        Some(Ask::Probe(offer) | Ask::Authenticate(offer)) => {
            assert!(offer.principal.len() <= bytes.len());
        }
        Some(Ask::Code(_) | Ask::Link | Ask::Device | Ask::Wait | Ask::Ending(_)) | None => {}
    }
});
