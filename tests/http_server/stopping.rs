//! The signals: the first lets what was begun be finished, the second does not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::endpoints::Answer;
use crate::site::Site;
use crate::support::common::{LONG, client, until};

/// A request whose body is begun, and known to have arrived.
fn begin(site: &Site) -> TcpStream {
    let mut stream = client(site.address());
    stream.write_all(b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc").expect("it reads");
    let mut seen = Vec::new();
    while !seen.ends_with(b"3\r\nabc\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the body comes back");
        seen.push(byte[0]);
    }
    stream
}

#[test]
fn what_was_begun_is_finished() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut site = Site::start(&[]);
        let mut idle = client(site.address());
        let mut begun = begin(&site);
        site.signal(signal);
        // Who waits for nothing is told at once.
        assert_eq!(idle.read(&mut [0]).expect("an orderly end"), 0);
        until("nobody listens any more", || TcpStream::connect(site.address()).is_err());
        begun.write_all(b"def").expect("it still reads");
        let mut rest = String::new();
        begun.read_to_string(&mut rest).expect("an orderly end");
        assert_eq!(rest, "3\r\ndef\r\n0\r\n\r\n");
        assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    }
}

#[test]
fn the_second_signal_stops_at_once() {
    let mut site = Site::start(&[]);
    let mut begun = begin(&site);
    site.signal(Signal::INT);
    until("it drains", || site.said().contains("stopping when"));
    let asked = Instant::now();
    site.signal(Signal::INT);
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    assert!(asked.elapsed() < LONG / 2, "{:?}", asked.elapsed());
    // However it ends, it does not look complete.
    let mut rest = Vec::new();
    let _ = begun.read_to_end(&mut rest);
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

#[test]
fn an_answer_told_while_it_drains_is_the_last() {
    let mut site = Site::start(&["--workers", "1"]);
    let mut stream = client(site.address());
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na").expect("it reads");
    let other = client(site.address());
    site.signal(Signal::TERM);
    assert_eq!((&other).read(&mut [0]).expect("an orderly end"), 0);
    stream.write_all(b"bcGET /never HTTP/1.1\r\nHost: a\r\n\r\n").expect("it still reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    let answer = Answer::parse(&bytes).expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]));
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
}
