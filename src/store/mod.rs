//! Durable bytes: where recordings lie.
