//! Framed, over sockets: every codec, answers that do not fit, errors, ends, and clients that do not read.

#![allow(clippy::print_stdout)] // It says how it went.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use campanile::{
    ByteOrder, Bytes, Codec, Config, Decoded, Encoder, LengthDelimited, LengthWidth, LineError, Lines, Reply,
    Service, Then, framed,
};

use support::common::{client, counted, nothing_held, until};
use support::{layered, serve, tiny};

/// What a server answers to `request`, up to the end; plain and under layers, sent in pieces of several lengths.
fn answers<S: Service + 'static>(
    make: impl Fn() -> S + Clone + Send + Sync + 'static,
    request: &[u8],
    answer: &[u8],
) {
    for (depth, is_tight) in [(0, false), (0, true), (1, false), (2, true)] {
        let make = make.clone();
        let config = if is_tight { tiny() } else { Config::default() };
        let (server, address) = serve(config, move || layered(depth, is_tight, make()));
        for piece in [1, 7, request.len().max(1)] {
            let mut wire = support::wire::Wire::connect(address, depth, 1000);
            request.chunks(piece).for_each(|piece| wire.send(piece));
            wire.end();
            let got = wire.receive_all();
            assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(answer), "pieces of {piece}");
        }
        nothing_held(&server);
    }
}

#[test]
fn lines() {
    let shout = || {
        framed(Lines::new(20), |line: &[u8], reply: &mut Reply<'_, '_>| {
            reply.write_line(line.to_ascii_uppercase())
        })
    };
    answers(shout, b"", b"");
    answers(shout, b"one\ntwo\r\n\n\nthree\n", b"ONE\nTWO\n\n\nTHREE\n");
    answers(shout, b"the last\nhas no end", b"THE LAST\nHAS NO END\n");
    answers(shout, b"a carriage return\r", b"A CARRIAGE RETURN\r\n");
}

#[test]
fn lines_that_are_too_long() {
    let shout = || {
        framed(Lines::new(5), |line: &[u8], reply: &mut Reply<'_, '_>| reply.write_line(line)).on_error(
            |error: LineError, reply: &mut Reply<'_, '_>| {
                let _ = reply.write_line(format!("ERROR {error}"));
            },
        )
    };
    let error = format!("fine\nERROR {}\n", LineError::TooLong { max_length: 5 });
    answers(shout, b"fine\ntoo long\nnever read\n", error.as_bytes());
    answers(shout, b"fine\ntoo long, and no end", error.as_bytes());
    let silent = || framed(Lines::new(5), |line: &[u8], reply: &mut Reply<'_, '_>| reply.write_line(line));
    answers(silent, b"fine\ntoo long\n", b"fine\n");
}

#[test]
fn length_delimited() {
    for width in [LengthWidth::One, LengthWidth::Two, LengthWidth::Four, LengthWidth::Eight] {
        for order in [ByteOrder::BigEndian, ByteOrder::LittleEndian] {
            let codec = LengthDelimited::new(width, order, 200);
            let mut encoded = Vec::new();
            for len in [0, 1, 200, 7] {
                codec.clone().encode(&vec![b'x'; len][..], &mut encoded).expect("short enough");
            }
            let same = move || {
                let mut encoder = codec.clone();
                framed(codec.clone(), move |frame: &[u8], reply: &mut Reply<'_, '_>| {
                    encoder.encode(frame, reply).expect("200 bytes are less than is promised");
                })
            };
            answers(same, &encoded, &encoded);
        }
    }
}

#[test]
fn frames_that_are_no_frames() {
    let codec = || LengthDelimited::new(LengthWidth::Two, ByteOrder::BigEndian, 10);
    let service = move || {
        framed(codec(), |frame: &[u8], reply: &mut Reply<'_, '_>| reply.write(frame)).on_error(
            |error, reply: &mut Reply<'_, '_>| {
                let _ = reply.write(format!("[{error}]"));
            },
        )
    };
    answers(service, b"\0\x02ab\0\x0babcdefghijk", b"ab[frame of 11 bytes is longer than 10 bytes]");
    answers(service, b"\0\x02ab\0\x05abc", b"ab[input ended inside a frame, at least 2 bytes short]");
    answers(service, b"\0\x02ab\0", b"ab[input ended inside a frame, at least 1 bytes short]");
}

