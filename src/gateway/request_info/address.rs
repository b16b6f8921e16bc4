//! Paths and queries that everybody decodes alike.

/// Why a path is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// It does not begin with a slash.
    #[error("the path does not begin with /")]
    NoPath,
    /// Two slashes, with nothing between.
    #[error("the path has an empty segment (//)")]
    Empty,
    /// `.` or `..`.
    #[error("the path has a dot segment")]
    Dots,
    /// What needs no encoding is encoded, or a byte that must not be there at all.
    #[error("the path has %{0:02X}, which is not passed on: write the character itself")]
    Encoded(u8),
    /// `%` without two digits.
    #[error("the path has a % that encodes nothing")]
    Percent,
    /// A control character beyond ASCII: a terminal that the record is shown on may obey it.
    #[error("the path has a control character")]
    Control,
    /// A byte that a URL does not have.
    #[error("the path has a character that must be percent-encoded")]
    Raw,
}

/// Whether a path, as it came, can be read in one way only (RFC 3986, 6.2.2; stricter where servers differ).
///
/// Names may be encoded as clients do: `system%3Anode` is as good as `system:node`. Letters, digits, slashes, dots
/// and percent signs in code are somebody's attempt to be read in two ways.
pub fn canonical(path: &str) -> Result<(), NotCanonical> {
    let segments = path.strip_prefix('/').ok_or(NotCanonical::NoPath)?;
    let last = segments.split('/').count();
    for (at, segment) in segments.split('/').enumerate() {
        match segment {
            "" if at + 1 < last => return Err(NotCanonical::Empty),
            "." | ".." => return Err(NotCanonical::Dots),
            segment => in_segment(segment.as_bytes())?,
        }
    }
    match std::str::from_utf8(&decode(path.as_bytes(), false)) {
        Ok(text) if text.chars().any(char::is_control) => Err(NotCanonical::Control),
        Ok(_) => Ok(()),
        Err(_) => Err(NotCanonical::Raw),
    }
}

fn in_segment(mut rest: &[u8]) -> Result<(), NotCanonical> {
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let code = after
                    .get(..2)
                    .and_then(byte_of)
                    .ok_or(NotCanonical::Percent)?;
                let fine = !matches!(code,
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'
                    | b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f);
                if !fine {
                    return Err(NotCanonical::Encoded(code));
                }
                rest = after.get(2..).unwrap_or_default();
            }
            // RFC 3986, 3.3: pchar.
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {}
            b'-' | b'.' | b'_' | b'~' | b':' | b'@' => {}
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {}
            _ => return Err(NotCanonical::Raw),
        }
    }
    Ok(())
}

/// A canonical path, decoded.
pub(super) fn decoded(path: &str) -> String {
    String::from_utf8_lossy(&decode(path.as_bytes(), false)).into_owned()
}

/// Why a query is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// A semicolon, by which some separate parameters and others do not.
    #[error("the query has a bare semicolon: write %3B")]
    Semicolon,
    /// `%` without two digits.
    #[error("the query has a % that encodes nothing")]
    Percent,
    /// Bytes that could not be on record as they are.
    #[error("the query is not UTF-8")]
    NotText,
}

/// A query, decoded, in its order, as Go's `url.ParseQuery` reads it; where that leaves parameters out, it is refused.
pub fn query(raw: Option<&str>) -> Result<Vec<(String, String)>, BadQuery> {
    let mut pairs = Vec::new();
    for pair in raw
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        if pair.contains(';') {
            return Err(BadQuery::Semicolon);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((text(name)?, text(value)?));
    }
    Ok(pairs)
}

fn text(raw: &str) -> Result<String, BadQuery> {
    let whole = raw
        .split('%')
        .skip(1)
        .all(|after| after.as_bytes().get(..2).and_then(byte_of).is_some());
    if !whole {
        return Err(BadQuery::Percent);
    }
    String::from_utf8(decode(raw.as_bytes(), true)).map_err(|_| BadQuery::NotText)
}

fn decode(mut raw: &[u8], plus: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(raw.len());
    while let Some((&byte, rest)) = raw.split_first() {
        raw = rest;
        decoded.push(match (byte, rest.get(..2).and_then(byte_of)) {
            (b'%', Some(code)) => {
                raw = rest.get(2..).unwrap_or_default();
                code
            }
            (b'+', _) if plus => b' ',
            (byte, _) => byte,
        });
    }
    decoded
}

/// The byte that two hexadecimal digits mean.
fn byte_of(digits: &[u8]) -> Option<u8> {
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    match digits {
        [high, low] => u8::try_from(value(high)? * 16 + value(low)?).ok(),
        _ => None,
    }
}
