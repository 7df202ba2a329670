//! Large files: to readers that stop, to readers that trickle, and through layers, all byte by byte.
//!
//! `CAMPANILE_FILES_MIB` is how long the longest is (256); 1024 is a GiB.

#![allow(clippy::print_stdout)] // It says how it went.

mod support;

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use campanile::{Config, Server, ServerHandle};
use socket2::{Domain, Socket, Type};

use support::common::{LONG, alone, keyed, process, role, succeeds, tcp, until};
use support::web::{Browser, Site, mount_with, request, service};
use support::wire::Wire;
use support::{layered, tiny};

const LEN: usize = 10 << 20;

fn keyed_bytes(key: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    keyed::fill(key, 0, &mut bytes);
    bytes
}

/// A client with a small receive buffer, which has asked for the file and read the head.
fn asks(to: SocketAddr, target: &str) -> Browser {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(8 * 1024).expect("any size will do");
    socket.connect(&to.into()).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).expect("any time but zero");
    let mut browser = Browser { reader: std::io::BufReader::with_capacity(1024, stream) };
    browser.send(request("GET", target, &[]));
    browser
}

/// Reads the rest of an answer to its end.
fn reads(browser: &mut Browser, key: u64, len: usize) {
    let (mut at, mut piece) = (0, vec![0; 64 * 1024]);
    while at < len {
        let room = piece.len().min(len - at);
        let n = browser.reader.read(&mut piece[..room]).expect("the server writes");
        assert!(n > 0, "the end after {at} of {len} bytes");
        assert_eq!(keyed::differs(key, at as u64, &piece[..n]), None);
        at += n;
    }
}

fn unsent(server: &ServerHandle) -> u64 {
    server.counters().iter().map(|worker| worker.unsent_bytes).sum()
}

fn returned(server: &ServerHandle) -> u64 {
    server.counters().iter().map(|worker| worker.returned).sum()
}

#[test]
fn readers_that_stop_hold_nothing_and_miss_nothing() {
    if role().is_none() {
        succeeds(alone("readers_that_stop_hold_nothing_and_miss_nothing", "server"));
        return;
    }
    const READERS: usize = 200;
    let site = Site::new();
    site.write("a", keyed_bytes(1, LEN));
    let config = Config { lend_time: Duration::from_millis(100), ..Config::default() };
    let (server, address) = mount_with(config, "/", site.files());
    let stalls = |count: usize| -> Vec<Browser> {
        let before = returned(&server);
        let mut readers: Vec<_> = (0..count).map(|_| asks(address, "/a")).collect();
        for reader in &mut readers {
            assert_eq!(reader.head().expect("a head").value("Content-Length"), LEN.to_string());
        }
        until("all of it came back", || returned(&server) > before && unsent(&server) == 0);
        readers
    };
    let reading_time = || {
        let began = Instant::now();
        let mut browser = Browser::connect(address);
        browser.send(request("GET", "/a", &[]));
        browser.head().expect("a head");
        reads(&mut browser, 1, LEN);
        began.elapsed()
    };
    // As many as use up all buffers for files: from now on they are there.
    drop(stalls(READERS));
    until("they are gone", || server.counters()[0].connections == 0);
    let alone = (0..3).map(|_| reading_time()).min().expect("three of them");
    let before = process::resident_kib(std::process::id(), "RssAnon");
    let mut readers = stalls(READERS);
    let growth = process::resident_kib(std::process::id(), "RssAnon").saturating_sub(before);
    println!("{READERS} readers that stopped: {growth} KiB");
    assert!(growth < 2048, "{growth} KiB for {READERS} readers that stopped");
    let among = (0..3).map(|_| reading_time()).min().expect("three of them");
    println!("another reads {LEN} bytes in {among:?}; {alone:?} before");
    // What would be wrong is waiting for those who stopped, who go on only when this is over.
    assert!(among < LONG / 2, "{among:?}, and {alone:?} alone");
    // Nobody works for readers that do not read.
    let workers = process::threads("campanile");
    let cpu = || workers.iter().map(|tid| process::cpu_time(*tid)).sum::<Duration>();
    until("it comes to rest", || {
        let before = cpu();
        thread::sleep(Duration::from_millis(200));
        cpu() - before < Duration::from_millis(4)
    });
    thread::scope(|scope| {
        for part in readers.chunks_mut(50) {
            scope.spawn(|| part.iter_mut().for_each(|reader| reads(reader, 1, LEN)));
        }
    });
    // And the connections go on.
    for reader in &mut readers {
        assert_eq!(reader.ask("OPTIONS", "*", &[]).status, 204);
    }
}

