//! Both sides of the bounds of HTTP: heads and bodies that trickle in, requests on a connection, and the age of one.

mod support;

use std::io::{Read, Write};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use campanile::http::{self, Next};
use campanile::{Config, Event};

use support::common::{LONG, client, counted, nothing_held, tcp, until};
use support::http::{Client, everywhere, post};
use support::serve;

const SHORT: Duration = Duration::from_millis(300);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Answers with what it collected, and to GET at once.
fn echo(config: http::Config) -> impl Fn() -> Box<dyn campanile::Service> + Clone {
    move || {
        let service = http::service(|_, response| {
            response.collect(1 << 20, |body, response| response.status(200).bytes(body))
        });
        Box::new(service.config(config.clone()))
    }
}

/// A hundred clients send a byte at a time, for the first head or for the second: each is told 408 in its time, and
/// nobody else is any slower for it.
#[test]
fn heads_that_trickle_in_are_cut_all_of_them() {
    const CLIENTS: usize = 100;
    let config = http::Config { header_timeout: SHORT * 5, ..http::Config::default() };
    let (server, address) = serve(Config::default(), echo(config));
    for is_second in [false, true] {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(address)).collect();
        let answered = "HTTP/1.1 200 ";
        if is_second {
            clients.iter_mut().for_each(|client| client.write_all(GET.as_bytes()).expect("it reads"));
        }
        let (began, mut open) = (Instant::now(), clients);
        let mut said = vec![Vec::new(); CLIENTS];
        let mut over = vec![false; CLIENTS];
        open.iter_mut().for_each(|client| client.set_nonblocking(true).expect("a socket"));
        let head = "GET / HTTP/1.1\r\nX-Long: ".bytes().chain(std::iter::repeat(b'x'));
        for byte in head {
            for ((client, said), over) in open.iter_mut().zip(&mut said).zip(&mut over) {
                // The answer may have come, and the end.
                let _ = client.write(&[byte]);
                let mut some = [0; 1024];
                match client.read(&mut some) {
                    Ok(0) => *over = true,
                    Ok(n) => said.extend_from_slice(&some[..n]),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(said)),
                }
            }
            if said.iter().all(|said| String::from_utf8_lossy(said).contains("HTTP/1.1 408 ")) {
                break;
            }
            assert_eq!(Client::connect(address).get("/").status, 200, "others are served");
            assert!(began.elapsed() < LONG, "they are cut in time");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(began.elapsed() >= SHORT * 5, "not before");
        for said in &said {
            let said = String::from_utf8_lossy(said);
            assert!(said.contains("Connection: close") && said.contains(answered) == is_second, "{said}");
        }
        drop(open);
        nothing_held(&server);
    }
    assert_eq!(counted(&server).timed_out_head, 2 * CLIENTS as u64);
}

/// A byte now and then is progress, but not enough of it.
#[test]
fn a_body_that_trickles_in_is_cut() {
    let config = http::Config { body_timeout: SHORT, ..http::Config::default() };
    everywhere(echo(config), |client, server| {
        let before = counted(server).timed_out_body;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        let began = Instant::now();
        // Each gives two milliseconds back.
        let cut = (0..5_000).find(|_| {
            std::thread::sleep(Duration::from_millis(10));
            client.wire.out.write_all(b"x").is_err() || counted(server).timed_out_body > before
        });
        assert!(cut.is_some() && began.elapsed() >= SHORT, "{cut:?} after {:?}", began.elapsed());
        let reply = client.reply();
        assert_eq!((reply.status, reply.closes()), (408, true));
        client.ends();
        assert_eq!(counted(server).timed_out_body, before + 1);
    });
}

