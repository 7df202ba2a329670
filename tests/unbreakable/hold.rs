//! Holding on: many who keep their connections, and those who do not read what they asked for.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::site::Folder;
use crate::support::common::{client, keyed, until};
use crate::{answer, answers, ask, clients, cpu_percent, own_kib, raise_descriptors, rests, start};

#[test]
fn idle_connections_cost_less_than_half_a_kibibyte() {
    raise_descriptors();
    let count = clients(2_000, 10_000) as u64;
    let site = start(&["--workers", "1", "--max-connections", "12000", "--idle-timeout", "10m"]);
    let open = |count: u64| -> Vec<TcpStream> {
        let one = |_| {
            let mut stream = client(site.address());
            assert_eq!(ask(&mut stream, "/plaintext").0, 200);
            stream
        };
        (0..count).map(one).collect()
    };
    // The first touch what is shared by all: twice as many as there are receive buffers, which take turns.
    let warm = open(600);
    let before = own_kib(&site);
    let idle = open(count - 600);
    let each = own_kib(&site).saturating_sub(before) * 1024 / (count - 600);
    let began = Instant::now();
    answers(&site);
    println!(
        "{count} idle connections: {each} bytes each; a new client is answered in {:?}",
        began.elapsed()
    );
    // Epoll is told of each descriptor, and what it said is kept.
    let allowed = if std::env::var("CAMPANILE_RING").is_ok_and(|ring| ring == "poll") { 640 } else { 512 };
    assert!(each < allowed, "{each} bytes each");
    drop((warm, idle));
}

#[test]
fn readers_that_stop_hold_little() {
    let folder = Folder::new();
    folder.file("large.bin", 10 << 20);
    let site = start(&["--workers", "1", "--root", &folder.path("")]);
    let ask_for = |stream: &mut TcpStream| {
        stream.write_all(b"GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        stream.read_exact(&mut [0; 1000]).expect("the answer begins");
    };
    let count = clients(50, 200);
    let stop = || -> Vec<TcpStream> {
        let mut stopped: Vec<TcpStream> = (0..count).map(|_| client(site.address())).collect();
        stopped.iter_mut().for_each(ask_for);
        // What each was lent is back when nothing is done any more.
        until("the server rests", || cpu_percent(&site, Duration::from_millis(200)) < 1.0);
        stopped
    };
    // The first touch the buffers for files, which all share.
    let stopped = stop();
    let open = site.descriptors();
    drop(stopped);
    until("they are gone", || site.descriptors() + count <= open);
    until("the server rests", || cpu_percent(&site, Duration::from_millis(200)) < 1.0);
    let before = own_kib(&site);
    let _stopped = stop();
    let grown = own_kib(&site).saturating_sub(before);
    let mut reader = client(site.address());
    let began = Instant::now();
    let (status, body) = ask(&mut reader, "/static/large.bin");
    println!(
        "{count} readers stopped in a file of 10 MiB: {grown} KiB more in all; another got it in {:?}",
        began.elapsed()
    );
    assert_eq!((status, body.len(), keyed::differs(10 << 20, 0, &body)), (200, 10 << 20, None));
    assert!(grown < 2 * 1024, "{grown} KiB");
}

#[test]
fn a_hundred_thousand_requests_of_who_does_not_read() {
    let site = start(&["--workers", "1"]);
    answers(&site);
    let (before, count) = (own_kib(&site), clients(20_000, 100_000));
    let stream = client(site.address());
    let (written, pad) = (AtomicU64::new(0), "x".repeat(800));
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                // Long enough for many not to fit into what the kernel holds for both.
                let request =
                    format!("GET /headers HTTP/1.1\r\nHost: a\r\nNumber: {number}\r\nX: {pad}\r\n\r\n");
                (&stream).write_all(request.as_bytes()).expect("the server reads in the end");
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut last = u64::MAX;
        until("no more is read", || {
            std::thread::sleep(Duration::from_millis(300));
            let now = written.load(Ordering::Relaxed);
            std::mem::replace(&mut last, now) == now
        });
        let percent = rests(&site);
        let grown = own_kib(&site).saturating_sub(before);
        let mut reader = BufReader::new(&stream);
        for number in 0..count {
            let (status, body) = answer(&mut reader).expect("an answer to each");
            let body = String::from_utf8(body).expect("text").to_ascii_lowercase();
            assert!(status == 200 && body.contains(&format!("number: {number}\n")), "{number}: {body}");
        }
        (last, percent, grown)
    });
    let (blocked_at, percent, grown) = seen;
    println!(
        "{count} pipelined requests: the client was stopped after {blocked_at}, {percent:.1} % of a core while it \
         did not read, {grown} KiB more; all answered in order"
    );
    // The worker's receive buffers are 4 MiB, which many bytes touch.
    assert!(grown < 5 * 1024, "{grown} KiB");
}
