//! Logs of the daemon itself, to stderr; RUST_LOG chooses what.

use tracing_subscriber::EnvFilter;

pub(crate) fn to_stderr(json: bool) {
    // What other crates say at debug and trace is about bytes on the wire; ours never holds a credential.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,bastion_audit=info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told where it just failed, and by a panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    if json {
        subscriber.json().init();
    } else {
        subscriber.init();
    }
}
