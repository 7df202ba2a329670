//! A second opinion: what we accept, kawa, the parser of the Sōzu proxy, does not read differently.
//!
//! Httparse, which takes heads apart and judges little, has to find the same parts in every head that we accept.
//!
//! Two readers of one stream that see messages end at different places are what request smuggling is made of. Kawa
//! stands in for the proxy in front of us: it shares no code with us, nor with httparse. Valid messages and mutations
//! of them are read by both. Where both see a message they have to agree on all of it and on where the next begins;
//! where one refuses and the other does not, the reason has to be one of those listed here. The cases are the same
//! each time; `PROPTEST_CASES` asks for more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;

use campanile_protocol::http1::{
    BodyDecoder, BodyLength, BodyPart, Fields, Limits, Method, RequestDecoder, ResponseDecoder,
};
use campanile_protocol::{Codec, Decoded};
use kawa::{Block, Buffer, Kawa, Kind, SliceBuffer, StatusLine, Store, Version, h1};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// What we refuse and kawa reads as a message. `Head` is that of a response.
const STRICTER: &[(&str, &str)] = &[
    ("Host", "kawa routes by whatever it holds"),
    ("HostMissing", "kawa leaves it to whoever routes"),
    ("HostRepeated", "kawa takes the first"),
    ("Target", "kawa checks no escapes and no authority, and lets any method have any form"),
    ("Method", "kawa lets quotation marks and slashes through"),
    ("FieldName", "the same, and empty names"),
    ("LookAlike", "kawa does not know them"),
    ("ContentLength", "kawa takes leading zeros"),
    ("ContentLengthRepeated", "kawa takes equal ones"),
    ("LengthAndEncoding", "kawa lets Transfer-Encoding win, as RFC 9112 6.3 allows a proxy"),
    ("TransferCoding", "kawa passes codings on that it does not know"),
    ("TransferEncoding", "kawa only looks at the last coding"),
    ("EncodingOnOldVersion", "kawa does not look at the version"),
    ("Expectation", "kawa passes them on"),
    ("TraceBody", "kawa passes it on"),
    ("MethodTooLong", "kawa has no such limit"),
    ("RequestLine", "kawa takes an empty method"),
    ("StatusLine", "kawa takes a status of less than 100"),
    ("Trailer", "kawa takes empty names here too"),
    ("ChunkSize", "kawa takes any number of leading zeros"),
];

/// What we accept and kawa refuses: why, and how to tell.
const LOOSER: &[(&str, Sign)] = &[
    ("empty lines before a request", |stream| stream.starts_with(b"\r\n")),
    ("bytes from 0x80 to 0x9f in a value or a reason", has_c1),
    ("extensions of a chunk", has_chunk_extension),
    (
        "no space behind the status",
        |stream| matches!(stream, [b'H', .., _] if stream[12..].starts_with(b"\r\n")),
    ),
];

/// Whether a stream has what a reason is about.
type Sign = fn(&[u8]) -> bool;

/// How often each reason was met.
type Tally = RefCell<BTreeMap<String, usize>>;

/// What a reader makes of the start of a stream.
#[derive(Debug)]
enum Reading {
    Message(Message),
    /// It waits for more.
    Partial,
    Refused(String),
}

#[derive(Debug, PartialEq)]
struct Message {
    /// Method and target, or the status; and the version.
    start: String,
    host: Option<String>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    /// Where the next message begins.
    end: usize,
}

#[test]
fn requests_are_read_alike() {
    let seen = run(Kind::Request, prop::collection::vec(requests(), 1..4));
    assert_seen(
        &seen,
        &[
            "agreed",
            "taken apart alike",
            "HostRepeated",
            "LengthAndEncoding",
            "ContentLengthRepeated",
            "TransferCoding",
        ],
    );
}

#[test]
fn responses_are_read_alike() {
    let seen = run(Kind::Response, prop::collection::vec(responses(), 1..4));
    assert_seen(
        &seen,
        &["agreed", "taken apart alike", "LengthAndEncoding", "ContentLengthRepeated", "TransferCoding"],
    );
}

