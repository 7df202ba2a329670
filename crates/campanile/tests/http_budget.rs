//! Memory for bodies that are collected: shared, bounded, and given back whatever happens.

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use campanile::http::{self, Error, OwnedRequest, Request, Response};
use campanile::{Bytes, Config, ServerHandle, Service, timeout};

use support::common::{nothing_held, reset, until};
use support::http::{Client, post, post_chunked};
use support::{serve, tiny};

const WAIT: Duration = Duration::from_millis(300);

/// What a server was sent.
#[derive(Default)]
struct Seen {
    /// Bodies for `/keep`.
    kept: Vec<Bytes>,
    /// The first byte of each, in the order in which they were complete.
    order: Vec<u8>,
}

/// Whether the handler answers by a closure that is given the body, or waits for it.
#[derive(Clone, Copy)]
enum Kind {
    AtOnce,
    Waiting,
}

macro_rules! of_both_kinds {
    ($($name:ident),* $(,)?) => {
        mod at_once {
            $(#[test] fn $name() { super::$name(super::Kind::AtOnce); })*
        }
        mod waiting {
            $(#[test] fn $name() { super::$name(super::Kind::Waiting); })*
        }
    };
}

of_both_kinds! {
    one_body_goes_beyond_the_limit_and_the_others_are_answered_503,
    who_goes_away_gives_back_what_it_had,
    a_body_that_is_complete_holds_up_nobody,
    who_waits_is_served_in_order,
    nobody_is_forgotten,
    bodies_beyond_their_own_limit_are_answered_413,
}

impl Seen {
    fn note(&mut self, body: &Bytes, is_kept: bool) {
        self.order.extend(body.first());
        self.kept.extend(is_kept.then(|| body.clone()));
    }
}

type Told = Arc<Mutex<Seen>>;

fn at_once(tell: Told, config: http::Config) -> impl Service {
    let answer = move |request: &Request<'_>, response: Response<'_, '_>| {
        let (keeps, tell) = (request.path() == "/keep", Arc::clone(&tell));
        response.collect(1 << 20, move |body, response| {
            tell.lock().expect("nobody panics").note(&body, keeps);
            response.status(200).bytes(body)
        })
    };
    http::service(answer).config(config)
}

fn waiting(tell: Told, config: http::Config) -> impl Service {
    let answer = http::wait(async move |mut request: OwnedRequest| -> Result<Bytes, Error> {
        let body = request.body().collect(1 << 20).await?;
        tell.lock().expect("nobody panics").note(&body, request.path() == "/keep");
        Ok(body)
    });
    http::service(answer).config(config)
}

/// Echoes bodies, of which a worker holds so many bytes.
fn budget(
    kind: Kind,
    config: Config,
    body_memory: usize,
    body_wait: Duration,
) -> (ServerHandle, SocketAddr, Told) {
    let http_config = http::Config { body_memory, body_wait, ..http::Config::default() };
    let seen = Told::default();
    let tell = Arc::clone(&seen);
    let (server, address) = serve(config, move || -> Box<dyn Service> {
        match kind {
            Kind::AtOnce => Box::new(at_once(Arc::clone(&tell), http_config.clone())),
            Kind::Waiting => Box::new(waiting(Arc::clone(&tell), http_config.clone())),
        }
    });
    (server, address, seen)
}

/// All but the last byte of a request, so that its body is held.
fn begun(client: &mut Client, len: usize) -> Vec<u8> {
    let request = post("/", &vec![b'x'; len]);
    client.send(&request[..request.len() - 1]);
    request[request.len() - 1..].to_vec()
}

fn one_body_goes_beyond_the_limit_and_the_others_are_answered_503(kind: Kind) {
    for config in [Config::default(), tiny()] {
        let (server, address, _) = budget(kind, config, 1000, WAIT);
        let mut first = Client::connect(address);
        let last = begun(&mut first, 100_000);
        until("it is read", || {
            server.counters()[0].received > 100_000 && server.counters()[0].carried_bytes == 0
        });
        let began = Instant::now();
        let mut second = Client::connect(address);
        second.send(post_chunked("/", &[b'y'; 2000], 100, ""));
        let reply = second.reply();
        assert!(began.elapsed() >= WAIT);
        assert_eq!((reply.status, reply.field("Retry-After"), reply.closes()), (503, Some("1"), true));
        first.send(last);
        assert_eq!(first.reply().body, vec![b'x'; 100_000]);
        // And now there is memory again.
        let mut third = Client::connect(address);
        third.send(post_chunked("/", &[b'y'; 900], 100, ""));
        assert_eq!(third.reply().body, [b'y'; 900]);
        drop((first, second, third));
        nothing_held(&server);
    }
}

fn who_goes_away_gives_back_what_it_had(kind: Kind) {
    let (server, address, seen) = budget(kind, Config::default(), 1000, Duration::from_secs(600));
    for how in 0..3 {
        let mut first = Client::connect(address);
        let before = server.counters()[0].received;
        begun(&mut first, 5000);
        until("it is read", || server.counters()[0].received >= before + 5000);
        let mut second = Client::connect(address);
        let before = server.counters()[0].received;
        second.send(post_chunked("/", &[b'y'; 2000], 100, ""));
        until("it waits", || server.counters()[0].received >= before + 2000);
        match how {
            0 => {
                let stream = first.wire.stream.try_clone().expect("a descriptor is left");
                drop(first);
                reset(stream);
            }
            1 => first.wire.end(),
            _ => first.send("x"),
        }
        assert_eq!(second.reply().body, [b'y'; 2000]);
    }
    // A body that somebody keeps is charged for as long as it is kept, on whatever thread.
    let mut first = Client::connect(address);
    first.send(post_chunked("/keep", &[b'k'; 900], 100, ""));
    assert_eq!(first.reply().body, [b'k'; 900]);
    let mut second = Client::connect(address);
    let before = server.counters()[0].received;
    let last = begun(&mut second, 500);
    until("it goes beyond", || server.counters()[0].received >= before + 500);
    let mut third = Client::connect(address);
    third.send(post_chunked("/", &[b'y'; 300], 100, ""));
    third.wire.stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket");
    assert!(third.try_reply(false).is_err(), "it waits");
    third.wire.stream.set_read_timeout(Some(support::common::LONG)).expect("a socket");
    seen.lock().expect("nobody panics").kept.clear();
    assert_eq!(third.reply().body, [b'y'; 300]);
    second.send(last);
    assert_eq!(second.reply().body, [b'x'; 500]);
}

fn a_body_that_is_complete_holds_up_nobody(kind: Kind) {
    let (server, address, seen) = budget(kind, Config::default(), 1000, Duration::from_secs(600));
    // What is kept stands for an echo that its client never reads.
    for n in 0..3 {
        let mut client = Client::connect(address);
        client.send(post_chunked("/keep", &[n; 5000], 1000, ""));
        assert_eq!(client.reply().body, [n; 5000]);
    }
    // Nor does it hold up who waited for it when it was completed.
    let mut first = Client::connect(address);
    let before = server.counters()[0].received;
    let request = post_chunked("/keep", &[b'f'; 5000], 1000, "");
    first.send(&request[..request.len() - 1]);
    until("it is read", || server.counters()[0].received >= before + 5000);
    let mut second = Client::connect(address);
    let before = server.counters()[0].received;
    second.send(post_chunked("/", &[b's'; 2000], 100, ""));
    until("it waits", || server.counters()[0].received >= before + 2000);
    first.send(&request[request.len() - 1..]);
    assert_eq!(first.reply().body, [b'f'; 5000]);
    assert_eq!(second.reply().body, [b's'; 2000]);
    assert_eq!(seen.lock().expect("nobody panics").kept.len(), 4);
}

fn who_waits_is_served_in_order(kind: Kind) {
    let (server, address, seen) = budget(kind, Config::default(), 1000, Duration::from_secs(600));
    let mut first = Client::connect(address);
    let last = begun(&mut first, 5000);
    until("it is read", || server.counters()[0].received > 5000);
    let mut waiters: Vec<Client> = (0..8)
        .map(|n| {
            let mut client = Client::connect(address);
            let before = server.counters()[0].received;
            client.send(post_chunked("/", &[n; 2000], 1000, ""));
            until("it waits", || server.counters()[0].received >= before + 2000);
            client
        })
        .collect();
    assert_eq!(seen.lock().expect("nobody panics").order, []);
    first.send(last);
    assert_eq!(first.reply().status, 200);
    for (n, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(waiter.reply().body, [n as u8; 2000]);
    }
    assert_eq!(seen.lock().expect("nobody panics").order, *b"x\0\x01\x02\x03\x04\x05\x06\x07");
}

fn nobody_is_forgotten(kind: Kind) {
    for (config, wait) in [(Config::default(), Duration::from_secs(600)), (tiny(), Duration::from_millis(5))]
    {
        let (server, address, _) = budget(kind, config, 3000, wait);
        let refused = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for n in 0..12_usize {
                let refused = &refused;
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    for round in 0..40 {
                        let len = 1 + (n * 7919 + round * 104_729) % 6000;
                        let body = vec![n as u8; len];
                        let chunked = post_chunked("/", &body, 1 + len / 3, "");
                        let (start, end) = chunked.split_at(chunked.len() / 2);
                        if round % 11 == 10 {
                            // Gone in the middle of it.
                            client.send(start);
                            client = Client::connect(address);
                            continue;
                        }
                        client.send(start);
                        let _ = client.wire.out.write_all(end);
                        let reply = client.reply();
                        match reply.status {
                            200 => assert!(reply.body == body),
                            503 => {
                                refused.fetch_add(1, Ordering::SeqCst);
                                client = Client::connect(address);
                            }
                            status => panic!("{status}"),
                        }
                    }
                });
            }
        });
        if wait > Duration::from_secs(1) {
            assert_eq!(refused.into_inner(), 0, "all can be served, one after another");
        }
        nothing_held(&server);
        // Nothing is charged: a body of just the limit is taken without waiting.
        let mut client = Client::connect(address);
        client.send(post_chunked("/", &[1; 3000], 100, ""));
        assert_eq!(client.reply().body, [1; 3000]);
    }
}