/// A codec of one's own: numbers in decimal, each ended by a comma.
struct Numbers;

#[derive(Debug)]
struct NoNumber;

impl std::fmt::Display for NoNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no number")
    }
}

impl std::error::Error for NoNumber {}

impl Codec for Numbers {
    type Frame<'a> = usize;
    type Error = NoNumber;

    fn decode(&mut self, input: &[u8]) -> Result<Decoded<usize>, NoNumber> {
        let Some(comma) = input.iter().position(|&byte| byte == b',') else {
            return if input.len() > 9 { Err(NoNumber) } else { Ok(Decoded::More { at_least: 1 }) };
        };
        let number = std::str::from_utf8(&input[..comma]).ok().and_then(|number| number.parse().ok());
        Ok(Decoded::Frame { frame: number.ok_or(NoNumber)?, consumed: comma + 1 })
    }

    fn decode_end(&mut self, input: &[u8]) -> Result<Option<(usize, usize)>, NoNumber> {
        if input.is_empty() { Ok(None) } else { Err(NoNumber) }
    }
}

/// Answers a number by as many letters in several writes, then a dot.
fn letters(calls: &Arc<AtomicU64>) -> impl Fn() -> Box<dyn Service> + Clone + Send + Sync + 'static {
    let calls = Arc::clone(calls);
    move || {
        let calls = Arc::clone(&calls);
        Box::new(framed(Numbers, move |number: usize, reply: &mut Reply<'_, '_>| {
            calls.fetch_add(1, Ordering::Relaxed);
            let letter = [b'a' + (number % 26) as u8];
            for _ in 0..number / 1000 {
                reply.write(letter.repeat(1000))?;
            }
            reply.write(letter.repeat(number % 1000))?;
            reply.write(b".")
        }))
    }
}

#[test]
fn an_answer_that_does_not_fit_now_is_written_when_it_does_and_nothing_twice() {
    let calls = Arc::new(AtomicU64::new(0));
    let numbers: Vec<usize> = (0..3000).map(|i| i * 7919 % 16_000).collect();
    let request: String = numbers.iter().map(|number| format!("{number},")).collect();
    for depth in 0..=2 {
        let make = letters(&calls);
        let (_server, address) = serve(Config::default(), move || layered(depth, false, make()));
        let support::wire::Wire { mut out, mut inward, .. } =
            support::wire::Wire::connect(address, depth, 5000);
        let request = request.clone();
        let writer = thread::spawn(move || {
            out.write_all(request.as_bytes()).expect("the server reads");
            out.end().expect("the server is there");
        });
        for &number in &numbers {
            let mut answer = vec![0; number + 1];
            inward.read_exact(&mut answer).expect("the server answers");
            let letter = b'a' + (number % 26) as u8;
            assert!(
                answer[..number].iter().all(|&byte| byte == letter) && answer[number] == b'.',
                "{number}"
            );
        }
        assert_eq!(inward.read(&mut [0]).expect("an orderly end"), 0);
        writer.join().expect("it only writes");
        let again = calls.swap(0, Ordering::Relaxed) - numbers.len() as u64;
        assert!(again > 0, "some answer has not fitted at first");
        eprintln!("depth {depth}: {again} of {} answers were written again", numbers.len());
    }
}

/// Many writes that together are longer than the room there can ever be: there is no way to send half of them.
#[test]
fn writes_longer_than_all_the_room_there_is_abort() {
    let calls = Arc::new(AtomicU64::new(0));
    for depth in 0..=1 {
        let make = letters(&calls);
        let (server, address) = serve(Config::default(), move || layered(depth, false, make()));
        let mut wire = support::wire::Wire::connect(address, depth, 5000);
        wire.send(b"5,20000,5,");
        let mut answer = Vec::new();
        let end = wire.inward.read_to_end(&mut answer).expect_err("it ends by a reset");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        // The answer before it was complete, and may have got through or not; of the long one there is nothing.
        assert!(answer.is_empty() || answer == b"fffff.", "{answer:?}");
        drop(wire);
        nothing_held(&server);
    }
}

