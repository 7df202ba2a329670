//! Memory: what passes through leaves none of it behind, and what is collected stays within its budget.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::endpoints::Answer;
use crate::site::{Site, much, program};
use crate::support::common::{client, keyed};

const MIB: u64 = 1 << 20;

/// Writes the head of an upload, and the stream of `key`. An error says that the server takes no more.
fn upload(mut to: &TcpStream, path: &str, key: u64, len: u64) -> std::io::Result<()> {
    write!(to, "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n")?;
    let (mut at, mut piece) = (0, vec![0; 256 * 1024]);
    while at < len {
        let n = (piece.len() as u64).min(len - at) as usize;
        keyed::fill(key, at, &mut piece[..n]);
        to.write_all(&piece[..n])?;
        at += n as u64;
    }
    Ok(())
}

/// The lines of a head, in lower case.
fn read_head(from: &mut impl BufRead) -> Vec<String> {
    let lines = from.lines().map(|line| line.expect("a whole head").to_ascii_lowercase());
    lines.take_while(|line| !line.is_empty()).collect()
}

/// Reads a chunked body that has to be the stream of `key`; says how long it is.
fn read_chunked(from: &mut impl BufRead, key: u64) -> u64 {
    let (mut at, mut line, mut piece) = (0, String::new(), Vec::new());
    loop {
        line.clear();
        from.read_line(&mut line).expect("a chunk");
        let len =
            usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("no length: {line:?}"));
        piece.resize(len + 2, 0);
        from.read_exact(&mut piece).expect("a whole chunk");
        assert!(piece.ends_with(b"\r\n"));
        assert_eq!(keyed::differs(key, at, &piece[..len]), None);
        if len == 0 {
            return at;
        }
        at += len as u64;
    }
}

/// Sends a stream through, reading while it writes.
fn pass(site: &Site, key: u64, len: u64) {
    let stream = client(site.address());
    thread::scope(|scope| {
        scope.spawn(|| upload(&stream, "/stream", key, len).expect("the server reads"));
        let mut reader = BufReader::with_capacity(256 * 1024, &stream);
        let head = read_head(&mut reader);
        assert_eq!(head[0], "http/1.1 200 ok");
        assert!(head.iter().any(|line| line == "transfer-encoding: chunked"), "{head:?}");
        assert_eq!(read_chunked(&mut reader, key), len);
    });
}

/// The most memory that the server had resident, in KiB, while `what` ran.
fn most_resident(site: &Site, what: impl FnOnce()) -> u64 {
    let mut most = 0;
    thread::scope(|scope| {
        // Gone when `what` is over, even by a panic.
        let (_running, is_over) = mpsc::channel::<()>();
        let most = &mut most;
        scope.spawn(move || {
            while is_over.recv_timeout(Duration::from_millis(5)) == Err(RecvTimeoutError::Timeout) {
                *most = site.resident_kib().max(*most);
            }
        });
        what();
    });
    most
}

#[test]
fn memory_does_not_grow_with_what_streams_through() {
    let site = Site::start(&["--workers", "1"]);
    pass(&site, 9, 4 * MIB);
    let warm = site.resident_kib();
    let began = Instant::now();
    let most = most_resident(&site, || pass(&site, 1, much()));
    eprintln!("{} MiB in {:?}: {warm} KiB before, at most {most}", much() / MIB, began.elapsed());
    assert!(most.saturating_sub(warm) < 8 * 1024, "{warm} KiB before, {most} KiB meanwhile");
}

#[test]
fn fifty_streams_at_once_hold_little_each() {
    let site = Site::start(&[]);
    pass(&site, 9, 4 * MIB);
    let warm = site.resident_kib();
    let began = Instant::now();
    let most = most_resident(&site, || {
        thread::scope(|scope| {
            for key in 0..50 {
                let site = &site;
                scope.spawn(move || pass(site, key, 20 * MIB));
            }
        });
    });
    eprintln!("50 of 20 MiB in {:?}: {warm} KiB before, at most {most}", began.elapsed());
    // A receive budget and its last buffer unread, and five send buffers, for each.
    assert!(most.saturating_sub(warm) < 50 * 160 + 16 * 1024, "{warm} KiB before, {most} KiB meanwhile");
}

/// Uploads without reading meanwhile, as simple clients do; then reads the answer to its end.
fn upload_then_read(site: &Site, path: &str, key: u64, len: u64) -> Answer {
    let stream = client(site.address());
    // A server that takes no more has answered why.
    let _ = upload(&stream, path, key, len);
    let mut bytes = Vec::new();
    let (mut reader, mut piece) = (&stream, vec![0; 64 * 1024]);
    loop {
        if let Some(answer) = Answer::parse(&bytes[..bytes.len().min(4096)]) {
            let length: u64 =
                answer.field("Content-Length").and_then(|len| len.parse().ok()).expect("a length");
            let head = bytes.len().min(4096) - answer.body.len();
            let rest = head as u64 + length - bytes.len() as u64;
            bytes.reserve(rest as usize);
            reader.take(rest).read_to_end(&mut bytes).expect("the answer is not cut");
            return Answer::parse(&bytes).expect("it was one before");
        }
        let n = reader.read(&mut piece).expect("the answer is not cut");
        assert!(n > 0, "no answer: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..n]);
    }
}

#[test]
fn fifty_bodies_that_are_too_long_are_told_so() {
    let site = Site::start(&[]);
    thread::scope(|scope| {
        for key in 0..50 {
            let site = &site;
            scope.spawn(move || {
                let answer = upload_then_read(site, "/echo", key, 20 * MIB);
                assert_eq!(answer.status, 413, "{answer:?}");
                assert!(answer.is_whole(), "{answer:?}");
            });
        }
    });
}

#[test]
fn fifty_bodies_at_once_share_the_memory_for_bodies() {
    let mut command = program(&["--workers", "1"]);
    // What is freed goes back to the kernel at once, and is not counted as if it were held: glibc's allocator raises
    // this bound by itself when large pieces come and go (mallopt(3)).
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    let site = Site::run(command, &["127.0.0.1:0"]);
    let warm = site.resident_kib();
    let (began, len) = (Instant::now(), 15 * MIB);
    let mut statuses = Vec::new();
    let most = most_resident(&site, || {
        statuses = thread::scope(|scope| {
            let site = &site;
            let one = move |key| {
                let answer = upload_then_read(site, "/echo", key, len);
                assert!(answer.is_whole(), "{}", answer.head);
                match answer.status {
                    200 => assert!(
                        answer.body.len() as u64 == len && keyed::differs(key, 0, &answer.body).is_none()
                    ),
                    503 => assert!(answer.field("Retry-After").is_some(), "{}", answer.head),
                    status => panic!("{status}: {}", answer.head),
                }
                answer.status
            };
            let threads: Vec<_> = (0..50).map(|key| scope.spawn(move || one(key))).collect();
            threads.into_iter().map(|thread| thread.join().expect("its answer is right")).collect()
        });
    });
    let served = statuses.iter().filter(|&&status| status == 200).count();
    eprintln!("{served} of 50 in {:?}: {warm} KiB before, at most {most} KiB", began.elapsed());
    assert!(served > 0);
    // `body_memory` and one body beyond it; and what fifty connections hold: receive buffers, unread input, send
    // buffers, and what the allocator keeps of pieces that bodies outgrew, which depends on the order of things. A
    // second copy of each body would be 79 MiB more, and no budget 750.
    let bound = (64 + 15 + 48) * 1024;
    assert!(most.saturating_sub(warm) < bound, "{warm} KiB before, {most} KiB meanwhile");
}
