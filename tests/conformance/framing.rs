//! How long a body is: Content-Length, Transfer-Encoding, and both at once.

use crate::case::{After, NEVER, Step, Table, chunked, get, post, send, want, with};

const HELLO: &str = "Hello, World!";

pub fn table(t: &mut Table) {
    lengths(t);
    codings(t);
    smuggling(t);
    bodies_nobody_wants(t);
}

fn echo(fields: &str, body: &str) -> String {
    with("POST", "/echo", fields, body)
}

fn lengths(t: &mut Table) {
    t.rfc("9110 8.6; 9112 6.2");
    for path in ["/echo", "/stream"] {
        for body in ["", "x", "hello", "\r\n", "\r\n\r\n", "0\r\n\r\n", NEVER, "\0\0\0"] {
            t.serve(format!("POST {path} of {body:?}"), post(path, body), body);
        }
        t.serve(format!("POST {path}, slowly"), post(path, "hello"), "hello").slowly().at_every_split();
        let much: String = (0..10_000).map(|n| format!("{n} ")).collect();
        t.serve(format!("POST {path} of {}", much.len()), post(path, &much), &much);
        t.serve(format!("POST {path} with neither length nor coding"), with("POST", path, "", ""), "");
        let old = format!("POST {path} HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello");
        t.one(format!("POST {path} in HTTP/1.0"), old, want(&[200]).body("hello"), After::Closed);
        let old = format!("POST {path} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello");
        let kept = want(&[200]).body("hello");
        t.one(format!("POST {path} in a persistent HTTP/1.0"), old, kept, After::Any);
        let query = with("POST", &format!("{path}?a=/b"), "Content-Length: 2\r\n", "hi");
        t.serve(format!("POST {path} with a query"), query, "hi");
    }
    for field in ["content-length:5", "CONTENT-LENGTH:  5", "Content-Length:\t5 \t", "Content-Length: 5 "] {
        t.serve(format!("{field:?}"), echo(&format!("{field}\r\n"), "hello"), "hello");
    }
    for value in [
        "+5",
        "-5",
        "-0",
        "5x",
        "x5",
        "5 5",
        "5;",
        "5;a=b",
        "5.0",
        "5.",
        ".5",
        "0x5",
        "5h",
        "1e0",
        "5_0",
        "\"5\"",
        "five",
        "5\0",
        "\0",
        "5\x0b",
        "5\u{a0}",
        "\u{665}",
        "\u{ff15}",
        "5, 6",
        "6, 5",
        "5,x",
        "5,-5",
        "5\t5",
        "5\r",
        "'5'",
        "()",
        "18446744073709551621",
        "99999999999999999999999999",
        "340282366920938463463374607431768211461",
    ] {
        // The last three are 5 once they wrapped around, and 413 is as good for them.
        let statuses: &[u16] = if value.len() > 19 { &[400, 413] } else { &[400] };
        let request = echo(&format!("Content-Length: {value}\r\n"), "hello");
        t.refuse_as(format!("Content-Length: {value:?}"), statuses, request);
        if value.len() < 3 {
            let request = with("GET", "/plaintext", &format!("Content-Length: {value}\r\n"), "");
            t.refuse_as(format!("GET with Content-Length: {value:?}"), statuses, request);
        }
    }
    for value in ["", " ", ",", "5,", ",5", "5,5", "5, 5", "5,5,5", "5 ,5"] {
        // Equal ones may be taken for one (RFC 9112 6.3); whoever is strict refuses.
        let request = echo(&format!("Content-Length: {value}\r\n"), "hello");
        let statuses: &[u16] = if value.trim().len() < 2 { &[400] } else { &[400, 200] };
        t.one(format!("Content-Length: {value:?}"), request, want(statuses), After::Any);
    }
    for value in ["05", "005", "0000000000000000000000000000005"] {
        let request = echo(&format!("Content-Length: {value}\r\n"), "hello");
        t.allow(format!("Content-Length: {value}"), &[200, 400], request);
    }
    t.refuse("two lengths that differ", echo("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"))
        .slowly();
    t.refuse(
        "two lengths that differ, far apart",
        echo("Content-Length: 0\r\nX: y\r\ncontent-length: 5\r\n", "hello"),
    );
    t.refuse("a length and an empty one", echo("Content-Length: 5\r\nContent-Length:\r\n", "hello"));
    t.refuse("a length and garbage", echo("Content-Length: 5\r\nContent-Length: x\r\n", "hello"));
    t.refuse("a length folded", echo("Content-Length:\r\n 5\r\n", "hello"));
    let twice = echo("Content-Length: 5\r\nContent-Length: 5\r\n", "hello");
    t.allow("two equal lengths", &[400, 200], twice);
    for length in
        ["9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616"]
    {
        let request = echo(&format!("Content-Length: {length}\r\n"), "hello");
        t.one(format!("Content-Length: {length}"), request, want(&[413, 400]), After::Closed);
    }
    let get = with("GET", "/plaintext", "Content-Length: 5\r\n", "hello");
    t.one("GET with a body", get, want(&[200, 400]).body(HELLO), After::Any).slowly();
    let get = with("GET", "/plaintext", "Content-Length: 0\r\n", "");
    t.serve("GET with a body of 0", get, HELLO);
    let get = with("GET", "/plaintext", &format!("Content-Length: {}\r\n", NEVER.len()), NEVER);
    t.one("GET whose body is a request", get, want(&[200, 400]).body(HELLO), After::Any);
    let head = with("HEAD", "/plaintext", "Content-Length: 5\r\n", "hello");
    t.one("HEAD with a body", head, want(&[200, 400]), After::Any);
    t.allow("Content_Length is no length", &[200, 400], with("POST", "/echo", "Content_Length: 0\r\n", ""));
}

