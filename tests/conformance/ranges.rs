//! Ranges of files: one, several, none that can be satisfied, and those that a validator guards.

use std::net::SocketAddr;

use crate::answer::Answer;
use crate::case::{After, Table, Want, get, want, with};
use crate::site::{ALPHABET, MODIFIED_DATE, big};
use crate::talk::Talk;

const FILE: &str = "/static/alphabet.txt";

pub fn table(t: &mut Table, to: SocketAddr) {
    single(t);
    several(t);
    guarded(t, to);
}

fn range(value: &str) -> String {
    get(FILE, &format!("Range: {value}\r\n"))
}

/// One part, as `Content-Range` names it.
fn part(statuses: &[u16], from: usize, to: usize, whole: &[u8]) -> Want {
    let length = whole.len();
    let named = format!("bytes {from}-{to}/{length}");
    let one = want(statuses).body(&whole[from..=to]).field("content-range", named);
    one.field("content-length", (to + 1 - from).to_string()).check(validated)
}

fn validated(answer: &Answer) -> Result<(), String> {
    answer.field("etag").map(drop).ok_or_else(|| "206 without the ETag of the 200 (RFC 9110 15.3.7)".into())
}

fn beyond(statuses: &[u16]) -> Want {
    want(statuses).field("content-range", "bytes */26")
}

fn single(t: &mut Table) {
    t.rfc("9110 14.1.2, 14.2, 15.3.7");
    let whole = ALPHABET.as_bytes();
    for (value, from, to) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-4", 0, 4),
        ("bytes=5-9", 5, 9),
        ("bytes=21-25", 21, 25),
        ("bytes=25-25", 25, 25),
        ("bytes=5-", 5, 25),
        ("bytes=25-", 25, 25),
        ("bytes=-1", 25, 25),
        ("bytes=-5", 21, 25),
        ("bytes=-25", 1, 25),
        ("bytes=20-26", 20, 25),
        ("bytes=20-100", 20, 25),
        ("bytes=20-9999999999", 20, 25),
        ("bytes=00-04", 0, 4),
    ] {
        t.one(value, range(value), part(&[206], from, to, whole), After::Open).slowly();
    }
    // All of it, which may as well be a 200.
    for value in ["bytes=0-", "bytes=0-25", "bytes=0-26", "bytes=-26", "bytes=-27", "bytes=-9999999999"] {
        t.one(value, range(value), part(&[206, 200], 0, 25, whole), After::Open);
    }
    // Numbers beyond 64 bits are numbers all the same.
    let huge = part(&[206, 200], 5, 25, whole);
    t.one("a last position beyond 64 bits", range("bytes=5-99999999999999999999999"), huge, After::Open);
    let huge = part(&[206, 200], 0, 25, whole);
    t.one("a suffix beyond 64 bits", range("bytes=-99999999999999999999999"), huge, After::Open);
    for value in
        ["bytes=5-4", "bytes=0-18446744073709551616", "BYTES=0-4", "Bytes=0-4", "bytes=0-4,", "bytes=,0-4"]
    {
        t.one(value, range(value), want(&[200, 206, 400, 416]), After::Open);
    }
    t.rfc("9110 15.5.17");
    for value in ["bytes=26-", "bytes=26-26", "bytes=26-30", "bytes=100-200", "bytes=9999999999-"] {
        t.one(value, range(value), beyond(&[416]), After::Open).slowly();
    }
    t.one("bytes=-0", range("bytes=-0"), beyond(&[416, 200]), After::Open);
    let huge = range("bytes=99999999999999999999999-");
    t.one("a first position beyond 64 bits", huge, beyond(&[416, 200]), After::Open);
    t.rfc("9110 14.2");
    // No range at all: as if it were not there, or refused, but never some other part.
    for value in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-b",
        "bytes=a-4",
        "bytes=1",
        "bytes=1-2-3",
        "bytes=--1",
        "bytes=+0-4",
        "bytes=0x0-4",
        "bytes=0 - 4",
        "bytes 0-4",
        "bytes:0-4",
        "0-4",
        "bytes=0-4;5-6",
        "bytes=0..4",
        "=0-4",
        "bytes==0-4",
        "bytes=4-0",
        "bytes=0-4,x",
        "bytes=,",
        "bytes=*",
        "bytes=0/4",
        "bytes=\u{661}-4",
    ] {
        let ignored = want(&[200, 400, 416]).body(ALPHABET);
        t.one(format!("Range: {value:?}"), range(value), ignored, After::Any);
    }
    for value in ["items=0-4", "seconds=1-2", "none", "byte=0-4", "x-bytes=0-4"] {
        t.one(format!("Range: {value}"), range(value), want(&[200]).body(ALPHABET), After::Open);
    }
    for value in ["bytes= 0-4", "bytes=0-4 ", " bytes=0-4", "bytes =0-4"] {
        t.one(format!("Range: {value:?}"), range(value), want(&[206, 200, 400, 416]), After::Open);
    }
    let head = with("HEAD", FILE, "Range: bytes=0-4\r\n", "");
    let sized = want(&[200]).field("content-length", "26").without("content-range");
    t.one("HEAD knows no ranges", head, sized.clone(), After::Open);
    t.one("HEAD beyond the end", with("HEAD", FILE, "Range: bytes=100-\r\n", ""), sized, After::Open);
    t.allow("a range of /plaintext", &[200, 206], get("/plaintext", "Range: bytes=0-4\r\n"));
    t.allow("a range of nothing", &[404], get("/static/not-there", "Range: bytes=0-4\r\n"));
    for value in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=1-"] {
        let empty = get("/static/empty.txt", &format!("Range: {value}\r\n"));
        t.one(format!("{value} of an empty file"), empty, want(&[416, 200]), After::Open);
    }
    let two = get(FILE, "Range: bytes=0-4\r\nRange: bytes=5-9\r\n");
    t.allow("two Range fields", &[200, 206, 400, 416], two);
    let old = format!("GET {FILE} HTTP/1.0\r\nRange: bytes=0-4\r\n\r\n");
    t.one("a range in HTTP/1.0", old, want(&[206, 200]), After::Closed);
    let whole = big();
    for (value, from, to) in [
        ("bytes=1048570-1048580", 1_048_570, 1_048_580),
        ("bytes=3145700-", 3_145_700, 3_145_727),
        ("bytes=-10", 3_145_718, 3_145_727),
        ("bytes=1-", 1, 3_145_727),
        ("bytes=4095-4096", 4095, 4096),
        ("bytes=65535-1000000", 65_535, 1_000_000),
    ] {
        let request = get("/static/big.bin", &format!("Range: {value}\r\n"));
        t.one(format!("{value} of a large file"), request, part(&[206], from, to, &whole), After::Open);
    }
    let turns = (0..26)
        .map(|n| (range(&format!("bytes={n}-{n}")).into_bytes(), part(&[206], n, n, ALPHABET.as_bytes())));
    let turns = turns.collect();
    t.pipeline("the alphabet, sign by sign", turns, After::Open);
}

