//! Request lines: methods, targets, versions and how long they may be.

use crate::case::{After, Table, get, want, with};

const HELLO: &str = "Hello, World!";
/// What a line that is none can be answered with: as any bad request, or as a version that is not known.
const NO_VERSION: &[u16] = &[400, 505];

pub fn table(t: &mut Table) {
    lines(t);
    methods(t);
    versions(t);
    origin_form(t);
    absolute_form(t);
    other_forms(t);
    lengths(t);
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

fn lines(t: &mut Table) {
    t.rfc("9112 2.2");
    t.serve("a plain request", get("/plaintext", ""), HELLO).slowly().at_every_split();
    t.serve("an empty line first", format!("\r\n{}", get("/plaintext", "")), HELLO).slowly().at_every_split();
    t.allow("two empty lines first", &[200, 400], format!("\r\n\r\n{}", get("/plaintext", "")));
    t.allow("a bare LF first", &[200, 400], format!("\n{}", get("/plaintext", "")));
    t.allow("LF instead of CRLF everywhere", &[200, 400], "GET /plaintext HTTP/1.1\nHost: a\n\n");
    t.allow("LF after the request line", &[200, 400], "GET /plaintext HTTP/1.1\nHost: a\r\n\r\n");
    t.refuse("CR CR LF after the request line", "GET /plaintext HTTP/1.1\r\r\nHost: a\r\n\r\n");
    t.refuse("white space before the first field", "GET /plaintext HTTP/1.1\r\n Host: a\r\n\r\n");
    t.refuse("a tab before the first field", "GET /plaintext HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n");
    t.refuse("LF CR after the request line", "GET /plaintext HTTP/1.1\n\rHost: a\n\r\n\r");
    t.rfc("9112 3");
    for (name, bad) in [
        ("a space first", " GET /plaintext HTTP/1.1"),
        ("a tab first", "\tGET /plaintext HTTP/1.1"),
        ("only a method", "GET"),
        ("only a method and a space", "GET "),
        ("no method", "/plaintext HTTP/1.1"),
        ("an empty method", " /plaintext HTTP/1.1"),
        ("no spaces at all", "GET/plaintextHTTP/1.1"),
        ("no space before the version", "GET /plaintextHTTP/1.1"),
        ("a space in the target", "GET /plain text HTTP/1.1"),
        ("four parts", "GET /plaintext HTTP/1.1 HTTP/1.1"),
        ("two spaces and no target", "GET  HTTP/1.1"),
        ("garbage", "!@#$%^&*()"),
        ("a status line", "HTTP/1.1 200 OK"),
        ("a field", "Host: b"),
        ("commas", "GET,/plaintext,HTTP/1.1"),
        ("something after the version", "GET /plaintext HTTP/1.1 x"),
        ("a NUL in the version", "GET /plaintext HTTP/1.1\0"),
        ("a NUL in the target", "GET /plain\0text HTTP/1.1"),
        ("a NUL first", "\0GET /plaintext HTTP/1.1"),
        ("a CR in the target", "GET /plain\rtext HTTP/1.1"),
        ("a CR before the version", "GET /plaintext\rHTTP/1.1"),
        ("a CR after the method", "GET\r/plaintext HTTP/1.1"),
        ("an escape character in the target", "GET /plain\x1btext HTTP/1.1"),
        ("DEL in the target", "GET /plain\x7ftext HTTP/1.1"),
        ("a byte order mark", "\u{feff}GET /plaintext HTTP/1.1"),
    ] {
        t.refuse_as(format!("request line: {name}"), NO_VERSION, line(bad));
    }
    // White space other than one SP may be forgiven (RFC 9112 3), which invites disagreement.
    for (name, loose) in [
        ("two spaces before the target", "GET  /plaintext HTTP/1.1"),
        ("two spaces before the version", "GET /plaintext  HTTP/1.1"),
        ("a space after the version", "GET /plaintext HTTP/1.1 "),
        ("tabs between", "GET\t/plaintext\tHTTP/1.1"),
        ("a form feed between", "GET\x0c/plaintext HTTP/1.1"),
        ("a vertical tab between", "GET /plaintext\x0bHTTP/1.1"),
    ] {
        t.allow(format!("request line: {name}"), &[200, 400], line(loose));
    }
    t.rfc("9112 3; 9110 16.3");
    t.refuse_as("a request line of HTTP/0.9", NO_VERSION, "GET /\r\n");
    t.refuse_as("a request line of HTTP/0.9 with fields", NO_VERSION, "GET /plaintext\r\nHost: a\r\n\r\n");
    t.refuse_as("the preface of HTTP/2", NO_VERSION, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n";
    t.one("a ClientHello of TLS", hello, want(NO_VERSION).or_nothing(), After::Closed);
    t.one("0xff bytes", [&[0xff; 64][..], b"\r\n\r\n"].concat(), want(&[400]).or_nothing(), After::Closed);
}

fn methods(t: &mut Table) {
    t.rfc("9112 3.1; 9110 9.1, 5.6.2");
    for byte in b"\"(),/:;<=>?@[\\]{}\x01\x1f\x7f".iter().copied().chain([0x80, 0xff]) {
        let bytes = [&b"G"[..], &[byte], b"T /plaintext HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        t.refuse(format!("0x{byte:02x} in the method"), bytes);
    }
    // Not known is 501, not allowed is 405; both are honest about a method that no resource has.
    let unknown = &[405, 501];
    for method in ["!#$%&'*+-.^_`|~", "FOO", "GETX", "GE", "M-SEARCH", "PROPFIND", "X", "0", "PATCH", "BREW"]
    {
        t.allow(format!("method {method}"), unknown, with(method, "/plaintext", "", ""));
    }
    // Methods are case-sensitive.
    for method in ["get", "Get", "head", "post", "gET"] {
        t.allow(format!("method {method}"), &[405, 501, 400], with(method, "/plaintext", "", ""));
    }
    for length in [33, 100, 1000, 10_000] {
        let method = "M".repeat(length);
        let long = with(&method, "/plaintext", "", "");
        t.allow(format!("a method of {length}"), &[501, 405, 400, 414, 431], long);
    }
    t.refuse_as("a method without end", &[501, 414, 400, 431], "M".repeat(100_000));
    t.rfc("9110 9.3.8");
    let quiet = |statuses: &[u16]| {
        want(statuses).check(|answer| {
            let body = String::from_utf8_lossy(&answer.body).to_lowercase();
            if body.contains("credential") { Err("TRACE reflects".into()) } else { Ok(()) }
        })
    };
    for path in ["/", "/plaintext", "/headers", "/echo", "/static/hello.txt", "/nowhere"] {
        let trace = with("TRACE", path, "Authorization: credential\r\n", "");
        t.one(format!("TRACE {path}"), trace, quiet(&[405, 501, 404]), After::Any);
    }
    let trace = with("TRACE", "/", "Content-Length: 10\r\n", "credential");
    t.one("TRACE with a body", trace, quiet(&[405, 400, 501]), After::Any);
    t.rfc("9110 9.3.6; 9112 3.2.3");
    let refused = &[405, 501, 400, 403, 404];
    t.allow("CONNECT a:443", refused, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    t.allow("CONNECT [::1]:443", refused, "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n");
    t.refuse_as("CONNECT with a path", refused, with("CONNECT", "/plaintext", "", ""));
    t.refuse_as("CONNECT without a port", refused, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n");
    t.refuse_as("CONNECT *", refused, "CONNECT * HTTP/1.1\r\nHost: a\r\n\r\n");
}

fn versions(t: &mut Table) {
    t.rfc("9112 2.3; 9110 2.5, 15.6.6");
    t.one("HTTP/1.0", "GET /plaintext HTTP/1.0\r\n\r\n", want(&[200]).body(HELLO), After::Closed).slowly();
    t.allow("HTTP/1.2, to be read as 1.1", &[200, 505], line("GET /plaintext HTTP/1.2"));
    t.allow("HTTP/1.9, to be read as 1.1", &[200, 505], line("GET /plaintext HTTP/1.9"));
    for version in [
        "HTTP/0.9",
        "HTTP/0.0",
        "HTTP/2.0",
        "HTTP/2.1",
        "HTTP/3.0",
        "HTTP/9.9",
        "HTTP/1.10",
        "HTTP/11.1",
        "HTTP/1",
        "HTTP/2",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/",
        "HTTP",
        "H",
        "1.1",
        "HTTP/01.1",
        "HTTP/1.01",
        "http/1.1",
        "Http/1.1",
        "hTTP/1.1",
        "HTTP/1,1",
        "HTTP/1.1x",
        "HTTP/x.1",
        "HTTP/1.x",
        "HTTP/ 1.1",
        "HTTP /1.1",
        "HTTP/1. 1",
        "HTTP/+1.1",
        "HTTP/-1.1",
        "HTTP/1.-1",
        "HTTP/1.1.1",
        "HTTP//1.1",
        "HTTPS/1.1",
        "XTTP/1.1",
        "HTTP-1.1",
        "HTTP1.1",
        "HTTP\\1.1",
        "ICY/1.1",
        "SIP/2.0",
        "RTSP/1.0",
        "SHTTP/1.3",
        "HTTP/1\u{2024}1",
        "HTTP/\u{661}.1",
        "HTTP/0x1.1",
        "HTTP/1.1\t",
        "HTTP/1.1;",
        "HTTP/4294967297.1",
        "HTTP/1.4294967297",
    ] {
        let bytes = line(&format!("GET /plaintext {version}"));
        t.refuse_as(format!("version {version:?}"), NO_VERSION, bytes);
    }
}

fn origin_form(t: &mut Table) {
    t.rfc("9112 3.2.1; 3986 3.3, 3.4");
    for target in [
        "/plaintext?",
        "/plaintext?a=b&c=d",
        "/plaintext??",
        "/plaintext?/../..",
        "/plaintext?a=/json",
        "/plaintext?http://b/",
        "/plaintext?%20%00%0d%0a",
        "/plaintext?a:@!$&'()*+,;=-._~",
        "/plaintext?*",
    ] {
        t.serve(format!("GET {target}"), get(target, ""), HELLO);
    }
    // Signs that a URI may not have, though browsers send some; a lone % too.
    for target in ["/plaintext?[]", "/plaintext?a|b", "/plaintext?{}", "/plaintext?%", "/plaintext?^`\\"] {
        t.allow(format!("GET {target}"), &[200, 400], get(target, ""));
    }
    for target in ["/plaintext#fragment", "/#", "/plaintext?<>", "/plaintext?\"", "/plaintext?\u{e4}"] {
        t.allow(format!("GET {target}"), &[200, 400, 404], get(target, ""));
    }
    for target in
        ["/nowhere", "/plaintextx", "/plaintex", "/jso", "/PLAINTEXT", "/plaintext;v=1", "/nowhere?/json"]
    {
        t.allow(format!("GET {target}"), &[404], get(target, ""));
    }
    for target in
        ["/plaintext/", "//plaintext", "/./plaintext", "/x/../plaintext", "/%70laintext", "/plaintext%3f"]
    {
        t.allow(format!("GET {target}"), &[200, 301, 308, 400, 404], get(target, ""));
    }
    for target in ["/%", "/%4", "/%zz", "/%g0", "/%0", "/plain%", "/%00", "/plaintext%00", "/%%32", "/%u0041"]
    {
        t.allow(format!("GET {target}"), &[400, 404], get(target, ""));
    }
    for byte in "<>\"{}|\\^`[]".bytes() {
        let target = format!("/a{}b", byte as char);
        t.allow(format!("GET {target}"), &[400, 404], get(&target, ""));
    }
    for byte in [0x80, 0xc3, 0xff] {
        let bytes = [&b"GET /a"[..], &[byte], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        t.allow(format!("0x{byte:02x} in the target"), &[400, 404], bytes);
    }
    for byte in (1..0x20).chain([0x7f]).filter(|byte| ![b'\t', b'\n', b'\r', 0x0b, 0x0c].contains(byte)) {
        let bytes = [&b"GET /a"[..], &[byte], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        t.refuse(format!("0x{byte:02x} in the target"), bytes);
    }
    t.refuse("a target without slash", line("GET plaintext HTTP/1.1"));
    t.refuse("a target that is a query", line("GET ?plaintext HTTP/1.1"));
    t.refuse("a target that is a fragment", line("GET #plaintext HTTP/1.1"));
    t.refuse("a target that goes up", line("GET ../plaintext HTTP/1.1"));
    t.refuse("a target that begins with a backslash", line("GET \\plaintext HTTP/1.1"));
}

fn absolute_form(t: &mut Table) {
    t.rfc("9112 3.2.2; 9110 4.2");
    let absolute = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for target in [
        "http://a/plaintext",
        "http://a:80/plaintext",
        "http://a:/plaintext",
        "HTTP://a/plaintext",
        "hTTp://A/plaintext?x=y",
        "http://127.0.0.1:8080/plaintext",
        "http://[::1]/plaintext",
        "http://[::1]:8080/plaintext?",
        "http://a.example.com./plaintext",
    ] {
        t.serve(format!("GET {target}"), absolute(target, "a"), HELLO);
    }
    t.serve("absolute form and another Host", absolute("http://b:81/plaintext", "a"), HELLO);
    t.serve("absolute form with a query", absolute("http://a/plaintext?q", "a"), HELLO).slowly();
    for target in ["http://a", "http://a/", "http://a:80", "http://a?query", "http://a/?query"] {
        t.allow(format!("GET {target}"), &[200], absolute(target, "a"));
    }
    t.allow("absolute form to nowhere", &[404], absolute("http://a/nowhere", "a"));
    t.refuse("absolute form without Host", "GET http://a/plaintext HTTP/1.1\r\n\r\n");
    t.one(
        "absolute form in HTTP/1.0",
        "GET http://a/plaintext HTTP/1.0\r\n\r\n",
        want(&[200]).body(HELLO),
        After::Closed,
    );
    for target in ["http:///plaintext", "http://:80/plaintext", "http://", "http://?x"] {
        t.refuse(format!("GET {target}"), absolute(target, "a"));
    }
    for target in [
        "http:/plaintext",
        "http:plaintext",
        "http//a/plaintext",
        "http://a:port/plaintext",
        "http://a:80:80/plaintext",
        "http://[::1/plaintext",
        "http://[::1]x/plaintext",
        "http://a b/plaintext",
        "://a/plaintext",
        "1http://a/plaintext",
        "http://a\\plaintext",
    ] {
        t.refuse_as(format!("GET {target}"), &[400, 404], absolute(target, "a"));
    }
    // May be refused, or served by somebody who does not care.
    for target in [
        "http://user@a/plaintext",
        "http://user:pass@a/plaintext",
        "http://a:99999/plaintext",
        "https://a/plaintext",
        "ws://a/plaintext",
        "ftp://a/plaintext",
        "file:///etc/passwd",
        "http://a/plaintext#x",
    ] {
        t.allow(format!("GET {target}"), &[200, 400, 403, 404, 421, 501], absolute(target, "a"));
    }
    t.allow(
        "POST in absolute form",
        &[405],
        with("POST", "http://a/plaintext", "Content-Length: 1\r\n", "x"),
    );
    t.serve("POST to an absolute echo", with("POST", "http://b/echo", "Content-Length: 2\r\n", "hi"), "hi");
    let options = "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n";
    t.allow("OPTIONS without a path", &[200, 204], options);
}

fn other_forms(t: &mut Table) {
    t.rfc("9112 3.2.4; 9110 9.3.7");
    t.allow("OPTIONS *", &[200, 204], with("OPTIONS", "*", "", "")).slowly();
    t.allow("OPTIONS * with a body", &[200, 204, 400], with("OPTIONS", "*", "Content-Length: 2\r\n", "{}"));
    t.one("OPTIONS * in HTTP/1.0", "OPTIONS * HTTP/1.0\r\n\r\n", want(&[200, 204]), After::Closed);
    for method in ["GET", "HEAD", "POST", "DELETE", "FOO"] {
        let mut asterisk = with(method, "*", "", "");
        if method == "POST" {
            asterisk = with(method, "*", "Content-Length: 0\r\n", "");
        }
        t.allow(format!("{method} *"), &[400, 404, 405, 501], asterisk);
    }
    for target in ["*a", "**", "*/", "/*a b"] {
        t.allow(format!("OPTIONS {target}"), &[400, 404], with("OPTIONS", target, "", ""));
    }
    t.rfc("9112 3.2.3");
    for target in ["a:80", "a", "127.0.0.1:80", "[::1]:80"] {
        t.refuse_as(format!("GET {target}"), &[400, 404], line(&format!("GET {target} HTTP/1.1")));
    }
}

fn lengths(t: &mut Table) {
    t.rfc("9112 3; 9110 15.5.15");
    // RFC 9112 3 recommends to take request lines of 8000 bytes.
    for length in [100, 1000, 4000, 8000] {
        let rest = "GET /plaintext? HTTP/1.1".len();
        let target = format!("/plaintext?{}", "q".repeat(length - rest));
        t.serve(format!("a request line of {length}"), get(&target, ""), HELLO);
    }
    let path = |length: usize| get(&format!("/{}", "p".repeat(length)), "");
    t.allow("a path of 7900 that is not there", &[404], path(7900));
    for length in [8192, 10_000, 16_384] {
        t.allow(format!("a path of {length}"), &[404, 414], path(length));
    }
    for length in [70_000, 300_000] {
        t.one(format!("a path of {length}"), path(length), want(&[414]), After::Closed);
        let query = get(&format!("/plaintext?{}", "q".repeat(length)), "");
        t.one(format!("a query of {length}"), query, want(&[414]), After::Closed);
    }
    let endless = format!("GET /{}", "x".repeat(100_000));
    t.one("a target without end", endless, want(&[414]), After::Closed);
    let absolute = format!("GET http://{}/ HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000));
    t.one("an absolute target of 100000", absolute, want(&[414, 400]), After::Closed);
    t.one("only empty lines", "\r\n".repeat(50_000), want(&[431, 400, 414]).or_nothing(), After::Closed);
}
