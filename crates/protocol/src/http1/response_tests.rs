//! The rules for responses, written and read.

use alloc::vec::Vec;
use std::format;
use std::string::String;

use proptest::prelude::*;

use super::{
    BodyDecoder, BodyEncoder, BodyLength, BodyPart, Exchange, FieldBlock, FieldLine, Limits, Method,
    RequestDecoder, RequestError, ResponseDecoder, ResponseError, ResponseWriter, WriteError, write_continue,
    write_interim, write_switching_protocols,
};
use crate::every_split::{check_splits, drive_responses, edits};
use crate::{Codec, Decoded, Sink, SliceSink};

fn exchange(request: &str) -> Exchange {
    let input = format!("{request}\r\nHost: a:1\r\n\r\n");
    let decoded = RequestDecoder::new(Limits::default()).decode(input.as_bytes()).unwrap();
    decoded.into_frame().unwrap().0.exchange()
}

fn text(out: &[u8]) -> String {
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn bodies_are_framed_as_the_request_allows() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (request, expected, keep_alive) in [
        ("GET / HTTP/1.1", "Content-Length: 2\r\n\r\nok", true),
        ("HEAD / HTTP/1.1", "Content-Length: 2\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: close", "Content-Length: 2\r\nConnection: close\r\n\r\nok", false),
        ("GET / HTTP/1.0", "Content-Length: 2\r\nConnection: close\r\n\r\nok", false),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive",
            "Content-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
            true,
        ),
    ] {
        let mut out = Vec::new();
        let response = ResponseWriter::begin(&mut out, exchange(request), 200).unwrap();
        assert_eq!(response.body(b"ok").unwrap().keep_alive(), keep_alive);
        assert_eq!(text(&out), format!("{head}{expected}"), "{request}");
    }
    for (request, expected, keep_alive) in [
        ("GET / HTTP/1.1", "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
        ("HEAD / HTTP/1.1", "Transfer-Encoding: chunked\r\n\r\n", true),
        ("GET / HTTP/1.0", "Connection: close\r\n\r\nok", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive", "Connection: close\r\n\r\nok", false),
    ] {
        let mut out = Vec::new();
        let mut body = ResponseWriter::begin(&mut out, exchange(request), 200).unwrap().stream().unwrap();
        body.write(b"ok", &mut out).unwrap();
        body.write(b"", &mut out).unwrap();
        assert_eq!(body.finish(&[], &mut out).unwrap().keep_alive(), keep_alive);
        assert_eq!(text(&out), format!("{head}{expected}"), "{request}");
    }
}

#[test]
fn statuses_without_content() {
    for (request, status, expected) in [
        ("GET / HTTP/1.1", 204, "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET / HTTP/1.1", 304, "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET / HTTP/1.1", 205, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
        ("CONNECT a:1 HTTP/1.1", 200, "HTTP/1.1 200 OK\r\n\r\n"),
        ("CONNECT a:1 HTTP/1.1", 403, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        ("GET / HTTP/1.1", 299, "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"),
    ] {
        let mut out = Vec::new();
        ResponseWriter::begin(&mut out, exchange(request), status).unwrap().body(b"").unwrap();
        assert_eq!(text(&out), expected);
    }
    for status in [204, 205, 304] {
        let mut out = b"before".to_vec();
        fn begin(out: &mut Vec<u8>, status: u16) -> ResponseWriter<'_, Vec<u8>> {
            ResponseWriter::begin(out, Exchange::refused(), status).unwrap()
        }
        assert_eq!(begin(&mut out, status).body(b"x"), Err(WriteError::BodyNotAllowed));
        assert_eq!(begin(&mut out, status).length(1).err(), Some(WriteError::BodyNotAllowed));
        assert_eq!(begin(&mut out, status).stream().err(), Some(WriteError::BodyNotAllowed));
        assert_eq!(out, b"before");
    }
    for status in [0, 99, 100, 101, 199, 600, u16::MAX] {
        let begun = ResponseWriter::begin(&mut Vec::new(), Exchange::refused(), status).err();
        assert_eq!(begun, Some(WriteError::Status));
    }
}

#[test]
fn fields_cannot_split_a_response() {
    let mut out = Vec::new();
    let mut response = ResponseWriter::begin(&mut out, exchange("GET / HTTP/1.1"), 200).unwrap();
    for (name, value, error) in [
        ("", &b"x"[..], WriteError::FieldName),
        ("a b", b"x", WriteError::FieldName),
        ("a:", b"x", WriteError::FieldName),
        ("a\r\n", b"x", WriteError::FieldName),
        ("\u{e9}", b"x", WriteError::FieldName),
        ("a", b"x\r\ny: z", WriteError::FieldValue),
        ("a", b"x\ny", WriteError::FieldValue),
        ("a", b"x\ry", WriteError::FieldValue),
        ("a", b"\0", WriteError::FieldValue),
        ("a", b"\x7f", WriteError::FieldValue),
        ("Content-length", b"1", WriteError::FramingField),
        ("transfer-encoding", b"chunked", WriteError::FramingField),
        ("CONNECTION", b"close", WriteError::FramingField),
    ] {
        assert_eq!(response.field(name, value).err(), Some(error), "{name:?}");
    }
    response.field("a", b"x \t\x80").unwrap().line(FieldLine::from_static("B: c\r\n")).unwrap().close();
    response.body(b"").unwrap();
    let expected =
        b"HTTP/1.1 200 OK\r\na: x \t\x80\r\nB: c\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(out, expected);
}

#[test]
#[should_panic(expected = "are written by the writer")]
fn a_checked_line_frames_nothing() {
    FieldLine::from_static("Content-Length: 5\r\n");
}

#[test]
fn a_response_without_room_leaves_nothing() {
    let write = |sink: &mut SliceSink<'_>| {
        let mut response = ResponseWriter::begin(sink, Exchange::refused(), 404)?;
        response.field("Content-Type", b"text/plain")?;
        response.body(b"not found")
    };
    let mut memory = [0; 200];
    let mut whole = SliceSink::new(&mut memory);
    write(&mut whole).unwrap();
    let length = whole.len();
    for room in 0..length {
        let mut memory = [0; 200];
        let mut sink = SliceSink::new(&mut memory[..room]);
        assert!(matches!(write(&mut sink), Err(WriteError::Full(_))));
        assert!(sink.is_empty());
    }
    for room in 0..200 {
        let mut memory = [0; 200];
        let mut sink = SliceSink::new(&mut memory[..room]);
        let fields = [("Link", &b"x"[..]), ("A", b"b")];
        let interim = write_interim(&mut sink, 103, &fields);
        assert_eq!(interim.is_err(), sink.is_empty());
        let mut sink = SliceSink::new(&mut memory[..room]);
        let switching = write_switching_protocols(&mut sink, b"echo", &fields);
        assert_eq!(switching.is_err(), sink.is_empty());
    }
}

#[test]
fn a_block_is_written_as_it_is() {
    let mut block = FieldBlock::<64>::new();
    block.field("Server", b"x").unwrap().field("Date", b"y").unwrap();
    let expected = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: y\r\nA: b\r\nContent-Length: 2\r\n\r\nok";
    for room in 0..=expected.len() {
        let mut memory = [0; 200];
        let mut sink = SliceSink::new(&mut memory[..room]);
        let written =
            ResponseWriter::begin(&mut sink, exchange("GET / HTTP/1.1"), 200).and_then(|mut response| {
                response.block(&block)?.field("A", b"b")?;
                response.body(b"ok")
            });
        assert_eq!(written.is_ok(), room == expected.len());
        assert_eq!(text(sink.written()), if written.is_ok() { expected } else { "" });
    }
}

#[test]
fn interim_responses() {
    let mut out = Vec::new();
    write_continue(&mut out).unwrap();
    write_interim(&mut out, 103, &[("Link", b"x")]).unwrap();
    write_switching_protocols(&mut out, b"echo", &[]).unwrap();
    let expected = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                    HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    assert_eq!(text(&out), expected);
    assert_eq!(write_interim(&mut out, 200, &[]), Err(WriteError::Status));
    assert_eq!(write_interim(&mut out, 101, &[]), Err(WriteError::Status));
    assert_eq!(write_interim(&mut out, 103, &[("a", b"\n")]), Err(WriteError::FieldValue));
}

fn encoder(request: &str, length: Option<u64>) -> BodyEncoder {
    let mut head = Vec::new();
    let response = ResponseWriter::begin(&mut head, exchange(request), 200).unwrap();
    length
        .map_or_else(
            || ResponseWriter::begin(&mut Vec::new(), exchange(request), 200).unwrap().stream(),
            |length| response.length(length),
        )
        .unwrap()
}

#[test]
fn the_length_promised_is_the_length_sent() {
    let mut out = Vec::new();
    let mut body = encoder("GET / HTTP/1.1", Some(5));
    body.write(b"abc", &mut out).unwrap();
    assert_eq!(body.remaining(), Some(2));
    assert_eq!(body.write(b"def", &mut out), Err(WriteError::Overrun));
    assert_eq!(body.begin_piece(3, &mut out), Err(WriteError::Overrun));
    assert_eq!(body.finish(&[], &mut out), Err(WriteError::Short { missing: 2 }));
    body.begin_piece(2, &mut out).unwrap();
    body.end_piece(&mut out).unwrap();
    assert!(body.finish(&[], &mut out).unwrap().keep_alive());
    assert_eq!(body.write(b"x", &mut out), Err(WriteError::Overrun));
    assert_eq!(out, b"abc");
}

#[test]
fn chunks_can_surround_what_goes_another_way() {
    let mut out = Vec::new();
    let mut body = encoder("GET / HTTP/1.1", None);
    body.begin_piece(255, &mut out).unwrap();
    out.extend_from_slice(b"...");
    body.end_piece(&mut out).unwrap();
    body.finish(&[("Digest", b"x")], &mut out).unwrap();
    assert_eq!(text(&out), "ff\r\n...\r\n0\r\nDigest: x\r\n\r\n");
}

#[test]
fn trailers_that_frame_are_refused() {
    let mut out = Vec::new();
    let mut body = encoder("GET / HTTP/1.1", None);
    for name in ["Content-Length", "transfer-encoding", "Host", "Set-Cookie", "X-Forwarded-Proto"] {
        assert_eq!(body.finish(&[(name, b"x")], &mut out), Err(WriteError::FramingField), "{name}");
    }
    assert_eq!(body.finish(&[("a", b"\r")], &mut out), Err(WriteError::FieldValue));
    assert!(out.is_empty());
    assert!(body.finish(&[], &mut out).is_ok());
}

#[test]
fn the_longest_piece_fits() {
    for room in 0..100 {
        for mut body in [encoder("GET / HTTP/1.1", None), encoder("GET / HTTP/1.1", Some(50))] {
            let mut memory = [0; 100];
            let mut sink = SliceSink::new(&mut memory[..room]);
            let piece = b"x".repeat(body.longest_piece(room));
            body.write(&piece, &mut sink).unwrap();
        }
    }
}

#[test]
fn response_heads() {
    use ResponseError::{Head, StatusLine, Version};
    for (head, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", Ok(BodyLength::UntilClose)),
        ("HTTP/1.1 200 \r\n\r\n", Ok(BodyLength::UntilClose)),
        ("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", Ok(BodyLength::Length(5))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Ok(BodyLength::Chunked)),
        ("HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\n", Ok(BodyLength::Empty)),
        ("HTTP/1.1 304 OK\r\nContent-Length: 5\r\n\r\n", Ok(BodyLength::Empty)),
        ("HTTP/1.1 100 Continue\r\n\r\n", Ok(BodyLength::Empty)),
        ("HTTP/1.1 200 OK\r\nHost: a b\r\nExpect: x\r\n\r\n", Ok(BodyLength::UntilClose)),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(Head(RequestError::EncodingOnOldVersion)),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            Err(Head(RequestError::LengthAndEncoding)),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Err(Head(RequestError::ContentLengthRepeated))),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Err(Head(RequestError::ContentLength))),
        ("HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n", Err(Head(RequestError::BareLf))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\n", Err(Head(RequestError::BareLf))),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Err(Head(RequestError::Folded))),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Err(Head(RequestError::FieldName))),
        ("HTTP/2.0 200 OK\r\n\r\n", Err(Version)),
        ("HTTP/1.1 20 OK\r\n\r\n", Err(StatusLine)),
        ("HTTP/1.1 099 OK\r\n\r\n", Err(StatusLine)),
        ("HTTP/1.1 2000 OK\r\n\r\n", Err(StatusLine)),
        ("HTTP/1.1  200 OK\r\n\r\n", Err(StatusLine)),
        ("HTTP/1.1 200 O\x01K\r\n\r\n", Err(StatusLine)),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Err(StatusLine)),
        ("ICY 200 OK\r\n\r\n", Err(StatusLine)),
    ] {
        let decoded = ResponseDecoder::new(Limits::default()).decode(head.as_bytes());
        let found = decoded.map(|decoded| decoded.into_frame().unwrap().0.body_after(Method::Get));
        assert_eq!(found, expected, "{head:?}");
    }
}

