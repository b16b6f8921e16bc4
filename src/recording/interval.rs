//! Times as asciicast v3 writes them: seconds since the previous event, six decimals.

use std::time::Duration;

/// Turns moments into intervals. Rounding does not add up: each interval leads to the microsecond that its
/// moment has.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    last: u64,
}

impl Intervals {
    /// Microseconds from the previous event to `at` (since the start). Never negative.
    pub(super) fn next(&mut self, at: Duration) -> u64 {
        let at = u64::try_from(at.as_micros())
            .unwrap_or(u64::MAX)
            .max(self.last);
        let interval = at.saturating_sub(self.last);
        self.last = at;
        interval
    }
}

/// Appends `micros` in seconds: `0.000042`.
pub(crate) fn write_seconds(micros: u64, out: &mut Vec<u8>) {
    const MICROS: u64 = 1_000_000;
    // Six digits, zeros first, as the tail of 1_dddddd.
    let mut digits = [b'0'; 20];
    write_digits(micros / MICROS, 1, &mut digits, out);
    out.push(b'.');
    write_digits(micros % MICROS, 6, &mut digits, out);
}

fn write_digits(mut number: u64, at_least: usize, scratch: &mut [u8; 20], out: &mut Vec<u8>) {
    let mut used = 0;
    for slot in scratch.iter_mut().rev() {
        if number == 0 && used >= at_least {
            break;
        }
        *slot = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        used += 1;
    }
    let start = scratch.len().saturating_sub(used);
    out.extend_from_slice(scratch.get(start..).unwrap_or(&[]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(micros: u64) -> String {
        let mut out = Vec::new();
        write_seconds(micros, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn seconds_have_six_decimals() {
        assert_eq!(seconds(0), "0.000000");
        assert_eq!(seconds(42), "0.000042");
        assert_eq!(seconds(1_000_000), "1.000000");
        assert_eq!(seconds(12_345_678_901), "12345.678901");
        assert_eq!(seconds(u64::MAX), "18446744073709.551615");
    }

    #[test]
    fn intervals_are_never_negative_and_do_not_drift() {
        let mut intervals = Intervals::default();
        assert_eq!(intervals.next(Duration::from_nanos(1_999)), 1);
        assert_eq!(intervals.next(Duration::from_nanos(3_999)), 2);
        assert_eq!(intervals.next(Duration::from_nanos(1)), 0);
        assert_eq!(intervals.next(Duration::from_micros(10)), 7);
    }
}
