//! Round trips, cuts at every byte, and hostile peers.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

use super::dictionary::{DICTIONARY, DICTIONARY_ID};
use super::frame::{MAX_31, number};
use super::headers::{MAX_BLOCK, MAX_HEADERS};
use super::*;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers::new(
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value.as_bytes()))),
    )
}

fn syn(stream: StreamId, pairs: &[(&str, &str)]) -> Frame {
    Frame::SynStream {
        stream,
        associated: 0,
        priority: 0,
        fin: false,
        unidirectional: false,
        headers: headers(pairs),
    }
}

fn data(stream: StreamId, bytes: &[u8], fin: bool) -> Frame {
    Frame::Data(Data {
        stream,
        fin,
        bytes: Bytes::copy_from_slice(bytes),
    })
}

fn encoded(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    for frame in frames {
        encoder.encode(frame, &mut out).unwrap();
    }
    out
}

/// What a decoder makes of pieces, data of a frame joined again.
fn decoded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Frame>, SpdyError> {
    let mut decoder = Decoder::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut whole = true;
    for piece in pieces {
        decoder.buffer().extend_from_slice(piece);
        while let Some(frame) = decoder.next()? {
            match (frames.last_mut(), frame) {
                (Some(Frame::Data(last)), Frame::Data(more)) if !whole => {
                    last.bytes = [&last.bytes[..], &more.bytes[..]].concat().into();
                    last.fin = more.fin;
                }
                (_, frame) => frames.push(frame),
            }
            whole = !decoder.within_data();
        }
    }
    Ok(frames)
}

fn one_of_each() -> Vec<Frame> {
    vec![
        syn(1, &[("streamtype", "error")]),
        syn(MAX_31 - 2, &[("streamtype", "stdin"), ("x", "")]),
        Frame::SynReply {
            stream: 1,
            fin: true,
            headers: Headers::default(),
        },
        data(1, b"bytes", false),
        data(1 << 30 | 129, &[0xff; 300], true),
        data(3, b"", true),
        Frame::Headers {
            stream: 128,
            fin: false,
            headers: headers(&[("a", "b")]),
        },
        Frame::RstStream {
            stream: 2,
            status: rst::CANCEL,
        },
        Frame::Settings {
            clear: true,
            settings: vec![Setting {
                flags: 1,
                id: 7,
                value: 1000,
            }],
        },
        Frame::Ping(9),
        Frame::GoAway { last: 3, status: 0 },
        Frame::WindowUpdate {
            stream: 0,
            delta: MAX_31,
        },
    ]
}

#[test]
fn the_dictionary_is_that_of_spdy_3() {
    assert_eq!(DICTIONARY.len(), 1423);
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in DICTIONARY.iter() {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    assert_eq!(b << 16 | a, DICTIONARY_ID);
}

#[test]
fn frames_split_at_every_byte() {
    let frames = one_of_each();
    let bytes = encoded(&frames);
    for cut in 0..=bytes.len() {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(decoded([front, back]).unwrap(), frames, "cut at {cut}");
    }
    assert_eq!(decoded(bytes.chunks(1)).unwrap(), frames);
}

#[test]
fn stream_ids_have_31_bits() {
    for stream in [127, 129, 255, 1 << 16 | 1, 1 << 30 | 1, MAX_31] {
        let frames = vec![syn(stream, &[]), data(stream, b"x", true)];
        assert_eq!(decoded([&encoded(&frames)[..]]).unwrap(), frames);
        let mut ledger = Ledger::default();
        for frame in &frames {
            assert_eq!(
                ledger.judge(Sender::Client, frame),
                Ok(Verdict::Pass { ended: false })
            );
        }
    }
}

#[test]
fn the_state_of_header_compression_spans_frames() {
    let frame = syn(
        1,
        &[
            ("streamtype", "stdout"),
            ("x-unusual-header", "of-no-dictionary"),
        ],
    );
    let mut encoder = Encoder::default();
    let (mut first, mut second) = (BytesMut::new(), BytesMut::new());
    encoder.encode(&frame, &mut first).unwrap();
    encoder.encode(&frame, &mut second).unwrap();
    assert!(second.len() < first.len(), "the second refers to the first");
    assert_eq!(
        decoded([&first[..], &second[..]]).unwrap(),
        [frame.clone(), frame]
    );
    assert_eq!(decoded([&second[..]]), Err(SpdyError::Inflate));
}

/// As Go's `spdystream` writes it: `X-Stream` style names in lower case, compress/zlib at its best level.
#[test]
fn what_go_sends_is_read() {
    let go = include_bytes!("testdata/spdystream-client.bin");
    let frames = decoded([&go[..]]).unwrap();
    let kinds: Vec<_> = frames
        .iter()
        .map(|frame| match frame {
            Frame::SynStream { headers, .. } => {
                String::from_utf8(headers.get("streamtype").unwrap().to_vec()).unwrap()
            }
            other => other.kind().to_owned(),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "error", "stdin", "stdout", "stderr", "resize", "DATA", "PING", "GOAWAY"
        ]
    );
}

fn control(number: u16, flags: u8, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u16(0x8003);
    out.put_u16(number);
    out.put_u32(u32::from(flags) << 24 | payload.len() as u32);
    out.put_slice(payload);
    out
}

/// A SYN_STREAM for stream 1 with this header block.
fn with_block(block: &[u8]) -> BytesMut {
    let mut zlib = Compress::new(Compression::best(), true);
    zlib.set_dictionary(&DICTIONARY).unwrap();
    let mut deflated = Vec::with_capacity(block.len() + 1024);
    zlib.compress_vec(block, &mut deflated, FlushCompress::Sync)
        .unwrap();
    control(
        number::SYN_STREAM,
        0,
        &[&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], &deflated[..]].concat(),
    )
}

