//! Exchanges: what responders wait for, what they ask their worker for, and how they and their clients end.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use campanile::http::{self, Error, Exchange, Http, Next, Request, Responder, Response};
use campanile::{Answer, Bytes, Config, Event, OpenFile, Waker};

use support::common::{nothing_held, reset, until};
use support::http::{Client, everywhere, handled, post, post_chunked};
use support::{serve, tiny};

/// A responder by a closure that is told the event.
struct Told<F>(F);

impl<F> Responder for Told<F>
where
    F: FnMut(Event, &mut Exchange<'_, '_>) -> Result<Next, Error>,
{
    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        (self.0)(event, exchange)
    }
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_100_is_sent_to_who_waits_for_it_and_only_when_the_body_is_waited_for() {
    let app = |request: &Request<'_>, response: Response<'_, '_>| match request.path() {
        "/collect" => response.collect(100, |body, response| response.status(200).bytes(body)),
        _ => response.text(200, "no need"),
    };
    let post = "POST /collect HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    handled(app, |client, _| {
        for _ in 0..3 {
            client.send(post);
            assert_eq!(client.reply().head, "HTTP/1.1 100 Continue\r\n\r\n");
            client.send("hello");
            assert_eq!(client.reply().text(), "hello");
        }
        let chunked = "POST /collect HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                       Transfer-Encoding: chunked\r\n\r\n";
        client.send(chunked);
        assert_eq!(client.reply().status, 100);
        client.send(format!("5\r\nhello\r\n0\r\n\r\n{REQUEST}"));
        assert_eq!((client.reply().text(), client.reply().text()), ("hello", "no need"));
        client.send(post.replace("/collect", "/"));
        let reply = client.reply();
        assert_eq!((reply.text(), reply.closes()), ("no need", true));
        client.ends();
    });
    // Whoever does not wait for it is not kept waiting, nor is an HTTP/1.0 client.
    let (_server, address) = serve(Config::default(), move || Http::new(app));
    let mut client = Client::connect(address);
    client.send(format!("{post}hello{post}hello"));
    assert_eq!((client.reply().text(), client.reply().text()), ("hello", "hello"));
    client.send(post.replace("1.1", "1.0") + "hello");
    assert_eq!(client.reply().text(), "hello");
    client.ends();
}

#[test]
fn who_answers_without_reading_a_withheld_body_closes() {
    let app = |_: &Request<'_>, response: Response<'_, '_>| {
        Ok(response.run(|exchange| exchange.answer(|response| response.text(403, "no"))))
    };
    handled(app, |client, _| {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (403, true));
        client.ends();
    });
}

#[test]
fn the_rest_of_a_body_is_discarded_up_to_the_limit() {
    let config = http::Config { discard_limit: 1000, ..http::Config::default() };
    let service = move || http::service(|_, response| response.text(200, "enough")).config(config.clone());
    everywhere(service.clone(), |client, _| {
        for len in [1, 500, 999, 1000] {
            client.send(post("/", &vec![b'x'; len]));
            assert_eq!(client.reply().text(), "enough");
        }
        client.send(post_chunked("/", &[b'x'; 500], 100, ""));
        assert!(!client.reply().closes());
        // Known beforehand, and so announced; it is sent all the same.
        let request = post("/", &vec![b'x'; 8 << 20]);
        client.send(&request[..100]);
        let reply = client.reply();
        assert_eq!((reply.text(), reply.closes()), ("enough", true));
        client.send(&request[100..]);
        client.wire.end();
        client.ends();
    });
    // What is chunked is counted as it comes, and not read for ever.
    everywhere(service, |client, _| {
        let request = post_chunked("/", &[b'x'; 30_000], 100, "");
        let _ = client.wire.out.write_all(&request);
        assert_eq!(client.reply().text(), "enough");
        let _ = client.wire.out.write_all(REQUEST.as_bytes());
        client.ends();
    });
}

#[test]
fn an_answer_arrives_whole_at_who_goes_on_sending() {
    handled(
        |_, response| response.status(413).bytes(Bytes::from(vec![b'n'; 300_000])),
        |client, _| {
            let request = post("/", &vec![0; 8 << 20]);
            client.send(&request);
            let reply = client.reply();
            assert_eq!((reply.closes(), reply.body.len()), (true, 300_000));
            client.ends();
        },
    );
}

#[test]
fn a_body_that_is_here_already_is_no_reason_to_close() {
    let config = http::Config { discard_limit: 10, ..http::Config::default() };
    let (server, address) = serve(Config::default(), move || {
        http::service(|_, response| response.text(200, "x")).config(config.clone())
    });
    let mut client = Client::connect(address);
    client.send([post("/", &[b'x'; 2000]), REQUEST.into()].concat());
    for _ in 0..2 {
        assert!(!client.reply().closes());
    }
    drop(client);
    nothing_held(&server);
}

