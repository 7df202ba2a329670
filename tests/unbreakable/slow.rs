//! Slow clients: a byte now and then does not hold a connection for ever.

use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::site::{Folder, Site};
use crate::support::common::{LONG, client, until};
use crate::{answer, answers, ask, clients, raise_descriptors, start};

/// Sends `bytes` to all clients, a byte each by turns, and goes on until the server has closed all. What each was told,
/// and when its connection was closed.
fn trickle(streams: &[TcpStream], bytes: &[u8], pause: Duration) -> Vec<(Vec<u8>, Duration)> {
    let began = Instant::now();
    let mut told: Vec<(Vec<u8>, Option<Duration>)> = streams.iter().map(|_| (Vec::new(), None)).collect();
    streams.iter().for_each(|stream| stream.set_nonblocking(true).expect("a socket"));
    for round in 0.. {
        let byte = bytes[round % bytes.len()];
        for (mut stream, (told, ended)) in streams.iter().zip(&mut told).filter(|(_, told)| told.1.is_none())
        {
            let _ = stream.write(&[byte]);
            let mut piece = [0; 4096];
            match stream.read(&mut piece) {
                Ok(0) => *ended = Some(began.elapsed()),
                Ok(n) => told.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => *ended = Some(began.elapsed()),
            }
        }
        if told.iter().all(|(_, ended)| ended.is_some()) {
            break;
        }
        assert!(began.elapsed() < LONG, "not all are closed");
        std::thread::sleep(pause);
    }
    told.into_iter().map(|(told, ended)| (told, ended.expect("all have ended"))).collect()
}

/// Opens so many connections, and sends `first` on each.
fn open(site: &Site, count: usize, first: &str) -> Vec<TcpStream> {
    let one = |_| {
        let mut stream = client(site.address());
        stream.write_all(first.as_bytes()).expect("it reads");
        stream
    };
    (0..count).map(one).collect()
}

fn is_408(told: &[u8]) -> bool {
    matches!(answer(&mut BufReader::new(told)), Some((408, _)))
}

#[test]
fn heads_that_trickle_in_have_a_deadline() {
    raise_descriptors();
    let count = clients(100, 500);
    let site = start(&["--workers", "1", "--header-timeout", "2s"]);
    // Every other has asked before, and sends its second head so. It asks at once: the first has a deadline, too.
    let streams: Vec<_> = (0..count)
        .map(|number| {
            let mut stream = client(site.address());
            if number % 2 == 0 {
                assert_eq!(ask(&mut stream, "/plaintext").0, 200);
            }
            stream
        })
        .collect();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nLong: {}", "x".repeat(10_000));
    let told = trickle(&streams, head.as_bytes(), Duration::from_millis(100));
    let whole = told.iter().filter(|(told, _)| is_408(told)).count();
    let (first, last) = (told.iter().map(|told| told.1).min(), told.iter().map(|told| told.1).max());
    println!(
        "{count} heads a byte at a time: {whole} answered 408, closed after {:?} to {:?} (2 s are allowed)",
        first.expect("some"),
        last.expect("some")
    );
    assert_eq!(whole, count);
    answers(&site);
}

#[test]
fn bodies_that_trickle_in_have_a_least_rate() {
    raise_descriptors();
    let count = clients(100, 500);
    let site = start(&["--workers", "1", "--body-timeout", "2s"]);
    let streams = open(&site, count, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    let told = trickle(&streams, b"x", Duration::from_millis(100));
    let whole = told.iter().filter(|(told, _)| is_408(told)).count();
    let last = told.iter().map(|told| told.1).max();
    println!(
        "{count} bodies of 10 bytes a second: {whole} answered 408, all closed after {:?}",
        last.expect("some")
    );
    assert_eq!(whole, count);
    answers(&site);
}

#[test]
fn readers_that_stop_are_closed_in_time() {
    let folder = Folder::new();
    folder.file("large.bin", 10 << 20);
    let site = start(&["--workers", "1", "--root", &folder.path(""), "--send-timeout", "2s"]);
    answers(&site);
    let (count, idle) = (clients(50, 200), site.descriptors());
    let began = Instant::now();
    let stopped = open(&site, count, "GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    // Nobody is in the queue any more.
    stopped.iter().for_each(|mut stream| stream.read_exact(&mut [0; 100]).expect("the answer begins"));
    // The file itself may stay open for the next who asks.
    until("all are closed", || site.descriptors() <= idle + 1);
    println!("{count} readers that stopped: all closed after {:?} (2 s are allowed)", began.elapsed());
    for stream in stopped {
        let told = BufReader::new(&stream).bytes().map_while(Result::ok).count();
        assert!(told < 10 << 20, "it had all there was");
    }
    answers(&site);
}
