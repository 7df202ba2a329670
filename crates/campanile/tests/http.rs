//! HTTP over real sockets: answers in order, bodies however they are cut, and everything a response can be.

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use campanile::Bytes;
use campanile::http::{self, Answered, Error, FieldLine, Next, Request, Response};

use support::common::until;
use support::http::{everywhere, handled, post, post_chunked};

/// Every way to answer, and to read a body.
fn app(request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    let n: usize = request.query().map_or(Ok(0), str::parse)?;
    match request.path() {
        "/text" => response.text(200, &n.to_string()),
        "/bytes" => response.status(200).bytes(Bytes::from(vec![b'b'; n])),
        "/body" => response.status(200).body(vec![b'c'; n]),
        "/field" => response.status(200).field("X-Long", vec![b'f'; n]).body("behind it"),
        "/stream" => {
            let mut at = 0;
            response.status(200).stream(move |exchange| {
                while at < n && exchange.room() > 20 {
                    exchange.write(format!("{at},"))?;
                    at += 1;
                }
                Ok(if at < n { Next::Room } else { Next::Done })
            })
        }
        "/sized" => {
            let mut left = n;
            response.status(200).sized(n as u64, move |exchange| {
                let piece = left.min(exchange.room()).min(100_000);
                exchange.write(vec![b's'; piece])?;
                left -= piece;
                Ok(if left > 0 { Next::Room } else { Next::Done })
            })
        }
        "/collect" => response.collect(1 << 20, |body, response| response.status(200).bytes(body)),
        "/count" => {
            let mut count = 0;
            Ok(response.run(move |exchange| {
                count += exchange.consume_all().len();
                if !exchange.is_complete() {
                    return Ok(Next::Body);
                }
                let trailers = exchange.trailers().len();
                exchange.answer(|response| response.text(200, &format!("{count}+{trailers}")))
            }))
        }
        "/echo" => Ok(response.status(200).begin_stream()?.then(Echo)),
        "/ignore" => response.text(200, "ignored"),
        _ => Err(Error::new(404, "nothing there")),
    }
}

/// Passes the body on while it comes.
struct Echo;

impl http::Responder for Echo {
    fn respond(&mut self, _: campanile::Event, exchange: &mut http::Exchange<'_, '_>) -> Result<Next, Error> {
        exchange.pass_on()?;
        Ok(if exchange.is_complete() { Next::Done } else { Next::BodyOrRoom })
    }
}