#[test]
fn a_responder_is_told_what_was_there_before_it_waited_for_it() {
    let app = |request: &Request<'_>, response: Response<'_, '_>| match request.path() {
        // Waits for room at first, and then again after a timer.
        "/room" => {
            let mut rooms = 0;
            response.status(200).begin_stream().map(|begun| {
                begun.then(Told(move |event, exchange: &mut Exchange<'_, '_>| match event {
                    Event::Room if rooms == 1 => {
                        exchange.write("room")?;
                        Ok(Next::Done)
                    }
                    Event::Room => {
                        rooms += 1;
                        exchange.control().set_timer_in(Duration::from_millis(1));
                        Ok(Next::Wait)
                    }
                    _ => Ok(Next::Room),
                }))
            })
        }
        // Reads nothing, and leaves that to another.
        _ => Ok(response.run(|exchange| {
            if exchange.body().is_empty() {
                return Ok(Next::Body);
            }
            Ok(Next::Become(Box::new(Told(|event, exchange: &mut Exchange<'_, '_>| match event {
                Event::Input => {
                    exchange.consume_all();
                    Ok(Next::Body)
                }
                Event::End => exchange.answer(|response| response.text(200, "heir")),
                _ => Ok(Next::Body),
            }))))
        })),
    };
    handled(app, |client, _| {
        assert_eq!(client.get("/room").text(), "room");
        client.send(post("/", b"hello"));
        assert_eq!(client.reply().text(), "heir");
    });
}

#[test]
fn who_waits_in_vain_is_reported_and_hangs_nobody() {
    let app = |request: &Request<'_>, response: Response<'_, '_>| match request.path() {
        "/room" => Ok(response.run(|_| Ok(Next::Room))),
        "/body" => Ok(response.run(|exchange| {
            exchange.consume_all();
            Ok(Next::Body)
        })),
        "/left" => Ok(response.run(|_| Ok(Next::Body))),
        "/left-or-room" => Ok(response.run(|_| Ok(Next::BodyOrRoom))),
        _ => response.status(200).stream(|_| Ok(Next::Room)),
    };
    for target in ["/room", "/body", "/left", "/left-or-room"] {
        handled(app, move |client, server| {
            let turns = server.counters()[0].turns;
            client.send(post(target, b"hello"));
            assert_eq!(client.reply().status, 500, "{target}");
            assert!(server.counters()[0].turns - turns < 50);
        });
    }
    handled(app, |client, _| {
        client.send(REQUEST);
        assert!(client.try_reply(false).is_err());
    });
}

#[test]
fn what_is_refused_left_nothing_behind_and_can_be_sent_again() {
    let app = |_: &Request<'_>, response: Response<'_, '_>| {
        let mut sent = 0;
        response.status(200).stream(move |exchange| {
            while sent < 200 {
                let piece = Bytes::from(vec![sent as u8; 20_000]);
                if exchange.send(piece).is_err() {
                    return Ok(Next::Room);
                }
                sent += 1;
            }
            Ok(Next::Done)
        })
    };
    let expected: Vec<u8> = (0..200).flat_map(|n| vec![n; 20_000]).collect();
    handled(app, |client, _| {
        client.send(REQUEST.repeat(2));
        assert!(client.reply().body == expected);
        assert!(client.reply().body == expected);
    });
}

#[test]
fn the_end_of_a_body_waits_for_room() {
    let app = |_: &Request<'_>, response: Response<'_, '_>| {
        response.status(200).stream(|exchange| {
            // Nothing more can be handed over, and behind these less room is left than the last chunk needs.
            exchange.send(Bytes::from(vec![b'h'; 3_000_000]))?;
            exchange.write(vec![b'r'; exchange.room()])?;
            exchange.write("x")?;
            exchange.write("y")?;
            Ok(Next::Done)
        })
    };
    handled(app, |client, _| {
        client.send(REQUEST.repeat(2));
        for _ in 0..2 {
            let reply = client.reply();
            assert!(reply.body.len() > 3_000_000 && reply.body.ends_with(b"rxy"));
        }
    });
}

