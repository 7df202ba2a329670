//! A slow reader of an answer without end: the server writes no faster than it reads, and holds little.
//!
//! `CAMPANILE_HTTP_MIB` is how much is read (256); 1024 is a GiB.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use campanile::http::{self, Next};
use campanile::{Config, Server};

use support::common::{client, keyed, nothing_held, process, tcp};

const MIB: u64 = 1 << 20;

/// What the kernel may hold of what was written: the buffers of both sockets.
const IN_FLIGHT: u64 = 16 * MIB;

/// A server whose one answer is the stream of a key, which is counted as it is written.
fn start(len: u64, written: &Arc<AtomicU64>) -> campanile::ServerHandle {
    let written = Arc::clone(written);
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(Config::default());
    let make = move || {
        let written = Arc::clone(&written);
        http::handler(move |_, response| {
            let (written, mut at, mut piece) = (Arc::clone(&written), 0, Vec::new());
            response.status(200).stream(move |exchange| {
                let n = (exchange.room() as u64).min(len - at);
                piece.resize(n as usize, 0);
                keyed::fill(7, at, &mut piece);
                exchange.write(&piece)?;
                at += n;
                written.store(at, Ordering::Relaxed);
                Ok(if at < len { Next::Room } else { Next::Done })
            })
        })
    };
    http::serve(server, http::Config::default(), make).expect("a server")
}

/// The next chunk, into `piece`; empty at the end.
fn read_chunk(from: &mut impl BufRead, piece: &mut Vec<u8>) {
    let mut line = String::new();
    from.read_line(&mut line).expect("a chunk");
    let len = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("no length: {line:?}"));
    piece.resize(len + 2, 0);
    from.read_exact(piece).expect("a whole chunk");
    assert!(piece.ends_with(b"\r\n"));
    piece.truncate(len);
}

#[test]
fn a_reader_that_pauses_is_waited_for_in_little_memory() {
    let mib = std::env::var("CAMPANILE_HTTP_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(256);
    let (len, written) = (mib * MIB, Arc::new(AtomicU64::new(0)));
    let server = start(len, &written);
    let mut stream = client(tcp(&server));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a head");
    }
    let (mut at, mut piece, mut warm, mut most) = (0, Vec::new(), 0, 0);
    loop {
        // A burst is read, and then nothing while the server fills whatever there is to fill.
        let burst = at + 4 * MIB;
        while at < burst {
            read_chunk(&mut reader, &mut piece);
            assert_eq!(keyed::differs(7, at, &piece), None);
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
        }
        if piece.is_empty() {
            break;
        }
        let ahead = written.load(Ordering::Relaxed) - at;
        assert!(ahead < IN_FLIGHT, "{ahead} bytes were written ahead of the reader");
        thread::sleep(Duration::from_millis(5));
        let resident = process::resident_kib(std::process::id(), "VmRSS");
        // The first bursts set everything up.
        warm = if at <= 16 * MIB { resident } else { warm };
        most = most.max(resident);
    }
    assert_eq!(at, len);
    eprintln!("{mib} MiB to a slow reader: {warm} KiB before, at most {most} KiB");
    assert!(most.saturating_sub(warm) < 8 * 1024, "{warm} KiB before, {most} KiB meanwhile");
    drop(reader);
    nothing_held(&server);
}
