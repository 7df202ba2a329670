//! Host and the syntax of fields.

use crate::case::{After, Table, Want, get, want};

const HELLO: &str = "Hello, World!";

pub fn table(t: &mut Table) {
    hosts(t);
    names(t);
    values(t);
    limits(t);
}

fn fields(fields: &str) -> String {
    format!("GET /plaintext HTTP/1.1\r\n{fields}\r\n")
}

fn hosts(t: &mut Table) {
    t.rfc("9112 3.2; 9110 7.2");
    t.refuse("no Host", fields(""));
    t.refuse("no Host, but other fields", fields("X-Host: a\r\nHostname: a\r\n"));
    t.refuse("no Host but an absolute target", "GET http://a/ HTTP/1.1\r\nX: y\r\n\r\n").slowly();
    t.refuse("two Hosts", fields("Host: a\r\nHost: b\r\n")).slowly();
    t.refuse("two equal Hosts", fields("Host: a\r\nHost: a\r\n"));
    t.refuse("two equal Hosts, far apart", fields("Host: a\r\nX: y\r\nHOST: a\r\n"));
    t.refuse("two Hosts, the second empty", fields("Host: a\r\nHost:\r\n"));
    t.refuse("three Hosts", fields("Host: a\r\nHost: a\r\nHost: a\r\n"));
    t.refuse("two Hosts and an absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    t.refuse(
        "two Hosts in a body's request",
        "POST /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
    );
    let old = want(&[200]).body(HELLO);
    t.one("HTTP/1.0 with Host", "GET /plaintext HTTP/1.0\r\nHost: a\r\n\r\n", old.clone(), After::Closed);
    t.one("HTTP/1.0 without Host", "GET /plaintext HTTP/1.0\r\nX: y\r\n\r\n", old, After::Closed);
    let two = "GET /plaintext HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n";
    t.one("HTTP/1.0 with two Hosts", two, want(&[400, 200]), After::Closed);
    for host in [
        "a",
        "A",
        "a.example.com",
        "a.example.com.",
        "localhost",
        "localhost:8080",
        "127.0.0.1",
        "127.0.0.1:80",
        "a:",
        "a:0",
        "a:65535",
        "[::1]",
        "[::1]:8080",
        "[2001:db8::1]:80",
        "[::ffff:1.2.3.4]",
        "xn--bcher-kva.example",
        "a_b",
        "a-b",
        "a~b",
        "1",
        "1.2",
        "a!b",
    ] {
        t.serve(format!("Host: {host}"), fields(&format!("Host: {host}\r\n")), HELLO);
    }
    for field in
        ["Host:a", "Host:  a", "Host:\ta", "Host: a  ", "Host: a\t", "HOST: a", "host: a", "hOsT:\t a \t"]
    {
        t.serve(format!("{field:?}"), fields(&format!("{field}\r\n")), HELLO);
    }
    for host in [
        "a b",
        "a\tb",
        "a,b",
        "a, b",
        "a/b",
        "a/",
        "/",
        "user@a",
        "user:pass@a",
        "@",
        "a?b",
        "a#b",
        "http://a",
        "http://a/",
        "a:b",
        "a:80b",
        "a:80:80",
        "a:-1",
        "a:+80",
        "a: 80",
        "[::1",
        "::1]",
        "[::1]x",
        "[]",
        "[:80",
        "[g::1]",
        "a\\b",
        "<a>",
        "\"a\"",
        "a{b",
        "a|b",
        "a^b",
        "a`b",
        "a\u{7f}b",
        "a\0b",
        "a\x01b",
        ":80",
        ":",
        "a%",
        "a%zz",
        "a%4",
    ] {
        t.refuse(format!("Host: {host:?}"), fields(&format!("Host: {host}\r\n")));
    }
    // The grammar has an empty host, ports beyond 16 bits and escapes; no one needs them.
    for host in
        ["", " ", "a:65536", "a:999999999999", "a:00000080", "a%20b", "a%00", "\u{e4}.example", "[v1.x]"]
    {
        t.allow(format!("Host: {host:?}"), &[200, 400], fields(&format!("Host: {host}\r\n")));
    }
    t.refuse("Host folded", fields("Host:\r\n a\r\n"));
    t.refuse("Host with a space before the colon", fields("Host : a\r\n"));
    t.allow("a Host of 255", &[200, 400], fields(&format!("Host: {}\r\n", "a".repeat(255))));
    t.allow("a Host of 4000", &[200, 400], fields(&format!("Host: {}\r\n", "a".repeat(4000))));
}

