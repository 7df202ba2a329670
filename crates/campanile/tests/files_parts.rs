//! Conditions and ranges of files: short ones, that are in memory after the first request, and long ones.

mod support;

use std::time::SystemTime;

use support::common::{keyed, nothing_held};
use support::web::{Answer, Browser, Site};

const LENS: [(&str, usize); 2] = [("/short", 40_000), ("/long", 1 << 20)];

/// A site with both, each with a neighbour, and a browser. The bytes of a file are of the key that its target has.
fn site() -> Site {
    let site = Site::new();
    for (target, len) in LENS {
        for (suffix, key) in [("", 1), (".gz", 2)] {
            let mut bytes = vec![0; len];
            keyed::fill(key, 0, &mut bytes);
            site.write(&format!("{}{suffix}", &target[1..]), bytes);
        }
    }
    site
}

/// Whether the body is what the answer says of itself.
fn is_part(answer: &Answer, key: u64) -> bool {
    let range = answer.field("Content-Range").filter(|_| answer.status == 206);
    let (first, last) = range.map_or((0, u64::MAX), support::web::bounds);
    let len = answer.body.len() as u64;
    keyed::differs(key, first, &answer.body).is_none() && (last == u64::MAX || len == last - first + 1)
}

#[test]
fn conditions_are_asked_in_their_order() {
    let site = site();
    let (server, address) = site.serve();
    let mut browser = Browser::connect(address);
    for (target, len) in LENS {
        let fresh = browser.get(target, &[]);
        let (tag, date) = (fresh.value("ETag").to_owned(), fresh.value("Last-Modified").to_owned());
        let later = httpdate::fmt_http_date(SystemTime::now());
        let before = "Sun, 06 Nov 1994 08:49:37 GMT";
        let rows: [(&[(&str, &str)], u16); 20] = [
            (&[("If-None-Match", &tag)], 304),
            (&[("If-None-Match", "*")], 304),
            (&[("If-None-Match", "\"x\"")], 200),
            (&[("If-None-Match", &format!("\"x\", W/{tag}"))], 304),
            (&[("If-Modified-Since", &date)], 304),
            (&[("If-Modified-Since", &later)], 304),
            (&[("If-Modified-Since", before)], 200),
            (&[("If-Modified-Since", "yesterday")], 200),
            (&[("If-None-Match", "\"x\""), ("If-Modified-Since", &date)], 200),
            (&[("If-None-Match", &tag), ("If-Modified-Since", before)], 304),
            (&[("If-Match", &tag)], 200),
            (&[("If-Match", "*")], 200),
            (&[("If-Match", "\"x\"")], 412),
            (&[("If-Match", &format!("W/{tag}"))], 412),
            (&[("If-Unmodified-Since", &date)], 200),
            (&[("If-Unmodified-Since", before)], 412),
            (&[("If-Match", &tag), ("If-Unmodified-Since", before)], 200),
            (&[("If-Match", "\"x\""), ("If-None-Match", &tag)], 412),
            (&[("If-Match", &tag), ("If-None-Match", &tag)], 304),
            (&[("Range", "bytes=0-0"), ("If-None-Match", &tag)], 304),
        ];
        for (fields, status) in rows.into_iter().chain(rows) {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let answer = browser.get(target, &fields);
            assert_eq!(answer.status, status, "{target} {fields:?}");
            if status == 304 {
                for name in ["ETag", "Vary", "Last-Modified"] {
                    assert_eq!(answer.value(name), fresh.value(name), "{fields:?}");
                }
                assert!(!answer.value("Date").is_empty());
            }
            assert_eq!(answer.body.len(), if status == 200 { len } else { 0 }, "{target} {fields:?}");
            assert!(is_part(&answer, 1));
            assert_eq!(browser.ask("HEAD", target, &fields).status, status, "{target} {fields:?}");
        }
    }
    drop(browser);
    nothing_held(&server);
}