/// Reads what `messages` generates, unchanged and mutated.
fn run(kind: Kind, messages: impl Strategy<Value = Vec<Vec<u8>>>) -> BTreeMap<String, usize> {
    let config = Config::default();
    let cases = config.cases.max(12_000);
    let config = Config { cases, rng_seed: RngSeed::Fixed(9112), failure_persistence: None, ..config };
    let edits = prop_oneof![
        1 => Just(Vec::new()),
        3 => prop::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ];
    let tally = Tally::default();
    TestRunner::new(config)
        .run(&(messages, edits), |(messages, edits)| {
            compare(kind, &mutated(&messages.concat(), &edits), edits.is_empty(), &tally);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    tally.into_inner()
}

fn assert_seen(seen: &BTreeMap<String, usize>, expected: &[&str]) {
    for reason in expected {
        assert!(seen.get(*reason).is_some_and(|&times| times >= 3), "{reason} is too rare: {seen:#?}");
    }
}

/// Has both read `stream`, message by message, until one of them stops.
fn compare(kind: Kind, mut stream: &[u8], is_valid: bool, tally: &Tally) {
    let count = |reason: &str| *tally.borrow_mut().entry(reason.into()).or_default() += 1;
    while !stream.is_empty() {
        let text = stream.escape_ascii();
        if let Some(ours) = parts_by_us(kind, stream) {
            assert_eq!(Some(ours), parts_by_httparse(kind, stream), "{text}");
            count("taken apart alike");
        }
        match (read_ours(kind, stream), read_theirs(kind, stream)) {
            (Reading::Message(ours), Reading::Message(mut theirs)) => {
                // Trailers that decide something are not shown by us.
                theirs.trailers.retain(|trailer| ours.trailers.contains(trailer));
                assert_eq!(ours, theirs, "{text}");
                count("agreed");
                stream = &stream[ours.end..];
                continue;
            }
            (Reading::Message(_), Reading::Refused(_)) => {
                let reason = LOOSER.iter().find(|(_, is_met)| is_met(stream));
                count(reason.unwrap_or_else(|| panic!("only we accept {text}")).0);
            }
            (Reading::Refused(error), Reading::Message(_)) => {
                assert!(!is_valid, "{error}: {text}");
                assert!(STRICTER.iter().any(|(known, _)| *known == error), "only we refuse {text}: {error}");
                count(&error);
            }
            (Reading::Message(ours), Reading::Partial) => panic!("they wait behind {ours:?}: {text}"),
            (Reading::Partial, Reading::Message(theirs)) => panic!("we wait behind {theirs:?}: {text}"),
            (Reading::Refused(error), _) => assert!(!is_valid, "{error}: {text}"),
            (Reading::Partial, _) => {}
        }
        return;
    }
}

/// A head taken apart: its start line, its fields and its length.
type Parts<'a> = (String, Vec<(&'a str, &'a [u8])>, usize);

fn parts_by_us(kind: Kind, stream: &[u8]) -> Option<Parts<'_>> {
    let (start, fields, length) = match kind {
        Kind::Request => {
            let (head, length) = RequestDecoder::new(Limits::default()).decode(stream).ok()?.into_frame()?;
            let (method, target) = (head.method().as_str(), head.target().as_str());
            (format!("{method} {target} {}", head.version().as_str()), head.fields(), length)
        }
        Kind::Response => {
            let (head, length) = ResponseDecoder::new(Limits::default()).decode(stream).ok()?.into_frame()?;
            (format!("{} {}", head.version().as_str(), head.status()), head.fields(), length)
        }
    };
    Some((start, fields.map(|field| (field.name, field.value)).collect(), length))
}

fn parts_by_httparse(kind: Kind, stream: &[u8]) -> Option<Parts<'_>> {
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let (start, fields, status) = match kind {
        Kind::Request => {
            let mut request = httparse::Request::new(&mut slots);
            let status = request.parse(stream).ok()?;
            let (method, target) = (request.method?, request.path?);
            (format!("{method} {target} HTTP/1.{}", request.version?), request.headers, status)
        }
        Kind::Response => {
            let mut response = httparse::Response::new(&mut slots);
            let status = response.parse(stream).ok()?;
            (format!("HTTP/1.{} {}", response.version?, response.code?), response.headers, status)
        }
    };
    let httparse::Status::Complete(length) = status else { return None };
    Some((start, fields.iter().map(|field| (field.name, field.value)).collect(), length))
}

