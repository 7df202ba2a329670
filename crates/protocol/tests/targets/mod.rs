//! A target is a check that holds for any bytes: called with mutated seeds by a test, and by libFuzzer from `fuzz/`.
//!
//! Each feeds a stream to a decoder, once whole and once cut, and both have to give the same.
#![allow(unreachable_pub)] // reachable from `fuzz/`, not from a test

use campanile_protocol::http1::{
    BodyDecoder, BodyLength, BodyPart, Fields, Limits, Method, RequestDecoder, RequestHead, ResponseDecoder,
    ResponseHead, Version,
};
use campanile_protocol::{ByteOrder, Codec, Decoded, LengthDelimited, LengthWidth, Lines};

/// Small, so that short streams reach them.
const LIMITS: Limits =
    Limits { request_line: 64, field_line: 64, fields: 8, head: 256, chunk_extension: 16, trailers: 64 };

/// What a stream gave: each frame as text, and the error it ended with.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Transcript {
    /// Frames, the bytes of a body that follow each other joined into one.
    pub frames: Vec<String>,
    /// Why the stream was refused.
    pub error: Option<String>,
}

/// Lines: none of them longer than the limit.
pub fn lines(data: &[u8]) -> Transcript {
    check_codec(data, || Lines::new(16))
}

/// Length-delimited frames, for every width of the length.
pub fn length_delimited(data: &[u8]) -> Transcript {
    let widths = [
        (LengthWidth::One, ByteOrder::BigEndian),
        (LengthWidth::Two, ByteOrder::LittleEndian),
        (LengthWidth::Four, ByteOrder::BigEndian),
        (LengthWidth::Eight, ByteOrder::LittleEndian),
    ];
    joined(widths.map(|(width, order)| check_codec(data, || LengthDelimited::new(width, order, 300))))
}

/// Bodies of HTTP/1.1, for every way to find the end.
pub fn http1_body(data: &[u8]) -> Transcript {
    let lengths = [BodyLength::Chunked, BodyLength::Empty, BodyLength::Length(20), BodyLength::UntilClose];
    joined(lengths.map(|length| {
        check(data, || {
            let mut body = BodyDecoder::new(length, &LIMITS);
            // What follows the body is not its affair.
            move |input: &[u8], ended: bool, seen: &mut Transcript| {
                if body.is_done() { Ok(None) } else { body_step(&mut body, input, ended, seen) }
            }
        })
    }))
}

/// HTTP/1.1 requests with their bodies. Heads that are accepted keep the rules that keep servers apart from trouble.
pub fn http1_request(data: &[u8]) -> Transcript {
    check(data, || {
        let mut heads = RequestDecoder::new(LIMITS);
        let mut body: Option<BodyDecoder> = None;
        move |input: &[u8], ended: bool, seen: &mut Transcript| {
            if let Some(decoder) = &mut body {
                let next = body_step(decoder, input, ended, seen);
                if decoder.is_done() {
                    body = None;
                }
                return next;
            }
            let each = |head: RequestHead<'_>| {
                check_request(&head);
                seen.frame(format!("{head:?}"));
                body = Some(BodyDecoder::new(head.body(), &LIMITS));
            };
            let next = if ended {
                last_step(heads.decode_end(input), each)
            } else {
                step(heads.decode(input), each)
            };
            check_head(input, &next);
            next
        }
    })
}

/// HTTP/1.1 responses with their bodies.
pub fn http1_response(data: &[u8]) -> Transcript {
    check(data, || {
        let mut heads = ResponseDecoder::new(LIMITS);
        let mut body: Option<BodyDecoder> = None;
        move |input: &[u8], ended: bool, seen: &mut Transcript| {
            if let Some(decoder) = &mut body {
                let next = body_step(decoder, input, ended, seen);
                if decoder.is_done() {
                    body = None;
                }
                return next;
            }
            let each = |head: ResponseHead<'_>| {
                check_lengths(head.fields(), head.body_after(Method::Get));
                seen.frame(format!("{head:?}"));
                body = Some(BodyDecoder::new(head.body_after(Method::Get), &LIMITS));
            };
            let next = if ended {
                last_step(heads.decode_end(input), each)
            } else {
                step(heads.decode(input), each)
            };
            check_head(input, &next);
            next
        }
    })
}

/// A head that was accepted is lines in CRLF, without any other control but tab, folded nowhere.
fn check_head(input: &[u8], step: &Step) {
    let Ok(Some(consumed)) = *step else { return };
    let head = &input[..consumed];
    let text = head.escape_ascii();
    assert!(head.ends_with(b"\r\n\r\n") && consumed <= LIMITS.head, "{text}");
    for line in head.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r").unwrap_or_else(|| panic!("a bare LF in {text}"));
        assert!(line.len() <= LIMITS.request_line.max(LIMITS.field_line), "{text}");
        assert!(!line.iter().any(|&byte| byte != b'\t' && byte.is_ascii_control()), "{text}");
        assert!(!line.starts_with(b" ") && !line.starts_with(b"\t"), "{text}");
    }
}

