//! A SPDY connection is whatever a side sends: frames however it comes in pieces, or refused; and what is passed on of it,
//! encoded anew, says the same to the other side, header blocks and their shared compression included.
#![no_main]

use bastion_audit::gateway::spdy::{Decoder, Encoder, Frame, Ledger, Sender, SpdyError, Verdict};
use bytes::BytesMut;

/// The most that a decoder may have in hand: a control frame that is not whole.
const IN_HAND: usize = 16 * 1024 + 8;

libfuzzer_sys::fuzz_target!(|input: (u8, bool, &[u8])| {
    let (piece, client, bytes) = input;
    let (frames, error) = decoded(bytes, usize::MAX);
    let in_pieces = decoded(bytes, usize::from(piece).max(1));
    assert_eq!((&frames, &error), (&in_pieces.0, &in_pieces.1));

    let sender = if client { Sender::Client } else { Sender::Server };
    let (mut ledger, mut encoder, mut wire) = (Ledger::default(), Encoder::default(), BytesMut::new());
    let mut passed = Vec::new();
    for frame in frames {
        bounded(&frame);
        match ledger.judge(sender, &frame) {
            Ok(Verdict::Pass { .. }) => {
                encoder.encode(&frame, &mut wire).expect("what was decoded can be encoded");
                passed.push(frame);
            }
            Ok(Verdict::Late) => {}
            Err(_) => break,
        }
        assert!(ledger.open() <= 1024);
    }
    let (again, error) = decoded(&wire, usize::MAX);
    assert_eq!((again, error), (passed, None));
});

fn bounded(frame: &Frame) {
    let (Frame::SynStream { headers, .. } | Frame::SynReply { headers, .. } | Frame::Headers { headers, .. }) = frame else {
        return;
    };
    assert!(headers.iter().count() <= 64);
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    assert!(bytes <= 32 * 1024, "{bytes} bytes of headers");
}

/// Frames, the parts of a data frame joined, and what ended them.
fn decoded(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<SpdyError>) {
    let mut decoder = Decoder::default();
    let mut frames: Vec<Frame> = Vec::new();
    // What is to come of the data frame that is under way, and whether there was something of it.
    let (mut left, mut begun) = (None, false);
    for part in bytes.chunks(piece.min(bytes.len()).max(1)) {
        decoder.buffer().extend_from_slice(part);
        loop {
            if left.is_none() {
                left = data_length(decoder.buffer());
            }
            match decoder.next() {
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
                Ok(Some(Frame::Data(data))) => {
                    let rest = left.expect("a data frame") - data.bytes.len();
                    assert!(!data.fin || rest == 0, "an end before the end");
                    match frames.last_mut() {
                        Some(Frame::Data(last)) if begun => {
                            last.bytes = [&last.bytes[..], &data.bytes[..]].concat().into();
                            last.fin = data.fin;
                        }
                        _ => frames.push(Frame::Data(data)),
                    }
                    begun = rest > 0;
                    left = begun.then_some(rest);
                }
                Ok(Some(frame)) => frames.push(frame),
            }
        }
        assert!(decoder.buffer().len() <= IN_HAND);
    }
    (frames, None)
}

/// How long the data frame is that begins here, if one does.
fn data_length(bytes: &[u8]) -> Option<usize> {
    let head: &[u8; 8] = bytes.first_chunk()?;
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]);
    (head[0] < 0x80).then_some(length as usize)
}
