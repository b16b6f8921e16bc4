//! Spans of time as the index writes them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time, in JSON a number of seconds with microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u64);

/// A century: nothing that we record takes longer.
const MAX_MICROS: f64 = 100.0 * 366.0 * 86_400.0 * 1e6;

impl Seconds {
    /// In whole microseconds.
    pub fn as_micros(self) -> u64 {
        self.0
    }
}

impl From<Duration> for Seconds {
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Seconds> for Duration {
    fn from(span: Seconds) -> Self {
        Self::from_micros(span.0)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Exact to the microsecond for centuries: a double has 53 bits.
        serializer.serialize_f64(self.0 as f64 / 1e6)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let micros = (f64::deserialize(deserializer)? * 1e6).round();
        // Also false for what is not a number.
        if (0.0..=MAX_MICROS).contains(&micros) {
            // In range, so the cast is exact.
            Ok(Self(micros as u64))
        } else {
            Err(serde::de::Error::custom("no span of time"))
        }
    }
}
