//! A body at its limit, and beyond.

use crate::case::{After, NEVER, Step, Table, chunked, post, send, want, with};

/// The table, for a server whose `/echo` takes `limit` bytes.
pub fn table(t: &mut Table, limit: usize) {
    t.rfc("9110 15.5.14");
    let body = |length: usize| "x".repeat(length);
    for length in [0, 1, limit - 1, limit] {
        t.serve(format!("{length} bytes"), post("/echo", &body(length)), body(length)).slowly();
        let chunks: String = body(length)
            .as_bytes()
            .chunks(7)
            .map(|c| format!("{:x}\r\n{}\r\n", c.len(), body(c.len())))
            .collect();
        let request = chunked("/echo", &format!("{chunks}0\r\n\r\n"));
        t.serve(format!("{length} bytes in chunks of 7"), request, body(length)).slowly();
        if length > 0 {
            let request = chunked("/echo", &format!("{length:x}\r\n{}\r\n0\r\n\r\n", body(length)));
            t.serve(format!("{length} bytes in one chunk"), request, body(length));
        }
    }
    let large = &[413];
    for length in [limit + 1, 2 * limit, 100 * limit] {
        // Whether the rest is read or the connection ends is the server's choice, and what it says holds.
        t.allow(format!("{length} bytes"), large, post("/echo", &body(length)));
        let one = chunked("/echo", &format!("{length:x}\r\n{}\r\n0\r\n\r\n", body(length)));
        t.allow(format!("{length} bytes in one chunk"), large, one);
        let many = "1\r\nx\r\n".repeat(length);
        t.allow(
            format!("{length} bytes in as many chunks"),
            large,
            chunked("/echo", &format!("{many}0\r\n\r\n")),
        );
        t.serve(format!("{length} bytes streamed"), post("/stream", &body(length)), body(length));
        let head =
            with("POST", "/echo", &format!("Content-Length: {length}\r\nExpect: 100-continue\r\n"), "");
        let steps = vec![send(head), Step::Answer(want(large))];
        t.talk(format!("{length} bytes that expect"), steps, After::Closed);
        let close = with("POST", "/echo", &format!("Content-Length: {length}\r\nConnection: close\r\n"), "");
        let request = [&close, &body(length)[..], NEVER].concat();
        t.one(format!("{length} bytes and close"), request, want(large), After::Closed);
        let statuses = &[405];
        t.allow(format!("{length} bytes to who takes none"), statuses, post("/plaintext", &body(length)));
    }
    let head = with("POST", "/echo", &format!("Content-Length: {limit}\r\nExpect: 100-continue\r\n"), "");
    let answer = Step::Answer(want(&[200]).body(body(limit)));
    t.talk(
        "the limit, expecting",
        vec![send(head), Step::Answer(want(&[100])), send(body(limit)), answer],
        After::Open,
    );
    let long = post("/echo", &body(limit + 1));
    let after = post("/echo", "short");
    t.pipeline(
        "good ones before one that is too long",
        vec![
            (after.clone().into_bytes(), want(&[200]).body("short")),
            (after.into_bytes(), want(&[200]).body("short")),
            (long.into_bytes(), want(&[413])),
        ],
        After::Any,
    );
}