#[test]
fn ranges_are_exact() {
    let site = site();
    let (server, address) = site.serve();
    let mut browser = Browser::connect(address);
    for (target, len) in LENS.into_iter().chain(LENS) {
        for (coding, key) in [("identity", 1), ("gzip", 2)] {
            let accepts = format!("Accept-Encoding: {coding}");
            let end = len - 1;
            let rows = [
                ("bytes=0-0", 206, format!("bytes 0-0/{len}")),
                ("bytes=0-", 206, format!("bytes 0-{end}/{len}")),
                ("bytes=39999-", 206, format!("bytes 39999-{end}/{len}")),
                ("bytes=-1", 206, format!("bytes {end}-{end}/{len}")),
                ("bytes=-99999999", 206, format!("bytes 0-{end}/{len}")),
                ("bytes=17-99999999", 206, format!("bytes 17-{end}/{len}")),
                ("bytes=100-199,200-299", 206, format!("bytes 100-299/{len}")),
                ("bytes=5-10,99999999-", 206, format!("bytes 5-10/{len}")),
                ("bytes=99999999-", 416, format!("bytes */{len}")),
                ("bytes=-0", 416, format!("bytes */{len}")),
                ("bytes=5-4", 200, String::new()),
                ("lines=1-2", 200, String::new()),
                (
                    "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16,18-18,20-20,22-22,24-24,26-26,28-28,30-30,32-32",
                    200,
                    String::new(),
                ),
            ];
            for (range, status, said) in rows {
                let answer = browser.get(target, &[&accepts, &format!("Range: {range}")]);
                assert_eq!(answer.status, status, "{target} {range}");
                assert_eq!(answer.field("Content-Range").unwrap_or(""), said, "{target} {range}");
                match status {
                    200 => assert_eq!(answer.body.len(), len),
                    206 => assert_eq!(answer.field("Content-Encoding"), (key == 2).then_some("gzip")),
                    _ => assert_eq!(answer.body.len(), 0),
                }
                assert!(is_part(&answer, key), "{target} {range}");
            }
        }
        let head = browser.ask("HEAD", target, &["Range: bytes=0-0"]);
        assert_eq!((head.status, head.value("Content-Length")), (200, len.to_string().as_str()));
    }
    drop(browser);
    nothing_held(&server);
}

#[test]
fn several_ranges_are_read_as_a_client_would() {
    let site = site();
    let (server, address) = site.serve();
    let mut browser = Browser::connect(address);
    for (target, len) in LENS.into_iter().chain(LENS) {
        let end = len - 1;
        let rows: [(&str, Vec<String>); 4] = [
            ("bytes=0-0,-1", vec![format!("0-0/{len}"), format!("{end}-{end}/{len}")]),
            (
                "bytes=30000-39999,0-9999,20000-20001",
                vec![format!("30000-39999/{len}"), format!("0-9999/{len}"), format!("20000-20001/{len}")],
            ),
            ("bytes=0-9,20000-,99999999-", vec![format!("0-9/{len}"), format!("20000-{end}/{len}")]),
            ("bytes=0-10000,10002-", vec![format!("0-10000/{len}"), format!("10002-{end}/{len}")]),
        ];
        for (range, expected) in rows {
            let answer = browser.get(target, &[&format!("Range: {range}")]);
            assert_eq!((answer.status, answer.field("Content-Range")), (206, None), "{target} {range}");
            let parts = answer.parts();
            let said: Vec<_> = parts.iter().map(|(said, _)| said.trim_start_matches("bytes ")).collect();
            assert_eq!(said, expected, "{target} {range}");
            for (said, bytes) in &parts {
                let (first, _) = support::web::bounds(said);
                assert_eq!(keyed::differs(1, first, bytes), None, "{target} {said}");
            }
            assert!(!answer.value("ETag").is_empty());
        }
    }
    drop(browser);
    nothing_held(&server);
}

#[test]
fn a_part_is_sent_only_of_the_state_that_the_client_has() {
    let site = site();
    let (_server, address) = site.serve();
    let mut browser = Browser::connect(address);
    for (target, _) in LENS.into_iter().chain(LENS) {
        let answer = browser.get(target, &[]);
        let zipped = browser.get(target, &["Accept-Encoding: gzip"]);
        let (tag, date) = (answer.value("ETag"), answer.value("Last-Modified"));
        let rows = [
            (tag.to_owned(), 206),
            (date.to_owned(), 206),
            (format!("W/{tag}"), 200),
            ("\"x\"".to_owned(), 200),
            ("Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 200),
            (httpdate::fmt_http_date(SystemTime::now()), 200),
            (zipped.value("ETag").to_owned(), 200),
        ];
        for (condition, status) in rows {
            let answer = browser.get(target, &["Range: bytes=100-", &format!("If-Range: {condition}")]);
            assert_eq!(answer.status, status, "{target} {condition}");
            assert!(is_part(&answer, 1));
        }
    }
}
