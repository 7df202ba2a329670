//! What each endpoint answers, byte for byte as it comes.

use std::io::{Read, Write};

use crate::site::Site;
use crate::support::common::client;

/// A whole answer, its head in lines.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What is in `bytes`, which is everything that came.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Answer { status, head, body: bytes[end + 4..].to_vec() })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.clone().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Whether the body is as long as the head says.
    pub(crate) fn is_whole(&self) -> bool {
        self.field("Content-Length").and_then(|length| length.parse().ok()) == Some(self.body.len())
    }
}

/// The answer to one request, on a connection of its own.
pub(crate) fn ask(site: &Site, method: &str, path: &str, rest: &str) -> Answer {
    let mut stream = client(site.address());
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{rest}").expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    Answer::parse(&bytes).unwrap_or_else(|| panic!("{method} {path}: {}", String::from_utf8_lossy(&bytes)))
}

#[test]
fn every_endpoint_answers() {
    let site = Site::start(&[]);
    for (method, path, rest, status, kind, body) in [
        ("GET", "/plaintext", "\r\n", 200, Some("text/plain"), "Hello, World!"),
        ("GET", "/json", "\r\n", 200, Some("application/json"), r#"{"message":"Hello, World!"}"#),
        ("GET", "/204", "\r\n", 204, None, ""),
        ("GET", "/healthz", "\r\n", 200, Some("text/plain; charset=utf-8"), "ok\n"),
        ("GET", "/readyz", "\r\n", 200, Some("text/plain; charset=utf-8"), "ready\n"),
        ("POST", "/echo", "Content-Length: 3\r\n\r\nabc", 200, Some("application/octet-stream"), "abc"),
        ("POST", "/echo", "Content-Length: 0\r\n\r\n", 200, Some("application/octet-stream"), ""),
        (
            "POST",
            "/echo",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            200,
            Some("application/octet-stream"),
            "abc",
        ),
        ("POST", "/length", "Content-Length: 3\r\n\r\nabc", 200, Some("text/plain; charset=utf-8"), "3\n"),
        ("POST", "/length", "Content-Length: 0\r\n\r\n", 200, Some("text/plain; charset=utf-8"), "0\n"),
        // Invalid at its very end.
        ("POST", "/echo", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx\r\n\r\n", 400, None, "*"),
        ("POST", "/echo", "Content-Length: 16777217\r\n\r\n", 413, None, "*"),
        ("GET", "/nowhere", "\r\n", 404, None, "*"),
    ] {
        let answer = ask(&site, method, path, rest);
        let what = format!("{method} {path}: {answer:?}");
        assert_eq!(answer.status, status, "{what}");
        assert!(kind.is_none() || answer.field("Content-Type") == kind, "{what}");
        assert!(body == "*" || answer.body == body.as_bytes(), "{what}");
        assert!(answer.is_whole() != (status == 204), "{what}");
        assert_eq!(answer.field("Server"), Some("campanile"), "{what}");
        assert!(answer.field("Date").is_some_and(|date| date.ends_with(" GMT")), "{what}");
    }
    let fields = ask(&site, "GET", "/headers", "X-One: 1\r\nX-Two:  2 \r\n\r\n");
    assert_eq!(fields.body, b"Host: a\nConnection: close\nX-One: 1\nX-Two: 2\n");
    let chunked = ask(&site, "GET", "/chunked", "\r\n");
    assert_eq!(chunked.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(chunked.body, b"8\r\nchunk-0;\r\n8\r\nchunk-1;\r\n8\r\nchunk-2;\r\n0\r\n\r\n");
}

#[test]
fn head_is_get_without_its_body_and_other_methods_are_refused() {
    let site = Site::start(&["--workers", "1"]);
    for path in [
        "/",
        "/plaintext",
        "/json",
        "/headers",
        "/chunked",
        "/static/",
        "/static/style.css",
        "/204",
        "/healthz",
        "/readyz",
    ] {
        let (get, head) = (ask(&site, "GET", path, "\r\n"), ask(&site, "HEAD", path, "\r\n"));
        assert_eq!((get.status, head.body.len()), (head.status, 0), "{path}");
        for field in ["Content-Type", "Content-Length", "Transfer-Encoding"] {
            assert_eq!(get.field(field), head.field(field), "{path}");
        }
        let delete = ask(&site, "DELETE", path, "\r\n");
        assert_eq!(delete.status, 405, "{path}");
        assert!(delete.field("Allow").is_some_and(|allow| allow.starts_with("GET, ")), "{delete:?}");
    }
    for path in ["/echo", "/stream", "/length"] {
        let get = ask(&site, "GET", path, "\r\n");
        assert_eq!((get.status, get.field("Allow")), (405, Some("POST, OPTIONS")));
    }
}

#[test]
fn the_first_page_tells_what_else_there_is() {
    let folder = crate::site::Folder::new();
    for arguments in [&[][..], &["--root", &folder.path("")]] {
        let site = Site::start(arguments);
        let page = ask(&site, "GET", "/", "\r\n");
        let text = String::from_utf8(page.body).expect("text");
        for path in [
            "/static/",
            "/plaintext",
            "/json",
            "/204",
            "/headers",
            "/chunked",
            "/echo",
            "/stream",
            "/length",
            "/healthz",
            "/readyz",
            "/metrics",
        ] {
            assert!(text.contains(&format!("http://127.0.0.1:8080{path}")), "{path}: {text}");
        }
    }
    let page = ask(&Site::start(&[]), "GET", "/static/", "\r\n");
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
}
