//! From lines of a cast to what happened.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::event::{Event, Happening, Shown};
use super::manifest::{Ending, LeaseRecord};
use super::reader::Line;
use super::{Stream, code};
use crate::messages::WindowSize;

/// Understands the events of one cast, in order.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    from: From,
    stdout_partial: Vec<u8>,
    stderr_partial: Vec<u8>,
    /// The next `o` only shows what a `B` carried.
    rendering: bool,
    /// A `z` said how it ended; the `x` after it says the same for players.
    ended: bool,
}

#[derive(Debug, Default)]
enum From {
    #[default]
    Stdout,
    Stderr,
}

#[derive(Deserialize)]
struct InputDigest {
    length: u64,
    sha256: String,
}

impl Decoder {
    /// In the middle of a cast, where output is from this stream. The beginning of a character that was cut in two there
    /// is not known: the next output of its stream has it again.
    pub(super) fn from(stream: Stream) -> Self {
        Self {
            from: match stream {
                Stream::Stdout => From::Stdout,
                Stream::Stderr => From::Stderr,
            },
            ..Self::default()
        }
    }

    /// `None` for a line that tells nothing by itself.
    pub(super) fn decode(&mut self, line: Line) -> Result<Option<Event>, String> {
        let Line { at, code, data, .. } = line;
        let what = self.happening(code, data)?;
        let at = Duration::from_micros(at);
        Ok(what.map(|what| Event { at, what }))
    }

    pub(super) fn happening(
        &mut self,
        code: char,
        data: Option<String>,
    ) -> Result<Option<Happening>, String> {
        let known = matches!(
            code,
            code::OUTPUT
                | code::INPUT
                | code::RESIZE
                | code::MARKER
                | code::EXIT
                | code::FROM
                | code::BINARY
                | code::EXACT
                | code::PARTIAL
                | code::BINARY_INPUT
                | code::INPUT_END
                | code::INPUT_DIGEST
                | code::LEASE
                | code::REQUEST
                | code::NOTE
                | code::ANSWER
                | code::MASKED
                | code::ENDING
        );
        if !known {
            return Ok(Some(Happening::Unknown { code }));
        }
        let data = data.ok_or_else(|| format!("the data of {code:?} is no string"))?;
        Ok(Some(match code {
            code::OUTPUT if std::mem::take(&mut self.rendering) => {
                self.output(Vec::new(), Shown::Text(data))
            }
            code::OUTPUT => {
                let new = self.after_partial(data.as_bytes(), &[])?;
                self.output(new, Shown::Text(data))
            }
            code::BINARY => {
                let new = self.after_partial(&unbase64(&data)?, &[])?;
                self.output(new, Shown::Binary)
            }
            code::EXACT => {
                let new = self.after_partial(&unbase64(&data)?, &[])?;
                self.rendering = true;
                self.output(new, Shown::Elsewhere)
            }
            code::PARTIAL => {
                let bytes = unbase64(&data)?;
                let new = self.after_partial(&bytes, &bytes)?;
                self.output(new, Shown::Elsewhere)
            }
            code::FROM => {
                self.from = match data.as_str() {
                    "stdout" => From::Stdout,
                    "stderr" => From::Stderr,
                    other => return Err(format!("{other:?} is no stream")),
                };
                return Ok(None);
            }
            code::INPUT => Happening::Input(data.into_bytes()),
            code::BINARY_INPUT => Happening::Input(unbase64(&data)?),
            code::INPUT_END => Happening::InputEnd,
            code::INPUT_DIGEST => {
                let InputDigest { length, sha256 } = json(&data)?;
                Happening::InputDigest { length, sha256 }
            }
            code::RESIZE => Happening::Resize(size(&data)?),
            code::LEASE => Happening::Lease(json::<LeaseRecord>(&data)?),
            code::MASKED => Happening::Masked(json(&data)?),
            code::REQUEST => Happening::Request(Box::new(json(&data)?)),
            code::NOTE => Happening::Note(Box::new(json(&data)?)),
            code::ANSWER => Happening::Answer(Box::new(json(&data)?)),
            code::ENDING => {
                self.ended = true;
                Happening::End(json::<Ending>(&data)?)
            }
            code::EXIT => {
                if self.ended {
                    return Ok(None);
                }
                let status = data
                    .parse()
                    .map_err(|_| format!("{data:?} is no exit status"))?;
                Happening::End(Ending::Exit(status))
            }
            _ => Happening::Marker(data),
        }))
    }

    fn output(&self, bytes: Vec<u8>, shown: Shown) -> Happening {
        let stream = match self.from {
            From::Stdout => Stream::Stdout,
            From::Stderr => Stream::Stderr,
        };
        Happening::Output {
            stream,
            bytes,
            shown,
        }
    }

    /// What is new in `bytes`: they begin with the partial character on record, if there is one. From now on
    /// `partial` is.
    fn after_partial(&mut self, bytes: &[u8], partial: &[u8]) -> Result<Vec<u8>, String> {
        // An `EXACT` whose `o` was torn off by a crash shows nothing.
        self.rendering = false;
        let held = match self.from {
            From::Stdout => &mut self.stdout_partial,
            From::Stderr => &mut self.stderr_partial,
        };
        let new = bytes
            .strip_prefix(held.as_slice())
            .ok_or("it does not go on with the character that was begun")?
            .to_vec();
        held.clear();
        held.extend_from_slice(partial);
        Ok(new)
    }
}

fn unbase64(data: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(data).map_err(|error| error.to_string())
}

fn json<T: for<'de> Deserialize<'de>>(data: &str) -> Result<T, String> {
    serde_json::from_str(data).map_err(|error| error.to_string())
}

fn size(data: &str) -> Result<WindowSize, String> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| (1..=4096).contains(n));
    data.split_once('x')
        .and_then(|(cols, rows)| {
            Some(WindowSize {
                cols: number(cols)?,
                rows: number(rows)?,
            })
        })
        .ok_or_else(|| format!("{data:?} is no size"))
}