/// What has to be true of a request whoever read it (RFC 9112 3.2, 6.1, 6.3).
fn check_request(head: &RequestHead<'_>) {
    let hosts = head.values("host").count();
    assert!(hosts <= 1, "{head:?}");
    assert!(hosts == 1 || head.version() == Version::Http10, "{head:?}");
    let is_encoded = head.field("transfer-encoding").is_some();
    assert!(!is_encoded || head.version() == Version::Http11, "{head:?}");
    assert!(head.target().as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{head:?}");
    check_lengths(head.fields(), head.body());
}

/// The length of a body is that of its one field, or chunked by its one coding.
fn check_lengths(fields: Fields<'_>, body: BodyLength) {
    let named = |name: &str| {
        let named = fields.filter(|field| field.name.replace('_', "-").eq_ignore_ascii_case(name));
        named.map(|field| String::from_utf8_lossy(field.value).to_ascii_lowercase()).collect::<Vec<_>>()
    };
    let text = format!("{fields:?} {body:?}");
    match (&named("content-length")[..], &named("transfer-encoding")[..]) {
        ([], []) => assert!(matches!(body, BodyLength::Empty | BodyLength::UntilClose), "{text}"),
        ([], [coding]) => {
            assert!(coding == "chunked" && matches!(body, BodyLength::Chunked | BodyLength::Empty), "{text}");
        }
        ([length], []) => match body {
            BodyLength::Length(read) => assert_eq!(length, &read.to_string(), "{text}"),
            body => assert_eq!(body, BodyLength::Empty, "{text}"),
        },
        _ => panic!("two lengths: {text}"),
    }
}

impl Transcript {
    /// Adds bytes of a body, whose cuts mean nothing: they are joined with those before.
    fn data(&mut self, data: &[u8]) {
        let text = data.escape_ascii().to_string();
        match self.frames.last_mut() {
            Some(last) if last.starts_with("data ") => last.push_str(&text),
            _ => self.frames.push(format!("data {text}")),
        }
    }

    fn frame(&mut self, frame: String) {
        self.frames.push(frame);
    }
}

fn joined<const N: usize>(transcripts: [Transcript; N]) -> Transcript {
    let mut all = Transcript::default();
    for transcript in transcripts {
        all.frames.extend(transcript.frames);
        all.error = all.error.or(transcript.error);
    }
    all
}

/// A decoder's next step: the bytes it took, `None` when it waits for more or is at the end, or why it failed.
type Step = Result<Option<usize>, String>;

/// Reads a step off what a decoder answered, and shows the frame to `each`.
fn step<F, E: std::fmt::Debug>(decoded: Result<Decoded<F>, E>, each: impl FnOnce(F)) -> Step {
    match decoded {
        Ok(Decoded::Frame { frame, consumed }) => {
            each(frame);
            Ok(Some(consumed))
        }
        Ok(Decoded::More { at_least }) => {
            assert!(at_least >= 1, "more, but none");
            Ok(None)
        }
        Err(error) => Err(format!("{error:?}")),
    }
}

/// The same for the end of the input.
fn last_step<F, E: std::fmt::Debug>(decoded: Result<Option<(F, usize)>, E>, each: impl FnOnce(F)) -> Step {
    match decoded {
        Ok(found) => Ok(found.map(|(frame, consumed)| {
            each(frame);
            consumed
        })),
        Err(error) => Err(format!("{error:?}")),
    }
}

fn body_step(body: &mut BodyDecoder, input: &[u8], ended: bool, seen: &mut Transcript) -> Step {
    let each = |part: BodyPart<'_>| match part {
        BodyPart::Data(data) => seen.data(data),
        BodyPart::End(trailers) => seen.frame(format!("{:?}", trailers.fields().collect::<Vec<_>>())),
    };
    if ended { last_step(body.decode_end(input), each) } else { step(body.decode(input), each) }
}

/// Checks one decoder: the first byte of `data` says where the rest is cut, and `start` makes a decoder for each run.
fn check<D>(data: &[u8], mut start: impl FnMut() -> D) -> Transcript
where
    D: FnMut(&[u8], bool, &mut Transcript) -> Step,
{
    let Some((&every, stream)) = data.split_first() else { return Transcript::default() };
    let whole = feed(start(), stream, stream.len().max(1));
    let cut = feed(start(), stream, usize::from(every).max(1));
    assert_eq!(whole, cut, "cut every {every} bytes: {}", stream.escape_ascii());
    whole
}

fn check_codec<C>(data: &[u8], mut codec: impl FnMut() -> C) -> Transcript
where
    C: Codec,
    for<'a> C::Frame<'a>: std::fmt::Debug,
{
    check(data, || {
        let mut codec = codec();
        move |input: &[u8], ended: bool, seen: &mut Transcript| {
            let each = |frame: C::Frame<'_>| seen.frame(format!("{frame:?}"));
            if ended { last_step(codec.decode_end(input), each) } else { step(codec.decode(input), each) }
        }
    })
}

fn feed<D>(mut decoder: D, stream: &[u8], every: usize) -> Transcript
where
    D: FnMut(&[u8], bool, &mut Transcript) -> Step,
{
    let mut seen = Transcript::default();
    let mut taken = 0;
    let ends = (every..stream.len()).step_by(every).map(|end| (end, false));
    for (end, ended) in ends.chain([(stream.len(), false), (stream.len(), true)]) {
        loop {
            match decoder(&stream[taken..end], ended, &mut seen) {
                Ok(Some(consumed)) => {
                    assert!(consumed <= end - taken, "took {consumed} of {} bytes", end - taken);
                    taken += consumed;
                }
                Ok(None) => break,
                Err(error) => {
                    seen.error = Some(error);
                    return seen;
                }
            }
        }
    }
    seen
}