#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    pieces: Vec<Vec<u8>>,
    is_chunked: bool,
}

fn answers() -> impl Strategy<Value = Answer> {
    let value = "[!-~\u{e9}]([ \t!-~]{0,20}[!-~])?".prop_map(String::into_bytes);
    let fields = prop::collection::vec(("X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", value), 0..8);
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8);
    let status = prop::sample::select(&[200, 201, 299, 301, 404, 500, 599][..]);
    (status, fields, pieces, any::<bool>()).prop_map(|(status, fields, pieces, is_chunked)| Answer {
        status,
        fields,
        pieces,
        is_chunked,
    })
}

fn write(answer: &Answer, out: &mut Vec<u8>) -> Result<(), WriteError> {
    let mut response = ResponseWriter::begin(out, exchange("GET / HTTP/1.1"), answer.status)?;
    for (name, value) in &answer.fields {
        response.field(name, value)?;
    }
    let length = answer.pieces.iter().map(Vec::len).sum::<usize>() as u64;
    let mut body = if answer.is_chunked { response.stream()? } else { response.length(length)? };
    answer.pieces.iter().try_for_each(|piece| body.write(piece, out))?;
    body.finish(&[], out).map(|_| ())
}

proptest! {
    #[test]
    fn what_is_written_is_read(answers in prop::collection::vec(answers(), 1..4)) {
        let mut out = Vec::new();
        for answer in &answers {
            write(answer, &mut out).unwrap();
        }
        let mut input = &out[..];
        let mut heads = ResponseDecoder::new(Limits::default());
        for answer in &answers {
            let (head, consumed) = heads.decode(input).unwrap().into_frame().unwrap();
            input = &input[consumed..];
            prop_assert_eq!(head.status(), answer.status);
            prop_assert_eq!(head.fields().len(), answer.fields.len() + 1);
            for (field, (name, value)) in head.fields().zip(&answer.fields) {
                prop_assert_eq!((field.name, field.value), (&name[..], &value[..]));
            }
            let mut body = BodyDecoder::new(head.body_after(Method::Get), &Limits::default());
            let mut data = Vec::new();
            while !body.is_done() {
                let Decoded::Frame { frame, consumed } = body.decode(input).unwrap() else { panic!() };
                input = &input[consumed..];
                if let BodyPart::Data(piece) = frame {
                    data.extend_from_slice(piece);
                }
            }
            prop_assert_eq!(data, answer.pieces.concat());
        }
        prop_assert!(input.is_empty());
    }

    #[test]
    fn responses_are_the_same_at_every_split(answers in prop::collection::vec(answers(), 1..3), edits in edits()) {
        let mut out = Vec::new();
        for answer in &answers {
            write(answer, &mut out).unwrap();
        }
        check_splits(|| drive_responses(Limits::default()), &out, &edits);
    }
}
