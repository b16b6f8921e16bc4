//! Moments and spans as people write them.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A text that is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time; write 2026-11-24T15:04:05Z, 2026-11-24 15:04 (UTC), 2026-11-24, 15:04, or 90m for 90 minutes ago (also s, h, d, w)"
)]
pub struct NotAMoment(pub String);

/// Which end of a day a bare date means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Its first moment.
    Start,
    /// Its last.
    End,
}

/// Parses a moment; without a zone it is UTC, as everything that we print.
pub fn parse_moment(text: &str, now: Timestamp, edge: Edge) -> Result<Timestamp, NotAMoment> {
    let bad = || NotAMoment(text.chars().take(60).collect());
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Some(ago) = parse_duration(text).filter(|_| !text.contains(':') && !is_number(text)) {
        let ago = SignedDuration::try_from(ago).map_err(|_| bad())?;
        return now.checked_sub(ago).map_err(|_| bad());
    }
    let utc = |at: DateTime| {
        at.to_zoned(TimeZone::UTC)
            .map(|at| at.timestamp())
            .map_err(|_| bad())
    };
    if text.len() == 10
        && let Ok(date) = text.parse::<Date>()
    {
        return utc(match edge {
            Edge::Start => date.to_datetime(Time::midnight()),
            Edge::End => date.to_datetime(Time::MAX),
        });
    }
    if let Ok(at) = text.parse::<DateTime>() {
        return utc(at);
    }
    let time = text.parse::<Time>().map_err(|_| bad())?;
    utc(now.to_zoned(TimeZone::UTC).date().to_datetime(time))
}

/// Parses a span of time: `90` (seconds), `1:30`, `1:02:03`, `1m30s`, `2h`, `3d`, `1w`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text.contains(':') {
        let mut seconds = 0.0_f64;
        for part in text.split(':') {
            seconds = seconds * 60.0 + number(part)?;
        }
        return Duration::try_from_secs_f64(seconds).ok();
    }
    if is_number(text) {
        return Duration::try_from_secs_f64(number(text)?).ok();
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, after) = rest.split_at_checked(digits)?;
        let unit_length = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_length)?;
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number(count)? * unit).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

fn number(text: &str) -> Option<f64> {
    is_number(text).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Option<String> {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        parse_moment(text, now, Edge::Start)
            .ok()
            .map(|moment| moment.to_string())
    }

    #[test]
    fn moments() {
        for (text, meant) in [
            ("2026-11-24T03:00:00Z", Some("2026-11-24T03:00:00Z")),
            ("2026-11-24T03:00:00+02:00", Some("2026-11-24T01:00:00Z")),
            ("2026-11-24 03:00", Some("2026-11-24T03:00:00Z")),
            ("2026-11-24T03:00", Some("2026-11-24T03:00:00Z")),
            ("2026-11-24", Some("2026-11-24T00:00:00Z")),
            ("03:15", Some("2026-11-24T03:15:00Z")),
            ("90m", Some("2026-11-24T10:30:00Z")),
            ("1d12h", Some("2026-11-23T00:00:00Z")),
            ("90", None),
            ("", None),
            ("soon", None),
            ("99999999999999w", None),
        ] {
            assert_eq!(moment(text).as_deref(), meant, "{text:?}");
        }
        let end = parse_moment("2026-11-24", Timestamp::UNIX_EPOCH, Edge::End).unwrap();
        assert_eq!(end.to_string(), "2026-11-24T23:59:59.999999999Z");
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90", Some(90.0)),
            ("1.5", Some(1.5)),
            ("1:30", Some(90.0)),
            ("1:02:03", Some(3723.0)),
            ("1m30s", Some(90.0)),
            ("1.5h", Some(5400.0)),
            ("500ms", Some(0.5)),
            ("", None),
            ("m", None),
            ("5x", None),
            ("1e99", None),
            ("-5", None),
            ("\u{20ac}", None),
        ] {
            assert_eq!(
                parse_duration(text),
                seconds.map(Duration::from_secs_f64),
                "{text:?}"
            );
        }
    }
}