/// The parts of an answer: the one it is, or those of `multipart/byteranges` (RFC 9110 14.6).
fn parts(answer: &Answer) -> Result<Vec<(usize, Vec<u8>)>, String> {
    let kind = answer.field("content-type").unwrap_or_default();
    if !kind.to_lowercase().starts_with("multipart/byteranges") {
        let named = answer.field("content-range").ok_or("206 without Content-Range")?;
        return Ok(vec![(position(&named, answer.body.len())?, answer.body.clone())]);
    }
    if answer.field("content-range").is_some() {
        return Err("Content-Range besides parts (RFC 9110 15.3.7.2)".into());
    }
    let boundary = kind.split_once("boundary=").ok_or("no boundary")?.1;
    let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(format!("boundary {boundary:?} (RFC 2046 5.1.1)"));
    }
    let text = String::from_utf8(answer.body.clone()).map_err(|_| "no text")?;
    let delimiter = format!("\r\n--{boundary}");
    let framed = format!("\r\n{}", text.strip_prefix("\r\n").unwrap_or(&text));
    let mut pieces = framed.split(&delimiter);
    if pieces.next() != Some("") {
        return Err("something before the first boundary".into());
    }
    let mut found = Vec::new();
    for piece in &mut pieces {
        if let Some(rest) = piece.strip_prefix("--") {
            let ends = rest.trim().is_empty() && pieces.next().is_none();
            return if ends { Ok(found) } else { Err("something after the last boundary".into()) };
        }
        let (head, data) = piece.split_once("\r\n\r\n").ok_or("a part without a head")?;
        let lines: Vec<_> = head.split("\r\n").filter_map(|line| line.split_once(':')).collect();
        let field = |name: &str| lines.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let named = field("content-range").ok_or("a part without Content-Range")?.1.trim();
        field("content-type").ok_or("a part without Content-Type")?;
        found.push((position(named, data.len())?, data.as_bytes().to_vec()));
    }
    Err("no last boundary".into())
}

