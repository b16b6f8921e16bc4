//! `bastion`, as this program is called inside a session.

use std::ffi::OsString;
use std::process::ExitCode;

use bastion_audit::launch::inside;

/// Asks the daemon and prints its answer.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    match inside::ask(words) {
        Ok(status) => ExitCode::from(status),
        Err(error) => super::report(&error.into()),
    }
}