fn read_ours(kind: Kind, stream: &[u8]) -> Reading {
    let limits = Limits::default();
    match kind {
        Kind::Request => match RequestDecoder::new(limits).decode(stream) {
            Ok(Decoded::Frame { frame: head, consumed }) => {
                let target = head.target().as_str();
                let start = format!("{} {target} {}", head.method().as_str(), head.version().as_str());
                let message = message(start, head.host(), head.fields(), consumed);
                read_our_body(message, head.body(), stream)
            }
            Ok(Decoded::More { .. }) => Reading::Partial,
            Err(error) => refused(error),
        },
        Kind::Response => match ResponseDecoder::new(limits).decode(stream) {
            Ok(Decoded::Frame { frame: head, consumed }) => {
                let start = format!("{} {}", head.status(), head.version().as_str());
                let message = message(start, None, head.fields(), consumed);
                read_our_body(message, head.body_after(Method::Get), stream)
            }
            Ok(Decoded::More { .. }) => Reading::Partial,
            Err(error) => refused(error),
        },
    }
}

fn message(start: String, host: Option<&str>, fields: Fields<'_>, end: usize) -> Message {
    let fields = fields.map(|field| (field.name.to_owned(), field.value.to_vec()));
    let fields = fields.filter(|(name, _)| is_compared(name)).collect();
    Message { start, host: host.map(str::to_owned), fields, body: Vec::new(), trailers: Vec::new(), end }
}

/// Kawa takes Host and a doubled length out of the fields; what they say is compared all the same.
fn is_compared(name: &str) -> bool {
    !["host", "content-length"].iter().any(|taken| name.eq_ignore_ascii_case(taken))
}

/// The error by its name, whichever kind of message it is in.
fn refused(error: impl Debug) -> Reading {
    let name = format!("{error:?}");
    Reading::Refused(name.trim_start_matches("Head(").trim_end_matches(')').to_owned())
}

fn read_our_body(mut message: Message, length: BodyLength, stream: &[u8]) -> Reading {
    let mut decoder = BodyDecoder::new(length, &Limits::default());
    loop {
        match decoder.decode(&stream[message.end..]) {
            Ok(Decoded::Frame { frame, consumed }) => {
                message.end += consumed;
                match frame {
                    BodyPart::Data(data) => message.body.extend_from_slice(data),
                    BodyPart::End(trailers) => {
                        let fields =
                            trailers.fields().map(|field| (field.name.to_owned(), field.value.to_vec()));
                        message.trailers = fields.collect();
                        return Reading::Message(message);
                    }
                }
            }
            Ok(Decoded::More { .. }) => return Reading::Partial,
            Err(error) => return refused(error),
        }
    }
}

fn read_theirs(kind: Kind, stream: &[u8]) -> Reading {
    let mut memory = vec![0; stream.len()];
    let mut kawa = Kawa::new(kind, Buffer::new(SliceBuffer(&mut memory)));
    kawa.storage.write_all(stream).expect("memory for all of it");
    h1::parse(&mut kawa, &mut h1::NoCallbacks);
    if kawa.is_error() {
        return Reading::Refused(format!("{:?}", kawa.parsing_phase));
    }
    if !kawa.is_terminated() {
        return Reading::Partial;
    }
    let bytes = kawa.storage.buffer();
    let of = |store: &Store| store.data_opt(bytes).unwrap_or_default().to_vec();
    let text = |store: &Store| String::from_utf8_lossy(&of(store)).into_owned();
    let (start, host) = match &kawa.detached.status_line {
        StatusLine::Request { version, method, uri, authority, .. } => {
            let host = (!authority.is_empty()).then(|| text(authority));
            (format!("{} {} {}", text(method), text(uri), version_of(*version)), host)
        }
        StatusLine::Response { version, code, .. } => (format!("{code} {}", version_of(*version)), None),
        StatusLine::Unknown => panic!("a message without a start"),
    };
    let mut theirs =
        Message { start, host, fields: Vec::new(), body: Vec::new(), trailers: Vec::new(), end: 0 };
    let mut is_body_over = false;
    for block in &kawa.blocks {
        match block {
            Block::Header(pair) if pair.is_elided() => {}
            Block::Header(pair) if is_body_over => theirs.trailers.push((text(&pair.key), of(&pair.val))),
            Block::Header(pair) => theirs.fields.push((text(&pair.key), of(&pair.val))),
            Block::Chunk(chunk) => theirs.body.extend(of(&chunk.data)),
            Block::Flags(flags) => is_body_over |= flags.end_body,
            Block::StatusLine | Block::Cookies | Block::ChunkHeader(_) => {}
        }
    }
    theirs.fields.retain(|(name, _)| is_compared(name));
    theirs.end = kawa.storage.head;
    Reading::Message(theirs)
}

