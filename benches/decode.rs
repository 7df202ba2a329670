//! How fast the codecs take bytes apart, beside others on the same bytes: `cargo bench --bench decode`.
//!
//! Every iteration says what it has to come to, so what is measured is the work, done right. Ratios within one run are
//! what counts; docs/performance.md says how to read them.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use campanile::protocol::http1::{BodyDecoder, BodyLength, BodyPart, Limits, RequestDecoder};
use campanile::{Codec, Decoded, Lines};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio_util::codec::{Decoder, LinesCodec};

const MAX_FIELDS: usize = 64;

const SMALL: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What a browser sends.
const BROWSER: &[u8] = b"GET /static/app.js?v=17 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nAccept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Dest: script\r\nReferer: https://www.example.com/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

/// As many fields as a head may have.
fn full() -> Vec<u8> {
    let mut head = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    for number in 1..MAX_FIELDS {
        head.extend_from_slice(format!("X-Field-{number:02}: the value of field {number:02}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Each head: its name, its bytes, and how many fields it has.
fn every_head() -> [(&'static str, Vec<u8>, usize); 3] {
    [("small", SMALL.to_vec(), 1), ("browser", BROWSER.to_vec(), 14), ("64 fields", full(), MAX_FIELDS)]
}

/// The fields of the head that ends where `input` does, or `None` if it has not ended.
fn fields_by_campanile(decoder: &mut RequestDecoder, input: &[u8]) -> Option<usize> {
    let found = decoder.decode(black_box(input)).expect("a valid head").into_frame();
    found.map(|(head, consumed)| {
        assert_eq!(consumed, input.len());
        head.fields().len()
    })
}

/// The same by the tokenizer alone: it checks neither the target, nor Host, nor what the fields say about the body.
fn fields_by_httparse(input: &[u8]) -> Option<usize> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(black_box(input), &mut slots).expect("a valid head") {
        httparse::Status::Complete(consumed) => {
            assert_eq!(consumed, input.len());
            Some(request.headers.len())
        }
        httparse::Status::Partial => None,
    }
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("heads");
    for (name, head, fields) in every_head() {
        group.throughput(Throughput::BytesDecimal(head.len() as u64));
        group.bench_with_input(BenchmarkId::new("campanile", name), &head, |b, head| {
            let mut decoder = RequestDecoder::new(Limits::default());
            b.iter(|| assert_eq!(fields_by_campanile(&mut decoder, head), Some(fields)));
        });
        group.bench_with_input(BenchmarkId::new("httparse", name), &head, |b, head| {
            b.iter(|| assert_eq!(fields_by_httparse(head), Some(fields)));
        });
    }
    group.finish();
}

/// A head that trickles in: the decoder is asked after every byte, as a server is.
fn heads_by_the_byte(c: &mut Criterion) {
    let mut group = c.benchmark_group("heads, a byte at a time");
    for (name, head, fields) in every_head() {
        let last = head.len() - 1;
        group.throughput(Throughput::BytesDecimal(head.len() as u64));
        group.bench_with_input(BenchmarkId::new("campanile", name), &head, |b, head| {
            let mut decoder = RequestDecoder::new(Limits::default());
            b.iter(|| {
                let early = (1..=last).find_map(|n| fields_by_campanile(&mut decoder, &head[..n]));
                assert_eq!((early, fields_by_campanile(&mut decoder, head)), (None, Some(fields)));
            });
        });
        group.bench_with_input(BenchmarkId::new("httparse", name), &head, |b, head| {
            b.iter(|| {
                let early = (1..=last).find_map(|n| fields_by_httparse(&head[..n]));
                assert_eq!((early, fields_by_httparse(head)), (None, Some(fields)));
            });
        });
    }
    group.finish();
}

const LINE: &[u8] = b"the quick brown fox jumps over the lazy dog\n";
const LINES: usize = 1000;
const MAX_LINE: usize = 1024;
/// Lines found, and the bytes in them.
const FOUND: (usize, usize) = (LINES, LINES * (LINE.len() - 1));

/// Whole lines in one piece: LinesCodec checks that they are UTF-8 and gives each out in a `String` of its own.
fn lines(c: &mut Criterion) {
    let input = LINE.repeat(LINES);
    let mut group = c.benchmark_group("lines");
    group.throughput(Throughput::BytesDecimal(input.len() as u64));
    group.bench_function("campanile", |b| {
        b.iter(|| {
            let (mut codec, mut rest, mut found) = (Lines::new(MAX_LINE), &input[..], (0, 0));
            while let Decoded::Frame { frame, consumed } = codec.decode(black_box(rest)).expect("short lines")
            {
                found = (found.0 + 1, found.1 + black_box(frame).len());
                rest = &rest[consumed..];
            }
            assert_eq!(found, FOUND);
        });
    });
    group.bench_function("LinesCodec", |b| {
        let fresh = || BytesMut::from(&input[..]);
        b.iter_batched_ref(
            fresh,
            |rest| {
                let (mut codec, mut found) = (LinesCodec::new_with_max_length(MAX_LINE), (0, 0));
                while let Some(line) = codec.decode(black_box(rest)).expect("short lines") {
                    found = (found.0 + 1, found.1 + black_box(line).len());
                }
                assert_eq!(found, FOUND);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// The same lines, of which each byte arrives by itself; both codecs remember how far they have looked.
fn lines_by_the_byte(c: &mut Criterion) {
    let input = LINE.repeat(LINES);
    let mut group = c.benchmark_group("lines, a byte at a time");
    group.throughput(Throughput::BytesDecimal(input.len() as u64));
    group.bench_function("campanile", |b| {
        b.iter(|| {
            let (mut codec, mut start, mut found) = (Lines::new(MAX_LINE), 0, (0, 0));
            for end in 1..=input.len() {
                let unread = black_box(&input[start..end]);
                if let Some((frame, consumed)) = codec.decode(unread).expect("short lines").into_frame() {
                    found = (found.0 + 1, found.1 + black_box(frame).len());
                    start += consumed;
                }
            }
            assert_eq!(found, FOUND);
        });
    });
    group.bench_function("LinesCodec", |b| {
        let mut unread = BytesMut::with_capacity(MAX_LINE);
        b.iter(|| {
            let (mut codec, mut found) = (LinesCodec::new_with_max_length(MAX_LINE), (0, 0));
            for &byte in black_box(&input[..]) {
                unread.put_u8(byte);
                if let Some(line) = codec.decode(&mut unread).expect("short lines") {
                    found = (found.0 + 1, found.1 + black_box(line).len());
                }
            }
            assert_eq!(found, FOUND);
        });
    });
    group.finish();
}

/// Bytes of a body, before it is cut into chunks.
const BODY: usize = 64 * 1024;

fn chunked(chunk: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for data in vec![b'x'; BODY].chunks(chunk) {
        coded.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        coded.extend_from_slice(data);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

/// The data in `input`, of which `step` more bytes have arrived at each call.
fn body_by_campanile(input: &[u8], step: usize) -> usize {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked, &Limits::default());
    let (mut start, mut end, mut data) = (0, 0, 0);
    while !decoder.is_done() {
        match decoder.decode(black_box(&input[start..end])).expect("a valid body") {
            Decoded::Frame { frame, consumed } => {
                if let BodyPart::Data(piece) = black_box(frame) {
                    data += piece.len();
                }
                start += consumed;
            }
            Decoded::More { .. } => {
                assert!(end < input.len(), "the body has ended, and the decoder waits for more");
                end = (end + step).min(input.len());
            }
        }
    }
    assert_eq!(start, input.len());
    data
}

/// The least that a loop over httparse's sizes of chunks has to do, with the whole body before it and no trailers.
fn body_by_httparse(mut input: &[u8]) -> usize {
    let mut data = 0;
    loop {
        let found = httparse::parse_chunk_size(black_box(input)).expect("a valid size");
        let httparse::Status::Complete((line, size)) = found else { panic!("the body is cut off") };
        let end = line + usize::try_from(size).expect("a chunk in memory");
        assert_eq!(&input[end..end + 2], b"\r\n");
        data += black_box(&input[line..end]).len();
        input = &input[end + 2..];
        if size == 0 {
            assert!(input.is_empty());
            return data;
        }
    }
}

/// What is in a chunk is handed on where it lies, by both: what is measured is the framing around it.
fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked bodies");
    for chunk in [16, 1024] {
        let input = chunked(chunk);
        group.throughput(Throughput::BytesDecimal(input.len() as u64));
        group.bench_with_input(BenchmarkId::new("campanile", chunk), &input, |b, input| {
            b.iter(|| assert_eq!(body_by_campanile(input, input.len()), BODY));
        });
        group.bench_with_input(BenchmarkId::new("httparse", chunk), &input, |b, input| {
            b.iter(|| assert_eq!(body_by_httparse(input), BODY));
        });
        group.bench_with_input(BenchmarkId::new("campanile, a byte at a time", chunk), &input, |b, input| {
            b.iter(|| assert_eq!(body_by_campanile(input, 1), BODY));
        });
    }
    group.finish();
}

/// Half a minute for all of them: each row is a tight loop, which needs no more.
fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_000))
        .sample_size(30)
}

criterion_group! {
    name = benches;
    config = short();
    targets = heads, heads_by_the_byte, lines, lines_by_the_byte, bodies
}
criterion_main!(benches);
