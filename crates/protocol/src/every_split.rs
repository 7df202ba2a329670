//! Every split: a stream that is cut anywhere gives the same frames as the whole stream, for every codec.

use alloc::boxed::Box;
use alloc::vec::Vec;
use std::fmt::Debug;
use std::format;
use std::string::String;

use proptest::prelude::*;

use crate::http1::{BodyDecoder, BodyPart, Limits, RequestDecoder, ResponseDecoder};
use crate::{ByteOrder, Codec, Decoded, LengthDelimited, LengthWidth, Lines, work};

/// What one call of a codec did, without borrowing.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Took(Event, usize),
    More(usize),
    Failed(String),
    End,
}

/// What the user of a codec sees.
#[derive(Debug, PartialEq, Clone)]
pub(crate) enum Event {
    Frame(String),
    /// Bytes that may be cut anywhere; neighbours are joined.
    Data(Vec<u8>),
}

/// A codec at the start of a stream: shown what is unread, and whether nothing will follow.
pub(crate) type Driver = Box<dyn FnMut(&[u8], bool) -> Step>;

type Streams = &'static [&'static [u8]];
type Start = fn() -> Driver;

/// Streams for each codec, good and bad. A new codec is a new line.
const STREAMS: &[(Start, Streams)] = &[
    (|| drive(Lines::new(8)), LINES),
    (|| drive(LengthDelimited::new(LengthWidth::Two, ByteOrder::BigEndian, 300)), FRAMES),
    (|| drive(LengthDelimited::new(LengthWidth::One, ByteOrder::LittleEndian, 300)), FRAMES),
    (|| drive(LengthDelimited::new(LengthWidth::Eight, ByteOrder::LittleEndian, 300)), FRAMES),
    (|| drive_requests(LIMITS), REQUESTS),
    (|| drive_responses(LIMITS), RESPONSES),
];

const LINES: Streams = &[
    b"",
    b"\n",
    b"\r\n\r\n",
    b"one\ntwo\r\nthree",
    b"12345678\n12345678\r\n12345678",
    b"12345678\r",
    b"123456789",
    b"a\n123456789\n",
    b"a\n1234567\r\r\n",
    b"a\rb\n",
    b"ends with cr\r",
];