#[test]
fn slow_readers_slow_nobody_else() {
    const READERS: usize = 300;
    let site = Site::new();
    site.write("a", keyed_bytes(1, LEN));
    (0..10).for_each(|number| drop(site.write(&format!("{number}"), "short")));
    // Less than the kernel gives them, so that they are full soon: what counts is what comes after.
    let config = Config { socket_send_buffer: Some(256 * 1024), ..Config::default() };
    let (server, address) = mount_with(config, "/", site.files());
    let mut readers: Vec<_> = (0..READERS).map(|_| asks(address, "/a")).collect();
    readers.iter().for_each(|reader| reader.reader.get_ref().set_nonblocking(true).expect("a socket"));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // Whoever has nothing to read is asked again.
                readers.iter_mut().for_each(|reader| drop(reader.reader.read(&mut [0; 500])));
                thread::sleep(Duration::from_millis(50));
            }
        });
        for number in 0..10 {
            let began = Instant::now();
            let mut browser = Browser::connect(address);
            assert_eq!(browser.ask("GET", &format!("/{number}"), &[]).body, b"short");
            let short = began.elapsed();
            browser.send(request("GET", "/a", &[]));
            browser.head().expect("a head");
            reads(&mut browser, 1, LEN);
            let long = began.elapsed() - short;
            println!("among {READERS} slow readers: {short:?} for a short file, {long:?} for a long one");
            // What would be wrong is waiting for the slow ones, who are not done when the test is.
            if short.max(long) > LONG / 2 {
                is_over.store(true, Ordering::Relaxed);
                panic!("{short:?} for a short file, {long:?} for a long one");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    until("slow readers were slow", || returned(&server) > 0);
}

#[test]
fn readers_that_stop_again_and_again_get_every_byte_in_order() {
    let site = Site::new();
    site.write("a", keyed_bytes(2, LEN));
    let config = Config { lend_time: Duration::from_millis(5), ..Config::default() };
    let (server, address) = mount_with(config, "/", site.files());
    let targets: [&[&str]; 2] = [&[], &["Range: bytes=5-2000004,3000000-5999999,6000001-6000001,-4000000"]];
    thread::scope(|scope| {
        for (number, fields) in targets.iter().cycle().take(8).enumerate() {
            scope.spawn(move || {
                let mut browser = asks(address, "/none");
                assert_eq!(browser.answer(false).status, 404);
                browser.send(request("GET", "/a", fields) + &request("OPTIONS", "*", &[]));
                let mut answer = browser.head().expect("a head");
                let len: usize = answer.value("Content-Length").parse().expect("a length");
                let mut random = fastrand::Rng::with_seed(number as u64);
                while answer.body.len() < len {
                    let at = answer.body.len();
                    let n = random.usize(1..600_000).min(len - at);
                    answer.body.resize(at + n, 0);
                    browser.reader.read_exact(&mut answer.body[at..]).expect("the server writes");
                    thread::sleep(Duration::from_millis(random.u64(0..30)));
                }
                assert_eq!(browser.answer(false).status, 204);
                if fields.is_empty() {
                    assert_eq!(keyed::differs(2, 0, &answer.body), None);
                    return;
                }
                let parts = answer.parts();
                assert_eq!(parts.len(), 4);
                for (range, bytes) in parts {
                    let (first, _) = support::web::bounds(&range);
                    assert_eq!(keyed::differs(2, first, &bytes), None, "{range}");
                }
            });
        }
    });
    assert!(returned(&server) > 0, "no reader was slow enough");
}

#[test]
fn a_server_that_stops_sends_what_it_began() {
    let site = Site::new();
    site.write("a", keyed_bytes(4, LEN));
    let config = Config { lend_time: Duration::from_millis(5), ..Config::default() };
    let (server, address) = mount_with(config, "/", site.files());
    let mut readers: Vec<_> = (0..4).map(|_| asks(address, "/a")).collect();
    readers.iter_mut().for_each(|reader| drop(reader.head().expect("a head")));
    until("what they do not read came back", || returned(&server) > 0 && unsent(&server) == 0);
    server.drain();
    readers.iter_mut().for_each(|reader| reads(reader, 4, LEN));
    for reader in &mut readers {
        assert_eq!(reader.reader.read(&mut [0]).expect("an orderly end"), 0);
    }
    server.wait().expect("it ends");
}

#[test]
fn layers_and_the_smallest_memory_change_no_byte() {
    let site = Site::new();
    let bytes = keyed_bytes(6, 700_000);
    site.write("large", &bytes);
    site.write("small", &bytes[..30_000]);
    for (depth, is_tight, config) in [(1, false, Config::default()), (2, true, tiny()), (3, false, tiny())] {
        let files = site.files();
        let server = Server::new().listen("127.0.0.1:0").workers(1).config(config);
        let server =
            server.serve(move || layered(depth, is_tight, service(files.clone()))).expect("a server");
        let mut wire = Wire::connect(tcp(&server), depth, 1000);
        for turn in 0..2 {
            let ranges = ["Range: bytes=1-50000,60000-699998"];
            wire.send((request("GET", "/large", &[]) + &request("HEAD", "/large", &[])).as_bytes());
            wire.send((request("GET", "/small", &[]) + &request("GET", "/large", &ranges)).as_bytes());
            let mut inward: &mut dyn Read = &mut *wire.inward;
            let mut browser = Browser::over(Read::by_ref(&mut inward));
            assert!(browser.answer(false).body == bytes, "{depth}, {turn}");
            assert_eq!(browser.answer(true).value("Content-Length"), "700000");
            assert!(browser.answer(false).body == bytes[..30_000], "{depth}, {turn}");
            let parts = browser.answer(false).parts();
            assert!(
                parts[0].1 == bytes[1..=50_000] && parts[1].1 == bytes[60_000..=699_998],
                "{depth}, {turn}"
            );
        }
    }
}

#[test]
fn parts_of_a_file_in_memory_are_not_copied() {
    if role().is_none() {
        succeeds(alone("parts_of_a_file_in_memory_are_not_copied", "server"));
        return;
    }
    let site = Site::new();
    site.write("a", keyed_bytes(1, 64 * 1024));
    let (server, address) = mount_with(Config::default(), "/", site.files());
    let ask = request("GET", "/a", &["Range: bytes=0-30000,30002-65535"]);
    let mut browser = Browser::connect(address);
    let written = Instant::now();
    until("it was left alone for long enough to be kept", || written.elapsed() > Duration::from_millis(1500));
    assert_eq!(browser.get("/a", &[]).status, 200);
    let before = process::resident_kib(std::process::id(), "RssAnon");
    let mut readers: Vec<_> = (0..20).map(|_| asks(address, "/a")).collect();
    readers.iter_mut().for_each(|reader| reader.send(ask.repeat(99)));
    // All of them are full when nothing changes any more.
    let (mut last, mut still) = (unsent(&server), Instant::now());
    until("nobody is sent any more", || {
        let now = unsent(&server);
        if now != last || now == 0 {
            (last, still) = (now, Instant::now());
        }
        still.elapsed() > Duration::from_millis(300)
    });
    let growth = process::resident_kib(std::process::id(), "RssAnon").saturating_sub(before);
    assert!(growth < 6 * 1024, "{growth} KiB");
    for reader in &mut readers {
        assert_eq!(reader.answer(false).body.len(), 64 * 1024);
        for _ in 0..99 {
            let parts = reader.answer(false).parts();
            assert_eq!(keyed::differs(1, 0, &parts[0].1), None);
            assert_eq!(keyed::differs(1, 30_002, &parts[1].1), None);
        }
    }
}

#[test]
fn a_file_longer_than_memory_takes_little_of_it() {
    if role().is_none() {
        let done = succeeds(alone("a_file_longer_than_memory_takes_little_of_it", "server"));
        print!("{}", String::from_utf8_lossy(&done.stdout));
        return;
    }
    let mib = std::env::var("CAMPANILE_FILES_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(256);
    let len: u64 = mib << 20;
    let site = Site::new();
    let file = File::create(site.path("a")).expect("a file");
    file.set_len(len).expect("a sparse one");
    let marks: Vec<u64> = (0..len).step_by(1 << 20).collect();
    marks.iter().for_each(|at| file.write_all_at(&at.to_le_bytes(), *at).expect("it is ours"));
    let (_server, address) = mount_with(Config::default(), "/", site.files());
    let read = |ranges: &[&str], from: u64, to: u64| {
        let mut browser = Browser::connect(address);
        browser.send(request("GET", "/a", ranges));
        browser.head().expect("a head");
        let mut piece = vec![0; 1 << 20];
        for at in (from..to).step_by(1 << 20) {
            browser.reader.read_exact(&mut piece).expect("all of it");
            assert_eq!(piece[..8], at.to_le_bytes());
            assert!(piece[8..].iter().all(|byte| *byte == 0), "after {at}");
        }
    };
    // Everything is set up by then.
    read(&["Range: bytes=0-16777215"], 0, 16 << 20);
    let before = process::resident_kib(std::process::id(), "RssAnon");
    let began = Instant::now();
    read(&[], 0, len);
    let growth = process::resident_kib(std::process::id(), "RssAnon").saturating_sub(before);
    println!("{mib} MiB in {:?}: {growth} KiB more", began.elapsed());
    assert!(growth < 8 * 1024, "{growth} KiB");
}
