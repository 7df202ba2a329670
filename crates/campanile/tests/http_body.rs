//! The body of a request: who is told to send it, how long it may take, and what becomes of the answer if it is unread.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use campanile::http::{self, Error, Exchange, Limits, Next, Request, Responder, Response, Router};
use campanile::{Event, Server};

use support::common::{nothing_held, tcp, until};
use support::http::{Client, everywhere, handled, post};

const SHORT: Duration = Duration::from_millis(1_000);

/// Reads the body, and is done when it is complete.
fn read_on(exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
    let n = exchange.consume_all().len();
    if exchange.is_begun() {
        exchange.write("x".repeat(n))?;
    }
    if !exchange.is_complete() {
        return Ok(Next::Body);
    }
    if exchange.is_begun() {
        return Ok(Next::Done);
    }
    exchange.answer(|response| response.text(200, "complete"))
}

#[test]
fn no_100_stands_in_an_answer_that_was_begun() {
    let app = |request: &Request<'_>, response: Response<'_, '_>| match request.path() {
        "/handler" => response.status(200).stream(read_on),
        "/sized" => response.status(200).sized(3, read_on),
        _ => Ok(response.run(|exchange| {
            if !exchange.is_begun() {
                exchange.begin(|response| response.status(200).begin_stream())?;
            }
            read_on(exchange)
        })),
    };
    for path in ["/handler", "/sized", "/exchange"] {
        handled(app, |client, server| {
            let (before, head) =
                (server.counters()[0].sent, "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n");
            client.send(format!("POST {path} {head}Content-Length: 3\r\n\r\n"));
            until("the answer begins without the body", || server.counters()[0].sent > before);
            client.send("abc");
            let reply = client.reply();
            assert_eq!((reply.status, reply.text(), reply.closes()), (200, "xxx", true), "{path}");
            client.ends();
        });
    }
}

#[test]
fn a_server_keeps_to_the_limits_it_was_given() {
    let limits = Limits { request_line: 256, head: 512, ..Limits::default() };
    let config = http::Config { limits, ..http::Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1);
    let make = || Router::new().get("/", |_, response| response.text(200, "hello"));
    let server = http::serve(server, config, make).expect("a server");
    let mut client = Client::connect(tcp(&server));
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.get(&format!("/?{}", "q".repeat(300))).status, 414);
    let mut client = Client::connect(tcp(&server));
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "z".repeat(600)));
    assert_eq!(client.reply().status, 431);
}

#[test]
fn a_body_without_progress_ends_its_exchange() {
    // Without a rate any progress is enough.
    let config = http::Config { body_timeout: SHORT, body_rate: 0, ..http::Config::default() };
    let service = move || {
        http::service(|request, response| match request.path() {
            "/begun" => response.status(200).stream(read_on),
            "/collect" => response.collect(100, |body, response| response.status(200).bytes(body)),
            _ => Ok(response.run(read_on)),
        })
        .config(config.clone())
    };
    everywhere(service.clone(), |client, _| {
        let began = Instant::now();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut last = began;
        for _ in 0..3 {
            // Each piece has its own time.
            std::thread::sleep(SHORT / 4);
            last = Instant::now();
            client.send("1\r\nx\r\n");
        }
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (408, true));
        assert!(last.elapsed() >= SHORT * 3 / 4 && began.elapsed() >= SHORT * 3 / 2, "{:?}", last.elapsed());
        client.ends();
    });
    everywhere(service.clone(), |client, _| {
        let request = post("/collect", b"hello");
        client.send(&request[..request.len() - 1]);
        assert_eq!(client.reply().status, 408);
        client.ends();
    });
    everywhere(service, |client, _| {
        client.send("POST /begun HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc");
        let began = Instant::now();
        assert!(client.try_reply(false).is_err(), "the answer is cut");
        assert!(began.elapsed() < support::common::LONG / 2);
    });
}

/// Reads the body, and counts the calls of its own timer.
struct Timed {
    every: Duration,
    calls: Arc<AtomicUsize>,
    began: mpsc::Sender<()>,
}

impl Responder for Timed {
    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        match event {
            Event::Open => {
                let _ = self.began.send(());
                exchange.control().set_timer_in(self.every);
            }
            Event::Timer => {
                self.calls.fetch_add(1, Ordering::SeqCst);
                assert!(exchange.control().timer().is_none(), "it is its own, and has come");
                exchange.control().set_timer_in(self.every);
            }
            _ => {}
        }
        read_on(exchange)
    }
}

#[test]
fn the_time_of_the_body_and_the_responders_own_are_apart() {
    for (every, least) in [(SHORT / 4, 2), (Duration::from_secs(600), 0)] {
        let config = http::Config { body_timeout: SHORT, ..http::Config::default() };
        let calls = Arc::new(AtomicUsize::new(0));
        let (tell, began) = mpsc::channel();
        let counted = Arc::clone(&calls);
        let (server, address) = support::serve(campanile::Config::default(), move || {
            let (calls, tell) = (Arc::clone(&counted), tell.clone());
            http::service(move |_, response| {
                Ok(response.respond(Timed { every, calls: Arc::clone(&calls), began: tell.clone() }))
            })
            .config(config.clone())
        });
        let mut client = Client::connect(address);
        client.send(&post("/", b"hello")[..50]);
        began.recv().expect("it begins");
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (408, true));
        let calls = calls.load(Ordering::SeqCst);
        assert!(calls >= least.min(1) && (least > 0 || calls == 0), "{calls} calls");
        client.ends();
        drop(client);
        nothing_held(&server);
    }
}

/// Begins an answer, and reads nothing.
struct Deaf;

impl Responder for Deaf {
    fn respond(&mut self, _: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        exchange.begin(|response| response.status(200).begin_sized(4))?;
        exchange.write("deaf")?;
        Ok(Next::Done)
    }

    fn reads_body(&self) -> bool {
        false
    }
}

#[test]
fn an_answer_begun_for_a_body_that_is_too_much_to_discard_says_that_it_is_the_last() {
    let config = http::Config { discard_limit: 1000, ..http::Config::default() };
    let service = move || {
        let write = |exchange: &mut Exchange<'_, '_>| {
            exchange.write("text")?;
            Ok::<_, Error>(Next::Done)
        };
        http::service(move |request, response| match request.path() {
            "/stream" => response.status(200).stream(write),
            "/sized" => response.status(200).sized(4, write),
            "/deaf" => Ok(response.respond(Deaf)),
            _ => Ok(response.run(|exchange| {
                if !exchange.is_begun() {
                    exchange.begin(|response| response.status(200).begin_stream())?;
                }
                read_on(exchange)
            })),
        })
        .config(config.clone())
    };
    let (_server, address) = support::serve(campanile::Config::default(), service);
    for path in ["/stream", "/sized", "/deaf"] {
        let mut client = Client::connect(address);
        client.send(post(path, &[b'x'; 500]));
        assert!(!client.reply().closes(), "{path}");
        client.send(&post(path, &[b'x'; 5000])[..100]);
        let reply = client.reply();
        assert_eq!((reply.body.len(), reply.closes()), (4, true), "{path}");
        client.ends();
    }
    let mut client = Client::connect(address);
    for _ in 0..2 {
        client.send(post("/reads", &[b'x'; 5000]));
        let reply = client.reply();
        assert_eq!((reply.body.len(), reply.closes()), (5000, false));
    }
}