/// While a handler does something else, or there is no memory for its body, nobody reads, and the client is not late.
#[test]
fn a_body_that_nobody_reads_is_not_late() {
    let config = http::Config { body_timeout: SHORT, body_wait: LONG, ..http::Config::default() };
    let service = move || {
        let service = http::service(|_, response| {
            let mut is_rested = false;
            Ok(response.run(move |exchange| {
                if !is_rested && exchange.control().timer().is_none() {
                    exchange.control().set_timer_in(SHORT * 4);
                    is_rested = true;
                    return Ok(Next::Wait);
                }
                if exchange.control().timer().is_some() {
                    return Ok(Next::Wait);
                }
                exchange.consume_all();
                if !exchange.is_complete() {
                    return Ok(Next::Body);
                }
                exchange.answer(|response| response.text(200, "at last"))
            }))
        });
        service.config(config.clone())
    };
    everywhere(service, |client, server| {
        let before = counted(server).timed_out_body;
        client.send(post("/", &[b'x'; 10_000]));
        assert_eq!(client.reply().text(), "at last");
        assert_eq!(counted(server).timed_out_body, before);
    });
}

#[test]
fn the_last_request_of_a_connection_is_told_so() {
    let config = http::Config { requests_per_connection: NonZeroU32::new(3), ..http::Config::default() };
    everywhere(echo(config), |client, _| {
        for _ in 0..2 {
            let reply = client.get("/");
            assert_eq!((reply.status, reply.closes()), (200, false));
        }
        // What is sent behind the last is not answered.
        client.send(post("/", b"the last"));
        client.send(GET);
        let reply = client.reply();
        assert_eq!((reply.text(), reply.closes()), ("the last", true));
        client.ends();
    });
}

/// However many requests one client sends at once, others have their turn after so many.
#[test]
fn pipelined_requests_are_answered_by_turns() {
    for (turn, most) in [(1, 1), (7, 7), (100_000, 100_000)] {
        let config = http::Config {
            pipeline_turn: NonZeroU32::new(turn).expect("not none"),
            ..http::Config::default()
        };
        let service = move || http::service(|_, response| response.text(200, "x")).config(config.clone());
        let (server, address) = serve(Config::default(), service);
        let mut client = Client::connect(address);
        let before = counted(&server).turns;
        client.send(GET.repeat(1_000));
        for _ in 0..1_000 {
            assert_eq!(client.reply().text(), "x");
        }
        let turns = counted(&server).turns - before;
        assert!(turns >= 1_000 / most, "{turns} turns for {most} requests each");
        drop(client);
        nothing_held(&server);
    }
}

#[test]
fn an_old_connection_ends_between_two_answers() {
    let config = Config { lifetime: Some(SHORT), lifetime_grace: LONG, ..Config::default() };
    let (server, address) = serve(config, echo(http::Config::default()));
    let mut stream = client(address);
    let began = Instant::now();
    let mut answers = Vec::new();
    // It is told by the last answer, or ends where none was begun.
    while stream.write_all(GET.as_bytes()).is_ok() {
        let mut answer = [0; 4096];
        match stream.read(&mut answer) {
            Ok(0) | Err(_) => break,
            Ok(n) => answers.extend_from_slice(&answer[..n]),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    let text = String::from_utf8(answers).expect("text");
    assert!(
        text.ends_with("\r\n\r\n") && text.matches("HTTP/1.1 200 ").count() >= 1,
        "whole answers: {text}"
    );
    drop(stream);
    nothing_held(&server);
}

/// An answer that has no end is cut once the connection is too old and the grace over.
#[test]
fn an_endless_answer_ends_with_its_connection() {
    let config = Config { lifetime: Some(SHORT), lifetime_grace: SHORT, ..Config::default() };
    struct Endless;
    impl http::Responder for Endless {
        fn respond(
            &mut self,
            event: Event,
            exchange: &mut http::Exchange<'_, '_>,
        ) -> Result<Next, http::Error> {
            if let Event::Open = event {
                exchange.begin(|response| response.status(200).begin_stream())?;
            }
            exchange.write([b'x'; 1000])?;
            Ok(Next::Room)
        }
    }
    let (server, _) = serve(config, || {
        http::Http::new(|_: &http::Request<'_>, response: http::Response<'_, '_>| {
            Ok(response.respond(Endless))
        })
    });
    let mut stream = client(tcp(&server));
    let began = Instant::now();
    stream.write_all(GET.as_bytes()).expect("it reads");
    let ended = stream.read_to_end(&mut Vec::new());
    assert!(began.elapsed() >= SHORT * 2, "{ended:?} after {:?}", began.elapsed());
    until("it is counted", || counted(&server).timed_out_lifetime == 1);
    drop(stream);
    nothing_held(&server);
}