/// One write that is longer than the room there can ever be is handed over.
#[test]
fn a_write_longer_than_all_the_room_there_is_arrives() {
    let large = vec![b'z'; 20_000];
    let service = {
        let large = large.clone();
        move || {
            let large = large.clone();
            framed(Lines::new(10), move |_: &[u8], reply: &mut Reply<'_, '_>| reply.write(&large))
        }
    };
    answers_large(service, &large);
}

#[test]
fn large_answers_are_handed_over() {
    let large = Bytes::from(vec![b'z'; 300_000]);
    let service = {
        let large = large.clone();
        move || {
            let large = large.clone();
            framed(Lines::new(10), move |_: &[u8], reply: &mut Reply<'_, '_>| reply.send(large.clone()))
        }
    };
    answers_large(service, &large);
}

/// Twenty answers of `large`, more than a connection may hold at a time.
fn answers_large<S: Service + 'static>(make: impl Fn() -> S + Send + Sync + Clone + 'static, large: &[u8]) {
    for depth in 0..=1 {
        let make = make.clone();
        let (server, address) = serve(Config::default(), move || layered(depth, false, make()));
        let mut wire = support::wire::Wire::connect(address, depth, 1000);
        wire.send(&b"go\n".repeat(20));
        wire.end();
        assert!(wire.receive_all() == large.repeat(20));
        nothing_held(&server);
    }
}

#[test]
fn finish_ends_after_the_answer() {
    let service = || {
        framed(Lines::new(10), |line: &[u8], reply: &mut Reply<'_, '_>| {
            reply.write_line(line)?;
            Ok::<_, campanile::Full>(if line == b"quit" { Then::Finish } else { Then::Next })
        })
    };
    answers(service, b"one\nquit\nnever\n", b"one\nquit\n");
}

#[test]
fn drain_waits_for_the_line_that_was_begun() {
    let (server, address) = serve(Config::default(), || {
        framed(Lines::new(10), |line: &[u8], reply: &mut Reply<'_, '_>| reply.write_line(line))
    });
    let (mut busy, mut idle) = (client(address), client(address));
    busy.write_all(b"first\nbeg").expect("the server reads");
    let mut first = [0; 6];
    busy.read_exact(&mut first).expect("the server answers");
    until("both are there", || counted(&server).connections == 2);
    server.drain();
    assert_eq!(idle.read(&mut [0]).expect("an orderly end"), 0);
    busy.write_all(b"un\n").expect("the server reads");
    let mut rest = String::new();
    busy.read_to_string(&mut rest).expect("an orderly end");
    assert_eq!(rest, "begun\n");
    drop((busy, idle));
    server.wait().expect("it ends by itself");
}

#[test]
fn clients_that_do_not_read_hold_little_and_lose_nothing() {
    const LINES: usize = 400_000;
    let (server, address) = serve(Config::default(), || {
        framed(Lines::new(100), |line: &[u8], reply: &mut Reply<'_, '_>| {
            reply.write_line([line, &[b'.'; 80]].concat())
        })
    });
    let stream = client(address);
    let mut out = stream.try_clone().expect("a descriptor is left");
    let writer = thread::spawn(move || {
        let all: String = (0..LINES).map(|i| format!("{i}\n")).collect();
        out.write_all(all.as_bytes()).expect("the server reads, in the end");
        out.shutdown(Shutdown::Write).expect("it is connected");
    });
    let (mut last, mut looks) = (0, 0);
    until("the server stops reading", || {
        thread::sleep(std::time::Duration::from_millis(10));
        let now = counted(&server);
        looks = if now.received > 0 && now.received == last { looks + 1 } else { 0 };
        last = now.received;
        looks == 5
    });
    let held = counted(&server);
    assert!(held.unsent_bytes <= 5 * 16 * 1024, "{held:?}");
    assert!(held.carried_bytes <= (256 + 64 + 16) * 1024, "{held:?}");
    let mut reader = std::io::BufReader::new(stream);
    let mut line = String::new();
    for i in 0..LINES {
        line.clear();
        std::io::BufRead::read_line(&mut reader, &mut line).expect("the server answers");
        assert_eq!(line.strip_suffix(".\n").map(|line| line.trim_end_matches('.')), Some(&i.to_string()[..]));
    }
    assert_eq!(reader.read(&mut [0]).expect("an orderly end"), 0);
    writer.join().expect("it only writes");
    nothing_held(&server);
}