/// Where `bytes FROM-TO/26` begins, which has to be as long as it says.
fn position(named: &str, length: usize) -> Result<usize, String> {
    let wrong = || format!("Content-Range: {named} for {length} bytes");
    let (from, to) = named
        .strip_prefix("bytes ")
        .and_then(|rest| rest.strip_suffix("/26")?.split_once('-'))
        .ok_or_else(wrong)?;
    let (from, to): (usize, usize) = from.parse().ok().zip(to.parse().ok()).ok_or_else(wrong)?;
    if to < 26 && from + length == to + 1 { Ok(from) } else { Err(wrong()) }
}

/// Parts that are what they say, cover `asked`, and are not more bytes than the file has times two.
fn cover(statuses: &[u16], asked: &'static [(usize, usize)]) -> Want {
    want(statuses).check(move |answer| {
        let parts = parts(answer)?;
        let mut covered = [false; 26];
        for (from, data) in &parts {
            if ALPHABET.as_bytes()[*from..][..data.len()] != data[..] {
                return Err(format!("the bytes at {from} are {:?}", String::from_utf8_lossy(data)));
            }
            covered[*from..][..data.len()].fill(true);
        }
        let missing = asked.iter().find(|(from, to)| !covered[*from..=*to].iter().all(|covered| *covered));
        match missing {
            Some(missing) => Err(format!("{missing:?} is missing")),
            None if parts.len() > asked.len() => Err(format!("{} parts for {}", parts.len(), asked.len())),
            None => Ok(()),
        }
    })
}

