//! What becomes of a connection: persistence, pipelines, expectations, upgrades, and clients that break off.

use crate::answer::Asked;
use crate::case::{After, NEVER, Step, Table, Want, chunked, get, post, send, want, with};
use crate::talk::Talk;

const HELLO: &str = "Hello, World!";

pub fn table(t: &mut Table) {
    persistence(t);
    pipelines(t);
    expectations(t);
    upgrades(t);
    ends(t);
}

fn hello() -> Want {
    want(&[200]).body(HELLO)
}

fn persistence(t: &mut Table) {
    t.rfc("9112 9.3, 9.6; 9110 7.6.1");
    for field in [
        "Connection: close",
        "connection:close",
        "CONNECTION: CLOSE",
        "Connection: Close",
        "Connection: foo, close",
        "Connection: close, foo",
        "Connection: ,close",
        "Connection: close,",
        "Connection: keep-alive, close",
        "Connection: close, keep-alive",
        "Connection: foo\r\nConnection: close",
        "Connection: close\r\nConnection: foo",
        "Connection: close\r\nConnection: keep-alive",
        "Connection: close\r\nKeep-Alive: timeout=5",
        "Connection:\tclose \t",
        "Connection: foo ,\tclose\t, bar",
    ] {
        let request = [get("/plaintext", &format!("{field}\r\n")).as_str(), NEVER].concat();
        t.one(format!("{field:?}"), request, hello(), After::Closed).slowly();
    }
    for field in [
        "Connection: keep-alive",
        "Connection: Keep-Alive",
        "Connection: keep-alive\r\nKeep-Alive: timeout=5, max=1000",
        "Connection: foo",
        "Connection: closed",
        "Connection: xclose",
        "Connection: close-not",
        "Connection: clos",
        "Connection:",
        "Connection: ,",
        "X-Connection: close",
        "Keep-Alive: timeout=0",
        "Proxy-Connection: close",
    ] {
        t.serve(format!("{field:?}"), get("/plaintext", &format!("{field}\r\n")), HELLO);
    }
    for field in
        ["Connection: host", "Connection: content-length", "Connection: c lose", "Connection: \"close\""]
    {
        t.allow(format!("{field:?}"), &[200, 400], get("/plaintext", &format!("{field}\r\n")));
    }
    let bodies = [
        post("/echo", "hello").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
        chunked("/echo", "5\r\nhello\r\n0\r\n\r\n").replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1),
        post("/stream", "hello").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
    ];
    for body in bodies {
        let request = [body.as_str(), NEVER].concat();
        t.one("close after a body", request, want(&[200]).body("hello"), After::Closed).slowly();
    }
    for (path, statuses) in
        [("/204", [204].as_slice()), ("/chunked", &[200]), ("/nowhere", &[404]), ("/", &[200])]
    {
        let request = [get(path, "Connection: close\r\n").as_str(), NEVER].concat();
        t.one(format!("close after {path}"), request, want(statuses), After::Closed);
        t.one(format!("on after {path}"), get(path, ""), want(statuses), After::Open).slowly();
        let head = with("HEAD", path, "Connection: close\r\n", NEVER);
        t.one(format!("close after HEAD {path}"), head, want(&[statuses[0], 405]), After::Closed);
    }
    t.rfc("9112 9.3, C.2.2");
    for (path, statuses) in
        [("/plaintext", [200].as_slice()), ("/204", &[204]), ("/nowhere", &[404]), ("/chunked", &[200])]
    {
        let old = format!("GET {path} HTTP/1.0\r\n\r\n{NEVER}");
        t.one(format!("HTTP/1.0 ends after {path}"), old, want(statuses), After::Closed);
        let old = format!("HEAD {path} HTTP/1.0\r\n\r\n{NEVER}");
        t.one(format!("HTTP/1.0 ends after HEAD {path}"), old, want(&[statuses[0], 405]), After::Closed);
        let kept = format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        t.one(format!("HTTP/1.0 that persists after {path}"), kept, want(statuses), After::Any);
    }
    let old = |fields: &str| format!("GET /plaintext HTTP/1.0\r\n{fields}\r\n");
    let both = format!("{}{NEVER}", old("Connection: keep-alive, close\r\n"));
    t.one("HTTP/1.0 with keep-alive and close", both, hello(), After::Closed);
    t.one("HTTP/1.0 with close", format!("{}{NEVER}", old("Connection: close\r\n")), hello(), After::Closed);
    t.one(
        "HTTP/1.0 with Keep-Alive alone",
        format!("{}{NEVER}", old("Keep-Alive: 5\r\n")),
        hello(),
        After::Closed,
    );
    for value in ["keep-alive", "Keep-Alive", "foo, keep-alive"] {
        let persists = hello().lists("connection", &["keep-alive"]);
        t.one(
            format!("HTTP/1.0 with {value}"),
            old(&format!("Connection: {value}\r\n")),
            persists,
            After::Open,
        );
    }
    t.scene("1000 requests on one connection", |to| {
        let mut talk = Talk::to(to)?;
        for turn in 0..1000 {
            let answer = talk.ask(&get("/plaintext", "")).map_err(|wrong| format!("{turn}: {wrong}"))?;
            if answer.body != HELLO.as_bytes() || answer.closes {
                return Err(format!("{turn}: {answer:?}"));
            }
        }
        Ok(())
    });
}