fn bodies_beyond_their_own_limit_are_answered_413(kind: Kind) {
    let (_server, address, _) = budget(kind, Config::default(), 64 << 20, WAIT);
    let mut client = Client::connect(address);
    client.send(&post("/", &vec![0; (1 << 20) + 1])[..100]);
    let reply = client.reply();
    assert_eq!((reply.status, reply.closes()), (413, true));
    let mut client = Client::connect(address);
    let _ = client.wire.out.write_all(&post_chunked("/", &vec![0; (1 << 20) + 1], 70_000, ""));
    let reply = client.reply();
    assert_eq!((reply.status, reply.closes()), (413, true));
    let mut client = Client::connect(address);
    client.send(post("/", &vec![3; 1 << 20]));
    assert_eq!(client.reply().body, vec![3; 1 << 20]);
}

/// A handler that gives up waiting for a body gives way to those that wait for memory behind it.
#[test]
fn who_gives_up_holds_up_nobody() {
    let http_config = http::Config { body_memory: 1000, ..http::Config::default() };
    let make = move || {
        let answer = http::wait(async |mut request: OwnedRequest| -> Result<String, Error> {
            if request.path() == "/gives-up" {
                let gathered = timeout(Duration::from_millis(50), request.body().collect(1 << 20)).await;
                assert!(gathered.is_err(), "it never comes");
                // It neither reads on nor goes away.
                std::future::pending::<()>().await;
            }
            Ok(format!("{}", request.body().collect(1 << 20).await?.len()))
        });
        http::service(answer).config(http_config.clone())
    };
    let (server, address) = serve(Config::default(), make);
    let mut greedy: Vec<Client> = (0..3).map(|_| Client::connect(address)).collect();
    for client in &mut greedy {
        client.send(&post("/gives-up", &[b'x'; 5000])[..4000]);
    }
    until("they were read", || server.counters()[0].received > 3 * 500);
    let mut client = Client::connect(address);
    client.send(post_chunked("/", &[b'y'; 5000], 100, ""));
    assert_eq!(client.reply().text(), "5000");
    drop(client);
    for client in greedy {
        let stream = client.wire.stream.try_clone().expect("a descriptor is left");
        drop(client);
        reset(stream);
    }
    nothing_held(&server);
}
