//! Fuzzing without a fuzzer: every target of `fuzz/` is run with mutated seeds, the same ones each time.
//!
//! It is no match for libFuzzer, which sees what code a mutation reaches; but it runs in every test run, on any
//! toolchain. What a mutation *gives* stands in for the code it reaches: a new error, or more frames than ever, and it
//! is mutated further. `FUZZ_ROUNDS` asks for more rounds, `FUZZ_SEED` for others.

use std::collections::HashSet;
use std::env;
use std::str::FromStr;

use targets::Transcript;

mod targets;

/// Rounds per target: a few seconds, with checks on.
const ROUNDS: u64 = 150_000;
/// Inputs that are mutated further, at the most.
const MAX_CORPUS: usize = 512;
/// Longer inputs reach nothing that shorter ones do not: the limits of the targets are small.
const MAX_LEN: usize = 600;

const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"\"",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"00000000000000005\r\n",
    b"ffffffffffffffff\r\n",
    b";a=\"b\"",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content_Length: 1\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"GET / HTTP/1.1\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.0\r\n",
    b"http://a/",
    b"%0a",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 304 \r\n",
    b"\x80\xff",
];

const REQUESTS: &[&[u8]] = &[
    b"\x01GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x07POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloHEAD /a?b HTTP/1.0\r\nX: y\r\n\r\n",
    b"\x03PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nDigest: x\r\n\r\n\
      GET http://b:1/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"\x05\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
];

const RESPONSES: &[&[u8]] = &[
    b"\x02HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n",
    b"\x09HTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"\x01HTTP/1.0 200 OK\r\n\r\nup to the end",
];

const BODIES: &[&[u8]] = &[
    b"\x015\r\nhello\r\n6;a=\"b;\\\"\" ; c\r\n world\r\n000\r\nDigest: x\r\nHost: b\r\n\r\nrest",
    b"\x04a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
];

#[test]
fn http1_request() {
    let errors = run(targets::http1_request, REQUESTS, HTTP_WORDS);
    expect(
        &errors,
        &["BareLf", "Folded", "HostRepeated", "LengthAndEncoding", "TransferCoding", "ChunkSize"],
    );
}

#[test]
fn http1_response() {
    let errors = run(targets::http1_response, RESPONSES, HTTP_WORDS);
    expect(
        &errors,
        &["StatusLine", "Head(BareLf)", "Head(ContentLength)", "Head(LengthAndEncoding)", "ChunkEnd"],
    );
}

#[test]
fn http1_body() {
    let errors = run(targets::http1_body, BODIES, HTTP_WORDS);
    expect(&errors, &["ChunkSize", "ChunkExtension", "ChunkExtensionTooLong", "ChunkEnd", "Trailer"]);
}

#[test]
fn lines() {
    let seeds: &[&[u8]] = &[b"\x01one\r\ntwo\nthree", b"\x030123456789012345\r\n\r\n\n"];
    let errors = run(targets::lines, seeds, &[b"\n", b"\r\n", b"\r", b"01234567"]);
    expect(&errors, &["TooLong"]);
}

#[test]
fn length_delimited() {
    let seeds: &[&[u8]] =
        &[b"\x01\x03abc\x01d", b"\x02\x03\0abc\0\0", b"\x03\0\0\0\x03abc", b"\x05\x03\0\0\0\0\0\0\0abc"];
    let errors =
        run(targets::length_delimited, seeds, &[b"\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x2c"]);
    expect(&errors, &["Truncated", "TooLong"]);
}

/// Runs `target` with the seeds and mutations of them, and returns all the errors there were.
fn run(target: fn(&[u8]) -> Transcript, seeds: &[&[u8]], words: &[&[u8]]) -> HashSet<String> {
    let mut random = fastrand::Rng::with_seed(from_environment("FUZZ_SEED", 9112));
    let mut corpus: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let (mut shapes, mut errors) = (HashSet::new(), HashSet::new());
    for round in 0..from_environment("FUZZ_ROUNDS", ROUNDS) {
        let input = match corpus.get(round as usize) {
            Some(seed) if (round as usize) < seeds.len() => seed.clone(),
            _ => mutated(&corpus, words, &mut random),
        };
        let Transcript { frames, error } = target(&input);
        // The name of the error without its numbers.
        let error = error.map(|error| error.split(" {").next().unwrap_or_default().to_owned());
        if shapes.insert((frames.len().min(8), error.clone())) && corpus.len() < MAX_CORPUS {
            corpus.push(input);
        }
        errors.extend(error);
    }
    errors
}

fn from_environment<T: FromStr>(name: &str, otherwise: T) -> T {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// An input of the corpus after a few edits.
fn mutated(corpus: &[Vec<u8>], words: &[&[u8]], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        let end = random.usize(at..=bytes.len()).min(at + 32);
        match random.u8(..9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            1 if at < bytes.len() => bytes[at] = random.u8(..),
            2 => bytes.insert(at, random.u8(..)),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => {
                let repeated = bytes[at..end].to_vec();
                bytes.splice(at..at, repeated);
            }
            6 => {
                let other = &corpus[random.usize(..corpus.len())];
                let from = random.usize(..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = words[random.usize(..words.len())];
                let replaced = if random.bool() { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..replaced, word.iter().copied());
            }
        }
        bytes.truncate(MAX_LEN);
    }
    bytes
}

/// Fails if the mutations never led to one of these errors: then they reach too little to say anything.
fn expect(errors: &HashSet<String>, expected: &[&str]) {
    let missing: Vec<_> = expected.iter().filter(|error| !errors.contains(**error)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}, only {errors:?}");
}