fn version_of(version: Version) -> &'static str {
    match version {
        Version::V10 => "HTTP/1.0",
        Version::V11 => "HTTP/1.1",
        other => panic!("a version of HTTP/1.x: {other:?}"),
    }
}

/// Whether a status or field line of `stream`, or what looks like one, has a byte from 0x80 to 0x9f in it.
fn has_c1(stream: &[u8]) -> bool {
    stream.split(|&byte| byte == b'\n').any(|line| {
        let name = line.iter().take_while(|byte| byte.is_ascii_graphic() && **byte != b':').count();
        let is_text = name > 0 && line.get(name) == Some(&b':') || line.starts_with(b"HTTP/1.");
        is_text && line.iter().any(|byte| (0x80..0xa0).contains(byte))
    })
}

/// Whether a chunk line of `stream` has more than a size; for streams that hold a chunked body.
fn has_chunk_extension(stream: &[u8]) -> bool {
    stream.split(|&byte| byte == b'\n').any(|line| {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        digits > 0 && matches!(line[digits..], [b';' | b' ' | b'\t', ..])
    })
}

fn requests() -> impl Strategy<Value = Vec<u8>> {
    let method = "(GET|POST|PUT|OPTIONS|TRACE|[A-Za-z!#$%&'*+.^_|~-]{1,9})";
    let target = "(/[a-z0-9._~!$&'()*+,;=:@/-]{0,9}(%[3-9a-f][0-9A-F])?(\\?[a-z=&/?]{0,9})?|\
                  https?://[a-z.]{1,9}(:[1-9][0-9])?/?)";
    let version = prop_oneof![9 => Just("1.1"), 1 => Just("1.0")];
    (method, target, version, host(), content(false)).prop_map(|(method, target, version, host, content)| {
        // CONNECT, TRACE with content and chunks in HTTP/1.0 are not valid.
        let (method, version) = match &method[..] {
            "CONNECT" | "TRACE" => ("GET".to_owned(), "1.1"),
            _ if content.starts_with(b"Transfer") => (method, "1.1"),
            _ => (method, version),
        };
        [format!("{method} {target} HTTP/{version}\r\nHost:{host}\r\n").as_bytes(), &content].concat()
    })
}

fn host() -> impl Strategy<Value = String> {
    " {0,2}([a-z0-9.-]{1,9}|\\[::[0-9a-f]{1,4}\\])(:[1-9][0-9]{0,3})?[ \t]{0,2}"
}

fn responses() -> impl Strategy<Value = Vec<u8>> {
    let status = prop::sample::select(&["100", "103", "200", "204", "299", "304", "404", "500"][..]);
    (status, "( [A-Za-z ]{0,9}){1}", content(true)).prop_map(|(status, reason, content)| {
        let version = if content.starts_with(b"Transfer") || status < "200" { "1.1" } else { "1.0" };
        // Without a body by its status, whatever its fields say.
        let end = match status {
            "100" | "103" | "204" | "304" => {
                content.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
            }
            _ => None,
        };
        let content = &content[..end.unwrap_or(content.len())];
        [format!("HTTP/{version} {status}{reason}\r\n").as_bytes(), content].concat()
    })
}