const FRAMES: Streams = &[
    b"",
    b"\0",
    b"\0\0\0\x01a\0\x03abc",
    b"\x03abc\0\x02ab",
    b"\x03\0\0\0\0\0\0\0abc\0\0\0\0\0\0\0\0",
    b"\x03\0\0\0\0\0\0\0ab",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

const REQUESTS: Streams = &[
    b"",
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\n\r\nGET /a?b HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t z \t\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n\
      6;a=\"b;\\\"\" ; c\r\n world\r\n000\r\nDigest: x\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\nBad\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\n\r\n",
    b"GET / HTTP/9.9\r\nHost : a\n\r\n",
    b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a",
    b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    b"GET / HTTP/1.1\r\na: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\ng: 7\r\nh: 8\r\ni: 9\r\n\r\n",
    b"GET /0123456789012345678901234567890123456789012345678901234567890123456789 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: 0123456789012345678901234567890123456789012345678901234567890123456789\r\nHost: a\r\n\r\n",
];

const RESPONSES: Streams = &[
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nup to the end",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nok",
    b"HTTP/2.0 200 OK\r\n\r\n",
];

/// Small, so that short streams reach them.
const LIMITS: Limits =
    Limits { request_line: 64, field_line: 64, fields: 8, head: 256, chunk_extension: 16, trailers: 64 };

fn drive<C>(mut codec: C) -> Driver
where
    C: Codec + 'static,
    for<'a> C::Frame<'a>: Debug,
{
    Box::new(move |input, is_end| step(&mut codec, input, is_end, |frame| Event::Frame(format!("{frame:?}"))))
}

fn step<C: Codec>(
    codec: &mut C,
    input: &[u8],
    is_end: bool,
    event: impl FnOnce(C::Frame<'_>) -> Event,
) -> Step {
    if is_end {
        return match codec.decode_end(input) {
            Ok(Some((frame, consumed))) => Step::Took(event(frame), consumed),
            Ok(None) => Step::End,
            Err(error) => Step::Failed(format!("{error:?}")),
        };
    }
    match codec.decode(input) {
        Ok(Decoded::Frame { frame, consumed }) => Step::Took(event(frame), consumed),
        Ok(Decoded::More { at_least }) => Step::More(at_least),
        Err(error) => Step::Failed(format!("{error:?}")),
    }
}

/// Takes part in a body, or returns `None` when there is none to read.
fn step_body(body: &mut Option<BodyDecoder>, input: &[u8], is_end: bool) -> Option<Step> {
    let step = step(body.as_mut()?, input, is_end, |part| match part {
        BodyPart::Data(data) => Event::Data(data.to_vec()),
        BodyPart::End(trailers) => Event::Frame(format!("{:?}", trailers.fields().collect::<Vec<_>>())),
    });
    if body.as_ref().is_some_and(BodyDecoder::is_done) {
        *body = None;
    }
    Some(step)
}

pub(crate) fn drive_requests(limits: Limits) -> Driver {
    let mut heads = RequestDecoder::new(limits);
    let mut body = None;
    Box::new(move |input, is_end| {
        if let Some(step) = step_body(&mut body, input, is_end) {
            return step;
        }
        step(&mut heads, input, is_end, |head| {
            body = Some(BodyDecoder::new(head.body(), &limits));
            Event::Frame(format!("{head:?}"))
        })
    })
}

pub(crate) fn drive_responses(limits: Limits) -> Driver {
    let mut heads = ResponseDecoder::new(limits);
    let mut body = None;
    Box::new(move |input, is_end| {
        if let Some(step) = step_body(&mut body, input, is_end) {
            return step;
        }
        step(&mut heads, input, is_end, |head| {
            body = Some(BodyDecoder::new(head.body_after(crate::http1::Method::Get), &limits));
            Event::Frame(format!("{head:?}"))
        })
    })
}

/// Everything a stream gave, and the error it ended with.
type Transcript = (Vec<Event>, Option<String>);

/// Feeds `stream`, cut before each of `cuts`, as a connection would.
fn feed(mut driver: Driver, stream: &[u8], cuts: &[usize]) -> Transcript {
    let mut events = Vec::new();
    let (mut consumed_before, mut owed_until) = (0, 0);
    for end in cuts.iter().copied().chain([stream.len()]) {
        loop {
            let input = &stream[consumed_before..end];
            match driver(input, false) {
                Step::Took(event, consumed) => {
                    assert!(consumed <= input.len(), "took {consumed} of {} bytes", input.len());
                    assert!(end >= owed_until, "a frame before the bytes it was said to need");
                    consumed_before += consumed;
                    push(&mut events, event);
                }
                Step::More(at_least) => {
                    assert!(at_least >= 1);
                    owed_until = owed_until.max(end + at_least);
                    break;
                }
                Step::Failed(error) => {
                    go_on(driver, input);
                    return (events, Some(error));
                }
                Step::End => panic!("an end before the end"),
            }
        }
    }
    loop {
        let input = &stream[consumed_before..];
        match driver(input, true) {
            Step::Took(event, consumed) => {
                assert!(consumed <= input.len(), "took {consumed} of {} bytes", input.len());
                consumed_before += consumed;
                push(&mut events, event);
            }
            Step::Failed(error) => {
                go_on(driver, input);
                return (events, Some(error));
            }
            Step::End => return (events, None),
            Step::More(_) => panic!("more at the end"),
        }
    }
}

/// Calls a codec again that has failed, with less, the same and other bytes: it may say what it likes, but not panic.
fn go_on(mut driver: Driver, input: &[u8]) {
    let other = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for next in [&input[..input.len() / 2], input, b"", other, &input[..input.len() / 3]] {
        for is_end in [false, true] {
            if let Step::Took(_, consumed) = driver(next, is_end) {
                assert!(consumed <= next.len(), "took {consumed} of {} bytes", next.len());
            }
        }
    }
}

fn push(events: &mut Vec<Event>, event: Event) {
    match (events.last_mut(), event) {
        (Some(Event::Data(joined)), Event::Data(data)) => joined.extend_from_slice(&data),
        (_, event) => events.push(event),
    }
}

fn each_byte(stream: &[u8]) -> Vec<usize> {
    (1..stream.len()).collect()
}

#[test]
fn every_split_gives_the_same_frames() {
    for &(driver, streams) in STREAMS {
        for &stream in streams {
            let whole = feed(driver(), stream, &[]);
            let text = stream.escape_ascii();
            assert_eq!(feed(driver(), stream, &each_byte(stream)), whole, "byte by byte: {text}");
            for cut in 0..=stream.len() {
                assert_eq!(feed(driver(), stream, &[cut]), whole, "cut at {cut}: {text}");
            }
        }
    }
}

/// Checks that a stream of valid messages is read to its end wherever it is cut, and that this stream with `edits`
/// gives the same however it is cut.
pub(crate) fn check_splits(start: impl Fn() -> Driver, stream: &[u8], edits: &[(u8, usize, u8)]) {
    let whole = feed(start(), stream, &[]);
    assert_eq!(whole.1, None, "{}", stream.escape_ascii());
    assert_eq!(feed(start(), stream, &each_byte(stream)), whole, "byte by byte: {}", stream.escape_ascii());
    for cut in 0..=stream.len() {
        assert_eq!(feed(start(), stream, &[cut]), whole, "cut at {cut}: {}", stream.escape_ascii());
    }
    let broken = mutated(stream, edits);
    let whole = feed(start(), &broken, &[]);
    assert_eq!(feed(start(), &broken, &each_byte(&broken)), whole, "byte by byte: {}", broken.escape_ascii());
    for cut in 0..=broken.len() {
        assert_eq!(feed(start(), &broken, &[cut]), whole, "cut at {cut}: {}", broken.escape_ascii());
    }
}

/// Edits for [`check_splits`].
pub(crate) fn edits() -> impl Strategy<Value = Vec<(u8, usize, u8)>> {
    prop::collection::vec((any::<u8>(), any::<usize>(), any::<u8>()), 0..6)
}

/// A stream of the list with some bytes changed, removed, inserted or repeated.
fn mutated(stream: &[u8], edits: &[(u8, usize, u8)]) -> Vec<u8> {
    let mut bytes = stream.to_vec();
    for &(kind, at, byte) in edits {
        let at = at % (bytes.len() + 1);
        match kind % 5 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            3 => bytes.insert(at, b"\r\n\0 :;,\t\"\\0"[byte as usize % 11]),
            _ => bytes.extend_from_within(at..),
        }
        bytes.truncate(2048);
    }
    bytes
}

/// Mutations are cheap; PROPTEST_CASES asks for still more.
fn more_cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.max(2000), ..config }
}

