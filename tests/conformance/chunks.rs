//! Chunked bodies: sizes, extensions, data and trailers.

use crate::case::{After, NEVER, Step, Table, chunked, send, want};

const TWO: &[&str] = &["/echo", "/stream"];

pub fn table(t: &mut Table) {
    good(t);
    sizes(t);
    data(t);
    extensions(t);
    trailers(t);
}

/// A body whose fault comes to light only after the head: refused, or visibly broken off; nothing after it is read.
fn broken(t: &mut Table, name: &str, chunks: &str) {
    for path in TWO {
        let request = [chunked(path, chunks).as_str(), NEVER].concat();
        let refused = want(&[400, 413, 431]);
        let refused = if *path == "/stream" { refused.unless_cut().or_nothing() } else { refused };
        t.one(format!("{path}: {name}"), request, refused, After::Closed).slowly();
    }
}

/// Sound, but a recipient may be stricter.
fn loose(t: &mut Table, name: &str, chunks: &str) {
    t.one(name, chunked("/echo", chunks), want(&[200, 400]).body("hello"), After::Any);
}

fn serve(t: &mut Table, name: &str, chunks: &str, body: &str) {
    for path in TWO {
        t.serve(format!("{path}: {name}"), chunked(path, chunks), body).slowly();
    }
}

