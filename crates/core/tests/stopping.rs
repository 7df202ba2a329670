//! Stopping: a server that is stopped at any moment, under any load, leaves nothing behind: no thread, no descriptor,
//! no address in use.
//!
//! These tests count what the whole process has, so they run one after the other.
//!
//! `CAMPANILE_TEST_STOPS` sets how often a server is stopped under load (60).

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use campanile_core::{
    Address, Bytes, Config, Connect, Context, Event, Flow, HandOverError, Input, Output, Reason, Server,
    on_open,
};
use support::{LONG, Told, client, counted, nothing_held, process, tcp, until};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn one_at_a_time() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of this process a server takes.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    workers: usize,
    kernel_threads: usize,
    descriptors: usize,
    direct: usize,
}

fn taken() -> Taken {
    Taken {
        workers: process::threads("campanile-").len(),
        kernel_threads: process::threads("iou-").len(),
        descriptors: process::descriptors(),
        direct: process::direct_descriptors(),
    }
}

/// What there is before a server starts: nothing of those that other tests have stopped.
fn taken_before() -> Taken {
    let mut now = taken();
    until("earlier servers are gone", || {
        now = taken();
        (now.workers, now.kernel_threads, now.direct) == (0, 0, 0)
    });
    now
}

/// The kernel takes a ring apart after its descriptor was closed: soon, not at once.
fn nothing_left(before: &Taken) {
    let mut now = taken();
    until("threads and descriptors are gone", || {
        now = taken();
        now == *before
    });
}

#[test]
fn connections_that_are_over_leave_no_descriptor() {
    let _one = one_at_a_time();
    for direct_descriptors in [true, false] {
        let config = Config { direct_descriptors, ..Config::default() };
        let before = taken_before();
        let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(|| support::echo);
        let server = server.expect("a free port of loopback");
        until("the ring is at rest", || process::threads("iou-").is_empty());
        let at_rest = taken();
        for round in 0..3 {
            let clients: Vec<_> = (0..50).map(|_| client(tcp(&server))).collect();
            until("all are accepted", || counted(&server).connections == 50);
            let in_table = direct_descriptors && server.capabilities().direct;
            let (direct, plain) = if in_table { (50, 0) } else { (0, 50) };
            assert_eq!(process::direct_descriptors() - at_rest.direct, direct, "round {round}");
            assert_eq!(process::descriptors() - at_rest.descriptors, plain + clients.len(), "round {round}");
            // One third resets, one third closes, one third has said something first.
            for (index, mut client) in clients.into_iter().enumerate() {
                match index % 3 {
                    0 => support::reset(client),
                    1 => drop(client),
                    _ => drop(support::round(&mut client, b"hello").expect("an echo")),
                }
            }
            nothing_held(&server);
            until("the table is empty", || taken() == at_rest);
        }
        drop(server);
        nothing_left(&before);
    }
}

/// Echoes as `Bytes`, and keeps the last of them.
fn keeping_echo() -> impl FnMut(&mut Input<'_>, &mut Output<'_>) -> Flow {
    let mut last = Bytes::new();
    move |input, output| {
        let n = input.len();
        drop(std::mem::replace(&mut last, input.keep(n)));
        match output.send(last.clone()) {
            Ok(()) => Flow::More(1),
            Err(_) => Flow::Abort,
        }
    }
}

/// Connects, sends, receives, cuts, until told to stop; whatever fails is what a stopping server does.
fn disturb(to: SocketAddr, seed: u64, stop: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let chunk = vec![7; 64 * 1024];
    let mut scratch = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = std::net::TcpStream::connect(to) else { continue };
        let short = Some(Duration::from_millis(20));
        stream.set_read_timeout(short).expect("any time but zero");
        stream.set_write_timeout(short).expect("any time but zero");
        for _ in 0..random.u8(1..6) {
            if stream.write(&chunk[..random.usize(1..=chunk.len())]).is_err() {
                break;
            }
            if random.bool() && stream.read(&mut scratch).is_err() {
                break;
            }
        }
        if random.bool() {
            support::reset(stream);
        }
    }
}