#[test]
fn timers_wakers_and_files_come_to_the_responder() {
    let (wakers, asleep) = mpsc::channel::<Waker>();
    let rouser = std::thread::spawn(move || {
        for waker in asleep {
            waker.wake();
            // Too late, mostly: another exchange is not harmed by it.
            waker.wake();
        }
    });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let app = move |request: &Request<'_>, response: Response<'_, '_>| {
        let wakers = wakers.clone();
        let mut is_open = false;
        Ok(match request.path() {
            "/timer" => response.respond(Told(move |event, exchange: &mut Exchange<'_, '_>| match event {
                Event::Open => {
                    exchange.control().set_timer_in(Duration::from_millis(20));
                    Ok(Next::Wait)
                }
                Event::Timer => exchange.answer(|response| response.text(200, "timer")),
                _ => Ok(Next::Wait),
            })),
            "/wake" => response.respond(Told(move |event, exchange: &mut Exchange<'_, '_>| match event {
                Event::Wake => exchange.answer(|response| response.text(200, "wake")),
                _ => {
                    let _ = wakers.send(exchange.control().waker());
                    Ok(Next::Wait)
                }
            })),
            // Asks, and is over before the answer comes.
            "/stale" => response.respond(Told(move |_, exchange: &mut Exchange<'_, '_>| {
                exchange.control().open_file(OpenFile::at(path));
                exchange.control().set_timer_in(Duration::from_millis(5));
                exchange.answer(|response| response.text(200, "stale"))
            })),
            _ => response.respond(Told(move |event, exchange: &mut Exchange<'_, '_>| match event {
                Event::Open => {
                    exchange.control().open_file(OpenFile::at(path));
                    Ok(Next::Wait)
                }
                Event::Answer(_, Answer::Opened(file)) if !is_open => {
                    is_open = true;
                    exchange.control().read_file(&file?, 0, 100_000);
                    Ok(Next::Wait)
                }
                Event::Answer(_, Answer::Read(bytes)) => {
                    let bytes = bytes?;
                    exchange.answer(|response| response.status(200).bytes(bytes))
                }
                _ => Ok(Next::Wait),
            })),
        })
    };
    let file = std::fs::read_to_string(path).expect("the file is there");
    handled(app, |client, _| {
        for _ in 0..10 {
            for target in ["/timer", "/wake", "/stale", "/file", "/stale", "/wake"] {
                let expected = if target == "/file" { &file } else { &target[1..] };
                assert_eq!(client.get(target).text(), expected);
            }
        }
        // All of them at once, with the stale ones between.
        for target in ["/stale", "/wake", "/stale", "/timer", "/stale", "/wake"] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        for expected in ["stale", "wake", "stale", "timer", "stale", "wake"] {
            assert_eq!(client.reply().text(), expected);
        }
    });
    rouser.join().expect("it only wakes");
}

#[test]
fn a_responder_gets_no_timer_that_it_did_not_ask_for() {
    let config = http::Config {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        ..http::Config::default()
    };
    everywhere(
        move || {
            let config = config.clone();
            http::service(|_, response| {
                let mut ticks = 0;
                Ok(response.respond(Told(move |event, exchange: &mut Exchange<'_, '_>| match event {
                    Event::Open => {
                        let waker = exchange.control().waker();
                        std::thread::spawn(move || {
                            std::thread::sleep(Duration::from_millis(250));
                            waker.wake();
                        });
                        Ok(Next::Body)
                    }
                    Event::Timer => {
                        ticks += 1;
                        Ok(Next::Wait)
                    }
                    Event::Wake => exchange.answer(|response| response.text(200, &ticks.to_string())),
                    _ => Ok(Next::Wait),
                })))
            })
            .config(config)
        },
        |client, _| {
            let began = Instant::now();
            assert_eq!(client.get("/").text(), "0");
            assert!(began.elapsed() >= Duration::from_millis(250));
            // And afterwards the connection's own is there again.
            client.ends();
            assert!(began.elapsed() >= Duration::from_millis(350));
        },
    );
}

/// Counts how many of it there are.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn a_responder_is_dropped_when_its_client_is_gone_or_it_failed() {
    let count = Arc::new(AtomicUsize::new(0));
    let app = {
        let count = Arc::clone(&count);
        move |request: &Request<'_>, response: Response<'_, '_>| {
            let counted = Counted::new(&count);
            let fails = request.path() == "/fails";
            response.status(200).stream(move |exchange| {
                let _ = &counted;
                exchange.write("x")?;
                if fails { Err(Error::new(500, "it fails")) } else { Ok(Next::Wait) }
            })
        }
    };
    for config in [Config::default(), tiny()] {
        let app = app.clone();
        let (server, address) = serve(config, move || Http::new(app.clone()));
        let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(address)).collect();
        clients.iter_mut().for_each(|client| client.send(REQUEST));
        until("all are there", || count.load(Ordering::SeqCst) == 5);
        for client in clients {
            let stream = client.wire.stream.try_clone().expect("a descriptor is left");
            drop(client);
            reset(stream);
        }
        until("none is there", || count.load(Ordering::SeqCst) == 0);
        // The client does not end, so the connection lingers; but there is nobody to answer any more.
        let mut client = Client::connect(address);
        client.send(&post("/fails", &[0; 100])[..100]);
        assert!(client.try_reply(false).is_err());
        assert_eq!(count.load(Ordering::SeqCst), 0);
        drop(client);
        nothing_held(&server);
    }
}
