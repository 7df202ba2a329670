//! Fairness: nobody takes what others need. A sender at full speed does not slow down its neighbours, hardly any
//! receive buffers still serve hundreds of clients, and a service that waits costs nothing.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use campanile_core::{Config, Context, Event, Flow, Server, ServerHandle, Service};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{Told, client, counted, keyed, nothing_held, process, tcp, until};

const NEIGHBOURS: usize = 63;
/// First bytes: what the service does with the rest.
const ECHO: u8 = b'e';
const PARK: u8 = b'p';
const PARK_LATE: u8 = b'l';
const SWALLOW: u8 = b's';

/// How much is unread when a service of [`PARK_LATE`] parks.
const LATE: usize = 100_000;

/// Echoes, or parks without reading, or reads everything: as the first byte says.
fn service() -> impl Service {
    let mut way = None;
    Told(move |event, cx: &mut Context<'_>| {
        if let Event::Closed(_) = event {
            return Flow::Wait;
        }
        if way.is_none() {
            way = cx.input.first().copied();
        }
        match way {
            None => Flow::More(1),
            Some(PARK) => Flow::Wait,
            Some(PARK_LATE) if cx.input.len() < LATE => Flow::More(1),
            Some(PARK_LATE) => Flow::Wait,
            Some(SWALLOW) => {
                cx.input.consume_all();
                Flow::More(1)
            }
            _ => support::echo(&mut cx.input, &mut cx.output),
        }
    })
}

fn start(config: Config) -> ServerHandle {
    Server::new()
        .listen("127.0.0.1:0")
        .workers(1)
        .config(config)
        .serve(service)
        .expect("a free port of loopback")
}

/// How long rounds of 63 clients took, sorted.
fn ping_pong(to: SocketAddr, rounds: usize) -> Vec<Duration> {
    let mut clients: Vec<TcpStream> = (0..NEIGHBOURS).map(|_| client(to)).collect();
    let mut times = Vec::new();
    let mut message = [0; 100];
    for turn in 0..rounds {
        let began: Vec<Instant> = clients
            .iter_mut()
            .zip(0..)
            .map(|(client, key)| {
                keyed::fill(key, turn as u64 * 100, &mut message);
                message[0] = ECHO;
                client.write_all(&message).expect("the server reads");
                Instant::now()
            })
            .collect();
        for ((client, key), began) in clients.iter_mut().zip(0..).zip(began) {
            client.read_exact(&mut message).expect("the server answers");
            times.push(began.elapsed());
            assert_eq!(keyed::differs(key, turn as u64 * 100 + 1, &message[1..]), None);
        }
    }
    times.sort_unstable();
    times
}

fn at(times: &[Duration], percent: usize) -> Duration {
    times[times.len() * percent / 100]
}

/// Sends as fast as it is taken until told to stop; counts.
fn send_at_full_speed(to: SocketAddr, way: u8, stop: &AtomicBool, sent: &AtomicU64) {
    let mut stream = client(to);
    stream.set_write_timeout(Some(Duration::from_millis(20))).expect("any time but zero");
    let mut chunk = vec![7; 256 * 1024];
    chunk[0] = way;
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&chunk) {
            Ok(n) => {
                sent.fetch_add(n as u64, Ordering::Relaxed);
                chunk[0] = 7;
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            }
        }
    }
    support::reset(stream);
}

fn beside_a_fast_sender(way: u8, bundles: bool) {
    const ROUNDS: usize = 40;
    let config = Config { bundles, ..Config::default() };
    let server = start(config.clone());
    let to = tcp(&server);
    let alone = ping_pong(to, ROUNDS);
    until("the first clients are gone", || counted(&server).connections == 0);

    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (before, beside, after) = thread::scope(|scope| {
        scope.spawn(|| send_at_full_speed(to, way, &stop, &sent));
        // Parked, its bytes fill the sockets; swallowed, they never stop.
        until("the sender is at full speed", || sent.load(Ordering::Relaxed) > 512 * 1024);
        let before = counted(&server);
        let beside = ping_pong(to, ROUNDS);
        let after = counted(&server);
        stop.store(true, Ordering::Relaxed);
        (before, beside, after)
    });
    eprintln!(
        "{} bundles {bundles}: alone p50 {:.0?} p99 {:.0?}, beside p50 {:.0?} p99 {:.0?}, {} MiB sent, carried {}",
        char::from(way),
        at(&alone, 50),
        at(&alone, 99),
        at(&beside, 50),
        at(&beside, 99),
        sent.load(Ordering::Relaxed) >> 20,
        after.carried_bytes
    );
    assert_eq!((before.no_buffers, after.no_buffers), (0, 0), "nobody finds the buffers gone");
    // Armed for a budget, and the last buffer of it is filled.
    let late = (config.receive_budget + config.receive_buffer_len) as usize;
    let unread = if way == PARK_LATE { LATE + late } else { late };
    assert!((after.carried_bytes as usize) < unread, "{after:?}");
    // A machine that does other things too is slow at any time; what would be wrong is waiting for the sender, which
    // takes as long as the test.
    let slack = if way == SWALLOW { 20 } else { 5 };
    let most = (at(&alone, 50) * slack).max(Duration::from_secs(1));
    assert!(at(&beside, 50) < most, "{:?} beside, {:?} alone", at(&beside, 50), at(&alone, 50));
    until("the neighbours are gone", || counted(&server).connections <= 1);
}