/// Fields, the end of the head, and a body that is framed by them.
fn content(needs_end: bool) -> impl Strategy<Value = Vec<u8>> {
    let value = "[ \t]{0,2}([!-~]([ \t!-~]{0,9}[!-~])?)?[ \t]{0,2}";
    let fields = prop::collection::vec(("X-[A-Za-z0-9!#$%&'*+.^_|~-]{1,9}", value), 0..4);
    let fields =
        fields.prop_map(|fields| fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect());
    let body = prop_oneof![
        1 => Just(if needs_end { sized(&[]) } else { Vec::new() }),
        2 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|data| sized(&data)),
        3 => (prop::collection::vec(chunk(), 0..4), prop::bool::weighted(0.3)).prop_map(chunked),
    ];
    (fields, body).prop_map(|(fields, body): (String, Vec<u8>)| match body.is_empty() {
        true => [fields.as_bytes(), b"\r\n"].concat(),
        false => body_behind(&fields, &body),
    })
}

/// `body` begins with the field that frames it.
fn body_behind(fields: &str, body: &[u8]) -> Vec<u8> {
    let line = body.iter().position(|&byte| byte == b'\n').expect("a field line") + 1;
    [&body[..line], fields.as_bytes(), b"\r\n", &body[line..]].concat()
}

fn sized(data: &[u8]) -> Vec<u8> {
    [format!("Content-Length: {}\r\n", data.len()).as_bytes(), data].concat()
}

/// The size as it is written, an extension, and the data.
fn chunk() -> impl Strategy<Value = (bool, String, Vec<u8>)> {
    let extension =
        prop_oneof![9 => Just(String::new()), 1 => "[ \t]{0,2};[a-z]{1,3}(=[a-z]{1,3}|=\"[a-z; ]{0,5}\")?"];
    (any::<bool>(), extension, prop::collection::vec(any::<u8>(), 1..40))
}

fn chunked((chunks, has_trailers): (Vec<(bool, String, Vec<u8>)>, bool)) -> Vec<u8> {
    let mut body = b"Transfer-Encoding: chunked\r\n".to_vec();
    for (is_upper, extension, data) in chunks {
        let size = if is_upper { format!("{:X}", data.len()) } else { format!("0{:x}", data.len()) };
        body.extend([size.as_bytes(), extension.as_bytes(), b"\r\n", &data, b"\r\n"].concat());
    }
    let trailers: &[u8] = if has_trailers { b"Digest: x\r\nHost: y\r\n" } else { b"" };
    [&body, &b"0\r\n"[..], trailers, b"\r\n"].concat()
}

/// Words that change what a message means, put between its bytes.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b" ",
    b",",
    b"0",
    b"\r\nContent-Length: 3",
    b"\r\nContent-Length: 3\r\nContent-Length: 3",
    b"\r\nContent-Length: 003",
    b"\r\nTransfer-Encoding: chunked",
    b"\r\nTransfer-Encoding: gzip, chunked",
    b"\r\nTransfer-Encoding: chunked, identity",
    b"\r\nTransfer_Encoding: chunked",
    b"\r\nHost: b",
    b"\r\nExpect: x",
    b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
    b"0\r\n\r\n",
];

/// `stream` with some bytes changed, removed, inserted or repeated; words mostly go where a line ends.
fn mutated(stream: &[u8], edits: &[(u8, prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = stream.to_vec();
    for (kind, at, byte) in edits {
        let at = at.index(bytes.len() + 1);
        match kind % 8 {
            0 if at < bytes.len() => bytes[at] = *byte,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, *byte),
            3 => bytes.insert(at, b"\r\n\0 :;,\t\"0/%"[usize::from(*byte) % 12]),
            4 => bytes.extend_from_within(at..),
            kind => {
                let word = WORDS[usize::from(*byte) % WORDS.len()];
                let line_end = bytes[at..].windows(2).position(|end| end == b"\r\n").map(|end| at + end);
                let at = if kind == 5 { at } else { line_end.unwrap_or(at) };
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}