fn turn(request: String, body: &str) -> (Vec<u8>, Want) {
    (request.into_bytes(), want(&[200]).body(body))
}

/// One of each kind, with what it is answered.
fn mixed() -> Vec<(Vec<u8>, Want)> {
    vec![
        turn(get("/plaintext", ""), HELLO),
        turn(post("/echo", "first"), "first"),
        turn(get("/json", ""), "{\"message\":\"Hello, World!\"}"),
        turn(chunked("/echo", "6\r\nsecond\r\n0\r\nX: y\r\n\r\n"), "second"),
        (get("/204", "").into_bytes(), want(&[204])),
        turn(with("HEAD", "/plaintext", "", ""), ""),
        turn(post("/stream", "third"), "third"),
        (get("/nowhere", "").into_bytes(), want(&[404])),
        turn(get("/chunked", ""), "chunk-0;chunk-1;chunk-2;"),
        (post("/plaintext", "not wanted").into_bytes(), want(&[405])),
        turn(chunked("/stream", "6\r\nfourth\r\n0\r\n\r\n"), "fourth"),
        turn(post("/echo", ""), ""),
        (with("HEAD", "/chunked", "", "").into_bytes(), want(&[200])),
        turn(post("/echo", NEVER), NEVER),
        (with("OPTIONS", "*", "", "").into_bytes(), want(&[200, 204])),
    ]
}

