//! The terminal's size, as the resize channel says it: JSON documents one after the other,
//! `{"Width":80,"Height":24}` (`TerminalSize` of k8s.io/client-go).

use serde::Deserialize;

use crate::messages::WindowSize;

/// The most of an unfinished document that is kept.
const MAX_UNFINISHED: usize = 1024;

/// Collects what the resize channel says.
#[derive(Debug, Default)]
pub(super) struct Resizes(Vec<u8>);

#[derive(Deserialize)]
struct TerminalSize {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

impl Resizes {
    /// The sizes that are whole with these bytes; `None` if they are no sizes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Vec<WindowSize>> {
        self.0.extend_from_slice(bytes);
        let mut sizes = Vec::new();
        let mut documents =
            serde_json::Deserializer::from_slice(&self.0).into_iter::<TerminalSize>();
        let mut whole = 0;
        loop {
            match documents.next() {
                Some(Ok(size)) => {
                    whole = documents.byte_offset();
                    sizes.push(WindowSize::clamped(
                        u32::from(size.width),
                        u32::from(size.height),
                    ));
                }
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(_)) => return None,
                None => {
                    whole = self.0.len();
                    break;
                }
            }
        }
        self.0.drain(..whole);
        (self.0.len() <= MAX_UNFINISHED).then_some(sizes)
    }
}
