//! What the resources answer: methods, heads, bodies, dates, and bodies at the limit.

use std::net::SocketAddr;

use crate::answer::{Answer, Asked, Framing};
use crate::case::{After, Step, Table, Want, chunked, get, send, want, with};
use crate::talk::Talk;

const HELLO: &str = "Hello, World!";
const JSON: &str = "{\"message\":\"Hello, World!\"}";
const CHUNKS: &str = "chunk-0;chunk-1;chunk-2;";
/// What `/echo` takes by default, in bytes.
const LIMIT: usize = 16 << 20;

pub fn table(t: &mut Table) {
    resources(t);
    methods(t);
    heads(t);
    headers(t);
    injections(t);
    large(t);
}

fn text(body: &str, kind: &'static str) -> Want {
    let length = body.len().to_string();
    let typed = move |answer: &Answer| {
        let found = answer.field("content-type").unwrap_or_default();
        if found.to_lowercase().starts_with(kind) { Ok(()) } else { Err(format!("Content-Type: {found:?}")) }
    };
    want(&[200]).body(body).field("content-length", length).check(typed)
}

fn resources(t: &mut Table) {
    t.rfc("9110 6.6.1, 8.3, 8.6, 10.2.4");
    let named = |want: Want| want.check(|answer| answer.field("server").map(drop).ok_or("no Server".into()));
    for fields in ["", "Accept: */*\r\n", "Accept: application/json\r\n", "Accept-Encoding: gzip, br\r\n"] {
        let plain = get("/plaintext", fields);
        t.one(format!("/plaintext {fields:?}"), plain, named(text(HELLO, "text/plain")), After::Open);
        let json = get("/json", fields);
        t.one(format!("/json {fields:?}"), json, named(text(JSON, "application/json")), After::Open);
    }
    let small = want(&[200]).check(|answer| {
        let kind = answer.field("content-type").unwrap_or_default();
        let good = answer.framing == Framing::Length && !answer.body.is_empty() && answer.body.len() < 10_000;
        if good && kind.starts_with("text/") { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    t.one("GET /", get("/", ""), small.clone(), After::Open).slowly();
    t.one("GET /?query", get("/?query", ""), small, After::Open);
    t.rfc("9110 15.3.5; 9112 6.3");
    t.one("GET /204", get("/204", ""), want(&[204]), After::Open).slowly();
    t.one("GET /204 in HTTP/1.0", "GET /204 HTTP/1.0\r\n\r\n", want(&[204]), After::Closed);
    t.one("HEAD /204", with("HEAD", "/204", "", ""), want(&[204, 405]), After::Open);
    t.rfc("9112 6.1, 7.1");
    let streamed = want(&[200]).body(CHUNKS).field("transfer-encoding", "chunked");
    t.one("GET /chunked", get("/chunked", ""), streamed, After::Open).slowly();
    let old = "GET /chunked HTTP/1.0\r\n\r\n";
    t.one("GET /chunked in HTTP/1.0", old, want(&[200]).body(CHUNKS), After::Closed).slowly();
    let old = "GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    t.one("GET /chunked in a persistent HTTP/1.0", old, want(&[200]).body(CHUNKS), After::Any);
    let close = get("/chunked", "Connection: close\r\n");
    t.one("GET /chunked and close", close, want(&[200]).body(CHUNKS), After::Closed);
    t.rfc("9110 15.5.5");
    for path in [
        "/nowhere",
        "/echo/x",
        "/favicon.ico",
        "/stati",
        "/staticx",
        "/.well-known/x",
        "/index.php",
        "/x/y/z",
    ] {
        t.one(format!("GET {path}"), get(path, ""), want(&[404]), After::Open);
        t.one(format!("HEAD {path}"), with("HEAD", path, "", ""), want(&[404]), After::Open);
    }
    t.scene("the date moves on", |to| {
        let mut talk = Talk::to(to)?;
        let first = talk.ask(&get("/plaintext", ""))?.field("date");
        let began = std::time::Instant::now();
        while talk.ask(&get("/plaintext", ""))?.field("date") == first {
            if began.elapsed().as_secs() > 3 {
                return Err(format!("{first:?} for three seconds"));
            }
        }
        Ok(())
    });
}

fn methods(t: &mut Table) {
    t.rfc("9110 9.1, 10.2.1, 15.5.6");
    const READ: &[&str] = &["GET", "HEAD"];
    const WRITE: &[&str] = &["POST"];
    let resources: [(&str, &[&str], &[&str]); 9] = [
        ("/", READ, &[]),
        ("/plaintext", READ, &[]),
        ("/json", READ, &[]),
        ("/chunked", READ, &[]),
        ("/static/hello.txt", READ, &[]),
        ("/204", &["GET"], &["HEAD"]),
        ("/headers", &["GET", "POST"], &["HEAD"]),
        ("/echo", WRITE, &[]),
        ("/stream", WRITE, &[]),
    ];
    for (path, has, perhaps) in resources {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "FOO"] {
            let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
            let request = with(method, path, length, "");
            let good = [200, 204, 405];
            let expected = if has.contains(&method) {
                want(&good[..2])
            } else if perhaps.contains(&method) {
                want(&good)
            } else if has == WRITE && method == "HEAD" {
                want(&[405])
            } else {
                want(&[405, 501]).lists("allow", has)
            };
            t.one(format!("{method} {path}"), request, expected, After::Open);
            let old = format!("{method} {path} HTTP/1.0\r\n{length}\r\n");
            t.one(format!("{method} {path} in HTTP/1.0"), old, want(&[200, 204, 405, 501]), After::Closed);
        }
        let derived = want(&[204, 200]).lists("allow", has);
        t.one(format!("OPTIONS {path}"), with("OPTIONS", path, "", ""), derived, After::Open);
    }
    t.rfc("9110 9.3.7");
    let nowhere = with("OPTIONS", "/nowhere", "", "");
    t.one("OPTIONS /nowhere", nowhere, want(&[404, 204, 200]), After::Open);
    t.one("OPTIONS *", with("OPTIONS", "*", "", ""), want(&[200, 204]), After::Open);
}

fn heads(t: &mut Table) {
    t.rfc("9110 9.3.2");
    for path in [
        "/",
        "/plaintext",
        "/json",
        "/chunked",
        "/static/hello.txt",
        "/static/big.bin",
        "/static/empty.txt",
        "/nowhere",
    ] {
        t.scene(format!("HEAD {path} is as GET"), move |to| {
            let mut talk = Talk::to(to)?;
            let (got, head) = (talk.ask(&get(path, ""))?, talk.ask(&with("HEAD", path, "", ""))?);
            if head.status != got.status {
                return Err(format!("{} for GET, {} for HEAD", got.status, head.status));
            }
            let names = |answer: &Answer| {
                let names = answer.fields.iter().map(|(name, _)| name.to_ascii_lowercase());
                names.collect::<std::collections::BTreeSet<_>>()
            };
            for name in names(&got).union(&names(&head)) {
                // What is found only by making the body may be left out (RFC 9110 9.3.2).
                let optional = ["content-length", "transfer-encoding", "trailer"].contains(&name.as_str());
                let (left, right) = (got.field(name), head.field(name));
                if left != right && name != "date" && !(optional && right.is_none()) {
                    return Err(format!("{name}: {left:?} for GET, {right:?} for HEAD"));
                }
            }
            Ok(())
        });
        t.one(
            format!("HEAD {path} in HTTP/1.0"),
            format!("HEAD {path} HTTP/1.0\r\n\r\n"),
            want(&[200, 404]),
            After::Closed,
        );
    }
    // A client that asked by HEAD reads no body, whatever is wrong with the rest.
    let long = format!("X: {}\r\n", "x".repeat(100_000));
    for (name, head) in [
        ("no Host", "HEAD / HTTP/1.1\r\n\r\n".to_owned()),
        ("a bad target", with("HEAD", "*", "", "")),
        ("a bad field", with("HEAD", "/", "X : y\r\n", "")),
        (
            "a length and a coding",
            with("HEAD", "/", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", ""),
        ),
        ("an unknown coding", with("HEAD", "/", "Transfer-Encoding: x\r\n", "")),
        ("a bad length", with("HEAD", "/", "Content-Length: x\r\n", "")),
        ("too long a field", with("HEAD", "/", &long, "")),
    ] {
        let refused = want(&[400, 405, 431, 501]).or_nothing();
        t.one(format!("HEAD with {name}"), head, refused, After::Any);
    }
    t.one(
        "HEAD, slowly",
        with("HEAD", "/plaintext", "", ""),
        want(&[200]).field("content-length", "13"),
        After::Open,
    );
    t.slowly();
}

fn headers(t: &mut Table) {
    t.rfc("9110 5.3");
    for method in ["GET", "POST"] {
        let fields = "X-One: 1\r\nx-two: b c\r\nX-One: 3\r\nContent-Length: 0\r\n";
        let listed = want(&[200]).check(|answer| {
            let body = String::from_utf8_lossy(&answer.body).to_lowercase();
            let lines: Vec<_> = body.lines().filter(|line| !line.is_empty()).collect();
            let expected = ["host: a", "x-one: 1", "x-two: b c", "x-one: 3", "content-length: 0"];
            if lines == expected { Ok(()) } else { Err(format!("{lines:?}")) }
        });
        t.one(format!("{method} /headers"), with(method, "/headers", fields, ""), listed, After::Open)
            .slowly();
    }
}

fn injections(t: &mut Table) {
    t.rfc("9112 11.1");
    let field = "%0d%0aX-Injected:%201";
    for path in [
        "/",
        "/static/",
        "/static/dir",
        "/nowhere",
        "/static/dir/",
        "/headers?",
        "/static/dir?",
        "/plaintext?",
    ] {
        for field in [field, "%0aX-Injected:%201", "%0D%0A%0D%0A%3Chtml%3E", "%E5%98%8A%E5%98%8DX-Injected:1"]
        {
            let request = get(&format!("{path}{field}"), "");
            t.allow(format!("GET {path}{field}"), &[404, 400, 200, 301, 302, 307, 308], request);
        }
    }
    let forwarded = get("/static/dir", "X-Forwarded-Host: b\r\nX-Forwarded-Proto: https\r\n");
    t.allow("a redirect that others name", &[301, 302, 307, 308, 200, 404], forwarded);
    let methods = with("FOO", "/<script>alert(1)</script>", "", "");
    t.allow("a target that is a script", &[400, 404, 405, 501], methods);
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut chunks = Vec::new();
    for data in body.chunks(size) {
        chunks.extend(format!("{:x}\r\n", data.len()).bytes());
        chunks.extend(data);
        chunks.extend(b"\r\n");
    }
    chunks.extend(b"0\r\n\r\n");
    chunks
}

fn large(t: &mut Table) {
    t.rfc("9112 6; 9110 15.5.14");
    for length in [1 << 10, 16 << 10, (64 << 10) + 1, 1 << 20] {
        let body = bytes(length);
        for path in ["/echo", "/stream"] {
            let head = with("POST", path, &format!("Content-Length: {length}\r\n"), "");
            t.serve(format!("POST {path} of {length}"), [head.as_bytes(), &body].concat(), &body);
            let head = chunked(path, "");
            let chunks = in_chunks(&body, 5000);
            t.serve(format!("POST {path} of {length} in chunks"), [head.as_bytes(), &chunks].concat(), &body);
        }
    }
    t.scene("POST /echo at its limit", |to| echoes(to, "/echo", LIMIT, None));
    t.scene("POST /echo at its limit in chunks", |to| echoes(to, "/echo", LIMIT, Some(100_000)));
    t.scene("POST /stream beyond any limit", |to| echoes(to, "/stream", LIMIT + 4_000_000, None));
    t.scene("POST /stream beyond any limit in chunks", |to| {
        echoes(to, "/stream", LIMIT + 4_000_000, Some(70_000))
    });
    for chunk in [None, Some(3000)] {
        t.scene(format!("POST /stream by a client that reads late, chunks {chunk:?}"), move |to| {
            late(to, "/stream", 24 << 20, chunk)
        });
        t.scene(format!("POST /echo by a client that reads late, chunks {chunk:?}"), move |to| {
            late(to, "/echo", LIMIT, chunk)
        });
    }
    t.scene("files to a client that reads late", |to| {
        let (mut talk, file) = (Talk::to(to)?, crate::site::big());
        talk.stuff(get("/static/big.bin", "").repeat(5).as_bytes());
        talk.see(b"HTTP/1.1 200")?;
        for _ in 0..5 {
            let answer = talk.any_answer(Asked::default())?;
            if answer.body != file {
                return Err(format!("{} bytes", answer.body.len()));
            }
        }
        Ok(())
    });
    t.scene("50000 requests at once by a client that reads late", |to| {
        let mut talk = Talk::to(to)?;
        talk.stuff(get("/plaintext", "").repeat(50_000).as_bytes());
        for turn in 0..50_000 {
            let answer = talk.any_answer(Asked::default()).map_err(|wrong| format!("{turn}: {wrong}"))?;
            if answer.body != HELLO.as_bytes() {
                return Err(format!("{turn}: {answer:?}"));
            }
        }
        Ok(())
    });
    let head = |length: usize| with("POST", "/echo", &format!("Content-Length: {length}\r\n"), "");
    t.scene("one byte too many, not sent", move |to| {
        let answer = Talk::to(to)?.ask(&head(LIMIT + 1))?;
        if answer.status == 413 { Ok(()) } else { Err(format!("{}", answer.status)) }
    });
    for extra in [1, 3_000_000] {
        let sent = [head(LIMIT + extra).as_bytes(), &vec![b'x'; LIMIT + extra]].concat();
        t.scene(format!("{extra} bytes too many, sent whole"), move |to| too_large(to, &sent));
        let chunks = in_chunks(&vec![b'x'; LIMIT + extra], 100_000);
        let sent = [chunked("/echo", "").as_bytes(), &chunks].concat();
        t.scene(format!("{extra} bytes too many in chunks, sent whole"), move |to| too_large(to, &sent));
    }
    t.rfc("9112 7.1; 9110 6.4");
    for (name, head, first, second) in [
        ("in chunks", chunked("/stream", ""), "5\r\nfirst\r\n", "6\r\nsecond\r\n0\r\n\r\n"),
        ("by length", with("POST", "/stream", "Content-Length: 11\r\n", ""), "first", "second"),
    ] {
        let steps = vec![
            send([&head, first].concat()),
            Step::See(b"first".to_vec()),
            send(second),
            Step::Answer(want(&[200]).body("firstsecond")),
        ];
        t.talk(format!("/stream answers while the body comes, {name}"), steps, After::Open);
    }
    let broken = [chunked("/stream", "5\r\nfirst\r\n").as_bytes()].concat();
    let steps = vec![
        send(broken),
        Step::See(b"first".to_vec()),
        send("x\r\n\r\n"),
        Step::Answer(want(&[]).unless_cut()),
    ];
    t.talk("/stream of a body that breaks after its first chunk", steps, After::Closed);
}

/// Sent and read at once: the answer is the body.
fn echoes(to: SocketAddr, path: &str, length: usize, chunk: Option<usize>) -> Result<(), String> {
    let (mut talk, sent) = (Talk::to(to)?, echoed(path, length, chunk));
    talk.send(&sent);
    is_echo(talk, length)
}

/// The same by a client that sends as much as it can before it reads, so that the server has to wait with both.
fn late(to: SocketAddr, path: &str, length: usize, chunk: Option<usize>) -> Result<(), String> {
    let (mut talk, sent) = (Talk::to(to)?, echoed(path, length, chunk));
    talk.stuff(&sent);
    is_echo(talk, length)
}

fn echoed(path: &str, length: usize, chunk: Option<usize>) -> Vec<u8> {
    let body = bytes(length);
    match chunk {
        Some(size) => [chunked(path, "").as_bytes(), &in_chunks(&body, size)].concat(),
        None => [with("POST", path, &format!("Content-Length: {length}\r\n"), "").as_bytes(), &body].concat(),
    }
}

fn is_echo(mut talk: Talk, length: usize) -> Result<(), String> {
    let answer = talk.any_answer(Asked::default())?;
    if answer.status != 200 || answer.body != bytes(length) {
        return Err(format!("{} with {} of {length} bytes", answer.status, answer.body.len()));
    }
    let next = talk.ask(&get("/plaintext", ""))?;
    if next.body == HELLO.as_bytes() { Ok(()) } else { Err(format!("then {next:?}")) }
}

/// The client sends all of it before it reads, and still finds the whole 413.
fn too_large(to: SocketAddr, sent: &[u8]) -> Result<(), String> {
    let mut talk = Talk::to(to)?;
    for part in sent.chunks(16 << 10) {
        talk.send(part);
    }
    let answer = talk.any_answer(Asked::default())?;
    if answer.status != 413 || !answer.whole {
        return Err(format!("{} instead of 413", answer.status));
    }
    Ok(())
}