/// Dropped at any moment under load: with receives armed, sends in flight, connections being made and closed.
#[test]
fn dropping_a_server_under_load_leaves_nothing() {
    let _one = one_at_a_time();
    let stops = std::env::var("CAMPANILE_TEST_STOPS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let before = taken_before();
    let mut slow = 0;
    let mut random = fastrand::Rng::with_seed(11);
    // The port stays the same: it can be bound again at once, every time.
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut accepted = 0;
    for turn in 0..stops {
        let workers = 1 + turn % 2;
        let config =
            Config { bundles: random.bool(), direct_descriptors: random.bool(), ..Config::default() };
        let server = Server::new().listen(address).workers(workers).config(config).serve(keeping_echo);
        let server = server.unwrap_or_else(|error| panic!("start {turn}: {error}"));
        address = tcp(&server);
        let stop = AtomicBool::new(false);
        let began = thread::scope(|scope| {
            for thread in 0..4 {
                let (stop, seed) = (&stop, turn as u64 * 4 + thread);
                scope.spawn(move || disturb(address, seed, stop));
            }
            thread::sleep(Duration::from_micros(random.u64(0..30_000)));
            accepted += counted(&server).accepted;
            let began = Instant::now();
            drop(server);
            stop.store(true, Ordering::Relaxed);
            began
        });
        slow += usize::from(began.elapsed() > Duration::from_secs(4));
        nothing_left(&before);
    }
    // A machine that is busy with other things may hold up one or another.
    assert!(slow <= stops / 20, "{slow} of {stops} stops took long: the kernel did not let go");
    assert!(accepted > stops as u64, "there was load: {accepted} connections");
}

/// What a stopped server had in flight beyond plain connections: outgoing ones, opening ones, files, timers.
#[test]
fn stopping_ends_errands() {
    let _one = one_at_a_time();
    let before = taken_before();
    // Takes no connection off its queue, so that those beyond the queue hang in connecting.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a free port of loopback");
    socket2::SockRef::from(&deaf).listen(0).expect("a shorter queue");
    let deaf_address = deaf.local_addr().expect("bound");
    for _ in 0..10 {
        let server = Server::new().listen("127.0.0.1:0").workers(1).serve(move || {
            on_open(move |cx: &mut Context<'_>| {
                cx.connect(Connect::to(deaf_address), support::echo);
                cx.open_file(campanile_core::OpenFile::at("/proc/self/status"));
                cx.set_timer_in(Duration::from_secs(3600));
                support::echo
            })
        });
        let server = server.expect("a free port of loopback");
        let clients: Vec<_> = (0..5).map(|_| client(tcp(&server))).collect();
        until("services have asked", || counted(&server).accepted == 5);
        drop(server);
        drop(clients);
    }
    drop(deaf);
    // `before` had no listener either.
    nothing_left(&before);
}

#[test]
fn services_are_told_that_the_server_stopped() {
    let _one = one_at_a_time();
    let (report, reasons) = mpsc::channel();
    let server = Server::new().listen("127.0.0.1:0").workers(2).serve(move || {
        let report = report.clone();
        Told(move |event, _: &mut Context<'_>| {
            if let Event::Closed(reason) = event {
                report.send(reason).expect("the test waits for it");
            }
            Flow::More(1)
        })
    });
    let server = server.expect("a free port of loopback");
    let mut clients: Vec<_> = (0..20).map(|_| client(tcp(&server))).collect();
    until("all are accepted", || counted(&server).accepted == 20);
    server.stop();
    assert_eq!(server.wait().map_err(|error| error.to_string()), Ok(()));
    assert_eq!(reasons.try_iter().collect::<Vec<_>>(), vec![Reason::ServerStopped; 20]);
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 8]).expect("an end, not a reset"), 0);
    }
}