fn names(t: &mut Table) {
    t.rfc("9112 5.1; 9110 5.1, 5.6.2");
    let bad =
        b"\"(),/;<=>?@[\\]{} \t\0\x01\x08\x0b\x0c\x1b\x1f\x7f".iter().copied().chain([0x80, 0xe4, 0xff]);
    for byte in bad {
        let head = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n";
        t.refuse(format!("0x{byte:02x} in a name"), [head, &b"X"[..], &[byte], b"Y: z\r\n\r\n"].concat());
        if !b" \t".contains(&byte) {
            t.refuse(format!("0x{byte:02x} begins a name"), [head, &[byte][..], b"Y: z\r\n\r\n"].concat());
        }
        t.refuse(format!("0x{byte:02x} ends a name"), [head, &b"X"[..], &[byte], b": z\r\n\r\n"].concat());
    }
    for (name, bad) in [
        ("an empty name", ": y"),
        ("only a colon", ":"),
        ("no colon", "X"),
        ("no colon, but words", "X y"),
        ("no colon, a quoted string", "\"X: y\""),
        ("two spaces before the colon", "X  : y"),
        ("an equals sign", "X=y"),
        ("a request line", "GET / HTTP/1.1"),
    ] {
        t.refuse(format!("a field: {name}"), get("/plaintext", &format!("{bad}\r\n")));
        t.refuse(format!("the first field: {name}"), fields(&format!("{bad}\r\nHost: a\r\n")));
    }
    t.refuse("space before the colon of Content-Length", get("/plaintext", "Content-Length : 5\r\n"));
    t.refuse(
        "space before the colon of Transfer-Encoding",
        get("/plaintext", "Transfer-Encoding : chunked\r\n"),
    );
    t.rfc("9110 5.1");
    t.one(
        "a name of all signs",
        get("/headers", "!#$%&'*+-.^_`|~09azAZ: y\r\n"),
        told("!#$%&'*+-.^_`|~09azaz: y"),
        After::Open,
    );
    t.one("a name of one sign", get("/headers", "x: y\r\n"), told("x: y"), After::Open);
    t.one("a name of 200", get("/headers", &format!("{}: y\r\n", "n".repeat(200))), told(": y"), After::Open);
}

/// Shown by `/headers`: a line, compared without case.
fn told(line: &'static str) -> Want {
    want(&[200]).check(move |answer| {
        let body = answer.body.to_ascii_lowercase();
        let shown = String::from_utf8_lossy(&body).into_owned();
        let exact = body.split(|&byte| byte == b'\n').any(|known| {
            let known = known.strip_suffix(b"\r").unwrap_or(known);
            known == line.as_bytes() || line.starts_with(':') && known.ends_with(line.as_bytes())
        });
        if exact { Ok(()) } else { Err(format!("no {line:?} in {shown:?}")) }
    })
}

