//! The rules for request heads, one line each.

use alloc::vec::Vec;
use std::format;
use std::string::String;

use super::{Limits, Method, RequestDecoder, RequestError, RequestHead, TargetForm, Version};
use crate::{Codec, Decoded};

pub(super) fn decode(input: &[u8]) -> Result<RequestHead<'_>, RequestError> {
    match RequestDecoder::new(Limits::default()).decode(input)? {
        Decoded::Frame { frame, consumed } => {
            assert_eq!(consumed, input.len());
            Ok(frame)
        }
        Decoded::More { .. } => panic!("not a whole head: {}", input.escape_ascii()),
    }
}

pub(super) fn error_of(input: &[u8]) -> Option<RequestError> {
    decode(input).err()
}

/// The error of a GET of `/` with Host and these lines.
fn error_of_fields(lines: &str) -> Option<RequestError> {
    error_of(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").as_bytes())
}

fn error_of_line(line: &str) -> Option<RequestError> {
    error_of(format!("{line}\r\nHost: a\r\n\r\n").as_bytes())
}

#[test]
fn request_lines() {
    let long = format!("{} / HTTP/1.1", "M".repeat(33));
    let longest = format!("{} / HTTP/1.1", "M".repeat(32));
    for (line, error) in [
        ("GET / HTTP/1.1", None),
        ("GET / HTTP/1.0", None),
        ("get / HTTP/1.1", None),
        ("!#$%&'*+-.^_`|~9z / HTTP/1.1", None),
        (&longest, None),
        (&long, Some(RequestError::MethodTooLong)),
        ("G(T / HTTP/1.1", Some(RequestError::Method)),
        ("(GET / HTTP/1.1", Some(RequestError::RequestLine)),
        (" GET / HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET  / HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET /  HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.1 ", Some(RequestError::RequestLine)),
        ("GET\t/ HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET /\tHTTP/1.1", Some(RequestError::RequestLine)),
        ("GET / a HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET", Some(RequestError::RequestLine)),
        ("GET /", Some(RequestError::RequestLine)),
        ("GET HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.2", Some(RequestError::Version)),
        ("GET / HTTP/0.9", Some(RequestError::Version)),
        ("GET / HTTP/2.0", Some(RequestError::Version)),
        ("PRI * HTTP/2.0", Some(RequestError::Version)),
        ("GET / HTTP/9.9", Some(RequestError::Version)),
        ("GET / HTTP/1", Some(RequestError::RequestLine)),
        ("GET / HTTP/2", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.10", Some(RequestError::RequestLine)),
        ("GET / HTTP/01.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/1. 1", Some(RequestError::RequestLine)),
        ("GET / http/1.1", Some(RequestError::RequestLine)),
        ("GET / HTTPS/1.1", Some(RequestError::RequestLine)),
        ("GET / RTSP/1.0", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.1\r", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.", Some(RequestError::RequestLine)),
        ("GET / HTTP/.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/11", Some(RequestError::RequestLine)),
        ("GET / HTTP/1,1", Some(RequestError::RequestLine)),
        ("GET / HTTP /1.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/ 1.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.1\t", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.1x", Some(RequestError::RequestLine)),
        ("GET / HTTP/-1.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/1.x", Some(RequestError::RequestLine)),
        ("GET / Http/1.1", Some(RequestError::RequestLine)),
        ("GET / ", Some(RequestError::RequestLine)),
        ("GET ", Some(RequestError::RequestLine)),
        (" ", Some(RequestError::RequestLine)),
        ("/ HTTP/1.1", Some(RequestError::RequestLine)),
        ("HTTP/1.1 200 OK", Some(RequestError::Method)),
        ("\tGET / HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET / HTTP/3.0", Some(RequestError::Version)),
        ("GET / HTTP/0.0", Some(RequestError::Version)),
        ("G\u{c9}T / HTTP/1.1", Some(RequestError::Method)),
        ("\"GET\" / HTTP/1.1", Some(RequestError::RequestLine)),
        ("GET\0 / HTTP/1.1", Some(RequestError::Method)),
        ("GET:/ / HTTP/1.1", Some(RequestError::Method)),
    ] {
        assert_eq!(error_of_line(line), error, "{line}");
    }
}

#[test]
fn targets() {
    for (line, form, authority, path, query) in [
        ("GET / HTTP/1.1", TargetForm::Origin, None, "/", None),
        ("GET /a/b?c=d&e HTTP/1.1", TargetForm::Origin, None, "/a/b", Some("c=d&e")),
        ("GET /? HTTP/1.1", TargetForm::Origin, None, "/", Some("")),
        ("GET /%41%zz HTTP/1.1", TargetForm::Origin, None, "", None),
        ("GET //a//b HTTP/1.1", TargetForm::Origin, None, "//a//b", None),
        ("GET /a?b?c/d{}|^[]`\\ HTTP/1.1", TargetForm::Origin, None, "/a", Some("b?c/d{}|^[]`\\")),
        ("GET /%41%2f?%0d%0A%20%00 HTTP/1.1", TargetForm::Origin, None, "/%41%2f", Some("%0d%0A%20%00")),
        ("GET http://b HTTP/1.0", TargetForm::Absolute, Some("b"), "/", None),
        ("GET HtTp://b:/c HTTP/1.1", TargetForm::Absolute, Some("b:"), "/c", None),
        ("OPTIONS http://b HTTP/1.1", TargetForm::Absolute, Some("b"), "/", None),
        ("CONNECT b:65535 HTTP/1.1", TargetForm::Authority, Some("b:65535"), "", None),
        ("GET http://b/c?d HTTP/1.1", TargetForm::Absolute, Some("b"), "/c", Some("d")),
        ("GET HTTPS://b:8080 HTTP/1.1", TargetForm::Absolute, Some("b:8080"), "/", None),
        ("GET http://[::1]:80?x HTTP/1.1", TargetForm::Absolute, Some("[::1]:80"), "/", Some("x")),
        ("CONNECT b:443 HTTP/1.1", TargetForm::Authority, Some("b:443"), "", None),
        ("CONNECT [::1]:443 HTTP/1.1", TargetForm::Authority, Some("[::1]:443"), "", None),
        ("OPTIONS * HTTP/1.1", TargetForm::Asterisk, None, "*", None),
        ("OPTIONS / HTTP/1.1", TargetForm::Origin, None, "/", None),
    ] {
        let input = format!("{line}\r\nHost: a\r\n\r\n");
        match decode(input.as_bytes()) {
            Ok(head) => {
                let target = head.target();
                let found = (target.form(), target.authority(), target.path(), target.query());
                assert_eq!(found, (form, authority, path, query), "{line}");
                assert_eq!(target.is_https(), line.contains("HTTPS://"), "{line}");
                assert_eq!(head.host(), Some(authority.unwrap_or("a")), "{line}");
            }
            Err(error) => assert!(path.is_empty() && error == RequestError::Target, "{line}: {error}"),
        }
    }
}

#[test]
fn targets_that_are_refused() {
    for target in [
        "a",
        "a/b",
        "?",
        "#",
        "/#",
        "/a#b",
        "/a?b#c",
        "*",
        "**",
        "/\"",
        "/<",
        "/>",
        "/\\",
        "/\x7f",
        "/%",
        "/%0",
        "/%zz",
        "/%00",
        "/%0a",
        "/%0D%0A",
        "/?%",
        "/?%0",
        "/?%zz",
        "/?a=100%",
        "/?%u0041",
        "/?\"",
        "/?<",
        "/?\x7f",
        "/?\u{e9}",
        "/a\0b",
        "/a\x01b",
        "/a\tb",
        "/`",
        "/{}",
        "http://b/%zz",
        "http://b/?%zz",
        "http://b%zz/",
        "http://b:/\\",
        "http://b:-1/",
        "http://[::1]x/",
        "http://[v1.a]/",
        "HTTP:/b/",
        "ws://b/",
        "file:///a",
        "mailto:a",
        "javascript:a",
        "../a",
        "./a",
        "/\u{e9}",
        "http:",
        "http:/",
        "http://",
        "http:///",
        "http://?a",
        "http://a@b/",
        "http://a:b@c/",
        "http://b:x/",
        "http://b/#",
        "http://b c/",
        "http://b,c/",
        "ftp://b/",
        "https:b",
        "://b/",
        "http://[::1/",
        "http://[::g]/",
        "http://b:65536/",
        "a:80",
    ] {
        let error = error_of_line(&format!("GET {target} HTTP/1.1"));
        assert!(
            matches!(error, Some(RequestError::Target | RequestError::RequestLine)),
            "{target}: {error:?}"
        );
    }
    for target in [
        "/",
        "*",
        "a",
        "a:",
        "a:0",
        "a:00",
        "a:65536",
        ":80",
        "a:b",
        "http://a/",
        "a:80/",
        "u@a:80",
        "a:80?x",
        "a:80#x",
    ] {
        assert_eq!(
            error_of_line(&format!("CONNECT {target} HTTP/1.1")),
            Some(RequestError::Target),
            "CONNECT {target}"
        );
    }
}

#[test]
fn control_bytes_are_refused_everywhere() {
    let good = b"GET /a HTTP/1.1\r\nHost: a\r\nX-Y: z z\r\n\r\n";
    for byte in (0..b' ').chain([0x7f]) {
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad.insert(at, byte);
            // White space around a value is none of its bytes, and an empty line may precede the head.
            let harmless = byte == b'\t' && matches!(at, 22..=24 | 30..=34);
            let decoded = RequestDecoder::new(Limits::default()).decode(&bad);
            let is_refused = match decoded {
                Err(_) => true,
                Ok(Decoded::More { .. }) => false,
                Ok(Decoded::Frame { .. }) => harmless,
            };
            let is_open = matches!(byte, b'\r' | b'\n') && at >= good.len() - 2;
            assert!(is_refused || is_open, "{:?}: {}", byte as char, bad.escape_ascii());
        }
    }
}

#[test]
fn fields() {
    use RequestError::{BareLf, FieldName, FieldValue, Folded, LookAlike};
    for (lines, error) in [
        ("X: y\r\n", None),
        ("X:\r\n", None),
        ("X: \t \r\n", None),
        ("X:y:z\r\n", None),
        ("X: \u{e9}\r\n", None),
        ("!#$%&'*+-.^_`|~9z: y\r\n", None),
        ("X : y\r\n", Some(FieldName)),
        ("X\t: y\r\n", Some(FieldName)),
        ("X\r\n", Some(FieldName)),
        (": y\r\n", Some(FieldName)),
        ("X y: z\r\n", Some(FieldName)),
        ("X[]: z\r\n", Some(FieldName)),
        ("\u{e9}: z\r\n", Some(FieldName)),
        ("X: y\r\n z\r\n", Some(Folded)),
        ("X: y\r\n\tz\r\n", Some(Folded)),
        ("X: y\r\n \r\n", Some(Folded)),
        (" X: y\r\n", Some(Folded)),
        ("X: y\n", Some(BareLf)),
        ("X: y\nZ: w\r\n", Some(BareLf)),
        ("X:\n", Some(BareLf)),
        ("\n", Some(BareLf)),
        ("X: y\r\r\n", Some(FieldValue)),
        ("X: y\rz\r\n", Some(FieldValue)),
        ("X: y\0z\r\n", Some(FieldValue)),
        ("X: y\x0bz\r\n", Some(FieldValue)),
        ("X: y\x7fz\r\n", Some(FieldValue)),
        ("X: \x1b[0m\r\n", Some(FieldValue)),
        ("X: \0\r\n", Some(FieldValue)),
        ("X:\r y\r\n", Some(FieldValue)),
        ("X\0: y\r\n", Some(FieldName)),
        ("X\r: y\r\n", Some(FieldName)),
        ("X(y): z\r\n", Some(FieldName)),
        ("\"X\": z\r\n", Some(FieldName)),
        ("X=y\r\n", Some(FieldName)),
        ("X\r\n: y\r\n", Some(FieldName)),
        ("\t\r\n", Some(Folded)),
        ("Content-Length : 1\r\n", Some(FieldName)),
        ("Content-Length\t: 1\r\n", Some(FieldName)),
        ("Content Length: 1\r\n", Some(FieldName)),
        ("Transfer-Encoding : chunked\r\n", Some(FieldName)),
        ("Transfer-Encoding\t: chunked\r\n", Some(FieldName)),
        ("Transfer-Encoding\0: chunked\r\n", Some(FieldName)),
        ("Transfer-Encoding:\r\n chunked\r\n", Some(Folded)),
        ("Transfer-Encoding: \x0bchunked\r\n", Some(FieldValue)),
        ("Transfer-Encoding: \x0cchunked\r\n", Some(FieldValue)),
        ("Transfer-Encoding: chunked\0\r\n", Some(FieldValue)),
        ("Content-Length: 1\r2\r\n", Some(FieldValue)),
        ("Content_Length: 1\r\n", Some(LookAlike)),
        ("transfer_Encoding: chunked\r\n", Some(LookAlike)),
    ] {
        assert_eq!(error_of_fields(lines), error, "{lines:?}");
    }
    assert_eq!(error_of(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"), Some(Folded));
    assert_eq!(error_of(b"GET / HTTP/1.1\nHost: a\r\n\r\n"), Some(BareLf));
    assert_eq!(error_of(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(BareLf));
    assert_eq!(error_of(b"GET / HTTP/1.0\n\r\n"), Some(BareLf));
    assert_eq!(error_of(b"GET / HTTP/1.0\r\n\n"), Some(BareLf));
    assert_eq!(error_of(b"\r\n\r\nGET / HTTP/1.0\r\n\r\n"), None);
}

#[test]
fn statuses() {
    for (error, status) in [
        (RequestError::RequestLine, 400),
        (RequestError::Host, 400),
        (RequestError::LengthAndEncoding, 400),
        (RequestError::TargetTooLong, 414),
        (RequestError::Expectation, 417),
        (RequestError::FieldTooLong, 431),
        (RequestError::TooManyFields, 431),
        (RequestError::HeadTooLong, 431),
        (RequestError::TransferCoding, 501),
        (RequestError::MethodTooLong, 501),
        (RequestError::Version, 505),
    ] {
        assert_eq!(error.status(), status, "{error}");
    }
}

#[test]
fn what_is_not_http_is_refused_at_its_first_byte() {
    let tls = RequestDecoder::new(Limits::default()).decode(b"\x16\x03\x01");
    assert_eq!(tls.err(), Some(RequestError::RequestLine));
}

#[test]
fn a_head_shows_what_was_sent() {
    let input = b"DELETE /a HTTP/1.0\r\nHost: b:1\r\nX-A: 1\r\nx-a:2\r\n\r\n";
    let head = decode(input).unwrap();
    assert_eq!((head.method(), head.version()), (Method::Delete, Version::Http10));
    assert_eq!(head.method().as_str(), "DELETE");
    assert_eq!(head.fields().map(|field| field.name).collect::<Vec<_>>(), ["Host", "X-A", "x-a"]);
    assert_eq!(head.values("X-a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(head.field("none"), None);
    assert_eq!(head.host(), Some("b:1"));
    let names: Vec<String> =
        ["GET", "PATCH", "get"].iter().map(|name| Method::of(name).as_str().into()).collect();
    assert_eq!(names, ["GET", "PATCH", "get"]);
}

#[test]
fn an_input_may_end_behind_empty_lines_but_not_inside_a_head() {
    for (input, expected) in [
        (&b""[..], Ok(None)),
        (b"\r\n", Ok(None)),
        (b"\r\n\r\n\r\n", Ok(None)),
        (b"\r", Err(RequestError::Truncated)),
        (b"G", Err(RequestError::Truncated)),
        (b"\r\nGET / HTTP/1.1\r\nHost: a\r\n", Err(RequestError::Truncated)),
    ] {
        let found = RequestDecoder::new(Limits::default()).decode_end(input);
        assert_eq!(
            found.map(|found| found.map(|(_, consumed)| consumed)),
            expected,
            "{}",
            input.escape_ascii()
        );
    }
}