fn several(t: &mut Table) {
    t.rfc("9110 14.2, 14.6, 15.3.7.2");
    // A server may answer several with the whole, but ours sends parts where they are few and apart.
    let rows: [(&str, &'static [(usize, usize)]); 10] = [
        ("bytes=0-1,4-5", &[(0, 1), (4, 5)]),
        ("bytes=0-1, 4-5", &[(0, 1), (4, 5)]),
        ("bytes=0-1 ,\t4-5", &[(0, 1), (4, 5)]),
        ("bytes=0-0,-1", &[(0, 0), (25, 25)]),
        ("bytes=0-0,25-", &[(0, 0), (25, 25)]),
        ("bytes=20-25,0-4", &[(20, 25), (0, 4)]),
        ("bytes=0-1,10-11,20-21", &[(0, 1), (10, 11), (20, 21)]),
        ("bytes=0-1,26-30", &[(0, 1)]),
        ("bytes=100-,0-1", &[(0, 1)]),
        ("bytes=0-1,10-100", &[(0, 1), (10, 25)]),
    ];
    for (value, asked) in rows {
        t.one(value, range(value), cover(&[206, 200], asked), After::Open).slowly();
    }
    let rows: [(&str, &'static [(usize, usize)]); 5] = [
        ("bytes=0-4,2-6", &[(0, 4), (2, 6)]),
        ("bytes=0-4,5-9", &[(0, 4), (5, 9)]),
        ("bytes=0-25,0-25", &[(0, 25), (0, 25)]),
        ("bytes=0-,-26", &[(0, 25), (0, 25)]),
        ("bytes=0-4,,10-14", &[(0, 4), (10, 14)]),
    ];
    for (value, asked) in rows {
        t.one(value, range(value), cover(&[206, 200, 416, 400], asked), After::Open);
    }
    for value in ["bytes=26-,30-", "bytes=100-200,300-400", "bytes=100-,-0"] {
        t.one(value, range(value), beyond(&[416, 200]), After::Open);
    }
    for value in ["bytes=0-1,x", "bytes=0-1,5-4", "bytes=0-1;4-5", "bytes=0-1,4", "bytes=0-1,-"] {
        t.one(value, range(value), want(&[200, 400, 416, 206]), After::Open);
    }
    t.rfc("9110 14.2, 17.15");
    for (name, value) in [
        ("the whole, 100 times", format!("bytes={}0-", "0-,".repeat(100))),
        ("1000 ranges of one", format!("bytes={}0-0", "0-0,".repeat(1000))),
        (
            "1000 overlapping ones",
            format!("bytes=0-{}", (1..1000).map(|n| format!(",{}-", n % 26)).collect::<String>()),
        ),
        ("suffixes that grow", format!("bytes=-1{}", (2..500).map(|n| format!(",-{n}")).collect::<String>())),
    ] {
        let bounded = want(&[200, 206, 416, 400, 403, 431]);
        let bounded = bounded.check(|answer| {
            if answer.body.len() <= 4096 { Ok(()) } else { Err(format!("{} bytes", answer.body.len())) }
        });
        t.one(name, range(&value), bounded, After::Any);
        let large = get("/static/big.bin", &format!("Range: {value}\r\n"));
        t.scene(format!("{name}, of a large file"), move |to| {
            let answer = Talk::to(to)?.ask(&large)?;
            // Twice the file is the most that can be meant well.
            let length = answer.body.len();
            if length <= 2 * (3 << 20) { Ok(()) } else { Err(format!("{length} bytes of 3 MiB")) }
        });
    }
}

fn guarded(t: &mut Table, to: SocketAddr) {
    t.rfc("9110 13.1.5, 13.2.2");
    let answer = Talk::to(to).and_then(|mut talk| talk.ask(&get(FILE, "")));
    let etag = answer.ok().and_then(|answer| answer.field("etag")).unwrap_or_else(|| "\"none\"".into());
    let strong = !etag.starts_with("W/");
    let with_range =
        |value: &str, bytes: &str| get(FILE, &format!("If-Range: {value}\r\nRange: bytes={bytes}\r\n"));
    let whole = || want(&[200]).body(ALPHABET).without("content-range");
    let matched = if strong { part(&[206], 0, 4, ALPHABET.as_bytes()) } else { whole() };
    t.one("If-Range with the ETag", with_range(&etag, "0-4"), matched, After::Open).slowly();
    let dated = part(&[206, 200], 0, 4, ALPHABET.as_bytes());
    t.one("If-Range with the date", with_range(MODIFIED_DATE, "0-4"), dated, After::Open);
    for value in [
        "\"other\"",
        "W/\"other\"",
        &format!("W/{}", etag.trim_start_matches("W/")),
        "Mon, 31 May 2021 23:59:59 GMT",
        "Tue, 01 Jun 2021 00:00:01 GMT",
        "Thu, 01 Jan 2099 00:00:00 GMT",
        "garbage",
        "*",
        "",
    ] {
        let name =
            if value.starts_with("W/") && !value.contains("other") { "the ETag made weak" } else { value };
        t.one(format!("If-Range: {name}"), with_range(value, "0-4"), whole(), After::Open);
        t.one(format!("If-Range: {name}, beyond the end"), with_range(value, "100-"), whole(), After::Open);
        t.one(format!("If-Range: {name}, several"), with_range(value, "0-1,4-5"), whole(), After::Open);
    }
    let beyond_end = if strong { beyond(&[416]) } else { whole() };
    t.one("If-Range with the ETag, beyond the end", with_range(&etag, "100-"), beyond_end, After::Open);
    let alone = get(FILE, "If-Range: \"other\"\r\n");
    t.one("If-Range without Range", alone, whole(), After::Open);
    if strong {
        let several = cover(&[206, 200], &[(0, 1), (4, 5)]);
        t.one("If-Range with the ETag, several", with_range(&etag, "0-1,4-5"), several, After::Open);
        let both = get(FILE, &format!("If-Match: {etag}\r\nIf-Range: {etag}\r\nRange: bytes=0-4\r\n"));
        t.one("If-Match and If-Range", both, part(&[206], 0, 4, ALPHABET.as_bytes()), After::Open);
    }
}