fn values(t: &mut Table) {
    t.rfc("9112 5.1; 9110 5.5");
    for (field, line) in [
        ("X-A: v", "x-a: v"),
        ("X-A:v", "x-a: v"),
        ("X-A:  v", "x-a: v"),
        ("X-A:\tv", "x-a: v"),
        ("X-A: \t v \t ", "x-a: v"),
        ("X-A: a b", "x-a: a b"),
        ("X-A: a  b", "x-a: a  b"),
        ("X-A: a\tb", "x-a: a\tb"),
        ("X-A: a:b", "x-a: a:b"),
        ("X-A::", "x-a: :"),
        ("X-A: :b", "x-a: :b"),
        ("X-A: a,b;c=\"d\"", "x-a: a,b;c=\"d\""),
        ("X-A: (comment) {x} [y] <z> @ \\ ' `", "x-a: (comment) {x} [y] <z> @ \\ ' `"),
        ("X-A: \"unbalanced", "x-a: \"unbalanced"),
        ("x-a: GET / HTTP/1.1", "x-a: get / http/1.1"),
    ] {
        t.one(format!("{field:?}"), get("/headers", &format!("{field}\r\n")), told(line), After::Open);
    }
    t.one("a value, slowly", get("/headers", "X-A: \t v \t \r\nX-B:w\r\n"), told("x-b: w"), After::Open)
        .slowly();
    t.at_every_split();
    for (name, empty) in [("nothing", "X-A:"), ("a space", "X-A: "), ("white space", "X-A: \t \t")] {
        t.one(
            format!("a value of {name}"),
            get("/headers", &format!("{empty}\r\n")),
            want(&[200]),
            After::Open,
        );
    }
    let obs = [&b"GET /headers HTTP/1.1\r\nHost: a\r\nX-A: \x80\xe4\xff\r\n\r\n"[..]].concat();
    let kept = want(&[200, 400]).check(|answer| {
        let found = answer.body.windows(3).any(|window| window == b"\x80\xe4\xff");
        if found { Ok(()) } else { Err("obs-text was changed".into()) }
    });
    t.one("obs-text in a value", obs, kept, After::Any);
    let text = get("/headers", "X-A: gr\u{fc}n \u{2603}\r\n");
    t.one("UTF-8 in a value", text, want(&[200, 400]), After::Any);
    t.one("repeated fields", get("/headers", "X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n"), told("x-b: 2"), After::Open);
    // CR, LF and NUL are dangerous; the rest may be kept, but nobody sends it.
    for byte in (0..0x20).filter(|byte| !b"\t\n".contains(byte)).chain([0x7f]) {
        for (place, value) in [("in", [b'a', byte, b'b']), ("at the start of", [byte, b'a', b'b'])] {
            let bytes = [&b"GET /headers HTTP/1.1\r\nHost: a\r\nX-A: "[..], &value, b"\r\n\r\n"].concat();
            let name = format!("0x{byte:02x} {place} a value");
            if b"\0\r".contains(&byte) {
                t.refuse(name, bytes);
            } else {
                t.allow(name, &[400, 200], bytes);
            }
        }
    }
    t.refuse("NUL at the end of a value", get("/headers", "X-A: b\0\r\n"));
    t.refuse("NUL as a value", get("/headers", "X-A: \0\r\n"));
    t.refuse("CR at the end of a value", get("/headers", "X-A: b\r\r\n"));
    t.refuse("CR and a field in a value", get("/headers", "X-A: b\rX-B: c\r\n"));
    t.allow("LF at the end of a field", &[200, 400], get("/plaintext", "X-A: b\n"));
    t.allow("LF before another field", &[200, 400], get("/plaintext", "X-A: b\nX-B: c\r\n"));
    t.allow("LF CRLF at the end", &[200, 400], "GET /plaintext HTTP/1.1\r\nHost: a\n\r\n");
    t.allow("CRLF LF at the end", &[200, 400], "GET /plaintext HTTP/1.1\r\nHost: a\r\n\n");
    t.rfc("9112 5.2");
    for (name, folded) in [
        ("a space", "X-A: b\r\n c\r\n"),
        ("a tab", "X-A: b\r\n\tc\r\n"),
        ("at once", "X-A:\r\n b\r\n"),
        ("twice", "X-A: b\r\n c\r\n d\r\n"),
        ("only white space", "X-A: b\r\n \r\n"),
        ("what looks like a field", "X-A: b\r\n X-B: c\r\n"),
    ] {
        // Unfolding is the alternative that the section names, and ours is the one it names first.
        t.refuse(format!("folded, {name}"), get("/headers", folded));
    }
}

fn limits(t: &mut Table) {
    t.rfc("9110 5.4; 6585 5");
    for length in [1000, 4000, 8000] {
        let field = format!("X-A: {}\r\n", "v".repeat(length));
        t.serve(format!("a value of {length}"), get("/plaintext", &field), HELLO);
        let name = format!("{}: v\r\n", "n".repeat(length));
        t.allow(format!("a name of {length}"), &[200, 431, 400], get("/plaintext", &name));
    }
    for length in [70_000, 300_000] {
        let value = get("/plaintext", &format!("X-A: {}\r\n", "v".repeat(length)));
        t.one(format!("a value of {length}"), value, want(&[431, 400]), After::Closed);
        let name = get("/plaintext", &format!("{}: v\r\n", "n".repeat(length)));
        t.one(format!("a name of {length}"), name, want(&[431, 400]), After::Closed);
        let blank = get("/plaintext", &format!("X-A: {}v\r\n", " ".repeat(length)));
        t.one(format!("{length} spaces before a value"), blank, want(&[431, 400]), After::Closed);
        let cookie = get("/plaintext", &format!("Cookie: {}\r\n", "a=b; ".repeat(length / 5)));
        t.one(format!("cookies of {length}"), cookie, want(&[431, 400]), After::Closed);
    }
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}", "v".repeat(200_000));
    t.one("a value without end", endless, want(&[431, 400]), After::Closed);
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X-A: v\r\n".repeat(50_000));
    t.one("fields without end", endless, want(&[431, 400]), After::Closed);
    let numbered = |count: usize| (0..count).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    for count in [10, 30, 50] {
        t.serve(format!("{count} fields"), get("/plaintext", &numbered(count)), HELLO);
    }
    t.allow("99 fields", &[200, 431], get("/plaintext", &numbered(98)));
    for count in [1000, 10_000] {
        let many = get("/plaintext", &numbered(count));
        t.one(format!("{count} fields"), many, want(&[431, 400]), After::Closed);
    }
    let wide = |count: usize| format!("X-A: {}\r\n", "v".repeat(990)).repeat(count);
    t.serve("a head of 10 KB", get("/plaintext", &wide(10)), HELLO);
    t.allow("a head of 16 KB", &[200, 431], get("/plaintext", &wide(16)));
    t.one("a head of 100 KB", get("/plaintext", &wide(100)), want(&[431, 400]), After::Closed);
}
