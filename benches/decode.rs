//! How fast the codecs take bytes apart, in MB/s: `cargo bench --bench decode`.
//!
//! Ratios within one run are what counts; the absolute figures are the machine's.

use std::hint::black_box;

use campanile::protocol::http1::{Limits, RequestDecoder};
use campanile::{Codec, Decoded, Lines};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SMALL: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What a browser sends.
const BROWSER: &[u8] = b"GET /static/app.js?v=17 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\n\
    sec-ch-ua: \"Chromium\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\nsec-ch-ua-mobile: ?0\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36\r\n\
    sec-ch-ua-platform: \"Linux\"\r\nAccept: */*\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\n\
    Sec-Fetch-Dest: script\r\nReferer: https://www.example.com/\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\nCookie: session=0123456789abcdef0123456789abcdef\r\n\r\n";

fn lines(c: &mut Criterion) {
    let input = b"the quick brown fox jumps over the lazy dog\n".repeat(1000);
    let mut group = c.benchmark_group("lines");
    group.throughput(Throughput::Bytes(input.len() as u64));
    group.bench_function("44 bytes each", |b| {
        b.iter(|| {
            let (mut codec, mut rest, mut count) = (Lines::new(1024), &input[..], 0);
            while let Ok(Decoded::Frame { frame, consumed }) = codec.decode(rest) {
                black_box(frame);
                rest = &rest[consumed..];
                count += 1;
            }
            assert_eq!(count, 1000);
        });
    });
    group.finish();
}

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("http1 request heads");
    for (name, head) in [("small", SMALL), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |b| {
            let mut decoder = RequestDecoder::new(Limits::default());
            b.iter(|| {
                let found = decoder.decode(black_box(head)).expect("a valid head");
                assert!(matches!(found, Decoded::Frame { consumed, .. } if consumed == head.len()));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lines, heads);
criterion_main!(benches);
