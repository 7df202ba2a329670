//! Who does not read, and who sends too fast: bounded memory, no CPU time, and not a byte lost.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use campanile::http::{self, Answered, Error, Http, Next, Request, Response};
use campanile::{Config, ServerHandle};

use support::common::{counted, keyed, nothing_held, process, until};
use support::http::{Client, post};
use support::{serve, tiny};

/// One at a time: they measure the process, and the worker's thread, which all have the same name.
static ALONE: Mutex<()> = Mutex::new(());

/// So many bytes of the stream of key 1.
const LEN: u64 = 64 << 20;

fn app(request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    match request.path() {
        "/stream" => {
            let mut at = 0;
            response.status(200).stream(move |exchange| {
                let mut piece = vec![0; exchange.room().min((LEN - at) as usize)];
                keyed::fill(1, at, &mut piece);
                exchange.write(&piece)?;
                at += piece.len() as u64;
                Ok(if at < LEN { Next::Room } else { Next::Done })
            })
        }
        "/handed-over" => {
            let mut at = 0;
            response.status(200).sized(LEN, move |exchange| {
                let mut piece = vec![0; 128 << 10];
                keyed::fill(1, at, &mut piece);
                exchange.send(piece.into())?;
                at += 128 << 10;
                Ok(if at < LEN { Next::Room } else { Next::Done })
            })
        }
        "/echo" => Ok(response.status(200).begin_stream()?.then(Echo)),
        "/pause" => {
            let mut at = 0;
            Ok(response.run(move |exchange| {
                if at == 0 && !exchange.body().is_empty() && exchange.control().timer().is_none() {
                    exchange.control().set_timer_in(Duration::from_secs(3));
                    at = 1;
                    return Ok(Next::Wait);
                }
                exchange.consume_all();
                if !exchange.is_complete() {
                    return Ok(Next::Body);
                }
                exchange.answer(|response| response.text(200, "at last"))
            }))
        }
        _ => response.text(200, request.query().unwrap_or("")),
    }
}

struct Echo;

impl http::Responder for Echo {
    fn respond(&mut self, _: campanile::Event, exchange: &mut http::Exchange<'_, '_>) -> Result<Next, Error> {
        exchange.pass_on()?;
        Ok(if exchange.is_complete() { Next::Done } else { Next::BodyOrRoom })
    }
}

/// Runs a test with ample memory and with hardly any.
fn twice(test: impl Fn(&ServerHandle, SocketAddr)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for config in [Config::default(), tiny()] {
        let (server, address) = serve(config, || Http::new(app));
        // Whatever is made at the first request is there already.
        assert_eq!(Client::connect(address).get("/").status, 200);
        test(&server, address);
        nothing_held(&server);
    }
}

/// Waits until the worker does nothing, though bytes wait: what is in the way is the client.
fn stalls(server: &ServerHandle) {
    let &[worker] = &process::threads("campanile-0")[..] else { panic!("one server at a time") };
    until("it is blocked", || {
        let (time, before) = (process::cpu_time(worker), counted(server));
        std::thread::sleep(Duration::from_millis(300));
        let (spent, after) = (process::cpu_time(worker) - time, counted(server));
        let is_still = (before.received, before.sent) == (after.received, after.sent);
        is_still && after.turns - before.turns <= 3 && spent < Duration::from_millis(3)
    });
}

fn resident() -> u64 {
    process::resident_kib(std::process::id(), "VmRSS")
}

#[test]
fn a_hundred_thousand_requests_of_who_does_not_read_are_answered_when_it_does() {
    const REQUESTS: usize = 100_000;
    twice(|server, address| {
        let mut client = Client::connect(address);
        let before = resident();
        let mut sender = client.wire.stream.try_clone().expect("a descriptor is left");
        let sender = std::thread::spawn(move || {
            for thousand in 0..REQUESTS / 1000 {
                let numbers = 1000 * thousand..1000 * (thousand + 1);
                let some: String =
                    numbers.map(|n| format!("GET /?{n} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
                sender.write_all(some.as_bytes()).expect("the server reads");
            }
        });
        stalls(server);
        let grown = resident().saturating_sub(before);
        assert!(grown < 2048, "{grown} KiB");
        for n in 0..REQUESTS {
            assert_eq!(client.reply().text(), n.to_string());
        }
        sender.join().expect("all was sent");
    });
}

#[test]
fn a_stream_waits_for_who_does_not_read() {
    for target in ["/stream", "/handed-over"] {
        twice(|server, address| {
            let mut client = Client::connect(address);
            let before = resident();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            stalls(server);
            assert!(counted(server).unsent_bytes > 0);
            let grown = resident().saturating_sub(before);
            // As much as may be handed over, and one piece more.
            assert!(grown < 2048, "{grown} KiB");
            let reply = client.reply();
            assert_eq!((reply.body.len() as u64, keyed::differs(1, 0, &reply.body)), (LEN, None));
        });
    }
}

#[test]
fn an_echo_is_not_read_for_longer_than_its_answer_is() {
    twice(|server, address| {
        let mut client = Client::connect(address);
        let mut body = vec![0; 16 << 20];
        keyed::fill(1, 0, &mut body);
        let before = resident();
        let mut sender = client.wire.stream.try_clone().expect("a descriptor is left");
        std::thread::scope(|scope| {
            let request = post("/echo", &body);
            scope.spawn(move || sender.write_all(&request).expect("the server reads"));
            stalls(server);
            let grown = resident().saturating_sub(before);
            assert!(grown < (16 << 10) + 3072, "{grown} KiB besides the request");
            assert!(counted(server).received < body.len() as u64);
            assert!(client.reply().body == body);
        });
    });
}

#[test]
fn nothing_is_read_for_a_responder_that_waits_for_something_else() {
    twice(|server, address| {
        let mut client = Client::connect(address);
        let mut sender = client.wire.stream.try_clone().expect("a descriptor is left");
        let body = vec![1; 32 << 20];
        let before = counted(server).received;
        std::thread::scope(|scope| {
            let request = post("/pause", &body);
            scope.spawn(move || sender.write_all(&request).expect("the server reads"));
            until("it began", || counted(server).received > before);
            std::thread::sleep(Duration::from_millis(500));
            let read = counted(server).received - before;
            assert!(read < 256 << 10, "{read} bytes were read for nobody");
            assert_eq!(client.reply().text(), "at last");
        });
    });
}