#[test]
fn a_sender_that_is_not_read_slows_nobody() {
    for bundles in [true, false] {
        beside_a_fast_sender(PARK, bundles);
        beside_a_fast_sender(PARK_LATE, bundles);
    }
}

#[test]
fn a_sender_that_is_read_leaves_buffers_to_others() {
    for bundles in [true, false] {
        beside_a_fast_sender(SWALLOW, bundles);
    }
}

/// Time the workers of this process run, and turns they make, within a while in which nothing happens.
fn idle_cost(server: &ServerHandle, workers: &[u32]) -> (Duration, u64) {
    let turns = counted(server).turns;
    let cpu = |workers: &[u32]| workers.iter().map(|&tid| process::cpu_time(tid)).sum::<Duration>();
    let before = cpu(workers);
    thread::sleep(WHILE);
    (cpu(workers) - before, counted(server).turns - turns)
}

const WHILE: Duration = Duration::from_millis(500);

/// Parked with unread input, with room, or with output that the client does not take: none of it costs anything.
#[test]
fn waiting_costs_nothing() {
    // In a process of its own, where the one worker is that of this test.
    if support::role().is_none() {
        let done = support::succeeds(support::alone("waiting_costs_nothing", "alone"));
        eprint!("{}", String::from_utf8_lossy(&done.stderr));
        return;
    }
    let server = start(Config::default());
    let workers = process::threads("campanile-");
    assert_eq!(workers.len(), 1);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // One parked at once, one later; and one that sends, but never reads what comes back.
        for way in [PARK, PARK_LATE, ECHO] {
            let (stop, sent, to) = (&stop, &sent, tcp(&server));
            scope.spawn(move || send_at_full_speed(to, way, stop, sent));
        }
        let mut last = (0, 0);
        until("all of them are stuck", || {
            thread::sleep(Duration::from_millis(100));
            let before =
                std::mem::replace(&mut last, (sent.load(Ordering::Relaxed), counted(&server).received));
            last == before && last.0 > 0
        });
        // Where the machine is busy they may only have seemed to be stuck.
        until("it costs nothing", || {
            let (cpu, turns) = idle_cost(&server, &workers);
            eprintln!("three stuck senders: {cpu:?} in {WHILE:?}, {turns} turns, {:?}", counted(&server));
            // One of the turns to be told so.
            turns <= 3 && cpu < WHILE / 100
        });
        stop.store(true, Ordering::Relaxed);
    });
}

/// 512 clients, four buffers: each gets its turn, and the receives that are armed are in proportion to what came.
#[test]
fn four_buffers_serve_everyone() {
    const CLIENTS: usize = 512;
    const LEN: usize = 1024;
    for bundles in [true, false] {
        let config = Config { receive_buffers: 4, receive_buffer_len: 4096, bundles, ..Config::default() };
        let server = start(config);
        let to = tcp(&server);
        let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| client(to)).collect();
        let (mut rounds, mut got) = (vec![0u64; CLIENTS], vec![0; CLIENTS]);
        let mut message = [0; LEN];
        let write = |client: &mut TcpStream, key: usize, round: u64, message: &mut [u8; LEN]| {
            keyed::fill(key as u64, round * LEN as u64, message);
            message[0] = ECHO;
            client.write_all(message).expect("the server reads");
        };
        for (key, client) in clients.iter_mut().enumerate() {
            client.set_nonblocking(true).expect("a socket");
            write(client, key, 0, &mut message);
        }
        let began = Instant::now();
        let time = Duration::from_millis(1_500);
        // Long enough for all to have had several turns, however slow the machine.
        while began.elapsed() < time || rounds.iter().sum::<u64>() < 20 * CLIENTS as u64 {
            let mut ready: Vec<PollFd<'_>> = clients
                .iter()
                .map(|client| PollFd::from_borrowed_fd(client.as_fd(), PollFlags::IN))
                .collect();
            poll(&mut ready, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).expect("descriptors that are open");
            let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
            for key in (0..CLIENTS).filter(|&key| ready[key]) {
                let n = clients[key].read(&mut message[..LEN - got[key]]).expect("the server answers");
                assert!(n > 0, "the server goes on");
                let from = rounds[key] * LEN as u64 + got[key] as u64;
                let skip = usize::from(got[key] == 0);
                assert_eq!(keyed::differs(key as u64, from + skip as u64, &message[skip..n]), None);
                got[key] += n;
                if got[key] == LEN {
                    got[key] = 0;
                    rounds[key] += 1;
                    write(&mut clients[key], key, rounds[key], &mut message);
                }
            }
        }
        let counters = counted(&server);
        let (least, most) = (*rounds.iter().min().expect("some"), *rounds.iter().max().expect("some"));
        let mean = rounds.iter().sum::<u64>() / CLIENTS as u64;
        let per_mib = counters.receives_armed * 1024 * 1024 / counters.received;
        eprintln!(
            "bundles {bundles}: rounds {least}..{most}, mean {mean}; {per_mib} receives armed per MiB, {counters:?}"
        );
        assert!(least > 0 && least >= mean / 4, "nobody starves: {least} of {mean} rounds");
        // A message is a KiB; a receive brings one at least, or is followed by one that does.
        assert!(
            counters.receives_armed <= 2 * counters.received / LEN as u64 + 2 * CLIENTS as u64,
            "{counters:?}"
        );
        // Each that found no buffer is served in private, once, and not armed again before.
        assert!(counters.private_receives <= counters.no_buffers, "{counters:?}");
        drop(clients);
        nothing_held(&server);
    }
}