fn good(t: &mut Table) {
    t.rfc("9112 7.1");
    serve(t, "nothing", "0\r\n\r\n", "");
    serve(t, "one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello");
    t.serve("cut anywhere", chunked("/echo", "5;a=\"b\"\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n"), "hello!");
    t.at_every_split();
    t.serve("streamed, cut anywhere", chunked("/stream", "5;a\r\nhello\r\n0\r\n\r\n"), "hello")
        .at_every_split();
    serve(t, "two chunks", "5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n", "hello, world");
    serve(t, "chunks of one", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc");
    serve(t, "upper case", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    serve(t, "lower case", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789");
    serve(t, "two digits", "1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n", "abcdefghijklmnopqrstuvwxyz");
    serve(t, "a leading zero", "05\r\nhello\r\n0\r\n\r\n", "hello");
    serve(t, "leading zeros", "000005\r\nhello\r\n0\r\n\r\n", "hello");
    serve(t, "a last chunk of zeros", "5\r\nhello\r\n000\r\n\r\n", "hello");
    serve(t, "data that looks like chunks", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n");
    serve(t, "data that is a request", &format!("{:x}\r\n{NEVER}\r\n0\r\n\r\n", NEVER.len()), NEVER);
    serve(t, "data of line ends", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n");
    for path in TWO {
        let many = "1\r\nx\r\n".repeat(2000);
        t.serve(format!("{path}: 2000 chunks"), chunked(path, &format!("{many}0\r\n\r\n")), "x".repeat(2000));
        let large = "y".repeat(0x40000);
        let chunks = format!("40000\r\n{large}\r\n0\r\n\r\n");
        t.serve(format!("{path}: a chunk of 256 KiB"), chunked(path, &chunks), &large);
        let growing: Vec<String> = (1..300).map(|n| "z".repeat(n)).collect();
        let chunks: String = growing.iter().map(|data| format!("{:X}\r\n{data}\r\n", data.len())).collect();
        let chunks = format!("{chunks}0\r\n\r\n");
        t.serve(format!("{path}: chunks that grow"), chunked(path, &chunks), growing.concat());
    }
}

fn sizes(t: &mut Table) {
    t.rfc("9112 7.1");
    for size in [
        "",
        " ",
        "x",
        "g",
        "5g",
        "G5",
        "0x5",
        "0X5",
        "x5",
        "5h",
        "-5",
        "+5",
        "-0",
        "--5",
        "5.0",
        "5,",
        "5:",
        "5_",
        "\"5\"",
        "five",
        "5\0",
        "\x005",
        " 5",
        "\t5",
        "5\x0b",
        "5\x0c5",
        "5 5",
        "5\u{665}",
        "\u{ff15}",
        "5\r",
        "\r5",
        "\n5",
        "10000000000000005",
        "fffffffffffffffff",
        "100000000000000000000000000000005",
        "0x",
        "%35",
        "/",
        ":",
        "@",
        "`",
    ] {
        broken(t, &format!("a size of {size:?}"), &format!("{size}\r\nhello\r\n0\r\n\r\n"));
    }
    // One chunk beyond the limit: that the answer is 413 is known before its data, which will never come.
    for size in ["ffffffffffffffff", "8000000000000000", "7fffffffffffffff", "fffffffffffffffe"] {
        let request = [chunked("/echo", &format!("{size}\r\nhello\r\n0\r\n\r\n")).as_str(), NEVER].concat();
        t.one(format!("a size of {size}"), request, want(&[413, 400]), After::Closed);
    }
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(100_000));
    for path in TWO {
        let endless = want(&[400, 413, 431]).unless_cut().or_nothing();
        t.one(format!("{path}: a size of 100000 zeros"), chunked(path, &zeros), endless, After::Closed);
    }
    loose(t, "15 leading zeros", "0000000000000005\r\nhello\r\n0\r\n\r\n");
    loose(t, "16 leading zeros", "00000000000000005\r\nhello\r\n0\r\n\r\n");
    loose(t, "a space after the size", "5 \r\nhello\r\n0\r\n\r\n");
    loose(t, "a tab after the size", "5\t\r\nhello\r\n0\r\n\r\n");
    loose(t, "a space after the last size", "5\r\nhello\r\n0 \r\n\r\n");
}

fn data(t: &mut Table) {
    t.rfc("9112 7.1");
    for (name, chunks) in [
        ("more data than the size", "5\r\nhello!\r\n0\r\n\r\n"),
        ("a lot more data", "5\r\nhello, world\r\n0\r\n\r\n"),
        ("less data than the size", "6\r\nhello\r\n0\r\n\r\n"),
        ("no CRLF after the data", "5\r\nhello0\r\n\r\n"),
        ("only LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("only CR after the data", "5\r\nhello\r0\r\n\r\n"),
        ("LF CR after the data", "5\r\nhello\n\r0\r\n\r\n"),
        ("CR CR LF after the data", "5\r\nhello\r\r\n0\r\n\r\n"),
        ("an empty line after the data", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("a space after the data", "5\r\nhello \r\n0\r\n\r\n"),
        ("two signs after the data", "5\r\nhelloXX0\r\n\r\n"),
        ("only LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("only LF after the last size", "5\r\nhello\r\n0\n\r\n"),
        ("only CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("CR and another sign after the size", "5\rXhello\r\n0\r\n\r\n"),
        ("CR CR LF after the size", "5\r\r\nhello\r\n0\r\n\r\n"),
        ("only LF everywhere", "5\nhello\n0\n\n"),
        ("an empty line first", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("no size first", "hello\r\n0\r\n\r\n"),
        ("CR and another sign after the last size", "5\r\nhello\r\n0\rX\r\n\r\n"),
    ] {
        broken(t, name, chunks);
    }
    t.rfc("9112 7.1, 8");
    for (name, chunks) in [
        ("nothing at all", ""),
        ("half a size", "1"),
        ("a size", "5\r\n"),
        ("half the data", "5\r\nhel"),
        ("the data", "5\r\nhello"),
        ("half a CRLF", "5\r\nhello\r"),
        ("a chunk", "5\r\nhello\r\n"),
        ("half a last chunk", "5\r\nhello\r\n0"),
        ("a last chunk", "5\r\nhello\r\n0\r\n"),
        ("a last chunk and CR", "5\r\nhello\r\n0\r\n\r"),
        ("a trailer", "5\r\nhello\r\n0\r\nX: y\r\n"),
        ("half a trailer", "5\r\nhello\r\n0\r\nX"),
    ] {
        for path in TWO {
            let ends = want(&[400, 408]).unless_cut().or_nothing();
            let steps = vec![send(chunked(path, chunks)), Step::Half, Step::Answer(ends)];
            t.talk(format!("{path}: the end after {name}"), steps, After::Ended);
        }
        t.talk(format!("the client leaves after {name}"), vec![send(chunked("/echo", chunks))], After::Left);
    }
}

fn extensions(t: &mut Table) {
    t.rfc("9112 7.1.1");
    for extension in [
        ";a",
        ";a=b",
        ";a=b;c=d",
        ";a;b;c",
        ";a=\"b\"",
        ";a=\"\"",
        ";a=\"b c;d=e,f\"",
        ";a=\"\\\"\"",
        ";a=\"\\\\\"",
        ";a=\"b\";c",
        ";!#$%&'*+-.^_`|~=1",
        ";a=\"\t\"",
    ] {
        serve(t, &format!("{extension:?}"), &format!("5{extension}\r\nhello\r\n0\r\n\r\n"), "hello");
        serve(
            t,
            &format!("{extension:?} on the last"),
            &format!("5\r\nhello\r\n0{extension}\r\n\r\n"),
            "hello",
        );
    }
    let long = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(150));
    serve(t, "an extension of 150", &long, "hello");
    // BWS, which is to be read and not to be sent; empty parts; obs-text.
    for extension in
        [" ;a", "; a", ";a =b", ";a= b", " ; a = b ", ";a ", ";", ";;", ";a;", ";a=", ";=b", ";\"a\"=b"]
    {
        loose(t, &format!("{extension:?}"), &format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    }
    for extension in
        [";a=b c", ";a b", ";a,b", ";(a)", ";a==b", ";a=\"b\"c", ";a=b\"c\"", ";a@b", ";a/b", ",a"]
    {
        loose(t, &format!("{extension:?}"), &format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    }
    for (name, extension) in [
        ("a CR", ";a\rb"),
        ("a CR at its end", ";a\r"),
        ("a LF", ";a\nb"),
        ("a LF that hides a size", ";\n5"),
        ("a CR in its value", ";a=b\rc"),
        ("a LF in its value", ";a=b\nc"),
        ("a CR in quotation marks", ";a=\"\r\""),
        ("a LF in quotation marks", ";a=\"\n\""),
        ("CRLF in quotation marks", ";a=\"\r\n\""),
        ("an open quotation mark", ";a=\"b"),
        ("an open quotation mark, escaped", ";a=\"b\\"),
        ("a NUL", ";a\0b"),
        ("a NUL in its value", ";a=\0"),
        ("a NUL in quotation marks", ";a=\"\0\""),
        ("a control character", ";a\x01"),
        ("DEL", ";a=\x7f"),
    ] {
        broken(t, &format!("an extension with {name}"), &format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    }
    let endless = format!("5;{}", "a".repeat(100_000));
    t.one("an extension without end", chunked("/echo", &endless), want(&[400, 413, 431]), After::Closed);
    let long = format!("5;a=\"{}\"\r\nhello\r\n0\r\n\r\n", "x".repeat(100_000));
    t.one("an extension of 100000", chunked("/echo", &long), want(&[400, 413, 431]), After::Closed);
}

fn trailers(t: &mut Table) {
    t.rfc("9112 7.1.2; 9110 6.5");
    for trailers in
        ["X: y\r\n", "X:y\r\n", "X:\r\n", "X: \t y \t\r\nZ: w\r\n", "x-a: b\r\nx-a: c\r\n", "ETag: \"x\"\r\n"]
    {
        serve(t, &format!("trailers {trailers:?}"), &format!("5\r\nhello\r\n0\r\n{trailers}\r\n"), "hello");
    }
    // Never merged into the head; to ignore them or to refuse them is the recipient's choice.
    for trailer in [
        "Content-Length: 99",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Host: b",
        "Connection: close",
        "Authorization: x",
        "Content-Type: x/y",
        "Content-Encoding: gzip",
        "Expect: 100-continue",
        "Trailer: X",
        "Upgrade: h2c",
        "Date: never",
    ] {
        loose(t, &format!("trailer {trailer}"), &format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"));
    }
    for (name, trailer) in [
        ("no colon", "X"),
        ("a space before the colon", "X : y"),
        ("an empty name", ": y"),
        ("a bad name", "X(: y"),
        ("a space in the name", "X Y: z"),
        ("a NUL", "X: \0"),
        ("a NUL in the name", "X\0: y"),
        ("a CR", "X: y\rz"),
        ("a CR at the end", "X: y\r"),
        ("white space first", " X: y"),
        ("a fold", "X: y\r\n z"),
        ("a request line", "GET /never HTTP/1.1"),
    ] {
        broken(t, &format!("a trailer with {name}"), &format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"));
    }
    loose(t, "a trailer that ends in LF", "5\r\nhello\r\n0\r\nX: y\n\r\n");
    loose(t, "trailers that end in LF", "5\r\nhello\r\n0\r\nX: y\r\n\n");
    loose(t, "a last line of LF", "5\r\nhello\r\n0\r\n\n");
    let statuses = &[431, 400, 413];
    let long = format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    t.one("a trailer of 100000", chunked("/echo", &long), want(statuses), After::Closed);
    let endless = format!("5\r\nhello\r\n0\r\nX: {}", "y".repeat(100_000));
    t.one("a trailer without end", chunked("/echo", &endless), want(statuses), After::Closed);
    let many = format!("5\r\nhello\r\n0\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    t.one("20000 trailers", chunked("/echo", &many), want(statuses), After::Closed);
    let few: String = (0..20).map(|n| format!("X-{n}: y\r\n")).collect();
    serve(t, "20 trailers", &format!("5\r\nhello\r\n0\r\n{few}\r\n"), "hello");
}