proptest! {
    #![proptest_config(more_cases())]

    #[test]
    fn mutations_never_panic_and_splits_never_matter(
        codec in 0..STREAMS.len(),
        stream in any::<prop::sample::Index>(),
        edits in edits(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let (driver, streams) = STREAMS[codec];
        let stream = mutated(streams[stream.index(streams.len())], &edits);
        let whole = feed(driver(), &stream, &[]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(&feed(driver(), &stream, &cuts), &whole);
        prop_assert_eq!(&feed(driver(), &stream, &each_byte(&stream)), &whole);
    }

    #[test]
    fn noise_never_panics(codec in 0..STREAMS.len(), noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let driver = STREAMS[codec].0;
        let whole = feed(driver(), &noise, &[]);
        prop_assert_eq!(feed(driver(), &noise, &each_byte(&noise)), whole);
    }
}

/// The bytes looked at while `stream` arrives one byte at a time.
fn work_of(driver: Driver, stream: &[u8]) -> usize {
    work::during(|| {
        let (_, error) = feed(driver, stream, &each_byte(stream));
        assert_eq!(error, None);
    })
}

#[test]
fn one_byte_at_a_time_costs_linear_time() {
    let limits = Limits { head: 1 << 20, request_line: 1 << 20, field_line: 1 << 20, ..Limits::default() };
    let limits = Limits { fields: 2000, ..limits };
    for length in [1_000, 8_000] {
        let line = [&b"x".repeat(length)[..], b"\r\n"].concat();
        assert!(work_of(drive(Lines::new(length)), &line) <= line.len());

        let one_field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length));
        let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(length / 6));
        let empty_lines = format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(length / 2));
        for head in [one_field, fields, empty_lines] {
            let mut decoder = RequestDecoder::new(limits);
            let work = work::during(|| {
                for end in 1..=head.len() {
                    let decoded = decoder.decode(&head.as_bytes()[..end]).unwrap();
                    assert_eq!(decoded.into_frame().is_some(), end == head.len());
                }
            });
            // Once to search for the end, once to read, and once more to be sure of the lengths of long lines.
            assert!(work <= 3 * head.len(), "{work} for {}", head.len());
        }

        let limits = Limits { trailers: 1 << 20, chunk_extension: 1 << 20, ..limits };
        let trailers = format!("0\r\nX: {}\r\n\r\n", "x".repeat(length));
        let extension = format!("0;a={}\r\n\r\n", "x".repeat(length));
        for body in [trailers, extension] {
            let decoder = BodyDecoder::new(crate::http1::BodyLength::Chunked, &limits);
            let mut body_of = Some(decoder);
            let work = work::during(|| {
                for end in 1..=body.len() {
                    let step = step_body(&mut body_of, &body.as_bytes()[..end], false);
                    assert_eq!(matches!(step, Some(Step::Took(..))), end == body.len());
                }
            });
            assert!(work <= 2 * body.len(), "{work} for {}", body.len());
        }
    }
}