fn codings(t: &mut Table) {
    t.rfc("9112 6.1, 7");
    const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";
    for field in [
        "Transfer-Encoding: chunked",
        "transfer-encoding:chunked",
        "TRANSFER-ENCODING: CHUNKED",
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding:\tchunked \t",
    ] {
        t.serve(format!("{field:?}"), echo(&format!("{field}\r\n"), BODY), "hello");
    }
    let bad = &[400, 501];
    for value in [
        "",
        " ",
        ",",
        "identity",
        "gzip",
        "deflate",
        "xchunked",
        "chunkedx",
        "chunke",
        "chunk",
        "chunks",
        "cHuNkEdd",
        "chunked, chunked",
        "chunked,chunked",
        "chunked, identity",
        "identity, chunked",
        "chunked, gzip",
        "x, chunked",
        "gzip, chunked",
        "chunked gzip",
        "gzip chunked",
        "chunked;",
        "chunked;q=1",
        "chunked; foo",
        "\"chunked\"",
        "'chunked'",
        "chunked\0",
        "\x0bchunked",
        "chunked\x0b",
        "\u{a0}chunked",
        "chunked\x0c",
        "(chunked)",
        "chun ked",
        "chunked\t,gzip",
        "none",
        "null",
        "0",
        "trailers",
        "chunked,chunked,chunked",
        "chun\u{212a}ed",
        "=chunked",
    ] {
        let request = echo(&format!("Transfer-Encoding: {value}\r\n"), BODY);
        t.refuse_as(format!("Transfer-Encoding: {value:?}"), bad, request);
    }
    // A recipient has to forgive empty elements of a list (RFC 9110 5.6.1.2), or be strict where it is dangerous.
    for value in [",chunked", "chunked,", ", chunked", "chunked ,", ", ,chunked"] {
        let request = echo(&format!("Transfer-Encoding: {value}\r\n"), BODY);
        t.allow(format!("Transfer-Encoding: {value:?}"), &[200, 400, 501], request);
    }
    for (name, fields) in [
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked and identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("identity and chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ("gzip and chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked and gzip", "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"),
        ("chunked and garbage", "Transfer-Encoding: chunked\r\ntransfer-encoding: x\r\n"),
        ("a fold", "Transfer-Encoding:\r\n chunked\r\n"),
        ("a fold with a tab", "Transfer-Encoding:\r\n\tchunked\r\n"),
        ("a fold after it", "Transfer-Encoding: chunked\r\n , identity\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("a tab before the colon", "Transfer-Encoding\t: chunked\r\n"),
        ("a space before the name", "X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("a NUL before the colon", "Transfer-Encoding\0: chunked\r\n"),
        ("a CR before it", "X: y\rTransfer-Encoding: chunked\r\n"),
    ] {
        t.refuse_as(format!("Transfer-Encoding with {name}"), bad, echo(fields, BODY));
    }
    t.refuse_as("GET with an unknown coding", bad, get("/plaintext", "Transfer-Encoding: x\r\n"));
    let chunked_get = with("GET", "/plaintext", "Transfer-Encoding: chunked\r\n", BODY);
    t.one("GET in chunks", chunked_get, want(&[200, 400]).body(HELLO), After::Any).slowly();
    // Faulty framing (RFC 9112 6.1): whatever the answer, nothing may follow.
    let old = format!("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}{NEVER}");
    t.one("chunked in HTTP/1.0", old, want(&[400, 200, 411, 501]), After::Closed);
    let old = "POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n";
    let old = format!("{old}{BODY}{NEVER}");
    t.one("chunked in a persistent HTTP/1.0", old, want(&[400, 200, 411, 501]), After::Closed);
    let te = get("/plaintext", "TE: trailers, deflate;q=0.5\r\nConnection: TE\r\n");
    t.serve("TE is about the answer", te, HELLO);
    t.serve("TE: chunked is needless", get("/plaintext", "TE: chunked\r\nConnection: TE\r\n"), HELLO);
}

fn smuggling(t: &mut Table) {
    t.rfc("9112 6.1, 6.3, 11.2");
    const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";
    for (name, fields) in [
        ("length, coding", "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n"),
        ("coding, length", "Transfer-Encoding: chunked\r\nContent-Length: 15\r\n"),
        ("length 0, coding", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("length 4, coding", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        ("length far beyond, coding", "Content-Length: 9999999\r\nTransfer-Encoding: chunked\r\n"),
        ("lower case", "content-length: 15\r\ntransfer-encoding: chunked\r\n"),
        ("upper case", "CONTENT-LENGTH: 15\r\nTRANSFER-ENCODING: CHUNKED\r\n"),
        ("something between", "Content-Length: 15\r\nX: y\r\nTransfer-Encoding: chunked\r\n"),
        (
            "length twice, coding",
            "Content-Length: 15\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n",
        ),
        ("length around coding", "Content-Length: 15\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
        (
            "coding named in Connection",
            "Connection: transfer-encoding\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n",
        ),
        (
            "length named in Connection",
            "Connection: content-length\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n",
        ),
    ] {
        t.refuse(format!("both: {name}"), echo(fields, BODY)).slowly();
        let get = with("GET", "/plaintext", fields, BODY);
        t.refuse(format!("both in GET: {name}"), get);
    }
    for value in
        ["identity", "xchunked", "x", "chunked, identity", "gzip, chunked", "", "\"chunked\"", "chunked;x"]
    {
        let fields = format!("Content-Length: 15\r\nTransfer-Encoding: {value}\r\n");
        t.refuse_as(format!("a length and Transfer-Encoding: {value:?}"), &[400, 501], echo(&fields, BODY));
    }
    let old = "POST /echo HTTP/1.0\r\nContent-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n";
    t.refuse("both in HTTP/1.0", format!("{old}{BODY}"));
    for (name, fields) in [
        ("a vertical tab", "Content-Length: 15\r\nTransfer-Encoding:\x0bchunked\r\n"),
        ("a space before the colon", "Content-Length: 15\r\nTransfer-Encoding : chunked\r\n"),
        ("a fold", "Content-Length: 15\r\nTransfer-Encoding:\r\n chunked\r\n"),
        ("a space before the name", "Content-Length: 15\r\n Transfer-Encoding: chunked\r\n"),
        ("a CR before the name", "Content-Length: 15\r\n\rTransfer-Encoding: chunked\r\n"),
        ("a LF within a value", "Content-Length: 15\r\nX: y\nTransfer-Encoding: chunked\r\n"),
        ("a NUL after the value", "Content-Length: 15\r\nTransfer-Encoding: chunked\0\r\n"),
        ("no colon", "Content-Length: 15\r\nTransfer-Encoding chunked\r\n"),
    ] {
        t.refuse_as(format!("both, hidden by {name}"), &[400, 501], echo(fields, BODY));
    }
    // Underscores for hyphens: some gateways read these as the real ones; here they are not, or are refused.
    let look_alike = with("POST", "/echo", "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "hello");
    t.allow("an underscore for the hyphen", &[200, 400], look_alike);
    t.rfc("9112 9.3, 11.2");
    let smuggled = with("POST", "/echo", "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG");
    t.refuse("CL.TE", smuggled);
    let inner = "5c\r\nGPOST / HTTP/1.1\r\nContent-Length: 15\r\n\r\nx=1\r\n0\r\n\r\n";
    t.refuse("TE.CL", with("POST", "/echo", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", inner));
    t.refuse("a smuggled request after a GET", with("GET", "/plaintext", "Content-Length: 5x\r\n", NEVER));
    let two =
        [post("/echo", "one"), echo("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")]
            .concat();
    t.talk(
        "a good request before both",
        vec![
            send([&two, NEVER].concat()),
            Step::Answer(want(&[200]).body("one")),
            Step::Answer(want(&[400])),
        ],
        After::Closed,
    );
}

fn bodies_nobody_wants(t: &mut Table) {
    t.rfc("9112 9.3; 9110 9.3");
    // Read or closed, but never taken for the next request.
    for (path, statuses) in
        [("/plaintext", [405].as_slice()), ("/nowhere", &[404]), ("/204", &[405]), ("/json", &[405])]
    {
        let body = [NEVER, NEVER].concat();
        t.allow(format!("POST {path} with a body"), statuses, post(path, &body)).slowly();
        let chunks = format!("{:x}\r\n{NEVER}\r\n0\r\n\r\n", NEVER.len());
        t.allow(format!("POST {path} in chunks"), statuses, chunked(path, &chunks)).slowly();
        let large = "x".repeat(200_000);
        t.allow(format!("POST {path} of 200000"), statuses, post(path, &large));
        let put = with("PUT", path, "Content-Length: 5\r\n", "hello");
        t.allow(format!("PUT {path}"), &[statuses[0], 405], put);
        let broken = with("POST", path, "Transfer-Encoding: chunked\r\n", "xyz\r\n\r\n");
        let either = want(&[statuses[0], 400]);
        t.one(format!("POST {path} with a broken body"), [&broken, NEVER].concat(), either, After::Ended);
    }
    t.allow("POST /headers", &[200], post("/headers", "hello"));
    t.allow("POST /headers in chunks", &[200], chunked("/headers", "5\r\nhello\r\n0\r\n\r\n")).slowly();
    t.allow("DELETE with a body", &[405], with("DELETE", "/plaintext", "Content-Length: 5\r\n", "hello"));
    t.allow(
        "OPTIONS with a body",
        &[200, 204, 405],
        with("OPTIONS", "/plaintext", "Content-Length: 5\r\n", "hello"),
    );
}
