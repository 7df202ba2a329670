//! Handlers while they wait: for other threads, for slow clients, for clients that go away, for a server that ends.

mod support;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use campanile::http::{self, Error, Http, OwnedRequest, Router};
use campanile::{Bytes, Config, ServerHandle, sleep, spawn, timeout};

use support::common::{client, counted, keyed, nothing_held, reset, until};
use support::http::{Client, Reply, everywhere, post, post_chunked};
use support::pieces::{Gate, made, turns};
use support::{serve, tiny};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A future that is dropped when it waits for the `left`th time.
struct Limited<F> {
    future: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F: Future> Future for Limited<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Some(future) = &mut self.future else { return Poll::Ready(None) };
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        self.left -= 1;
        if self.left == 0 {
            self.future = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// Reads a body in all ways in turn, and notes what it got.
async fn steps(request: &mut OwnedRequest, seen: &RefCell<Vec<u8>>) -> Result<(), Error> {
    turns(1).await;
    for n in 0..3 {
        if let Some(piece) = request.body().next().await {
            seen.borrow_mut().extend_from_slice(&piece?);
        }
        turns(n).await;
        let limit = Duration::from_secs(3600);
        if let Some(piece) = timeout(limit, request.body().next()).await? {
            seen.borrow_mut().extend_from_slice(&piece?);
        }
    }
    let whole = request.body().collect(1 << 20).await?;
    seen.borrow_mut().extend_from_slice(&whole);
    Ok(())
}

#[test]
fn what_is_dropped_at_any_point_loses_no_byte_and_leaves_the_connection_in_order() {
    let make = || {
        http::service(http::wait(async |mut request: OwnedRequest| -> Result<String, Error> {
            let seen = RefCell::new(Vec::new());
            let points = request.query().and_then(|points| points.parse().ok()).unwrap_or(0);
            if points == 0 {
                return Ok("next".into());
            }
            let future = Some(Box::pin(steps(&mut request, &seen)));
            let is_through = Limited { future, left: points }.await.transpose()?.is_some();
            let reads_on = request.path() == "/reads-on";
            let mut seen = seen.into_inner();
            if reads_on {
                seen.extend_from_slice(&request.body().collect(1 << 20).await?);
            }
            let wrong = keyed::differs(1, 0, &seen);
            Ok(format!("{is_through} {} {wrong:?}", if reads_on { seen.len() } else { 0 }))
        }))
    };
    let mut body = vec![0; 5000];
    keyed::fill(1, 0, &mut body);
    everywhere(make, |client, _| {
        let mut points = 1;
        for target in ["/reads-on", "/leaves"] {
            points = 1;
            let len = if target == "/leaves" { 0 } else { body.len() };
            loop {
                let target = format!("{target}?{points}");
                client
                    .send([post(&target, &body), GET.into(), post_chunked(&target, &body, 300, "")].concat());
                let (whole, next) = (client.reply(), client.reply());
                let chunked = client.reply();
                for reply in [&whole, &chunked] {
                    assert!(reply.text().ends_with(&format!("{len} None")), "{target}: {}", reply.text());
                }
                assert_eq!(next.text(), "next");
                assert!(points < 1000, "it comes to an end");
                if whole.text().starts_with("true") && chunked.text().starts_with("true") {
                    break;
                }
                points += 1;
            }
        }
        assert!(points > 3, "{points} points");
    });
}

/// Counts how many there are.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Alive {
        count.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Handlers that wait for a gate: before they answer, while they read, and while they write.
fn gated(gate: &Gate, alive: &Arc<AtomicUsize>) -> Router {
    let all = Rc::new((gate.clone(), Arc::clone(alive)));
    let (before, reading, writing, leaving) = (all.clone(), all.clone(), all.clone(), all);
    Router::new()
        .get("/at-once", |_, response| response.text(200, "at once"))
        .get(
            "/before",
            http::wait(async move |_| {
                let _alive = Alive::new(&before.1);
                before.0.pass().await;
                "passed"
            }),
        )
        .post(
            "/reading",
            http::wait(async move |mut request: OwnedRequest| -> Result<&str, Error> {
                let _alive = Alive::new(&reading.1);
                request.body().collect(1 << 20).await?;
                Ok("read")
            }),
        )
        .get(
            "/writing",
            http::wait(async move |_| {
                let shared = writing.clone();
                http::stream(async move |mut writer| {
                    let _alive = Alive::new(&shared.1);
                    writer.write("begun ").await?;
                    shared.0.pass().await;
                    writer.write("ended").await
                })
            }),
        )
        .get(
            "/leaving",
            http::wait(async move |_| {
                let shared = leaving.clone();
                let task = spawn(async move {
                    let _alive = Alive::new(&shared.1);
                    shared.0.pass().await;
                });
                task.await.map(|()| "survived").map_err(Error::from)
            }),
        )
}

fn gated_server() -> (Gate, Arc<AtomicUsize>, ServerHandle, std::net::SocketAddr) {
    let (gate, alive) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let shared = (gate.clone(), Arc::clone(&alive));
    let (server, address) = serve(Config::default(), move || Http::new(gated(&shared.0, &shared.1)));
    (gate, alive, server, address)
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn a_thousand_wait_at_once_and_another_thread_wakes_them_all() {
    const MANY: usize = 1000;
    let (gate, alive, server, address) = gated_server();
    let mut clients: Vec<Client> = (0..MANY).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.send([get("/before"), get("/at-once")].concat());
    }
    until("all of them wait", || alive.load(Ordering::SeqCst) == MANY);
    assert_eq!(Client::connect(address).get("/at-once").text(), "at once");
    // Nobody turns round and round meanwhile.
    until("the worker is at rest", || {
        let before = counted(&server).turns;
        std::thread::sleep(Duration::from_millis(100));
        counted(&server).turns - before <= 3
    });
    std::thread::spawn(move || gate.open()).join().expect("it only opens the gate");
    for client in &mut clients {
        assert_eq!((client.reply().text(), client.reply().text()), ("passed", "at once"));
    }
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    drop(clients);
    nothing_held(&server);
}

#[test]
fn a_handler_is_dropped_when_its_client_is_gone_and_its_task_is_not() {
    let (gate, alive, server, address) = gated_server();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(address)).collect();
    clients[0].send(get("/before"));
    clients[1].send(&post("/reading", &[0; 1000])[..500]);
    clients[2].send(get("/writing"));
    until("all are there", || alive.load(Ordering::SeqCst) == 3);
    for client in clients {
        let stream = client.wire.stream.try_clone().expect("a descriptor is left");
        drop(client);
        reset(stream);
    }
    until("none is there", || alive.load(Ordering::SeqCst) == 0);
    let mut client = Client::connect(address);
    client.send(get("/leaving"));
    until("it has begun", || alive.load(Ordering::SeqCst) == 1);
    reset(client.wire.stream.try_clone().expect("a descriptor is left"));
    drop(client);
    nothing_held(&server);
    assert_eq!(alive.load(Ordering::SeqCst), 1, "the task goes on");
    // Wakes of those who are gone wake nobody.
    gate.open();
    until("the task has ended", || alive.load(Ordering::SeqCst) == 0);
    assert_eq!(Client::connect(address).get("/leaving").text(), "survived");
}

#[test]
fn who_waits_when_the_server_drains_is_answered_and_told_that_it_is_the_last() {
    let (gate, alive, server, address) = gated_server();
    let (mut waiting, mut writing) = (Client::connect(address), Client::connect(address));
    waiting.send(get("/before"));
    writing.send(get("/writing"));
    until("both wait", || alive.load(Ordering::SeqCst) == 2);
    server.drain();
    until("it drains", || std::net::TcpStream::connect(address).is_err());
    gate.open();
    let reply = waiting.reply();
    assert_eq!((reply.text(), reply.closes()), ("passed", true));
    waiting.ends();
    assert_eq!(writing.reply().text(), "begun ended");
    writing.ends();
    drop((waiting, writing));
    server.wait().expect("all was finished");
}

#[test]
fn time_is_waited_for_and_limited() {
    let make = || {
        Http::new(
            Router::new()
                .get(
                    "/sleep",
                    http::wait(async |_| {
                        sleep(Duration::from_millis(20)).await;
                        "slept"
                    }),
                )
                .get(
                    "/late",
                    http::wait(async |_| {
                        let late = timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
                        late.map_err(|_| Error::new(503, "too late"))
                    }),
                ),
        )
    };
    everywhere(make, |client, _| {
        client.send([get("/sleep"), get("/late"), get("/sleep")].concat());
        let statuses = [client.reply(), client.reply(), client.reply()].map(|reply| reply.status);
        assert_eq!(statuses, [200, 503, 200]);
    });
}

#[test]
fn a_body_is_made_no_faster_than_it_is_read() {
    const PIECE: usize = 64 << 10;
    const PIECES: u64 = 512;
    let made_so_far = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&made_so_far);
    let (server, address) = serve(Config::default(), move || {
        let (for_pieces, for_writer) = (Arc::clone(&shared), Arc::clone(&shared));
        let next = |made_so_far: &AtomicU64| {
            let n = made_so_far.fetch_add(1, Ordering::SeqCst);
            (n < PIECES).then(|| Bytes::from(vec![n as u8; PIECE]))
        };
        Http::new(
            Router::new()
                .get(
                    "/pieces",
                    http::wait(async move |_| {
                        let made_so_far = for_pieces.clone();
                        http::pieces(made(move || next(&made_so_far)))
                    }),
                )
                .get(
                    "/written",
                    http::wait(async move |_| {
                        let made_so_far = for_writer.clone();
                        http::stream(async move |mut writer| {
                            while let Some(piece) = next(&made_so_far) {
                                writer.write(piece).await?;
                            }
                            Ok(())
                        })
                    }),
                ),
        )
    });
    for target in ["/pieces", "/written"] {
        made_so_far.store(0, Ordering::SeqCst);
        let mut client = Client::connect(address);
        client.send(get(target));
        until("it is blocked", || {
            let before = made_so_far.load(Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(100));
            before > 0 && before == made_so_far.load(Ordering::SeqCst) && counted(&server).unsent_bytes > 0
        });
        let unsent = counted(&server).unsent_bytes;
        assert!(unsent <= (256 << 10) + 3 * PIECE as u64, "{target}: {unsent} bytes wait");
        assert!(made_so_far.load(Ordering::SeqCst) < PIECES, "{target}");
        assert_eq!(client.reply().body.len() as u64, PIECES * PIECE as u64, "{target}");
    }
}