/// Drain: idle closures finish at once, what is being answered is answered, and nobody new comes in.
#[test]
fn draining_lets_services_finish() {
    let _one = one_at_a_time();
    let before = taken_before();
    let server = Server::new().listen("127.0.0.1:0").workers(2).serve(|| support::echo);
    let server = server.expect("a free port of loopback");
    let to = tcp(&server);
    let mut idle: Vec<_> = (0..20).map(|_| client(to)).collect();
    for client in &mut idle {
        support::round(client, b"hello").expect("an echo");
    }
    let began = Instant::now();
    server.drain();
    assert_eq!(server.wait().map_err(|error| error.to_string()), Ok(()));
    for client in &mut idle {
        assert_eq!(client.read(&mut [0; 8]).expect("an end, not a reset"), 0);
    }
    // They linger until the clients have closed, and for no longer than that is configured.
    assert!(began.elapsed() < Config::default().drain_time, "{:?}", began.elapsed());
    drop(idle);
    assert!(std::net::TcpStream::connect(to).is_err(), "nobody listens");
    nothing_left(&before);
}

/// A service that is in the middle of something gets its time, and no more than that.
#[test]
fn draining_has_a_deadline() {
    let _one = one_at_a_time();
    let time = Duration::from_millis(200);
    let config = Config { drain_time: time, ..Config::default() };
    let drained = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&drained);
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(move || {
        let told = Arc::clone(&told);
        Told(move |event, _: &mut Context<'_>| {
            if let Event::Drain = event {
                told.fetch_add(1, Ordering::Relaxed);
            }
            Flow::More(1)
        })
    });
    let server = server.expect("a free port of loopback");
    let mut stubborn = client(tcp(&server));
    until("it is accepted", || counted(&server).accepted == 1);
    let began = Instant::now();
    server.drain();
    assert_eq!(server.wait().map_err(|error| error.to_string()), Ok(()));
    let took = began.elapsed();
    assert!(took >= time && took < time + LONG / 2, "{took:?}");
    assert_eq!(drained.load(Ordering::Relaxed), 1);
    assert_eq!(stubborn.read(&mut [0; 8]).expect("an end, not a reset"), 0);
}

/// A large answer that is on its way when the server drains arrives whole.
#[test]
fn draining_finishes_what_is_being_sent() {
    let _one = one_at_a_time();
    const LEN: usize = 8 << 20;
    let answer = Bytes::from(vec![7; LEN]);
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(move || {
        let answer = answer.clone();
        move |input: &mut Input<'_>, output: &mut Output<'_>| {
            input.consume_all();
            output.send(answer.clone()).expect("nothing was handed over before");
            Flow::More(1)
        }
    });
    let server = server.expect("a free port of loopback");
    let mut slow = client(tcp(&server));
    slow.write_all(b"x").expect("room in the socket");
    slow.read_exact(&mut [0; 1]).expect("the answer begins");
    server.drain();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).expect("an end, not a reset");
    assert_eq!(rest.len(), LEN - 1);
    drop(slow);
    assert_eq!(server.wait().map_err(|error| error.to_string()), Ok(()));
}

/// Whoever waits in the queue of a listener is not reset by its closing: those there is place for are served.
#[test]
fn draining_serves_those_in_the_queue() {
    let _one = one_at_a_time();
    let before = taken_before();
    for direct_descriptors in [true, false] {
        let config = Config { max_connections: 1, direct_descriptors, ..Config::default() };
        let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(|| support::echo);
        let server = server.expect("a free port of loopback");
        let to = tcp(&server);
        let mut first = client(to);
        support::round(&mut first, b"hello").expect("an echo");
        let mut queued: Vec<_> = (0..5).map(|_| client(to)).collect();
        for client in &mut queued {
            client.write_all(b"hello").expect("room in the socket");
        }
        server.drain();
        drop(first);
        for mut client in queued {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).expect("an end, not a reset");
            assert_eq!(answer, b"hello");
        }
        assert_eq!(server.wait().map_err(|error| error.to_string()), Ok(()));
        assert!(std::net::TcpStream::connect(to).is_err(), "nobody listens");
    }
    nothing_left(&before);
}

