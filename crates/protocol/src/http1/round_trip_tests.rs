//! Round trips: messages that are written are read as they were meant, however they are cut.

use alloc::vec::Vec;
use std::format;
use std::string::String;

use proptest::prelude::*;

use super::{BodyDecoder, BodyEncoder, BodyPart, Limits, Method, RequestDecoder, RequestWriter, WriteError};
use crate::every_split::{check_splits, drive_requests, edits};
use crate::{Codec, Decoded, SliceSink};

/// A request as its sender means it.
#[derive(Debug, Clone)]
struct Message {
    method: String,
    target: String,
    host: String,
    fields: Vec<(String, Vec<u8>)>,
    pieces: Vec<Vec<u8>>,
    is_chunked: bool,
    keep_alive: bool,
}

fn messages() -> impl Strategy<Value = Message> {
    let method = "(GET|POST|PUT|DELETE|OPTIONS|[A-Z!#$%&'*+.^_`|~-]{1,20})";
    let target = "(/|http://[a-z]{1,9}(:[1-9][0-9]{0,3})?/)\
                  ([a-z0-9._~!$&'()*+,;=:@/-]|%[3-9a-f][0-9A-F]){0,30}(\\?([!$&-;=?-~]|%[0-9a-f][0-9A-F]){0,20})?";
    let host = "([a-z0-9.-]{1,20}|\\[::[0-9a-f]{1,4}\\])(:[1-9][0-9]{0,3})?";
    let value = "([!-~\u{e9}]([ \t!-~]{0,20}[!-~])?)?".prop_map(String::into_bytes);
    let fields = prop::collection::vec(("X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", value), 0..8);
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8);
    (method, target, host, fields, pieces, any::<bool>(), any::<bool>()).prop_map(
        |(method, target, host, fields, pieces, is_chunked, keep_alive)| Message {
            method: if ["CONNECT", "TRACE"].contains(&&method[..]) { "GET".into() } else { method },
            target,
            host,
            fields,
            pieces,
            is_chunked,
            keep_alive,
        },
    )
}

fn write(message: &Message, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let method = Method::Extension(&message.method);
    let mut request = RequestWriter::begin(out, method, &message.target, &message.host)?;
    for (name, value) in &message.fields {
        request.field(name, value)?;
    }
    if !message.keep_alive {
        request.close();
    }
    let length = message.pieces.iter().map(Vec::len).sum::<usize>() as u64;
    let mut body: BodyEncoder =
        if message.is_chunked { request.stream()? } else { request.length(length)? };
    message.pieces.iter().try_for_each(|piece| body.write(piece, out))?;
    body.finish(&[], out).map(|_| ())
}

/// Checks one head, and returns the decoder of its body with the bytes it took.
fn check_head(decoder: &mut RequestDecoder, input: &[u8], message: &Message) -> Option<(BodyDecoder, usize)> {
    let (head, consumed) = decoder.decode(input).unwrap().into_frame()?;
    assert_eq!(head.method().as_str(), message.method);
    assert_eq!(head.target().as_str(), message.target);
    assert_eq!(head.field("host"), Some(message.host.as_bytes()));
    assert_eq!(head.keep_alive(), message.keep_alive);
    for (field, (name, value)) in head.fields().skip(1).zip(&message.fields) {
        assert_eq!((field.name, field.value), (&name[..], &value[..]));
    }
    assert_eq!(head.fields().len(), message.fields.len() + 2 + usize::from(!message.keep_alive));
    Some((BodyDecoder::new(head.body(), &Limits::default()), consumed))
}

/// Reads the messages as a connection would that receives `step` bytes at a time.
fn read(stream: &[u8], messages: &[Message], step: usize) {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut body: Option<BodyDecoder> = None;
    let mut messages = messages.iter().peekable();
    let (mut start, mut end, mut data) = (0, 0, Vec::new());
    while let Some(message) = messages.peek() {
        let input = &stream[start..end];
        let taken = match &mut body {
            None => check_head(&mut decoder, input, message).map(|(decoder, consumed)| {
                body = Some(decoder);
                consumed
            }),
            Some(decoder) => match decoder.decode(input).unwrap() {
                Decoded::More { .. } => None,
                Decoded::Frame { frame: BodyPart::Data(piece), consumed } => {
                    data.extend_from_slice(piece);
                    Some(consumed)
                }
                Decoded::Frame { frame: BodyPart::End(_), consumed } => {
                    assert_eq!(data, message.pieces.concat());
                    data.clear();
                    body = None;
                    messages.next();
                    Some(consumed)
                }
            },
        };
        match taken {
            Some(consumed) => start += consumed,
            None => {
                assert!(end < stream.len(), "a message without an end");
                end = (end + step).min(stream.len());
            }
        }
    }
    assert_eq!(start, stream.len());
}

proptest! {
    #[test]
    fn requests_that_are_written_are_read(messages in prop::collection::vec(messages(), 1..4), step in 1..200usize) {
        let mut out = Vec::new();
        for message in &messages {
            write(message, &mut out).unwrap();
        }
        read(&out, &messages, step);
    }

    #[test]
    fn requests_are_the_same_at_every_split(messages in prop::collection::vec(messages(), 1..3), edits in edits()) {
        let mut out = Vec::new();
        for message in &messages {
            write(message, &mut out).unwrap();
        }
        check_splits(|| drive_requests(Limits::default()), &out, &edits);
    }
}

#[test]
fn requests_that_cannot_be_read_are_not_written() {
    for (method, target, host) in [
        ("G T", "/", "a"),
        ("", "/", "a"),
        ("GET", "", "a"),
        ("GET", "/ b", "a"),
        ("GET", "/\r\nX: y", "a"),
        ("GET", "*", "a"),
        ("CONNECT", "/", "a"),
        ("GET", "/", ""),
        ("GET", "/", "a\r\nX: y"),
        ("GET", "/", "u@a"),
    ] {
        let mut out = Vec::new();
        let begun = RequestWriter::begin(&mut out, Method::Extension(method), target, host).err();
        assert_eq!(begun, Some(WriteError::RequestLine), "{method} {target} {host}");
    }
    let mut out = Vec::new();
    let mut request = RequestWriter::begin(&mut out, Method::Get, "/", "a").unwrap();
    for name in ["Host", "content-length", "Transfer-Encoding", "connection"] {
        assert_eq!(request.field(name, b"x").err(), Some(WriteError::FramingField));
    }
    drop(request);
    assert!(out.is_empty());
}

#[test]
fn requests_without_a_body_say_so_only_where_one_is_expected() {
    for (method, length) in [(Method::Get, ""), (Method::Delete, ""), (Method::Post, "Content-Length: 0\r\n")]
    {
        let mut out = Vec::new();
        RequestWriter::begin(&mut out, method, "/", "a").unwrap().body(b"").unwrap();
        let expected = format!("{} / HTTP/1.1\r\nHost: a\r\n{length}\r\n", method.as_str());
        assert_eq!(out, expected.as_bytes());
    }
}

#[test]
fn a_request_without_room_leaves_nothing() {
    for room in 0..80 {
        let mut memory = [0; 80];
        let mut sink = SliceSink::new(&mut memory[..room]);
        let written = RequestWriter::begin(&mut sink, Method::Post, "/", "a").and_then(|mut request| {
            request.field("X", b"y")?.close();
            request.body(b"hello")
        });
        assert_eq!(written.is_err(), sink.written().is_empty(), "{room}");
    }
}