fn pipelines(t: &mut Table) {
    t.rfc("9112 9.3.2");
    t.pipeline("two", vec![turn(get("/plaintext", ""), HELLO), turn(post("/echo", "x"), "x")], After::Open)
        .slowly();
    t.at_every_split();
    t.pipeline("one of each", mixed(), After::Open).slowly();
    for depth in [10, 100, 500] {
        let same = (0..depth).map(|_| turn(get("/plaintext", ""), HELLO)).collect();
        t.pipeline(format!("{depth} deep"), same, After::Open);
        let numbered = |n: usize| format!("number {n}");
        let posts = (0..depth).map(|n| turn(post("/echo", &numbered(n)), &numbered(n))).collect();
        t.pipeline(format!("{depth} bodies deep"), posts, After::Open);
    }
    t.pipeline("ten times one of each", (0..10).flat_map(|_| mixed()).collect(), After::Open);
    let files = (0..20).map(|_| turn(get("/static/hello.txt", ""), "hello from a file\n")).collect();
    t.pipeline("20 files", files, After::Open);
    let mut spaced = mixed();
    for (request, _) in &mut spaced {
        request.splice(0..0, *b"\r\n");
    }
    t.pipeline("empty lines between", spaced, After::Open);
    let large = "y".repeat(60_000);
    let echoes = (0..20).map(|_| turn(post("/echo", &large), &large)).collect();
    t.pipeline("20 bodies of 60000", echoes, After::Open);
    for (name, last) in [
        ("no request", "garbage\r\n\r\n".to_owned()),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (
            "a length and a coding",
            with("POST", "/echo", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        ("a broken body", chunked("/echo", "x\r\n\r\n")),
        ("a space before a colon", get("/plaintext", "X : y\r\n")),
    ] {
        let mut turns = mixed();
        turns.push((format!("{last}{NEVER}").into_bytes(), want(&[400])));
        t.pipeline(format!("one of each, then {name}"), turns, After::Closed).slowly();
    }
    let mut turns = mixed();
    turns.push(turn(get("/plaintext", "Connection: close\r\n"), HELLO));
    turns.last_mut().expect("it was pushed").0.extend(NEVER.repeat(50).bytes());
    t.pipeline("one of each, then close", turns, After::Closed).slowly();
    t.rfc("9112 9.6");
    let half = |turns: Vec<(Vec<u8>, Want)>| {
        let bytes: Vec<u8> = turns.iter().flat_map(|(request, _)| request.clone()).collect();
        let answers = turns.into_iter().map(|(request, want)| Step::Answer(want.to(request)));
        [send(bytes), Step::Half].into_iter().chain(answers).collect::<Vec<_>>()
    };
    t.talk("one, and no more will come", half(vec![turn(get("/plaintext", ""), HELLO)]), After::Ended)
        .slowly();
    t.talk("one of each, and no more will come", half(mixed()), After::Ended);
    let many = (0..100).flat_map(|_| mixed()).collect();
    t.talk("100 of each, and no more will come", half(many), After::Ended);
    let echoes = (0..20).map(|_| turn(post("/stream", &large), &large)).collect();
    t.talk("20 streams, and no more will come", half(echoes), After::Ended);
}

fn expecting(method: &str, path: &str, fields: &str) -> String {
    with(method, path, &format!("Expect: 100-continue\r\n{fields}"), "")
}

fn expectations(t: &mut Table) {
    t.rfc("9110 10.1.1");
    let go = || Step::Answer(want(&[100]));
    for path in ["/echo", "/stream"] {
        for value in ["100-continue", "100-Continue", "100-CONTINUE", " \t100-continue \t"] {
            let head = with("POST", path, &format!("Expect:{value}\r\nContent-Length: 5\r\n"), "");
            let steps = vec![send(head), go(), send("hello"), Step::Answer(want(&[200]).body("hello"))];
            t.talk(format!("POST {path}, Expect:{value:?}"), steps, After::Open).slowly();
        }
        let head = expecting("POST", path, "Transfer-Encoding: chunked\r\n");
        let answer = Step::Answer(want(&[200]).body("hello"));
        let steps = vec![send(head), go(), send("5\r\nhello\r\n0\r\n\r\n"), answer];
        t.talk(format!("POST {path} in chunks"), steps, After::Open).slowly();
        let whole = expecting("POST", path, "Content-Length: 5\r\n") + "hello";
        let either = want(&[200]).body("hello").after_continue();
        t.one(format!("POST {path} with the body at once"), &whole, either.clone(), After::Open);
        let part = expecting("POST", path, "Content-Length: 5\r\n") + "he";
        let steps = vec![send(part), send("llo"), Step::Answer(either.clone())];
        t.talk(format!("POST {path} with some of the body at once"), steps, After::Open);
        for length in ["Content-Length: 0\r\n", ""] {
            let none = expecting("POST", path, length);
            let silent = want(&[200]).body("");
            t.one(format!("POST {path} without a body, {length:?}"), none, silent, After::Open);
        }
        let old = format!("POST {path} HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
        t.one(format!("POST {path} in HTTP/1.0"), old, want(&[200]).body("hello"), After::Closed);
        let twice = [&whole[..], &whole[..]].concat();
        let steps = vec![send(twice), Step::Answer(either.clone()), Step::Answer(either)];
        t.talk(format!("two to {path} in one segment"), steps, After::Open);
        for value in ["foo", "200-ok", "100-continues", "x100-continue", "100-continue;q=1", "100 continue"] {
            let unknown = with("POST", path, &format!("Expect: {value}\r\nContent-Length: 5\r\n"), "");
            t.one(format!("POST {path}, Expect: {value}"), unknown, want(&[417]), After::Closed);
        }
    }
    t.allow("Expect: foo in a GET", &[417, 200], get("/plaintext", "Expect: foo\r\n"));
    for value in ["100-continue, foo", "foo, 100-continue"] {
        t.allow(format!("Expect: {value}"), &[417, 200], get("/plaintext", &format!("Expect: {value}\r\n")));
    }
    let old = "GET /plaintext HTTP/1.0\r\nExpect: foo\r\n\r\n";
    t.one("an unknown expectation in HTTP/1.0", old, want(&[200, 417]), After::Closed);
    t.serve("GET that expects", expecting("GET", "/plaintext", ""), HELLO);
    t.one("HEAD that expects", expecting("HEAD", "/plaintext", ""), want(&[200]), After::Open);
    // The body was never sent, so a connection that goes on has to wait for it.
    for (path, status) in [("/nowhere", 404), ("/plaintext", 405), ("/static/hello.txt", 405), ("/204", 405)]
    {
        for fields in
            ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 99999999\r\n"]
        {
            let name = format!("POST {path} that expects, {fields:?}");
            let head = expecting("POST", path, fields);
            t.scene(name, move |to| final_answer_first(to, &head, status, "hello"));
        }
    }
    let head = expecting("POST", "/echo", "Content-Length: 99999999999\r\n");
    t.one("too long a body that expects", head, want(&[413]), After::Closed);
    let head = expecting("POST", "/echo", "Content-Length: 16777217\r\n");
    t.scene("a body one byte too long that expects", move |to| final_answer_first(to, &head, 413, ""));
    let bad = expecting("POST", "/echo", "Content-Length: x\r\n");
    t.refuse("a bad length that expects", bad);
    let bad = "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    t.refuse("no Host that expects", bad);
    t.scene("a 100 only once the requests before are answered", |to| {
        let mut talk = Talk::to(to)?;
        let (first, head) = (get("/plaintext", ""), expecting("POST", "/echo", "Content-Length: 5\r\n"));
        talk.send([first, head].concat().as_bytes());
        let statuses = [talk.any_answer(Asked::default())?.status, talk.any_answer(Asked::default())?.status];
        talk.send(b"hello");
        let echo = talk.any_answer(Asked::default())?;
        if statuses == [200, 100] && echo.body == b"hello" {
            Ok(())
        } else {
            Err(format!("{statuses:?} {echo:?}"))
        }
    });
}

/// The final answer comes without a 100. Then the connection ends, or the body may still be sent.
fn final_answer_first(to: std::net::SocketAddr, head: &str, status: u16, body: &str) -> Result<(), String> {
    let mut talk = Talk::to(to)?;
    let answer = talk.ask(head)?;
    if answer.status != status {
        return Err(format!("{} instead of {status}", answer.status));
    }
    if answer.closes {
        return talk.ends().map(drop);
    }
    if !head.contains("Content-Length: 5\r\n") {
        return Ok(());
    }
    talk.send(body.as_bytes());
    let next = talk.ask(&get("/plaintext", ""))?;
    if next.body == HELLO.as_bytes() { Ok(()) } else { Err(format!("then {next:?}")) }
}

fn upgrades(t: &mut Table) {
    t.rfc("9110 7.8");
    for upgrade in [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "Upgrade: h2c\r\nConnection: upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Upgrade: TLS/1.0\r\nConnection: Upgrade\r\n",
        "Upgrade: foo/1, bar\r\nConnection: Upgrade\r\n",
        "Upgrade: h2c\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade:\r\nConnection: Upgrade\r\n",
        "Upgrade: HTTP/2.0\r\nConnection: upgrade, keep-alive\r\n",
    ] {
        t.serve(format!("GET with {upgrade:?}"), get("/plaintext", upgrade), HELLO);
        let body = with("POST", "/echo", &format!("{upgrade}Content-Length: 5\r\n"), "hello");
        t.serve(format!("POST with {upgrade:?}"), body, "hello");
    }
    let old = "GET /plaintext HTTP/1.0\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    t.one("an upgrade in HTTP/1.0", old, hello(), After::Closed);
}

fn ends(t: &mut Table) {
    t.rfc("9112 8");
    let whole = post("/echo", "hello");
    for at in 0..whole.len() {
        let start = &whole[..at];
        // An end before the first byte, or within: no answer is due, and a success is wrong.
        let refused = want(&[400, 408]).or_nothing();
        let steps = vec![send(start), Step::Half, Step::Answer(refused)];
        t.talk(format!("no more will come after {at} bytes"), steps, After::Ended);
        t.talk(format!("the client leaves after {at} bytes"), vec![send(start)], After::Left);
    }
    let refused = || Step::Answer(want(&[400, 408]).unless_cut().or_nothing());
    let start = post("/stream", "hello").replace("hello", "hel");
    t.talk("no more will come within a stream", vec![send(start), Step::Half, refused()], After::Ended);
    let only_lines = vec![send("\r\n\r\n"), Step::Half, refused()];
    t.talk("no more will come after empty lines", only_lines, After::Ended);
    for (path, much) in [("/static/big.bin", 20), ("/chunked", 50), ("/plaintext", 200)] {
        let requests = get(path, "").repeat(much);
        t.talk(
            format!("the client leaves before its {much} answers from {path}"),
            vec![send(requests)],
            After::Left,
        );
    }
    let unread = vec![send(get("/static/big.bin", "")), Step::See(b"HTTP/1.1 200".to_vec())];
    t.talk("the client leaves within a file", unread, After::Left);
    let head = vec![send(expecting("POST", "/echo", "Content-Length: 5\r\n")), Step::Answer(want(&[100]))];
    t.talk("the client leaves after a 100", head, After::Left);
    t.scene("who waits within a body stops nobody", |to| {
        let mut waiting: Vec<Talk> = Vec::new();
        for start in [post("/echo", "hello").replace("hello", "he"), "GET / HT".into(), String::new()] {
            let mut talk = Talk::to(to)?;
            talk.send(start.as_bytes());
            waiting.push(talk);
        }
        let answer = Talk::to(to)?.ask(&get("/plaintext", ""))?;
        waiting[0].send(b"llo");
        let echo = waiting[0].any_answer(Asked::default())?;
        let good = answer.body == HELLO.as_bytes() && echo.body == b"hello";
        if good { Ok(()) } else { Err(format!("{answer:?} {echo:?}")) }
    });
}