fn numbers(n: usize) -> String {
    (0..n).map(|n| format!("{n},")).collect()
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_are_answered() {
    handled(app, |client, _| {
        let mut requests = Vec::new();
        for _ in 0..20 {
            requests.extend(b"GET /text?1 HTTP/1.1\r\nHost: a\r\n\r\n");
            requests.extend(post("/collect", b"collected"));
            requests.extend(b"GET /stream?2000 HTTP/1.1\r\nHost: a\r\n\r\n");
            requests.extend(post_chunked("/count", &[7; 1000], 33, "X-A: b\r\nX-C: d\r\n"));
            requests.extend(post("/ignore", &[b'G'; 700]));
            requests.extend(post_chunked("/echo", &[9; 1500], 450, ""));
            requests.extend(b"HEAD /stream?7 HTTP/1.1\r\nHost: a\r\n\r\n");
            requests.extend(b"GET /bytes?9000 HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        std::thread::scope(|scope| {
            let out = &mut client.wire.out;
            scope.spawn(move || out.write_all(&requests).expect("the server reads"));
        });
        for _ in 0..20 {
            assert_eq!(client.reply().text(), "1");
            assert_eq!(client.reply().text(), "collected");
            assert_eq!(client.reply().text(), numbers(2000));
            assert_eq!(client.reply().text(), "1000+2");
            assert_eq!(client.reply().text(), "ignored");
            assert_eq!(client.reply().body, [9; 1500]);
            assert_eq!(client.try_reply(true).expect("an answer").status, 200);
            assert_eq!(client.reply().body, [b'b'; 9000]);
        }
        client.wire.end();
        client.ends();
    });
}

#[test]
fn bodies_come_to_responders_however_they_are_cut() {
    let body: Vec<u8> = (0..40).collect();
    let requests = [
        (post("/echo", &body), &body[..]),
        (post("/collect", &body), &body),
        (post("/count", &body), b"40+0"),
        (post_chunked("/echo", &body, 7, "X-A: b\r\n"), &body),
        (post_chunked("/collect", &body, 1, ""), &body),
        (post_chunked("/count", &body, 39, "X-A: b\r\n"), b"40+1"),
        (post_chunked("/ignore", &body, 9, "X-A: b\r\n"), b"ignored"),
    ];
    handled(app, |client, _| {
        for (request, expected) in &requests {
            for split in (1..request.len()).step_by(3) {
                client.send(&request[..split]);
                std::thread::yield_now();
                client.send(&request[split..]);
                assert_eq!(client.reply().body, *expected, "split at {split}");
            }
            request.iter().for_each(|&byte| client.send([byte]));
            assert_eq!(client.reply().body, *expected);
        }
    });
}

#[test]
fn heads_and_bodies_of_any_length_are_answered_whole() {
    handled(app, |client, _| {
        for n in [0, 1, 900, 1000, 4000, 4096, 5000, 17_000, 70_000, 3_000_000] {
            assert_eq!(client.get(&format!("/body?{n}")).body, vec![b'c'; n]);
            assert_eq!(client.get(&format!("/bytes?{n}")).body, vec![b'b'; n]);
            assert_eq!(client.get(&format!("/sized?{n}")).body, vec![b's'; n]);
            let reply = client.get(&format!("/field?{n}"));
            assert_eq!(reply.field("X-Long").map(str::len), Some(n));
            assert_eq!(reply.text(), "behind it");
            assert_eq!(reply.head.matches("\r\nDate: ").count(), 1);
        }
        assert_eq!(client.get("/stream?100000").text(), numbers(100_000));
    });
}

#[test]
fn head_never_has_a_body() {
    handled(app, |client, _| {
        for (target, length) in [
            ("/text?1", Some("1")),
            ("/body?5000", Some("5000")),
            ("/bytes?9000", Some("9000")),
            ("/sized?70000", Some("70000")),
            ("/stream?70000", None),
            ("/nothing", Some("14")),
        ] {
            client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let reply = client.try_reply(true).expect("a head");
            assert_eq!(reply.field("Content-Length"), length, "{target}");
            assert_eq!(reply.field("Transfer-Encoding").is_some(), length.is_none());
        }
        client.wire.end();
        client.ends();
    });
}

#[test]
fn http_1_0_gets_a_stream_up_to_the_end_and_keeps_alive_if_it_asks() {
    handled(app, |client, _| {
        client.send("GET /text?7 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply();
        assert_eq!((reply.text(), reply.field("Connection")), ("7", Some("keep-alive")));
        client.send("GET /stream?5000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply();
        assert_eq!((reply.text(), reply.closes()), (&*numbers(5000), true));
    });
}

#[test]
fn who_ends_after_the_request_gets_the_whole_answer() {
    for target in ["/text?5", "/stream?50000", "/sized?3000000", "/bytes?3000000", "/field?50000"] {
        handled(app, move |client, _| {
            let expected = client.get(target);
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            client.wire.end();
            assert!(client.reply().body == expected.body);
            client.ends();
        });
    }
}

#[test]
fn a_body_that_is_none_is_refused_or_cuts_the_answer() {
    handled(app, |client, server| {
        client.send("POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellox");
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (400, true));
        client.ends();
        assert_eq!(server.counters()[0].nonsense, 0);
    });
    handled(app, |client, _| {
        client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhellox");
        let answer = String::from_utf8(client.rest().expect("an orderly end")).expect("text");
        assert!(answer.ends_with("\r\n\r\n5\r\nhello\r\n"), "{answer}");
    });
    handled(app, |client, _| {
        client.send("POST /echo HTTP/1.0\r\nContent-Length: 10\r\n\r\nhello");
        let _ = client.wire.out.end();
        assert_eq!(client.try_reply(false).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    });
    handled(app, |client, _| {
        client.send("POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
        client.wire.end();
        assert_eq!(client.reply().status, 400);
        client.ends();
    });
}

#[test]
fn mistakes_are_answered_500_and_nothing_of_them_is_sent() {
    const GOOD: FieldLine = FieldLine::from_static("X-Good: 1\r\n");
    let app = |request: &Request<'_>, response: Response<'_, '_>| match request.path() {
        "/split" => response.status(200).line(GOOD).field("X", "a\r\nSet-Cookie: b").body("x"),
        "/name" => response.status(200).field("X Y", "a").body("x"),
        "/framing" => response.status(200).field("Content-Length", "3").body("x"),
        "/204" => response.status(204).line(GOOD).body("a body"),
        "/304" => response.status(304).bytes(Bytes::from_static(b"a body")),
        "/99" => response.status(99).body("x"),
        "/600" => response.status(600).empty(),
        "/stream" => response.status(204).stream(|_| Ok(Next::Done)),
        "/std" => Err(std::io::Error::other("the secret"))?,
        "/allow" => response.not_allowed("GET\r\nX: y"),
        "/run" => Ok(response.run(|exchange| exchange.answer(|response| response.status(99).empty()))),
        _ => response.text(200, "good"),
    };
    handled(app, |client, _| {
        for target in ["split", "name", "framing", "204", "304", "99", "600", "stream", "std", "allow", "run"]
        {
            let reply = client.get(&format!("/{target}"));
            assert_eq!((reply.status, reply.text()), (500, "internal server error\n"), "{target}");
            assert!(!reply.head.contains("X-Good") && !reply.head.contains("Cookie") && !reply.closes());
            assert_eq!(client.get("/").text(), "good");
        }
    });
}

#[test]
fn what_the_body_promised_is_kept_or_seen_to_be_broken() {
    let app = |request: &Request<'_>, response: Response<'_, '_>| {
        let mut calls = 0;
        match request.path() {
            "/short" => response.status(200).sized(10, |exchange| {
                exchange.write("hello")?;
                Ok(Next::Done)
            }),
            "/long" => response.status(200).sized(10, |exchange| {
                exchange.write("hello")?;
                assert!(exchange.write("too long").is_err(), "more than was promised");
                exchange.write("world")?;
                Ok(Next::Done)
            }),
            "/fails" => response.status(200).stream(move |exchange| {
                calls += 1;
                exchange.write("hello")?;
                if calls < 3 { Ok(Next::Room) } else { Err(Error::new(404, "too late")) }
            }),
            _ => Ok(response.run(|_| Ok(Next::Done))),
        }
    };
    handled(app, |client, _| {
        assert_eq!(client.get("/nothing").status, 500);
        assert_eq!(client.get("/long").text(), "helloworld");
        client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_reply(false).is_err());
    });
    handled(app, |client, _| {
        client.send("GET /fails HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = String::from_utf8(client.rest().expect("an orderly end")).expect("text");
        assert_eq!((answer.matches("hello").count(), answer.contains("0\r\n\r\n")), (3, false), "{answer}");
    });
    handled(app, |client, _| {
        client.send("GET /fails HTTP/1.0\r\n\r\n");
        assert_eq!(client.rest().expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn what_the_handler_ends_is_not_cut_for_who_sends_on() {
    everywhere(
        || http::service(|_, response| response.status(200).close().bytes(Bytes::from(vec![1; 1 << 20]))),
        |client, server| {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            // It is being sent, and still to be read.
            until("the answer is under way", || server.counters()[0].requests > 0);
            std::thread::sleep(Duration::from_millis(100));
            let _ = client.wire.out.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            std::thread::sleep(Duration::from_millis(20));
            let reply = client.reply();
            assert_eq!((reply.closes(), reply.body.len()), (true, 1 << 20));
        },
    );
}