fn block(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = (pairs.len() as u32).to_be_bytes().to_vec();
    for (name, value) in pairs {
        for field in [name, value] {
            block.extend((field.len() as u32).to_be_bytes());
            block.extend_from_slice(field);
        }
    }
    block
}

#[test]
fn a_zlib_bomb_is_no_more_than_its_limit() {
    let bomb = with_block(&block(&[(b"a", &vec![b'a'; 8 << 20])]));
    assert!(bomb.len() < 16 * 1024, "it passes as a frame");
    assert_eq!(
        decoded([&bomb[..]]),
        Err(SpdyError::HeadersTooLong { limit: MAX_BLOCK })
    );
}

#[test]
fn header_blocks_that_lie_are_refused() {
    let many = vec![(&b"a"[..], &b""[..]); MAX_HEADERS as usize + 1];
    let cases: [(Vec<u8>, SpdyError); 9] = [
        (
            block(&many),
            SpdyError::TooManyHeaders {
                count: MAX_HEADERS + 1,
                limit: MAX_HEADERS,
            },
        ),
        (
            u32::MAX.to_be_bytes().to_vec(),
            SpdyError::TooManyHeaders {
                count: u32::MAX,
                limit: MAX_HEADERS,
            },
        ),
        (vec![0, 0, 0], SpdyError::HeaderLengths),
        (
            [&1_u32.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat(),
            SpdyError::HeaderLengths,
        ),
        (
            [block(&[(b"a", b"b")]), vec![0]].concat(),
            SpdyError::HeaderLengths,
        ),
        (block(&[(b"", b"b")]), SpdyError::HeaderName),
        (block(&[(b"StreamType", b"b")]), SpdyError::HeaderName),
        (block(&[(b"a\xff", b"b")]), SpdyError::HeaderName),
        (
            block(&[(b"a", b"b"), (b"a", b"c")]),
            SpdyError::DuplicateHeader,
        ),
    ];
    for (block, error) in cases {
        assert_eq!(decoded([&with_block(&block)[..]]), Err(error));
    }
}

#[test]
fn frames_that_lie_are_refused() {
    let zlib_without_dictionary = {
        let mut zlib = Compress::new(Compression::best(), true);
        let mut deflated = vec![0, 0, 0, 1];
        deflated.reserve(64);
        zlib.compress_vec(&[0, 0, 0, 0], &mut deflated, FlushCompress::Finish)
            .unwrap();
        deflated
    };
    let no_stream = |kind| SpdyError::NoStream { kind };
    let length = |kind, length| SpdyError::FrameLength { kind, length };
    let flags = |kind, flags| SpdyError::Flags { kind, flags };
    let cases = [
        (
            BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]),
            flags("DATA", b'/'),
        ),
        (
            BytesMut::from(&b"\x80\x02\0\x01\0\0\0\0"[..]),
            SpdyError::Version(2),
        ),
        (control(5, 0, b""), SpdyError::UnknownFrame(5)),
        (control(10, 0, b""), SpdyError::UnknownFrame(10)),
        (
            BytesMut::from(&b"\x80\x03\0\x01\0\xff\xff\xff"[..]),
            SpdyError::FrameTooLong {
                length: 0xff_ffff,
                limit: 16 * 1024,
            },
        ),
        (
            control(number::SYN_STREAM, 0, &[0; 10]),
            no_stream("SYN_STREAM"),
        ),
        (
            control(number::SYN_STREAM, 4, &[0; 10]),
            flags("SYN_STREAM", 4),
        ),
        (
            control(number::SYN_STREAM, 0, &[0, 0, 0, 1, 0]),
            length("SYN_STREAM", 5),
        ),
        (
            control(number::SYN_REPLY, 0, &[0x80, 0, 0, 1]),
            no_stream("SYN_REPLY"),
        ),
        (
            control(number::SYN_REPLY, 0, &[0, 0, 0, 1, 1, 2, 3]),
            SpdyError::Inflate,
        ),
        (
            control(number::SYN_REPLY, 0, &zlib_without_dictionary),
            SpdyError::Inflate,
        ),
        (
            control(number::SYN_REPLY, 0, &[0, 0, 0, 1]),
            SpdyError::HeaderLengths,
        ),
        (
            control(number::RST_STREAM, 0, &[0; 7]),
            length("RST_STREAM", 7),
        ),
        (control(number::PING, 1, &[0; 4]), flags("PING", 1)),
        (control(number::GOAWAY, 0, &[0; 4]), length("GOAWAY", 4)),
        (
            control(number::WINDOW_UPDATE, 0, &[0; 8]),
            SpdyError::Window(0),
        ),
        (
            control(number::WINDOW_UPDATE, 0, &[0, 0, 0, 1, 0x80, 0, 0, 0]),
            SpdyError::Window(1),
        ),
        (
            control(number::SETTINGS, 0, &[0xff; 4]),
            SpdyError::Settings,
        ),
        (
            control(number::SETTINGS, 0, &[0, 0, 0, 1, 0, 0, 0, 7]),
            SpdyError::Settings,
        ),
        (
            control(
                number::SETTINGS,
                0,
                &[0, 0, 0, 1, 0, 0, 0, 7, 0xff, 0, 0, 0],
            ),
            SpdyError::Settings,
        ),
        (BytesMut::from(&[0; 8][..]), no_stream("DATA")),
        (
            BytesMut::from(&[0, 0, 0, 1, 2, 0, 0, 0][..]),
            flags("DATA", 2),
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(decoded([&bytes[..]]), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_long_data_frame_is_not_held_back() {
    let mut decoder = Decoder::default();
    decoder
        .buffer()
        .extend_from_slice(&[0, 0, 0, 1, 1, 0xff, 0xff, 0xff, 42]);
    let first = decoder.next().unwrap();
    assert_eq!(first, Some(data(1, &[42], false)));
    assert_eq!(decoder.next(), Ok(None));
    assert!(!decoder.at_rest());
}

fn judged(ledger: &mut Ledger, from: Sender, frame: Frame) -> Result<Verdict, SpdyError> {
    ledger.judge(from, &frame)
}

const PASS: Result<Verdict, SpdyError> = Ok(Verdict::Pass { ended: false });
const ENDED: Result<Verdict, SpdyError> = Ok(Verdict::Pass { ended: true });
const LATE: Result<Verdict, SpdyError> = Ok(Verdict::Late);

fn reply(stream: StreamId) -> Frame {
    Frame::SynReply {
        stream,
        fin: false,
        headers: Headers::default(),
    }
}

#[test]
fn a_stream_ends_when_both_sides_are_done() {
    use Sender::{Client, Server};
    let mut l = Ledger::default();
    assert_eq!(judged(&mut l, Client, syn(1, &[])), PASS);
    assert_eq!(judged(&mut l, Server, reply(1)), PASS);
    assert_eq!(judged(&mut l, Server, reply(1)), LATE, "once");
    assert_eq!(judged(&mut l, Client, reply(1)), Err(SpdyError::Reply(1)));
    assert_eq!(judged(&mut l, Client, data(1, b"", true)), PASS);
    assert_eq!(
        judged(&mut l, Client, data(1, b"after its end", false)),
        LATE
    );
    assert_eq!(judged(&mut l, Server, data(1, b"more", false)), PASS);
    assert_eq!(judged(&mut l, Server, data(1, b"", true)), ENDED);
    assert_eq!(judged(&mut l, Server, data(1, b"", true)), LATE);
    let reset = Frame::RstStream {
        stream: 1,
        status: 5,
    };
    assert_eq!(judged(&mut l, Client, reset), LATE);
    assert_eq!(l.open(), 0);
}

#[test]
fn streams_have_an_order_and_an_owner() {
    use Sender::{Client, Server};
    let mut l = Ledger::default();
    assert_eq!(judged(&mut l, Client, syn(5, &[])), PASS);
    assert_eq!(
        judged(&mut l, Client, syn(5, &[])),
        Err(SpdyError::StreamOrder(5))
    );
    assert_eq!(
        judged(&mut l, Client, syn(3, &[])),
        Err(SpdyError::StreamOrder(3))
    );
    assert_eq!(
        judged(&mut l, Client, syn(8, &[])),
        Err(SpdyError::StreamOrder(8))
    );
    assert_eq!(judged(&mut l, Server, syn(2, &[])), PASS);
    let never = |kind, stream| Err(SpdyError::NeverOpened { kind, stream });
    assert_eq!(judged(&mut l, Server, data(7, b"", true)), never("DATA", 7));
    assert_eq!(judged(&mut l, Server, reply(7)), never("SYN_REPLY", 7));
    assert_eq!(judged(&mut l, Client, data(4, b"", true)), never("DATA", 4));
    assert_eq!(
        judged(&mut l, Client, data(3, b"", true)),
        LATE,
        "skipped ids are as good as closed"
    );
}

#[test]
fn streams_at_once_are_bounded() {
    let mut l = Ledger::default();
    for n in 0..1024 {
        assert_eq!(judged(&mut l, Sender::Client, syn(n * 2 + 1, &[])), PASS);
    }
    assert_eq!(
        judged(&mut l, Sender::Client, syn(2049, &[])),
        Err(SpdyError::TooManyStreams(1024))
    );
}

#[test]
fn windows_are_accounted_for() {
    use Sender::{Client, Server};
    let mut l = Ledger::default();
    let grant = |stream, delta| Frame::WindowUpdate { stream, delta };
    assert_eq!(judged(&mut l, Client, syn(1, &[])), PASS);
    assert_eq!(judged(&mut l, Server, grant(1, MAX_31 - 65536)), PASS);
    assert_eq!(
        judged(&mut l, Server, grant(1, 1)),
        Err(SpdyError::Window(1))
    );

    let mut l = Ledger::default();
    assert_eq!(judged(&mut l, Client, syn(1, &[])), PASS);
    assert_eq!(judged(&mut l, Client, data(1, &[0; 10], false)), PASS);
    assert_eq!(
        judged(&mut l, Server, grant(1, MAX_31 - 65536 + 10)),
        PASS,
        "what was sent makes room"
    );
    let settings = Frame::Settings {
        clear: false,
        settings: vec![Setting {
            flags: 0,
            id: 7,
            value: MAX_31,
        }],
    };
    assert_eq!(judged(&mut l, Server, settings), Err(SpdyError::Window(1)));
    assert_eq!(
        judged(&mut l, Server, grant(0, MAX_31)),
        Err(SpdyError::Window(0))
    );
    let mut l = Ledger::default();
    assert_eq!(
        judged(&mut l, Server, grant(9, 1)),
        Err(SpdyError::NeverOpened {
            kind: "WINDOW_UPDATE",
            stream: 9
        })
    );
}

fn any_headers() -> impl Strategy<Value = Headers> {
    proptest::collection::btree_map(
        "[!-@\\[-~]{1,20}",
        proptest::collection::vec(any::<u8>(), 0..200),
        0..10,
    )
    .prop_map(|pairs| Headers::new(pairs.into_iter().map(|(name, value)| (name, value.into()))))
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let stream = 1..=MAX_31;
    prop_oneof![
        (
            stream.clone(),
            0..=MAX_31,
            0..8_u8,
            any::<[bool; 2]>(),
            any_headers()
        )
            .prop_map(
                |(stream, associated, priority, [fin, unidirectional], headers)| Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional,
                    headers
                }
            ),
        (stream.clone(), any::<bool>(), any_headers()).prop_map(|(stream, fin, headers)| {
            Frame::SynReply {
                stream,
                fin,
                headers,
            }
        }),
        (stream.clone(), any::<bool>(), any_headers()).prop_map(|(stream, fin, headers)| {
            Frame::Headers {
                stream,
                fin,
                headers,
            }
        }),
        (stream.clone(), any::<u32>())
            .prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        any::<u32>().prop_map(Frame::Ping),
        (0..=MAX_31, any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (0..=MAX_31, 1..=MAX_31).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        (
            any::<bool>(),
            proptest::collection::vec((any::<u8>(), 0..7_u32, any::<u32>()), 0..32)
        )
            .prop_map(|(clear, settings)| Frame::Settings {
                clear,
                settings: settings
                    .into_iter()
                    .map(|(flags, id, value)| Setting { flags, id, value })
                    .collect()
            }),
        (
            stream,
            any::<bool>(),
            proptest::collection::vec(any::<u8>(), 0..3000)
        )
            .prop_map(|(stream, fin, bytes)| {
                Frame::Data(Data {
                    stream,
                    fin,
                    bytes: bytes.into(),
                })
            }),
    ]
}

proptest! {
    #[test]
    fn frames_come_back_however_they_are_cut(
        frames in proptest::collection::vec(any_frame(), 0..12),
        piece in 1..2000_usize,
    ) {
        let bytes = encoded(&frames);
        prop_assert_eq!(decoded(bytes.chunks(piece)).unwrap(), frames);
    }

    #[test]
    fn any_bytes_are_frames_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000), piece in 1..100_usize) {
        drop(decoded(bytes.chunks(piece)));
    }
}
