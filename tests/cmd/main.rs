//! What the command line says, as snapshots.
