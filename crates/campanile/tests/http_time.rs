//! How long a connection may take, and how it ends when the server does.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use campanile::http::{self, Http, Next};
use campanile::{Bytes, Config, Flow, Input, Output, ServerHandle, Waker};

use support::common::{nothing_held, until};
use support::http::{Client, everywhere, post};
use support::{serve, tiny};

const SHORT: Duration = Duration::from_millis(200);
/// Longer than a machine that is busy with other things leaves anybody waiting between two steps of a test.
const AMPLE: Duration = Duration::from_millis(1_500);
const NEVER: Duration = Duration::from_secs(600);

/// Answers with what it collected, and to GET at once.
fn timed(
    header_timeout: Duration,
    idle_timeout: Duration,
) -> impl Fn() -> Box<dyn campanile::Service> + Clone {
    let config = http::Config { header_timeout, idle_timeout, ..http::Config::default() };
    move || {
        let service = http::service(|_, response| {
            response.collect(100, |body, response| response.status(200).bytes(body))
        });
        Box::new(service.config(config.clone()))
    }
}

#[test]
fn a_head_that_trickles_in_is_answered_408() {
    everywhere(timed(SHORT, NEVER), |client, _| {
        let began = Instant::now();
        let is_over = Arc::new(AtomicBool::new(false));
        let until_then = Arc::clone(&is_over);
        let mut out = std::mem::replace(&mut client.wire.out, Box::new(Nowhere));
        let trickle = std::thread::spawn(move || {
            for byte in b"GET / HTTP/1.1\r\nX-Long: ".iter().chain(std::iter::repeat(&b'x')) {
                if out.write_all(&[*byte]).is_err() || until_then.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = out.end();
        });
        let reply = client.reply();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!((reply.status, reply.closes()), (408, true));
        assert!(began.elapsed() >= SHORT);
        client.ends();
        trickle.join().expect("it stops");
    });
}

/// A client that sends nothing more.
struct Nowhere;

impl std::io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl support::wire::Sink for Nowhere {
    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_second_head_has_its_own_time() {
    everywhere(timed(AMPLE, NEVER), |client, _| {
        for _ in 0..3 {
            std::thread::sleep(SHORT / 2);
            assert_eq!(client.get("/").status, 200);
        }
        // Longer than a head may take: between requests that does not matter.
        std::thread::sleep(AMPLE + SHORT);
        let began = Instant::now();
        client.send("GET / HT");
        let reply = client.reply();
        assert!(began.elapsed() >= AMPLE);
        assert_eq!((reply.status, reply.closes()), (408, true));
        client.ends();
    });
}

#[test]
fn who_never_sends_anything_is_closed_without_an_answer() {
    everywhere(timed(SHORT, NEVER), |client, _| {
        let began = Instant::now();
        client.ends();
        // Since it was accepted, which was a moment before.
        assert!(began.elapsed() >= SHORT / 2);
    });
}

#[test]
fn the_time_of_the_first_head_begins_with_the_connection() {
    everywhere(timed(AMPLE, NEVER), |client, _| {
        let began = Instant::now();
        std::thread::sleep(AMPLE - SHORT);
        client.send("GET / HT");
        assert_eq!(client.reply().status, 408);
        assert!(began.elapsed() < AMPLE * 2 - SHORT, "it counts from the opening: {:?}", began.elapsed());
        client.ends();
    });
}

#[test]
fn who_is_idle_between_requests_is_closed() {
    everywhere(timed(NEVER, AMPLE), |client, _| {
        for _ in 0..3 {
            assert_eq!(client.get("/").status, 200);
            std::thread::sleep(SHORT / 2);
        }
        let began = Instant::now();
        assert_eq!(client.get("/").status, 200);
        client.ends();
        assert!(began.elapsed() >= AMPLE);
    });
}

#[test]
fn a_body_that_nobody_wants_is_not_waited_for() {
    let config = http::Config { idle_timeout: SHORT, ..http::Config::default() };
    let service = move || http::service(|_, response| response.text(200, "unread")).config(config.clone());
    everywhere(service, |client, _| {
        let began = Instant::now();
        client.send(&post("/", b"hello")[..post("/", b"hello").len() - 1]);
        assert_eq!(client.reply().text(), "unread");
        client.ends();
        assert!(began.elapsed() >= SHORT);
    });
}

#[test]
fn who_reads_slowly_is_not_idle() {
    let config = http::Config { header_timeout: SHORT, idle_timeout: SHORT, ..http::Config::default() };
    let service = move || {
        http::service(|_, response| response.status(200).bytes(Bytes::from(vec![1; 4 << 20])))
            .config(config.clone())
    };
    let sockets = Config { socket_send_buffer: Some(64 << 10), ..Config::default() };
    let (server, address) = serve(sockets, service);
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
    std::thread::sleep(SHORT * 3);
    for _ in 0..5 {
        assert_eq!(client.reply().status, 200);
    }
    drop(client);
    nothing_held(&server);
}

/// A server of requests that wait for their wakers.
fn waking(config: Config) -> (ServerHandle, SocketAddr, mpsc::Receiver<Waker>) {
    let (tell, wakers) = mpsc::channel();
    let (server, address) = serve(config, move || {
        let tell = tell.clone();
        Http::new(move |request: &http::Request<'_>, response: http::Response<'_, '_>| {
            let tell = tell.clone();
            let mut calls = 0;
            if request.path() == "/begun" {
                return response.status(200).stream(move |exchange| {
                    calls += 1;
                    exchange.write("piece,")?;
                    if calls == 1 {
                        tell.send(exchange.control().waker()).expect("the test waits");
                    }
                    // The wake, and the drain before it.
                    Ok(if calls < 3 { Next::Wait } else { Next::Done })
                });
            }
            Ok(response.run(move |exchange| {
                calls += 1;
                if calls == 1 {
                    tell.send(exchange.control().waker()).expect("the test waits");
                }
                if calls < 3 {
                    return Ok(Next::Wait);
                }
                exchange.answer(|response| response.text(200, "done"))
            }))
        })
    });
    (server, address, wakers)
}

#[test]
fn a_drain_lets_requests_end_and_says_so() {
    for config in [Config::default(), tiny()] {
        let (server, address, wakers) = waking(config);
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(address)).collect();
        clients[1].send("GET /begun HTTP/1.1\r\nHost: a\r\n\r\n");
        let begun = wakers.recv().expect("it begins");
        clients[2].send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let unbegun = wakers.recv().expect("it begins");
        until("all are accepted", || server.counters()[0].connections == 3);
        server.drain();
        clients[0].ends();
        begun.wake();
        unbegun.wake();
        let reply = clients[1].reply();
        assert_eq!((reply.text(), reply.closes()), ("piece,piece,piece,", false));
        clients[1].ends();
        let reply = clients[2].reply();
        assert_eq!((reply.text(), reply.closes()), ("done", true));
        clients[2].ends();
    }
}

