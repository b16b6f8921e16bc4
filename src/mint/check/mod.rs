//! What the daemon can do.
