//! The rules for what decides the framing of a request, its connection and its bounds, one line each.

use std::format;

use super::request_tests::{decode, error_of};
use super::{BodyLength, Limits, RequestDecoder, RequestError};
use crate::Codec;

#[test]
fn hosts() {
    for (host, is_good) in [
        ("a", true),
        ("example.com", true),
        ("example.com:80", true),
        ("example.com:", true),
        ("127.0.0.1:8080", true),
        ("[::1]", true),
        ("[::ffff:127.0.0.1]:65535", true),
        ("a_b-c.d~e!$&'()*+;=", true),
        ("%41b", true),
        ("", false),
        (":80", false),
        ("a b", false),
        ("a,b", false),
        ("a, b", false),
        ("u@a", false),
        ("u:p@a:80", false),
        ("a/", false),
        ("a/b", false),
        ("a?b", false),
        ("a#b", false),
        ("http://a", false),
        ("a:b", false),
        ("a:80:80", false),
        ("a:-1", false),
        ("a:65536", false),
        ("a:000000000000000000000000000000000000080", false),
        ("::1", false),
        ("[::1", false),
        ("[::1]80", false),
        ("[]", false),
        ("[a]", false),
        ("[::1%25eth0]", false),
        ("[v1.a]", false),
        ("[::1]:", true),
        ("[::1]:x", false),
        ("[::1]:80]", false),
        ("[[::1]]", false),
        ("[::1", false),
        ("::1]", false),
        ("[127.0.0.1]", false),
        ("[::1]a", false),
        ("a[::1]", false),
        ("a:0", true),
        ("a:00080", true),
        ("a:+80", false),
        ("a: 80", false),
        ("a :80", false),
        ("a\tb", false),
        ("\"a\"", false),
        ("<a>", false),
        ("a{b}", false),
        ("a|b", false),
        ("@a", false),
        ("a@", false),
        ("//a", false),
        ("*", true),
        ("%4", false),
        ("%zz", false),
        ("%00", false),
        ("a%0d%0ab", false),
        ("a%1F", false),
        ("a%7fb", false),
        ("%C3%A9.example", true),
        ("a\\b", false),
        ("\u{e9}", false),
    ] {
        for version in ["1.0", "1.1"] {
            let input = format!("GET / HTTP/{version}\r\nhOST:{host}\r\n\r\n");
            let error = (!is_good).then_some(RequestError::Host);
            assert_eq!(error_of(input.as_bytes()), error, "{input:?}");
            let input = format!("GET http://b/ HTTP/{version}\r\nHost: {host}\r\n\r\n");
            assert_eq!(error_of(input.as_bytes()), error, "{input:?}");
        }
    }
    assert_eq!(error_of(b"GET / HTTP/1.1\r\n\r\n"), Some(RequestError::HostMissing));
    assert_eq!(error_of(b"GET http://a/ HTTP/1.1\r\n\r\n"), Some(RequestError::HostMissing));
    assert_eq!(error_of(b"GET / HTTP/1.0\r\n\r\n"), None);
    for version in ["1.0", "1.1"] {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\nX: y\r\nhost: a\r\n\r\n");
        assert_eq!(error_of(input.as_bytes()), Some(RequestError::HostRepeated));
    }
}