#[test]
fn an_answer_that_begins_while_others_wait_for_memory_comes_all_the_same() {
    // All send buffers of the worker are held by connections that do not read.
    let config = Config { send_buffers: 2, socket_send_buffer: Some(4096), ..tiny() };
    let (tell, wakers) = mpsc::channel::<Waker>();
    let (server, address) = serve(config, move || -> Box<dyn campanile::Service> {
        let tell = tell.clone();
        let calls = std::cell::Cell::new(0);
        Box::new(http::service(move |request, response| {
            if request.path() == "/hold" {
                return response.status(200).stream(|exchange| {
                    exchange.write([b'x'; 900])?;
                    Ok(Next::Room)
                });
            }
            let tell = tell.clone();
            let calls = calls.replace(1);
            Ok(response.run(move |exchange| {
                if calls == 0 && exchange.control().timer().is_none() {
                    exchange.control().set_timer_in(Duration::from_secs(600));
                    tell.send(exchange.control().waker()).expect("the test waits");
                    return Ok(Next::Wait);
                }
                exchange.answer(|response| response.text(200, "after all"))
            }))
        }))
    });
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let waker = wakers.recv().expect("it begins");
    let mut holders: Vec<Client> = (0..2).map(|_| Client::connect(address)).collect();
    holders.iter_mut().for_each(|holder| holder.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n"));
    until("every buffer is held", || server.counters()[0].send_buffers == 2);
    waker.wake();
    std::thread::sleep(Duration::from_millis(50));
    drop(holders);
    assert_eq!(client.reply().text(), "after all");
}

#[test]
fn a_service_that_becomes_http_answers_what_is_unread() {
    everywhere(
        || {
            |input: &mut Input<'_>, _: &mut Output<'_>| {
                if input.first() != Some(&b'!') {
                    return Flow::More(1);
                }
                input.consume(1);
                Flow::Become(Box::new(http::service(|_, response| response.text(200, "heir"))))
            }
        },
        |client, _| {
            client.send("!GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.reply().text(), "heir");
            assert_eq!(client.get("/").text(), "heir");
        },
    );
}
