//! Chaos: garbage, resets at any moment and very many short connections leave nothing behind.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::site::{Folder, Site};
use crate::support::common::{LONG, reset, until};
use crate::{answer, answers, clients, own_kib, start};

/// Numbers that only depend on where they begin (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Requests that are right, to be spoilt.
const REQUESTS: [&[u8]; 6] = [
    b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789",
    b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n",
    b"GET /chunked HTTP/1.1\r\nHost: a\r\n\r\nGET /headers HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
];

/// What one connection sends: noise, or requests with some bytes changed or missing.
fn spoilt(random: &mut Random) -> Vec<u8> {
    if random.below(4) == 0 {
        return (0..random.below(300)).map(|_| random.next() as u8).collect();
    }
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        bytes.extend_from_slice(REQUESTS[random.below(REQUESTS.len())]);
    }
    for _ in 0..random.below(4) {
        let at = random.below(bytes.len());
        bytes[at] = random.next() as u8;
    }
    if random.below(3) == 0 {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}

/// One connection of somebody who means no good; the status of the last answer, if one was read.
fn trouble(to: SocketAddr, random: &mut Random) -> Option<u16> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(LONG)).expect("any time but zero");
    let bytes = spoilt(random);
    let (first, rest) = bytes.split_at(random.below(bytes.len() + 1));
    let _ = stream.write_all(first);
    if random.below(8) == 0 {
        reset(stream);
        return None;
    }
    let _ = stream.write_all(rest);
    match random.below(4) {
        0 => reset(stream),
        1 => drop(stream),
        2 => {
            // There may be nothing to wait for.
            stream.set_read_timeout(Some(Duration::from_millis(5))).expect("any time but zero");
            let _ = stream.read(&mut [0; 100]);
            reset(stream);
        }
        _ => {
            let _ = stream.shutdown(Shutdown::Write);
            let mut told = Vec::new();
            let _ = stream.take(1 << 20).read_to_end(&mut told);
            return told.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        }
    }
    None
}

/// One request on a connection of its own; who closes first is left to chance.
fn short(to: SocketAddr, random: &mut Random) {
    // Ports of the client can be scarce for a moment: then this one did not happen.
    let Ok(mut stream) = TcpStream::connect(to) else { return };
    stream.set_read_timeout(Some(LONG)).expect("any time but zero");
    let last = random.below(2) == 0;
    let closes = if last { "Connection: close\r\n" } else { "" };
    write!(stream, "GET /plaintext HTTP/1.1\r\nHost: a\r\n{closes}\r\n").expect("the server reads");
    let told = answer(&mut BufReader::new(&stream));
    assert_eq!(told, Some((200, b"Hello, World!".to_vec())));
}

/// Does something so often, by four at a time.
fn often(times: usize, seed: u64, act: impl Fn(&mut Random) + Sync) {
    let left = AtomicU64::new(times as u64);
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (act, take) = (&act, &take);
            scope.spawn(move || {
                let mut random = Random(seed ^ (thread << 32));
                while take() {
                    act(&mut random);
                }
            });
        }
    });
}

/// Descriptors of the one file that is asked for: each worker keeps it open for a while (`Files::idle`).
fn kept() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Checks that the server has come to rest, and has what it had.
fn leaves_nothing(site: &Site, descriptors: usize, memory: u64) -> u64 {
    until("every descriptor is closed", || site.descriptors() <= descriptors);
    answers(site);
    assert!(!site.said().contains("panicked"), "{}", site.said());
    own_kib(site).saturating_sub(memory)
}

#[test]
fn garbage_and_resets_leave_nothing_behind() {
    let folder = Folder::new();
    folder.file("large.bin", 1 << 20);
    let site = start(&["--root", &folder.path("")]);
    let count = clients(4_000, 20_000);
    let (to, idle) = (site.address(), site.descriptors() + kept());
    often(1_000, 1, |random| _ = trouble(to, random));
    leaves_nothing(&site, idle, 0);
    let before = own_kib(&site);
    let answered = AtomicU64::new(0);
    often(count, 2, |random| {
        let Some(status) = trouble(to, random) else { return };
        answered.fetch_add(1, Ordering::Relaxed);
        assert!(status < 500 || matches!(status, 501 | 505), "{status}");
    });
    let grown = leaves_nothing(&site, idle, before);
    println!(
        "{count} connections of garbage and resets: {} answered, none by a 5xx but 501 and 505; no descriptor more, \
         {grown} KiB more",
        answered.into_inner()
    );
    assert!(grown < 8 * 1024, "{grown} KiB");
    site.stop();
}

#[test]
fn short_connections_leave_nothing_behind() {
    let site = start(&[]);
    let count = clients(10_000, 200_000);
    let (to, idle) = (site.address(), site.descriptors());
    often(1_000, 3, |random| short(to, random));
    leaves_nothing(&site, idle, 0);
    let (before, began) = (own_kib(&site), Instant::now());
    often(count, 4, |random| short(to, random));
    let took = began.elapsed();
    let grown = leaves_nothing(&site, idle, before);
    println!("{count} short connections in {took:?}: no descriptor more, {grown} KiB more");
    assert!(grown < 2 * 1024, "{grown} KiB");
    site.stop();
}

/// Everything at once, for as long as `CAMPANILE_SOAK` says, in seconds.
#[test]
fn soak() {
    let seconds = std::env::var("CAMPANILE_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = Folder::new();
    folder.file("large.bin", 1 << 20);
    let site = start(&["--root", &folder.path("")]);
    let (to, idle) = (site.address(), site.descriptors() + kept());
    let round = |seed| {
        often(2_000, seed, |random| match random.below(3) {
            0 => _ = trouble(to, random),
            _ => short(to, random),
        });
    };
    (0..5).for_each(round);
    leaves_nothing(&site, idle, 0);
    let (warm, began) = (own_kib(&site), Instant::now());
    let mut rounds = 5;
    while began.elapsed() < Duration::from_secs(seconds) {
        round(rounds);
        rounds += 1;
        if rounds % 10 == 0 {
            println!("{:?}: {} KiB, {} descriptors", began.elapsed(), own_kib(&site), site.descriptors());
        }
    }
    let grown = leaves_nothing(&site, idle, warm);
    println!("{} connections in {seconds} s: no descriptor more, {grown} KiB more", 2_000 * rounds);
    assert!(grown < 8 * 1024, "{grown} KiB");
    site.stop();
}