#[test]
fn message_lengths() {
    use RequestError::{
        ContentLength, ContentLengthRepeated, EncodingOnOldVersion, LengthAndEncoding, TransferCoding,
        TransferEncoding,
    };
    for (lines, body) in [
        ("", Ok(BodyLength::Empty)),
        ("Content-Length: 0\r\n", Ok(BodyLength::Length(0))),
        ("content-length:\t5 \r\n", Ok(BodyLength::Length(5))),
        ("Content-Length: 18446744073709551615\r\n", Ok(BodyLength::Length(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", Err(ContentLength)),
        ("Content-Length: 99999999999999999999999\r\n", Err(ContentLength)),
        ("Content-Length:\r\n", Err(ContentLength)),
        ("Content-Length: +5\r\n", Err(ContentLength)),
        ("Content-Length: -5\r\n", Err(ContentLength)),
        ("Content-Length: 5 5\r\n", Err(ContentLength)),
        ("Content-Length: 0x5\r\n", Err(ContentLength)),
        ("Content-Length: 5_0\r\n", Err(ContentLength)),
        ("Content-Length: 5.0\r\n", Err(ContentLength)),
        ("Content-Length: 05\r\n", Err(ContentLength)),
        ("Content-Length: 00\r\n", Err(ContentLength)),
        ("Content-Length: \u{665}\r\n", Err(ContentLength)),
        ("Content-Length: -0\r\n", Err(ContentLength)),
        ("Content-Length: 0o5\r\n", Err(ContentLength)),
        ("Content-Length: 5e1\r\n", Err(ContentLength)),
        ("Content-Length: five\r\n", Err(ContentLength)),
        ("Content-Length: \"5\"\r\n", Err(ContentLength)),
        ("Content-Length: 5;\r\n", Err(ContentLength)),
        ("Content-Length: 5\u{a0}\r\n", Err(ContentLength)),
        ("Content-Length:5\t\r\n", Ok(BodyLength::Length(5))),
        ("Content-Length:    5\r\n", Ok(BodyLength::Length(5))),
        ("Content-Length: 5,\r\n", Err(ContentLengthRepeated)),
        ("Content-Length: ,5\r\n", Err(ContentLengthRepeated)),
        ("Content-Length: 5, 5\r\n", Err(ContentLengthRepeated)),
        ("Content-Length:\r\nContent-Length: 5\r\n", Err(ContentLength)),
        ("X-Content-Length: 5\r\nContent-Lengt: 5\r\n", Ok(BodyLength::Empty)),
        ("Content-Length: 5,6\r\n", Err(ContentLengthRepeated)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(ContentLengthRepeated)),
        ("Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 6\r\n", Err(ContentLengthRepeated)),
        ("Transfer-Encoding: chunked\r\n", Ok(BodyLength::Chunked)),
        ("TRANSFER-ENCODING:\tCHUNKED \r\n", Ok(BodyLength::Chunked)),
        ("Transfer-Encoding: chunked\t\r\n", Ok(BodyLength::Chunked)),
        ("Transfer-Encoding:chunked\r\n", Ok(BodyLength::Chunked)),
        ("Transfer-Encoding:\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: ,\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: ;\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked;\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked ;q=1\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: 'chunked'\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: \"x, chunked\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked\u{a0}\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: \u{212a}\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: identity, chunked\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked, chunked, chunked\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunkedchunked\r\n", Err(TransferCoding)),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(LengthAndEncoding)),
        ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", Err(LengthAndEncoding)),
        ("Transfer-Encoding: ,chunked\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked,\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked, gzip\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked, identity\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chunked;a=b\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: chun ked\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(TransferEncoding)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: gzip;q=1, chunked\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: identity\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: xchunked\r\n", Err(TransferCoding)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(LengthAndEncoding)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(LengthAndEncoding)),
        ("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", Err(LengthAndEncoding)),
    ] {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(decode(input.as_bytes()).map(|head| head.body()), body, "{lines:?}");
    }
    for lines in ["", "Content-Length: 5\r\n", "Connection: keep-alive\r\n"] {
        let old = format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n{lines}\r\n");
        assert_eq!(error_of(old.as_bytes()), Some(EncodingOnOldVersion));
    }
    let trace = b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    assert_eq!(error_of(trace), Some(RequestError::TraceBody));
}

#[test]
fn connections() {
    for (version, lines, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: x, close ,y\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: ,, close,\r\n", false),
        ("1.1", "Connection:\tclose\t\r\n", false),
        ("1.1", "Connection: \"x, close\r\n", false),
        ("1.1", "Connection: \"close\"\r\n", true),
        ("1.1", "Connection: close;x\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.0", "Connection: KEEP-ALIVE\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive, x\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Connection: x\r\n", false),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let head = decode(input.as_bytes()).unwrap();
        assert_eq!(head.keep_alive(), keep_alive, "{input:?}");
        assert_eq!(head.exchange().keep_alive(), keep_alive);
    }
}

#[test]
fn expectations_and_upgrades() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    let old = "POST / HTTP/1.0\r\nContent-Length: 1\r\n";
    for (start, expect, result) in [
        (post, "100-continue", Ok(true)),
        (post, "100-Continue", Ok(true)),
        (post, "100-continue, 100-continue", Ok(true)),
        (post, "", Ok(false)),
        (post, "x", Err(RequestError::Expectation)),
        (post, "100-continue, x=y", Err(RequestError::Expectation)),
        (post, "100-continue;q=1", Err(RequestError::Expectation)),
        (post, "\"100-continue\"", Err(RequestError::Expectation)),
        (post, "200-ok", Err(RequestError::Expectation)),
        (post, ",100-continue,", Ok(true)),
        (get, "100-continue", Ok(false)),
        (get, "x", Err(RequestError::Expectation)),
        (old, "100-continue", Ok(false)),
        (old, "x", Ok(false)),
    ] {
        let input = format!("{start}Expect: {expect}\r\n\r\n");
        let found = decode(input.as_bytes()).map(|head| head.expects_continue());
        assert_eq!(found, result, "{input:?}");
    }
    for (version, lines, upgrade) in [
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", Some(&b"websocket"[..])),
        ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: a, b\r\n", Some(b"a, b")),
        ("1.1", "Upgrade: websocket\r\n", None),
        ("1.1", "Connection: upgrade\r\n", None),
        ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", None),
    ] {
        let input = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        assert_eq!(decode(input.as_bytes()).unwrap().upgrade(), upgrade, "{input:?}");
    }
}

#[test]
fn limits_hold_to_the_byte() {
    let limits = Limits { request_line: 20, field_line: 12, fields: 3, head: 60, ..Limits::default() };
    let error_of = |head: &str| RequestDecoder::new(limits).decode(head.as_bytes()).err();
    let head = |target: usize, value: usize| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "t".repeat(target), "v".repeat(value))
    };
    assert_eq!(error_of(&head(6, 9)), None);
    assert_eq!(error_of(&head(7, 9)), Some(RequestError::TargetTooLong));
    assert_eq!(error_of(&head(6, 10)), Some(RequestError::FieldTooLong));
    assert_eq!(error_of("GET /tttttttttttttttttttttt"), Some(RequestError::TargetTooLong));
    assert_eq!(error_of("GET / HTTP/1.1\r\nX: vvvvvvvvvvvv"), Some(RequestError::FieldTooLong));

    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(error_of(&fields(2)), None);
    assert_eq!(error_of(&fields(3)), Some(RequestError::TooManyFields));

    let lead = |count: usize| format!("{}GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n".repeat(count));
    assert_eq!(lead(16).len(), 59);
    assert_eq!(error_of(&lead(16)), None);
    assert_eq!(error_of(&lead(17)), Some(RequestError::HeadTooLong));
    assert_eq!(error_of(&"\r\n".repeat(30)), Some(RequestError::HeadTooLong));
}