#[test]
fn what_is_copied_and_what_is_not_go_out_in_their_order_however_little_a_connection_holds() {
    const ROUNDS: usize = 20;
    let piece = |n: usize, len: usize| vec![n as u8; len];
    for held_limit in [1, 4096, 10_000] {
        let (_server, address) = serve(Config { held_limit, ..tiny() }, move || {
            Http::new(Router::new().get(
                "/",
                http::wait(async move |_| {
                    http::stream(async move |mut writer| {
                        for n in 0..ROUNDS {
                            writer.write(piece(n, 12_000)).await?;
                            writer.send(piece(n, 9_000).into()).await?;
                        }
                        writer.set_trailers([("X-Long", &[b'a'; 5_000][..])]);
                        Ok(())
                    })
                }),
            ))
        });
        let mut client = Client::connect(address);
        client.send(GET);
        let Reply { body, trailers, .. } = client.reply();
        let expected: Vec<u8> = (0..ROUNDS).flat_map(|n| piece(n, 21_000)).collect();
        assert!(body == expected, "{held_limit}: {} bytes", body.len());
        assert_eq!(trailers.trim_end().len(), "X-Long: ".len() + 5_000, "{held_limit}");
    }
}

#[test]
fn a_hundred_mebibytes_are_echoed_unchanged_and_read_no_faster_than_the_echo_is() {
    const LEN: u64 = 100 << 20;
    let (server, address) = serve(Config::default(), || {
        http::service(http::wait(async |request: OwnedRequest| request.into_body()))
    });
    let mut stream = client(address);
    let mut sender = stream.try_clone().expect("a descriptor is left");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LEN}\r\n\r\n");
            sender.write_all(head.as_bytes()).expect("the server reads");
            let mut piece = vec![0; 64 << 10];
            for at in (0..LEN).step_by(piece.len()) {
                keyed::fill(1, at, &mut piece);
                sender.write_all(&piece).expect("the server reads");
            }
        });
        until("it is blocked", || {
            let before = counted(&server);
            std::thread::sleep(Duration::from_millis(100));
            let after = counted(&server);
            before.sent > 0 && (before.received, before.sent) == (after.received, after.sent)
        });
        let figures = counted(&server);
        assert!(figures.received < figures.sent + (2 << 20), "{figures:?}");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.extend(byte);
        }
        let head = String::from_utf8(head).expect("a head of ASCII");
        assert!(head.contains(&format!("Content-Length: {LEN}\r\n")) && !head.contains("close"), "{head}");
        let (mut at, mut piece) = (0, vec![0; 64 << 10]);
        while at < LEN {
            let longest = (LEN - at).min(piece.len() as u64) as usize;
            let n = stream.read(&mut piece[..longest]).expect("more of the echo");
            assert_eq!((n == 0, keyed::differs(1, at, &piece[..n])), (false, None), "at {at}");
            at += n as u64;
        }
    });
    drop(stream);
    nothing_held(&server);
}

#[test]
fn a_body_may_be_read_by_another_task_until_the_request_is_over() {
    let make = || {
        http::service(http::wait(async |request: OwnedRequest| -> Result<String, Error> {
            let is_left = request.path() == "/left";
            let mut body = request.into_body();
            let task = spawn(async move {
                let (mut bytes, mut pieces) = (0, 0);
                while let Some(piece) = body.next().await {
                    let Ok(piece) = piece else { return None };
                    (bytes, pieces) = (bytes + piece.len(), pieces + 1);
                }
                Some((bytes, pieces > 0))
            });
            if is_left {
                turns(1).await;
                return Ok("left".into());
            }
            Ok(format!("{:?}", task.await?))
        }))
    };
    everywhere(make, |client, _| {
        for _ in 0..3 {
            client.send(post("/", &[b'x'; 20_000]));
            assert_eq!(client.reply().text(), "Some((20000, true))");
            client.send(post_chunked("/left", &[b'x'; 20_000], 500, ""));
            assert_eq!(client.reply().text(), "left");
        }
    });
}