/// Whatever does not become ready leaves the server as it was, and nothing behind.
#[test]
fn a_successor_that_fails_costs_nothing() {
    let _one = one_at_a_time();
    let begin = taken_before();
    let server = Server::new().listen("127.0.0.1:0").workers(2).serve(|| support::echo);
    let server = server.expect("a free port of loopback");
    let stopper = server.stopper();
    let before = process::descriptors();
    let start = |program: &str, arguments: &[&str], within| {
        let mut command = Command::new(program);
        command.args(arguments);
        let error = stopper.start_successor(command, within).map(drop).expect_err("it is none");
        assert!(error.to_string().contains(program) && !stopper.is_draining(), "{error}");
        error
    };
    assert!(matches!(start("/nowhere/at/all", &[], LONG), HandOverError::Start { .. }));
    assert!(matches!(start("true", &[], LONG), HandOverError::Ended { .. }));
    let late = start("sleep", &["1000"], Duration::from_millis(100));
    assert!(matches!(late, HandOverError::Late { .. }), "{late}");
    assert_eq!(process::descriptors(), before);
    let mut client = client(tcp(&server));
    assert_eq!(support::round(&mut client, b"hello").expect("an echo"), b"hello");
    drop((client, stopper, server));
    nothing_left(&begin);
}

/// It is asked to end when the server drains, and made to when the server stops.
#[test]
fn a_successor_is_stopped_with_the_server_that_starts_it() {
    let _one = one_at_a_time();
    let path = std::env::temp_dir().join(format!("campanile-successor-{}", std::process::id()));
    for (trap, stop) in [("echo told >\"$0\"; exit", false), ("", true)] {
        let server = Server::new().listen("127.0.0.1:0").workers(1).serve(|| support::echo);
        let server = server.expect("a free port of loopback");
        let mut command = Command::new("sh");
        let script = format!("trap '{trap}' TERM; echo begun >\"$0\"; while :; do sleep 0.1; done");
        command.args(["-c", &script]).arg(&path);
        let stopper = server.stopper();
        let started = thread::spawn(move || stopper.start_successor(command, 10 * LONG).map(drop));
        until("it has begun", || std::fs::read(&path).is_ok_and(|text| text == b"begun\n"));
        if stop {
            server.stop();
        } else {
            server.drain();
        }
        let error = started.join().expect("no panic").expect_err("it is none");
        assert!(matches!(error, HandOverError::Stopped { .. }), "{error}");
        let last = if stop { "begun\n" } else { "told\n" };
        assert_eq!(std::fs::read_to_string(&path).expect("it wrote it"), last);
        std::fs::remove_file(&path).expect("it is ours");
        server.wait().expect("it ends");
    }
}

/// Whoever gets into the queue of a Unix listener while its workers drain is accepted; the others are refused.
#[test]
fn draining_resets_nobody_at_a_unix_socket() {
    let _one = one_at_a_time();
    let path = std::env::temp_dir().join(format!("campanile-stopping-{}", std::process::id()));
    for round in 0..20 {
        let server = Server::new().listen(Address::unix(&path)).workers(2).serve(|| support::echo);
        let server = server.expect("a folder for everybody");
        let served = AtomicU64::new(0);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        while let Ok(mut stream) = UnixStream::connect(&path) {
                            stream.set_read_timeout(Some(LONG)).expect("any time but zero");
                            match support::round(&mut stream, b"hello") {
                                Ok(_) => served.fetch_add(1, Ordering::Relaxed),
                                // An echo that drains ends in an orderly way with who has said nothing yet.
                                Err(error) if error.kind() == ErrorKind::UnexpectedEof => 0,
                                Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
                                Err(error) => return Err(error),
                            };
                        }
                        Ok::<(), io::Error>(())
                    })
                })
                .collect();
            until("there is load", || served.load(Ordering::Relaxed) > 50);
            server.drain();
            for caller in callers {
                caller.join().expect("no panic").unwrap_or_else(|error| panic!("round {round}: {error}"));
            }
        });
        server.wait().expect("it ends");
    }
}
